//! `status`: the state of a production, or of one granule.

use super::cluster::{broker, ledger_path};
use super::usage;
use anyhow::Context as _;
use clap::Args;
use edp_production::ledger::{self, Granule, LedgerError, Overview, RecipeState, UnfinishedRecipe, View};
use edp_production::monitor::CoordinatorStatus;
use edp_program::http_service::{self, Health};
use edp_program::settings::Settings;
use edp_protocol::message::chain;
use edp_protocol::name::base_name;
use edp_protocol::text;
use edp_queue::topology::ProductionName;
use edp_queue::{Link, Queue, QueueDepth, QueueError, QueueOptions};
use edp_worker::console::{self, Ending, ReportForm, Unreachable, Usage, out, out_anew, out_json};
use serde_json::{Value, json};
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Options of the command.
#[derive(Debug, Args)]
pub(crate) struct StatusOptions {
    /// One granule: its name, path or recipe id, or a unique part of them
    #[arg(value_name = "GRANULE")]
    granule: Option<String>,
    /// Name of the production
    #[arg(long, value_name = "NAME", default_value = "default")]
    production: ProductionName,
    /// Its ledger, or a copy of it [default: ./NAME.ledger]
    #[arg(long, value_name = "FILE")]
    ledger: Option<PathBuf>,
    /// Ask the coordinator that answers at this address (--listen) instead of reading its ledger
    #[arg(long, value_name = "HOST:PORT", conflicts_with_all = ["granule", "ledger", "queue", "watch", "production"])]
    address: Option<String>,
    /// Also show the numbers of messages in the queues of this broker
    #[arg(long, value_name = "URL", num_args = 0..=1, default_missing_value = "", conflicts_with = "granule")]
    queue: Option<String>,
    /// Repeat every two seconds, until all recipes are settled
    #[arg(long, conflicts_with = "granule")]
    watch: bool,
    /// Number of problems that are shown
    #[arg(long, value_name = "N", default_value_t = 10)]
    problems: usize,
    /// Form of the report
    #[arg(long, value_enum, default_value_t)]
    output: ReportForm,
}

/// Time between two readings of the ledger, and the multiple of a reading's duration that passes at least: a large
/// ledger must not be read all the time.
const PAUSE: Duration = Duration::from_secs(2);
const LEISURE: u32 = 10;

/// Time that the broker may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Number of workers that are shown to people.
const WORKERS: usize = 20;

/// Number of matches of an ambiguous text that are shown.
const NAMED: usize = 5;

/// Asks a running coordinator, and prints its answer. One that cannot do its work ends this like one that is silent.
fn ask(address: &str, form: ReportForm) -> anyhow::Result<Ending> {
    let runtime = console::runtime().context("starting the runtime")?;
    let asked = runtime.block_on(http_service::ask(address, PATIENCE));
    console::shut_down(runtime);
    let Health { is_healthy, json } = asked.map_err(|error| Unreachable(error.to_string()))?;
    let status = serde_json::from_str::<CoordinatorStatus>(&json);
    let status = status.map_err(|_| Usage(format!("{address}: what answers there is no coordinator")))?;
    match form {
        ReportForm::Json => out_json(&serde_json::to_string_pretty(&status)?)?,
        ReportForm::Human => out(&status.to_string())?,
    }
    Ok(if is_healthy { Ending::Done } else { Ending::Unreachable })
}

/// Runs the command `status`: prints the state of a production from its ledger, or as its coordinator tells it.
pub(crate) fn execute(options: &StatusOptions, settings: &Settings) -> anyhow::Result<Ending> {
    if let Some(address) = &options.address {
        return ask(address, options.output);
    }
    let path = ledger_path(options.ledger.as_deref(), &options.production);
    let view = View::open(&path).map_err(usage)?;
    same_production(&view, &path, &options.production)?;
    if let Some(text) = &options.granule {
        let granule = view.granule(find(&view, text)?)?;
        match options.output {
            ReportForm::Json => out_json(&serde_json::to_string_pretty(&granule_json(&granule))?)?,
            ReportForm::Human => out(&describe(&granule))?,
        }
        return Ok(Ending::Done);
    }
    let queue = broker(options.queue.as_deref(), &options.production, settings)?;
    let redraw = options.watch && options.output == ReportForm::Human && std::io::stdout().is_terminal();
    let mut before = None;
    loop {
        let begun = Instant::now();
        let now = ledger::now();
        let overview = view.overview(now, options.problems)?;
        let took = begun.elapsed();
        let depths = queue.clone().map(depths).transpose()?;
        let text = match options.output {
            ReportForm::Json if options.watch => overview_json(&overview, depths.as_deref(), now).to_string(),
            ReportForm::Json => serde_json::to_string_pretty(&overview_json(&overview, depths.as_deref(), now))?,
            ReportForm::Human if options.watch && !redraw => counts(&overview, now) + "\n",
            ReportForm::Human => table(&overview, depths.as_deref(), now),
        };
        // A new line for each change, not for each reading.
        let is_new = before.as_ref() != Some(&overview.states);
        match options.output {
            ReportForm::Human if redraw => out_anew(&text)?,
            ReportForm::Human if is_new => out(&text)?,
            ReportForm::Json if is_new => out_json(&text)?,
            ReportForm::Human | ReportForm::Json => {}
        }
        let open = overview.count(|state| !state.is_settled());
        if !options.watch {
            return Ok(Ending::Done);
        }
        if open == 0 || overview.given_up.is_some() {
            let whole = open == 0 && overview.count(|state| state != RecipeState::Done) == 0;
            return Ok(if whole { Ending::Done } else { Ending::Incomplete });
        }
        before = Some(overview.states);
        std::thread::sleep(PAUSE.max(took * LEISURE));
    }
}

/// Refuses the ledger of another production.
pub(crate) fn same_production(view: &View, path: &Path, production: &ProductionName) -> anyhow::Result<()> {
    let found = view.fact("production")?.unwrap_or_default();
    let wanted = production.to_string();
    // Without a name, any production is meant.
    if found != wanted && wanted != "default" {
        return Err(usage(LedgerError::Production { path: path.into(), found, wanted }));
    }
    Ok(())
}

/// Returns the number of the one recipe that a text denotes.
pub(crate) fn find(view: &View, text: &str) -> anyhow::Result<i64> {
    match &view.find(text)?[..] {
        [number] => Ok(*number),
        [] => {
            let near = view.near(text)?;
            let like = if near.is_empty() { String::new() } else { format!("; names like it: {}", near.join(", ")) };
            Err(Usage(format!("'{text}': no granule or recipe of this ledger{like}")).into())
        }
        several => {
            let names =
                several.iter().take(NAMED).map(|number| view.granule(*number)).collect::<Result<Vec<_>, _>>()?;
            let names: Vec<_> = names.iter().map(|one| base_name(&one.settled.granule)).collect();
            let more = if several.len() > NAMED { ", ..." } else { "" };
            let text =
                format!("'{text}': {} granules have it in their names: {}{more}", several.len(), names.join(", "));
            Err(Usage(text).into())
        }
    }
}

type QueueDepths = Vec<(Queue, Result<QueueDepth, QueueError>)>;

/// Returns the numbers of messages and consumers of all queues.
fn depths(mut queue: QueueOptions) -> anyhow::Result<QueueDepths> {
    queue.patience = PATIENCE;
    let runtime = console::runtime().context("starting the runtime")?;
    let depths = runtime.block_on(async {
        let link = Link::amqp(queue).context("starting the link to the queue")?;
        let mut depths = Vec::new();
        for queue in Queue::ALL {
            depths.push((queue, link.depth(queue).await));
        }
        link.close().await;
        anyhow::Ok(depths)
    });
    console::shut_down(runtime);
    depths
}

/// Writes a time in ms since 1970 as ISO 8601.
fn time(at: i64) -> String {
    let at = jiff::Timestamp::from_millisecond(at).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Estimates the time at which all recipes will be settled, at the present pace.
fn estimate(overview: &Overview, now: i64) -> Option<i64> {
    let open = overview.count(|state| !state.is_settled());
    let pace = overview.pace.filter(|pace| *pace > 0.0 && open > 0)?;
    Some(now.saturating_add((open as f64 / pace * 1000.0) as i64))
}

/// Returns the counts in one line.
fn counts(overview: &Overview, now: i64) -> String {
    let (settled, all) = (overview.count(RecipeState::is_settled), overview.count(|_| true));
    let states = overview.states.iter().map(|(state, count)| format!("{count} {}", state.as_str()));
    let mut text = format!("{settled} of {all} settled: {}", states.collect::<Vec<_>>().join(", "));
    if let Some(pace) = overview.pace {
        text += &format!("; {:.0} granules an hour", 3600.0 * pace);
    }
    if let Some(end) = estimate(overview, now) {
        text += &format!(", all by {}", time(end));
    }
    text
}

fn table(overview: &Overview, depths: Option<&[(Queue, Result<QueueDepth, QueueError>)]>, now: i64) -> String {
    let mut lines = vec![format!("production {}, begun {}", overview.production, time(overview.begun))];
    lines.push(counts(overview, now));
    if let Some(reason) = &overview.given_up {
        lines.push(format!("given up: {reason}"));
    }
    for (queue, depth) in depths.into_iter().flatten() {
        lines.push(match depth {
            Ok(depth) => format!("queue {queue}: {} messages, {} consumers", depth.messages, depth.consumers),
            Err(error) => format!("queue {queue}: {}", chain(error)),
        });
    }
    let width = overview.datasets.iter().map(|one| one.name.len()).max().unwrap_or(0).max("dataset".len());
    let row = |name: &str, cell: &dyn Fn(RecipeState) -> String| {
        let cells: String = RecipeState::ALL.into_iter().map(|state| format!("  {:>9}", cell(state))).collect();
        format!("{name:<width$}{cells}")
    };
    lines.extend([String::new(), row("dataset", &|state| state.as_str().to_owned())]);
    for dataset in &overview.datasets {
        let count = |state| dataset.states.get(&state).copied().unwrap_or_default().to_string();
        lines.push(row(&dataset.name, &count));
    }
    if !overview.workers.is_empty() {
        let width = overview.workers.iter().map(|one| one.name.len()).max().unwrap_or(0).max("worker".len());
        let title = format!(
            "{:<width$}  {:<20}  {:>7}  {:>7}  {:>9}",
            "worker", "last heard of", "at work", "done", "not done"
        );
        lines.extend([String::new(), title]);
        for worker in overview.workers.iter().take(WORKERS) {
            let (name, last) = (&worker.name, time(worker.last));
            let [at_work, done, failed] = [worker.at_work, worker.done, worker.failed];
            lines.push(format!("{name:<width$}  {last:<20}  {at_work:>7}  {done:>7}  {failed:>9}"));
        }
    }
    if overview.workers.len() > WORKERS {
        lines.push(format!("and {} that were heard of before", overview.workers.len() - WORKERS));
    }
    if !overview.problems.is_empty() || !overview.delayed.is_empty() {
        lines.push(String::new());
    }
    for problem in &overview.problems {
        lines.push(format!("{}: {}: {}", problem.state.as_str(), base_name(&problem.granule), problem.reason));
    }
    for one in &overview.delayed {
        lines.push(format!("to be sent again: {}: {}", base_name(&one.granule), one.reason));
    }
    let bad = overview.count(|state| state.is_settled() && state != RecipeState::Done);
    if bad > overview.problems.len() as u64 {
        lines.push(format!("and {} more", bad - overview.problems.len() as u64));
    }
    page(&lines)
}

/// Joins lines, made safe so that no text from outside can imitate a line of its own.
fn page(lines: &[String]) -> String {
    lines.iter().map(|line| text::line(line).into_owned() + "\n").collect()
}

/// Returns the counts of all states.
fn states_json(states: &std::collections::BTreeMap<RecipeState, u64>) -> Value {
    let count = |state: RecipeState| (word(state), json!(states.get(&state).copied().unwrap_or_default()));
    Value::Object(RecipeState::ALL.into_iter().map(count).collect())
}

/// Returns a state as a key of JSON.
fn word(state: RecipeState) -> String {
    state.as_str().replace(' ', "_")
}

fn overview_json(overview: &Overview, depths: Option<&[(Queue, Result<QueueDepth, QueueError>)]>, now: i64) -> Value {
    let datasets = overview.datasets.iter().map(|one| json!({"name": one.name, "states": states_json(&one.states)}));
    let workers = overview.workers.iter().map(|one| {
        json!({
            "name": one.name, "build": one.build, "first": time(one.first), "last": time(one.last),
            "at_work": one.at_work, "done": one.done, "not_done": one.failed,
        })
    });
    let problems = |problems: &[UnfinishedRecipe]| -> Value {
        let problem =
            |one: &UnfinishedRecipe| json!({"granule": one.granule, "state": word(one.state), "reason": one.reason});
        problems.iter().map(problem).collect()
    };
    let mut value = json!({
        "production": overview.production,
        "begun": time(overview.begun),
        "now": time(now),
        "recipes": overview.count(|_| true),
        "settled": overview.count(RecipeState::is_settled),
        "states": states_json(&overview.states),
        "given_up": overview.given_up,
        "build": overview.build,
        "granules_per_hour": overview.pace.map(|pace| 3600.0 * pace),
        "end_estimate": estimate(overview, now).map(time),
        "datasets": datasets.collect::<Value>(),
        "workers": workers.collect::<Value>(),
        "problems": problems(&overview.problems),
        "delayed": problems(&overview.delayed),
    });
    if let (Some(depths), Some(object)) = (depths, value.as_object_mut()) {
        let depth = |(queue, depth): &(Queue, Result<QueueDepth, QueueError>)| {
            let depth = match depth {
                Ok(depth) => json!({"messages": depth.messages, "consumers": depth.consumers}),
                Err(error) => json!({"error": chain(error)}),
            };
            (queue.to_string(), depth)
        };
        object.insert("queues".into(), Value::Object(depths.iter().map(depth).collect()));
    }
    value
}

fn granule_json(granule: &Granule) -> Value {
    let Granule { settled, due, alone, recipe, attempts, made } = granule;
    let attempts = attempts.iter().map(|one| {
        json!({
            "attempt": one.attempt, "worker": one.worker, "build": one.build, "started": time(one.started),
            "ended": one.ended.map(time), "lost": one.lost.map(time), "outcome": one.outcome, "reason": one.reason,
        })
    });
    json!({
        "granule": settled.granule,
        "id": settled.id,
        "state": word(settled.state),
        "reason": settled.reason,
        "due": (!settled.state.is_settled()).then(|| time(*due)),
        "alone": alone,
        "already": settled.made.already,
        "bytes": settled.made.bytes,
        "sha256": settled.made.sha256,
        "seconds": settled.made.seconds,
        "warnings": settled.made.warnings,
        "attempts": attempts.collect::<Value>(),
        "location": made.as_ref().map(|made| &made.location),
        "stages": made.as_ref().map(|made| &made.stages),
        "inputs": made.as_ref().map(|made| &made.inputs),
        "chunks": made.as_ref().map(|made| &made.chunks),
        "recipe": serde_json::from_slice::<Value>(recipe).unwrap_or_default(),
    })
}

fn describe(granule: &Granule) -> String {
    let Granule { settled, due, alone, attempts, made, recipe } = granule;
    let mut lines = vec![settled.granule.clone(), format!("recipe {}", settled.id)];
    lines.push(match (settled.state, &settled.reason) {
        (RecipeState::Waiting, None) => format!("waiting, due {}", time(*due)),
        (RecipeState::Waiting, Some(reason)) => format!("to be sent again, due {}: {reason}", time(*due)),
        (RecipeState::UnderWay, _) => format!("under way, until {} at the latest", time(*due)),
        (RecipeState::Done, _) if settled.made.already => format!("done: it stood there, {} bytes", settled.made.bytes),
        (RecipeState::Done, _) => format!("done: {} bytes in {:.3} s", settled.made.bytes, settled.made.seconds),
        (state, reason) => format!("{}: {}", state.as_str(), reason.as_deref().unwrap_or_default()),
    });
    if *alone {
        lines.push("to be made with nothing else in its worker: it may have brought workers down".to_owned());
    }
    if !settled.made.sha256.is_empty() {
        lines.push(format!("sha256 {}", settled.made.sha256));
    }
    settled.made.warnings.iter().for_each(|warning| lines.push(format!("warning: {warning}")));
    if attempts.is_empty() {
        lines.push("no attempts".to_owned());
    }
    for one in attempts {
        let end = match (one.ended, one.lost, one.outcome) {
            (Some(ended), _, outcome) => format!("{}, {}", time(ended), outcome.unwrap_or("ended")),
            (None, Some(lost), _) => format!("lost, given up {}", time(lost)),
            (None, None, _) => "not ended".to_owned(),
        };
        lines.push(format!(
            "attempt {} by {} ({}): {} to {end}",
            one.attempt,
            one.worker,
            one.build,
            time(one.started)
        ));
        one.reason.iter().for_each(|cause| lines.push(format!("    {cause}")));
    }
    if let Some(made) = made {
        for stage in &made.stages {
            lines.push(format!("stage {}: {:.3} s, {} bytes", stage.name, stage.seconds, stage.bytes));
        }
        for input in &made.inputs {
            lines.push(format!("input {}: {} bytes {}", input.path, input.size, input.sha256).trim_end().to_owned());
        }
        for chunks in &made.chunks {
            lines.push(format!("chunks of {}: {}", chunks.variable, chunks.places.len()));
        }
    }
    let recipe = serde_json::from_slice::<Value>(recipe).ok();
    let pretty = recipe.and_then(|recipe| serde_json::to_string_pretty(&recipe).ok()).unwrap_or_default();
    page(&lines) + &text::json(&pretty) + "\n"
}
