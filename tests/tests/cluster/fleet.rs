//! A coordinator and its workers as processes, and the checks of their results.

use edp_protocol::Digest;
use edp_tests::broker::Broker;
use edp_tests::s3::S3Server;
use edp_tests::{Fixture, coordinator, expect, files, header_of_step, program, until};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

/// Number of cells along the side of a tile. It is small, since the messages matter here.
const SIZE: usize = 6;

/// Model output of many months, and the granules that one undisturbed process makes from it.
pub(crate) struct Model {
    pub(crate) fixture: Fixture,
    reference: BTreeMap<String, Digest>,
}

impl Model {
    pub(crate) fn new(months: usize) -> Model {
        let fixture = Fixture::new(SIZE);
        prolong(&fixture, months);
        let out = fixture.path("reference");
        let list = fixture.plan(&out, "reference.json", &[]);
        expect(program("edp-worker").arg("make").arg(list), 0);
        let reference = files(&out);
        assert_eq!(reference.len(), 8 * months);
        Model { fixture, reference }
    }

    pub(crate) fn granules(&self) -> usize {
        self.reference.len()
    }

    /// Returns the number of bytes of all granules.
    pub(crate) fn bytes(&self) -> u64 {
        let size = |name: &String| fs::metadata(self.fixture.path("reference").join(name)).unwrap().len();
        self.reference.keys().map(size).sum()
    }
}

/// Repeats the model's output under the steps of further months, or removes months.
fn prolong(fixture: &Fixture, months: usize) {
    const HOURS: [i64; 12] = [744, 696, 744, 720, 744, 720, 744, 744, 720, 744, 720, 744]; // of 1992
    const COMMON: [i64; 12] = [744, 672, 744, 720, 744, 720, 744, 744, 720, 744, 720, 744];
    let ends = (0..months).map(|month| {
        let hours = |m: usize| if m < 12 { HOURS[m] } else { COMMON[m % 12] };
        (0..=month).map(hours).sum::<i64>() - 12
    });
    let configuration = fs::read_to_string(&fixture.demo.configuration).unwrap();
    let longer = configuration.replace("1992-12-31T12:00:00", "1999-12-31T12:00:00");
    assert_ne!(configuration, longer, "the end of the model run");
    fs::write(&fixture.demo.configuration, longer).unwrap();
    for folder in fs::read_dir(fixture.demo.results.join("DEMO/diags_monthly")).unwrap() {
        let folder = folder.unwrap().path();
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        let file = |step: i64, end: &str| folder.join(format!("{name}.{step:010}.{end}"));
        let (meta, data) = (fs::read_to_string(file(732, "meta")).unwrap(), fs::read(file(732, "data")).unwrap());
        let known = [732, 1428, 2172];
        for step in ends.clone().filter(|step| !known.contains(step)) {
            fs::write(file(step, "meta"), header_of_step(&meta, step.unsigned_abs())).unwrap();
            fs::write(file(step, "data"), &data).unwrap();
        }
        for step in known.into_iter().filter(|step| !ends.clone().any(|end| end == *step)) {
            fs::remove_file(file(step, "meta")).unwrap();
            fs::remove_file(file(step, "data")).unwrap();
        }
    }
}

/// The words of another program under which a process is started, such as strace; empty if it is started directly.
pub(crate) type Beneath = Vec<String>;

/// A process that is killed when this is dropped, with its log.
pub(crate) struct Process {
    child: Child,
    /// Path of its standard error.
    log: PathBuf,
}

impl Process {
    fn start(command: &Command, beneath: &[String], log: PathBuf) -> Process {
        let mut words = beneath.iter().map(String::as_ref).chain([command.get_program()]).chain(command.get_args());
        let mut whole = Command::new(words.next().unwrap());
        whole.args(words).current_dir(command.get_current_dir().unwrap());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => whole.env(name, value),
                None => whole.env_remove(name),
            };
        }
        let file = |path: &Path| File::options().create(true).append(true).open(path).unwrap();
        let child = whole
            .stdin(Stdio::null())
            .stdout(file(&log.with_extension("out")))
            .stderr(file(&log))
            .spawn()
            .unwrap_or_else(|error| panic!("{whole:?}: {error}: run `make deps`"));
        Process { child, log }
    }

    /// Returns its exit status if it has ended.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Returns true if it was killed by a test.
    pub(crate) fn was_killed(&mut self) -> bool {
        self.ended().is_some_and(|status| status.signal() == Some(9))
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Kills it with SIGKILL.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        self.child.wait().unwrap();
    }

    /// Sends it any other signal.
    pub(crate) fn signal(&self, name: &str) {
        edp_tests::signal(self.id(), name);
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Returns its standard output.
    pub(crate) fn out(&self) -> String {
        fs::read_to_string(self.log.with_extension("out")).unwrap_or_default()
    }

    pub(crate) fn said(&self, text: &str) -> bool {
        self.log().contains(text)
    }
}

/// If a test fails, the logs of all processes are printed.
impl Drop for Fleet<'_> {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        for entry in fs::read_dir(&self.directory).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.extension().is_some_and(|end| end == "log") {
                let text = fs::read_to_string(&path).unwrap_or_default();
                let lines: Vec<_> = text.lines().collect();
                let last = &lines[lines.len().saturating_sub(LAST_LINES)..];
                println!("---- {}\n{}", entry.file_name().display(), last.join("\n"));
            }
        }
    }
}

/// Number of lines of each log that are shown after a failure.
const LAST_LINES: usize = 40;

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One production: its queues, its list, its destination, its workers.
pub(crate) struct Fleet<'a> {
    pub(crate) model: &'a Model,
    directory: PathBuf,
    production: String,
    /// URL by which its processes reach the broker.
    pub(crate) url: String,
    /// Additional settings of its processes.
    pub(crate) settings: BTreeMap<String, String>,
    /// Additional options of its processes.
    pub(crate) options: Vec<String>,
    pub(crate) list: PathBuf,
    /// The store of the granules, if they do not go to a directory.
    pub(crate) store: Option<S3Server>,
    pub(crate) workers: Vec<Process>,
    /// The program under which workers are started,
    pub(crate) beneath: Beneath,
    /// and the programs for the next workers instead.
    pub(crate) next: VecDeque<Beneath>,
    /// The exit statuses of workers that have ended: some were killed, some ended by themselves, some were told to end.
    pub(crate) gone: Vec<ExitStatus>,
    started: usize,
}

impl<'a> Fleet<'a> {
    /// Plans the production; nothing runs yet.
    pub(crate) fn new(name: &str, broker: &Broker, model: &'a Model) -> Fleet<'a> {
        let directory = model.fixture.path(name);
        fs::create_dir(&directory).unwrap();
        fs::create_dir(directory.join("scratch")).unwrap();
        let list = model.fixture.plan(&directory.join("out"), &format!("{name}/tasks.json"), &[]);
        let settings = [("EDP_QUEUE__HEARTBEAT", "2"), ("EDP_QUEUE__CONFIRM", "20"), ("EDP_QUEUE__WINDOW", "12")];
        let times = [("EDP_SERVE__DEADLINE", "10"), ("EDP_SERVE__GRACE", "5")];
        Fleet {
            model,
            directory,
            production: name.to_owned(),
            url: broker.url("guest", "guest"),
            settings: settings.into_iter().chain(times).map(|(name, value)| (name.into(), value.into())).collect(),
            options: Vec::new(),
            list,
            store: None,
            workers: Vec::new(),
            beneath: Vec::new(),
            next: VecDeque::new(),
            gone: Vec::new(),
            started: 0,
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    pub(crate) fn out(&self) -> PathBuf {
        self.path("out")
    }

    /// Returns a file of the model's results that only this production may change: its recipes name it instead of the
    /// shared one.
    pub(crate) fn own_input(&self, name: &str) -> PathBuf {
        let text = fs::read_to_string(&self.list).unwrap();
        let shared = self.model.fixture.demo.results.clone();
        let own = self.path("results");
        let status = Command::new("cp").arg("-a").arg(&shared).arg(&own).status().unwrap();
        assert!(status.success());
        let [shared, own_text] = [&shared, &own].map(|path| path.display().to_string());
        fs::write(&self.list, text.replace(&shared, &own_text)).unwrap();
        own.join("DEMO/diags_monthly").join(name)
    }

    /// Makes the granules go to a store of this production; the recipes stay the same.
    pub(crate) fn on_s3(&mut self) -> &S3Server {
        let store = S3Server::start(&["out"]);
        // Credentials are passed in a file, so that they can be renewed.
        let environment = store.environment().into_iter().filter(|(name, _)| !name.contains("KEY"));
        self.settings.extend(environment);
        self.settings.insert("EDP_STORE__S3__CREDENTIALS".into(), store.credentials().display().to_string());
        self.settings.insert("EDP_STORE__S3__TIMEOUT".into(), "3".into());
        self.settings.insert("EDP_STORE__SCRATCH".into(), self.path("scratch").display().to_string());
        let list = format!("{}/tasks.json", self.production);
        self.model.fixture.plan(Path::new("s3://out/granules"), &list, &[]);
        self.store.insert(store)
    }

    fn set(&self, command: &mut Command) {
        command
            .env("EDP_QUEUE__URL", &self.url)
            .env("TMPDIR", self.path("scratch"))
            .envs(&self.settings)
            .args(["--production", &self.production])
            .args(&self.options)
            .current_dir(&self.directory);
    }

    /// Starts a worker of the production.
    pub(crate) fn worker(&mut self) -> &mut Process {
        let mut command = program("edp-worker");
        command.args(["serve", "--slots", "1", "--root"]).arg(self.model.fixture.path(""));
        if self.store.is_some() {
            command.args(["--root", "s3://out/granules"]);
        }
        self.set(&mut command);
        self.started += 1;
        let log = self.path(&format!("worker-{}.log", self.started));
        let beneath = self.next.pop_front().unwrap_or_else(|| self.beneath.clone());
        self.workers.push(Process::start(&command, &beneath, log));
        self.workers.last_mut().unwrap()
    }

    /// Starts a coordinator of the production.
    pub(crate) fn coordinator(&mut self) -> Process {
        self.coordinator_beneath(&[])
    }

    /// Starts a coordinator under another program.
    pub(crate) fn coordinator_beneath(&mut self, beneath: &[String]) -> Process {
        let mut command = coordinator();
        command.arg("run").arg(&self.list).args(["--queue", "--output", "json", "--ledger"]).arg(self.path("ledger"));
        self.set(&mut command);
        self.started += 1;
        Process::start(&command, beneath, self.path(&format!("coordinator-{}.log", self.started)))
    }

    pub(crate) fn production(&self) -> &str {
        &self.production
    }

    /// Returns the name of one of its queues on the broker.
    pub(crate) fn queue(&self, queue: &str) -> String {
        format!("edp.{}.{queue}", self.production)
    }

    /// Returns the number of messages that wait for workers.
    pub(crate) fn depth(&self, broker: &Broker) -> u64 {
        let listed = broker.control(["list_queues", "--quiet", "--no-table-headers", "name", "messages"]);
        let queue = self.queue("recipes");
        let line = listed.lines().find_map(|line| line.strip_prefix(queue.as_str()).map(str::trim).map(str::to_owned));
        line.and_then(|count| count.parse().ok()).unwrap_or(0)
    }

    /// Starts workers in place of those that have ended, so that three are running.
    pub(crate) fn refill(&mut self) {
        let gone = &mut self.gone;
        self.workers.retain_mut(|worker| worker.ended().map(|status| gone.push(status)).is_none());
        while self.workers.len() < 3 {
            self.worker();
        }
    }

    /// Keeps replacing workers until the coordinator has ended.
    pub(crate) fn until_ended(&mut self, coordinator: &mut Process) {
        until("the coordinator ends", || {
            self.refill();
            coordinator.ended().is_some()
        });
    }

    /// Waits for the end of a coordinator, and returns the states of all granules in its report.
    pub(crate) fn ends(&mut self, mut process: Process, status: i32) -> BTreeMap<String, (String, String)> {
        let mut code = None;
        until("the coordinator ends", || {
            code = process.ended().map(|status| status.code());
            code.is_some()
        });
        assert_eq!(code, Some(Some(status)), "{}: {}\n{}", self.production, process.log(), self.logs());
        let report: Value = serde_json::from_str(&process.out()).unwrap();
        let text = |entry: &Value, key: &str| entry[key].as_str().unwrap_or_default().to_owned();
        let entries = report["entries"].as_array().unwrap().iter();
        let states: BTreeMap<_, _> =
            entries.map(|entry| (text(entry, "granule"), (text(entry, "state"), text(entry, "reason")))).collect();
        assert_eq!(states.len(), self.model.granules(), "{}: {report}", self.production);
        states
    }

    /// Returns the logs of all workers.
    pub(crate) fn logs(&self) -> String {
        (1..=self.started)
            .map(|n| fs::read_to_string(self.path(&format!("worker-{n}.log"))).unwrap_or_default())
            .collect()
    }

    /// Returns the number of granules at the destination.
    pub(crate) fn made(&self) -> usize {
        if let Some(store) = &self.store {
            return store.files("out", "granules").len();
        }
        names(&self.out()).iter().filter(|path| !is_part(path)).count()
    }

    /// Returns the partial files that are being written.
    pub(crate) fn parts(&self) -> Vec<PathBuf> {
        names(&self.out()).into_iter().filter(|path| is_part(path)).collect()
    }

    /// Checks that all granules are there, byte for byte, and nothing else, except those whose names contain one of
    /// `failed`.
    pub(crate) fn is_whole_but_for(&self, failed: &[&str]) {
        let found = match &self.store {
            None => files(&self.out()),
            Some(store) => {
                assert_eq!(store.uploads(), Vec::<String>::new(), "{}", self.production);
                store.files("out", "granules")
            }
        };
        let wanted: BTreeMap<_, _> = self
            .model
            .reference
            .iter()
            .filter(|(name, _)| !failed.iter().any(|part| name.contains(part)))
            .map(|(name, digest)| (name.clone(), digest.clone()))
            .collect();
        let names = |files: &BTreeMap<String, Digest>| files.keys().cloned().collect::<BTreeSet<_>>();
        let (there, due) = (names(&found), names(&wanted));
        let (more, less): (Vec<_>, Vec<_>) = (there.difference(&due).collect(), due.difference(&there).collect());
        assert!(there == due, "{}: too much: {more:?}, missing: {less:?}", self.production);
        assert!(found == wanted, "{}: other bytes", self.production);
        let left = files(&self.path("scratch"));
        assert!(left.is_empty(), "{}: left in scratch: {:?}", self.production, left.keys());
    }

    /// Stops the workers in an orderly way.
    pub(crate) fn dismiss(&mut self) {
        for worker in &mut self.workers {
            worker.signal("TERM");
        }
        for worker in &mut self.workers {
            until("a worker ends when told to", || worker.ended().is_some());
        }
    }

    /// Removes everything that the scenario has made.
    pub(crate) fn remove(self, broker: &Broker) {
        for queue in ["recipes", "results", "dead"] {
            // A queue that was deleted and is not needed any more is not made again.
            broker.forget(&self.queue(queue));
        }
        fs::remove_dir_all(&self.directory).unwrap();
    }
}

/// Lists all files below a directory.
fn names(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut directories = vec![root.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => directories.push(entry.path()),
                _ => found.push(entry.path()),
            }
        }
    }
    found
}

fn is_part(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "part")
}

/// Returns the process id of the worker that writes a partial file, which is part of the file's name.
pub(crate) fn writer(part: &Path) -> Option<u32> {
    let name = part.file_name()?.to_str()?.strip_suffix(".part")?;
    u32::from_str_radix(name.rsplit('-').nth(1)?, 16).ok()
}
