//! Users with only the rights that they need, and passwords that nobody gets to see.

use crate::fleet::{Fleet, Model, Process};
use edp_tests::broker::Broker;
use edp_tests::until;

/// The forms of a password that must not appear anywhere: as text, and as a list of bytes.
const SECRET: [&str; 2] = ["s3cr3t", "115, 51, 99, 114, 51, 116"];

/// The filter that logs everything, including the libraries.
const ALL: &str = "trace,lapin=trace,aws_config=trace";

/// The password as it is, and as it is written in a URL.
const PASSWORD: [&str; 2] = ["s3cr3t/w0rd", "s3cr3t%2Fw0rd"];

fn is_discreet(what: &str, text: &str) {
    for secret in SECRET {
        if let Some(at) = text.find(secret) {
            let around = text.get(at.saturating_sub(300)..(at + 20).min(text.len()));
            panic!("{what}: the password is in it: {around:?}");
        }
    }
}

/// Returns the command line of a process, as everybody on the machine can see it.
fn command_line(process: &Process) -> String {
    let bytes = std::fs::read(format!("/proc/{}/cmdline", process.id())).unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn refused(mut process: Process) {
    until("it ends", || process.ended().is_some());
    let log = process.log();
    assert_eq!(process.ended().and_then(|status| status.code()), Some(4), "{log}");
    assert!(log.contains("ACCESS_REFUSED") && log.contains("check user, password"), "{log}");
    is_discreet("the refused", &(log + &process.out()));
}

/// A complete production with the documented permissions and with everything logged.
#[test]
fn users_on_a_broker_need_no_more_and_passwords_are_not_told() {
    let (broker, model) = (Broker::start(), Model::new(1));
    let mut fleet = Fleet::new("least.1", &broker, &model);
    let (coordinator, worker) = Broker::patterns(&fleet.production().parse().unwrap());
    broker.user("coordinator", PASSWORD[0], coordinator.each_ref().map(String::as_str));
    broker.user("worker", PASSWORD[0], worker.each_ref().map(String::as_str));
    let [coordinator, worker] = ["coordinator", "worker"].map(|user| broker.url(user, PASSWORD[1]));

    // A user with another password may do nothing, and a worker's user may not act as a coordinator.
    fleet.settings.insert("RUST_LOG".into(), ALL.into());
    fleet.url = broker.url("coordinator", "s3cr3t-but-wrong");
    refused(fleet.coordinator());
    fleet.worker();
    refused(fleet.workers.remove(0));
    fleet.url = worker.clone();
    refused(fleet.coordinator());

    fleet.settings.clear();
    fleet.options = ["--log", ALL].map(str::to_owned).to_vec();
    fleet.url = coordinator;
    let mut first = fleet.coordinator();
    until("the queues are there", || fleet.depth(&broker) > 0);
    fleet.options.clear();
    fleet.settings.insert("RUST_LOG".into(), ALL.into());
    fleet.url = worker;
    fleet.refill();
    for process in fleet.workers.iter().chain([&first]) {
        is_discreet("a command line", &command_line(process));
    }
    until("it ends", || first.ended().is_some());
    let log = first.log();
    fleet.ends(first, 0);
    assert!(log.contains("DEBUG"), "little is logged");
    is_discreet("the coordinator", &log);
    for worker in &mut fleet.workers {
        worker.signal("TERM");
        until("it ends", || worker.ended().is_some());
    }
    let logs = fleet.logs();
    assert!(logs.contains("DEBUG"), "little is logged");
    is_discreet("the workers", &logs);
    fleet.is_whole_but_for(&[]);
}
