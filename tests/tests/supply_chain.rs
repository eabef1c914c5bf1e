//! The origins of everything that the programs are made of and tested with: pinned, licensed, listed, and never
//! installed without a request.

use edp_tests::{expect, text};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().canonicalize().unwrap()
}

fn read(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// Returns the standard output of a program that succeeds, as text.
fn printed(command: &mut Command) -> String {
    String::from_utf8(expect(command, 0).stdout).unwrap()
}

fn cargo(words: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO"));
    printed(command.args(words).current_dir(root()).env_remove("CARGO_RESOLVER_FEATURE_UNIFICATION"))
}

/// A row of the table of C libraries.
struct Library {
    name: String,
    version: String,
    licence: String,
    text: String,
}

/// Returns the table in LICENSES-third-party.md, by crate.
fn libraries() -> BTreeMap<String, Library> {
    let file = read("LICENSES-third-party.md");
    let row = |line: &str| -> Option<(String, Library)> {
        let cells: Vec<String> = line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect();
        let [name, version, package, licence, text] = <[String; 5]>::try_from(cells).ok()?;
        let text = text.strip_prefix('`')?.strip_suffix('`')?.to_owned();
        Some((package, Library { name, version, licence, text }))
    };
    file.lines().filter_map(row).collect()
}

/// Returns the bill of materials of the programs for this machine, made with the available Python; `None` without any.
fn bill(date: Option<&str>) -> Option<Value> {
    let python = std::env::var("EDP_PYTHON").unwrap_or_else(|_| "python3".into());
    if Command::new(&python).arg("--version").output().is_err() {
        edp_tests::not_run("there is no Python here");
        return None;
    }
    let mut command = Command::new(python);
    command.arg(root().join("deploy/sbom.py")).env_remove("SOURCE_DATE_EPOCH");
    command.envs(date.map(|date| ("SOURCE_DATE_EPOCH", date)));
    Some(serde_json::from_str(&printed(&mut command)).unwrap())
}

fn text_of<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("no {key} in {value}"))
}

/// Checks the requirements of the schema of CycloneDX 1.6 that apply to the content.
#[test]
fn the_bill_of_materials_is_valid() {
    let Some(bill) = bill(None) else { return };
    assert_eq!((text_of(&bill, "bomFormat"), text_of(&bill, "specVersion")), ("CycloneDX", "1.6"));
    assert_eq!(bill["version"], 1);
    let serial = text_of(&bill, "serialNumber").strip_prefix("urn:uuid:").unwrap();
    let groups: Vec<usize> = serial.split('-').map(str::len).collect();
    assert!(groups == [8, 4, 4, 4, 12] && serial.chars().all(|c| c == '-' || c.is_ascii_hexdigit()), "{serial}");
    let known = ["bomFormat", "specVersion", "version", "serialNumber", "metadata", "components", "dependencies"];
    assert!(bill.as_object().unwrap().keys().all(|key| known.contains(&key.as_str())));
    let whole = &bill["metadata"]["component"];
    let components = bill["components"].as_array().unwrap();
    let mut references = BTreeSet::new();
    for one in components.iter().chain([whole]) {
        assert!(["library", "application"].contains(&text_of(one, "type")), "{one}");
        assert!(!text_of(one, "name").is_empty() && !text_of(one, "version").is_empty(), "{one}");
        assert!(text_of(one, "purl").starts_with("pkg:"), "{one}");
        assert!(references.insert(text_of(one, "bom-ref")), "twice: {one}");
        for licence in one["licenses"].as_array().into_iter().flatten() {
            let forms = licence.as_object().unwrap();
            assert!(forms.len() == 1 && (forms.contains_key("expression") || forms.contains_key("license")), "{one}");
        }
        for hash in one["hashes"].as_array().into_iter().flatten() {
            assert_eq!((text_of(hash, "alg"), text_of(hash, "content").len()), ("SHA-256", 64), "{one}");
        }
    }
    let (mut reached, mut described) = (BTreeSet::new(), BTreeMap::new());
    for one in bill["dependencies"].as_array().unwrap() {
        let on: Vec<&str> = one["dependsOn"].as_array().unwrap().iter().map(|on| on.as_str().unwrap()).collect();
        assert!(on.iter().all(|on| references.contains(on)), "{one}");
        assert!(described.insert(text_of(one, "ref"), on).is_none(), "twice: {one}");
    }
    let mut next = vec![text_of(whole, "bom-ref")];
    while let Some(one) = next.pop() {
        if reached.insert(one) {
            next.extend(&described[one]);
        }
    }
    assert_eq!(reached, references, "everything is there for some reason");
}

/// Every linked crate has its licence, and all except ours the digest with which cargo checks it.
#[test]
fn the_bill_of_materials_is_complete_and_always_the_same() {
    let Some(first) = bill(Some("86400")) else { return };
    assert_eq!(bill(Some("86400")).unwrap(), first);
    assert_eq!(text_of(&first["metadata"], "timestamp"), "1970-01-02T00:00:00Z");
    let components = first["components"].as_array().unwrap();
    let words = ["tree", "--locked", "--edges", "normal,no-proc-macro", "--prefix", "none", "--format", "{p}"];
    let programs = ["-p", "edp-coordinator", "-p", "edp-worker"];
    for line in cargo(&[&words[..], &programs[..]].concat()).lines().filter(|line| !line.is_empty()) {
        let mut parts = line.split(' ');
        let (name, version) = (parts.next().unwrap(), parts.next().unwrap().trim_start_matches('v'));
        if line.contains("(proc-macro)") {
            continue;
        }
        let purl = format!("pkg:cargo/{name}@{version}");
        let one = components.iter().find(|one| one["purl"] == purl.as_str());
        let one = one.unwrap_or_else(|| panic!("{purl} is not in the bill"));
        assert!(!one["licenses"].as_array().unwrap().is_empty(), "{one}");
        assert!(name.starts_with("edp-") || one["hashes"].is_array(), "{one}");
    }
    for library in libraries().values() {
        let one = components
            .iter()
            .find(|one| one["name"] == library.name.as_str() && one["version"] == library.version.as_str());
        assert_eq!(one.unwrap()["licenses"][0]["expression"], library.licence.as_str());
    }
}

/// The table of C libraries has all libraries that crates bundle, in the bundled versions, with texts that exist.
#[test]
fn licences_of_bundled_libraries_are_listed() {
    let metadata: Value = serde_json::from_str(&cargo(&["metadata", "--format-version", "1", "--locked"])).unwrap();
    let words =
        ["tree", "--locked", "--edges", "normal,build", "--target", "all", "--prefix", "none", "--format", "{p}"];
    let tree = cargo(&[&words[..], &["-p", "edp-coordinator", "-p", "edp-worker"]].concat());
    let linked: BTreeSet<&str> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
    // These name a library that another crate bundles, or keep two versions of themselves apart.
    const NONE: [&str; 5] = ["aws-lc-rs", "hdf5-metno-sys", "netcdf-sys", "rayon-core", "wasm-bindgen-shared"];
    let listed = libraries();
    let mut found = BTreeSet::new();
    for package in metadata["packages"].as_array().unwrap() {
        let name = text_of(package, "name");
        if package["links"].is_null() || !linked.contains(name) || NONE.contains(&name) {
            continue;
        }
        let library = listed.get(name).unwrap_or_else(|| panic!("{name} is not in LICENSES-third-party.md"));
        found.insert(name);
        let directory = Path::new(text_of(package, "manifest_path")).parent().unwrap();
        assert!(directory.join(&library.text).is_file(), "{name}: {} is not there", library.text);
        let told = version(name, directory);
        assert_eq!(library.version, told, "{name}");
    }
    assert_eq!(found, listed.keys().map(String::as_str).collect(), "no row for what is not there");
}

/// Returns the version of the library that a crate bundles, from its bundled sources.
fn version(name: &str, directory: &Path) -> String {
    let source =
        |path: &str| fs::read_to_string(directory.join(path)).unwrap_or_else(|e| panic!("{name}: {path}: {e}"));
    // Returns the text between some words and the characters that end it.
    let after = |text: &str, words: &str| {
        let (_, rest) = text.split_once(words).unwrap_or_else(|| panic!("{name}: no '{words}'"));
        let rest = rest.trim_start_matches([' ', '"', '\t', '(']);
        rest.split(['"', '\n', ' ', ')']).next().unwrap().to_owned()
    };
    let numbers = |path: &str, words: [&str; 3]| words.map(|words| after(&source(path), words)).join(".");
    match name {
        "netcdf-src" => after(&source("source/CMakeLists.txt"), "\n  VERSION "),
        "hdf5-metno-src" => numbers(
            "ext/hdf5/src/H5public.h",
            ["#define H5_VERS_MAJOR ", "#define H5_VERS_MINOR ", "#define H5_VERS_RELEASE "],
        ),
        "liblzma-sys" => numbers(
            "xz/src/liblzma/api/lzma/version.h",
            ["#define LZMA_VERSION_MAJOR ", "#define LZMA_VERSION_MINOR ", "#define LZMA_VERSION_PATCH "],
        ),
        "libz-sys" => after(&source("src/zlib/zlib.h"), "#define ZLIB_VERSION "),
        "libdeflate-sys" => after(&source("libdeflate/libdeflate.h"), "#define LIBDEFLATE_VERSION_STRING\t"),
        "libsqlite3-sys" => after(&source("sqlite3/sqlite3.h"), "#define SQLITE_VERSION "),
        "aws-lc-sys" => after(&source("aws-lc/include/openssl/base.h"), "#define AWSLC_VERSION_NUMBER_STRING "),
        _ => panic!("{name}: say here where its version is"),
    }
}

/// Every download is checked by its digest, and made by one piece of code.
#[test]
fn prebuilt_tools_are_pinned_by_their_digests() {
    let script = read("deploy/deps.sh");
    // Commands may continue on the next line.
    let commands = script.replace("\\\n", " ");
    let is_code = |line: &&str| !line.trim_start().starts_with(['#', 's']) || line.trim_start().starts_with("sudo");
    let fetching = ["pip download", "pip install", "curl ", "wget "];
    let lines: Vec<&str> =
        commands.lines().filter(is_code).filter(|line| fetching.iter().any(|w| line.contains(w))).collect();
    for line in &lines {
        let is_advice = line.trim_start().starts_with("advice+=");
        assert!(is_advice || line.contains("--require-hashes"), "{line}");
    }
    assert!(lines.iter().filter(|line| line.contains("--require-hashes")).count() >= 2, "{lines:?}");
    for (tool, least) in [("cmake", 4), ("nextest", 4), ("deny", 4), ("zig", 4), ("zigbuild", 3)] {
        let (_, rest) = script.split_once(&format!("\n{tool}_wheels='\n")).unwrap();
        let digests: Vec<&str> = rest.split('\'').next().unwrap().split_whitespace().collect();
        assert!(digests.len() >= least && digests.iter().all(|digest| is_sha256(digest)), "{tool}: {digests:?}");
        assert!(script.contains(&format!("{tool}_version=")), "{tool}");
    }
    for (list, libraries) in [
        ("python.txt", &["numpy", "netcdf4", "xarray", "dask"][..]),
        (
            "checkers.txt",
            &[
                "compliance-checker",
                "cfchecker",
                "scitools-iris",
                "xgcm",
                "setuptools",
                "kubernetes-validate",
                "cloudcoil-models-keda",
            ],
        ),
        ("checkers-sources.txt", &["cfdm", "cfunits"]),
        ("aws-tools.txt", &["awscli", "cfn-lint", "moto"]),
    ] {
        let pinned = read(&format!("deploy/{list}")).replace("\\\n", " ");
        let pinned: Vec<&str> = pinned.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).collect();
        for line in &pinned {
            let digests = line.split("--hash=sha256:").skip(1).map(str::trim);
            assert!(line.contains("==") && digests.clone().count() > 0 && digests.into_iter().all(is_sha256), "{line}");
        }
        for library in libraries {
            assert!(pinned.iter().any(|line| line.starts_with(&format!("{library}=="))), "{library}");
        }
    }
}

fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// A directory of commands: some of the machine's, and some that only record that they were called.
struct Commands {
    directory: tempfile::TempDir,
    called: PathBuf,
}

impl Commands {
    fn new(real: &[&str], noted: &[&str]) -> Commands {
        let directory = tempfile::tempdir().unwrap();
        let called = directory.path().join("called");
        for name in real {
            let found = std::env::split_paths(&std::env::var_os("PATH").unwrap())
                .map(|at| at.join(name))
                .find(|at| at.is_file());
            if let Some(found) = found {
                symlink(found, directory.path().join(name)).unwrap();
            }
        }
        for name in noted {
            let path = directory.path().join(name);
            fs::write(&path, format!("#!/bin/sh\necho \"{name} $*\" >>'{}'\n", called.display())).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        Commands { directory, called }
    }

    /// Runs a script of the project, without a terminal.
    fn run(&self, words: &[&str]) -> Output {
        let mut command = Command::new("bash");
        command.args(words).current_dir(root()).env("PATH", self.directory.path()).stdin(Stdio::null());
        command.output().unwrap()
    }

    fn called(&self) -> String {
        fs::read_to_string(&self.called).unwrap_or_default()
    }
}

/// The scripts that `make test` and `make demo` call before they build.
#[test]
fn nothing_is_installed_unasked() {
    let tools = [
        "bash", "sh", "dirname", "sed", "id", "mktemp", "cat", "rm", "grep", "sort", "tail", "head", "ls", "env", "cc",
    ];
    let tools = [&tools[..], &["make", "cargo", "rustc", "python3", "cmake"]].concat();
    let commands = Commands::new(&tools, &["apt-get", "apt-cache", "sudo", "systemctl", "dpkg"]);
    for level in ["build", "test", "lint"] {
        let output = commands.run(&["deploy/deps.sh", level]);
        let said = text(&output);
        let called = commands.called();
        assert!(!called.contains("install"), "{level}: {called}\n{said}");
        if level == "test" {
            assert_eq!(output.status.code(), Some(1), "{said}");
            assert!(said.contains("nothing is installed unasked") && said.contains("make deps"), "{said}");
            assert!(
                said.contains("apt-get install -y --no-install-recommends") && said.contains("netcdf-bin"),
                "{said}"
            );
        }
    }
    let output = commands.run(&["deploy/deps.sh", "--dry-run", "--install", "test"]);
    assert!(text(&output).contains("would run: ") && !commands.called().contains("install"), "{}", text(&output));
    // Only an explicit request installs it.
    let makefile = read("Makefile");
    let installing: Vec<&str> = makefile.lines().filter(|line| line.contains("deps.sh --install")).collect();
    assert_eq!(installing, ["need = @deploy/deps.sh --install", "\t@deploy/deps.sh --install test lint"]);
    assert!(makefile.contains("else ifeq ($(DEPS),install)\nneed = @deploy/deps.sh --install"));
}

/// If the database of known vulnerabilities is not available, a message says so; it is an error where the database is
/// required.
#[test]
fn flaws_are_looked_for_or_it_is_said_that_they_are_not() {
    let commands = Commands::new(&["bash", "sh", "make", "env", "timeout", "true", "sed"], &[]);
    let fake = |script: &str| {
        let path = commands.directory.path().join("cargo");
        fs::write(&path, format!("#!/bin/sh\necho \"cargo $*\" >>'{}'\n{script}\n", commands.called.display()))
            .unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    };
    let make = |words: &[&str]| {
        let mut command = Command::new("make");
        command.arg("advisories").args(words).current_dir(root()).env("PATH", commands.directory.path());
        command.env_remove("MAKEFLAGS");
        command.output().unwrap()
    };
    fake("case \"$*\" in *fetch*) exit 1 ;; esac");
    let output = make(&[]);
    assert!(output.status.success() && text(&output).contains("NOT CHECKED"), "{}", text(&output));
    assert!(!make(&["ADVISORIES=required"]).status.success());
    assert!(!commands.called().contains("check"), "{}", commands.called());
    fake("exit 0");
    let output = make(&["ADVISORIES=required"]);
    assert!(output.status.success() && !text(&output).contains("NOT CHECKED"), "{}", text(&output));
    assert!(commands.called().contains("check --hide-inclusion-graph advisories"), "{}", commands.called());
    fake("case \"$*\" in *check*) exit 1 ;; esac");
    assert!(!make(&[]).status.success(), "a flaw that is known ends it");
    // Both are part of the checks that always run.
    let makefile = read("Makefile");
    let (_, lint) = makefile.split_once("\nlint: ").unwrap();
    assert!(lint.split("\n\n").next().unwrap().contains("advisories"));
    let (_, all) = makefile.split_once("\ncheck-all: ").unwrap();
    assert!(all.split("\n\n").next().unwrap().contains("deploy/reproducible.sh release"));
}
