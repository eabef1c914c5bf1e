//! A coordinator and its workers as processes, and what they must come to.

use edp_protocol::Digest;
use edp_tests::broker::Broker;
use edp_tests::{Fixture, coordinator, expect, files, program};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Cells along a tile: small, since the messages are what counts here.
const SIZE: usize = 6;

/// How long anything may take on a busy machine before it counts as hanging.
const PATIENCE: Duration = Duration::from_secs(120);

/// Waits until something is so.
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < end, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Model output of many months, and the granules that one undisturbed process makes of it.
pub(crate) struct Model {
    fixture: Fixture,
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
}

/// Repeats the model's output under the steps of further months, or takes months away.
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
            let line = meta.lines().find(|line| line.contains("timeStepNumber")).unwrap();
            let meta = meta.replace(line, &line.replace("732", &step.to_string()));
            fs::write(file(step, "meta"), meta).unwrap();
            fs::write(file(step, "data"), &data).unwrap();
        }
        for step in known.into_iter().filter(|step| !ends.clone().any(|end| end == *step)) {
            fs::remove_file(file(step, "meta")).unwrap();
            fs::remove_file(file(step, "data")).unwrap();
        }
    }
}

/// A process that is killed when dropped, and what it said.
pub(crate) struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    fn start(command: &mut Command, log: PathBuf) -> Process {
        let file = File::options().create(true).append(true).open(&log).unwrap();
        let child = command.stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file).spawn().unwrap();
        Process { child, log }
    }

    /// Whether it has ended.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        self.child.wait().unwrap();
    }

    /// Any other signal.
    pub(crate) fn signal(&self, name: &str) {
        assert!(Command::new("kill").args(["-s", name, &self.id().to_string()]).status().unwrap().success());
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub(crate) fn said(&self, text: &str) -> bool {
        self.log().contains(text)
    }
}

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
    url: String,
    pub(crate) list: PathBuf,
    pub(crate) workers: Vec<Process>,
    started: usize,
}

impl<'a> Fleet<'a> {
    /// Plans the production; nothing runs yet.
    pub(crate) fn new(name: &str, broker: &Broker, model: &'a Model) -> Fleet<'a> {
        let directory = model.fixture.path(name);
        fs::create_dir(&directory).unwrap();
        let list = model.fixture.plan(&directory.join("out"), &format!("{name}/tasks.json"), &[]);
        let url = broker.url("guest", "guest");
        Fleet { model, directory, production: name.to_owned(), url, list, workers: Vec::new(), started: 0 }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    pub(crate) fn out(&self) -> PathBuf {
        self.path("out")
    }

    /// A file of the model's results that this production alone may spoil: its recipes name it instead of the shared one.
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

    fn settings(&self, command: &mut Command, url: Option<&str>) {
        command
            .env("EDP_QUEUE__URL", url.unwrap_or(&self.url))
            .env("EDP_QUEUE__HEARTBEAT", "2")
            .env("EDP_QUEUE__CONFIRM", "20")
            .env("EDP_QUEUE__WINDOW", "12")
            .env("EDP_SERVE__DEADLINE", "10")
            .env("EDP_SERVE__GRACE", "5")
            .args(["--production", &self.production])
            .current_dir(&self.directory);
    }

    /// Starts a worker, over another way to the broker if one is named.
    pub(crate) fn worker(&mut self, url: Option<&str>) -> &mut Process {
        let mut command = program("edp-worker");
        command.args(["serve", "--slots", "1", "--root"]).arg(self.model.fixture.path(""));
        self.settings(&mut command, url);
        self.started += 1;
        let log = self.path(&format!("worker-{}.log", self.started));
        self.workers.push(Process::start(&mut command, log));
        self.workers.last_mut().unwrap()
    }

    /// Starts a coordinator.
    pub(crate) fn coordinator(&mut self, url: Option<&str>) -> Process {
        let mut command = coordinator();
        command.arg("run").arg(&self.list).args(["--queue", "--output", "json", "--ledger"]).arg(self.path("ledger"));
        self.settings(&mut command, url);
        self.started += 1;
        Process::start(&mut command, self.path(&format!("coordinator-{}.log", self.started)))
    }

    /// Name of one of its queues on the broker.
    pub(crate) fn queue(&self, queue: &str) -> String {
        format!("edp.{}.{queue}", self.production)
    }

    /// Messages that wait for workers.
    pub(crate) fn depth(&self, broker: &Broker) -> u64 {
        let listed = broker.control(["list_queues", "--quiet", "--no-table-headers", "name", "messages"]);
        let queue = self.queue("recipes");
        let line = listed.lines().find_map(|line| line.strip_prefix(queue.as_str()).map(str::trim).map(str::to_owned));
        line.and_then(|count| count.parse().ok()).unwrap_or(0)
    }

    /// Starts workers in the place of those that have ended, so that three run.
    pub(crate) fn refill(&mut self, url: Option<&str>) {
        self.workers.retain_mut(|worker| worker.ended().is_none());
        while self.workers.len() < 3 {
            self.worker(url);
        }
    }

    /// Waits for a coordinator's end.
    pub(crate) fn ends(&self, mut process: Process, status: i32) -> String {
        let mut code = None;
        until("the coordinator ends", || {
            code = process.ended().map(|status| status.code());
            code.is_some()
        });
        assert_eq!(code, Some(Some(status)), "{}: {}\n{}", self.production, process.log(), self.logs());
        process.log()
    }

    /// What all the workers said.
    fn logs(&self) -> String {
        (1..=self.started)
            .map(|n| fs::read_to_string(self.path(&format!("worker-{n}.log"))).unwrap_or_default())
            .collect()
    }

    /// Granules that stand at the destination, and whatever else.
    pub(crate) fn made(&self) -> usize {
        files(&self.out()).len()
    }

    /// Parts that are being written.
    pub(crate) fn parts(&self) -> Vec<PathBuf> {
        files(&self.out())
            .into_keys()
            .filter(|name| name.ends_with(".part"))
            .map(|name| self.out().join(name))
            .collect()
    }

    /// Everything is there, byte for byte, and nothing else.
    pub(crate) fn is_whole(&self) {
        self.is_whole_but_for(&[]);
    }

    /// The same, without the granules whose names contain one of `failed`.
    pub(crate) fn is_whole_but_for(&self, failed: &[&str]) {
        let found = files(&self.out());
        let wanted: BTreeMap<_, _> = self
            .model
            .reference
            .iter()
            .filter(|(name, _)| !failed.iter().any(|part| name.contains(part)))
            .map(|(name, digest)| (name.clone(), digest.clone()))
            .collect();
        let names = |files: &BTreeMap<String, Digest>| files.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&found), names(&wanted), "{}", self.production);
        assert!(found == wanted, "{}: other bytes", self.production);
    }

    /// Stops the workers in order, and takes away what the scenario made.
    pub(crate) fn dismiss(mut self, broker: &Broker) {
        for worker in &mut self.workers {
            worker.signal("TERM");
        }
        for worker in &mut self.workers {
            until("a worker ends when told to", || worker.ended().is_some());
        }
        for queue in ["recipes", "results", "dead"] {
            broker.delete(&self.queue(queue));
        }
        fs::remove_dir_all(&self.directory).unwrap();
    }
}

/// The worker that writes a part: parts carry its name, which has its process id.
pub(crate) fn writer(part: &Path) -> Option<u32> {
    let name = part.file_name()?.to_str()?.strip_suffix(".part")?;
    u32::from_str_radix(name.rsplit('-').nth(1)?, 16).ok()
}
