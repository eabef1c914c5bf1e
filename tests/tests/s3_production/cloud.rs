//! A model run whose files are all on S3, and the programs that work on it.

use edp_protocol::recipe::{self, Recipe};
use edp_tests::s3::S3Server;
use edp_tests::{Fixture, coordinator, expect, json, program};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Number of cells along the side of a tile.
const SIZE: usize = 6;

/// The production date of all productions: 2020-01-01.
const EPOCH: (&str, &str) = ("SOURCE_DATE_EPOCH", "1577836800");

pub(crate) struct Cloud {
    pub(crate) fixture: Fixture,
    pub(crate) server: S3Server,
}

impl Cloud {
    pub(crate) fn new() -> Cloud {
        let (fixture, server) = (Fixture::new(SIZE), S3Server::start(&["model", "shared", "out"]));
        let demo = &fixture.demo;
        server.put_files("model", "run", &demo.results);
        for (prefix, directory) in [("grid", &demo.grid), ("factors", &demo.factors), ("metadata", &demo.metadata)] {
            server.put_files("shared", prefix, directory);
        }
        for (key, file) in [("config.yaml", &demo.configuration), ("jobs.txt", &demo.jobs)] {
            server.put("shared", key, fs::read(file).unwrap());
        }
        fs::create_dir(fixture.path("scratch")).unwrap();
        Cloud { fixture, server }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.fixture.path(name)
    }

    /// Returns a program that reaches the server, and keeps its temporary files in the fixture's scratch directory.
    pub(crate) fn with(&self, mut command: Command) -> Command {
        command.envs(self.server.environment()).env("EDP_STORE__SCRATCH", self.path("scratch")).env(EPOCH.0, EPOCH.1);
        command
    }

    pub(crate) fn coordinator(&self, words: &[&str]) -> Command {
        let mut command = self.with(coordinator());
        command.args(words);
        command
    }

    pub(crate) fn worker(&self, words: &[&str]) -> Command {
        let mut command = self.with(program("edp-worker"));
        command.args(words);
        command
    }

    /// Returns the options of a plan whose files are all on S3.
    pub(crate) fn options(destination: &str) -> Vec<&str> {
        [
            ["--jobs", "s3://shared/jobs.txt"],
            ["--config", "s3://shared/config.yaml"],
            ["--source", "s3://model/run"],
            ["--destination", destination],
            ["--grid", "s3://shared/grid"],
            ["--mapping-factors", "s3://shared/factors/"],
            ["--metadata", "s3://shared/metadata"],
        ]
        .concat()
    }

    /// Plans everything on S3, and returns the path of the list.
    pub(crate) fn plan(&self, destination: &str, list: &str) -> PathBuf {
        let list = self.path(list);
        let mut command = self.coordinator(&["plan", "--tasks-out", list.to_str().unwrap()]);
        expect(command.args(Cloud::options(destination)), 0);
        list
    }

    /// Runs a list in process, and returns the report.
    pub(crate) fn run(&self, list: &str, more: &[&str], status: i32) -> serde_json::Value {
        json(&expect(self.coordinator(&["run", list, "--output", "json"]).args(more), status))
    }

    /// Checks that no upload is in progress, and that nothing temporary is left on the disk.
    pub(crate) fn is_clean(&self) {
        assert_eq!(self.server.uploads(), Vec::<String>::new());
        let left: Vec<_> = fs::read_dir(self.path("scratch")).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

pub(crate) fn recipes(list: &Path) -> Vec<Recipe> {
    recipe::parse_list("list", &fs::read(list).unwrap()).unwrap()
}

/// Returns the bucket and the key of an `s3://` location.
pub(crate) fn parts(location: &str) -> (&str, &str) {
    location.strip_prefix("s3://").and_then(|rest| rest.split_once('/')).unwrap()
}

/// Returns the reasons in a report for the granules in a state.
pub(crate) fn reasons(report: &serde_json::Value, state: &str) -> Vec<String> {
    let entries = report["entries"].as_array().unwrap().iter().filter(|entry| entry["state"] == state);
    entries.map(|entry| entry["reason"].as_str().unwrap_or_default().to_owned()).collect()
}
