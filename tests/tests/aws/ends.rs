//! `end-instance` for each way in which a program may have ended, beside a metadata service of EC2 and a group that is
//! recorded, and once with the group of an account.

use super::account::Account;
use super::template::directory;
use edp_tests::imds::{INTERRUPTION, Imds, SCALING};
use edp_tests::{expect, text};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

/// Stands for the AWS command line, and keeps what it is asked. What `refused` names is refused.
const AWS: &str = "#!/bin/sh\necho \"$2 $*\" >>asked\ngrep -q -x \"$2\" refused && exit 254\nexit 0\n";

const END: &str = "terminate-instance-in-auto-scaling-group";
const COMPLETE: &str = "complete-lifecycle-action";

/// What the metadata service tells.
#[derive(Debug, Clone, Copy, Default)]
struct Told {
    state: &'static str,
    interruption: bool,
}

fn imds(told: Told) -> Imds {
    Imds::start(move |path| match path {
        "/latest/meta-data/instance-id" => Some("i-0123".into()),
        SCALING => Some(told.state.to_owned()).filter(|state| !state.is_empty()),
        INTERRUPTION => told.interruption.then(|| r#"{"action": "terminate"}"#.into()),
        _ => None,
    })
}

/// Runs the script as the unit of `role` does. Returns what it asked of the group, and what it said.
fn end(role: &str, ended: (&str, &str), told: Told, refused: &str) -> (Vec<String>, String) {
    let directory = tempfile::tempdir().unwrap();
    let aws = directory.path().join("aws");
    fs::write(&aws, AWS).unwrap();
    fs::set_permissions(&aws, fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(directory.path().join("refused"), refused).unwrap();
    let service = imds(told);
    let mut script = Command::new(super::template::directory().join("end-instance"));
    let path = format!("{}:{}", directory.path().display(), std::env::var("PATH").unwrap());
    script.arg(role).current_dir(directory.path()).env("PATH", path).env("EDP_SERVE__IMDS", &service.url);
    script.envs([
        ("GROUP", "edp-workers"),
        ("EXIT_CODE", ended.0),
        ("EXIT_STATUS", ended.1),
        ("EDP_HOOK_PATIENCE", "0"),
    ]);
    let output = expect(&mut script, 0);
    let asked = fs::read_to_string(directory.path().join("asked")).unwrap_or_default();
    (asked.lines().map(str::to_owned).collect(), text(&output))
}

#[test]
fn an_instance_ends_as_its_program_has_ended() {
    let leaves = [END, COMPLETE].as_slice();
    let goes = [COMPLETE].as_slice();
    let none = [].as_slice();
    let in_service = Told { state: "InService", interruption: false };
    let scaled_in = Told { state: "Terminated", interruption: false };
    let taken = Told { state: "InService", interruption: true };
    for (role, ended, told, asks, says) in [
        ("worker", ("exited", "0"), in_service, leaves, "end-instance: idle"),
        ("worker", ("exited", "4"), in_service, leaves, "end-instance: unfit"),
        ("worker", ("exited", "1"), in_service, leaves, "end-instance: unfit"),
        ("worker", ("killed", "KILL"), in_service, leaves, "end-instance: unfit"),
        ("worker", ("dumped", "ABRT"), Told::default(), leaves, "end-instance: unfit"),
        ("worker", ("exited", "2"), in_service, none, "end-instance: stays"),
        ("worker", ("exited", "143"), in_service, none, "end-instance: stays"),
        ("worker", ("exited", "0"), scaled_in, goes, "may end i-0123"),
        ("worker", ("exited", "143"), scaled_in, goes, "may end i-0123"),
        ("worker", ("killed", "KILL"), scaled_in, goes, "may end i-0123"),
        ("worker", ("exited", "0"), taken, none, "EC2 takes i-0123 back"),
        ("coordinator", ("exited", "0"), in_service, leaves, "the production has ended"),
        ("coordinator", ("exited", "3"), in_service, leaves, "the production has ended"),
        // Stopped before its instance is replaced: the group keeps its size.
        ("coordinator", ("exited", "3"), scaled_in, goes, "may end i-0123"),
        ("coordinator", ("exited", "4"), in_service, none, "is started again"),
        ("coordinator", ("killed", "SEGV"), in_service, none, "is started again"),
        ("coordinator", ("exited", "2"), in_service, none, "end-instance: stays"),
    ] {
        let (asked, said) = end(role, ended, told, "");
        let names: Vec<_> = asked.iter().map(|line| line.split(' ').next().unwrap()).collect();
        assert_eq!(names, asks, "{role} {ended:?} {told:?}: {said}");
        assert!(said.contains(says), "{role} {ended:?} {told:?}: {said}");
        for line in asked {
            assert!(line.contains("--instance-id i-0123"), "{line}");
            assert!(!line.starts_with(END) || line.contains("--should-decrement-desired-capacity"), "{line}");
            let hook = "--auto-scaling-group-name edp-workers --lifecycle-hook-name drain";
            assert!(!line.starts_with(COMPLETE) || line.contains(hook), "{line}");
        }
    }
}

#[test]
fn an_instance_that_its_group_keeps_is_told_of() {
    let told = Told { state: "InService", interruption: false };
    let (asked, said) = end("worker", ("exited", "0"), told, END);
    assert!(asked.len() == 1 && said.contains("end-instance: stays"), "{asked:?} {said}");
    // The group ends it when the time of its hook is over.
    let (asked, said) = end("worker", ("exited", "0"), told, COMPLETE);
    assert!(asked.len() == 2 && said.contains("was not completed"), "{asked:?} {said}");
}

#[test]
fn without_a_metadata_service_nothing_is_ended() {
    let mut script = Command::new(directory().join("end-instance"));
    script.arg("worker").env("EDP_SERVE__IMDS", "http://127.0.0.1:9").env("GROUP", "edp-workers");
    let output = expect(script.envs([("EXIT_CODE", "exited"), ("EXIT_STATUS", "0")]), 0);
    assert!(text(&output).contains("end-instance: stays"), "{}", text(&output));
    expect(Command::new(directory().join("end-instance")).arg("broker"), 2);
}

#[test]
fn a_group_of_an_account_gets_smaller_by_the_instance_that_has_ended() {
    let Some(account) = Account::start() else { return };
    let template = r#"{"ImageId": "ami-12c6146b", "InstanceType": "c6i.xlarge"}"#;
    account.answer([
        "ec2",
        "create-launch-template",
        "--launch-template-name",
        "edp",
        "--launch-template-data",
        template,
    ]);
    let mut create = vec!["autoscaling", "create-auto-scaling-group", "--auto-scaling-group-name", "edp-workers"];
    create.extend(["--launch-template", "LaunchTemplateName=edp", "--min-size", "0", "--max-size", "4"]);
    create.extend(["--desired-capacity", "2", "--availability-zones", "us-east-1a"]);
    account.answer(create);
    let group = || {
        let groups = account.answer(["autoscaling", "describe-auto-scaling-groups"])["AutoScalingGroups"].clone();
        let instances = groups[0]["Instances"].as_array().unwrap().clone();
        let ids: Vec<_> = instances.iter().map(|i| i["InstanceId"].as_str().unwrap().to_owned()).collect();
        (groups[0]["DesiredCapacity"].as_u64().unwrap(), ids)
    };
    let (desired, ids) = group();
    assert_eq!((desired, ids.len()), (2, 2));
    let own = ids[0].clone();
    let service = Imds::start(move |path| (path == "/latest/meta-data/instance-id").then(|| own.clone()));
    let mut script = Command::new(directory().join("end-instance"));
    script.arg("worker").envs(account.environment()).env("EDP_SERVE__IMDS", &service.url);
    script.envs([("GROUP", "edp-workers"), ("EXIT_CODE", "exited"), ("EXIT_STATUS", "0"), ("EDP_HOOK_PATIENCE", "0")]);
    let said = text(&expect(&mut script, 0));
    let (desired, left) = group();
    assert_eq!((desired, left), (1, ids[1..].to_vec()), "{said}");
}
