//! Productions that follow a model run: `run --follow` while result files appear one by one, and incomplete.

use edp_protocol::recipe::{self, Recipe};
use edp_tests::broker::Broker;
use edp_tests::{Fixture, Started, coordinator, count, derived, expect, files, keeping_age, program, until};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

const SIZE: usize = 8;

/// A model run whose results are written again, piece by piece, while a coordinator follows it.
struct Model {
    fixture: Fixture,
    recipes: Vec<Recipe>,
}

impl Model {
    fn new() -> Model {
        Model::of(Fixture::new(SIZE))
    }

    fn of(fixture: Fixture) -> Model {
        let list = fixture.plan(&fixture.path("reference"), "reference.json", &[]);
        expect(coordinator().arg("run").arg(&list), 0);
        let recipes = recipe::parse_list("list", &fs::read(&list).unwrap()).unwrap();
        let model = Model { fixture, recipes };
        fs::create_dir_all(model.results()).unwrap();
        model
    }

    fn results(&self) -> PathBuf {
        self.fixture.path("growing")
    }

    fn out(&self) -> PathBuf {
        self.fixture.path("out")
    }

    /// Returns the paths of the results of a step with this ending, relative to their root.
    fn of_step(&self, step: u64, end: &str) -> BTreeSet<String> {
        let end = format!(".{step:010}.{end}");
        files(&self.fixture.demo.results).into_keys().filter(|path| path.ends_with(&end)).collect()
    }

    /// Writes the first bytes of a result, or all of them.
    fn write(&self, path: &str, bytes: usize) {
        let whole = fs::read(self.fixture.demo.results.join(path)).unwrap();
        let target = self.results().join(path);
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::write(target, &whole[..bytes.min(whole.len())]).unwrap();
    }

    /// Returns the names of the granules of a step: those that need a result, and the others.
    fn granules(&self, step: u64, needs: &str) -> [BTreeSet<String>; 2] {
        let digits = format!(".{step:010}.");
        let uses = |recipe: &Recipe, text: &str| {
            recipe.variables.values().flatten().flatten().any(|input| input.contains(text))
        };
        let root = format!("{}/", self.fixture.path("reference").display());
        let of_step = self.recipes.iter().filter(|recipe| uses(recipe, &digits));
        let name = |recipe: &Recipe| recipe.granule.strip_prefix(&root).unwrap().to_owned();
        let (with, without): (Vec<&Recipe>, Vec<&Recipe>) = of_step.partition(|recipe| uses(recipe, needs));
        [with, without].map(|recipes| recipes.into_iter().map(name).collect())
    }

    fn made(&self) -> BTreeSet<String> {
        files(&self.out()).into_keys().filter(|name| name.ends_with(".nc")).collect()
    }

    /// Returns a result that a granule needs along with others; without it the granule is partial.
    fn victim(&self) -> String {
        let partial = self.recipes.iter().find(|recipe| recipe.variables.len() > 1).unwrap();
        let input = &partial.variables[0][0][0];
        assert!(input.contains(".0000000732."), "{input}");
        Path::new(input).strip_prefix(&self.fixture.demo.results).unwrap().display().to_string()
    }

    /// Starts a coordinator that follows the run.
    fn follow(&self, more: &[&str], set: impl FnOnce(&mut Command)) -> Following {
        let mut command = coordinator();
        let mut options = self.fixture.options(&self.out());
        let at = options.iter().position(|option| option == "--source").unwrap();
        options[at + 1] = self.results().display().to_string();
        let log = |name: &str| File::create(self.fixture.path(name)).unwrap();
        command
            .args(["run", "--follow", "--output", "json"])
            .args(options)
            .args(more)
            .env("SOURCE_DATE_EPOCH", "1577836800")
            .env("EDP_PLAN__FOLLOW_INTERVAL", "1")
            .current_dir(self.fixture.path(""))
            .stdin(Stdio::null())
            .stdout(log("report"))
            .stderr(log("log"));
        set(&mut command);
        Following {
            child: Started(command.spawn().unwrap()),
            report: self.fixture.path("report"),
            log: self.fixture.path("log"),
        }
    }

    /// Writes three months of results in various orders.
    fn write_all(&self, following: &mut Following) {
        let victim = self.victim();
        for meta in self.of_step(732, "meta") {
            self.write(&meta, usize::MAX);
        }
        for data in self.of_step(732, "data") {
            self.write(&data, if data == victim { 100 } else { usize::MAX });
        }
        let [held, made] = self.granules(732, &victim);
        assert!(!held.is_empty() && !made.is_empty());
        following.until("granules of whole results", || made.is_subset(&self.made()));
        assert_eq!(self.made(), made, "nothing is made of half-written results");
        // The data files without their headers, while the rest of the first month is written.
        for data in self.of_step(1428, "data") {
            self.write(&data, usize::MAX);
        }
        self.write(&victim, usize::MAX);
        following.until("granules that were held", || held.is_subset(&self.made()));
        assert_eq!(self.made(), &held | &made, "nothing is made of results without headers");
        for (step, ends) in [(1428, &["meta"][..]), (2172, &["meta", "data"])] {
            for path in ends.iter().flat_map(|end| self.of_step(step, end)) {
                self.write(&path, usize::MAX);
            }
        }
        following.until("the last granules", || self.made().len() == self.recipes.len());
    }

    fn check(&self, report: &serde_json::Value) {
        assert_eq!((count(report, "made"), count(report, "held")), (self.recipes.len(), 0), "{report}");
        assert_eq!(files(&self.out()), files(&self.fixture.path("reference")));
    }
}

/// A coordinator, which is killed when this is dropped.
struct Following {
    child: Started,
    report: PathBuf,
    log: PathBuf,
}

impl Following {
    fn until(&mut self, what: &str, mut is_so: impl FnMut() -> bool) {
        until(what, || {
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none(), "{what}: {ended:?}: {}", fs::read_to_string(&self.log).unwrap());
            is_so()
        });
    }

    fn terminate(&self) {
        assert!(Command::new("kill").arg(self.child.id().to_string()).status().unwrap().success());
    }

    /// Returns its exit status and its report.
    fn end(&mut self) -> (ExitStatus, serde_json::Value) {
        let mut status = None;
        until("the end", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        let report = serde_json::from_slice(&fs::read(&self.report).unwrap());
        (status.unwrap(), report.unwrap_or_else(|e| panic!("{e}: {}", fs::read_to_string(&self.log).unwrap())))
    }
}

#[test]
fn granules_follow_the_model_run() {
    let model = Model::new();
    let mut following = model.follow(&["--slots", "2"], |_| {});
    model.write_all(&mut following);
    following.terminate();
    let (status, report) = following.end();
    assert_eq!(status.code(), Some(0), "all that was found is done");
    model.check(&report);
}

#[test]
fn granules_follow_the_model_run_on_a_broker() {
    let broker = Broker::start();
    let model = Model::new();
    let url = broker.url("guest", "guest");
    let mut following = model.follow(&["--queue", "--exit-when-idle", "10"], |command| {
        command.env("EDP_QUEUE__URL", &url);
    });
    let mut worker = program("edp-worker")
        .args(["serve", "--slots", "2", "--root"])
        .arg(model.fixture.path(""))
        .env("EDP_QUEUE__URL", &url)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    model.write_all(&mut following);
    let (status, report) = following.end();
    worker.kill().unwrap();
    worker.wait().unwrap();
    assert_eq!(status.code(), Some(0), "{report}");
    model.check(&report);
}

#[test]
fn anomalies_wait_until_the_results_of_their_period_are_there() {
    let fixture = Fixture::new(SIZE);
    derived::declare(&fixture.demo.metadata);
    let model = Model::of(fixture);
    let mut following = model.follow(&["--slots", "2"], |_| {});
    let root = format!("{}/", model.fixture.path("reference").display());
    let with_a_mean = |recipe: &&Recipe| !recipe.mean_places().is_empty();
    let name = |recipe: &Recipe| recipe.granule.strip_prefix(&root).unwrap().to_owned();
    let anomalies: BTreeSet<String> = model.recipes.iter().filter(with_a_mean).map(name).collect();
    assert!(!anomalies.is_empty() && anomalies.len() < model.recipes.len());
    // January and February, whose granules need the mean of February and March.
    let early: BTreeSet<String> =
        [732, 1428].into_iter().flat_map(|step| model.granules(step, "none")[1].clone()).collect();
    for path in [732, 1428].into_iter().flat_map(|step| ["data", "meta"].map(|end| (step, end))) {
        model.of_step(path.0, path.1).iter().for_each(|path| model.write(path, usize::MAX));
    }
    following.until("granules without a mean", || (&early - &anomalies).is_subset(&model.made()));
    assert!(model.made().is_disjoint(&anomalies), "no mean is made of a part of its period");
    for end in ["meta", "data"] {
        model.of_step(2172, end).iter().for_each(|path| model.write(path, usize::MAX));
    }
    following.until("the last granules", || model.made().len() == model.recipes.len());
    following.terminate();
    let (status, report) = following.end();
    assert_eq!(status.code(), Some(0), "{report}");
    model.check(&report);
}

#[test]
fn what_never_becomes_whole_is_held_in_the_end() {
    let model = Model::new();
    let victim = model.victim();
    for end in ["data", "meta"] {
        for path in model.of_step(732, end) {
            model.write(&path, if path == victim { 100 } else { usize::MAX });
        }
    }
    let (status, report) = model.follow(&["--exit-when-idle", "1.5"], |_| {}).end();
    let [held, made] = model.granules(732, &victim);
    assert_eq!(status.code(), Some(3), "{report}");
    assert_eq!((count(&report, "held"), count(&report, "made")), (held.len(), made.len()), "{report}");
    assert_eq!(model.made(), made);
}

#[test]
fn a_stop_before_the_end_says_so_and_what_cannot_be_planned_ends_it_at_once() {
    let model = Model::new();
    let mut following = model.follow(&[], |_| {});
    let victim = model.victim();
    // The input of this granule has the right size, but does not contain numbers.
    for end in ["meta", "data"] {
        for path in model.of_step(732, end) {
            model.write(&path, usize::MAX);
        }
    }
    let data = model.results().join(&victim);
    let bytes: Vec<u8> = fs::read(&data).unwrap().chunks(4).flat_map(|_| f32::NAN.to_be_bytes()).collect();
    keeping_age(&data, |path| fs::write(path, bytes)).unwrap();
    let [_, made] = model.granules(732, &victim);
    following.until("the others", || made.is_subset(&model.made()));
    following.until("the failure", || fs::read_to_string(model.fixture.path("log")).unwrap().contains("not finite"));
    following.terminate();
    let (status, report) = following.end();
    assert_eq!(status.code(), Some(143), "{report}");
    let refused = |more: &[&str]| model.follow(more, |_| {}).child.wait().unwrap().code();
    assert_eq!(refused(&["--allow-partial"]), Some(2));
    assert_eq!(refused(&["--frequency", "day"]), Some(2));
    assert_eq!(refused(&["--exit-when-idle", "-1"]), Some(2));
    let alone = expect(coordinator().args(["run", "--exit-when-idle", "1"]), 2);
    assert!(String::from_utf8_lossy(&alone.stderr).contains("--follow"));
}
