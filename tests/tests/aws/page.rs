//! The commands of the page, as they are written there, in an account that moto makes up.

use super::account::Account;
use super::template::directory;
use edp_tests::{Fixture, expect, program, text};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

/// Returns the commands of the page, each with the lines that continue it.
fn commands(page: &str) -> Vec<String> {
    let mut commands: Vec<String> = Vec::new();
    let mut is_within = false;
    for line in page.lines() {
        match (line.strip_prefix("```"), line.strip_prefix("$ ")) {
            (Some(language), _) => is_within = language == "console",
            (None, Some(command)) if is_within => commands.push(command.into()),
            (None, None) if is_within => {
                let last = commands.last_mut().unwrap();
                *last = format!("{last}\n{line}");
            }
            _ => {}
        }
    }
    commands
}

#[test]
fn the_commands_of_the_page_do_what_it_says() {
    let Some(account) = Account::start() else { return };
    let fixture = Fixture::new(6);
    let place = fixture.path("repository");
    let demo = &fixture.demo;
    fs::create_dir_all(place.join("target/demo")).unwrap();
    fs::create_dir_all(place.join("target/dist")).unwrap();
    symlink(directory().parent().unwrap(), place.join("deploy")).unwrap();
    fs::copy(&demo.jobs, place.join("target/demo/jobs.txt")).unwrap();
    for bucket in ["ecco-results", "ecco-granules", "ecco-releases"] {
        account.answer(["s3api", "create-bucket", "--bucket", bucket]);
    }
    let from =
        [(&demo.results, "V4r6"), (&demo.grid, "grid"), (&demo.factors, "factors"), (&demo.metadata, "metadata")];
    for (from, to) in from {
        let to = format!("s3://ecco-results/{to}");
        expect(account.aws(["s3", "cp", "--recursive", "--only-show-errors"]).arg(from).arg(to), 0);
    }
    let to = "s3://ecco-results/config.yaml";
    expect(account.aws(["s3", "cp", "--only-show-errors"]).arg(&demo.configuration).arg(to), 0);
    let commands = commands(&fs::read_to_string(directory().join("README.md")).unwrap());
    let programs = program("edp-worker").get_program().to_owned();
    let path = account.environment().into_iter().find(|(name, _)| name == "PATH").unwrap().1;
    let path = format!("{}:{path}", Path::new(&programs).parent().unwrap().display());
    let run = |command: &str| {
        let mut bash = Command::new("bash");
        bash.args(["-c", command]).envs(account.environment()).env("PATH", &path).current_dir(&place);
        text(&expect(bash.env("SOURCE_DATE_EPOCH", "1577836800"), 0))
    };
    for command in &commands {
        match command.split(' ').next().unwrap() {
            "make" => {
                // What it makes, by its name alone.
                let upload = commands.iter().find(|command| command.starts_with("aws s3 cp target/dist/")).unwrap();
                let archive = place.join(upload.split(' ').nth(3).unwrap());
                fs::write(&archive, "an archive").unwrap();
                run(&format!("cd target/dist && sha256sum *.tar.gz >{}.sha256", archive.display()));
            }
            // moto ends no network that has instances. That buckets stay is what the template says.
            "aws" if command.contains("delete-stack") => {}
            // moto makes no broker of Amazon MQ.
            "aws" if command.contains("cloudformation deploy") => {
                let said = run(&format!("{command} BrokerUrl=amqp://edp@broker/v4r6"));
                assert!(said.contains("Successfully created"), "{said}");
            }
            // The production of the stack has its own test. Here another one has left its ledger.
            "aws" if command.contains(".edp/v4r6.ledger v4r6.ledger") => {
                let list = "s3://ecco-results/lists/V4r6.json";
                run(&format!("edp-coordinator run {list} --production v4r6 --ledger made.ledger"));
                run(command);
            }
            "edp-coordinator" if command.contains(" status ") => {
                let said = run(command);
                assert!(said.contains("24 done"), "{said}");
            }
            "edp-coordinator" if command.contains(" verify ") => {
                let verified = run(command);
                assert!(verified.contains("0 missing, 0 damaged, 0 foreign, 24 not read"), "{verified}");
            }
            _ => {
                run(command);
            }
        }
    }
    let group = account.answer([
        "autoscaling",
        "describe-auto-scaling-groups",
        "--auto-scaling-group-names",
        "edp-v4r6-workers",
    ]);
    assert_eq!(group["AutoScalingGroups"][0]["MaxSize"], 160, "the production goes on");
    assert!(commands.len() >= 15, "{commands:?}");
}
