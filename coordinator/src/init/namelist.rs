//! Fortran namelists, as MITgcm reads its parameters from them.
//!
//! A file holds groups: `&NAME`, assignments `key(subscripts) = values`, and `/` or `&` at the end. Values are separated
//! by commas or blanks and may be repeated (`3*10.`); lines that begin with `#`, and what follows a `!`, are comments.
//! Names are not case-sensitive.

use std::collections::BTreeMap;

/// Largest size of a file in bytes.
pub const MAX_FILE_BYTES: usize = 1 << 20;

/// Most values of an assignment, with repetitions.
const MAX_VALUES: usize = 1 << 14;

/// The reason why a file is not a namelist that can be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}, line {line}: {what}")]
pub struct NamelistError {
    /// Path of the file.
    pub file: String,
    /// Number of the line, from 1.
    pub line: usize,
    /// Description of the problem.
    pub what: String,
}

/// The assignments of a file, of all its groups: MITgcm's keys differ from group to group.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Namelist {
    /// Path of the file, for messages.
    pub file: String,
    assignments: BTreeMap<String, Vec<Assignment>>,
}

/// The values of one assignment.
#[derive(Debug, Clone, PartialEq)]
pub struct Assignment {
    /// Number of its line, from 1.
    pub line: usize,
    /// The first number and the last of each subscript: `[(1, 4), (2, 2)]` of `fields(1:4,2)`.
    pub subscripts: Vec<(i64, i64)>,
    /// The values as they are written, texts without their quotation marks.
    pub values: Vec<String>,
}

impl Namelist {
    /// Parses a file.
    ///
    /// # Errors
    /// Returns an error that names the line of what is not understood.
    pub fn parse(file: &str, bytes: &[u8]) -> Result<Namelist, NamelistError> {
        let fail = |line, what: String| NamelistError { file: file.into(), line, what };
        if bytes.len() > MAX_FILE_BYTES {
            return Err(fail(1, format!("the file has more than {MAX_FILE_BYTES} bytes: it is no namelist")));
        }
        let text = String::from_utf8_lossy(bytes);
        let mut namelist = Namelist { file: file.into(), assignments: BTreeMap::new() };
        let mut inside = false;
        let mut open: Option<(String, Assignment)> = None;
        for (line, content) in (1..).zip(text.lines()).filter(|(_, content)| !content.starts_with('#')) {
            for token in tokens(content).map_err(|what| fail(line, what))? {
                match token {
                    NamelistToken::Mark('&') if !inside => inside = true,
                    NamelistToken::Mark('&' | '/') if inside => {
                        inside = false;
                        namelist.keep(open.take());
                    }
                    // What stands between two groups is a comment for Fortran.
                    _ if !inside => {}
                    NamelistToken::Mark(mark) => return Err(fail(line, format!("'{mark}' is not expected here"))),
                    NamelistToken::Key(name, subscripts) => {
                        namelist.keep(open.take());
                        open = Some((name, Assignment { line, subscripts, values: Vec::new() }));
                    }
                    NamelistToken::Value(count, value) => {
                        // The name of a group is a value without a key.
                        let Some((_, assignment)) = &mut open else { continue };
                        if assignment.values.len().saturating_add(count) > MAX_VALUES {
                            return Err(fail(line, format!("more than {MAX_VALUES} values")));
                        }
                        assignment.values.extend(std::iter::repeat_n(value, count));
                    }
                }
            }
        }
        namelist.keep(open.take());
        Ok(namelist)
    }

    fn keep(&mut self, assignment: Option<(String, Assignment)>) {
        if let Some((name, assignment)) = assignment {
            self.assignments.entry(name).or_default().push(assignment);
        }
    }

    /// Returns all assignments to a key, in the order of the file. The key is in small letters.
    pub fn all(&self, key: &str) -> &[Assignment] {
        self.assignments.get(key).map_or(&[], Vec::as_slice)
    }

    /// Returns the first value of the last assignment to a key.
    pub fn value(&self, key: &str) -> Option<&str> {
        self.all(key).last()?.values.first().map(String::as_str)
    }

    /// Returns a number; `None` if it is not set.
    ///
    /// # Errors
    /// Returns an error if the value is not a number.
    pub fn number(&self, key: &str) -> Result<Option<f64>, NamelistError> {
        let Some(assignment) = self.all(key).last() else { return Ok(None) };
        let Some(text) = assignment.values.first() else { return Ok(None) };
        let what = || format!("{key} = {text} is not a number");
        let fail = || NamelistError { file: self.file.clone(), line: assignment.line, what: what() };
        number(text).map(Some).ok_or_else(fail)
    }
}

/// Parses a number, whose exponent may be written with a D.
pub fn number(text: &str) -> Option<f64> {
    let number: f64 = text.trim().to_ascii_lowercase().replace('d', "e").parse().ok()?;
    number.is_finite().then_some(number)
}

/// A part of a line.
#[derive(Debug, Clone, PartialEq)]
enum NamelistToken {
    /// `&` or `/`.
    Mark(char),
    /// A key with its subscripts, before `=`.
    Key(String, Vec<(i64, i64)>),
    /// A value, and how often it stands there.
    Value(usize, String),
}

/// Takes a line apart.
fn tokens(line: &str) -> Result<Vec<NamelistToken>, String> {
    let mut found = Vec::new();
    let mut rest = line.trim_start_matches([' ', '\t', ',']);
    while let Some(first) = rest.chars().next() {
        rest = match first {
            '!' => break,
            '&' | '/' => {
                found.push(NamelistToken::Mark(first));
                // A group may also end with &END.
                let after = &rest[1..];
                after.strip_prefix("END").or_else(|| after.strip_prefix("end")).unwrap_or(after)
            }
            '\'' | '"' => {
                let (text, after) = quoted(rest, first)?;
                found.push(NamelistToken::Value(1, text));
                after
            }
            _ => {
                let end = rest.find([' ', '\t', ',', '=', '(', '!', '/', '\'', '"']).unwrap_or(rest.len());
                let (word, mut after) = rest.split_at(end);
                let mut subscripts = Vec::new();
                if let Some(inner) = after.strip_prefix('(') {
                    let (text, behind) = inner.split_once(')').ok_or("a parenthesis is not closed")?;
                    subscripts =
                        text.split(',').map(subscript).collect::<Option<_>>().ok_or("a subscript is not a number")?;
                    after = behind;
                }
                if let (Some(behind), false) = (after.trim_start().strip_prefix('='), word.is_empty()) {
                    found.push(NamelistToken::Key(word.to_ascii_lowercase(), subscripts));
                    behind
                } else if let Some((count, value)) = repeated(word, after) {
                    let (text, behind) = match after.chars().next() {
                        Some(mark @ ('\'' | '"')) if value.is_empty() => quoted(after, mark)?,
                        _ => (value.to_owned(), after),
                    };
                    found.push(NamelistToken::Value(count, text));
                    behind
                } else if word.is_empty() {
                    return Err(format!("'{first}' is not expected here"));
                } else {
                    found.push(NamelistToken::Value(1, word.to_owned()));
                    after
                }
            }
        };
        rest = rest.trim_start_matches([' ', '\t', ',']);
    }
    Ok(found)
}

/// Takes `3*10.` apart: how often, and what. Only a text may follow a `3*` that ends there.
fn repeated<'a>(word: &'a str, after: &str) -> Option<(usize, &'a str)> {
    let (count, value) = word.split_once('*')?;
    let count = count.parse().ok()?;
    (!value.is_empty() || after.starts_with(['\'', '"'])).then_some((count, value))
}

fn subscript(text: &str) -> Option<(i64, i64)> {
    let (first, last) = text.split_once(':').unwrap_or((text, text));
    Some((first.trim().parse().ok()?, last.trim().parse().ok()?))
}

/// Reads a text up to its closing mark; two marks are one in the text.
fn quoted(text: &str, mark: char) -> Result<(String, &str), String> {
    let mut value = String::new();
    let mut rest = &text[1..];
    loop {
        let end = rest.find(mark).ok_or("a quotation mark is not closed on its line")?;
        value += &rest[..end];
        rest = &rest[end + 1..];
        match rest.strip_prefix(mark) {
            Some(after) => {
                value.push(mark);
                rest = after;
            }
            None => return Ok((value.trim_end().to_owned(), rest)),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    const DIAGNOSTICS: &str = "# Diagnostic Package Choices\n &DIAGNOSTICS_LIST\n\
        # first\n  frequency(1) = 2635200.0,\n   fields(1:3,1) = 'ETAN    ','SSH',\n                   'it''s', ! three\n\
           filename(1) = 'diags/state_2d',\n  levels(1:4, 2) = 1.,2*5.D0 , 7 /\n &DIAG_STATIS_PARMS\n stat_freq(1)=-3600.\n &END\n";

    #[test]
    fn the_parameters_of_diagnostics_are_read() {
        let list = Namelist::parse("data.diagnostics", DIAGNOSTICS.as_bytes()).unwrap();
        assert_eq!(list.number("frequency").unwrap(), Some(2_635_200.0));
        let fields = &list.all("fields")[0];
        assert_eq!((fields.line, &fields.subscripts[..]), (5, &[(1, 3), (1, 1)][..]));
        assert_eq!(fields.values, ["ETAN", "SSH", "it's"]);
        assert_eq!(list.value("filename"), Some("diags/state_2d"));
        assert_eq!(list.all("levels")[0].values, ["1.", "5.D0", "5.D0", "7"]);
        assert_eq!(list.number("stat_freq").unwrap(), Some(-3600.0));
        assert_eq!((list.value("nothing"), list.number("nothing").unwrap()), (None, None));
    }

    #[test]
    fn what_is_not_understood_is_named_by_line() {
        for (text, what) in [
            (" &A\n x = 'open\n /\n", "a.txt, line 2: a quotation mark is not closed on its line"),
            (" &A\n x(1 = 2\n /\n", "a.txt, line 2: a parenthesis is not closed"),
            (" &A\n x(one) = 2\n /\n", "a.txt, line 2: a subscript is not a number"),
            (" &A\n x = 99999*0.\n /\n", "a.txt, line 2: more than 16384 values"),
            (" &A\n = 5\n /\n", "a.txt, line 2: '=' is not expected here"),
        ] {
            assert_eq!(Namelist::parse("a.txt", text.as_bytes()).unwrap_err().to_string(), what);
        }
        let list = Namelist::parse("a.txt", b" &A\n deltaT = fast\n /\n").unwrap();
        assert_eq!(list.number("deltat").unwrap_err().to_string(), "a.txt, line 2: deltat = fast is not a number");
        assert!(Namelist::parse("a.txt", &vec![b' '; MAX_FILE_BYTES + 1]).is_err());
    }

    proptest! {
        #[test]
        fn no_text_makes_it_fail_otherwise_than_by_an_error(text in "[ -~\\n]{0,200}") {
            let _ = Namelist::parse("a.txt", text.as_bytes());
        }
    }
}
