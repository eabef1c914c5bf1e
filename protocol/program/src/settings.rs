//! Settings: defaults, then a file, then the environment. Options of the command line take precedence; programs apply
//! them.

mod file;
mod problem;

use config::{Config, ConfigError, Environment, File, FileFormat};
use edp_queue::QueueSettings;
use edp_store::StoreSettings;
use serde::Deserialize;
use std::collections::HashMap;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// Name of the file that is read if it exists and no other file is named.
pub const FILE: &str = "edp.toml";

/// Largest size of a settings file in bytes.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Sections and single keys that environment variables may set: `EDP_<SECTION>__<KEY>` and `EDP_<KEY>`.
const FROM_ENVIRONMENT: [&str; 7] =
    ["EDP_LOG", "EDP_LOG_FORMAT", "EDP_PLAN__", "EDP_RUN__", "EDP_QUEUE__", "EDP_SERVE__", "EDP_STORE__"];

/// Effective settings of a program.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Level of the log (`error`, `warn`, `info`, `debug`, `trace`), or a filter in the form of RUST_LOG.
    pub log: Option<String>,
    /// Form of the log: `human` (the default) or `json`.
    pub log_format: Option<String>,
    /// Section `plan`, for planning.
    pub plan: PlanSettings,
    /// Section `run`: making granules.
    pub run: RunSettings,
    /// Section `queue`: the broker.
    pub queue: QueueSettings,
    /// Section `serve`: long-lived workers.
    pub serve: ServeSettings,
    /// Section `store`: S3 and temporary copies.
    pub store: StoreSettings,
    /// Warnings about the settings, to be shown once logging has started.
    #[serde(skip)]
    pub warnings: Vec<String>,
}

/// Section `plan`: its keys are those of the options with the same names.
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
    /// Time in seconds between two scans of a growing run (default 60).
    pub follow_interval: Option<u32>,
}

/// Section `run`: making granules.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RunSettings {
    /// Number of granules that are made at the same time.
    pub slots: Option<u16>,
    /// Memory in MiB that one granule may take while it is made, in addition to the shared grid and weights.
    pub memory: Option<u32>,
    /// Largest size of a task list in MiB (default 4096). A list may have one recipe for each KiB of it.
    pub list_size: Option<u32>,
    /// Number of failed recipes above which a production with a ledger is given up.
    pub max_failures: Option<u64>,
    /// Largest share of failed recipes among the settled ones, in per cent (default 50). Above it a production is given
    /// up.
    pub max_failure_share: Option<u8>,
    /// Number of settled recipes from which on that share counts (default 100).
    pub failure_sample: Option<u64>,
    /// Time in seconds between copies of the ledger to the destination (default 600); 0 makes none.
    pub snapshot: Option<u32>,
}

/// Section `serve`: long-lived workers. Times are in seconds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServeSettings {
    /// Directories, or `s3://bucket/prefix`, beneath which recipes may read and write, separated by `:` as in PATH.
    pub roots: Option<String>,
    /// Time in seconds that making one granule may take.
    pub deadline: Option<u32>,
    /// Time in seconds that granules under way have to end when the worker is told to stop.
    pub grace: Option<u32>,
    /// Sources of notices that the machine is about to end.
    pub notices: Option<NoticeSources>,
    /// Address of the metadata service of EC2, if it is not the well-known one. If it is set, its notices are read.
    pub imds: Option<String>,
}

/// The sources of notices that the machine of a worker is about to end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NoticeSources {
    /// The Slurm job, and EC2 if the machine says that it is one of its instances.
    #[default]
    Auto,
    /// The Slurm job and EC2, whatever the machine says.
    Ec2,
    /// No source at all.
    Off,
}

/// The reason why settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file cannot be read, or is not text.
    #[error("settings: {path}: {source}")]
    Read {
        /// Path of the file.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The file in the current directory belongs to another user, or others may change it.
    #[error(
        "settings: {path}, which was found in the current directory, {why}: whoever can write it decides where data and \
         passwords go; {remedy}, or name it if it is to be used nevertheless: --settings {path}"
    )]
    Foreign {
        /// Path of the file.
        path: PathBuf,
        /// The owner, or the users who may write to it.
        why: String,
        /// Advice on what to do.
        remedy: &'static str,
    },
    /// The file is not valid TOML.
    #[error("settings: {path}, {place}: {what} (the line is not shown: it may hold a password)")]
    Syntax {
        /// Path of the file.
        path: PathBuf,
        /// Line, column and key.
        place: String,
        /// Description of the problem.
        what: String,
    },
    /// A key is unknown, or its value has the wrong type. No value is repeated, since it may be a password.
    #[error("settings: {from}: {what}")]
    Content {
        /// Place of the key: file, line and column, or the environment variable.
        from: String,
        /// The key and a description of the problem.
        what: String,
    },
}

impl Settings {
    /// Reads the settings of this process. `file` is the file that the user has named, if any.
    ///
    /// # Errors
    /// Returns an error if the named file does not exist or is not text, if the file in the current directory may be
    /// written by others, or if a key is unknown or has the wrong type.
    pub fn load(file: Option<&Path>) -> Result<Settings, SettingsError> {
        let environment = std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)));
        let (path, read) = match file {
            Some(path) => (path, Some(file::read_named(path)?)),
            None => (Path::new(FILE), file::read_found(Path::new(FILE))?.map(|text| (text, None))),
        };
        let mut settings = match read {
            None => Settings::parse(None, environment)?,
            Some((text, warning)) => {
                let mut settings = Settings::parse(Some((path, &text)), environment)?;
                settings.warnings.extend(warning.into_iter().chain(exposed(path, &text)));
                settings
            }
        };
        let exposed: Vec<_> = settings.exposed_secrets().collect();
        settings.warnings.extend(exposed);
        Ok(settings)
    }

    /// Puts settings together from the text of a file (with its path, for messages) and the variables of an
    /// environment.
    ///
    /// # Errors
    /// Returns an error if a key is unknown or has the wrong type.
    pub fn parse(
        file: Option<(&Path, &str)>,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Settings, SettingsError> {
        // Variables of other programs may begin like ours.
        let ours = |name: &str| {
            FROM_ENVIRONMENT.iter().any(|start| name == *start || (start.ends_with('_') && name.starts_with(start)))
        };
        let environment: HashMap<String, String> = environment.into_iter().filter(|(name, _)| ours(name)).collect();
        if let Some((path, text)) = file
            && let Some((place, what)) = problem::syntax(text)
        {
            return Err(SettingsError::Syntax { path: path.into(), place, what });
        }
        let text = file.map(|(_, text)| text);
        composed(text, &environment).map_err(|error| {
            let found = problem::content(&error);
            // The environment takes precedence over the file. If both are wrong, its value is the one that was used.
            let alone = composed(None, &environment).err().map(|error| problem::content(&error));
            let from = match file {
                Some((path, text)) if alone.is_none_or(|alone| !alone.is_of_the_same_key(&found)) => {
                    let place = problem::place(text, &found).map(|place| format!(", {place}"));
                    format!("{}{}", path.display(), place.unwrap_or_default())
                }
                _ => problem::variable(environment.keys(), &found),
            };
            SettingsError::Content { from, what: found.to_string() }
        })
    }

    /// Returns warnings about files with a password that everybody on this machine may read.
    fn exposed_secrets(&self) -> impl Iterator<Item = String> {
        let files = [&self.queue.url_file, &self.queue.password_file];
        files
            .into_iter()
            .flatten()
            .filter(|path| is_open(path))
            .map(|path| format!("{}: holds a password and may be read by everybody: chmod o-r", path.display()))
    }
}

/// Returns true if everybody on this machine may read a file.
fn is_open(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|found| found.permissions().mode() & 0o004 != 0)
}

/// Returns a warning if a file contains a password and everybody on this machine may read it.
fn exposed(path: &Path, text: &str) -> Option<String> {
    let settings = Settings::parse(Some((path, text)), []).ok()?;
    let warn = || format!("{}: has a password and may be read by everybody: chmod o-r", path.display());
    (is_open(path) && settings.queue.url?.has_password()).then(warn)
}

/// Makes settings of a text in TOML; environment variables take precedence.
fn composed(text: Option<&str>, environment: &HashMap<String, String>) -> Result<Settings, ConfigError> {
    let text = text.map(|text| File::from_str(text, FileFormat::Toml));
    let variables = Environment::with_prefix("EDP").prefix_separator("_").separator("__");
    let environment = variables.source(Some(environment.clone()));
    Config::builder().add_source(Vec::from_iter(text)).add_source(environment).build()?.try_deserialize()
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
        assert_eq!(load("", &[("EDP_LOG_FORMAT", "json")]).unwrap().log_format.as_deref(), Some("json"));
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
    fn passwords_are_not_shown() {
        let text = "[queue]\nurl = 'amqp://u:s3cret@h/'\npatience = 9\nca = 'ca.pem'\n";
        let settings = load(text, &[("EDP_QUEUE__HEARTBEAT", "5")]).unwrap();
        assert_eq!((settings.queue.patience, settings.queue.heartbeat), (Some(9), Some(5)));
        assert_eq!(settings.queue.ca.as_deref(), Some(Path::new("ca.pem")));
        assert!(format!("{settings:?}").contains("amqp://u@h:5672/"), "{settings:?}");
        assert!(!format!("{settings:?}").contains("s3cret"));
        for url in ["http://u:s3cret@h/", "s3cret", "amqp://u:s3cret@h:x"] {
            let error = load("", &[("EDP_QUEUE__URL", url)]).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("s3cret"), "{error:?}");
            let error = load(&format!("[queue]\nurl = ['{url}']"), &[]).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("s3cret"), "{error:?}");
        }
    }

    #[test]
    fn mistakes_are_named_and_values_are_not_shown() {
        for (text, parts) in [
            ("[queue]\nurl = \"amqp://u:s3cret@h/v\n", &["edp.toml, line 2, column 27, queue.url: "][..]),
            ("[queue]\n\nurl = amqp://u:s3cret@h/v\n", &["edp.toml, line 3, column 7, queue.url: "]),
            ("[queue]\nurl = [\"amqp://u:s3cret@h/v\"]\n", &["line 2, column 7: queue.url: ", "a list", "a text"]),
            ("[queue]\nurl = \"amqp://u:s3cret@h/v\" x\n", &["line 2, column 29, queue.url: "]),
            ("[queue]\nurl = \"a\"\nurl = \"amqp://u:s3cret@h/v\"\n", &["line 3, column 1"]),
            ("[queue]\nca = \"\"\"\ns3cret = amqp://u:s3cret@h\n", &["line "]),
            ("[queue]\nurll = \"amqp://u:s3cret@h/v\"\n", &["line 2, column 1: queue: ", "urll", "url, "]),
            ("[queue]\n\"amqp://u:s3cret@h/v\" = 1\n", &["line 2, column 1", "no key"]),
            ("queue = \"amqp://u:s3cret@h/v\"\n", &["line 1, column 9: queue: ", "a section"]),
            ("[queue]\nurl = \"amqp://u:s3cret@h:99999/v\"\n", &["line 2, column 7", "amqp://user:password"]),
            (
                "[queue]\npatience = \"amqp://u:s3cret@h/v\"\n",
                &["edp.toml, line 2, column 12: queue.patience: a text, where a whole number"],
            ),
            ("[queue]\npassword_command = 7\n", &["line 2, column 20", "password_command", "a program"]),
            ("[queue]\npassword_command = [['s3cret']]\n", &["line 2", "password_command", "a program"]),
            ("[serve]\nnotices = \"s3cret\"\n", &["line 2, column 11", "serve.notices", "none of those"]),
            ("é = 1\n[store.s3]\nanonymous = \"s3cret\"\n", &["line 1, column 1"]),
            ("[store.s3]\nanonymous = \"s3cret\"\n", &["line 2, column 13: store.s3.anonymous"]),
            ("store.s3 = { anonymous = 's3cret' }\n", &["line 1, column 26: store.s3.anonymous"]),
            ("[run]\nslots = 70000\n", &["line 2, column 9: run.slots", "from 0 to 65535"]),
            ("log = { s3cret = 1 }\n", &["line 1, column 7: log", "a section", "a text"]),
            ("[\"amqp://u:s3cret@h\"]\n", &["line 1, column 2", "no key"]),
            ("[[queue]]\nurl = \"amqp://u:s3cret@h/v\"\n", &["line 1, column ", "queue"]),
        ] {
            let error = load(text, &[]).unwrap_err();
            let shown = format!("{error} {error:?} {:?}", std::error::Error::source(&error).map(ToString::to_string));
            assert!(!shown.contains("s3cret"), "{text}: {shown}");
            for part in parts {
                assert!(error.to_string().contains(part), "{text}: {error}");
            }
        }
        for (name, part) in [
            ("EDP_QUEUE__URL__X", "queue.url"),
            ("EDP_QUEUE__PATIENCE", "queue.patience"),
            ("EDP_QUEUE__URLL", "urll"),
            ("EDP_RUN__SLOTS", "run.slots"),
            ("EDP_STORE__S3__TIMEOUT", "store.s3.timeout"),
        ] {
            // whatever the file has for this key, and for others
            for text in ["", "[run]\nslots = 1\n[queue]\npatience = 1\n"] {
                let error = load(text, &[(name, "amqp://u:s3cret@h/v"), ("EDP_LOG", "info")]).unwrap_err();
                assert!(
                    !format!("{error} {error:?}").contains("s3cret") && error.to_string().contains(part),
                    "{error}"
                );
                assert!(error.to_string().contains(&format!("settings: the variable {name}: ")), "{error}");
            }
        }
        let error = load("queue = 's3cret'\n", &[("EDP_LOG", "info"), ("EDP_RUN__SLOTS", "2")]).unwrap_err();
        assert!(error.to_string().contains("edp.toml, line 1, column 9: queue: "), "{error}");
    }

    #[test]
    fn files_and_programs_give_passwords() {
        let text = "[queue]\nurl_file = 'u'\npassword_command = 'pass show edp'\n";
        let queue = load(text, &[]).unwrap().queue;
        assert_eq!(queue.password_command.clone().unwrap(), ["pass", "show", "edp"]);
        let list = "[queue]\npassword_command = ['/a b/pass', 'x y']\n";
        assert_eq!(load(list, &[]).unwrap().queue.password_command.unwrap(), ["/a b/pass", "x y"]);
        let queue = load("", &[("EDP_QUEUE__PASSWORD_COMMAND", "pass show"), ("EDP_QUEUE__URL_FILE", "/run/url")]);
        let queue = queue.unwrap().queue;
        assert_eq!(queue.password_command.unwrap(), ["pass", "show"]);
        assert_eq!(queue.url_file.unwrap(), Path::new("/run/url"));
        let mut queue = load(text, &[]).unwrap().queue;
        queue.name("amqp://h".parse().ok());
        assert_eq!((queue.url.unwrap().to_string().as_str(), queue.url_file), ("amqp://guest@h:5672/", None));
    }

    #[test]
    fn a_password_that_everybody_may_read_is_warned_of() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("edp.toml");
        let warned = |text: &str, mode| {
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            let warnings = Settings::load(Some(&path)).unwrap().warnings;
            assert!(warnings.iter().all(|warning| !warning.contains("s3cret")), "{warnings:?}");
            warnings.len()
        };
        let secret = "[queue]\nurl = 'amqp://u:s3cret@h/'";
        assert_eq!((warned(secret, 0o644), warned(secret, 0o640)), (1, 0));
        assert_eq!(warned("[queue]\nurl = 'amqp://h/'", 0o644), 0);
        let secret = dir.path().join("password");
        std::fs::write(&secret, "s3cret").unwrap();
        for (mode, warnings) in [(0o644, 1), (0o600, 0)] {
            std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(warned(&format!("[queue]\npassword_file = '{}'", secret.display()), 0o644), warnings);
        }
    }

    #[test]
    fn endpoints_of_stores_hold_no_passwords() {
        let settings = load("[store.s3]\nendpoint = 'http://h:9000'\nmultipart = 64\n", &[]).unwrap();
        assert_eq!(settings.store.s3.endpoint.as_deref(), Some("http://h:9000"));
        for endpoint in ["https://u:s3cret@h", "s3cret"] {
            let error = load("", &[("EDP_STORE__S3__ENDPOINT", endpoint)]).unwrap_err();
            assert!(error.to_string().contains("endpoint"), "{error}");
            assert!(!format!("{error} {error:?}").contains("s3cret"), "{error:?}");
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
