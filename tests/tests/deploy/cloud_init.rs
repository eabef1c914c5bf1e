//! `deploy/machine/cloud-init.yaml`: accepted by cloud-init's schema, and its script run with a release archive.

use crate::{assert_accepted, assert_refused, read, root, settings, yaml};
use edp_tests::{expect, not_run, program, text};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

const FILE: &str = "deploy/machine/cloud-init.yaml";

/// Returns the content of a file that the user data write.
fn written(data: &Value, path: &str) -> String {
    let files = data["write_files"].as_array().unwrap();
    let file = files.iter().find(|file| file["path"] == path).unwrap_or_else(|| panic!("no {path}: {files:?}"));
    file["content"].as_str().unwrap().to_owned()
}

fn user_data() -> Value {
    yaml(&read(FILE)).remove(0)
}

#[test]
fn cloud_init_accepts_the_user_data() {
    let schema = root().join(".tools/cloud-init/schema-cloud-config-v1.json");
    if !schema.is_file() {
        return not_run("there is no schema of cloud-init");
    }
    let words = ["cloud-init", schema.to_str().unwrap()];
    let data = read(FILE);
    assert_accepted(&words, &data);
    let changes = [
        ("system: true", "sytem: 3", "users.1"),
        ("\nruncmd:", "\nrun_cmd:", "run_cmd is not known"),
        ("#cloud-config", "# cloud-config", "the first line"),
    ];
    assert_refused(&words, &data, &changes);
}

#[test]
fn what_the_user_data_say_is_what_the_programs_and_the_unit_have() {
    let data = user_data();
    let (set, _) = settings(&written(&data, "/etc/edp/v4r4.env"));
    assert!(set.queue.url.is_some_and(|url| !url.has_password()) && set.serve.roots.is_some());
    assert!(set.queue.password_file.is_none(), "the unit names the file");

    let unit = read("deploy/machine/edp-worker@.service");
    let values = |text: &str, key: &str| -> Vec<String> {
        text.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('=')).map(str::to_owned).collect()
    };
    let group = written(&data, "/etc/systemd/system/edp-worker@.service.d/group.conf");
    let (own, started) = (values(&unit, "ExecStart"), values(&group, "ExecStart"));
    assert_eq!((own.len(), started.len(), started[0].as_str()), (1, 2, ""), "a drop-in must clear the command first");
    assert!(started[1].starts_with(&own[0]), "{started:?} is not the command of the unit with more options");
    let words = started[1].replace("%i", "v4r4");
    expect(program("edp-worker").args(words.split(' ').skip(1)).arg("--help"), 0);
    // A worker that fails again and again ends its machine, also if it waits for its broker each time. What prevents a
    // restart would prevent that.
    assert_eq!(values(&group, "StartLimitAction"), ["poweroff"]);
    assert_eq!(values(&group, "RestartPreventExitStatus"), [""]);
    let number = |text: &str| -> u32 { text.parse().unwrap() };
    let starts = number(&values(&group, "StartLimitBurst")[0]);
    let hours = number(values(&group, "StartLimitIntervalSec")[0].strip_suffix('h').unwrap());
    let pause = number(&values(&unit, "RestartSec")[0]);
    assert!(starts * (set.queue.patience + pause) < hours * 3600, "{starts} starts take longer than {hours} h");
    let needed = values(&unit, "ReadWritePaths");
    let script = written(&data, "/usr/local/sbin/edp-install");
    for path in needed {
        assert!(script.contains(&format!("install -d -o edp -g edp {path}\n")), "{path} does not exist");
    }
    assert!(data["users"].as_array().unwrap().iter().any(|user| user["name"] == "edp"));
    assert_eq!(values(&unit, "User"), ["edp"]);
    let run = data["runcmd"][0].as_array().unwrap();
    assert_eq!((run.len(), run[2].as_str().unwrap().len(), &run[3]), (4, 64, &Value::from("v4r4")));
}

/// Runs the script in a directory that takes the place of `/`, with commands of the test for what only root may do.
fn install(directory: &Path, url: &str, digest: &str, password: &str) -> std::process::Output {
    let data = user_data();
    let place = |path: &str| directory.join(path.trim_start_matches('/'));
    for (name, content) in [
        ("systemctl", "echo \"$@\" >>\"$CALLED\"\n"),
        ("shutdown", "echo shutdown \"$@\" >>\"$CALLED\"\n"),
        ("poweroff", "echo poweroff >>\"$CALLED\"\n"),
        // of the owner, only root may decide
        (
            "install",
            "case \"$*\" in *' edp '*) for last; do :; done; mkdir -p \"$last\" ;; *) exec /usr/bin/install \"$@\" ;; esac\n",
        ),
    ] {
        let path = place("/commands").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, format!("#!/bin/sh\n{content}")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    for path in ["/etc/edp", "/etc/systemd/system", "/usr/local/bin", "/usr/local/sbin"] {
        fs::create_dir_all(place(path)).unwrap();
    }
    let mut script = written(&data, "/usr/local/sbin/edp-install");
    for path in ["/etc/", "/opt/", "/usr/local/", "/srv/"] {
        let own = format!("{}{path}", directory.display());
        for before in [" ", "\"", "\n"] {
            script = script.replace(&format!("{before}{path}"), &format!("{before}{own}"));
        }
    }
    fs::write(place("/usr/local/sbin/edp-install"), script).unwrap();
    fs::write(place("/usr/local/sbin/edp-password"), format!("#!/bin/sh\n{password}\n")).unwrap();
    fs::set_permissions(place("/usr/local/sbin/edp-password"), fs::Permissions::from_mode(0o700)).unwrap();
    let path = format!("{}:{}", place("/commands").display(), std::env::var("PATH").unwrap());
    let mut command = Command::new("sh");
    command.arg(place("/usr/local/sbin/edp-install")).args([url, digest, "v4r4"]);
    command.env("PATH", path).env("CALLED", place("/called")).env("TMPDIR", directory).output().unwrap()
}

#[test]
fn the_script_installs_an_archive_with_the_right_digest_alone() {
    if Command::new("curl").arg("--version").output().is_err() {
        return not_run("there is no curl");
    }
    let directory = tempfile::tempdir().unwrap();
    let (archives, programs) = (directory.path().join("archives"), directory.path().join("programs"));
    fs::create_dir(&programs).unwrap();
    for name in ["edp-coordinator", "edp-worker"] {
        let built = program(name).get_program().to_owned();
        expect(Command::new("strip").arg("-o").arg(programs.join(name)).arg(built), 0);
    }
    expect(
        Command::new(root().join("deploy/dist.sh")).arg(&programs).arg("x86_64-unknown-linux-gnu").arg(&archives),
        0,
    );
    let archive = fs::read_dir(&archives).unwrap().flatten().map(|entry| entry.path());
    let archive = archive.into_iter().find(|path| path.extension().is_some_and(|ending| ending == "gz")).unwrap();
    let url = format!("file://{}", archive.display());
    let digest = edp_protocol::Digest::of(&fs::read(&archive).unwrap()).to_string();

    let good = directory.path().join("good");
    let output = install(&good, &url, &digest, "echo s3cret");
    assert!(output.status.success() && !text(&output).contains("s3cret"), "{}", text(&output));
    let password = good.join("etc/edp/v4r4.password");
    assert_eq!(fs::read_to_string(&password).unwrap(), "s3cret\n");
    assert_eq!(fs::metadata(&password).unwrap().permissions().mode() & 0o777, 0o600, "others can read the password");
    assert_eq!(fs::read_to_string(good.join("called")).unwrap(), "daemon-reload\nenable --now edp-worker@v4r4\n");
    assert_eq!(
        fs::read_to_string(good.join("etc/systemd/system/edp-worker@.service")).unwrap(),
        read("deploy/machine/edp-worker@.service")
    );
    let installed = good.join("usr/local/bin/edp-worker");
    assert_eq!(fs::metadata(&installed).unwrap().permissions().mode() & 0o777, 0o755);
    expect(Command::new(installed).arg("--version"), 0);
    assert!(good.join("srv/edp").is_dir());

    for (name, url, digest, password) in [
        ("another digest", &url, &"0".repeat(64), "echo s3cret"),
        ("no archive", &format!("{url}.missing"), &digest, "echo s3cret"),
        ("no password", &url, &digest, "exit 1"),
    ] {
        let bad = directory.path().join(name.replace(' ', "-"));
        let output = install(&bad, url, digest, password);
        assert!(!output.status.success(), "{name}: {}", text(&output));
        let called = fs::read_to_string(bad.join("called")).unwrap_or_default();
        assert_eq!(called, "shutdown -P +15\n", "{name}: starts a worker, or leaves the machine on");
        assert!(!bad.join("usr/local/bin/edp-worker").exists(), "{name}");
    }
}
