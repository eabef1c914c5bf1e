//! The ends of workers: on request, when their machine ends, when they have nothing to do, and where nothing can be
//! made. Their tasks are done by others, with the same bytes.

use edp_program::settings::{NoticeSources, ServeSettings};
use edp_protocol::Digest;
use edp_tests::broker::Broker;
use edp_tests::imds::{INTERRUPTION, Imds, SCALING};
use edp_tests::{Fixture, Started, coordinator, expect, files, program, signal, until};
use edp_worker::notice::Notices;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Longest time that anything may take on a busy machine before it counts as hanging.
const PATIENCE: Duration = Duration::from_secs(120);

/// A service that fails, revokes its tokens and gives no answer for a while does no harm; its later answers are used.
#[tokio::test(flavor = "multi_thread")]
async fn a_scale_in_is_noticed_after_a_token_was_refused() {
    let rounds = Arc::new(Mutex::new(0));
    let seen = rounds.clone();
    let imds = Imds::start(move |path| match path {
        INTERRUPTION => {
            *seen.lock().unwrap() += 1;
            None
        }
        SCALING if *seen.lock().unwrap() > 1 => Some("Terminated".into()),
        SCALING => Some("InService".into()),
        _ => None,
    });
    let settings =
        ServeSettings { notices: NoticeSources::Ec2, imds: Some(imds.url.clone()), ..ServeSettings::default() };
    let refusing = async {
        while *rounds.lock().unwrap() == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        *imds.token.lock().unwrap() += 1;
        std::future::pending::<()>().await;
    };
    let notice = tokio::select! {
        notice = tokio::time::timeout(PATIENCE, Notices::new(&settings, None).first()) => notice.unwrap(),
        () = refusing => unreachable!(),
    };
    assert_eq!(notice.to_string(), "scale-in (Terminated)");
    assert_eq!(*rounds.lock().unwrap(), 2);
}

/// A running program and its log.
struct Process {
    child: Started,
    log: PathBuf,
}

impl Process {
    fn start(command: &mut Command, log: PathBuf) -> Process {
        let file = File::options().create(true).append(true).open(&log).unwrap();
        let child = command.stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file).spawn().unwrap();
        Process { child: Started(child), log }
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn says(&self, text: &str) {
        until(&format!("'{text}' in the log"), || self.log().contains(text));
    }

    fn signal(&self, name: &str) {
        signal(self.child.id(), name);
    }

    /// Waits for its end, and returns its log.
    fn ends(mut self, status: i32) -> String {
        let mut found = None;
        until("a program ends", || {
            found = self.child.try_wait().unwrap();
            found.is_some()
        });
        assert_eq!(found.and_then(|found| found.code()), Some(status), "{}", self.log());
        self.log()
    }
}

/// A broker, a model run, and the granules that one undisturbed process makes from it.
struct Site {
    broker: Broker,
    fixture: Fixture,
    reference: BTreeMap<String, Digest>,
}

/// One production at the site.
struct Production<'a> {
    site: &'a Site,
    name: &'static str,
    directory: PathBuf,
    list: PathBuf,
}

impl Site {
    fn new() -> Site {
        let fixture = Fixture::new(6);
        let out = fixture.path("reference");
        let list = fixture.plan(&out, "reference.json", &[]);
        expect(program("edp-worker").arg("make").arg(list), 0);
        let reference = files(&out);
        assert!(!reference.is_empty());
        Site { broker: Broker::start(), fixture, reference }
    }

    fn production(&self, name: &'static str) -> Production<'_> {
        let directory = self.fixture.path(name);
        fs::create_dir(&directory).unwrap();
        let list = self.fixture.plan(&directory.join("out"), &format!("{name}/tasks.json"), &[]);
        Production { site: self, name, directory, list }
    }
}

impl Production<'_> {
    fn out(&self) -> PathBuf {
        self.directory.join("out")
    }

    fn settings<'c>(&self, command: &'c mut Command) -> &'c mut Command {
        command
            .env("EDP_QUEUE__URL", self.site.broker.url("guest", "guest"))
            .env("EDP_SERVE__NOTICES", "off")
            .env("EDP_SERVE__GRACE", "5")
            .args(["--production", self.name])
            .current_dir(&self.directory)
    }

    fn coordinator(&self) -> Process {
        let mut command = coordinator();
        command.arg("run").arg(&self.list).args(["--queue", "--output", "json"]);
        Process::start(self.settings(&mut command), self.directory.join("coordinator.log"))
    }

    /// Adds the options of a worker to a command.
    fn serve(&self, mut command: Command) -> Command {
        command.args(["serve", "--slots", "1", "--root"]).arg(self.site.fixture.path(""));
        self.settings(&mut command);
        command
    }

    fn worker(&self, name: &str, add: impl FnOnce(&mut Command)) -> Process {
        let mut command = self.serve(program("edp-worker"));
        add(&mut command);
        Process::start(&mut command, self.directory.join(name))
    }

    /// Lets an undisturbed worker make the rest.
    fn finish(&self, coordinator: Process, status: i32) -> String {
        let worker = self.worker("last.log", |_| ());
        let said = coordinator.ends(status);
        worker.signal("TERM");
        worker.ends(143);
        said
    }

    /// Returns the number of task messages in a queue of the production, either waiting or delivered to workers.
    fn task_messages(&self, state: &str) -> u64 {
        let listed = self.site.broker.control(["list_queues", "--no-table-headers", "name", state]);
        let queue = format!("edp.{}.recipes\t", self.name);
        listed.lines().find_map(|line| line.strip_prefix(&queue)?.trim().parse().ok()).unwrap_or(0)
    }

    /// Checks that everything is there, byte for byte, and nothing else.
    fn is_whole(&self) {
        let found = files(&self.out());
        assert_eq!(found.keys().collect::<Vec<_>>(), self.site.reference.keys().collect::<Vec<_>>(), "{}", self.name);
        assert!(found == self.site.reference, "{}: other bytes", self.name);
    }

    fn made(&self) -> usize {
        made(&self.out())
    }
}

fn made(out: &Path) -> usize {
    files(out).keys().filter(|name| name.ends_with(".nc")).count()
}

/// Returns the time in seconds since 1970.
fn clock() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// The cloud takes the instance back in the middle of a production.
#[test]
fn a_worker_on_a_broker_ends_before_its_spot_instance() {
    let site = Site::new();
    let production = site.production("spot");
    let out = production.out();
    let imds = Imds::start(move |path| {
        if path != INTERRUPTION {
            return None;
        }
        // The notice comes as soon as something is made, so that much is left. An answer must not come later than the
        // worker waits for it.
        let end = Instant::now() + Duration::from_secs(1);
        while made(&out) == 0 && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(1));
        }
        (made(&out) > 0).then(|| r#"{"action": "terminate", "time": "2100-01-01T00:00:00Z"}"#.into())
    });
    let coordinator = production.coordinator();
    let worker = production.worker("first.log", |command| {
        command.env("EDP_SERVE__NOTICES", "auto").env("EDP_SERVE__IMDS", imds.url);
    });
    let said = worker.ends(0);
    assert!(said.contains("draining: spot interruption (terminate) at 2100-01-01T00:00:00Z"), "{said}");
    let (left, parts) = (files(&production.out()), ".part");
    assert!(left.keys().all(|name| !name.ends_with(parts)), "{left:?}");
    assert!(left.iter().all(|(name, digest)| site.reference.get(name) == Some(digest)), "half a granule");
    production.finish(coordinator, 0);
    production.is_whole();
}

/// A job that ends soon gives back its tasks. Notices that are switched off are ignored.
#[test]
fn a_worker_on_a_broker_ends_before_its_slurm_job() {
    let site = Site::new();
    let production = site.production("slurm");
    let coordinator = production.coordinator();
    // The remaining time is shorter than grace period and margin.
    let ends = (clock() + 10).to_string();
    let job = |name: &str, notices: &str| {
        production.worker(name, |command| {
            command.env("SLURM_JOB_END_TIME", &ends).env("EDP_SERVE__NOTICES", notices);
        })
    };
    let said = job("job.log", "auto").ends(0);
    assert!(said.contains("draining: the Slurm job ends at 2"), "{said}");
    assert!(production.made() < site.reference.len(), "it made all in spite of the end of its job");
    let deaf = job("deaf.log", "off");
    coordinator.ends(0);
    production.is_whole();
    assert!(!deaf.log().contains("draining"));
    // There is nothing left to do.
    let idle = production.worker("idle.log", |command| {
        command.args(["--exit-when-idle", "500ms"]);
    });
    idle.ends(0);
    // A time limit of its own counts for a worker outside of jobs too.
    let limited = production.worker("limited.log", |command| {
        command.args(["--time-limit", "26"]);
    });
    let said = limited.ends(0);
    assert!(said.contains("draining: the time limit is reached at 2"), "{said}");
}

/// A worker that cannot finish its tasks would wait for its grace period; a second signal ends it at once.
#[test]
fn a_second_signal_ends_a_worker_on_a_broker_at_once() {
    let site = Site::new();
    let production = site.production("twice");
    let coordinator = production.coordinator();
    until("task messages are in the queue", || production.task_messages("messages") > 0);
    site.broker.alarm(true);
    let worker = production.worker("first.log", |command| {
        command.env("EDP_SERVE__GRACE", "100000");
    });
    until("it has taken a task message", || production.task_messages("messages_unacknowledged") > 0);
    worker.signal("TERM");
    worker.says("terminated: finishing what is under way");
    worker.signal("TERM");
    worker.ends(143);
    site.broker.alarm(false);
    production.finish(coordinator, 0);
    production.is_whole();
}

/// One worker cannot write where the others can: it gives back its tasks, and reports why it ends.
#[test]
fn a_worker_on_a_broker_that_cannot_write_ends() {
    let site = Site::new();
    let mut mounting = Command::new("unshare");
    mounting.args(["-m", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]);
    if !mounting.status().is_ok_and(|status| status.success()) {
        return edp_tests::not_permitted("no file system can be mounted in a namespace here");
    }
    let production = site.production("readonly");
    fs::create_dir(production.out()).unwrap();
    let coordinator = production.coordinator();
    let worker = program("edp-worker").get_program().to_owned();
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-ec", "mount -t tmpfs -o ro tmpfs \"$0\"; exec \"$@\""]);
    command.arg(production.out()).arg(worker);
    let unfit = Process::start(&mut production.serve(command), production.directory.join("unfit.log"));
    let said = unfit.ends(4);
    assert!(said.contains("nothing can be made here") && said.contains("Read-only file system"), "{said}");
    assert_eq!(production.made(), 0);
    production.finish(coordinator, 0);
    production.is_whole();
}

/// A root is replaced after the worker has begun: the files that are missing then are not the fault of a recipe.
#[test]
fn a_worker_on_a_broker_whose_root_is_replaced_ends() {
    let site = Site::new();
    let production = site.production("replaced");
    let root = production.directory.join("mounted");
    fs::create_dir(&root).unwrap();
    let worker = production.worker("first.log", |command| {
        command.arg("--root").arg(&root);
    });
    worker.says("production replaced");
    fs::rename(&root, production.directory.join("gone")).unwrap();
    fs::create_dir(&root).unwrap();
    let coordinator = production.coordinator();
    let said = worker.ends(4);
    assert!(said.contains("nothing can be made here") && said.contains("unmounted or replaced"), "{said}");
    assert_eq!(production.made(), 0);
    production.finish(coordinator, 0);
    production.is_whole();
}

/// A recipe whose input is a link that leads out of the root is refused, and nothing else fails.
#[test]
fn a_link_out_of_the_root_fails_its_recipes_on_a_broker() {
    let site = Site::new();
    let production = site.production("link");
    let results = &site.fixture.demo.results;
    let own = production.directory.join("results");
    assert!(Command::new("cp").arg("-a").args([results, &own]).status().unwrap().success());
    let [shared, text] = [results, &own].map(|path| path.display().to_string());
    let list = fs::read_to_string(&production.list).unwrap();
    assert!(list.contains(&shared));
    fs::write(&production.list, list.replace(&shared, &text)).unwrap();
    let outside = tempfile::tempdir().unwrap();
    let input = own.join("DEMO/diags_monthly/SIarea_mon_mean/SIarea_mon_mean.0000001428.data");
    fs::copy(&input, outside.path().join("secret")).unwrap();
    fs::remove_file(&input).unwrap();
    std::os::unix::fs::symlink(outside.path().join("secret"), &input).unwrap();
    let said = production.finish(production.coordinator(), 3);
    assert!(said.contains("lies outside of what this worker may read"), "{said}");
    let made = files(&production.out());
    let of_the_input = |name: &String| name.contains("SEA_ICE_CONC_THICKNESS_mon_mean_1992-02");
    assert_eq!(made.len(), site.reference.keys().filter(|name| !of_the_input(name)).count());
    assert!(made.iter().all(|(name, digest)| site.reference.get(name) == Some(digest)), "other bytes");
}

/// A password on the command line can be seen by everybody on the machine: the program warns of it, and does not print
/// it.
#[test]
fn a_password_on_the_command_line_is_warned_of() {
    let directory = tempfile::tempdir().unwrap();
    // A port that was free a moment ago, so that nothing listens there.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let run = |user: &str| {
        let mut command = program("edp-worker");
        command.args(["serve", "--queue", &format!("amqp://{user}@127.0.0.1:{port}/"), "--root"]).arg(directory.path());
        let output = expect(command.env("EDP_QUEUE__PATIENCE", "1"), 4);
        edp_tests::text(&output)
    };
    let said = run("u:s3cret");
    assert!(said.contains("password in --queue") && !said.contains("s3cret"), "{said}");
    assert!(!run("u").contains("password in --queue"));
}
