//! Settings: defaults, then a file, then the environment. Flags come on top of them, in the programs.

use config::{Config, Environment, File};
use serde::Deserialize;
use std::collections::HashMap;
use std::path::Path;

/// The file that is read if it is there and no other is named.
pub const FILE: &str = "edp.toml";

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
#[error("settings: {0}")]
pub struct SettingsError(#[from] config::ConfigError);

impl Settings {
    /// Reads the settings of this process.
    ///
    /// # Errors
    /// The named file is not there, or a key is unknown or of the wrong type.
    pub fn load(file: Option<&Path>) -> Result<Settings, SettingsError> {
        Settings::from_parts(
            file,
            std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?))),
        )
    }

    fn from_parts(
        file: Option<&Path>,
        environment: impl Iterator<Item = (String, String)>,
    ) -> Result<Settings, SettingsError> {
        // Other programs' variables may begin like ours.
        let ours = |name: &str| {
            FROM_ENVIRONMENT.iter().any(|start| name == *start || (start.ends_with('_') && name.starts_with(start)))
        };
        let environment: HashMap<String, String> = environment.filter(|(name, _)| ours(name)).collect();
        let file = match file {
            Some(path) => File::from(path).required(true),
            None => File::from(Path::new(FILE)).required(false),
        };
        let environment =
            Environment::with_prefix("EDP").prefix_separator("_").separator("__").source(Some(environment));
        Ok(Config::builder().add_source(file).add_source(environment).build()?.try_deserialize()?)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn load(text: &str, environment: &[(&str, &str)]) -> Result<Settings, SettingsError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("edp.toml");
        std::fs::write(&path, text).unwrap();
        Settings::from_parts(Some(&path), environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())))
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
            assert!(error.contains(part), "{error}");
        }
        assert!(Settings::from_parts(Some(Path::new("/nowhere/edp.toml")), std::iter::empty()).is_err());
    }
}
