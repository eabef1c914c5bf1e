//! The crates keep their arrows: what a crate may depend on is said here, and held against what cargo resolves.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

/// Each crate of the workspace that others build on, with all of the workspace that it may depend on, directly or not.
const ROOMS: [(&str, &[&str]); 9] = [
    ("edp-protocol", &[]),
    ("edp-files", &[]),
    ("edp-store", &["edp-files", "edp-protocol"]),
    ("edp-s3", &["edp-files", "edp-protocol", "edp-store"]),
    ("edp-queue", &["edp-files", "edp-protocol"]),
    ("edp-program", &["edp-files", "edp-protocol", "edp-queue", "edp-store"]),
    ("edp-engine", &["edp-files", "edp-protocol", "edp-store"]),
    ("edp-production", &["edp-engine", "edp-files", "edp-program", "edp-protocol", "edp-queue", "edp-store"]),
    ("edp-parsers", &["edp-engine", "edp-files", "edp-protocol", "edp-store"]),
];

/// Crates of others by which a program reaches the network, or runs what does.
const NETWORK: [&str; 6] = ["aws-sdk-s3", "hyper", "lapin", "opentelemetry", "socket2", "tokio"];

/// Crates without network.
const QUIET: [&str; 5] = ["edp-protocol", "edp-files", "edp-store", "edp-engine", "edp-parsers"];

/// For each package, by name, the packages that it needs to be built: not those of its tests.
fn needed() -> BTreeMap<String, BTreeSet<String>> {
    let cargo = std::env::var("CARGO").unwrap_or("cargo".into());
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.toml");
    let mut command = Command::new(cargo);
    command.args(["metadata", "--format-version=1", "--offline", "--locked", "--manifest-path"]).arg(manifest);
    let output = command.output().expect("cargo");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let list = |value: &serde_json::Value| value.as_array().cloned().unwrap_or_default();
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let names: BTreeMap<String, String> =
        list(&metadata["packages"]).iter().map(|package| (text(&package["id"]), text(&package["name"]))).collect();
    let mut needed = BTreeMap::<String, BTreeSet<String>>::new();
    for node in list(&metadata["resolve"]["nodes"]) {
        let own = needed.entry(names[&text(&node["id"])].clone()).or_default();
        for dependency in list(&node["deps"]) {
            if list(&dependency["dep_kinds"]).iter().any(|kind| kind["kind"].is_null()) {
                own.insert(names[&text(&dependency["pkg"])].clone());
            }
        }
    }
    needed
}

/// Everything that a package needs.
fn all_of<'a>(name: &'a str, needed: &'a BTreeMap<String, BTreeSet<String>>) -> BTreeSet<&'a str> {
    let (mut all, mut next) = (BTreeSet::new(), vec![name]);
    while let Some(name) = next.pop() {
        for dependency in &needed[name] {
            if all.insert(dependency.as_str()) {
                next.push(dependency);
            }
        }
    }
    all
}

#[test]
fn crates_depend_on_what_they_may_and_on_nothing_else() {
    let needed = needed();
    for (name, allowed) in ROOMS {
        let found: Vec<&str> = all_of(name, &needed).into_iter().filter(|one| one.starts_with("edp-")).collect();
        assert_eq!(found, allowed, "{name}");
    }
}

#[test]
fn what_makes_granules_does_not_reach_the_network() {
    let needed = needed();
    for name in QUIET {
        let all = all_of(name, &needed);
        let found: Vec<&str> = NETWORK.into_iter().filter(|one| all.contains(one)).collect();
        assert!(found.is_empty(), "{name} needs {found:?}");
    }
    let reached = all_of("edp-worker", &needed);
    assert!(NETWORK.iter().all(|one| reached.contains(one)), "names have changed: nothing would be seen above");
}
