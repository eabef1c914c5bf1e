//! Tests of the inventory.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use super::*;
use edp_protocol::recipe::Version;
use edp_protocol::{Location, Mode};
use edp_store::Stores;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

fn tree(stems: &[&str]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for stem in stems {
        for (extension, size) in [("data", 8), ("meta", 3)] {
            write(root.path(), &format!("{stem}.{extension}"), size);
        }
    }
    root
}

fn write(root: &Path, path: &str, size: usize) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, vec![0; size]).unwrap();
}

fn scan(root: &tempfile::TempDir, version: &str) -> (Inventory, Vec<Note>) {
    Inventory::scan(root.path(), version).unwrap()
}

#[test]
fn names_are_taken_apart_from_the_period_word() {
    for (name, want) in [
        ("SSH_mon_mean.0000000732.data", Some(("SSH", "mon_mean", 732, false))),
        ("ADVr_TH_day_mean.9999999999.meta", Some(("ADVr_TH", "day_mean", 9_999_999_999, true))),
        ("SSH_day_snap.0000000000.data", Some(("SSH", "day_snap", 0, false))),
        ("SSH_mon_snap.0000000012.data", Some(("SSH", "mon_snap", 12, false))),
        ("SSH_snap.0000000012.data", Some(("SSH", "snap", 12, false))),
        ("SSH_mon_mean_day_mean.0000000012.data", Some(("SSH_mon_mean", "day_mean", 12, false))),
        ("_mon_mean.0000000012.data", None),
        ("SSH.0000000012.data", Some(("SSH", "", 12, false))),
        ("state_2d_set1_mon_mean.0000000012.002.001.data", Some(("state_2d_set1", "mon_mean", 12, false))),
        ("SSH_mon_mean.000000012.data", None),
        ("SSH_mon_mean.00000000012.data", None),
        ("SSH_mon_mean.00000000+2.data", None),
        ("SSH_mon_mean.0000000012.data.gz", None),
        ("SSH_mon_mean.0000000012", None),
        ("SSH_year_mean.0000000012.data", Some(("SSH_year_mean", "", 12, false))),
    ] {
        let parse = |name| {
            let name = ResultName::parse(name)?;
            let (variable, word) = series_of(&name)?;
            Some((variable, word, name.step, name.meta))
        };
        let parts = parse(name);
        assert_eq!(parts, want, "{name}");
    }
}

#[test]
fn pairs_are_found_by_variable_word_and_step() {
    let root = tree(&[
        "V4r4/diags_monthly/SSH_mon_mean/SSH_mon_mean.0000000732",
        "V4r4/diags_monthly/SSH_mon_mean/SSH_mon_mean.0000001428",
        "V4r4/diags_monthly/xSSH_mon_mean/xSSH_mon_mean.0000002172",
        "V4r5/diags_monthly/SSH_mon_mean/SSH_mon_mean.0000002172",
    ]);
    write(root.path(), "V4r4/README", 1);
    let (inventory, notes) = scan(&root, "V4r4");
    assert_eq!(inventory.files(), 6);
    assert_eq!(inventory.series().collect::<Vec<_>>(), [("SSH", "mon_mean"), ("xSSH", "mon_mean")]);
    assert_eq!(inventory.steps("SSH", &["mon_mean"]), BTreeSet::from([732, 1428]));
    assert!(inventory.steps("SSH", &["day_mean"]).is_empty());
    let stem = format!("{}/V4r4/diags_monthly/SSH_mon_mean/SSH_mon_mean.0000000732", root.path().to_str().unwrap());
    let version = |path: &str| {
        let found = fs::metadata(path).unwrap();
        Version::of_file(found.len(), found.modified().unwrap())
    };
    let pair = Pair {
        data: format!("{stem}.data"),
        meta: format!("{stem}.meta"),
        data_version: version(&format!("{stem}.data")),
        meta_version: version(&format!("{stem}.meta")),
    };
    let want = InputFiles { pairs: vec![pair], word: "mon_mean", own: true };
    assert_eq!(inventory.find("SSH", &["mon_mean"], 732).unwrap(), Some(want));
    assert_eq!(inventory.find("SSH", &["mon_mean"], 2172).unwrap(), None);
    assert_eq!(notes.len(), 1);
    assert!(notes[0].text.starts_with("2 result files") && notes[0].severity == crate::plan::Severity::Info);
    assert_eq!(scan(&root, "").0.steps("SSH", &["mon_mean"]).len(), 3);
    let (none, notes) = scan(&root, "V4r6");
    assert_eq!(none.files(), 0);
    assert_eq!(notes[0].severity, crate::plan::Severity::Warning);
}

#[test]
fn paths_begin_with_the_root_as_it_was_given() {
    let root = tree(&["a/SSH_snap.0000000001", "SSH_snap.0000000002"]);
    let text = root.path().to_str().unwrap();
    for given in [text.to_owned(), format!("{text}/"), format!("{text}/.")] {
        let (inventory, _) = Inventory::scan(Path::new(&given), "").unwrap();
        let given = given.trim_end_matches('/');
        let data = |step| inventory.find("SSH", &["snap"], step).unwrap().unwrap().pairs[0].data.clone();
        assert_eq!(data(1), format!("{given}/a/SSH_snap.0000000001.data"));
        assert_eq!(data(2), format!("{given}/SSH_snap.0000000002.data"));
    }
}

#[test]
fn missing_halves_are_reported_and_left_out() {
    let root = tree(&["d/SSH_mon_mean.0000000003"]);
    write(root.path(), "d/SSH_mon_mean.0000000001.data", 8);
    write(root.path(), "d/SSH_mon_mean.0000000002.meta", 8);
    // halves in different directories are not a pair
    write(root.path(), "e/SSH_mon_mean.0000000001.meta", 8);
    let (inventory, notes) = scan(&root, "");
    assert_eq!(inventory.steps("SSH", &["mon_mean"]), BTreeSet::from([3]));
    let texts: Vec<_> = notes.iter().map(|note| note.text.rsplit('/').next().unwrap()).collect();
    assert_eq!(
        texts,
        [
            "d: .data without .meta: SSH_mon_mean.0000000001; left out",
            "d: .meta without .data: SSH_mon_mean.0000000002; left out",
            "e: .meta without .data: SSH_mon_mean.0000000001; left out",
        ]
    );
}

#[test]
fn what_is_there_twice_is_an_error_naming_both() {
    let root = tree(&["a/SSH_day_snap.0000000001", "b/SSH_day_snap.0000000001", "b/SSH_mon_snap.0000000002"]);
    write(root.path(), "c/SSH_snap.0000000002.data", 8);
    write(root.path(), "c/SSH_snap.0000000002.meta", 8);
    let (inventory, _) = scan(&root, "");
    let error = inventory.find("SSH", &["day_snap"], 1).unwrap_err();
    assert!(error.paths[0].ends_with("a/SSH_day_snap.0000000001.data"));
    assert!(error.paths[1].ends_with("b/SSH_day_snap.0000000001.data"));
    let error = inventory.find("SSH", &["day_snap", "mon_snap", "snap"], 2).unwrap_err().to_string();
    assert!(error.contains("b/SSH_mon_snap.0000000002.data and "), "{error}");
    assert!(error.contains("c/SSH_snap.0000000002.data;"), "{error}");
    assert!(inventory.find("SSH", &["mon_snap"], 2).unwrap().is_some());
}

#[test]
fn one_file_seen_twice_through_links_is_one_file() {
    let root = tree(&["a/SSH_snap.0000000001"]);
    symlink("a", root.path().join("b")).unwrap();
    let (inventory, _) = scan(&root, "");
    assert!(
        inventory.find("SSH", &["snap"], 1).unwrap().unwrap().pairs[0].data.ends_with("a/SSH_snap.0000000001.data")
    );
}

#[test]
fn results_behind_links_are_found() {
    let other = tree(&["SSH_snap.0000000001"]);
    let root = tree(&[]);
    symlink(other.path(), root.path().join("V4r4")).unwrap();
    let (inventory, _) = scan(&root, "V4r4");
    assert_eq!(inventory.files(), 2);
}

#[test]
fn what_cannot_be_listed_is_a_note_and_a_root_that_cannot_is_an_error() {
    let root = tree(&["a/SSH_snap.0000000001"]);
    symlink("nowhere", root.path().join("SSH_snap.0000000002.data")).unwrap();
    let (inventory, notes) = scan(&root, "");
    assert_eq!((inventory.files(), notes.len()), (2, 1));
    let error = Inventory::scan(&root.path().join("none"), "").unwrap_err().to_string();
    assert!(error.contains("none") && error.contains("root directory"), "{error}");
}

/// Returns a header of fields in an interval.
fn header(fields: &[&str], interval: &str) -> String {
    let names: String = fields.iter().map(|field| format!("'{field:8}' ")).collect();
    format!(
        "nDims=[2];dimList=[1,1,1,13,1,13];dataprec=['float32'];nrecords=[{}];timeInterval=[{interval}];fldList={{{names}}};",
        fields.len()
    )
}

fn write_stream(root: &tempfile::TempDir, stem: &str, fields: &[&str], interval: &str) {
    write(root.path(), &format!("{stem}.data"), 52 * fields.len());
    fs::write(root.path().join(format!("{stem}.meta")), header(fields, interval)).unwrap();
}

#[test]
fn variables_are_found_in_files_of_other_names() {
    let root = tempfile::tempdir().unwrap();
    let headers = HeaderCache::default();
    for step in [1, 2, 3] {
        write_stream(&root, &format!("a/state_set1_mon_mean.{step:010}"), &["ETAN", "SSH"], "0, 2600000");
        write_stream(&root, &format!("a/ETAN_mon_mean.{step:010}"), &["ETAN"], "0, 2600000");
        write_stream(&root, &format!("a/unrelated_mon_mean.{step:010}"), &["THETA"], "0, 2600000");
    }
    // from here on the stream has another field, and one has no word for the period in its name
    write_stream(&root, "a/state_set1_mon_mean.0000000004", &["SALT", "SSHNOIBC", "SSHIBC"], "0, 2600000");
    write_stream(&root, "b/diag.0000000004", &["SSH"], "2600000, 5200000");
    write_stream(&root, "b/diag.0000000005", &["SSH"], "0, 86400");
    let words = &["mon_mean"];
    let (mut inventory, _) = scan(&root, "");
    assert!(inventory.steps("SSH", words).is_empty());
    assert!(inventory.learn(&["ETAN"], words, &HeaderCache::default()).is_empty());
    assert!(inventory.learn(&["SSH", "ETAN"], words, &headers).is_empty());
    assert_eq!(inventory.steps("SSH", words), BTreeSet::from([1, 2, 3, 4]));
    let found = |inventory: &Inventory, step| inventory.find("SSH", words, step).unwrap().unwrap();
    let first = found(&inventory, 1);
    assert!(!first.own && first.word == "mon_mean");
    assert!(first.pairs[0].data.ends_with("a/state_set1_mon_mean.0000000001.data"), "{first:?}");
    assert!(found(&inventory, 4).pairs[0].data.ends_with("b/diag.0000000004.data"));
    assert!(inventory.find("ETAN", words, 1).unwrap().unwrap().own, "its own name goes first");
    let notes = inventory.learn(&["NONE"], words, &headers);
    assert!(notes[0].text.contains("diag (SSH)") && notes[0].text.contains("none of them has NONE"), "{notes:?}");
    // in two streams at once
    write_stream(&root, "c/other_mon_mean.0000000002", &["SSH"], "0, 2600000");
    let (mut inventory, _) = scan(&root, "");
    inventory.learn(&["SSH"], words, &headers);
    let error = inventory.find("SSH", words, 2).unwrap_err().to_string();
    assert!(
        error.contains("c/other_mon_mean.0000000002.data and ") && error.contains("a/state_set1_mon_mean"),
        "{error}"
    );
    assert!(inventory.find("SSH", words, 1).is_ok());
    fs::write(root.path().join("c/other_mon_mean.0000000002.meta"), "nonsense").unwrap();
    let notes = scan(&root, "").0.learn(&["SSH"], words, &HeaderCache::default());
    assert!(notes[0].text.contains("c/other_mon_mean.0000000002.meta"), "{notes:?}");
}

#[test]
fn pieces_belong_together() {
    let root = tree(&["d/SSH_snap.0000000001.002.001", "d/SSH_snap.0000000001.001.001", "d/SSH_snap.0000000002"]);
    let (inventory, notes) = scan(&root, "");
    assert_eq!(inventory.files(), 6);
    assert!(notes[0].text.starts_with("1 series are in pieces") && notes[0].text.contains(": SSH_snap;"), "{notes:?}");
    let found = inventory.find("SSH", &["snap"], 1).unwrap().unwrap();
    let names: Vec<_> = found.pairs.iter().map(|pair| pair.meta.rsplit('/').next().unwrap()).collect();
    assert_eq!(names, ["SSH_snap.0000000001.001.001.meta", "SSH_snap.0000000001.002.001.meta"]);
    // whole arrays take precedence, in whatever order they are seen
    for step in [1, 2] {
        for piece in ["", ".001.001", ".002.001", ".zzz"] {
            write(root.path(), &format!("d/SSH_snap.{step:010}{piece}.data"), 8);
            write(root.path(), &format!("d/SSH_snap.{step:010}{piece}.meta"), 3);
        }
    }
    let (inventory, notes) = scan(&root, "");
    assert_eq!(inventory.files(), 4);
    assert!(inventory.find("SSH", &["snap"], 2).unwrap().unwrap().pairs[0].data.ends_with("0000000002.data"));
    assert!(notes.iter().any(|note| note.text.contains("pieces of them are there of SSH_snap")), "{notes:?}");
    assert!(notes.iter().any(|note| note.text.contains("SSH_snap.0000000001.zzz.data")), "{notes:?}");
    // the same pieces in two places are two results
    write(root.path(), "e/SSH_snap.0000000003.001.001.data", 8);
    write(root.path(), "e/SSH_snap.0000000003.001.001.meta", 8);
    write(root.path(), "f/SSH_snap.0000000003.001.001.data", 8);
    write(root.path(), "f/SSH_snap.0000000003.001.001.meta", 8);
    assert!(scan(&root, "").0.find("SSH", &["snap"], 3).is_err());
}

#[test]
fn pieces_may_be_in_several_directories() {
    let root = tree(&[
        "p1/SSH_snap.0000000001.001.001",
        "p2/SSH_snap.0000000001.002.001",
        "p2/SSH_snap.0000000001.001.002",
        "p1/SSH_snap.0000000002.001.001",
    ]);
    let (mut inventory, _) = scan(&root, "");
    let names = |inventory: &Inventory, variable: &str, step| {
        let found = inventory.find(variable, &["snap"], step).unwrap().unwrap();
        let names = found.pairs.iter().map(|pair| pair.data.rsplit("/p").next().unwrap().to_owned());
        (found.own, names.collect::<Vec<_>>())
    };
    let all = [
        "1/SSH_snap.0000000001.001.001.data",
        "2/SSH_snap.0000000001.001.002.data",
        "2/SSH_snap.0000000001.002.001.data",
    ]
    .map(str::to_owned);
    assert_eq!(names(&inventory, "SSH", 1), (true, all.to_vec()));
    assert_eq!(names(&inventory, "SSH", 2).1.len(), 1);
    // a step with fewer pieces than others is not complete yet
    inventory.retain(|_| true);
    assert_eq!(names(&inventory, "SSH", 1).1.len(), 3);
    assert_eq!(inventory.find("SSH", &["snap"], 2).unwrap(), None);
    // a piece in two directories, and the whole array beside pieces, are results that are there twice
    for path in ["p2/SSH_snap.0000000001.001.001", "p3/SSH_snap.0000000002"] {
        write(root.path(), &format!("{path}.data"), 8);
        write(root.path(), &format!("{path}.meta"), 3);
    }
    let (inventory, _) = scan(&root, "");
    for step in [1, 2] {
        assert!(inventory.find("SSH", &["snap"], step).is_err(), "{step}");
    }
    // files of other names
    let root = tempfile::tempdir().unwrap();
    for (directory, number) in [("p1", 1), ("p2", 2)] {
        write_stream(&root, &format!("{directory}/set_snap.0000000001.{number:03}.001"), &["ETAN", "SSH"], "5");
    }
    let (mut inventory, _) = scan(&root, "");
    inventory.learn(&["SSH"], &["snap"], &HeaderCache::default());
    let (own, names) = names(&inventory, "SSH", 1);
    assert_eq!(
        (own, names),
        (
            false,
            ["1/set_snap.0000000001.001.001.data", "2/set_snap.0000000001.002.001.data"].map(str::to_owned).to_vec()
        )
    );
}

#[test]
fn what_is_passed_over_is_told() {
    let root = tree(&["V4r4/SSH_snap.0000000001", "V4r4b/SSH_snap.0000000002"]);
    write(root.path(), "V4r4/ETAN_snap.0000000001.data.gz", 8);
    write(root.path(), "V4r4/notes.gz", 8);
    write(root.path(), "V4r4/XC.data", 8);
    let texts = |notes: &[Note]| notes.iter().map(|note| note.text.clone()).collect::<Vec<_>>();
    let (inventory, notes) = scan(&root, "V4r4");
    assert_eq!((inventory.files(), inventory.seen()), (2, 7));
    let found = texts(&notes);
    assert!(found[0].starts_with("2 result files") && found[0].contains("V4r4b; left out"), "{found:?}");
    assert!(found[1].contains("ETAN_snap.0000000001.data.gz; left out: unpack them"), "{found:?}");
    assert_eq!(notes[1].severity, crate::plan::Severity::Warning);
    assert!(found[2].contains("XC.data") && found.len() == 3, "{found:?}");
    let root = Location::Local(root.path().into());
    let (inventory, notes) = Inventory::of(&root, "V4r4", Mode::Edp2024, &Stores::default()).unwrap();
    assert_eq!(inventory.files(), 4);
    assert!(texts(&notes)[0].contains("V4r4b; taken, as by EDP"), "{notes:?}");
}
