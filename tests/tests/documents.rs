//! Runs the commands in README.md, GUIDE.md, the page of operations and the pages of `deploy`.
//!
//! Every block of commands is run, in the order of the document, by one shell for each document, in a directory whose
//! `target/demo` is what `make demo` makes (all but README.md begin in that directory). In a `console` block, the lines
//! that begin with `$ ` are commands; the other lines are the least output of the command before them, with other times.
//! A block that cannot be run on one machine has `<!-- not run: REASON -->` in the line before it. For `make TARGET` the
//! test only checks that the target exists, and the URLs of brokers are replaced by that of the test's own. A `python`
//! block is one program, for the Python that `EDP_PYTHON` names.

use edp_tests::broker::Broker;
use edp_tests::{Started, coordinator, expect, program};
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A command with its expected output.
#[derive(Debug, PartialEq, Eq)]
struct Step {
    line: usize,
    command: String,
    prints: Vec<String>,
}

/// First line of the step that a program in Python becomes.
const PYTHON: &str = "\"$EDP_PYTHON\" - <<'PYTHON'\n";

/// Returns the steps of a document's blocks of commands.
fn steps(document: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut block: Option<(&str, bool)> = None;
    let mut before = "";
    for (at, line) in document.lines().enumerate().map(|(at, line)| (at + 1, line)) {
        match (line.strip_prefix("```"), block) {
            (Some(language), None) => {
                assert!(
                    !language.is_empty(),
                    "line {at}: a block without a language: write sh or console if it is one of commands"
                );
                let reason = before.strip_prefix("<!-- not run: ").and_then(|rest| rest.strip_suffix(" -->"));
                assert!(reason.is_none_or(|reason| reason.len() > 9), "line {at}: say why it is not run");
                let commands = ["sh", "bash", "console", "shell"].contains(&language);
                block = Some((language, (commands || language == "python") && reason.is_none()));
                if block == Some(("python", true)) {
                    steps.push(Step { line: at, command: PYTHON.into(), prints: Vec::new() });
                }
            }
            (Some(_), Some((language, run))) => {
                if let Some(step) = steps.last_mut().filter(|_| run && language == "python") {
                    step.command += "PYTHON\n";
                }
                block = None;
            }
            (None, Some(("python", true))) => {
                if let Some(step) = steps.last_mut() {
                    step.command += &format!("{line}\n");
                }
            }
            (None, Some((language, true))) if !line.trim().is_empty() => {
                let continued = steps.last().is_some_and(|step| step.command.ends_with('\\'));
                match (line.strip_prefix("$ "), steps.last_mut()) {
                    (_, Some(step)) if continued => step.command = format!("{}\n{line}", step.command),
                    (Some(command), _) if language == "console" => {
                        steps.push(Step { line: at, command: command.into(), prints: Vec::new() });
                    }
                    (None, Some(step)) if language == "console" => step.prints.push(line.into()),
                    _ => steps.push(Step { line: at, command: line.into(), prints: Vec::new() }),
                }
            }
            _ => {}
        }
        if !line.trim().is_empty() {
            before = line;
        }
    }
    assert_eq!(block, None, "a block is not closed");
    steps
}

/// Returns a line with its times replaced, so that they do not matter.
fn timeless(line: &str) -> String {
    let words: Vec<&str> = line.split(' ').collect();
    let is_time = |at: usize| words[at].parse::<f64>().is_ok() && words.get(at + 1) == Some(&"s");
    (0..words.len()).map(|at| if is_time(at) { "N" } else { words[at] }).collect::<Vec<_>>().join(" ")
}

/// Returns the command with the test's broker in place of any other.
fn adapted(command: &str, broker: &str) -> String {
    let Some(start) = command.find("amqp://") else { return command.to_owned() };
    let end = command[start..].find(char::is_whitespace).map_or(command.len(), |length| start + length);
    format!("{}{broker}{}", &command[..start], &command[end..])
}

/// The shell and everything that it has started, which end when this is dropped.
struct Group(Started);

impl Drop for Group {
    fn drop(&mut self) {
        let _ = Command::new("kill").args(["-KILL", "--", &format!("-{}", self.0.id())]).status();
    }
}

/// Runs the commands of a document, beginning in `directory`.
fn run(document: &str, directory: &Path, broker: &str) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut steps = steps(&fs::read_to_string(root.join(document)).unwrap());
    if std::env::var_os("EDP_PYTHON").is_none() {
        edp_tests::not_run("EDP_PYTHON names no Python with netCDF4 and xarray; `make test` sets it");
        steps.retain(|step| !step.command.starts_with(PYTHON));
    }
    assert!(steps.len() > 5, "{document}: {steps:?}");
    let makefile = fs::read_to_string(root.join("Makefile")).unwrap();
    let (outputs, mut script) = (directory.join(".outputs"), String::new());
    fs::create_dir(&outputs).unwrap();
    for (at, step) in steps.iter().enumerate() {
        if let Some(words) = step.command.strip_prefix("make ") {
            let target = words.split_whitespace().next().unwrap();
            assert!(makefile.contains(&format!("\n{target}:")), "{document}, line {}: no target {target}", step.line);
            continue;
        }
        let to = outputs.join(at.to_string());
        let command = adapted(&step.command, broker);
        script += &format!("exec >'{0}' 2>&1\n{command}\necho $? >'{0}.status'\n", to.display());
    }
    let programs: PathBuf = program("edp-worker").get_program().into();
    let path = format!("{}:{}", programs.parent().unwrap().display(), std::env::var("PATH").unwrap());
    let mut shell = Command::new("bash");
    shell.args(["-c", &script]).current_dir(directory).env("PATH", path).env_remove("EDP_QUEUE__URL");
    shell.env("TMPDIR", directory);
    shell.stdin(Stdio::null()).process_group(0);
    let mut shell = Group(Started(shell.spawn().unwrap()));
    shell.0.wait().unwrap();
    for (at, step) in steps.iter().enumerate().filter(|(_, step)| !step.command.starts_with("make ")) {
        let of = |name: String| fs::read_to_string(outputs.join(name)).unwrap_or_default();
        let (said, status) = (of(at.to_string()), of(format!("{at}.status")));
        // This command finds what the previous step has removed.
        let good = if step.command.contains("--redo") { "3" } else { "0" };
        let place = format!("{document}, line {}: {}", step.line, step.command);
        assert_eq!(status.trim(), good, "{place}\n{said}");
        let lines: Vec<String> = said.lines().map(timeless).collect();
        for line in &step.prints {
            assert!(lines.contains(&timeless(line)), "{place}\nprints no line '{line}':\n{said}");
        }
    }
}

#[test]
fn commands_of_the_documents_do_what_is_said_on_a_broker() {
    let broker = Broker::start();
    let url = broker.url("guest", "guest");
    let pages = ["GUIDE.md", "deploy/machine/README.md", "deploy/container/README.md", "deploy/aws/batch/README.md"];
    let pages = [&pages[..], &["doc/operations.md"]].concat();
    let pages = pages.into_iter().map(|page| (page, "target/demo"));
    for (document, begin) in [("README.md", ""), ("deploy/hpc/README.md", "")].into_iter().chain(pages) {
        let directory = tempfile::tempdir().unwrap();
        let demo = directory.path().join("target/demo");
        fs::create_dir(directory.path().join("target")).unwrap();
        let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy");
        std::os::unix::fs::symlink(deploy, directory.path().join("deploy")).unwrap();
        expect(coordinator().args(["demo", "--out"]).arg(&demo), 0);
        run(document, &directory.path().join(begin), &url);
    }
}

#[test]
fn blocks_are_found_and_none_is_left_out_unnoticed() {
    let text = "```sh\nmake demo  # x\n```\n<!-- not run: needs a cluster -->\n```console\n$ no\n```\n```console\n$ a \\\n   b\nout\n$ c\n```\n```toml\nx = 1\n```\n";
    let step = |line, command: &str, prints: &[&str]| Step {
        line,
        command: command.into(),
        prints: prints.iter().map(|text| (*text).into()).collect(),
    };
    assert_eq!(steps(text), [step(2, "make demo  # x", &[]), step(9, "a \\\n   b", &["out"]), step(12, "c", &[])]);
    let program = format!("{PYTHON}import x\n\nprint(x)\nPYTHON\n");
    assert_eq!(steps("```python\nimport x\n\nprint(x)\n```\n"), [step(1, &program, &[])]);
    for bad in
        ["```\n$ a\n```\n", "<!-- not run: -->\n```sh\na\n```\n<!-- not run: x -->\n```sh\na\n```\n", "```sh\na\n"]
    {
        assert!(std::panic::catch_unwind(|| steps(bad)).is_err(), "{bad}");
    }
    assert_eq!(timeless("24 made of 24 granules in 0.4 s"), timeless("24 made of 24 granules in 12.9 s"));
    assert_ne!(timeless("24 made of 24 granules in 0.4 s"), timeless("23 made of 24 granules in 0.4 s"));
    assert_eq!(adapted("export U=amqp://a:b@broker/v # x", "amqp://t"), "export U=amqp://t # x");
}
