//! Traces, metrics and logs of productions as a collector receives them, and productions whose collector is not there.

use edp_program::telemetry::trace::recipe_trace;
use edp_protocol::Digest;
use edp_tests::broker::Broker;
use edp_tests::collector::{Collector, Span, SpanKind};
use edp_tests::proxy::{Proxy, ProxyMode};
use edp_tests::{Fixture, Started, coordinator, expect, files, json, program, signal, text, until};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Number of cells along the side of a tile: a small grid, on which a granule still takes long enough to be
/// interrupted.
const SIZE: usize = 12;

/// A process that is killed when this is dropped, with its log.
struct Process {
    child: Started,
    log: PathBuf,
}

impl Process {
    fn start(command: &mut Command, log: PathBuf) -> Process {
        let file = File::create(&log).unwrap();
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file).spawn().unwrap();
        Process { child: Started(child), log }
    }

    fn signal(&self, name: &str) {
        signal(self.child.id(), name);
    }

    /// Waits until a signal has frozen it.
    fn freeze(&self) {
        self.signal("STOP");
        let stat = format!("/proc/{}/stat", self.child.id());
        // The state follows the name, which may contain anything and ends at the last parenthesis.
        until("it is frozen", || fs::read_to_string(&stat).unwrap().rsplit(") ").next().unwrap().starts_with('T'));
    }

    fn kill(&mut self) {
        let _ = self.child.kill();
        self.child.wait().unwrap();
    }

    fn ends(&mut self, status: i32) {
        let mut code = None;
        until("a program ends", || {
            code = self.child.try_wait().unwrap();
            code.is_some()
        });
        assert_eq!(code.and_then(|code| code.code()), Some(status), "{}", self.log());
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }
}

/// A production over the queue that sends telemetry to a collector.
struct Production<'a> {
    name: &'static str,
    fixture: &'a Fixture,
    broker: &'a Broker,
    collector: &'a Collector,
    list: PathBuf,
    started: usize,
}

impl<'a> Production<'a> {
    fn new(name: &'static str, fixture: &'a Fixture, broker: &'a Broker, collector: &'a Collector) -> Production<'a> {
        let list = fixture.plan(&fixture.path(name), &format!("{name}.json"), &[]);
        Production { name, fixture, broker, collector, list, started: 0 }
    }

    fn start(&mut self, command: &mut Command) -> Process {
        command
            .env("EDP_QUEUE__URL", self.broker.url("guest", "pass-word").replace("pass-word", "guest"))
            .env("EDP_QUEUE__WINDOW", "4")
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", self.collector.endpoint())
            .env("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer t0ken")
            .env("OTEL_BSP_SCHEDULE_DELAY", "50")
            .args(["--production", self.name, "--log", "info", "--log-format", "json"])
            .current_dir(self.fixture.path(""));
        self.started += 1;
        Process::start(command, self.fixture.path(&format!("{}-{}.log", self.name, self.started)))
    }

    fn coordinator(&mut self) -> Process {
        let list = self.list.clone();
        self.start(coordinator().arg("run").arg(list).arg("--queue"))
    }

    fn worker(&mut self) -> Process {
        let root = self.fixture.path("");
        self.start(program("edp-worker").args(["serve", "--slots", "1", "--root"]).arg(root))
    }

    fn out(&self) -> PathBuf {
        self.fixture.path(self.name)
    }

    /// Freezes a worker while it writes a partial file, and returns its path.
    fn catch(&self, worker: &Process) -> PathBuf {
        let mut caught = None;
        until("a worker is caught writing", || {
            if !parts(&self.out()).is_empty() {
                worker.freeze();
                // The file was certainly begun, and is not committed yet.
                let begun = |part: &PathBuf| size(part) > 0 && !granule_of(part).exists();
                caught = parts(&self.out()).into_iter().find(begun);
                if caught.is_none() {
                    worker.signal("CONT");
                }
            }
            caught.is_some()
        });
        caught.unwrap()
    }

    /// Returns the ids of the recipes by granule.
    fn ids(&self) -> BTreeMap<String, String> {
        let list: Value = serde_json::from_slice(&fs::read(&self.list).unwrap()).unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        list.as_array().unwrap().iter().map(|one| (text(&one["granule"]), text(&one["recipe"]["id"]))).collect()
    }

    /// Returns the spans of a recipe's trace, once the collector has `count` that fit.
    fn trace(&self, id: &str, count: usize, fits: impl Fn(&Span) -> bool) -> Vec<Span> {
        let trace = recipe_trace(self.name, id).to_string();
        let mut spans = Vec::new();
        until("spans arrive", || {
            spans = self.collector.spans();
            spans.retain(|span| span.trace == trace);
            spans.iter().filter(|span| fits(span)).count() >= count
        });
        spans
    }
}

fn parts(directory: &Path) -> Vec<PathBuf> {
    let names = files(directory).into_keys().filter(|name| name.ends_with(".part"));
    names.map(|name| directory.join(name)).collect()
}

/// Returns the granule that belongs to a partial file `.<granule>.<worker>.part`.
fn granule_of(part: &Path) -> PathBuf {
    let name = part.file_name().unwrap().to_str().unwrap();
    let end = name.find(".nc").unwrap() + ".nc".len();
    part.with_file_name(&name[1..end])
}

fn is(span: &Span, operation: &str) -> bool {
    span.get("messaging.operation.name") == operation
}

fn with<'s>(spans: &'s [Span], operation: &str, outcome: &str) -> Vec<&'s Span> {
    spans.iter().filter(|span| is(span, operation) && span.get("edp.outcome") == outcome).collect()
}

/// Checks that a consumer's span belongs to a producer's: as its child, and by a link.
fn follows(consumer: &Span, producer: &Span) {
    assert_eq!(consumer.parent, producer.id, "{consumer:?}");
    assert_eq!(consumer.links, [(producer.trace.clone(), producer.id.clone())]);
    assert_eq!((consumer.kind, producer.kind), (SpanKind::Consumer, SpanKind::Producer));
    assert_eq!(consumer.get("messaging.message.body.size"), producer.get("messaging.message.body.size"));
}

/// Returns the lines of a log that name a trace. Every line is an object.
fn lines(log: &str) -> Vec<Value> {
    let lines = log.lines().filter(|line| line.starts_with('{'));
    lines.map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
}

/// One broker serves all tests, since its start takes longer than any of them.
#[test]
fn recipes_on_a_broker_have_one_trace() {
    let (broker, collector, fixture) = (Broker::start(), Collector::start(), Fixture::new(SIZE));
    undisturbed(&fixture, &broker, &collector);
    redelivered(&fixture, &broker, &collector);
    retried(&fixture, &broker, &collector);
    by_hand(&fixture, &broker, &collector);
    let spans = collector.spans();
    assert!(!format!("{spans:?}").contains("guest:guest"), "passwords");
}

fn undisturbed(fixture: &Fixture, broker: &Broker, collector: &Collector) {
    let mut production = Production::new("plain", fixture, broker, collector);
    let (mut coordinator, mut worker) = (production.coordinator(), production.worker());
    coordinator.ends(0);
    worker.signal("TERM");
    worker.ends(143);
    let ids = production.ids();
    let all = files(&production.out());
    assert_eq!(all.len(), ids.len());
    for (granule, id) in &ids {
        let spans = production.trace(id, 2, |span| is(span, "settle"));
        let one = |operation, outcome| {
            let found = with(&spans, operation, outcome);
            assert_eq!(found.len(), 1, "{operation} {outcome}: {spans:#?}");
            found[0]
        };
        let task_message = one("publish", "");
        assert_eq!((task_message.name.as_str(), task_message.parent.as_str()), ("publish edp.plain.recipes", ""));
        let semantics = ["system", "operation.type", "destination.name", "message.id"];
        let semantics = semantics.map(|key| task_message.get(&format!("messaging.{key}")));
        assert_eq!(semantics, ["rabbitmq", "send", "edp.plain.recipes", id]);
        assert_eq!(task_message.service(), "edp-coordinator");
        let process = one("process", "made");
        follows(process, task_message);
        assert_eq!((process.name.as_str(), process.service()), ("process edp.plain.recipes", "edp-worker"));
        assert_eq!((process.get("edp.granule"), process.get("edp.attempt")), (granule.as_str(), "1"));
        assert!(!process.failed && process.get("edp.redelivered") == "false");
        for outcome in ["started", "made"] {
            let report = one("publish", outcome);
            assert_eq!((&report.parent, report.name.as_str()), (&process.id, "publish edp.plain.results"));
            let settle = one("settle", outcome);
            follows(settle, report);
            assert_eq!((settle.service(), settle.name.as_str()), ("edp-coordinator", "settle edp.plain.results"));
            assert_eq!(settle.get("edp.worker"), process.resource["service.instance.id"]);
        }
        stages(&spans, process);
        // No span is without a known parent, and there are not thousands of any kind.
        let known: HashSet<&str> = spans.iter().map(|span| span.id.as_str()).collect();
        let orphans = spans.iter().filter(|span| span.id != task_message.id && !known.contains(span.parent.as_str()));
        assert_eq!(orphans.count(), 0, "{spans:#?}");
        assert!(spans.len() < 30, "{}", spans.len());
    }
    for key in ["service.version", "service.instance.id", "host.name"] {
        let spans = collector.spans();
        let values: BTreeSet<_> =
            spans.iter().map(|span| span.resource.get(key).cloned().unwrap_or_default()).collect();
        assert!(!values.contains("") && values.len() == if key == "service.instance.id" { 2 } else { 1 }, "{values:?}");
    }
    assert!(collector.authorizations().iter().all(|header| header == "Bearer t0ken"));
    measured(&production, all.len());
    logged(&production, &[&coordinator, &worker]);
}

/// Checks that stages have spans below that of the making of the granule.
fn stages(spans: &[Span], process: &Span) {
    let stages: Vec<&Span> = spans.iter().filter(|span| !span.get("edp.seconds").is_empty()).collect();
    assert!(!stages.is_empty(), "{spans:#?}");
    let names: BTreeSet<&str> = stages.iter().map(|span| span.name.as_str()).collect();
    let granule = process.get("edp.granule");
    let own = if granule.contains("latlon") { "regrid" } else { "mask" };
    let rotated = (granule.contains("OCEAN_VELOCITY") && granule.contains("latlon")).then_some("rotate");
    for name in
        ["resources", "fetch", "read", own, "compress", "write", "hash", "gate", "commit"].into_iter().chain(rotated)
    {
        assert!(names.contains(name), "{name}: {names:?}");
    }
    for stage in stages {
        assert_eq!((&stage.parent, stage.service()), (&process.id, "edp-worker"), "{stage:?}");
        assert!(process.start <= stage.start && stage.end <= process.end, "{stage:?} {process:?}");
        assert!(stage.get("edp.seconds").parse::<f64>().unwrap() > 0.0, "{stage:?}");
    }
    let gate = spans.iter().find(|span| span.name == "gate").unwrap();
    assert_eq!(gate.get("edp.bytes"), size(Path::new(granule)).to_string());
}

/// Checks that the sums agree with the files.
fn measured(production: &Production<'_>, granules: usize) {
    let collector = production.collector;
    let bytes: u64 = files(&production.out()).keys().map(|name| size(&production.out().join(name))).sum();
    let list: Value = serde_json::from_slice(&fs::read(&production.list).unwrap()).unwrap();
    let recipes = list.as_array().unwrap();
    let inputs = recipes.iter().flat_map(|recipe| recipe["recipe"]["inputs"].as_object().unwrap().values());
    let read: u64 = inputs.map(|input| input["size"].as_u64().unwrap()).sum();
    assert_eq!(collector.sum("edp.granules", &[("edp.outcome", "made")]), granules as f64);
    assert_eq!(collector.sum("edp.granules", &[]), granules as f64);
    let velocity = collector.sum("edp.granules", &[("edp.dataset", "OCEAN_VELOCITY")]);
    let named = recipes.iter().filter(|recipe| recipe["granule"].as_str().unwrap().contains("OCEAN_VELOCITY")).count();
    assert!(named > 0 && velocity == named as f64, "{velocity}");
    assert_eq!(collector.sum("edp.io", &[("edp.io.direction", "write")]), bytes as f64);
    assert_eq!(collector.sum("edp.io", &[("edp.io.direction", "read")]), read as f64);
    assert_eq!(collector.sum("edp.retries", &[]), 0.0);
    assert_eq!(collector.sum("edp.slots", &[]), 1.0);
    assert_eq!(collector.sum("edp.recipes", &[("edp.state", "done")]), granules as f64);
    assert_eq!(collector.sum("edp.recipes", &[]), granules as f64);
    assert_eq!(collector.sum("edp.backlog", &[]), 0.0, "nothing remains");
    let points = collector.points();
    let stages = points.iter().filter(|point| point.name == "edp.stage.duration");
    let seen: BTreeMap<&str, u64> = stages.fold(BTreeMap::new(), |mut seen, point| {
        *seen.entry(point.attributes["edp.stage"].as_str()).or_default() += point.count;
        seen
    });
    assert!(["make", "write", "commit"].iter().all(|stage| seen[stage] == granules as u64), "{seen:?}");
    assert!(seen["rotate"] > 0 && seen["rotate"] < granules as u64, "{seen:?}");
    for (name, unit) in [
        ("edp.queue.depth", "{message}"),
        ("edp.slots.busy", "{slot}"),
        ("edp.backlog", "s"),
        ("edp.stage.duration", "s"),
    ] {
        assert!(points.iter().any(|point| point.name == name && point.unit == unit), "{name}");
    }
}

fn size(path: &Path) -> u64 {
    fs::metadata(path).unwrap().len()
}

/// Checks that log lines about a granule name the span that the collector has.
fn logged(production: &Production<'_>, processes: &[&Process]) {
    let spans = production.collector.spans();
    let ids = production.ids();
    let mut done = BTreeSet::new();
    for line in processes.iter().flat_map(|process| lines(&process.log())) {
        if line["message"] != "done" {
            continue;
        }
        let granule = line["fields"]["granule"].as_str().unwrap();
        assert_eq!(line["trace_id"], recipe_trace(production.name, &ids[granule]).to_string().as_str());
        let span = spans.iter().find(|span| line["span_id"] == span.id.as_str()).unwrap();
        assert!(is(span, "process") && span.get("edp.granule") == granule, "{span:?}");
        assert!(line["timestamp"].is_string() && line["level"] == "INFO" && line["target"].is_string(), "{line}");
        done.insert(granule.to_owned());
    }
    assert_eq!(done, ids.into_keys().collect());
}

/// A worker is killed in the middle of a granule. Another worker gets the task again, reports it, and makes the granule
/// in attempt 2.
fn redelivered(fixture: &Fixture, broker: &Broker, collector: &Collector) {
    let mut production = Production::new("redelivered", fixture, broker, collector);
    let (mut coordinator, mut first) = (production.coordinator(), production.worker());
    let part = production.catch(&first);
    let granule = granule_of(&part).display().to_string();
    first.kill();
    let mut second = production.worker();
    coordinator.ends(0);
    second.signal("TERM");
    second.ends(143);
    let id = &production.ids()[&granule];
    let spans = production.trace(id, 1, |span| is(span, "settle") && span.get("edp.outcome") == "made");
    let task_messages: Vec<&Span> =
        spans.iter().filter(|span| span.name == "publish edp.redelivered.recipes").collect();
    let task_message = |attempt| *task_messages.iter().find(|span| span.get("edp.attempt") == attempt).unwrap();
    assert_eq!(task_messages.len(), 2);
    // The span of the first worker is lost with it.
    let lost = with(&spans, "process", "lost")[0];
    follows(lost, task_message("1"));
    assert!(lost.failed && lost.get("edp.redelivered") == "true" && lost.get("error.type") == "lost", "{lost:?}");
    let report = with(&spans, "publish", "lost")[0];
    assert_eq!(report.parent, lost.id);
    follows(with(&spans, "settle", "lost")[0], report);
    let made = with(&spans, "process", "made")[0];
    follows(made, task_message("2"));
    assert_eq!((made.get("edp.attempt"), made.failed), ("2", false));
    assert_ne!(task_message("1").id, task_message("2").id);
}

/// A partial file is removed while it is written: the attempt fails, and the next one succeeds.
fn retried(fixture: &Fixture, broker: &Broker, collector: &Collector) {
    let mut production = Production::new("retried", fixture, broker, collector);
    let before = collector.sum("edp.retries", &[]);
    let (mut coordinator, mut worker) = (production.coordinator(), production.worker());
    let part = production.catch(&worker);
    let granule = granule_of(&part).display().to_string();
    fs::remove_file(&part).unwrap();
    worker.signal("CONT");
    coordinator.ends(0);
    worker.signal("TERM");
    worker.ends(143);
    let id = &production.ids()[&granule];
    let spans = production.trace(id, 1, |span| is(span, "settle") && span.get("edp.outcome") == "made");
    let task_messages: Vec<&Span> = spans.iter().filter(|span| span.name == "publish edp.retried.recipes").collect();
    let task_message = |attempt| *task_messages.iter().find(|span| span.get("edp.attempt") == attempt).unwrap();
    let failed = with(&spans, "process", "transient")[0];
    follows(failed, task_message("1"));
    assert!(failed.failed && failed.get("error.type") == "transient", "{failed:?}");
    let report = with(&spans, "publish", "transient")[0];
    follows(with(&spans, "settle", "transient")[0], report);
    follows(with(&spans, "process", "made")[0], task_message("2"));
    assert!(task_message("1").end <= task_message("2").start, "{task_messages:?}");
    assert!(collector.sum("edp.retries", &[]) > before);
}

/// A recipe that somebody publishes without a context has a trace of its own, as far as the coordinator.
fn by_hand(fixture: &Fixture, broker: &Broker, collector: &Collector) {
    use edp_queue::{Link, Message, Queue, QueueOptions};
    let mut production = Production::new("hand", fixture, broker, collector);
    let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let url = broker.url("guest", "guest").parse().unwrap();
    let link = Link::amqp(QueueOptions::new(url, "hand".parse().unwrap())).unwrap();
    let list: Value = serde_json::from_slice(&fs::read(&production.list).unwrap()).unwrap();
    let recipe = list[0].to_string();
    tokio.block_on(async {
        link.declare().await.unwrap();
        let mut message = Message::new(recipe, "application/json", "by hand");
        // A text that is no context is ignored, and one that is too long is not passed on.
        message.headers.insert("traceparent".into(), "00-nonsense".into());
        message.headers.insert("tracestate".into(), "a=b,".repeat(2000));
        link.publisher(Queue::Recipes, 1).publish(message).await.unwrap();
    });
    let mut worker = production.worker();
    let made = || collector.spans().into_iter().find(|span| span.name == "process edp.hand.recipes");
    until("it is made", || made().is_some());
    let (made, granule) = (made().unwrap(), list[0]["granule"].as_str().unwrap());
    assert_eq!((made.parent.as_str(), made.links.len(), made.get("edp.outcome")), ("", 0, "made"));
    assert_eq!((made.get("messaging.message.id"), made.get("edp.granule")), ("by hand", granule));
    worker.signal("TERM");
    worker.ends(143);
    tokio.block_on(link.close());
}

/// Plans the list that all following tests make, and returns the digests of its granules.
fn reference(fixture: &Fixture) -> BTreeMap<String, Digest> {
    let list = fixture.plan(&fixture.path("reference"), "reference.json", &[]);
    let output = expect(program("edp-worker").arg("make").arg(list), 0);
    assert!(!text(&output).contains("collector"), "{}", text(&output));
    files(&fixture.path("reference"))
}

/// Makes everything with a useless collector, and returns the log.
fn useless(fixture: &Fixture, name: &str, endpoint: &str) -> String {
    let list = fixture.plan(&fixture.path(name), &format!("{name}.json"), &[]);
    let mut command = program("edp-worker");
    command.arg("make").arg(list).args(["--output", "json"]).env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint);
    let output = expect(command.env("OTEL_BSP_SCHEDULE_DELAY", "20").env("OTEL_METRIC_EXPORT_INTERVAL", "20"), 0);
    json(&output);
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn a_collector_that_is_not_there_costs_nothing_else() {
    let fixture = Fixture::new(SIZE);
    let reference = reference(&fixture);
    // One port on which nothing listens, since its listener is closed again; and one that accepts and never answers.
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let swallowing = Proxy::start(silent.local_addr().unwrap());
    swallowing.set(ProxyMode::Swallow);
    for (name, endpoint) in [
        ("closed", format!("http://{closed}")),
        ("silent", format!("http://{}", silent.local_addr().unwrap())),
        ("swallowing", format!("http://{}", swallowing.address())),
        ("nonsense", "http://u:s3cret@[".to_owned()),
    ] {
        let said = useless(&fixture, name, &endpoint);
        assert!(files(&fixture.path(name)) == reference, "{name}");
        // The message appears once; that about a wrong address appears once for each signal.
        let times = if name == "nonsense" { 2 } else { 1 };
        assert_eq!(said.matches("collector").count(), times, "{name}: {said}");
        assert_eq!(said.matches("WARN").count(), times, "{name}: {said}");
        assert!(!said.contains("s3cret"), "{said}");
    }
}

/// The protocol that OpenTelemetry's specification prefers, which is the only one that many collectors of sites accept.
#[test]
fn collectors_may_take_http() {
    let fixture = Fixture::new(SIZE);
    let asked = [("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")];
    for (name, variables) in [("by-name", &asked[..]), ("by-address", &[][..])] {
        let collector = Collector::start_http();
        let endpoint = collector.endpoint();
        let list = fixture.plan(&fixture.path(name), &format!("{name}.json"), &[]);
        let mut command = program("edp-worker");
        command.arg("make").arg(list).envs(variables.iter().copied());
        command.env("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer t0ken");
        command.env("OTEL_RESOURCE_ATTRIBUTES", "team=sea%20ice%2C%20snow");
        match name {
            "by-name" => command.env("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint),
            _ => command
                .env("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", format!("{endpoint}/v1/traces"))
                .env("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", format!("{endpoint}/v1/metrics")),
        };
        let output = expect(&mut command, 0);
        assert!(!String::from_utf8_lossy(&output.stderr).contains("WARN"), "{output:?}");
        let spans = collector.spans();
        let made = spans.iter().filter(|span| span.name == "process recipes").count();
        assert_eq!(made, files(&fixture.path(name)).len(), "{spans:?}");
        assert_eq!(spans[0].resource["team"], "sea ice, snow");
        assert!(collector.sum("edp.granules", &[]) as usize >= made);
        assert!(collector.authorizations().iter().all(|value| value == "Bearer t0ken"));
        assert!(!collector.authorizations().is_empty());
    }
    // A collector that refuses, and one that is not there.
    let refuses = Collector::start_http().endpoint() + "/elsewhere";
    for (name, endpoint) in [("refuses", refuses.as_str()), ("closed", "http://u:s3cret@127.0.0.1:9/otlp")] {
        let said = useless(&fixture, name, endpoint);
        assert_eq!(said.matches("WARN").count(), 1, "{name}: {said}");
        assert!(!said.contains("s3cret"), "{said}");
    }
}

/// Nothing is sent that was not requested.
#[test]
fn the_environment_switches_signals_off() {
    let fixture = Fixture::new(SIZE);
    for (variables, traces, metrics) in [
        (&[][..], true, true),
        (&[("OTEL_SDK_DISABLED", "true")], false, false),
        (&[("OTEL_TRACES_EXPORTER", "none")], false, true),
        (&[("OTEL_METRICS_EXPORTER", "none")], true, false),
        (&[("OTEL_TRACES_SAMPLER", "always_off")], false, true),
        (&[("OTEL_SERVICE_NAME", "ours"), ("OTEL_RESOURCE_ATTRIBUTES", "team=ocean,host.name=h")], true, true),
    ] {
        let collector = Collector::start();
        let name = variables.iter().map(|(_, value)| *value).collect::<String>();
        let list = fixture.plan(&fixture.path(&format!("out-{name}")), "list.json", &[]);
        let mut command = program("edp-worker");
        command.arg("make").arg(list).env("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint());
        expect(command.envs(variables.iter().copied()), 0);
        let (spans, points) = (collector.spans(), collector.points());
        assert_eq!((!spans.is_empty(), !points.is_empty()), (traces, metrics), "{variables:?}");
        if variables.len() == 2 {
            let own = ["service.name", "team", "host.name"].map(|key| spans[0].resource[key].as_str());
            assert_eq!(own, ["ours", "ocean", "h"]);
        }
    }
}

/// Of the traces that are left out, the spans that have failed are sent nevertheless.
#[test]
fn failures_are_sent_whatever_the_share_of_traces() {
    let fixture = Fixture::new(SIZE);
    for (processes, share, whole) in [("1", "0", false), ("2", "0", false), ("1", "100", true)] {
        let collector = Collector::start();
        let name = format!("out-{processes}-{share}");
        let list = fixture.plan(&fixture.path(&name), &format!("{name}.json"), &[]);
        let tasks: Value = serde_json::from_slice(&fs::read(&list).unwrap()).unwrap();
        let data = tasks[0]["variables"].as_object().unwrap().values().next().unwrap()[0][0].as_str().unwrap();
        let users = tasks.as_array().unwrap().iter().filter(|task| task["variables"].to_string().contains(data));
        let bad: BTreeSet<&str> = users.map(|task| task["granule"].as_str().unwrap()).collect();
        let bytes = fs::read(data).unwrap();
        edp_tests::keeping_age(Path::new(data), |path| fs::write(path, &bytes[..bytes.len() - 4])).unwrap();
        let mut command = program("edp-worker");
        command.arg("make").arg(&list).args(["--slots", "2", "--processes", processes]);
        command.env("EDP_TELEMETRY__TRACES", share).env("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint());
        let output = expect(&mut command, 3);
        edp_tests::keeping_age(Path::new(data), |path| fs::write(path, &bytes)).unwrap();
        assert!(!text(&output).contains("did not reach the collector"), "{}", text(&output));
        let spans = collector.spans();
        let failed = spans.iter().filter(|span| span.failed && is(span, "process"));
        assert_eq!(failed.map(|span| span.get("edp.granule")).collect::<BTreeSet<_>>(), bad, "{spans:#?}");
        assert_eq!(spans.iter().any(|span| !span.failed), whole, "{name}: {spans:#?}");
    }
}

/// Lines in JSON name traces even without a collector.
#[test]
fn logs_name_traces_without_a_collector() {
    let fixture = Fixture::new(SIZE);
    let list = fixture.plan(&fixture.path("out"), "list.json", &[]);
    let mut command = program("edp-worker");
    command.arg("make").arg(&list).env("EDP_LOG", "info").env("EDP_LOG_FORMAT", "json");
    let output = expect(&mut command, 0);
    let lines = lines(&String::from_utf8_lossy(&output.stderr));
    let done: Vec<&Value> = lines.iter().filter(|line| line["message"] == "done").collect();
    let traces: HashSet<&str> = done.iter().map(|line| line["trace_id"].as_str().unwrap()).collect();
    assert_eq!((done.len(), traces.len()), (files(&fixture.path("out")).len(), done.len()));
    let output = expect(program("edp-worker").arg("make").arg(&list).args(["--log-format", "xml"]), 2);
    assert!(text(&output).contains("use human or json"), "{}", text(&output));
}
