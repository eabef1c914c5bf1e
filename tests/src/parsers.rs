//! The parsers of untrusted input that the programs have in addition to those of [`edp_parsers`].

use edp_coordinator::init::namelist::Namelist;
use edp_coordinator::plan::jobfile;
pub use edp_parsers::Parser;
use edp_parsers::{FILE, names_it};
use edp_program::settings::Settings;
use std::path::Path;

/// Returns all parsers by name, including those of [`edp_parsers`].
pub fn all() -> Vec<Parser> {
    let mut all = edp_parsers::ALL.to_vec();
    all.extend([("jobs", jobs as fn(&[u8])), ("namelist", namelist), ("settings", settings)]);
    all.sort_by_key(|(name, _)| *name);
    all
}

/// Parses a job file.
///
/// # Panics
/// Panics if a property does not hold.
pub fn jobs(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let strict = jobfile::parse(FILE, text, false);
    let (jobs, notes) = jobfile::parse(FILE, text, true).expect("bad lines cost a warning each");
    match strict {
        Ok((all, _)) => assert_eq!(all, jobs),
        Err(error) => {
            names_it(&error);
            assert!(notes.len() >= error.0.len());
        }
    }
}

/// Parses a file of the model's parameters.
///
/// # Panics
/// Panics if a property does not hold.
pub fn namelist(input: &[u8]) {
    match Namelist::parse(FILE, input) {
        Err(error) => names_it(&error),
        Ok(list) => {
            for key in ["deltat", "startdate_1", "filename", "frequency"] {
                if let Err(error) = list.number(key) {
                    names_it(&error);
                }
                assert_eq!(list.value(key).is_none(), list.all(key).last().is_none_or(|last| last.values.is_empty()));
            }
        }
    }
}

/// Parses a settings file.
///
/// # Panics
/// Panics if a property does not hold.
pub fn settings(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    if let Err(error) = Settings::parse(Some((Path::new(FILE), text)), []) {
        names_it(&error);
    }
    // Variables are separated by NUL, since their values may contain newlines.
    let variables = ["EDP_LOG", "EDP_PLAN__GRID", "EDP_RUN__SLOTS"].into_iter().zip(text.split('\0'));
    drop(Settings::parse(None, variables.map(|(name, value)| (name.to_owned(), value.to_owned()))));
}
