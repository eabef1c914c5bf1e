//! Rules about the crates: the dependencies that a crate may have are listed here and compared with what cargo
//! resolves, and each name of a type that the crates declare has one meaning.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Each crate of the workspace on which others build, with all crates of the workspace on which it may depend, directly
/// or indirectly.
const ROOMS: [(&str, &[&str]); 11] = [
    ("edp-protocol", &[]),
    ("edp-encoder", &[]),
    ("edp-files", &[]),
    ("edp-store", &["edp-files", "edp-protocol"]),
    ("edp-s3", &["edp-files", "edp-protocol", "edp-store"]),
    ("edp-queue", &["edp-files", "edp-protocol"]),
    ("edp-program", &["edp-files", "edp-protocol", "edp-queue", "edp-store"]),
    ("edp-engine", &["edp-encoder", "edp-files", "edp-protocol", "edp-store"]),
    (
        "edp-production",
        &["edp-encoder", "edp-engine", "edp-files", "edp-program", "edp-protocol", "edp-queue", "edp-store"],
    ),
    ("edp-demo", &["edp-encoder", "edp-engine", "edp-files", "edp-protocol", "edp-store"]),
    ("edp-parsers", &["edp-encoder", "edp-engine", "edp-files", "edp-protocol", "edp-store"]),
];

/// Third-party crates by which a program uses the network, or an asynchronous runtime.
const NETWORK: [&str; 6] = ["aws-sdk-s3", "hyper", "lapin", "opentelemetry", "socket2", "tokio"];

/// Crates that must not use the network.
const QUIET: [&str; 7] =
    ["edp-protocol", "edp-encoder", "edp-files", "edp-store", "edp-engine", "edp-demo", "edp-parsers"];

/// Returns the packages that each package needs to be built, by name, without those of its tests.
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

/// Returns everything that a package needs, directly or indirectly.
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

/// Names that are declared more than once, each with a reason. They are listed in `doc/glossary.md` too.
const DECLARED_TWICE: [&str; 1] = ["Sealed"];

/// Lists the source files of the crates, without those of tests.
fn sources() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut directories: Vec<PathBuf> =
        ["protocol", "worker", "coordinator", "tests/src", "tests/parsers/src", "tests/scale/src"]
            .map(|name| root.join(name))
            .into();
    let mut files = Vec::new();
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).expect("a directory of the workspace") {
            let path = entry.expect("its entries").path();
            if path.is_dir() && !path.ends_with("target") {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    let tests: BTreeSet<PathBuf> = files.iter().flat_map(|file| test_modules(file)).collect();
    files.retain(|file| !tests.contains(file) && !tests.iter().any(|of| file.starts_with(of.with_extension(""))));
    files.sort();
    files
}

/// Lists the files of the modules that a file declares for tests only (`#[cfg(test)] mod name;`).
fn test_modules(file: &Path) -> Vec<PathBuf> {
    let text = std::fs::read_to_string(file).expect("a source file");
    let directory = file.parent().expect("its directory");
    let is_root = ["mod.rs", "lib.rs", "main.rs"].iter().any(|name| file.ends_with(name));
    let below = if is_root { directory.to_owned() } else { file.with_extension("") };
    let (mut modules, mut is_test, mut named) = (Vec::new(), false, None);
    for line in text.lines().map(str::trim) {
        if line == "#[cfg(test)]" {
            is_test = true;
        } else if let Some(path) = line.strip_prefix("#[path = \"") {
            named = Some(directory.join(path.trim_end_matches("\"]")));
        } else if !line.starts_with("#[") {
            let module = line.split_once("mod ").and_then(|(_, name)| name.strip_suffix(';'));
            if let (true, Some(name)) = (is_test, module) {
                modules.push(named.take().unwrap_or(below.join(name).with_extension("rs")));
            }
            (is_test, named) = (false, None);
        }
    }
    modules
}

/// Returns the name that a line declares: a structure, an enumeration, a trait, or an alias of a type. Associated types
/// are not counted: they are indented, and get their names from their traits.
fn declared(line: &str) -> Option<&str> {
    let mut words = line.split_whitespace().peekable();
    words.next_if(|word| word.starts_with("pub"));
    words.next_if(|word| *word == "unsafe");
    let is_alias = match words.next()? {
        "struct" | "enum" | "trait" | "union" => false,
        "type" => true,
        _ => return None,
    };
    let name = words.next()?.split(|c: char| !c.is_alphanumeric() && c != '_').next()?;
    (name.starts_with(char::is_uppercase) && !(is_alias && line.starts_with(' '))).then_some(name)
}

/// Returns the places where each name is declared.
fn declarations() -> BTreeMap<String, Vec<String>> {
    let mut names = BTreeMap::<String, Vec<String>>::new();
    for file in sources() {
        let text = std::fs::read_to_string(&file).expect("a source file");
        // Tests stand at the end of a file.
        let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        for (number, line) in code.lines().enumerate() {
            if let Some(name) = declared(line) {
                names.entry(name.to_owned()).or_default().push(format!("{}:{}", file.display(), number + 1));
            }
        }
    }
    names
}

#[test]
fn each_name_of_a_type_has_one_meaning() {
    let names = declarations();
    assert!(names.len() > 500 && names.contains_key("TaskMessage"), "{} names: the sources were not read", names.len());
    let twice: BTreeMap<&str, &Vec<String>> =
        names.iter().filter(|(_, places)| places.len() > 1).map(|(name, places)| (name.as_str(), places)).collect();
    let glossary = include_str!("../../doc/glossary.md");
    for (name, places) in &twice {
        assert!(
            DECLARED_TWICE.contains(name),
            "{name} is declared more than once, give each its own name: {places:#?}"
        );
    }
    for name in DECLARED_TWICE {
        assert!(twice.contains_key(name), "{name} is not declared twice any more: take it off the list");
        assert!(glossary.contains(&format!("`{name}`")), "doc/glossary.md gives no reason for {name}");
    }
}

#[test]
fn the_glossary_names_types_that_there_are() {
    let names = declarations();
    let words = include_str!("../../doc/glossary.md").split("## Names of types").next().unwrap_or_default();
    let types: Vec<&str> = words
        .split('`')
        .skip(1)
        .step_by(2)
        .filter(|word| word.starts_with(char::is_uppercase) && word.contains(char::is_lowercase))
        .collect();
    assert!(types.len() > 10, "{types:?}");
    for name in types {
        assert!(names.contains_key(name), "doc/glossary.md speaks of {name}, which is declared nowhere");
    }
}

#[test]
fn declarations_are_recognised() {
    for (line, name) in [
        ("pub struct Task<'a> {", Some("Task")),
        ("    pub(super) enum State<E> {", Some("State")),
        ("struct Ended(Child);", Some("Ended")),
        ("pub trait Output: Element {", Some("Output")),
        ("type Job = Box<dyn FnOnce()>;", Some("Job")),
        ("    type Err = Error;", None),
        ("/// struct Text {", None),
        ("    let structure = 1;", None),
        ("impl Trait for Type {", None),
    ] {
        assert_eq!(declared(line), name, "{line}");
    }
}

/// A module: the path of its crate's folder, and the names of the modules that lead to it.
type Module = (PathBuf, Vec<String>);

/// Returns the module that a source file is; `None` if it is not below a folder `src`.
fn module(file: &Path) -> Option<Module> {
    let source = file.ancestors().find(|folder| folder.ends_with("src"))?;
    let within = file.strip_prefix(source).ok()?.with_extension("");
    let mut names: Vec<String> = within.iter().map(|name| name.to_string_lossy().into_owned()).collect();
    names.pop_if(|last| ["mod", "lib", "main"].contains(&last.as_str()));
    Some((source.to_owned(), names))
}

/// Returns the paths that a declaration `use` imports: `a::{b, c::{d, e}}` are `a::b`, `a::c::d` and `a::c::e`.
fn imported(tree: &str) -> Vec<String> {
    let Some((start, rest)) = tree.split_once('{') else { return vec![tree.to_owned()] };
    let inner = rest.rsplit_once('}').map_or(rest, |(inner, _)| inner);
    let (mut depth, mut branches) = (0, vec![String::new()]);
    for letter in inner.chars() {
        match letter {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                branches.push(String::new());
                continue;
            }
            _ => {}
        }
        branches.last_mut().expect("there is one").push(letter);
    }
    let branches = branches.iter().filter(|branch| !branch.is_empty());
    branches.flat_map(|branch| imported(branch)).map(|path| format!("{start}{path}")).collect()
}

/// Returns the modules of its own crate from which a module imports, or that it names in a path. What it re-exports
/// (`pub use`) is not counted.
fn imports(text: &str, (source, names): &Module, modules: &BTreeSet<Module>) -> BTreeSet<Module> {
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let code: String =
        code.lines().map(|line| line.split("//").next().unwrap_or_default().trim()).collect::<Vec<_>>().join("\n");
    let mut paths = Vec::new();
    let mut rest = code.as_str();
    // Text before a declaration `use`, which may name modules by their paths; and the declaration.
    while let Some(at) = rest.find("use ") {
        let (before, declaration) = rest.split_at(at);
        let line = before.rsplit('\n').next().unwrap_or_default();
        let is_declaration = line.is_empty() || (line.starts_with("pub") && line.ends_with(' '));
        let end = if is_declaration { declaration.find(';').unwrap_or(declaration.len()) } else { "use ".len() };
        paths.extend(named(before));
        if line.is_empty() {
            let tree: String = declaration["use ".len()..end].split_whitespace().collect();
            paths.extend(imported(&tree));
        }
        rest = &declaration[end..];
    }
    paths.extend(named(rest));
    let mut found = BTreeSet::new();
    for path in paths {
        let mut parts = path.split("::").peekable();
        let mut at = match parts.next_if_eq(&"crate") {
            Some(_) => Vec::new(),
            None if ["super", "self"].contains(parts.peek().unwrap_or(&"")) => names.clone(),
            None => continue,
        };
        parts.next_if_eq(&"self");
        while parts.next_if_eq(&"super").is_some() {
            at.pop();
        }
        at.extend(parts.map(str::to_owned));
        while !modules.contains(&(source.clone(), at.clone())) && at.pop().is_some() {}
        found.insert((source.clone(), at));
    }
    found.remove(&(source.clone(), names.clone()));
    found
}

/// Returns the paths in code outside declarations that begin with `crate`, `super` or `self`.
fn named(code: &str) -> impl Iterator<Item = String> {
    let words = code.split(|letter: char| !letter.is_alphanumeric() && !['_', ':'].contains(&letter));
    words.filter(|word| ["crate::", "super::", "self::"].iter().any(|start| word.starts_with(start))).map(str::to_owned)
}

#[test]
fn no_modules_import_from_each_other_in_a_circle() {
    let files: BTreeMap<Module, PathBuf> =
        sources().into_iter().filter_map(|file| Some((module(&file)?, file))).collect();
    let modules: BTreeSet<Module> = files.keys().cloned().collect();
    let mut left: BTreeMap<Module, BTreeSet<Module>> = BTreeMap::new();
    for (module, file) in &files {
        let text = std::fs::read_to_string(file).expect("a source file");
        left.insert(module.clone(), imports(&text, module, &modules));
    }
    let all: usize = left.values().map(BTreeSet::len).sum();
    assert!(all > 500, "{all} imports: the sources were not read");
    // Modules that import from no other module that is left are in no circle.
    loop {
        let free: Vec<Module> = left
            .iter()
            .filter(|(_, from)| from.iter().all(|one| !left.contains_key(one)))
            .map(|(one, _)| one.clone())
            .collect();
        if free.is_empty() {
            break;
        }
        left.retain(|one, _| !free.contains(one));
    }
    let names = |(source, names): &Module| format!("{} {}", source.display(), names.join("::"));
    let circles: Vec<String> = left
        .iter()
        .flat_map(|(module, from)| {
            from.iter()
                .filter(|one| left.contains_key(one))
                .map(move |one| format!("{} -> {}", names(module), names(one)))
        })
        .collect();
    assert!(circles.is_empty(), "these imports lead in circles, or to them: {circles:#?}");
}

#[test]
fn trees_of_imports_are_taken_apart() {
    assert_eq!(
        imported("super::a::{self,b::{C,D},E}"),
        ["super::a::self", "super::a::b::C", "super::a::b::D", "super::a::E"]
    );
    assert_eq!(imported("crate::a::B"), ["crate::a::B"]);
    let named: Vec<String> = named("let x = super::a::b(&crate::C, other::d)?;").collect();
    assert_eq!(named, ["super::a::b", "crate::C"]);
}
