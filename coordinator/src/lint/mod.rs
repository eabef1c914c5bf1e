//! Checks of a configuration, of a metadata directory and of the archive's table, before anything is planned from them.
//!
//! Everything is read by the code that planning uses, so that a defect found here is one that a production would have.
//!
//! | aspect | what is compared |
//! |---|---|
//! | [`Aspect::Configuration`] | the keys with those of all generations of EDP, and the texts with the release |
//! | [`Aspect::Texts`] | the files with the rules of JSON, links with the rules of addresses |
//! | [`Aspect::Variables`] | the entries of variables and coordinates with each other and with CF |
//! | [`Aspect::Datasets`] | the groupings with the entries of their variables |
//! | [`Aspect::Archive`] | the groupings with the rows of the archive's table, and global attributes with placeholders |
//! | [`Aspect::Releases`] | the metadata with those of another release |

mod archive;
mod configuration;
mod datasets;
mod links;
mod metadata_files;
mod release;
mod releases;
mod table;
mod variables;

use edp_engine::metadata::Warning;
use edp_engine::metadata::source::MetadataError;
use metadata_files::MetadataFiles;
use serde::Serialize;
use std::collections::HashSet;
use std::fmt;
use std::path::Path;

/// The weight of a defect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DefectWeight {
    /// Granules cannot be made from it, or what they would say is wrong.
    Error,
    /// It is made good here or has a default, but EDP, the archive or a reader may stumble.
    Warning,
    /// Something that is permitted and could be better.
    Note,
}

/// A defect of a file.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct Defect {
    /// The weight of the defect.
    pub severity: DefectWeight,
    /// Path of the file or directory.
    pub file: String,
    /// Line, entry or key in the file; may be empty.
    pub place: String,
    /// What is wrong, and what follows from it.
    pub message: String,
}

impl fmt::Display for Defect {
    /// Writes `error: FILE: PLACE: MESSAGE`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self.severity {
            DefectWeight::Error => "error",
            DefectWeight::Warning => "warning",
            DefectWeight::Note => "note",
        };
        let Defect { file, place, message, .. } = self;
        write!(f, "{word}: {file}: ")?;
        if place.is_empty() { f.write_str(message) } else { write!(f, "{place}: {message}") }
    }
}

/// One part of the checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aspect {
    /// The configuration.
    Configuration,
    /// Whether files can be read, and links in their texts.
    Texts,
    /// The entries of variables and coordinates.
    Variables,
    /// The groupings.
    Datasets,
    /// The archive's table and the global attributes.
    Archive,
    /// The differences from another release.
    Releases,
}

impl Aspect {
    /// All aspects.
    pub const ALL: [Aspect; 6] =
        [Aspect::Configuration, Aspect::Texts, Aspect::Variables, Aspect::Datasets, Aspect::Archive, Aspect::Releases];
}

/// A file that has been read.
#[derive(Debug, Clone, Copy)]
pub struct NamedText<'a> {
    /// Name of the file for messages.
    pub name: &'a str,
    /// Content of the file.
    pub bytes: &'a [u8],
}

/// What is checked.
#[derive(Debug, Clone, Copy)]
pub struct LintSources<'a> {
    /// The configuration, if there is one.
    pub configuration: Option<NamedText<'a>>,
    /// The metadata directory, if there is one.
    pub metadata: Option<&'a Path>,
    /// The archive's table, if it is not the one that the configuration names.
    pub table: Option<NamedText<'a>>,
    /// The metadata directory of another release, to compare with.
    pub against: Option<&'a Path>,
    /// The checks that are made.
    pub aspects: &'a [Aspect],
}

/// Checks what is given. Returns the defects by weight and file, each once.
///
/// # Errors
/// Returns an error if a directory cannot be listed, or holds more than metadata may have.
pub fn lint(sources: &LintSources<'_>) -> Result<Vec<Defect>, MetadataError> {
    let asked = |aspect: Aspect| sources.aspects.contains(&aspect);
    let mut defects = Defects::default();
    let configuration = sources.configuration.and_then(|text| {
        let mut found = Defects::default();
        let configuration = configuration::check(text, sources.metadata, &mut found);
        if asked(Aspect::Texts) {
            links::check_lines(text, &mut found);
        }
        // Without a configuration the other checks know less, so that is said in any case.
        defects.0.extend(found.0.into_iter().filter(|defect| {
            asked(Aspect::Configuration) || configuration.is_none() && defect.severity == DefectWeight::Error
        }));
        configuration
    });
    if let Some(directory) = sources.metadata {
        let files = MetadataFiles::read(directory)?;
        if asked(Aspect::Texts) {
            files.check_json(&mut defects);
            links::check_entries(&files, &mut defects);
        }
        if asked(Aspect::Variables) {
            variables::check(&files, &mut defects);
        }
        let metadata = files.load(&mut defects);
        if let Some(metadata) = metadata.as_ref().filter(|_| asked(Aspect::Datasets)) {
            datasets::check(&files, metadata, &mut defects);
        }
        if asked(Aspect::Archive) {
            let table = table::read(sources.table, &files, configuration.as_ref(), &mut defects);
            if let (Some(metadata), Some(table)) = (&metadata, &table) {
                archive::check(&files, metadata, table, configuration.as_ref(), &mut defects);
            }
        }
        if let (Some(metadata), Some(other)) = (&metadata, sources.against.filter(|_| asked(Aspect::Releases))) {
            let others = MetadataFiles::read(other)?;
            if let Some(of_other) = others.load(&mut Defects::default()) {
                releases::check((&files, metadata), (&others, &of_other), &mut defects);
            } else {
                let message = "these metadata cannot be read, so that nothing is compared with them; lint them first";
                defects.error(&other.display().to_string(), "", message);
            }
        }
    }
    let mut seen = HashSet::new();
    let mut defects = defects.0;
    defects.retain(|defect| seen.insert(defect.clone()));
    // Within a file, the order in which they were found is that of its lines or entries.
    defects.sort_by(|one, other| (one.severity, &one.file).cmp(&(other.severity, &other.file)));
    Ok(defects)
}

/// The defects found so far.
#[derive(Debug, Default)]
struct Defects(Vec<Defect>);

impl Defects {
    fn add(&mut self, severity: DefectWeight, file: &str, place: impl Into<String>, message: impl Into<String>) {
        self.0.push(Defect { severity, file: file.into(), place: place.into(), message: message.into() });
    }

    fn error(&mut self, file: &str, place: impl Into<String>, message: impl Into<String>) {
        self.add(DefectWeight::Error, file, place, message);
    }

    fn warning(&mut self, file: &str, place: impl Into<String>, message: impl Into<String>) {
        self.add(DefectWeight::Warning, file, place, message);
    }

    fn note(&mut self, file: &str, place: impl Into<String>, message: impl Into<String>) {
        self.add(DefectWeight::Note, file, place, message);
    }

    /// Adds the warnings of a parser.
    fn warnings(&mut self, warnings: Vec<Warning>) {
        for Warning { file, place, message } in warnings {
            self.warning(&file, place, message);
        }
    }

    /// Adds an error whose message begins with the name of its file.
    fn failure(&mut self, file: &str, error: &impl fmt::Display) {
        let text = error.to_string();
        self.error(file, "", text.strip_prefix(file).and_then(|rest| rest.strip_prefix(": ")).unwrap_or(&text));
    }
}
