//! Health and metrics over HTTP during a production: what is scraped, what a collector of OpenTelemetry receives and what
//! the ledger says are the same figures.

use edp_program::telemetry::metrics::{METRICS, MetricKind};
use edp_tests::broker::Broker;
use edp_tests::collector::{Collector, Point};
use edp_tests::scrape::{HttpAddress, Sample};
use edp_tests::{Fixture, Started, coordinator, expect, json, program, signal, text, until};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Command, Stdio};

const SIZE: usize = 48;

/// A program with an HTTP service.
struct Listening {
    child: Started,
    http: HttpAddress,
}

impl Listening {
    fn start(command: &mut Command, log: PathBuf) -> Listening {
        command.args(["--listen", "127.0.0.1:0"]);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&log).unwrap()).spawn();
        let child = Started(child.unwrap());
        Listening { child, http: HttpAddress::from_log(&log) }
    }

    /// Returns its instance in the attributes of its metrics.
    fn instance(&self) -> String {
        let metrics = self.http.metrics();
        metrics.iter().find(|one| one.name == "target_info").unwrap().labels["service_instance_id"].clone()
    }
}

/// Returns the values that a collector has of one program, under the names of Prometheus.
fn collected(collector: &Collector, instance: &str) -> BTreeMap<(String, BTreeMap<String, String>), f64> {
    let of = |point: Point| {
        let metric = METRICS.iter().find(|metric| metric.name == point.name).unwrap();
        let labels = point.attributes.into_iter().map(|(name, value)| (name.replace('.', "_"), value));
        let ending = if metric.kind == MetricKind::Histogram { "_sum" } else { "" };
        ((metric.prometheus_name() + ending, labels.collect()), point.value)
    };
    let own = collector.points().into_iter().filter(|point| point.resource["service.instance.id"] == instance);
    own.map(of).collect()
}

/// Returns the scraped values that a collector has too.
fn scraped(metrics: Vec<Sample>) -> BTreeMap<(String, BTreeMap<String, String>), f64> {
    let extra = |name: &str| name == "target_info" || name.ends_with("_bucket") || name.ends_with("_seconds_count");
    metrics.into_iter().filter(|one| !extra(&one.name)).map(|one| ((one.name, one.labels), one.value)).collect()
}

/// Checks that names and labels are those that the page of the metrics states for a program, and returns the names.
fn known(metrics: &[Sample], program: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for one in metrics.iter().filter(|one| one.name != "target_info") {
        let base = ["_bucket", "_sum", "_count"].iter().find_map(|ending| one.name.strip_suffix(ending));
        let name = base.unwrap_or(&one.name);
        let metric = METRICS.iter().find(|metric| metric.prometheus_name() == name);
        let metric = metric.unwrap_or_else(|| panic!("{} is not on the page", one.name));
        let wanted: BTreeSet<String> = metric.labels().collect();
        let found: BTreeSet<String> = one.labels.keys().filter(|label| *label != "le").cloned().collect();
        assert_eq!(found, wanted, "{one:?}");
        assert!([program, "both"].contains(&metric.programs), "{name} is not of the {program}");
        names.insert(name.to_owned());
    }
    names
}

#[test]
fn scrapes_the_collector_and_the_ledger_agree() {
    let (broker, collector, fixture) = (Broker::start(), Collector::start(), Fixture::new(SIZE));
    let out = fixture.path("out");
    let list = fixture.plan(&out, "list.json", &[]);
    let start = |command: &mut Command, name: &str| {
        command
            .env("EDP_QUEUE__URL", broker.url("guest", "guest"))
            .env("EDP_SERVE__NOTICES", "off")
            .env("EDP_RUN__SNAPSHOT", "1")
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint())
            .env("OTEL_METRIC_EXPORT_INTERVAL", "100")
            .args(["--production", "scraped", "--log", "info"])
            .current_dir(fixture.path(""));
        Listening::start(command, fixture.path(name))
    };
    let mut run = start(coordinator().arg("run").arg(&list).arg("--queue"), "run.log");
    let worker =
        |name: &str| start(program("edp-worker").args(["serve", "--slots", "2", "--root"]).arg(fixture.path("")), name);
    let mut first = worker("first.log");
    // It is stopped where it is, so that it does not make everything before it was looked at.
    until("a granule is settled", || run.http.sum("edp_granules_total", &[]) >= 1.0);
    signal(first.child.id(), "STOP");
    until("the worker is announced", || run.http.sum("edp_announced_slots", &[]) == 2.0);
    assert_eq!(run.http.sum("edp_announced_workers", &[("edp_production", "scraped")]), 1.0);
    assert_eq!(run.http.sum("edp_window", &[]), 1000.0);
    signal(first.child.id(), "CONT");
    let (status, health) = first.http.health().unwrap();
    assert_eq!((status, &health["slots"], &health["phase"]), (200, &2.into(), &"serving".into()), "{health}");
    first.child.kill().unwrap();
    first.child.wait().unwrap();

    // Nothing moves now, so that all that is asked says the same after the next measurement.
    let ledger = || {
        let mut command = coordinator();
        command.args(["status", "--production", "scraped", "--output", "json"]).current_dir(fixture.path(""));
        json(&expect(&mut command, 0))
    };
    let instance = run.instance();
    let figures = |http: HttpAddress| {
        let names = ["waiting", "under way", "done", "held", "failed", "conflict"];
        names.map(|state| (state.replace(' ', "_"), http.sum("edp_recipes", &[("edp_state", state)])))
    };
    let mut compared = String::new();
    until("scrape, collector, health and ledger agree", || {
        let scrape = scraped(run.http.metrics());
        let told = ledger();
        let (status, health) = run.http.health().unwrap();
        let settled = run.http.sum("edp_granules_total", &[]);
        let of_ledger = |state: &str| told["states"][state].as_f64();
        let remaining = told["recipes"].as_f64().unwrap() - told["settled"].as_f64().unwrap();
        compared = format!("{scrape:#?}\n{:#?}\n{told}\n{health}", collected(&collector, &instance));
        status == 200
            && collected(&collector, &instance) == scrape
            && figures(run.http).iter().all(|(state, scraped)| {
                of_ledger(state) == Some(*scraped) && health["recipes"][state].as_f64() == Some(*scraped)
            })
            && told["settled"].as_f64() == Some(settled)
            && health["remaining"].as_f64() == Some(remaining)
            && health["backlog"].as_f64() == Some(run.http.sum("edp_backlog_seconds", &[]))
            && run.http.sum("edp_queue_consumers", &[]) == 0.0
            && run.http.sum("edp_announced_workers", &[]) == 0.0
    });
    assert!(run.http.sum("edp_backlog_seconds", &[]) > 0.0, "{compared}");
    let begun = run.http.sum("edp_last_settled_timestamp_seconds", &[("edp_production", "scraped")]);
    assert!(begun > 1.7e9, "{compared}");
    let (_, health) = run.http.health().unwrap();
    assert_eq!((&health["phase"], &health["problems"]), (&"driving".into(), &serde_json::json!([])), "{health}");
    assert!(health["ledger_written"].is_string() && health["last_settled"].is_string(), "{health}");
    assert!(!health.to_string().contains("guest:guest"), "{health}");
    until("the ledger is copied", || out.join(".edp/scraped.ledger").exists());
    assert!(run.http.sum("edp_ledger_copied_timestamp_seconds", &[]) >= begun - 60.0);
    let names = known(&run.http.metrics(), "coordinator");
    let expected = METRICS.iter().filter(|metric| ["coordinator", "both"].contains(&metric.programs));
    let expected: BTreeSet<String> = expected.map(|metric| metric.prometheus_name()).collect();
    let missing: Vec<&String> = expected.difference(&names).collect();
    assert_eq!(missing, ["edp_messages_refused_total"], "nothing was refused; all others are there");

    // Status asks the coordinator, from anywhere.
    let status = |status: i32, form: &str| {
        expect(coordinator().args(["status", "--address", &run.http.to_string(), "--output", form]), status)
    };
    let (told, (_, health)) = (json(&status(0, "json")), run.http.health().unwrap());
    for key in ["production", "phase", "recipes", "remaining", "workers", "slots", "last_settled"] {
        assert_eq!(told[key], health[key], "{key}: {told}");
    }
    let said = text(&status(0, "human"));
    assert!(said.contains("production scraped: its coordinator has recipes made") && said.contains(" done"), "{said}");

    // Without its broker the coordinator is ill, and recovers.
    assert_eq!(run.http.sum("edp_broker_connected", &[]), 1.0);
    broker.kill();
    until("the coordinator misses its broker", || {
        run.http.health().is_some_and(|(status, health)| {
            status == 503 && health["problems"][0].as_str().unwrap().contains("no connection to amqp://guest@127.0.0.1")
        })
    });
    assert_eq!(run.http.sum("edp_broker_connected", &[]), 0.0);
    assert!(text(&status(4, "human")).contains("problem: no connection to amqp://guest@127.0.0.1"));
    broker.run();
    until("the coordinator is well", || run.http.health().is_some_and(|(status, _)| status == 200));

    // A broker without room for messages is no illness, but is told.
    broker.alarm(true);
    let mut second = worker("second.log");
    until("a worker waits for room", || second.http.sum("edp_broker_blocked", &[]) == 1.0);
    assert_eq!(second.http.health().unwrap().0, 200);
    broker.alarm(false);
    until("the worker goes on", || second.http.sum("edp_broker_blocked", &[]) == 0.0);
    assert_eq!(run.child.wait().unwrap().code(), Some(0), "{}", fs::read_to_string(fixture.path("run.log")).unwrap());
    assert_eq!(ledger()["recipes"], ledger()["states"]["done"]);

    let instance = second.instance();
    until("scrape and collector agree", || collected(&collector, &instance) == scraped(second.http.metrics()));
    let names = known(&second.http.metrics(), "worker");
    let named =
        ["edp_slots", "edp_slots_busy", "edp_io_bytes_total", "edp_stage_duration_seconds", "edp_broker_connected"];
    assert!(named.iter().all(|name| names.contains(*name)), "{names:?}");
    assert_eq!((second.http.sum("edp_slots", &[]), second.http.sum("edp_slots_busy", &[])), (2.0, 0.0));
    signal(second.child.id(), "TERM");
    assert_eq!(second.child.wait().unwrap().code(), Some(143));
    let worker = expect(coordinator().args(["status", "--address", &second.http.to_string()]), 4);
    assert!(second.http.get("/healthz").is_none() && text(&worker).contains("no program answers"), "{}", text(&worker));
}

/// Both programs refuse such an address before they do anything else.
#[test]
fn an_address_that_is_taken_or_wrong_ends_the_program() {
    let fixture = Fixture::new(SIZE);
    let list = fixture.plan(&fixture.path("out"), "list.json", &[]);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    for address in [taken.as_str(), "nonsense", "127.0.0.1:none"] {
        let refused = expect(coordinator().arg("run").arg(&list).args(["--listen", address]), 2);
        let said = text(&refused);
        assert!(said.contains(&format!("{address}: cannot be listened at")) && said.contains("--listen"), "{said}");
        let mut serve = program("edp-worker");
        serve.args(["serve", "--root"]).arg(fixture.path("")).env("EDP_TELEMETRY__LISTEN", address);
        let refused = expect(serve.env("EDP_QUEUE__URL", "amqp://guest:guest@127.0.0.1:1/"), 2);
        assert!(text(&refused).contains("telemetry.listen"), "{}", text(&refused));
    }
    let whole = expect(coordinator().arg("run").arg(&list).env("EDP_TELEMETRY__LISTEN", ""), 0);
    assert!(!text(&whole).contains("health and metrics"), "an empty address is none: {}", text(&whole));
}

/// Without a collector and without a permission, CloudWatch makes metrics of these lines of the log.
#[test]
fn what_remains_is_written_for_cloudwatch() {
    let fixture = Fixture::new(SIZE);
    for format in ["human", "json"] {
        let list = fixture.plan(&fixture.path(format), "list.json", &[]);
        let granules = serde_json::from_slice::<Value>(&fs::read(&list).unwrap()).unwrap().as_array().unwrap().len();
        let mut command = coordinator();
        command.arg("run").arg(&list).args(["--log-format", format]).env("EDP_TELEMETRY__EMF_NAMESPACE", "EDP");
        let output = expect(&mut command, 0);
        let lines = String::from_utf8(output.stderr).unwrap();
        let lines = lines.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let lines: Vec<Value> = lines.filter(|line| !line["_aws"].is_null()).collect();
        assert!(lines.iter().all(|line| line["edp.production"] == "default"), "{lines:#?}");
        let directives = lines.iter().map(|line| &line["_aws"]["CloudWatchMetrics"][0]);
        assert!(directives.clone().all(|one| one["Namespace"] == "EDP"), "{lines:#?}");
        let of = |name: &str| lines.iter().filter(|line| !line[name].is_null()).collect::<Vec<_>>();
        let backlog = of("edp.backlog");
        assert!(backlog[0]["edp.backlog"].as_f64().unwrap() > 0.0, "{lines:#?}");
        assert_eq!(backlog.last().unwrap()["edp.backlog"], 0.0, "the last line says that nothing remains");
        let recipes = of("edp.recipes");
        let done = recipes.iter().rfind(|line| line["edp.state"] == "done").unwrap();
        assert_eq!(done["edp.recipes"], granules);
        let dimensions = &done["_aws"]["CloudWatchMetrics"][0]["Dimensions"];
        assert_eq!(*dimensions, serde_json::json!([["edp.production", "edp.state"]]));
    }
    let list = fixture.plan(&fixture.path("silent"), "list.json", &[]);
    let output = expect(coordinator().arg("run").arg(&list), 0);
    assert!(!text(&output).contains("_aws"), "{}", text(&output));
}
