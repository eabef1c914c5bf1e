//! Destinations that cannot take granules: a problem of one granule makes that granule fail; a problem of all granules
//! ends the production at once, with one reason.

use super::{Ended, Production, calm, shown, temporary};
use edp_tests::{coordinator, expect, files, json, text};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A separate file system in memory.
struct Mount(PathBuf);

impl Mount {
    /// Mounts a file system; `None`, with a message, where mounting is not allowed.
    fn new(path: &Path, size: &str) -> Option<Mount> {
        fs::create_dir(path).unwrap();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", size, "tmpfs"]).arg(path).output();
        match mounted {
            Ok(output) if output.status.success() => Some(Mount(path.to_owned())),
            other => {
                edp_tests::not_permitted(&format!("no file system can be mounted here ({other:?})"));
                None
            }
        }
    }

    fn remount(&self, options: &str) {
        let options = format!("remount,{options}");
        assert!(Command::new("mount").args(["-o", &options]).arg(&self.0).status().unwrap().success());
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Runs a list whose destination holds more than granules.
fn run(production: &Production) -> Ended {
    let output = expect(coordinator().arg("run").arg(&production.list).args(["--output", "json"]), 3);
    calm(&output);
    Ended { report: json(&output), stderr: String::from_utf8_lossy(&output.stderr).into_owned() }
}

/// Checks that the production was stopped, with one reason that is printed once and given for every granule not begun.
fn gave_up(ended: &Ended, words: &str) {
    let stopped = ended.report["stopped"].as_str().unwrap();
    assert!(stopped.contains(words), "{stopped}");
    assert_eq!(ended.stderr.matches(words).count(), 1, "{}", ended.stderr);
    assert!(ended.count("left") > 0);
    let others = ["failed", "held", "conflict"].map(|state| ended.count(state));
    assert_eq!(others, [0; 3], "{}", ended.report);
}

#[test]
fn a_file_in_the_place_of_the_destination_ends_the_production() {
    let production = Production::new();
    production.plan();
    fs::write(&production.out, "a file where a directory should be").unwrap();
    let ended = production.run(4);
    gave_up(&ended, "could not make its directory");
    assert_eq!(ended.count("left"), 24);
    assert_eq!(fs::read_to_string(&production.out).unwrap(), "a file where a directory should be");
}

#[test]
fn a_file_in_the_place_of_a_directory_costs_what_goes_there() {
    let production = Production::new();
    production.plan();
    let way = production.out.join("DEMO/native/mon_mean/OCEAN_VELOCITY");
    fs::create_dir_all(way.parent().unwrap()).unwrap();
    fs::write(&way, "x").unwrap();
    let ended = run(&production);
    assert_eq!(ended.failed_with(&["could not make its directory", &shown(&way)]), 3);
    fs::remove_file(&way).unwrap();
    assert_eq!(production.run(0).count("made"), 3);
}

#[test]
fn whatever_stands_under_the_name_of_a_granule_is_kept() {
    let production = Production::new();
    production.plan();
    let granules: Vec<PathBuf> = production.recipes().iter().take(4).map(|recipe| (&recipe.granule).into()).collect();
    for granule in &granules {
        fs::create_dir_all(granule.parent().unwrap()).unwrap();
    }
    fs::create_dir(&granules[0]).unwrap();
    symlink("nowhere", &granules[1]).unwrap();
    symlink(&granules[2], &granules[2]).unwrap();
    fs::write(&granules[3], "no granule").unwrap();
    let ended = run(&production);
    assert_eq!((ended.count("conflict"), ended.count("made")), (4, 20), "{}", ended.report);
    for (granule, reason) in ended.reasons("conflict") {
        assert!(reason.contains(&granule) && reason.contains("--replace"), "{reason}");
    }
    assert!(granules[0].is_dir() && granules[1].is_symlink() && granules[2].is_symlink());
    assert_eq!(fs::read_to_string(&granules[3]).unwrap(), "no granule");
}

#[test]
fn a_full_destination_ends_the_production_and_room_lets_it_go_on() {
    let production = Production::new();
    let Some(mount) = Mount::new(&production.out, "size=1m") else { return };
    production.plan();
    let ended = production.run(4);
    gave_up(&ended, "No space left on device");
    let made = ended.count("made");
    assert!((1..24).contains(&made), "{made} made");
    assert_eq!(files(&production.out).len(), made);
    // Nothing has changed, so nothing is made and nothing is lost.
    let again = production.run(4);
    gave_up(&again, "No space left on device");
    mount.remount("size=64m");
    let ended = production.run(0);
    assert_eq!(ended.count("made") + ended.count("present"), 24);
    // Nothing of the failed production is in a new one elsewhere.
    let elsewhere = Production { out: production.fixture.path("elsewhere"), ..production };
    elsewhere.plan();
    elsewhere.run(0);
    assert_eq!(files(&elsewhere.out), files(&mount.0));
}

#[test]
fn a_read_only_destination_ends_the_production() {
    let production = Production::new();
    let Some(mount) = Mount::new(&production.out, "size=64m") else { return };
    production.plan();
    mount.remount("ro");
    let ended = production.run(4);
    gave_up(&ended, "Read-only file system");
    assert_eq!(ended.count("left"), 24);
    mount.remount("rw");
    // The directories exist, so the next attempt fails at the file and not at them.
    production.run(0);
    fs::remove_file(&production.recipes()[0].granule).unwrap();
    mount.remount("ro");
    let ended = production.run(4);
    gave_up(&ended, "Read-only file system");
}

#[test]
fn a_destination_that_vanishes_on_the_way_is_made_again() {
    let production = Production::new();
    production.plan();
    let mut command = coordinator();
    command.arg("run").arg(&production.list).args(["--slots", "2", "--output", "json"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // Remove it again and again, as soon as there is a granule.
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut removed = 0;
    while removed < 3 && child.try_wait().unwrap().is_none() {
        assert!(Instant::now() < deadline, "no granule after a minute");
        if files(&production.out).keys().any(|name| name.ends_with(".nc")) {
            let aside = production.fixture.path(&format!("aside{removed}"));
            fs::rename(&production.out, &aside).unwrap();
            fs::remove_dir_all(aside).unwrap();
            removed += 1;
        }
        std::thread::yield_now();
    }
    let output = child.wait_with_output().unwrap();
    calm(&output);
    let ended = Ended { report: json(&output), stderr: String::new() };
    // Every granule was made, some of them in vain; the verification at the end finds that.
    assert_eq!(ended.count("made"), 24, "{}", ended.report);
    let whole = ended.report["verified"]["problems"].as_array().unwrap().is_empty();
    assert_eq!(output.status.code(), Some(if whole { 0 } else { 3 }), "{}", text(&output));
    assert_eq!(temporary(&production.out), [""; 0]);
    let ended = production.run(0);
    assert_eq!(ended.count("made") + ended.count("present"), 24);
}
