//! `plan`: from options to recipes.

use super::usage;
use anyhow::Context as _;
use clap::{Args, ValueEnum};
use edp_coordinator::plan::preparation::{PlanEnd, PlanRules, PreparedPlan, PreparedPlanError, RequestedJobs};
use edp_coordinator::plan::selection::{Selection, Window};
use edp_coordinator::plan::{DateSource, jobfile};
use edp_coordinator::ranges::table::RangeTable;
use edp_engine::metadata::groupings::Grouping;
use edp_engine::resources::{self, SharedInputs, SharedLocations};
use edp_program::settings::Settings;
use edp_protocol::location::{LocationError, without_parents};
use edp_protocol::name::GEOMETRY;
use edp_protocol::recipe::{ListForm, ListWriter, Recipe, Roots};
use edp_protocol::{ChunkShapes, FieldEncoder, Frequency, GridKind, Location, Mode};
use edp_store::{StoreError, Stores};
use edp_worker::console::{Ending, Usage, note, out_data};
use edp_worker::tasks::{date_text, production_date};
use std::collections::BTreeMap;
use std::io::{self, Write};

/// Options of the command.
#[derive(Debug, Args)]
pub(crate) struct PlanOptions {
    #[command(flatten)]
    pub(crate) sources: PlanSourceOptions,
    /// File for the task list; standard output if absent
    #[arg(long, alias = "outfile", value_name = "FILE")]
    tasks_out: Option<Location>,
}

/// The files and settings for planning; the settings supply what is not on the command line.
#[derive(Debug, Args, Default, Clone)]
pub(crate) struct PlanSourceOptions {
    /// Job file: lines like [0,'native','AVG_MON','all']
    #[arg(long, alias = "jobfile", value_name = "FILE")]
    pub(crate) jobs: Option<String>,
    #[command(flatten)]
    pub(crate) selected: Selected,
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
    /// Granules of this program: corrected (default); or those of EDP: edp-2024, or edp-2026 which makes Release 6
    #[arg(long, value_name = "MODE")]
    pub(crate) compatibility: Option<Mode>,
    /// Make granules without the variables that have no input
    #[arg(long)]
    pub(crate) allow_partial: bool,
    /// Variables and listed steps without input are errors
    #[arg(long)]
    pub(crate) strict: bool,
    /// Accept that a dataset asked for by name, or a job line, has no results at all; otherwise the exit status is 3
    /// then
    #[arg(long)]
    pub(crate) allow_empty: bool,
    /// Leave out jobs that cannot be planned
    #[arg(long)]
    pub(crate) keep_going: bool,
    /// Refuse datasets without a row in the PO.DAAC table, and attributes that still hold a placeholder
    #[arg(long)]
    pub(crate) archive: bool,
    /// Table of ranges from `edp-coordinator ranges`: they are written as valid_min and valid_max, and values outside
    /// of them are errors
    #[arg(long, value_name = "FILE")]
    pub(crate) valid_range: Option<Location>,
    /// Make the SHA-256 of every input part of the ids: from SHA256SUMS files or S3's checksums, otherwise every input
    /// is read once. Make the same choice for a whole collection
    #[arg(long)]
    pub(crate) digests: bool,
    /// Depths of latlon variables that lie at upper cell faces [default: centres]
    #[arg(long, value_enum, value_name = "WHERE")]
    pub(crate) vertical: Option<Vertical>,
    /// Cells at which rotated vectors of latlon granules get their direction [default: source]
    #[arg(long, value_enum, value_name = "WHERE")]
    pub(crate) vectors: Option<Vectors>,
    /// Encoder of the zlib streams of fields [default: that of the mode: planes for corrected]
    #[arg(long, value_name = "ENCODER")]
    pub(crate) encoder: Option<FieldEncoder>,
    /// Shapes of chunks: edp as in EDP's granules, maps for whole planes, columns for all levels of small parts
    /// [default: edp]
    #[arg(long, value_name = "SHAPES")]
    pub(crate) chunks: Option<ChunkShapes>,
    /// Times of granules: from the steps in the names of results and model_timestep, or from the headers' timeInterval,
    /// for runs that have changed the length of their steps [default: steps]
    #[arg(long, value_enum, value_name = "SOURCE")]
    pub(crate) dates: Option<DatesOption>,
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

/// The selection of granules without a job file.
#[derive(Debug, Args, Default, Clone)]
pub(crate) struct Selected {
    /// Instead of a job file: a dataset by the first part of its granules' names, or `all` (repeatable)
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    dataset: Vec<String>,
    /// With --dataset: the grids [default: native,latlon]
    #[arg(long, value_name = "GRIDS", value_delimiter = ',')]
    on: Vec<GridKind>,
    /// With --dataset: day, month, snap, time-invariant [default: all that the dataset is offered at]
    #[arg(long, value_name = "FREQUENCIES", value_delimiter = ',', value_parser = frequency)]
    frequency: Vec<Frequency>,
    /// With --dataset: no granules with centres before this day, YYYY-MM-DD
    #[arg(long, value_name = "DATE", value_parser = date)]
    from: Option<jiff::civil::Date>,
    /// With --dataset: no granules with centres after this day
    #[arg(long, value_name = "DATE", value_parser = date)]
    to: Option<jiff::civil::Date>,
}

/// The place at which eastward and northward components of latlon granules are computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Vectors {
    /// At the cell of the native grid, as EDP does and all published products have it
    Source,
    /// At the cell of the latlon grid, which differs in the last degrees at the poles
    Target,
}

/// The vertical coordinate of latlon variables at upper cell faces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Vertical {
    /// At the depths of cell centres, `Z`, with a comment, as EDP does
    Centres,
    /// At their own depths, `Zl`
    Faces,
}

/// The source of the times of granules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum DatesOption {
    /// The start of the model plus the steps in their configured length; headers that disagree are an error
    Steps,
    /// The timeInterval of the headers
    Header,
}

/// Parses a frequency of the command line.
fn frequency(text: &str) -> Result<Frequency, String> {
    let meant = match text.to_ascii_lowercase().as_str() {
        "daily" | "days" => "; did you mean day?",
        "monthly" | "months" | "mon" => "; did you mean month?",
        "snaps" | "snapshots" | "instantaneous" => "; did you mean snap?",
        _ => "",
    };
    text.parse().map_err(|_| format!("there is no frequency '{text}'; write day, month, snap or time-invariant{meant}"))
}

/// Parses a day of the command line.
fn date(text: &str) -> Result<jiff::civil::Date, String> {
    jiff::civil::Date::strptime("%Y-%m-%d", text).map_err(|_| "write a day as YYYY-MM-DD".into())
}

impl Selected {
    fn selection(&self) -> Selection {
        Selection { datasets: self.dataset.clone(), grids: self.on.clone(), frequencies: self.frequency.clone() }
    }

    /// Returns the first of these options that is given.
    fn given(&self) -> Option<&'static str> {
        let options = [
            (!self.dataset.is_empty(), "--dataset"),
            (!self.on.is_empty(), "--on"),
            (!self.frequency.is_empty(), "--frequency"),
            (self.from.is_some(), "--from"),
            (self.to.is_some(), "--to"),
        ];
        options.into_iter().find(|(given, _)| *given).map(|(_, name)| name)
    }
}

/// Runs the command `plan`: writes the task list.
pub(crate) fn execute(options: &PlanOptions, settings: &Settings) -> anyhow::Result<Ending> {
    let stores = edp_s3::stores(&settings.store);
    let PlanEnd { recipes, unanswered } = match &options.tasks_out {
        Some(path) => write_recipes(path, &stores, |list| {
            options.sources.plan(settings, &stores, |recipe| Ok(list.add(&recipe)?))
        })?,
        None => {
            let mut list = ListWriter::new(ListForm::Array, Vec::new());
            let ended = options.sources.plan(settings, &stores, |recipe| Ok(list.add(&recipe)?))?;
            out_data(&String::from_utf8_lossy(&list.end()?))?;
            ended
        }
    };
    note(&format!("{recipes} recipes"));
    Ok(if unanswered.is_empty() { Ending::Done } else { Ending::Incomplete })
}

/// Writes a file in one step, so that an incomplete one is never seen.
pub(crate) fn write_text(at: &Location, text: &str, stores: &Stores) -> anyhow::Result<()> {
    stores.write(at, text.as_bytes()).with_context(|| unwritten(at))
}

fn unwritten(at: &Location) -> String {
    format!("{at}: the task list cannot be written")
}

/// Writes a task list in one step, so that an incomplete one is never seen. Its form is that of its name, see
/// [`ListForm::of`]. `fill` adds the recipes, one after the other; nothing is written if it fails.
pub(crate) fn write_recipes<T>(
    at: &Location,
    stores: &Stores,
    fill: impl FnOnce(&mut ListWriter<&mut dyn Write>) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let written = stores.write_list(at, |out| {
        let mut list = ListWriter::new(ListForm::of(&at.to_string()), out);
        let filled = fill(&mut list)?;
        list.end()?;
        Ok(filled)
    });
    written.map_err(|error: anyhow::Error| match error.is::<io::Error>() || error.is::<StoreError>() {
        true => error.context(unwritten(at)),
        false => error,
    })
}

/// Loads the things that recipes share, and reports warnings about them.
fn load(locations: SharedLocations, stores: &Stores) -> anyhow::Result<SharedInputs> {
    let (shared, warnings) = SharedInputs::load(locations, stores).map_err(usage)?;
    warnings.iter().for_each(|warning| note(&format!("warning: {warning}")));
    Ok(shared)
}

impl PlanSourceOptions {
    /// Returns the option, else the setting, else an error that names the option.
    fn needed(option: &Option<String>, setting: &Option<String>, name: &str) -> anyhow::Result<String> {
        option.clone().or_else(|| setting.clone()).ok_or_else(|| Usage(format!("--{name} is needed")).into())
    }

    /// Returns the mode that is asked for, if any.
    pub(crate) fn mode(&self, settings: &Settings) -> anyhow::Result<Option<Mode>> {
        match (&self.compatibility, &settings.plan.compatibility) {
            (Some(mode), _) => Ok(Some(*mode)),
            (None, Some(text)) => text.parse().map(Some).map_err(usage),
            (None, None) => Ok(None),
        }
    }

    /// Returns the date of production: that of the option, else that of SOURCE_DATE_EPOCH, else `None`.
    pub(crate) fn date(&self) -> anyhow::Result<Option<String>> {
        production_date(self.production_date.as_deref()).map_err(usage)
    }

    /// Reports that some options of EDP are not used, and what to do instead.
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

    /// Refuses options that have their effect when a list is planned, if a list is given.
    pub(crate) fn refuse_beside_list(&self, list: &Location) -> anyhow::Result<()> {
        let options = [
            (self.jobs.is_some(), "--jobs"),
            (self.source.is_some(), "--source"),
            (self.destination.is_some(), "--destination"),
            (self.archive, "--archive"),
            (self.valid_range.is_some(), "--valid-range"),
            (self.vertical.is_some(), "--vertical"),
            (self.vectors.is_some(), "--vectors"),
            (self.dates.is_some(), "--dates"),
            (self.encoder.is_some(), "--encoder"),
            (self.chunks.is_some(), "--chunks"),
            (self.allow_empty, "--allow-empty"),
            (self.digests, "--digests"),
        ];
        let given = options.into_iter().find(|(given, _)| *given).map(|(_, name)| name);
        match self.selected.given().or(given) {
            None => Ok(()),
            Some(option) => {
                Err(Usage(format!("{list}: {option} has its effect when a list is planned; leave one of them out"))
                    .into())
            }
        }
    }

    /// Refuses options with which a mode of EDP would give other granules than EDP.
    fn refuse_in_mode(&self, mode: Mode) -> anyhow::Result<()> {
        let options = [
            (self.valid_range.is_some(), "--valid-range"),
            (self.vertical == Some(Vertical::Faces), "--vertical faces"),
            (self.vectors == Some(Vectors::Target), "--vectors target"),
            (self.dates == Some(DatesOption::Header), "--dates header"),
            (self.encoder == Some(FieldEncoder::Planes), "--encoder planes"),
            (self.chunks == Some(ChunkShapes::Maps), "--chunks maps"),
            (self.chunks == Some(ChunkShapes::Columns), "--chunks columns"),
        ];
        let given = options.into_iter().find(|(given, _)| *given && mode != Mode::Corrected);
        let option = given.map(|(_, name)| name);
        let text =
            |option| format!("{option} is not for {mode}, whose granules are as EDP makes them; leave one of them out");
        option.map_or(Ok(()), |option| Err(Usage(text(option)).into()))
    }

    /// Returns the jobs of a job file or a selection.
    fn requested(&self, settings: &Settings, shared: &SharedInputs, stores: &Stores) -> anyhow::Result<RequestedJobs> {
        let selected = &self.selected;
        if selected.dataset.is_empty() {
            let path = Self::needed(&self.jobs, &settings.plan.jobs, "jobs (or --dataset)")?;
            let at = path.parse().map_err(|e: LocationError| usage(e))?;
            let text = resources::read_list(&at, stores).map_err(usage)?;
            let text = String::from_utf8(text).map_err(|error| {
                let line = error.as_bytes()[..error.utf8_error().valid_up_to()].split(|&b| b == b'\n').count();
                Usage(format!("{path}: line {line}: is not UTF-8 text: save it as UTF-8"))
            })?;
            let (jobs, notes) = jobfile::parse(&path, &text, self.keep_going).map_err(usage)?;
            notes.iter().for_each(|n| note(&n.to_string()));
            if jobs.is_empty() {
                return Err(Usage(format!(
                    "{path}: there is no job in it; write lines like [0,'native','AVG_MON','all']"
                ))
                .into());
            }
            return Ok(RequestedJobs { job_file: path, jobs, ..RequestedJobs::default() });
        }
        let window = Window::new(selected.from, selected.to).map_err(usage)?;
        let selection = selected.selection();
        let jobs = selection.jobs(&shared.metadata.groupings).map_err(usage)?;
        Ok(RequestedJobs { job_file: String::new(), selection, jobs, window })
    }

    /// Refuses a job file together with a selection.
    fn refuse_two_selections(&self) -> anyhow::Result<()> {
        let text = match (&self.jobs, self.selected.given()) {
            (Some(_), Some(option)) => format!("--jobs and {option}: a job file says it all; leave one of them out"),
            (None, Some(option)) if self.selected.dataset.is_empty() => {
                format!("{option} goes with --dataset: say which, or --dataset all")
            }
            _ => return Ok(()),
        };
        Err(Usage(text).into())
    }

    /// Plans by a job file or a selection, passes the recipes to `take`, and reports requests that have no results at
    /// all. After an error, the recipes that were passed on are void.
    pub(crate) fn plan(
        &self,
        settings: &Settings,
        stores: &Stores,
        take: impl FnMut(Recipe) -> anyhow::Result<()>,
    ) -> anyhow::Result<PlanEnd> {
        let planned = self.prepare(settings, stores)?.plan(|_| {}, |n| note(&n.to_string()), take);
        let planned = planned.map_err(|error: anyhow::Error| match error.downcast::<PreparedPlanError>() {
            Ok(error) => usage(error),
            Err(error) => error,
        })?;
        if let [first, rest @ ..] = &planned.unanswered[..] {
            let all = rest.iter().fold(first.clone(), |all, one| format!("{all}, {one}"));
            note(&format!("error: there are no results at any step for {all}; --allow-empty ends with 0 all the same"));
        }
        Ok(planned)
    }

    /// Plans as [`PlanSourceOptions::plan`] does, and returns all recipes.
    pub(crate) fn plan_all(&self, settings: &Settings, stores: &Stores) -> anyhow::Result<(Vec<Recipe>, PlanEnd)> {
        let mut recipes = Vec::new();
        let ended = self.plan(settings, stores, |recipe| {
            recipes.push(recipe);
            Ok(())
        })?;
        Ok((recipes, ended))
    }

    /// Refuses missing options, naming all of them at once.
    fn refuse_missing(&self, settings: &Settings) -> anyhow::Result<()> {
        let plan = &settings.plan;
        let is_selected = !self.selected.dataset.is_empty();
        let options = [
            (is_selected || self.jobs.is_some() || plan.jobs.is_some(), "--jobs (or --dataset)"),
            (self.config.is_some() || plan.config.is_some(), "--config"),
            (self.source.is_some() || plan.source.is_some(), "--source"),
            (self.destination.is_some() || plan.destination.is_some(), "--destination"),
            (self.grid.is_some() || plan.grid.is_some(), "--grid"),
            (self.metadata.is_some() || plan.metadata.is_some(), "--metadata"),
        ];
        let missing: Vec<&str> = options.into_iter().filter(|(given, _)| !given).map(|(_, name)| name).collect();
        match &missing[..] {
            [] => Ok(()),
            [one] => Err(Usage(format!("{one} is needed")).into()),
            [first @ .., last] => Err(Usage(format!("{} and {last} are needed", first.join(", "))).into()),
        }
    }

    /// Reads everything that a plan needs, except the results.
    pub(crate) fn prepare(&self, settings: &Settings, stores: &Stores) -> anyhow::Result<PreparedPlan> {
        self.refuse_two_selections()?;
        self.refuse_missing(settings)?;
        let mode = self.mode(settings)?.unwrap_or_default();
        let source = plain(Self::needed(&self.source, &settings.plan.source, "source")?, mode)?;
        let destination = plain(Self::needed(&self.destination, &settings.plan.destination, "destination")?, mode)?;
        self.refuse_in_mode(mode)?;
        let ranges = match &self.valid_range {
            Some(at) => Some((at, RangeTable::read(at, stores).map_err(usage)?)),
            None => None,
        };
        self.explain_unused();
        let locations = SharedLocations {
            configuration: plain(Self::needed(&self.config, &settings.plan.config, "config")?, mode)?,
            grid: plain(Self::needed(&self.grid, &settings.plan.grid, "grid")?, mode)?,
            metadata: plain(Self::needed(&self.metadata, &settings.plan.metadata, "metadata")?, mode)?,
            factors: (self.mapping_factors.clone().or_else(|| settings.plan.mapping_factors.clone()))
                .map(|text| plain(text, mode))
                .transpose()?,
        };
        let mut shared = load(locations, stores)?;
        destination.parse::<Location>().map_err(usage)?;
        if !self.selected.dataset.is_empty() {
            add_geometry(&self.selected.selection(), &mut shared.metadata.groupings);
        }
        let requested = self.requested(settings, &shared, stores)?;
        let rules = PlanRules {
            mode,
            dates: match self.dates {
                Some(DatesOption::Header) => DateSource::Header,
                Some(DatesOption::Steps) | None => DateSource::Steps,
            },
            production_date: self.date()?.unwrap_or_else(|| date_text(jiff::Timestamp::now())),
            keep_going: self.keep_going,
            strict: self.strict,
            allow_partial: self.allow_partial,
            allow_empty: self.allow_empty,
            archive: self.archive,
            depths_of_faces: self.vertical == Some(Vertical::Faces),
            vectors_at_target: self.vectors == Some(Vectors::Target),
            encoder: self.encoder,
            chunks: self.chunks.unwrap_or_default(),
        };
        let mut prepared = PreparedPlan::new(rules, requested, Roots { source, destination }, shared, stores);
        if let Some((at, table)) = ranges {
            prepared = prepared.with_ranges(at.to_string(), table);
        }
        Ok(if self.digests { prepared.with_digests() } else { prepared })
    }
}

/// Resolves `..` in a location, since workers at a queue would not follow it. Lists of EDP's modes have to be identical
/// to EDP's, so their paths are resolved only when recipes are sent to a queue.
fn plain(text: String, mode: Mode) -> anyhow::Result<String> {
    if mode.is_edp() {
        return Ok(text);
    }
    let Ok(Location::Local(path)) = text.parse::<Location>() else { return Ok(text) };
    match without_parents(&path) {
        Ok(resolved) if resolved == path => Ok(text),
        Ok(resolved) => Ok(resolved.display().to_string()),
        Err(error) => Err(Usage(format!("{text}: what its last '..' follows cannot be found: {error}")).into()),
    }
}

/// Adds the geometry to the datasets that can be selected by name: no release has it among its groupings.
fn add_geometry(selection: &Selection, groupings: &mut BTreeMap<GridKind, Vec<Grouping>>) {
    if !selection.datasets.iter().any(|name| name.trim().eq_ignore_ascii_case(GEOMETRY)) {
        return;
    }
    for grid in [GridKind::Native, GridKind::Latlon] {
        let groupings = groupings.entry(grid).or_default();
        if !groupings.iter().any(|grouping| grouping.filename == GEOMETRY) {
            groupings.push(Grouping {
                name: "grid geometry".into(),
                fields: vec!["geometry".into()],
                filename: GEOMETRY.into(),
                dimension: "3D".into(),
                time_invariant: true,
                ..Grouping::default()
            });
        }
    }
}
