//! The public items of the crates: each is used by another crate, or is part of one that is.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Folders of the crates on which others build, each with those of its sources that belong to a program and use the
/// library as another crate does.
const LIBRARIES: [(&str, &[&str]); 11] = [
    ("protocol", &[]),
    ("protocol/files", &[]),
    ("protocol/store", &[]),
    ("protocol/s3", &[]),
    ("protocol/queue", &[]),
    ("protocol/program", &[]),
    ("worker/engine", &[]),
    ("worker", &["src/command", "src/main.rs"]),
    ("coordinator/production", &[]),
    ("coordinator/demo", &[]),
    ("coordinator", &["src/command", "src/main.rs"]),
];

/// Folders of sources that use the crates as well.
const USERS: [&str; 4] = ["tests", "fuzz", "worker/engine/benches", "protocol/queue/benches"];

/// A public item: an item of a module, a method, or an associated constant.
struct Item {
    kind: String,
    name: String,
    place: String,
}

/// The sources of one crate, or of its users.
#[derive(Default)]
struct Sources {
    /// Text of each file.
    files: BTreeMap<PathBuf, String>,
}

impl Sources {
    fn read(&mut self, path: &Path) {
        if path.is_dir() {
            for entry in std::fs::read_dir(path).expect("a directory of sources") {
                let path = entry.expect("its entries").path();
                if !path.ends_with("target") {
                    self.read(&path);
                }
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            self.files.insert(path.to_owned(), std::fs::read_to_string(path).expect("a source file"));
        }
    }

    /// Removes the files below a path, and returns them.
    fn split(&mut self, below: &Path) -> Sources {
        Sources { files: self.files.extract_if(.., |path, _| path.starts_with(below)).collect() }
    }

    fn words(&self) -> BTreeSet<&str> {
        self.files.values().flat_map(|text| words(text)).collect()
    }

    /// Returns the public items, without those of tests, which stand at the end of a file.
    fn items(&self) -> Vec<Item> {
        let mut items = Vec::new();
        for (path, text) in &self.files {
            let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
            for (number, line) in code.lines().enumerate() {
                let place = || format!("{}:{}", path.display(), number + 1);
                items.extend(declared(line).map(|(kind, name)| Item { kind, name, place: place() }));
            }
        }
        items
    }

    /// Returns the words of public declarations, and of examples in the documentation, which use the crate as others do.
    fn public_words(&self) -> BTreeSet<&str> {
        let lines = self.files.values().flat_map(|text| text.lines().map(str::trim));
        let is_public = |line: &&str| line.starts_with("pub ") || line.starts_with("//!") || line.starts_with("///");
        // Signatures, and fields of variants, go on in the following lines.
        let is_part = |line: &&str| line.contains(": ") || line.starts_with(") -> ") || line.contains("#[from]");
        lines.filter(|line| is_public(line) || is_part(line)).flat_map(words).collect()
    }
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty())
}

/// Returns kind and name of the public item that a line declares.
fn declared(line: &str) -> Option<(String, String)> {
    let mut words = line.trim_start().strip_prefix("pub ")?.split_whitespace().peekable();
    while words.next_if(|word| ["async", "unsafe"].contains(word)).is_some() {}
    let first = words.next()?;
    // A constant, or a constant function.
    let kind = if first == "const" { words.next_if(|word| *word == "fn").unwrap_or(first) } else { first };
    if !["fn", "struct", "enum", "trait", "type", "const", "static"].contains(&kind) {
        return None;
    }
    let name = words.next()?.split(|c: char| !c.is_alphanumeric() && c != '_').next()?;
    // A macro gives its items names by variables.
    (!name.is_empty()).then(|| (kind.to_owned(), name.to_owned()))
}

#[test]
fn public_items_are_used_by_other_crates() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut crates: Vec<(Sources, Sources)> = Vec::new();
    for (folder, programs) in LIBRARIES {
        let (mut library, mut program) = (Sources::default(), Sources::default());
        library.read(&root.join(folder).join("src"));
        for part in programs {
            program.files.extend(library.split(&root.join(folder).join(part)).files);
        }
        crates.push((library, program));
    }
    let mut users = Sources::default();
    USERS.iter().map(|folder| root.join(folder)).filter(|folder| folder.exists()).for_each(|path| users.read(&path));
    let of_users = users.words();
    let (mut all, mut unused) = (0, Vec::new());
    for (at, (library, program)) in crates.iter().enumerate() {
        let others = crates.iter().enumerate().filter(|(other, _)| *other != at);
        let others: BTreeSet<&str> = others
            .flat_map(|(_, (library, program))| [library, program])
            .chain([program])
            .flat_map(|sources| sources.words())
            .collect();
        let public = library.public_words();
        for item in library.items() {
            all += 1;
            let name = item.name.as_str();
            let is_named = others.contains(name) || of_users.contains(name);
            // A type or trait may be needed for what others use, without being named there.
            let is_type = ["struct", "enum", "trait", "type"].contains(&item.kind.as_str());
            let is_part = is_type && public.contains(name);
            if !is_named && !is_part {
                unused.push(format!("{}: {} {name}", item.place, item.kind));
            }
        }
    }
    println!("{all} public items, with methods");
    assert!(all > 500, "{all} items: the sources were not read");
    assert!(unused.is_empty(), "public, but used by no other crate; write pub(crate): {unused:#?}");
}

#[test]
fn public_items_are_recognised() {
    for (line, found) in [
        ("pub struct Session<'l> {", Some(("struct", "Session"))),
        ("    pub const fn largest(self) -> usize {", Some(("fn", "largest"))),
        ("    pub async fn publish(&self) {", Some(("fn", "publish"))),
        ("pub const SIZES: RangeInclusive<usize> = 6..=270;", Some(("const", "SIZES"))),
        ("pub mod plan;", None),
        ("        pub struct $name {", None),
        ("pub(crate) fn inner() {", None),
        ("pub use director::drive;", None),
        ("    pub name: String,", None),
        ("/// pub fn text() {", None),
    ] {
        let found = found.map(|(kind, name)| (kind.to_owned(), name.to_owned()));
        assert_eq!(declared(line), found, "{line}");
    }
}
