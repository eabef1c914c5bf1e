//! Settings: defaults, then a file, then the environment. Options of the command line take precedence; programs apply
//! them.

mod file;
mod problem;

use crate::telemetry::emf::EmbeddedMetrics;
use config::{Config, ConfigError, Environment, File, FileFormat};
use edp_queue::QueueSettings;
use edp_store::StoreSettings;
use problem::SettingProblem;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Name of the file that is read if it exists and no other file is named.
pub const FILE: &str = "edp.toml";

/// Largest size of a settings file in bytes.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Sections and single keys that environment variables may set: `EDP_<SECTION>__<KEY>` and `EDP_<KEY>`.
const FROM_ENVIRONMENT: [&str; 8] = [
    "EDP_LOG",
    "EDP_LOG_FORMAT",
    "EDP_PLAN__",
    "EDP_RUN__",
    "EDP_QUEUE__",
    "EDP_SERVE__",
    "EDP_STORE__",
    "EDP_TELEMETRY__",
];

edp_protocol::settings! {
    /// Effective settings: what is set nowhere has its default. `doc/settings.md` lists them all.
    pub struct Settings {
        /// Filter of the messages that are logged.
        pub log: Option<String> = None,
            default "`RUST_LOG`, or `warn`",
            limits "`error`, `warn`, `info`, `debug`, `trace`, `off`, or a filter in the form of `RUST_LOG`";
        /// Form of the log.
        pub log_format: Option<String> = None, default "`human`", limits "`human` or `json`";
    }
    sections {
        /// Section `plan`, for planning.
        pub plan: PlanSettings;
        /// Section `run`: making granules.
        pub run: RunSettings;
        /// Section `queue`: the broker.
        pub queue: QueueSettings;
        /// Section `serve`: long-lived workers.
        pub serve: ServeSettings;
        /// Section `store`: S3 and temporary copies.
        pub store: StoreSettings;
        /// Section `telemetry`: what running programs tell.
        pub telemetry: TelemetrySettings;
    }
    beside {
        /// Warnings about the settings, to be shown once logging has started.
        pub warnings: Vec<String>;
    }
}

edp_protocol::settings! {
    /// The settings of section `plan`, which replace the options of the same names.
    pub struct PlanSettings {
        /// As `--jobs`: the job file.
        pub jobs: Option<String> = None;
        /// As `--config`: EDP's configuration.
        pub config: Option<String> = None;
        /// As `--source`: root of the results.
        pub source: Option<String> = None;
        /// As `--destination`: root of the granules.
        pub destination: Option<String> = None;
        /// As `--grid`: the grid directory.
        pub grid: Option<String> = None;
        /// As `--mapping-factors`: the mapping factors.
        pub mapping_factors: Option<String> = None;
        /// As `--metadata`: the metadata directory.
        pub metadata: Option<String> = None;
        /// As `--compatibility`: the mode, which selects whose granules are made.
        pub compatibility: Option<String> = None,
            default "`corrected`",
            limits "`corrected`, `edp-2024` or `edp-2026`";
        /// Time between two scans of a growing run (`--follow`).
        pub follow_interval: u32 = 60, unit "s", range 1..=u32::MAX;
    }
}

edp_protocol::settings! {
    /// The settings of section `run`.
    pub struct RunSettings {
        /// As `--slots`: number of granules that are made at the same time.
        pub slots: Option<u16> = None, default "one for each core", range 1..=1024;
        /// As `--processes`: number of processes in which granules are made.
        pub processes: u16 = 1, range 1..=1024;
        /// Memory that each granule may take while it is made, in addition to the shared grid and weights.
        pub memory: u32 = 4096, unit "MiB", range 1..=u32::MAX;
        /// As `--paranoid`: each chunk of a field is decompressed again before it is written, as those of static
        /// data are in any case. It changes no byte.
        pub paranoid: bool = false;
        /// Largest size of a task list. It may contain one recipe for each KiB of that.
        pub list_size: u32 = 4096, unit "MiB", range 1..=u32::MAX;
        /// As `--max-failures`: number of failed recipes beyond which a production with a ledger ends early.
        pub max_failures: Option<u64> = None, default "any number";
        /// As `--max-failure-share`: share of failed recipes among the settled ones beyond which it ends early ...
        pub max_failure_share: u8 = 50, unit "%", range 0..=100;
        /// ... once this number of recipes is settled (`--failure-sample`).
        pub failure_sample: u64 = 100;
        /// As `--group`: recipes that are sent to one worker together if they read the same inputs: those whose model
        /// output is on S3, once all workers are known to take such groups; any; or none.
        pub group: TaskGrouping = TaskGrouping::S3, default "`s3`", limits "`s3`, `always` or `never`";
        /// Time between copies of the ledger to the destination; 0: none are made.
        pub snapshot: u32 = 600, unit "s";
    }
}

edp_protocol::settings! {
    /// The settings of section `serve`.
    pub struct ServeSettings {
        /// As `--root`: directories, or `s3://bucket/prefix`, below which recipes may read and write, separated by `:`
        /// as in PATH.
        pub roots: Option<String> = None;
        /// Longest time that making a granule may take.
        pub deadline: Option<u32> = None,
            default "900; 86400 where `run` makes the granules itself", unit "s", range 1..=u32::MAX;
        /// Time in which granules in progress must end when a worker is told to stop, or when the time limit of any
        /// command that makes granules is reached.
        pub grace: u32 = 60, unit "s";
        /// Sources of notices that the time of `serve`, `run` or `make` is over: of the Slurm job, and of EC2 if this is
        /// one of its instances (`auto`) or in any case (`ec2`).
        pub notices: NoticeSources = NoticeSources::Auto, default "`auto`", limits "`auto`, `ec2` or `off`";
        /// Address of the metadata service of EC2. Setting it switches its notices on.
        pub imds: Option<String> = None, default "EC2's well-known address";
        /// As `--status`: socket at which the worker tells its status to `edp-worker health`.
        pub status: Option<PathBuf> = None, limits "a path of at most 100 characters; each worker needs its own";
    }
}

edp_protocol::settings! {
    /// The settings of section `telemetry`. Those of OpenTelemetry have their own environment variables.
    pub struct TelemetrySettings {
        /// Share of the traces that is sent to a collector. Spans of the other traces are sent if they have failed.
        pub traces: u8 = 100, unit "%", range 0..=100;
        /// Namespace of CloudWatch. While recipes are made, and when no more are, `edp-coordinator run` then writes
        /// `edp.backlog`, `edp.announced.slots` and `edp.recipes` to standard error, every 15 s, as lines of the embedded
        /// metric format: CloudWatch makes metrics of them when the log reaches it.
        pub emf_namespace: Option<String> = None;
        /// As `--listen`: address at which `edp-worker serve` and `edp-coordinator run` answer `GET /healthz` and
        /// `GET /metrics` over HTTP, to everybody who reaches it.
        pub listen: Option<String> = None, limits "`HOST:PORT` of this machine; each program needs its own";
    }
}

impl TelemetrySettings {
    /// Returns what writes metrics as lines for CloudWatch, if there is a namespace. An empty one is none.
    pub fn embedded_metrics(&self) -> Option<EmbeddedMetrics> {
        self.emf_namespace.as_deref().filter(|namespace| !namespace.is_empty()).map(EmbeddedMetrics::new)
    }

    /// Returns the address at which the program listens: that of the option, else that of the setting. An empty one is
    /// none.
    pub fn listen<'a>(&'a self, option: Option<&'a str>) -> Option<&'a str> {
        option.or(self.listen.as_deref()).filter(|address| !address.is_empty())
    }
}

impl ServeSettings {
    /// Returns the seconds that a granule may take with a worker that others can take over from.
    pub fn deadline(&self) -> u32 {
        self.deadline.unwrap_or(900)
    }

    /// Returns the seconds that a granule may take in the process that drives the production, where another worker would
    /// not be faster.
    pub fn own_deadline(&self) -> u32 {
        self.deadline.unwrap_or(24 * 60 * 60)
    }
}

/// The sources of notices that the time of a process is over.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
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

/// The recipes that are sent to one worker in one message if they read the same inputs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TaskGrouping {
    /// Those whose model output is on S3, where each read of an input is a transfer.
    #[default]
    S3,
    /// Any.
    Always,
    /// None.
    Never,
}

impl FromStr for TaskGrouping {
    type Err = String;

    fn from_str(text: &str) -> Result<TaskGrouping, String> {
        match text {
            "s3" => Ok(TaskGrouping::S3),
            "always" => Ok(TaskGrouping::Always),
            "never" => Ok(TaskGrouping::Never),
            _ => Err("it is s3, always or never".into()),
        }
    }
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
    /// Returns an error if a key is unknown, has the wrong type, or is beyond its limits.
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
        within_limits(text, &environment).map_err(|found| {
            // The environment takes precedence over the file. If both are wrong, its value is the one that was used.
            let alone = within_limits(None, &environment).err();
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

/// Puts the settings together, and checks that every number is in its range.
fn within_limits(text: Option<&str>, environment: &HashMap<String, String>) -> Result<Settings, SettingProblem> {
    let settings = composed(text, environment).map_err(|error| problem::content(&error))?;
    match settings.beyond_limits() {
        Some((key, what)) => Err(SettingProblem::of_value(&key, what)),
        None => Ok(settings),
    }
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
        assert_eq!((settings.queue.patience, settings.queue.heartbeat), (9, 5));
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
            ("[run]\nslots = 0\n", &["line 2, column 9: run.slots", "from 1 to 1024"]),
            ("[store.s3]\ntimeout = 0\n", &["line 2, column 11: store.s3.timeout", "from 1 to"]),
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
    fn numbers_beyond_their_limits_are_refused_where_they_are_set() {
        let error = load("[queue]\npatience = 0\n", &[("EDP_QUEUE__PATIENCE", "3")]);
        assert_eq!(error.unwrap().queue.patience, 3, "what counts is the value that is used");
        for (file, share) in [("", "101"), ("[run]\nmax_failure_share = 101\n", "200")] {
            let error = load(file, &[("EDP_RUN__MAX_FAILURE_SHARE", share)]).unwrap_err().to_string();
            assert!(error.contains("the variable EDP_RUN__MAX_FAILURE_SHARE: run.max_failure_share: "), "{error}");
            assert!(error.contains("from 0 to 100"), "{error}");
        }
    }

    #[test]
    fn what_is_not_set_has_the_default_of_the_reference() {
        let settings = load("[queue]\nca = 'x'\n", &[]).unwrap();
        assert_eq!(settings.run, RunSettings::default());
        assert_eq!(settings.queue, QueueSettings { ca: Some("x".into()), ..QueueSettings::default() });
        let reference = Settings::reference();
        let of = |key: &str| reference.iter().find(|one| one.key == key).unwrap().clone();
        assert_eq!(of("queue.patience").default, settings.queue.patience.to_string());
        assert_eq!((of("store.s3.timeout").unit, of("run.slots").limits.as_str()), ("s", "1 to 1024"));
        assert_eq!(of("store.s3.sse_kms_key").variable(), "EDP_STORE__S3__SSE_KMS_KEY");
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
