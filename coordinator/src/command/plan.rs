//! `plan`: from options to recipes.

use super::terminal::note;
use super::{Ending, Usage, usage};
use anyhow::Context as _;
use clap::Args;
use edp_coordinator::plan::inventory::Inventory;
use edp_coordinator::plan::{self, Planned, Request, jobfile};
use edp_protocol::location::LocationError;
use edp_protocol::recipe::{self, Digests, Recipe, Roots};
use edp_protocol::settings::Settings;
use edp_protocol::{Location, Mode};
use edp_worker::metadata::configuration::Configuration;
use edp_worker::metadata::source::Metadata;
use edp_worker::resources;
use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// Options of the command.
#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    pub(crate) sources: Sources,
    /// Where the task list goes; standard output if absent
    #[arg(long, alias = "outfile", value_name = "FILE")]
    tasks_out: Option<PathBuf>,
}

/// What to plan with; settings give what is not on the command line.
#[derive(Debug, Args, Default, Clone)]
pub(crate) struct Sources {
    /// Job file: lines like [0,'native','AVG_MON','all']
    #[arg(long, alias = "jobfile", value_name = "FILE")]
    pub(crate) jobs: Option<String>,
    /// Configuration (YAML)
    #[arg(long, aliases = ["ecco_cfg_loc", "cfgfile"], value_name = "FILE")]
    pub(crate) config: Option<String>,
    /// Root of the model results
    #[arg(long, alias = "ecco_source_root", value_name = "LOCATION")]
    pub(crate) source: Option<String>,
    /// Root of the granules
    #[arg(long, alias = "ecco_destination_root", value_name = "LOCATION")]
    pub(crate) destination: Option<String>,
    /// Grid directory
    #[arg(long, alias = "ecco_grid_loc", value_name = "LOCATION")]
    pub(crate) grid: Option<String>,
    /// Mapping factors, for latlon granules
    #[arg(long, alias = "ecco_mapping_factors_loc", value_name = "LOCATION")]
    pub(crate) mapping_factors: Option<String>,
    /// Metadata directory
    #[arg(long, alias = "ecco_metadata_loc", value_name = "LOCATION")]
    pub(crate) metadata: Option<String>,
    /// Whose results: corrected (default), or edp-2024 for comparison with old collections
    #[arg(long, value_name = "MODE")]
    pub(crate) compatibility: Option<Mode>,
    /// Make granules without the variables that have no input
    #[arg(long)]
    pub(crate) allow_partial: bool,
    /// Variables and listed steps without input are errors
    #[arg(long)]
    pub(crate) strict: bool,
    /// Leave out jobs that cannot be planned
    #[arg(long)]
    pub(crate) keep_going: bool,
    /// Date written into every granule, YYYY-MM-DDThh:mm:ssZ [default: SOURCE_DATE_EPOCH, else now]
    #[arg(long, value_name = "DATE")]
    pub(crate) production_date: Option<String>,
    /// Has no meaning here: give a profile or credentials by the AWS environment variables
    #[arg(long, hide = true, value_name = "SCRIPT")]
    pub(crate) keygen: Option<String>,
    /// Has no meaning here: nothing is copied to a working directory
    #[arg(long, hide = true, value_name = "DIR")]
    pub(crate) workingdir: Option<String>,
    /// Has no meaning here: use --slots
    #[arg(long, hide = true, value_name = "N")]
    pub(crate) nproc: Option<String>,
}

/// Runs the command.
pub(crate) fn execute(options: &Options, settings: &Settings) -> anyhow::Result<Ending> {
    let recipes = options.sources.plan(settings)?;
    let text = recipe::format_list(&recipes)?;
    match &options.tasks_out {
        Some(path) => write_list(path, &text)?,
        None => std::io::stdout().write_all(text.as_bytes()).context("writing the task list to standard output")?,
    }
    note(&format!("{} recipes", recipes.len()));
    Ok(Ending::Done)
}

/// Writes a task list so that nobody ever sees half of one.
pub(crate) fn write_list(path: &Path, text: &str) -> anyhow::Result<()> {
    let mut part = path.as_os_str().to_owned();
    part.push(".part");
    std::fs::write(&part, text)
        .and_then(|()| std::fs::rename(&part, path))
        .inspect_err(|_| drop(std::fs::remove_file(&part)))
        .with_context(|| format!("{}: the task list cannot be written", path.display()))
}

/// Where the things are that recipes share, as the user wrote them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Locations {
    pub(crate) configuration: String,
    pub(crate) grid: String,
    pub(crate) metadata: String,
    pub(crate) factors: Option<String>,
}

/// What recipes share: read, and with the digests of it all.
pub(crate) struct Shared {
    pub(crate) locations: Locations,
    pub(crate) configuration: Configuration,
    pub(crate) metadata: Metadata,
    pub(crate) digests: Digests,
}

impl Shared {
    /// Loads what recipes share and reports what is odd about it.
    pub(crate) fn load(locations: Locations) -> anyhow::Result<Shared> {
        let config = &locations.configuration;
        let bytes = resources::read(&local(config)?).map_err(usage)?;
        let (configuration, warnings) = Configuration::parse(config, &bytes).map_err(usage)?;
        let directory = local(&locations.metadata)?;
        let (metadata, more) = Metadata::load(&directory).map_err(usage)?;
        let (_, table) = resources::load_table(&directory, &configuration).map_err(usage)?;
        for warning in warnings.into_iter().chain(more).chain(table) {
            note(&format!("warning: {warning}"));
        }
        let digests = Digests {
            configuration: resources::configuration_digest(config).map_err(usage)?,
            metadata: resources::metadata_digest(&locations.metadata).map_err(usage)?,
            grid: resources::grid_digest(&locations.grid).map_err(usage)?,
            factors: locations.factors.as_deref().map(resources::factors_digest).transpose().map_err(usage)?,
        };
        Ok(Shared { locations, configuration, metadata, digests })
    }

    /// Units of time as the metadata have them.
    pub(crate) fn edp_time_units(&self) -> Option<&str> {
        self.metadata.time_coordinates.find("time").and_then(|entry| entry.text("units"))
    }
}

impl Sources {
    /// The option, else the setting, else an error naming the option.
    fn needed(option: &Option<String>, setting: &Option<String>, name: &str) -> anyhow::Result<String> {
        option.clone().or_else(|| setting.clone()).ok_or_else(|| Usage(format!("--{name} is needed")).into())
    }

    /// The mode asked for, if any.
    pub(crate) fn mode(&self, settings: &Settings) -> anyhow::Result<Option<Mode>> {
        match (&self.compatibility, &settings.plan.compatibility) {
            (Some(mode), _) => Ok(Some(*mode)),
            (None, Some(text)) => text.parse().map(Some).map_err(usage),
            (None, None) => Ok(None),
        }
    }

    /// The production date: given, or by SOURCE_DATE_EPOCH, or none.
    pub(crate) fn date(&self) -> anyhow::Result<Option<String>> {
        let given = |text: &str| {
            let time: Result<jiff::Timestamp, _> = text.parse();
            time.map_err(|e| Usage(format!("--production-date '{text}': {e}; write YYYY-MM-DDThh:mm:ssZ")))
        };
        let epoch = |text: String| {
            let seconds = text.trim().parse().ok().and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
            seconds.ok_or_else(|| Usage(format!("SOURCE_DATE_EPOCH '{text}' is no number of seconds since 1970")))
        };
        let time = match &self.production_date {
            Some(text) => Some(given(text)?),
            None => std::env::var("SOURCE_DATE_EPOCH").ok().map(epoch).transpose()?,
        };
        Ok(time.map(date_text))
    }

    /// Says of options that EDP has and that mean nothing here what to do instead.
    pub(crate) fn explain_unused(&self) {
        for (option, advice) in [
            (&self.keygen, "--keygen is not used: credentials come from the usual AWS places"),
            (&self.workingdir, "--workingdir is not used: nothing is copied"),
            (&self.nproc, "--nproc is not used: say --slots N to `run`"),
        ] {
            if option.is_some() {
                note(advice);
            }
        }
    }

    /// Plans by a job file.
    pub(crate) fn plan(&self, settings: &Settings) -> anyhow::Result<Vec<Recipe>> {
        let jobs = Self::needed(&self.jobs, &settings.plan.jobs, "jobs")?;
        let source = Self::needed(&self.source, &settings.plan.source, "source")?;
        let destination = Self::needed(&self.destination, &settings.plan.destination, "destination")?;
        let mode = self.mode(settings)?.unwrap_or_default();
        self.explain_unused();
        let shared = Shared::load(Locations {
            configuration: Self::needed(&self.config, &settings.plan.config, "config")?,
            grid: Self::needed(&self.grid, &settings.plan.grid, "grid")?,
            metadata: Self::needed(&self.metadata, &settings.plan.metadata, "metadata")?,
            factors: self.mapping_factors.clone().or_else(|| settings.plan.mapping_factors.clone()),
        })?;
        destination.parse::<Location>().map_err(usage)?;
        let text = resources::read(&local(&jobs)?).map_err(usage)?;
        let text = String::from_utf8(text).map_err(|error| {
            let line = error.as_bytes()[..error.utf8_error().valid_up_to()].split(|&b| b == b'\n').count();
            Usage(format!("{jobs}: line {line}: is not UTF-8 text: save it as UTF-8"))
        })?;
        let (parsed, notes) = jobfile::parse(&jobs, &text, self.keep_going).map_err(usage)?;
        notes.iter().for_each(|n| note(&n.to_string()));
        let (inventory, notes) =
            Inventory::scan(&local(&source)?, &shared.configuration.ecco_version).map_err(usage)?;
        notes.iter().for_each(|n| note(&n.to_string()));
        let production_date = self.date()?.unwrap_or_else(|| date_text(jiff::Timestamp::now()));
        let mut options = BTreeMap::new();
        if self.allow_partial {
            options.insert("allow_partial".to_owned(), true.into());
        }
        let locations = shared.locations.clone();
        let request = Request {
            job_file: &jobs,
            jobs: parsed,
            configuration: &shared.configuration,
            groupings: &shared.metadata.groupings,
            inventory: &inventory,
            roots: Roots { source, destination },
            configuration_location: locations.configuration,
            grid_location: locations.grid,
            factors_location: locations.factors,
            metadata_location: locations.metadata,
            digests: shared.digests.clone(),
            options,
            mode,
            edp_time_units: shared.edp_time_units(),
            production_date,
            keep_going: self.keep_going,
            strict: self.strict,
            allow_partial: self.allow_partial,
        };
        match plan::plan(&request) {
            Ok(Planned { recipes, notes }) => {
                notes.iter().for_each(|n| note(&n.to_string()));
                Ok(recipes)
            }
            Err(error) => {
                error.notes.iter().for_each(|n| note(&n.to_string()));
                Err(usage(error))
            }
        }
    }
}

/// A time as production dates are written: whole seconds, UTC.
pub(crate) fn date_text(time: jiff::Timestamp) -> String {
    jiff::Timestamp::from_second(time.as_second()).unwrap_or(time).to_string()
}

/// A local path, or an error that the user can mend.
pub(crate) fn local(text: &str) -> anyhow::Result<PathBuf> {
    let location = text.parse::<Location>().map_err(usage)?;
    let path = location.local().map_err(|e: LocationError| usage(e))?;
    Ok(path.to_owned())
}
