//! The release that a text speaks of.

use std::fmt;

/// A release of the state estimate: `V4r4` is version 4, release 4.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ReleaseNumber {
    version: u8,
    release: u8,
}

impl fmt::Display for ReleaseNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "V{}r{}", self.version, self.release)
    }
}

impl ReleaseNumber {
    /// Parses a word such as `V4r4`, `V4R5` or `v4r4b`, whose ending says which revision of the release it is.
    pub(super) fn parse(word: &str) -> Option<ReleaseNumber> {
        let rest = word.strip_prefix(['V', 'v'])?;
        let (version, rest) = leading_number(rest)?;
        let (release, ending) = leading_number(rest.strip_prefix(['R', 'r'])?)?;
        let is_revision = ending.is_empty() || ending.len() == 1 && ending.bytes().all(|b| b.is_ascii_alphabetic());
        is_revision.then_some(ReleaseNumber { version, release })
    }

    /// Returns the digits with which codes of DOIs end: `44` of `V4r4`.
    pub(super) fn digits(self) -> String {
        format!("{}{}", self.version, self.release)
    }

    /// Returns all releases that a text speaks of, such as `V4r4` and `Version 4, Release 4`.
    pub(super) fn all_in(text: &str) -> Vec<ReleaseNumber> {
        let is_part = |c: char| c.is_alphanumeric();
        let words: Vec<&str> = text.split(|c| !is_part(c)).filter(|word| !word.is_empty()).collect();
        let mut found: Vec<ReleaseNumber> = words.iter().filter_map(|word| ReleaseNumber::parse(word)).collect();
        for four in words.windows(4) {
            let [version, first, release, second] = four else { continue };
            let is_release = ["release", "revision"].iter().any(|word| release.eq_ignore_ascii_case(word));
            if let (true, true, Ok(version), Ok(release)) =
                (version.eq_ignore_ascii_case("version"), is_release, first.parse(), second.parse())
            {
                found.push(ReleaseNumber { version, release });
            }
        }
        found.sort();
        found.dedup();
        found
    }
}

fn leading_number(text: &str) -> Option<(u8, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    Some((text[..end].parse().ok()?, &text[end..]))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn releases_are_found_in_words_and_in_prose() {
        let four = ReleaseNumber { version: 4, release: 4 };
        let six = ReleaseNumber { version: 4, release: 6 };
        assert_eq!(ReleaseNumber::parse("V4r4"), Some(four));
        assert_eq!(ReleaseNumber::parse("V4r4b"), Some(four));
        assert_eq!(ReleaseNumber::parse("V4"), None);
        assert_eq!(ReleaseNumber::parse("V4r4build"), None);
        assert_eq!(ReleaseNumber::parse("Vrr"), None);
        assert_eq!(ReleaseNumber::all_in("ECCO Version 4, Release 6 (V4r4)"), [four, six]);
        assert_eq!(ReleaseNumber::all_in("version 4 revision 4"), [four]);
        assert_eq!(ReleaseNumber::all_in("the release of version 4"), []);
        assert_eq!(four.digits(), "44");
    }
}
