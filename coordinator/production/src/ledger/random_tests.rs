//! Messages in any order, twice, late or not at all, with restarts of the coordinator in between: settled recipes stay
//! settled, every recipe comes to an end, and none fails without a cause of its own.
#![allow(clippy::unwrap_used)]

use super::tests::{POLICY, check_tally, done, failed, id, recipes, started};
use super::{Ledger, LedgerEvent, RecipeState};
use edp_protocol::message::FailureKind;
use edp_protocol::recipe::Recipe;
use proptest::prelude::*;
use std::collections::BTreeMap;

/// One event in the life of a ledger.
#[derive(Debug, Clone)]
enum Step {
    /// Due recipes are sent.
    Send,
    /// A worker begins a task message from the queue and ends it in this way, or dies, or is cut off.
    Work { order: usize, end: End },
    /// A message of a worker arrives: the oldest one, or another.
    Hear { message: usize },
    /// An earlier message arrives again.
    Repeat { message: usize },
    /// The broker confirms a task message.
    Confirm,
    /// Time passes, in seconds, and leases end.
    Wait { seconds: i64, queued: bool },
    /// The coordinator is killed and starts again.
    Restart,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum End {
    Done,
    Transient,
    Returned,
    /// The worker dies before it begins, and another worker gets the task message.
    DiedBefore,
    /// The worker is cut off after it has begun, and another worker gets the task message; the first one finishes
    /// nevertheless.
    CutOff,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let end = prop_oneof![
        3 => Just(End::Done),
        1 => Just(End::Transient),
        1 => Just(End::Returned),
        2 => Just(End::DiedBefore),
        1 => Just(End::CutOff),
    ];
    let step = prop_oneof![
        3 => Just(Step::Send),
        6 => (any::<usize>(), end).prop_map(|(order, end)| Step::Work { order, end }),
        6 => any::<usize>().prop_map(|message| Step::Hear { message }),
        2 => any::<usize>().prop_map(|message| Step::Repeat { message }),
        3 => Just(Step::Confirm),
        2 => (0_i64..100, any::<bool>()).prop_map(|(seconds, queued)| Step::Wait { seconds, queued }),
        1 => Just(Step::Restart),
    ];
    proptest::collection::vec(step, 0..80)
}

/// A production in which recipe 0 always fails in the end, recipe 1 brings its workers down, and nothing is wrong with
/// the others.
struct World {
    path: std::path::PathBuf,
    ledger: Option<Ledger>,
    recipes: Vec<Recipe>,
    now: i64,
    workers: usize,
    /// Numbers of workers that were cut off, by recipe.
    cut: [usize; 4],
    /// Task messages in the queue: recipe and attempt.
    queue: Vec<(usize, u32)>,
    /// Confirmations that have not arrived yet.
    confirmations: Vec<LedgerEvent>,
    /// Messages of workers that have not arrived yet, and those that have.
    said: Vec<LedgerEvent>,
    heard: Vec<LedgerEvent>,
    /// States of the settled recipes.
    ended: BTreeMap<String, RecipeState>,
}

impl World {
    fn ledger(&mut self) -> &mut Ledger {
        self.ledger.as_mut().unwrap()
    }

    fn write(&mut self, events: &[LedgerEvent]) {
        let now = self.now;
        for one in self.ledger().write(events, now).unwrap() {
            let before = self.ended.insert(one.id.clone(), one.state);
            // A granule that exists is done, even if its recipe had been given up.
            assert!(
                before.is_none() || one.state == RecipeState::Done && before != Some(RecipeState::Done),
                "{before:?} {one:?}"
            );
        }
        self.check();
    }

    fn check(&mut self) {
        let mut states = BTreeMap::new();
        let each = |one: super::Settled| -> Result<(), super::LedgerError> {
            states.insert(one.id, one.state);
            Ok(())
        };
        self.ledger().each(&RecipeState::ALL, each).unwrap();
        check_tally(self.ledger());
        for (id, state) in &self.ended {
            assert_eq!(states[id], *state, "what is settled stays so");
        }
        for innocent in &self.recipes[2..] {
            assert_ne!(states[&id(innocent)], RecipeState::Failed);
        }
    }

    fn send(&mut self) {
        let now = self.now;
        for due in self.ledger().due(now, 100).unwrap() {
            let recipe = self.recipes.iter().position(|recipe| id(recipe) == due.id).unwrap();
            if self
                .confirmations
                .iter()
                .any(|sent| matches!(sent, LedgerEvent::Sent { number, .. } if *number == due.number))
            {
                continue;
            }
            self.queue.push((recipe, due.attempt));
            self.confirmations.push(LedgerEvent::Sent { number: due.number, attempt: due.attempt });
        }
    }

    fn work(&mut self, order: usize, end: End) {
        if self.queue.is_empty() {
            return;
        }
        let (number, attempt) = self.queue.remove(order % self.queue.len());
        self.workers += 2;
        let (worker, other) = (format!("w{}", self.workers), format!("w{}", self.workers + 1));
        // Two workers may be away at once. With three, the policy may rightly blame the recipe.
        let end = if end == End::CutOff && self.cut[number] >= 2 { End::Returned } else { end };
        self.cut[number] += usize::from(end == End::CutOff);
        let recipe = self.recipes[number].clone();
        let begun = started(&recipe, attempt, &worker);
        let found = failed(&recipe, attempt, &other, FailureKind::Lost);
        match (number, end) {
            (_, End::DiedBefore) => self.said.push(found),
            (1, _) => self.said.extend([begun, found]),
            (0, End::Done) => self.said.extend([begun, failed(&recipe, attempt, &worker, FailureKind::Permanent)]),
            (0, End::Transient) => self.said.extend([begun, failed(&recipe, attempt, &worker, FailureKind::Transient)]),
            // Nothing is wrong with the other recipes.
            (_, End::Done | End::Transient) => self.said.extend([begun, done(&recipe, attempt, &worker)]),
            (_, End::Returned) => self.said.extend([begun, failed(&recipe, attempt, &worker, FailureKind::Returned)]),
            (_, End::CutOff) => {
                let returned = failed(&recipe, attempt, &worker, FailureKind::Returned);
                self.said.extend([begun, found, returned]);
            }
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Send => self.send(),
            Step::Work { order, end } => self.work(order, end),
            Step::Hear { message } if !self.said.is_empty() => {
                let event = self.said.remove(message % self.said.len());
                self.heard.push(event.clone());
                self.write(&[event]);
            }
            Step::Repeat { message } if !self.heard.is_empty() => {
                let event = self.heard[message % self.heard.len()].clone();
                self.write(&[event]);
            }
            Step::Confirm => {
                let confirmed = std::mem::take(&mut self.confirmations);
                self.write(&confirmed);
            }
            Step::Wait { seconds, queued } => {
                // Messages of workers that are not lost arrive before their leases end.
                while !self.said.is_empty() {
                    self.step(Step::Hear { message: 0 });
                }
                self.now += 1000 * seconds;
                let now = self.now;
                for one in self.ledger().expire(now, queued).unwrap() {
                    self.ended.insert(one.id, one.state);
                }
                self.check();
            }
            Step::Restart => {
                // Confirmations that were not recorded are forgotten; outcomes come again.
                self.confirmations.clear();
                self.ledger = None;
                self.ledger = Some(Ledger::open(&self.path, "p", POLICY).unwrap());
                self.ledger().connection.pragma_update(None, "synchronous", "OFF").unwrap();
                let recipes = self.recipes.clone();
                self.ledger().list(&recipes).unwrap();
                let now = self.now;
                // The test has its own time.
                self.ledger().connection.execute("UPDATE recipe SET due = min(due, ?1)", [now + 60_000]).unwrap();
                self.check();
            }
            Step::Hear { .. } | Step::Repeat { .. } => {}
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn every_recipe_ends_as_it_should(steps in steps()) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("p.ledger");
        let recipes = recipes();
        let mut ledger = Ledger::open(&path, "p", POLICY).unwrap();
        ledger.list(&recipes).unwrap();
        ledger.connection.pragma_update(None, "synchronous", "OFF").unwrap();
        let mut world = World {
            path, ledger: Some(ledger), recipes, now: 1_000_000, workers: 0, cut: [0; 4], queue: Vec::new(),
            confirmations: Vec::new(), said: Vec::new(), heard: Vec::new(), ended: BTreeMap::new(),
        };
        for step in steps {
            world.step(step);
        }
        // From now on outcomes arrive, and time passes.
        for _ in 0..40 {
            world.step(Step::Send);
            world.step(Step::Confirm);
            while !world.queue.is_empty() {
                world.step(Step::Work { order: 0, end: End::Done });
            }
            while !world.said.is_empty() {
                world.step(Step::Hear { message: 0 });
            }
            world.step(Step::Wait { seconds: 61, queued: false });
        }
        let counts = world.ledger().counts().unwrap();
        prop_assert_eq!(counts.settled(), 4, "{:?}", counts);
        prop_assert_eq!((counts.of(RecipeState::Failed), counts.of(RecipeState::Done)), (2, 2));
    }
}
