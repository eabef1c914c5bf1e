//! Links in texts: whether they can lead anywhere, by their form. Nothing is fetched.

use super::metadata_files::MetadataFiles;
use super::{Defects, NamedText};
use edp_engine::metadata::podaac::is_doi;
use serde_json::Value;
use url::{Host, Url};

/// Checks the links in the lines of a text, without comments that take up a whole line.
pub(super) fn check_lines(text: NamedText<'_>, defects: &mut Defects) {
    let lines = String::from_utf8_lossy(text.bytes);
    for (index, line) in lines.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with('#')) {
        check(text.name, &format!("line {}", index + 1), line, defects);
    }
}

/// Checks the links in all texts of the entries of metadata files.
pub(super) fn check_entries(files: &MetadataFiles, defects: &mut Defects) {
    for (file, value) in files.values() {
        for (index, entry) in value.as_array().into_iter().flatten().enumerate() {
            for (key, text) in entry.as_object().into_iter().flatten() {
                if let Value::String(text) = text {
                    check(file, &format!("entry {index}, key {key}"), text, defects);
                }
            }
        }
    }
}

fn check(file: &str, place: &str, text: &str, defects: &mut Defects) {
    for link in links(text) {
        if let Err(what) = sound(link) {
            defects.warning(file, place, format!("the link {link} leads nowhere: {what}"));
        }
    }
}

/// Returns all that a reader would take for a link.
fn links(text: &str) -> impl Iterator<Item = &str> {
    let ends =
        |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '<' | '>' | '`' | '(' | ')' | '[' | ']' | '{' | '}');
    text.split(ends).map(|word| word.trim_end_matches(['.', ',', ';', ':', '!', '?'])).filter_map(|word| {
        let lower = word.to_ascii_lowercase();
        // What stands before an address without a blank is no part of it: "see:https://...", "(ref.https://...".
        let at = ["https:", "http:", "ftp:", "https/", "http/", "www."]
            .iter()
            .filter_map(|start| lower.find(start))
            .min()?;
        let begins = word[..at].chars().next_back().is_none_or(|before| !before.is_alphanumeric());
        begins.then(|| &word[at..])
    })
}

/// Holds a link against the form of addresses that lead somewhere.
fn sound(link: &str) -> Result<(), &'static str> {
    if link.to_ascii_lowercase().starts_with("www.") {
        return Err("it has no https:// before it");
    }
    let Some((scheme, rest)) = link.split_once("://") else { return Err("'://' does not follow its scheme") };
    if scheme.eq_ignore_ascii_case("ftp") {
        return Err("browsers do not follow ftp:// any more");
    }
    if rest.contains("://") && !rest.contains(['?', '#']) {
        return Err("it holds two addresses");
    }
    let Ok(url) = Url::parse(link) else { return Err("it is no address") };
    match url.host() {
        None => return Err("it names no host"),
        Some(Host::Domain(name)) if !name.contains('.') => return Err("its host is no name of the internet"),
        Some(Host::Domain(name)) if name.split('.').any(str::is_empty) => return Err("its host is no name"),
        Some(_) => {}
    }
    if ["TBD", "REPLACED_BY", "XXX"].iter().any(|word| link.contains(word)) {
        return Err("it holds a placeholder");
    }
    let resolves = matches!(url.host_str(), Some("doi.org" | "dx.doi.org" | "www.doi.org"));
    let path = url.path().trim_matches('/');
    if resolves && !path.is_empty() && !is_doi(path) {
        return Err("no DOI follows the resolver");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_that_lead_somewhere_are_left_alone() {
        for text in [
            "See https://ecco-group.org, and (https://podaac.jpl.nasa.gov).",
            "https://cmr.earthdata.nasa.gov/search/collections.umm_json?ShortName=",
            "https://doi.org/10.5067/ECG5M-SSH44.",
            "ref. https://www.doi.org/:",
            "https://web.archive.org/web?of=http://old.example.org",
            "the http protocol, https too; httpd",
        ] {
            assert_eq!(links(text).filter_map(|link| sound(link).err()).collect::<Vec<_>>(), [""; 0], "{text}");
        }
    }

    #[test]
    fn links_that_lead_nowhere_are_found_by_their_form() {
        for (text, what) in [
            ("www.ecco-group.org", "it has no https:// before it"),
            ("https:/ecco-group.org", "'://' does not follow its scheme"),
            ("https//ecco-group.org", "'://' does not follow its scheme"),
            ("https://https://ecco-group.org", "it holds two addresses"),
            ("http://", "it is no address"),
            ("https://localhost/data", "its host is no name of the internet"),
            ("https://ecco..org", "its host is no name"),
            ("ftp://mit.ecco-group.org/x", "browsers do not follow ftp:// any more"),
            ("https://doi.org/ECG5M-SSH44", "no DOI follows the resolver"),
            ("https://doi.org/10.5067/", "no DOI follows the resolver"),
            ("https://ecco-group.org/TBD_RELEASE", "it holds a placeholder"),
        ] {
            assert_eq!(links(text).map(sound).collect::<Vec<_>>(), [Err(what)], "{text}");
        }
    }
}
