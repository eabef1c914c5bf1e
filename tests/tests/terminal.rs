//! Texts from outside on their way to a terminal, a log, and programs that read JSON: names in task lists, reasons in
//! outcomes, names of workers, settings.

use edp_protocol::recipe::{self, Recipe};
use edp_protocol::text::is_unsafe;
use edp_tests::{Fixture, coordinator, json, program, text};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The things that an attacker would write: escape sequences in both forms, line breaks of all kinds, a bell, overrides
/// of the writing direction, and a text that looks like the program's own last line.
const EVIL: &str =
    "\u{1b}]0;pwned\u{7}\u{1b}[2J\r\n24 made of 24 granules\u{9b}31m\u{85}\u{2028}\u{202e}\u{2066}\u{7f}";

/// The text that the program must not be made to print as a line of its own.
const FORGED: &str = "24 made of 24 granules";

/// Checks that nothing that controls a terminal was printed, and that no line is forged. Returns the output.
fn calm(output: &Output) -> String {
    let said = text(output);
    let bad: Vec<char> = said.chars().filter(|c| *c != '\n' && is_unsafe(*c)).collect();
    assert!(bad.is_empty(), "{bad:?} in {said:?}");
    assert!(!said.lines().any(|line| line.starts_with(FORGED)), "{said}");
    said
}

/// Checks that every line on standard error is a JSON object.
fn objects(output: &Output) {
    for line in String::from_utf8(output.stderr.clone()).unwrap().lines() {
        serde_json::from_str::<Value>(line).unwrap_or_else(|e| panic!("{line}: {e}"));
    }
}

/// Returns a list of a model run in which one recipe is changed.
fn list(fixture: &Fixture, change: impl FnOnce(&mut Recipe)) -> PathBuf {
    let planned = fixture.plan(&fixture.path("out"), "tasks.json", &[]);
    let mut recipes = recipe::parse_list("list", &fs::read(&planned).unwrap()).unwrap();
    recipes.truncate(1);
    change(&mut recipes[0]);
    let path = fixture.path("evil.json");
    fs::write(&path, recipe::format_list(&recipes).unwrap()).unwrap();
    path
}

/// Returns all commands that take a list, with all formats of output and log.
fn all(list: &Path) -> Vec<Command> {
    let mut commands = Vec::new();
    for (name, words) in [
        ("edp-coordinator", &["run"][..]),
        ("edp-coordinator", &["run", "--dry-run", "--output", "json"]),
        ("edp-coordinator", &["run", "--dry-run"]),
        ("edp-coordinator", &["run", "--output", "json"]),
        ("edp-coordinator", &["verify"]),
        ("edp-coordinator", &["verify", "--output", "json"]),
        ("edp-coordinator", &["ranges"]),
        ("edp-worker", &["make"]),
        ("edp-worker", &["make", "--output", "json"]),
    ] {
        for log in [&[][..], &["--log", "trace"], &["--log", "trace", "--log-format", "json"]] {
            let mut command = program(name);
            command.args(words).arg(list).args(log);
            commands.push(command);
        }
    }
    commands
}

#[test]
fn names_in_lists_do_nothing_to_a_terminal() {
    let fixture = Fixture::new(6);
    let evil: [fn(&mut Recipe); 4] = [
        |recipe| recipe.granule = recipe.granule.replace(".nc", &format!("{EVIL}.nc")),
        |recipe| {
            let name = recipe.granule.rsplit_once('/').unwrap().0.to_owned();
            recipe.granule = format!("{name}/{EVIL}/a.nc");
        },
        |recipe| {
            recipe.variables = std::iter::once((EVIL.to_owned(), vec![vec![format!("/nowhere/{EVIL}")]])).collect()
        },
        |recipe| recipe.recipe.as_mut().unwrap().production_date = EVIL.to_owned(),
    ];
    for change in evil {
        let list = list(&fixture, change);
        for mut command in all(&list) {
            let is_json_log = command.get_args().any(|word| word == "--log-format");
            let is_json = command.get_args().any(|word| word == "--output");
            let output = command.output().unwrap();
            let said = calm(&output);
            let is_dry = command.get_args().any(|word| word == "--dry-run");
            assert!([2, 3].contains(&output.status.code().unwrap()) || is_dry, "{said}");
            if is_json_log {
                objects(&output);
            }
            if is_json && !output.stdout.is_empty() {
                json(&output);
            }
        }
        let made = edp_tests::files(&fixture.path("out")).into_keys().filter(|name| name.ends_with(".nc"));
        assert_eq!(made.count(), 0, "nothing was made");
    }
}

#[test]
fn ids_that_are_right_do_not_make_names_good() {
    let fixture = Fixture::new(6);
    // An author of a list can make the id fit the changed recipe.
    let list = list(&fixture, |recipe| {
        recipe.granule = recipe.granule.replace("_native_", "_NaTiVe_").replace("_latlon_", "_LATlon_");
        let id = recipe.computed_id().unwrap();
        recipe.recipe.as_mut().unwrap().id = id;
    });
    let output = coordinator().arg("run").arg(&list).output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", text(&output));
    assert!(text(&output).contains("neither native nor latlon"), "{}", text(&output));
    assert!(edp_tests::files(&fixture.path("out")).is_empty(), "nothing was made");
}

/// Reasons and names in a ledger are shown by `status` and `retry`.
#[test]
fn what_a_ledger_keeps_does_nothing_to_a_terminal() {
    let fixture = Fixture::new(6);
    let odd = fixture.path(&format!("no{EVIL}where"));
    let list = list(&fixture, |recipe| {
        let old = recipe.recipe.as_ref().unwrap().roots.source.clone();
        let new = odd.display().to_string();
        recipe.variables.values_mut().flatten().flatten().for_each(|path| *path = path.replace(&old, &new));
        recipe.recipe.as_mut().unwrap().roots.source = new;
    });
    let ledger = fixture.path("p.ledger");
    let output = coordinator().arg("run").arg(&list).arg("--ledger").arg(&ledger).output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", text(&output));
    assert!(calm(&output).contains("pwned"), "the reason is told");
    let granule = recipe::parse_list("list", &fs::read(&list).unwrap()).unwrap()[0].granule.clone();
    for (words, tells) in [
        (&["status"][..], true),
        (&["status", &granule], true),
        (&["status", "--watch"], false),
        (&["retry", "--dry-run"], false),
    ] {
        for form in ["human", "json"] {
            let mut command = coordinator();
            command.args(words).args(["--output", form]).arg("--ledger").arg(&ledger);
            let output = command.output().unwrap();
            let said = calm(&output);
            assert!(said.contains("pwned") || !tells, "{words:?}: {said}");
            if form == "json" {
                json(&output);
            }
        }
    }
}

/// Errors of usage that a script makes with texts from outside.
#[test]
fn words_of_the_command_line_do_nothing_to_a_terminal() {
    for words in [&[EVIL][..], &["run", EVIL], &["status", "--output", EVIL], &["run", "--queue", EVIL, EVIL]] {
        for log in [&[][..], &["--log-format", "json"]] {
            let output = coordinator().args(words).args(log).output().unwrap();
            assert_eq!(output.status.code(), Some(2), "{}", text(&output));
            calm(&output);
        }
    }
}

/// A password appears in no output, whatever is wrong with its URL or setting.
#[test]
fn passwords_are_in_no_message() {
    const ADDRESS: &str = "amqp://u:s3cretPW@h/v";
    let directory = tempfile::tempdir().unwrap();
    let mut files = vec![String::new()];
    for key in ["queue.url", "queue.ca", "queue.url_file", "queue.password_file", "plan.grid", "plan.source", "log"] {
        files.push(format!("{key} = \"{ADDRESS}\"\n"));
        files.push(format!("{key} = \"{ADDRESS}\n"));
        files.push(format!("{key} = [\"{ADDRESS}\"]\n"));
    }
    for key in ["log_format", "run.slots", "serve.roots", "serve.notices", "store.s3.endpoint", "store.s3.profile"] {
        files.push(format!("{key} = \"{ADDRESS}\"\n"));
    }
    files.extend([
        format!("queue.url = {ADDRESS}\n"),
        format!("{ADDRESS}\n"),
        "queue.password_file = \"s3cretPW\"\nqueue.url = \"amqp://u@h\"\n".into(),
        "queue.password_command = \"s3cretPW\"\nqueue.url = \"amqp://u@h\"\n".into(),
        "queue.url = \"amqp://u:12/s3cretPW@h/v\"\n".into(),
        "queue.url = \"amqp://u:p@s3cretPW/w@h/v\"\n".into(),
    ]);
    let variables = ["EDP_QUEUE__URL", "EDP_QUEUE__PATIENCE", "EDP_LOG", "EDP_SERVE__ROOTS", "EDP_STORE__SCRATCH"];
    let root = directory.path().join("root");
    fs::create_dir(&root).unwrap();
    let run = |variable: Option<&str>, words: &[&str]| {
        for (name, first) in [("edp-coordinator", &["status", "--queue"][..]), ("edp-worker", &["serve"])] {
            let mut command = program(name);
            command.args(first).args(words).current_dir(directory.path()).env("EDP_QUEUE__CONFIRM", "1");
            if name == "edp-worker" {
                command.args(["--exit-when-idle", "1", "--root"]).arg(&root).env("EDP_RUN__SLOTS", "1");
            }
            command.env("EDP_QUEUE__PATIENCE", "1").envs(variable.map(|variable| (variable, ADDRESS)));
            let output = command.output().unwrap();
            let said = calm(&output);
            assert!(!said.contains("s3cretPW"), "{command:?}: {said}");
            assert!([2, 4].contains(&output.status.code().unwrap()), "{command:?}: {said}");
        }
    };
    for file in files {
        fs::write(directory.path().join("edp.toml"), file).unwrap();
        run(None, &[]);
    }
    fs::remove_file(directory.path().join("edp.toml")).unwrap();
    for variable in variables {
        run(Some(variable), &[]);
    }
    // The program warns of passwords on the command line, and does not repeat them.
    for url in ["http://u:s3cretPW@h", "u:s3cretPW@h", "amqp://u:s3cretPW@h:x"] {
        let output = program("edp-worker").args(["serve", "--root", "/nowhere", "--queue", url]).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{}", text(&output));
        assert!(!text(&output).contains("s3cretPW"), "{}", text(&output));
    }
}

/// A settings file in the current directory is not used if others can write to it.
#[test]
fn settings_that_others_can_write_are_not_taken() {
    use std::os::unix::fs::PermissionsExt as _;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("edp.toml");
    fs::write(&path, "log = 'loud'").unwrap();
    let lint = |words: &[&str], part: &str| {
        for name in ["edp-coordinator", "edp-worker"] {
            let mut command = program(name);
            let words =
                words.iter().copied().chain([if name == "edp-worker" { "make" } else { "verify" }, "none.json"]);
            let output = command.args(words).current_dir(directory.path()).output().unwrap();
            assert_eq!(output.status.code(), Some(2), "{}", text(&output));
            assert!(text(&output).contains(part), "{}", text(&output));
        }
    };
    for (mode, part) in [(0o644, "'loud'"), (0o664, "chmod go-w"), (0o646, "chmod go-w")] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        lint(&[], part);
    }
    // A file that is named explicitly is used.
    lint(&["--settings", "edp.toml"], "'loud'");
}
