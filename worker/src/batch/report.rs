//! What became of a production, granule by granule.

use edp_protocol::message::{FailureKind, Outcome, Work};
use edp_protocol::wire::Stage;
use serde::Serialize;

/// Where a granule stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Made now.
    Made,
    /// Stood at the destination before, from the same recipe.
    Present,
    /// Not made, since outputs have no input.
    Held,
    /// Could not be made.
    Failed,
    /// Something else stands under its name.
    Conflict,
    /// Not made, since the production was stopped.
    #[default]
    Left,
}

impl State {
    /// The word for people.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Made => "made",
            State::Present => "present",
            State::Held => "held",
            State::Failed => "failed",
            State::Conflict => "conflict",
            State::Left => "left",
        }
    }
}

/// One granule.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Entry {
    /// Full path or address.
    pub granule: String,
    /// The recipe's id.
    pub id: String,
    /// Where it stands.
    pub state: State,
    /// Why, unless it is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Attempts made.
    pub attempts: u32,
    /// Seconds of the last one.
    pub seconds: f64,
    /// Size in bytes, if it is there.
    pub bytes: u64,
    /// SHA-256 of its bytes, hexadecimal; empty if unknown.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub sha256: String,
    /// What each stage of making it took; none if that is unknown.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stages: Vec<Stage>,
    /// What is odd about it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

impl Entry {
    /// A granule that nobody began to make.
    pub(super) fn not_begun(work: &Work) -> Entry {
        Entry {
            granule: work.recipe.granule.clone(),
            id: work.recipe.recipe.as_ref().map(|plan| plan.id.clone()).unwrap_or_default(),
            state: State::Left,
            reason: Some("the production was stopped before".into()),
            attempts: work.attempt - 1,
            seconds: 0.0,
            bytes: 0,
            sha256: String::new(),
            stages: Vec::new(),
            warnings: Vec::new(),
        }
    }
}

impl From<Outcome> for Entry {
    fn from(outcome: Outcome) -> Entry {
        let attempts = outcome.work.attempt;
        let entry = Entry { attempts, seconds: outcome.elapsed.as_secs_f64(), ..Entry::not_begun(&outcome.work) };
        match outcome.result {
            Ok(done) => Entry {
                state: if done.already { State::Present } else { State::Made },
                reason: None,
                bytes: done.size,
                sha256: done.sha256,
                stages: done.stages,
                warnings: done.warnings,
                ..entry
            },
            Err(failure) => Entry {
                state: match failure.kind {
                    FailureKind::Held => State::Held,
                    FailureKind::Conflict => State::Conflict,
                    FailureKind::Returned | FailureKind::Lost => State::Left,
                    FailureKind::Permanent | FailureKind::Transient => State::Failed,
                },
                reason: Some(failure.reason()),
                ..entry
            },
        }
    }
}

/// A whole production.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Report {
    /// Every granule, in the order they ended.
    pub entries: Vec<Entry>,
    /// Why the production was given up early by itself, if it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stopped: Option<String>,
    /// Seconds from beginning to end.
    pub seconds: f64,
}

impl Report {
    /// Adds granules whose recipes could not even be tried, with the reasons.
    pub fn refuse(&mut self, refused: Vec<(String, String)>, mut progress: impl FnMut(&Entry)) {
        for (granule, reason) in refused {
            let entry = Entry { granule, state: State::Failed, reason: Some(reason), ..Entry::default() };
            progress(&entry);
            self.entries.push(entry);
        }
    }

    /// How many granules are in a state.
    pub fn count(&self, state: State) -> usize {
        self.entries.iter().filter(|entry| entry.state == state).count()
    }

    /// Whether every granule stands at its destination.
    pub fn is_complete(&self) -> bool {
        self.entries.iter().all(|entry| matches!(entry.state, State::Made | State::Present))
    }
}
