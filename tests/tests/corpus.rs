//! Every file of the fuzzing corpus goes through its parser, so that an input that once crashed it is tested forever.

use edp_tests::parsers;
use std::fs;
use std::path::{Path, PathBuf};

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus")
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap_or_else(|e| panic!("{}: {e}", directory.display()));
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn no_file_of_the_corpus_brings_its_parser_down() {
    for (name, parser) in parsers::all() {
        let directory = corpus().join(name);
        let files = names(&directory);
        assert!(!files.is_empty(), "{} is empty", directory.display());
        for file in files {
            // This is shown only if the parser panics.
            println!("{name}/{file}");
            let bytes = fs::read(directory.join(file)).unwrap();
            parser(&bytes);
            // Also test the file cut off at many places, and with any part of it missing.
            for cut in (0..bytes.len()).step_by(1 + bytes.len() / 64) {
                parser(&bytes[..cut]);
                parser(&bytes[cut..]);
            }
        }
    }
}

#[test]
fn every_parser_has_its_corpus_and_its_fuzz_target() {
    let all: Vec<_> = parsers::all().iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(names(&corpus()), all);
    let mut targets = Vec::new();
    for package in ["..", "../programs"].map(|package| corpus().join(package)) {
        let manifest = fs::read_to_string(package.join("Cargo.toml")).unwrap();
        for target in names(&package.join("fuzz_targets")) {
            assert!(
                manifest.contains(&format!("path = \"fuzz_targets/{target}\"")),
                "{target} is not in its Cargo.toml"
            );
            targets.push(target.trim_end_matches(".rs").to_owned());
        }
    }
    targets.sort();
    assert_eq!(targets, all);
}
