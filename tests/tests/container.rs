//! `deploy/container`: what the compose file and the image permit and say, and, in `make check-all`, the image itself, made
//! without a registry.

use edp_program::settings::{ServeSettings, Settings};
use edp_tests::broker::Broker;
use edp_tests::{Started, expect, not_permitted, not_run, program, text, until};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().canonicalize().unwrap()
}

fn read(name: &str) -> String {
    fs::read_to_string(root().join("deploy/container").join(name)).unwrap()
}

fn yaml(name: &str) -> Value {
    serde_saphyr::from_str(&read(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Returns the words of a command in a list, with the defaults of variables in it.
fn words(command: &Value) -> Vec<String> {
    let word = |word: &Value| word.as_str().unwrap().replace("${EDP_PRODUCTION:-default}", "default");
    command.as_array().unwrap().iter().map(word).collect()
}

/// Checks that a program understands a command line.
fn is_understood(words: &[String]) {
    expect(program(&words[0]).args(&words[1..]).arg("--help"), 0);
}

/// Checks that variables are settings, and returns these.
fn settings<'a>(variables: impl IntoIterator<Item = (&'a str, &'a str)>) -> Settings {
    let variables = variables.into_iter().filter(|(name, _)| name.starts_with("EDP_"));
    let variables: Vec<_> = variables.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    assert!(!variables.is_empty());
    Settings::parse(None, variables).unwrap()
}

#[test]
fn services_have_few_rights_and_time_to_end() {
    let compose = yaml("compose.yaml");
    for name in ["coordinator", "worker"] {
        let service = &compose["services"][name];
        assert_eq!(service["read_only"], true, "{name}: {service}");
        assert_eq!(service["cap_drop"], serde_json::json!(["ALL"]), "{name}");
        assert_eq!(service["security_opt"], serde_json::json!(["no-new-privileges:true"]), "{name}");
        assert_eq!(service["tmpfs"], serde_json::json!(["/tmp"]), "{name}");
        assert!(service["user"].as_str().unwrap().starts_with("${EDP_UID:-10001}:"), "{name}");
        assert_eq!(service["depends_on"]["broker"]["condition"], "service_healthy", "{name}");
        let variables = service["environment"].as_object().unwrap();
        let settings = settings(variables.iter().map(|(name, value)| (name.as_str(), value.as_str().unwrap())));
        let (url, file) = (settings.queue.url.unwrap(), settings.queue.password_file.unwrap());
        assert!(!url.has_password() && file == Path::new("/run/secrets/password"), "{name}: {url}");
        let grace: u32 = service["stop_grace_period"].as_str().unwrap().strip_suffix('s').unwrap().parse().unwrap();
        assert!(grace >= ServeSettings::default().grace + 45 + 30, "{name}: {grace}");
        is_understood(&words(&service["command"]));
    }
    // The check of the image is that of a worker.
    assert_eq!(compose["services"]["coordinator"]["healthcheck"]["disable"], true);
    assert_eq!(compose["services"]["worker"]["healthcheck"], Value::Null);
    assert_eq!(compose["services"]["broker"]["image"], "docker.io/library/rabbitmq:4");
    for (name, secret) in compose["secrets"].as_object().unwrap() {
        let file = secret["file"].as_str().unwrap().trim_start_matches("./");
        assert!(read("README.md").contains(&format!(">{file}\n")), "README.md does not make {name}");
    }
}

#[test]
fn the_collector_takes_what_the_programs_send() {
    let collector = yaml("collector.yaml");
    let endpoint = collector["receivers"]["otlp"]["protocols"]["grpc"]["endpoint"].as_str().unwrap();
    let port = endpoint.rsplit(':').next().unwrap();
    let variables = &yaml("compose.yaml")["services"]["worker"]["environment"];
    assert_eq!(variables["OTEL_EXPORTER_OTLP_ENDPOINT"], format!("http://collector:{port}"));
    for kind in ["traces", "metrics"] {
        for part in ["receivers", "processors", "exporters"] {
            for name in collector["service"]["pipelines"][kind][part].as_array().unwrap() {
                assert!(collector[part].as_object().unwrap().contains_key(name.as_str().unwrap()), "{kind}: {name}");
            }
        }
    }
}

#[test]
fn the_image_runs_as_nobody_and_is_checked_by_a_command_that_there_is() {
    let file = read("Containerfile").replace("\\\n", " ");
    let last = &file[file.rfind("\nFROM ").unwrap()..];
    let instruction = |name: &str| -> Vec<&str> {
        last.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).collect()
    };
    assert_eq!(instruction("USER"), ["10001:10001"]);
    let settings = settings(instruction("ENV").iter().map(|line| line.split_once('=').unwrap()));
    assert!(settings.serve.status.is_some_and(|path| path.starts_with("/tmp")), "the only place to write to");
    let check = instruction("HEALTHCHECK")[0].split_once("CMD ").unwrap().1;
    is_understood(&words(&serde_json::from_str(check).unwrap()));
    // Without a broker a worker ends at once; a container of a batch system has a list instead.
    let command = words(&serde_json::from_str(instruction("CMD")[0]).unwrap());
    let programs = program("edp-worker").get_program().to_owned();
    let path = format!("{}:/usr/bin:/bin", Path::new(&programs).parent().unwrap().display());
    for (list, says) in [(None, "queue"), (Some(""), "queue"), (Some("/none/tasks.json"), "/none/tasks.json")] {
        let mut container = Command::new(&command[0]);
        container.args(&command[1..]).env_clear().env("PATH", &path).envs(list.map(|list| ("TASKLIST", list)));
        let output = expect(&mut container, 2);
        assert!(text(&output).contains(says), "{}", text(&output));
    }
    let apptainer = read("edp.def");
    for name in ["edp-coordinator", "edp-worker"] {
        assert!(apptainer.contains(&format!("    target/release/{name} /usr/local/bin/{name}\n")), "{name}");
    }
}

/// Makes a worker the first process of a process namespace, as an engine for containers does: with the image as its root
/// file system, read-only but for /tmp, and as the image's user. `$1`: the root, `$2`: the broker.
const FIRST_PROCESS: &str = "mount --bind \"$1\" \"$1\" && mount -o remount,bind,ro \"$1\" && \
    mount -t proc proc \"$1/proc\" && mount -t tmpfs tmpfs \"$1/tmp\" && mount --bind /dev \"$1/dev\" && \
    exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin EDP_QUEUE__URL=\"$2\" EDP_SERVE__NOTICES=off EDP_SERVE__STATUS=/tmp/edp-worker.sock \
    chroot --userspec=10001:10001 \"$1\" /usr/local/bin/edp-worker serve --root /tmp";

struct Buildah {
    directory: PathBuf,
}

impl Buildah {
    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("buildah");
        command.env("BUILDAH_ISOLATION", "chroot").args(["--storage-driver", "vfs"]);
        command.arg("--root").arg(self.directory.join("store")).arg("--runroot").arg(self.directory.join("run"));
        command.args(words).current_dir(&self.directory);
        command
    }

    fn prints(&self, words: &[&str]) -> String {
        String::from_utf8(expect(&mut self.command(words), 0).stdout).unwrap().trim().to_owned()
    }

    fn run(&self, container: &str, words: &[&str]) -> Output {
        self.command(&[&["run", container, "--"], words].concat()).output().unwrap()
    }
}

impl Drop for Buildah {
    fn drop(&mut self) {
        let _ = self.command(&["umount", "--all"]).output();
        let _ = self.command(&["rm", "--all"]).output();
    }
}

/// Returns the mirror of Debian that apt uses here.
fn mirror() -> String {
    let words = ["indextargets", "--format", "$(REPO_URI)", "Created-By: Packages", "Origin: Debian", "Label: Debian"];
    text(&expect(Command::new("apt-get").args(words), 0)).lines().next().unwrap().to_owned()
}

#[test]
#[ignore = "slow: makes an image (make check-all)"]
fn the_image_is_made_and_its_worker_drains_on_a_broker() {
    if !cfg!(target_os = "linux") || !rustix::process::geteuid().is_root() {
        return not_permitted("making an image needs Linux and root");
    }
    for tool in ["buildah", "debootstrap", "nsenter"] {
        if Command::new(tool).arg("--version").output().is_err() {
            return not_run(&format!("there is no {tool}"));
        }
    }
    let directory = tempfile::tempdir().unwrap();
    let buildah = Buildah { directory: directory.path().to_owned() };
    let base = directory.path().join("base");
    let words = ["--variant=minbase", "--include=ca-certificates", "bookworm"];
    expect(Command::new("debootstrap").args(words).arg(&base).arg(mirror()), 0);
    let container = buildah.prints(&["from", "scratch"]);
    expect(buildah.command(&["copy", "--quiet", &container]).arg(&base).arg("/"), 0);
    buildah.prints(&["commit", "--quiet", &container, "localhost/base"]);
    buildah.prints(&["rm", &container]);
    fs::remove_dir_all(&base).unwrap();

    // The archive has the programs of the tests, without their symbols.
    let programs = directory.path().join("programs");
    fs::create_dir(&programs).unwrap();
    for name in ["edp-coordinator", "edp-worker"] {
        let built = program(name).get_program().to_owned();
        expect(Command::new("strip").arg("-o").arg(programs.join(name)).arg(built), 0);
    }
    let archive = directory.path().join("target/dist");
    expect(Command::new(root().join("deploy/dist.sh")).arg(&programs).arg("x86_64-unknown-linux-gnu").arg(&archive), 0);
    let file = root().join("deploy/container/Containerfile");
    let words = ["build", "--format", "docker", "--tag", "edp", "--build-arg", "BASE=localhost/base"];
    let mut build = buildah.command(&[&words[..], &["--build-arg", "PROGRAMS=archive", "--file"]].concat());
    expect(build.arg(&file).arg("."), 0);

    let inspected: Value = serde_json::from_str(&buildah.prints(&["inspect", "--type", "image", "edp"])).unwrap();
    let configured = &inspected["Docker"]["config"];
    assert_eq!(configured["Healthcheck"]["Test"], serde_json::json!(["CMD", "edp-worker", "health"]), "{configured}");
    assert_eq!(configured["User"], "10001:10001");

    let container = buildah.prints(&["from", "edp"]);
    let user = buildah.run(&container, &["id", "-u"]);
    assert_eq!(text(&user).trim(), "10001");
    let unwell = buildah.run(&container, &["edp-worker", "health"]);
    assert!(text(&unwell).contains("no worker answers at /tmp/edp-worker.sock"), "{}", text(&unwell));
    let demo = buildah.run(&container, &["edp-coordinator", "demo", "--out", "/tmp/demo"]);
    assert!(demo.status.success() && text(&demo).contains("24 good, 0 missing"), "{}", text(&demo));

    let broker = Broker::start();
    let inside = buildah.prints(&["mount", &container]);
    let mut first = Command::new("unshare");
    first.args(["--mount", "--pid", "--fork", "--kill-child", "sh", "-c", FIRST_PROCESS, "sh", &inside]);
    first.arg(broker.url("guest", "guest")).stdin(Stdio::null()).stdout(Stdio::null());
    let log = directory.path().join("log");
    let mut first = Started(first.stderr(fs::File::create(&log).unwrap()).spawn().unwrap());
    let said = || fs::read_to_string(&log).unwrap();
    let mut process = String::new();
    until("the worker runs", || {
        let found = Command::new("ps").args(["-o", "pid=", "--ppid", &first.id().to_string()]).output().unwrap();
        process = String::from_utf8_lossy(&found.stdout).trim().to_owned();
        assert!(first.try_wait().unwrap().is_none(), "{}", said());
        !process.is_empty()
    });
    let mut health = Command::new("nsenter");
    health.args(["--target", &process, "--mount", "--pid", "--root", "--setuid", "10001", "--setgid", "10001"]);
    health.args(["/usr/local/bin/edp-worker", "health", "--status", "/tmp/edp-worker.sock"]);
    until("the worker is healthy", || {
        assert!(first.try_wait().unwrap().is_none(), "{}", said());
        health.output().unwrap().status.success()
    });
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    assert!(status.lines().any(|line| line.starts_with("NSpid:") && line.ends_with("\t1")), "{status}");
    expect(Command::new("kill").args(["-s", "TERM", &process]), 0);
    assert_eq!(first.wait().unwrap().code(), Some(143), "{}", said());
    assert!(said().contains("terminated: finishing what is under way"), "{}", said());
}
