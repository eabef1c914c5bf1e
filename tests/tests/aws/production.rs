//! A production in an account: two instances are set up by the user data of the template, a coordinator and a worker make the
//! granules of a list on the account's S3 over a broker, and the coordinator's instance is replaced in the middle.

use super::ON_S3;
use super::account::Account;
use super::stack::{deploy, with_own};
use super::template::{Template, directory};
use edp_tests::broker::Broker;
use edp_tests::imds::Imds;
use edp_tests::{Fixture, Started, coordinator, expect, program, signal, text, until};
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What an instance has and the machine of the test has not, or what would change that machine.
const OTHERS: [&str; 5] = ["useradd", "chown", "dnf", "systemctl", "amazon-cloudwatch-agent-ctl"];

/// Where the agent of CloudWatch is.
const AGENT: &str = "opt/aws/amazon-cloudwatch-agent/bin";

fn script(path: &Path, lines: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, format!("#!/bin/sh\n{lines}\n")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// Packs an archive like that of a release, whose programs are those of the tests. Returns its SHA-256.
fn pack(at: &Path) -> (PathBuf, String) {
    let tree = at.join("edp-test");
    for name in ["edp-coordinator", "edp-worker"] {
        let built = program(name).get_program().to_owned();
        script(&tree.join("bin").join(name), &format!("exec {} \"$@\"", Path::new(&built).display()));
    }
    fs::create_dir_all(tree.join("share/edp")).unwrap();
    for part in ["aws", "machine"] {
        let from = directory().parent().unwrap().join(part);
        expect(Command::new("cp").arg("-R").arg(from).arg(tree.join("share/edp")), 0);
    }
    let archive = at.join("edp.tar.gz");
    expect(Command::new("tar").arg("-czf").arg(&archive).arg("-C").arg(at).arg("edp-test"), 0);
    let sum = expect(Command::new("sha256sum").arg(&archive), 0);
    (archive, String::from_utf8(sum.stdout).unwrap()[..64].to_owned())
}

/// A directory that stands for the root of an instance's file system.
struct Instance<'a> {
    account: &'a Account,
    root: PathBuf,
}

impl Instance<'_> {
    /// Runs the user data, with all its paths below the directory. Returns what it said.
    fn boot(&self, user_data: &str, status: i32) -> String {
        let below = |path: &str| self.root.join(path);
        for name in OTHERS {
            let place = if name.ends_with("-ctl") { below(AGENT) } else { below("fakes") };
            script(&place.join(name), &format!("echo {name} \"$@\" >>'{}'", below("called").display()));
        }
        for directory in ["usr/local", "tmp"] {
            fs::create_dir_all(below(directory)).unwrap();
        }
        let mut text = user_data.to_owned();
        for path in ["/etc/edp", "/usr/local", "/tmp/edp.tar.gz"] {
            text = text.replace(path, below(path.trim_start_matches('/')).to_str().unwrap());
        }
        let file = below("user-data");
        fs::write(&file, text).unwrap();
        let environment = self.account.environment();
        let path = environment.iter().find(|(name, _)| name == "PATH").unwrap().1.clone();
        let service = Imds::start(|path| (path == "/latest/meta-data/instance-id").then(|| "i-0123".to_owned()));
        let mut bash = Command::new("bash");
        bash.arg(&file).envs(environment).env("DESTDIR", &self.root).env("EDP_SERVE__IMDS", &service.url);
        bash.env("PATH", format!("{}:{path}", below("fakes").display()));
        text_of(&expect(&mut bash, status))
    }

    /// Returns the last value of a key in the unit and its drop-in, with systemd's specifiers replaced.
    fn of_unit(&self, role: &str, key: &str) -> Vec<String> {
        let units = self.root.join("etc/systemd/system");
        let unit = fs::read_to_string(units.join(format!("edp-{role}@.service"))).unwrap();
        let more = fs::read_to_string(units.join(format!("edp-{role}@.service.d/aws.conf"))).unwrap();
        let mut values: Vec<String> = Vec::new();
        for line in unit.lines().chain(more.lines()) {
            match line.strip_prefix(key).and_then(|rest| rest.strip_prefix('=')) {
                Some("") => values.clear(),
                Some(value) => values.push(value.to_owned()),
                None => {}
            }
        }
        let replaced = |value: String| {
            let specifiers = [("%i", "v4r4"), ("%S", "/var/lib"), ("%t", "/run"), ("%C", "/var/cache")];
            let value = specifiers.iter().fold(value, |value, (from, to)| value.replace(from, to));
            let root = self.root.display();
            ["/var/", "/run/", "/usr/local/"]
                .iter()
                .fold(value, |value, path| value.replace(path, &format!("{root}{path}")))
        };
        values.into_iter().map(replaced).collect()
    }

    /// Returns the command that systemd would start, with the environment of the unit.
    fn command(&self, role: &str) -> Command {
        let starts = self.of_unit(role, "ExecStart");
        assert_eq!(starts.len(), 1, "{starts:?}");
        let words: Vec<_> = starts[0].split(' ').collect();
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).envs(self.account.environment());
        for variable in self.of_unit(role, "Environment") {
            let (name, value) = variable.split_once('=').unwrap();
            command.env(name, value.replace("%d/broker-password", self.password().to_str().unwrap()));
        }
        let settings = fs::read_to_string(self.root.join("etc/edp/v4r4.env")).unwrap();
        let settings = settings.lines().filter_map(|line| line.split_once('='));
        command.envs(settings.map(|(name, value)| (name.to_owned(), value.to_owned())));
        for directory in ["var/cache/edp-worker/v4r4", "run/edp-worker/v4r4"] {
            fs::create_dir_all(self.root.join(directory)).unwrap();
        }
        command.stdin(Stdio::null());
        command
    }

    fn password(&self) -> PathBuf {
        self.root.join("etc/edp/v4r4.password")
    }

    fn start(&self, command: &mut Command, name: &str) -> Started {
        let log = File::create(self.root.join(name)).unwrap();
        Started(command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap())
    }
}

fn text_of(output: &std::process::Output) -> String {
    text(output)
}

/// An account with everything that a production needs, and the stack of the template.
struct Place {
    account: Account,
    _broker: Broker,
    fixture: Fixture,
    template: Template,
}

impl Place {
    fn new() -> Option<Place> {
        let (account, broker, fixture) = (Account::start()?, Broker::start(), Fixture::new(6));
        let (archive, sha256) = pack(&fixture.path(""));
        for bucket in ["results", "product", "releases"] {
            account.answer(["s3api", "create-bucket", "--bucket", bucket]);
        }
        let copy = |from: &Path, to: &str| {
            expect(account.aws(["s3", "cp", "--recursive", "--only-show-errors"]).arg(from).arg(to), 0);
        };
        let demo = &fixture.demo;
        for (from, to) in
            [(&demo.results, "run"), (&demo.grid, "grid"), (&demo.factors, "factors"), (&demo.metadata, "metadata")]
        {
            copy(from, &format!("s3://results/{to}"));
        }
        for (from, to) in [(&demo.configuration, "s3://results/config.yaml"), (&archive, "s3://releases/edp.tar.gz")] {
            expect(account.aws(["s3", "cp", "--only-show-errors"]).arg(from).arg(to), 0);
        }
        let mut plan = coordinator();
        plan.arg("plan")
            .envs(account.environment())
            .env("SOURCE_DATE_EPOCH", "1577836800")
            .arg("--jobs")
            .arg(&demo.jobs);
        plan.args(ON_S3);
        plan.args(["--destination", "s3://product/granules", "--tasks-out", "s3://results/lists/tasks.json"]);
        expect(&mut plan, 0);
        account.answer(["secretsmanager", "create-secret", "--name", "edp-broker", "--secret-string", "guest"]);
        let url = broker.url("guest", "").replace("guest:@", "guest@");
        let mut given = with_own(&url);
        given.retain(|(name, _)| *name != "ReleaseSha256");
        given.push(("ReleaseSha256", sha256));
        let template = deploy(&account, "template.yaml", &given);
        Some(Place { account, _broker: broker, fixture, template })
    }

    fn instance(&self, name: &str) -> Instance<'_> {
        Instance { account: &self.account, root: self.fixture.path(name) }
    }

    /// Returns the user data as the account gives it to instances, which is what the template says.
    fn user_data(&self, name: &str) -> String {
        let wanted = self.template.user_data(name);
        let templates = self.account.answer(["ec2", "describe-launch-template-versions", "--versions", "$Latest"]);
        let templates = templates["LaunchTemplateVersions"].as_array().unwrap().clone();
        let data =
            templates.iter().map(|version| version["LaunchTemplateData"]["UserData"].as_str().unwrap().to_owned());
        let decoded = data.map(|data| {
            let mut decode = Command::new("sh");
            decode.args(["-c", "printf %s \"$1\" | base64 -d", "sh", &data]);
            String::from_utf8(expect(&mut decode, 0).stdout).unwrap()
        });
        let found: Vec<_> = decoded.collect();
        assert!(found.contains(&wanted), "{wanted}\nis not among\n{found:?}");
        wanted
    }

    fn granules(&self) -> Vec<String> {
        let listed = self.account.answer(["s3api", "list-objects-v2", "--bucket", "product", "--prefix", "granules/"]);
        let keys = listed["Contents"].as_array().cloned().unwrap_or_default();
        let keys = keys.iter().map(|object| object["Key"].as_str().unwrap().to_owned());
        keys.filter(|key| key.ends_with(".nc")).collect()
    }
}

#[test]
fn a_production_of_the_template_outlives_its_coordinators_instance_on_a_broker() {
    let Some(place) = Place::new() else { return };
    let (first, second, workers) = (place.instance("first"), place.instance("second"), place.instance("worker"));
    for (instance, template, role) in
        [(&first, "CoordinatorTemplate", "coordinator"), (&workers, "WorkerTemplate", "worker")]
    {
        fs::create_dir_all(&instance.root).unwrap();
        instance.boot(&place.user_data(template), 0);
        let called = fs::read_to_string(instance.root.join("called")).unwrap();
        assert!(
            called.ends_with(&format!("systemctl daemon-reload\nsystemctl enable --now edp-{role}@v4r4\n")),
            "{called}"
        );
        let mode = fs::metadata(instance.password()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "the password is for root");
        assert_eq!(instance.of_unit(role, "ExecStopPost").len(), 1);
        let agent: serde_json::Value =
            serde_json::from_slice(&fs::read(instance.root.join("etc/edp/agent.json")).unwrap()).unwrap();
        let logs = &agent["logs"]["logs_collected"]["files"]["collect_list"];
        assert_eq!(logs[1]["file_path"], "/var/log/cloud-init-output.log");
        assert_eq!(logs[1]["log_group_name"], logs[0]["log_group_name"]);
        let log = &logs[0];
        assert_eq!(log["log_group_name"], format!("/edp/edp/{role}"));
        let output = instance.of_unit(role, "StandardError");
        assert!(output[0].ends_with(log["file_path"].as_str().unwrap()), "{output:?}: the agent sends another file");
    }
    let settled = |instance: &Instance<'_>| {
        let mut status = coordinator();
        status.args(["status", "--output", "json", "--ledger"]).arg(instance.root.join("var/lib/edp/v4r4/ledger"));
        let output = status.output().unwrap();
        let status: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        status["settled"].as_u64().unwrap_or(0)
    };
    let log = |instance: &Instance<'_>, name: &str| fs::read_to_string(instance.root.join(name)).unwrap();
    let mut alone = first.start(first.command("coordinator").env("EDP_RUN__SNAPSHOT", "1"), "log");
    let mut worker = workers.start(workers.command("worker").env("EDP_RUN__SLOTS", "1"), "log");
    until("some granules are made", || {
        assert!(alone.try_wait().unwrap().is_none(), "{}", log(&first, "log"));
        assert!(worker.try_wait().unwrap().is_none(), "{}", log(&workers, "log"));
        settled(&first) >= 2
    });
    signal(worker.id(), "STOP");
    let copied = || {
        place
            .account
            .aws(["s3api", "head-object", "--bucket", "product", "--key", "granules/.edp/v4r4.ledger"])
            .output()
            .unwrap()
            .status
            .success()
    };
    until("the ledger is copied", copied);
    let before = settled(&first);
    assert!(before < 24, "all was made before the instance was lost");
    drop(alone);

    fs::create_dir_all(&second.root).unwrap();
    second.boot(&place.user_data("CoordinatorTemplate"), 0);
    let mut alone = second.start(&mut second.command("coordinator"), "log");
    signal(worker.id(), "CONT");
    assert_eq!(alone.wait().unwrap().code(), Some(0), "{}", log(&second, "log"));
    assert_eq!(place.granules().len(), 24);
    // The scaling reads what the coordinator has written into its log.
    let told = log(&second, "log")
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect::<Vec<serde_json::Value>>();
    for name in ["BySecondsPerSlot", "NothingRemains", "GranulesFailed", "WithoutWorkers"] {
        let properties = place.template.properties(name).unwrap();
        let tracked = &properties["TargetTrackingConfiguration"]["CustomizedMetricSpecification"]["Metrics"];
        let metric = match (tracked, &properties["Metrics"]) {
            (serde_json::Value::Null, serde_json::Value::Null) => properties.clone(),
            (serde_json::Value::Null, metrics) => metrics[1]["MetricStat"]["Metric"].clone(),
            (metrics, _) => metrics[0]["MetricStat"]["Metric"].clone(),
        };
        let metric_name = metric["MetricName"].as_str().unwrap();
        let dimensions = metric["Dimensions"].as_array().unwrap();
        let is_told = |line: &&serde_json::Value| {
            let directive = &line["_aws"]["CloudWatchMetrics"][0];
            let names: Vec<_> = dimensions.iter().map(|dimension| dimension["Name"].clone()).collect();
            directive["Namespace"] == metric["Namespace"]
                && directive["Dimensions"][0] == serde_json::Value::from(names)
                && dimensions.iter().all(|d| line[d["Name"].as_str().unwrap()] == d["Value"])
                && line[metric_name].is_number()
        };
        let last = told.iter().rfind(is_told).unwrap_or_else(|| panic!("{name} reads what is not told: {told:?}"));
        // Workers are there until the end.
        let is_rest = metric_name != "edp.announced.slots";
        assert!(!is_rest || last[metric_name].as_f64() == Some(0.0), "{last}");
    }
    assert_eq!(settled(&second), 24);
    signal(worker.id(), "TERM");
    assert_eq!(worker.wait().unwrap().code(), Some(143), "{}", log(&workers, "log"));
    let ends = [&first, &second].map(|instance| instance.root.join("var/lib/edp/v4r4/ledger"));
    let begun = ends.map(|ledger| {
        let mut status = coordinator();
        let output = expect(status.args(["status", "--output", "json", "--ledger"]).arg(ledger), 0);
        edp_tests::json(&output)["begun"].clone()
    });
    assert_eq!(begun[0], begun[1], "the second coordinator has not gone on from the ledger of the first");
}

#[test]
fn an_instance_does_not_start_with_another_archive_or_buckets_elsewhere() {
    let Some(place) = Place::new() else { return };
    let instance = place.instance("instance");
    fs::create_dir_all(&instance.root).unwrap();
    let user_data = place.user_data("WorkerTemplate");
    let sum = &place.template.given["ReleaseSha256"];
    let said = instance.boot(&user_data.replace(sum.as_str(), &"0".repeat(64)), 1);
    assert!(said.contains("FAILED") && !instance.root.join("usr/local/bin").exists(), "{said}");
    let elsewhere = ["--create-bucket-configuration", "LocationConstraint=eu-west-1"];
    place
        .account
        .answer([&["s3api", "create-bucket", "--bucket", "far", "--region", "eu-west-1"][..], &elsewhere].concat());
    let said = instance.boot(&user_data.replace("\"results product\"", "\"results far\""), 1);
    assert!(said.contains("s3://far is in eu-west-1"), "{said}");
    assert!(said.contains("end-instance: unfit"), "a worker that was not set up does not end its instance: {said}");
    let said = instance.boot(&user_data.replace("\"results product\"", "\"results none\""), 1);
    assert!(said.contains("s3://none: there is no such bucket"), "{said}");
    let called = fs::read_to_string(instance.root.join("called")).unwrap_or_default();
    assert!(!called.contains("systemctl"), "{called}");
    assert!(called.contains("amazon-cloudwatch-agent-ctl"), "nobody hears of it: {called}");
    // A coordinator's instance stays.
    let alone = place.instance("alone");
    fs::create_dir_all(&alone.root).unwrap();
    let said = alone.boot(&place.user_data("CoordinatorTemplate").replace("\"results product\"", "\"results far\""), 1);
    assert!(said.contains("end-instance: stays"), "{said}");
}
