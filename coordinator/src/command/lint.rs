//! `lint`: checks of configuration, metadata and the archive's table.

use super::usage;
use clap::{Args, ValueEnum};
use edp_coordinator::lint::{Aspect, Defect, DefectWeight, LintSources, NamedText, lint};
use edp_engine::metadata::MAX_FILE_BYTES;
use edp_program::settings::Settings;
use edp_protocol::Location;
use edp_protocol::text::line;
use edp_store::Stores;
use edp_worker::console::{Ending, ReportForm, Usage, out, out_json};
use serde_json::{Value, json};

/// The text that replaces a secret.
const HIDDEN: &str = "***";

/// Options of the command.
#[derive(Debug, Args)]
pub(crate) struct LintOptions {
    /// EDP's configuration
    #[arg(long, alias = "ecco_cfg_loc", alias = "cfgfile", value_name = "FILE")]
    config: Option<Location>,
    /// Metadata directory
    #[arg(long, alias = "ecco_metadata_loc", value_name = "DIR")]
    metadata: Option<Location>,
    /// Table of the archive, if it is not the one that the configuration names
    #[arg(long, value_name = "FILE", requires = "metadata")]
    podaac: Option<Location>,
    /// Metadata directory of another release: what differs from it
    #[arg(long, value_name = "DIR", requires = "metadata")]
    against: Option<Location>,
    /// Only these checks [default: all]
    #[arg(long = "check", value_enum, value_name = "CHECKS", value_delimiter = ',')]
    checks: Vec<CheckOption>,
    /// Warnings count as errors
    #[arg(long)]
    strict: bool,
    /// Leave the notes out
    #[arg(long)]
    no_notes: bool,
    /// Show the effective settings, with secrets hidden, and check nothing unless asked for
    #[arg(long)]
    show_settings: bool,
    /// Form of the report
    #[arg(long, value_enum, default_value_t)]
    output: ReportForm,
}

/// [`Aspect`] on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum CheckOption {
    /// Keys and texts of the configuration
    Configuration,
    /// JSON of the metadata, and links in texts
    Texts,
    /// Entries of variables and coordinates
    Variables,
    /// Groupings, with the entries of their variables
    Datasets,
    /// Rows and DOIs of the archive's table, and placeholders
    Archive,
    /// Differences from another release
    Releases,
}

impl CheckOption {
    fn aspect(self) -> Aspect {
        match self {
            CheckOption::Configuration => Aspect::Configuration,
            CheckOption::Texts => Aspect::Texts,
            CheckOption::Variables => Aspect::Variables,
            CheckOption::Datasets => Aspect::Datasets,
            CheckOption::Archive => Aspect::Archive,
            CheckOption::Releases => Aspect::Releases,
        }
    }
}

/// Runs the command `lint`.
pub(crate) fn execute(options: &LintOptions, settings: &Settings) -> anyhow::Result<Ending> {
    if options.show_settings {
        show(settings, options.output)?;
        if options.config.is_none() && options.metadata.is_none() {
            return Ok(Ending::Done);
        }
    }
    if options.config.is_none() && options.metadata.is_none() {
        return Err(Usage("--config or --metadata is needed, or both, which finds more".into()).into());
    }
    let stores = edp_s3::stores(&settings.store);
    let configuration = options.config.as_ref().map(|at| read(at, &stores)).transpose()?;
    let table = options.podaac.as_ref().map(|at| read(at, &stores)).transpose()?;
    let mirrored = |at: &Option<Location>| at.as_ref().map(|at| stores.mirror(at).map_err(usage)).transpose();
    let (metadata, against) = (mirrored(&options.metadata)?, mirrored(&options.against)?);
    let asked: Vec<Aspect> = options.checks.iter().map(|check| check.aspect()).collect();
    let mut defects = lint(&LintSources {
        configuration: configuration.as_ref().map(named),
        metadata: metadata.as_deref(),
        table: table.as_ref().map(named),
        against: against.as_deref(),
        aspects: if asked.is_empty() { &Aspect::ALL } else { &asked },
    })
    .map_err(usage)?;
    defects.retain(|defect| !options.no_notes || defect.severity != DefectWeight::Note);
    report(&defects, options)
}

fn read(at: &Location, stores: &Stores) -> anyhow::Result<(String, Vec<u8>)> {
    Ok((at.to_string(), stores.read(at, MAX_FILE_BYTES as u64).map_err(usage)?))
}

fn named((name, bytes): &(String, Vec<u8>)) -> NamedText<'_> {
    NamedText { name, bytes }
}

/// Writes the effective settings, as lines of a settings file or as one object.
fn show(settings: &Settings, form: ReportForm) -> anyhow::Result<()> {
    let mut all = serde_json::to_value(settings)?;
    // A password may stand among the arguments of the program that prints it.
    if let Some(command) = all.pointer_mut("/queue/password_command").filter(|command| !command.is_null()) {
        *command = HIDDEN.into();
    }
    match form {
        ReportForm::Json => out_json(&serde_json::to_string_pretty(&all)?)?,
        ReportForm::Human => {
            let mut lines = Vec::new();
            for setting in Settings::reference() {
                let value = all.pointer(&format!("/{}", setting.key.replace('.', "/"))).unwrap_or(&Value::Null);
                lines.push(match (value, setting.default.as_str()) {
                    (Value::Null, "") => format!("# {} is not set\n", setting.key),
                    (Value::Null, default) => format!("# {} is not set: {default}\n", setting.key),
                    (value, _) => format!("{} = {value}\n", setting.key),
                });
            }
            out(&lines.iter().map(|text| format!("{}\n", line(text.trim_end()))).collect::<String>())?;
        }
    }
    Ok(())
}

/// Writes the defects, and returns the status that they make.
fn report(defects: &[Defect], options: &LintOptions) -> anyhow::Result<Ending> {
    let count = |severity: DefectWeight| defects.iter().filter(|defect| defect.severity == severity).count();
    let (errors, warnings, notes) =
        (count(DefectWeight::Error), count(DefectWeight::Warning), count(DefectWeight::Note));
    match options.output {
        ReportForm::Json => {
            let report = json!({ "errors": errors, "warnings": warnings, "notes": notes, "defects": defects });
            out_json(&serde_json::to_string_pretty(&report)?)?;
        }
        ReportForm::Human => {
            let mut text: String = defects.iter().map(|defect| format!("{}\n", line(&defect.to_string()))).collect();
            text += &format!("{errors} errors, {warnings} warnings, {notes} notes\n");
            out(&text)?;
        }
    }
    let failed = errors > 0 || options.strict && warnings > 0;
    Ok(if failed { Ending::Usage } else { Ending::Done })
}
