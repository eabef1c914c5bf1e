//! The systemd units of `deploy/machine`: whether systemd accepts them, what they may do, which exit statuses restart
//! them, and whether the programs need anything that they are denied.

use edp_program::settings::{ServeSettings, Settings};
use edp_tests::broker::Broker;
use edp_tests::{Fixture, Started, coordinator, expect, not_permitted, not_run, program, strace, text};
use edp_worker::console::{Ending, Signal};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Largest exposure that `systemd-analyze security` may find, in tenths.
const EXPOSURE: &str = "--threshold=20";

fn directory() -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "../deploy/machine"].iter().collect()
}

fn unit(name: &str) -> String {
    fs::read_to_string(directory().join(name)).unwrap()
}

/// Returns the values of a key of a unit, in their order.
fn values<'a>(unit: &'a str, key: &str) -> Vec<&'a str> {
    unit.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('=')).collect()
}

fn has_systemd() -> bool {
    let found = Command::new("systemd-analyze").arg("--version").output().is_ok_and(|output| output.status.success());
    match found {
        true => {}
        false if cfg!(target_os = "linux") => not_run("there is no systemd-analyze"),
        false => not_permitted("there is no systemd on this system"),
    }
    found
}

fn analyze(units: &Path, words: &[&str]) -> Output {
    let path = format!("{}:", units.display());
    Command::new("systemd-analyze").args(words).current_dir(units).env("SYSTEMD_UNIT_PATH", path).output().unwrap()
}

#[test]
fn systemd_accepts_the_units_and_finds_them_confined() {
    if !has_systemd() {
        return;
    }
    let units = tempfile::tempdir().unwrap();
    let mut names = Vec::new();
    for name in ["edp-worker", "edp-coordinator"] {
        let built = program(name).get_program().to_owned();
        let installed = format!("/usr/local/bin/{name}");
        let text = unit(&format!("{name}@.service"));
        assert!(values(&text, "ExecStart")[0].starts_with(&installed));
        let name = format!("{name}@v4r4.service");
        fs::write(units.path().join(&name), text.replace(&installed, built.to_str().unwrap())).unwrap();
        names.push(name);
    }
    match fs::read_to_string("/lib/systemd/system/rabbitmq-server.service") {
        Ok(text) => {
            let name = "rabbitmq-server.service".to_owned();
            let more = units.path().join("rabbitmq-server.service.d");
            fs::create_dir(&more).unwrap();
            fs::write(more.join("edp.conf"), unit("rabbitmq-server.service.d/edp.conf")).unwrap();
            fs::write(units.path().join(&name), text).unwrap();
            names.push(name);
        }
        Err(_) => not_run("the distribution's unit of RabbitMQ is not installed"),
    }
    for name in names {
        let verified = analyze(units.path(), &["verify", "--man=no", &format!("./{name}")]);
        assert!(verified.status.success() && verified.stderr.is_empty(), "{name}: {}", text(&verified));
        let confined = analyze(units.path(), &["security", "--offline=true", EXPOSURE, &format!("./{name}")]);
        assert!(confined.status.success(), "{name}: {}", text(&confined));
        assert!(text(&confined).contains("Overall exposure level"), "{name}: {}", text(&confined));
    }
    // The judge has to be one.
    fs::write(units.path().join("open.service"), "[Service]\nExecStart=/bin/true\n").unwrap();
    let open = analyze(units.path(), &["security", "--offline=true", EXPOSURE, "./open.service"]);
    assert!(!open.status.success(), "{}", text(&open));
}

#[test]
fn exit_statuses_restart_a_unit_only_where_that_may_help() {
    let stopped = [Signal::Hangup, Signal::Interrupt, Signal::Terminate].map(|signal| Ending::Stopped(signal).code());
    let wrong = [Ending::Usage, Ending::Incomplete].map(Ending::code);
    let statuses = |unit: &str, key| -> Vec<u8> {
        values(unit, key).iter().flat_map(|value| value.split(' ')).map(|word| word.parse().unwrap()).collect()
    };
    for (name, never) in [("edp-worker@.service", &wrong[..1]), ("edp-coordinator@.service", &wrong[..])] {
        let unit = unit(name);
        assert_eq!(values(&unit, "Restart"), ["on-failure"], "{name}");
        assert_eq!(statuses(&unit, "RestartPreventExitStatus"), never, "{name}");
        assert_eq!(statuses(&unit, "SuccessExitStatus"), stopped, "{name}");
        // Grace period, computations that do not react, connections; a margin.
        let needed = ServeSettings::default().grace + 30 + 15 + 30;
        let given: u32 = values(&unit, "TimeoutStopSec")[0].parse().unwrap();
        assert!(given >= needed, "{name}: {given} s, {needed} s are needed");
        assert_eq!(values(&unit, "KillMode"), ["mixed"], "{name}: helpers would be told to stop before the program");
    }
}

#[test]
fn settings_of_the_units_are_settings() {
    let page = unit("README.md");
    let file = page.split("```ini\n").nth(1).unwrap().split("```").next().unwrap();
    assert!(file.contains("EDP_QUEUE__URL=") && !file.contains("password"), "{file}");
    for name in ["edp-worker@.service", "edp-coordinator@.service"] {
        let unit = unit(name);
        let lines = file.lines().chain(values(&unit, "Environment"));
        let variables = lines.map(|line| line.split_once('=').unwrap()).map(|(k, v)| (k.to_owned(), v.to_owned()));
        let settings = Settings::parse(None, variables).unwrap();
        assert!(settings.queue.url.is_some() && settings.queue.password_file.is_some(), "{name}");
        assert!(settings.serve.roots.is_some(), "{name}");
        assert_eq!(settings.serve.status.is_some(), name.contains("worker"), "{name}");
    }
}

/// Returns the system calls of a set of systemd's filters.
fn calls(sets: &str, name: &str) -> BTreeSet<String> {
    if !name.starts_with('@') {
        return [name.to_owned()].into();
    }
    let start = sets.find(&format!("{name}\n")).unwrap_or_else(|| panic!("systemd has no set {name}"));
    let members = sets[start..].lines().skip(1).take_while(|line| line.starts_with(' ')).map(str::trim);
    members.filter(|line| !line.starts_with('#')).flat_map(|member| calls(sets, member)).collect()
}

/// A production over a broker, with all system calls of both programs counted.
#[test]
fn units_deny_nothing_that_the_programs_need_on_a_broker() {
    if !has_systemd() {
        return;
    }
    if !strace::is_there() {
        return not_run(strace::NONE);
    }
    let broker = Broker::start();
    let fixture = Fixture::new(6);
    let list = fixture.plan(&fixture.path("out"), "tasks.json", &[]);
    let counted = |command: &Command, name: &str| {
        let words = ["strace", "-D", "-f", "-c", "-o"].map(str::to_owned);
        let log = fixture.path(name).display().to_string();
        let mut command = strace::beneath(&[&words[..], &[log]].concat(), command);
        command.env("EDP_QUEUE__URL", broker.url("guest", "guest")).current_dir(fixture.path(""));
        command
    };
    let mut worker = program("edp-worker");
    worker.args(["serve", "--slots", "2", "--exit-when-idle", "5s", "--root"]).arg(fixture.path(""));
    worker.arg("--status").arg(fixture.path("status.sock")).env("EDP_SERVE__NOTICES", "off");
    let mut worker = Started(counted(&worker, "worker.calls").spawn().unwrap());
    let mut run = coordinator();
    run.arg("run").arg(&list).arg("--queue");
    expect(&mut counted(&run, "coordinator.calls"), 0);
    assert_eq!(worker.wait().unwrap().code(), Some(0));

    let sets = Command::new("systemd-analyze").arg("syscall-filter").output().unwrap();
    let sets = String::from_utf8_lossy(&sets.stdout).into_owned();
    for name in ["worker", "coordinator"] {
        let unit = unit(&format!("edp-{name}@.service"));
        let mut allowed = BTreeSet::new();
        for value in values(&unit, "SystemCallFilter") {
            match value.strip_prefix('~') {
                None => allowed.extend(value.split(' ').flat_map(|name| calls(&sets, name))),
                Some(denied) => {
                    let denied: BTreeSet<_> = denied.split(' ').flat_map(|name| calls(&sets, name)).collect();
                    allowed.retain(|call| !denied.contains(call));
                }
            }
        }
        assert!(allowed.len() > 200 && !allowed.contains("chroot"), "{}", allowed.len());
        let mut table = String::new();
        edp_tests::until("strace writes its table", || {
            table = fs::read_to_string(fixture.path(&format!("{name}.calls"))).unwrap_or_default();
            table.contains("total")
        });
        let rows = table.lines().skip(2).take_while(|line| !line.starts_with("---"));
        let used: BTreeSet<&str> = rows.filter_map(|row| row.split_whitespace().last()).collect();
        assert!(used.contains("openat") && used.contains("sendto"), "{table}");
        // Only as root does SQLite give its files to the owner of the ledger; the services are not root.
        let for_root = |call: &str| call == "fchown" && rustix::process::geteuid().is_root();
        let denied: Vec<_> = used.iter().filter(|call| !allowed.contains(**call) && !for_root(call)).collect();
        assert!(denied.is_empty(), "edp-{name}@.service denies {denied:?}:\n{table}");
    }
}
