//! Settings: defaults, then a file, then the environment. Flags come on top of them, in the programs.

use config::{Config, Environment, File, FileFormat};
use serde::Deserialize;
use std::collections::HashMap;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

/// The file that is read if it is there and no other is named.
pub const FILE: &str = "edp.toml";

/// Largest settings file that is read, in bytes.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Sections and single keys that environment variables may set: `EDP_<SECTION>__<KEY>` and `EDP_<KEY>`.
const FROM_ENVIRONMENT: [&str; 3] = ["EDP_LOG", "EDP_PLAN__", "EDP_RUN__"];

/// Effective settings.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// What is logged: `error`, `warn`, `info`, `debug`, `trace`, or a filter in the form of RUST_LOG.
    pub log: Option<String>,
    /// For planning.
    pub plan: PlanSettings,
    /// For making granules.
    pub run: RunSettings,
}

/// Section `plan`: what the options of the same names say.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[allow(missing_docs)]
pub struct PlanSettings {
    pub jobs: Option<String>,
    pub config: Option<String>,
    pub source: Option<String>,
    pub destination: Option<String>,
    pub grid: Option<String>,
    pub mapping_factors: Option<String>,
    pub metadata: Option<String>,
    pub compatibility: Option<String>,
}

/// Section `run`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RunSettings {
    /// Granules made at once.
    pub slots: Option<u16>,
}

/// Why settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file cannot be read, or is no text.
    #[error("settings: {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A key is unknown, or its value of the wrong type.
    #[error("settings, from {from}: {source}")]
    Content {
        /// Where they come from.
        from: String,
        /// What is wrong.
        source: config::ConfigError,
    },
}

impl Settings {
    /// Reads the settings of this process.
    ///
    /// # Errors
    /// The named file is not there or no text, or a key is unknown or of the wrong type.
    pub fn load(file: Option<&Path>) -> Result<Settings, SettingsError> {
        let environment = std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)));
        let path = file.unwrap_or(Path::new(FILE));
        match read(path) {
            Err(SettingsError::Read { source, .. }) if file.is_none() && source.kind() == io::ErrorKind::NotFound => {
                Settings::parse(None, environment)
            }
            text => Settings::parse(Some((path, &text?)), environment),
        }
    }

    /// Puts settings together from the text of a file (with its path, for messages) and variables of an environment.
    ///
    /// # Errors
    /// A key is unknown or of the wrong type.
    pub fn parse(
        file: Option<(&Path, &str)>,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Settings, SettingsError> {
        // Other programs' variables may begin like ours.
        let ours = |name: &str| {
            FROM_ENVIRONMENT.iter().any(|start| name == *start || (start.ends_with('_') && name.starts_with(start)))
        };
        let environment: HashMap<String, String> = environment.into_iter().filter(|(name, _)| ours(name)).collect();
        let environment =
            Environment::with_prefix("EDP").prefix_separator("_").separator("__").source(Some(environment));
        let text = file.map(|(_, text)| File::from_str(text, FileFormat::Toml));
        let all = Config::builder().add_source(Vec::from_iter(text)).add_source(environment).build();
        all.and_then(Config::try_deserialize).map_err(|source| SettingsError::Content {
            from: file.map_or("the environment".into(), |(path, _)| format!("{} and the environment", path.display())),
            source,
        })
    }
}

/// The text of a settings file.
fn read(path: &Path) -> Result<String, SettingsError> {
    let fail = |source| SettingsError::Read { path: path.into(), source };
    let mut text = String::new();
    std::fs::File::open(path).map_err(fail)?.take(MAX_FILE_BYTES + 1).read_to_string(&mut text).map_err(fail)?;
    if text.len() as u64 > MAX_FILE_BYTES {
        return Err(fail(io::Error::other(format!("larger than the {MAX_FILE_BYTES} bytes that settings may have"))));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn load(text: &str, environment: &[(&str, &str)]) -> Result<Settings, SettingsError> {
        let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Settings::parse(Some((Path::new("edp.toml"), text)), environment)
    }

    #[test]
    fn the_environment_stands_above_the_file() {
        let text = "log = 'info'\n[run]\nslots = 2\n[plan]\ngrid = 'g'\nmapping_factors = 'f'\n";
        let settings = load(text, &[("EDP_RUN__SLOTS", "4"), ("EDP_PLAN__GRID", "h"), ("EDP_REAL_DATA", "x")]).unwrap();
        assert_eq!((settings.run.slots, settings.log.as_deref()), (Some(4), Some("info")));
        assert_eq!(settings.plan.grid.as_deref(), Some("h"));
        assert_eq!(settings.plan.mapping_factors.as_deref(), Some("f"));
    }

    #[test]
    fn what_is_unknown_or_wrong_is_named() {
        for (text, part) in
            [("[run]\nslotz = 2\n", "slotz"), ("[run]\nslots = 'two'\n", "slots"), ("colour = 1", "colour")]
        {
            let error = load(text, &[]).unwrap_err().to_string();
            assert!(error.contains(part) && error.contains("edp.toml"), "{error}");
        }
    }

    #[test]
    fn files_that_are_not_there_or_no_text_are_named() {
        assert!(Settings::load(Some(Path::new("/nowhere/edp.toml"))).is_err());
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("latin.toml");
        std::fs::write(&path, b"log = 'caf\xe9'").unwrap();
        let error = Settings::load(Some(&path)).unwrap_err().to_string();
        assert!(error.contains("latin.toml") && error.contains("UTF-8"), "{error}");
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(text in "\\PC*", line in "[a-z.\\[\\]=\"'{}, 0-9\n]{0,60}", value in "\\PC*") {
            let _ = load(&text, &[("EDP_LOG", &value), ("EDP_PLAN__GRID", &value), ("EDP_RUN__SLOTS", &value)]);
            let _ = load(&line, &[("EDP_PLAN__", &value), ("EDP_RUN__SLOTS__X", "1")]);
        }
    }
}
