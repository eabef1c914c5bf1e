//! What the ledger says and is told: where recipes stand, what is due, what happened.

use edp_protocol::wire::Outcome;

/// Where a recipe stands. The numbers are those of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RecipeState {
    /// To be sent when it is due.
    Waiting = 0,
    /// In the queue or with a worker, until its lease ends.
    UnderWay = 1,
    /// The granule stands at its destination.
    Done = 2,
    /// Outputs have no input yet.
    Held = 3,
    /// It will not be made, for a reason.
    Failed = 4,
    /// Something else stands under its name.
    Conflict = 5,
}

impl RecipeState {
    /// All of them.
    pub const ALL: [RecipeState; 6] = [
        RecipeState::Waiting,
        RecipeState::UnderWay,
        RecipeState::Done,
        RecipeState::Held,
        RecipeState::Failed,
        RecipeState::Conflict,
    ];

    /// Whether nothing more is going to happen.
    pub fn is_settled(self) -> bool {
        !matches!(self, RecipeState::Waiting | RecipeState::UnderWay)
    }

    /// The word for people.
    pub fn as_str(self) -> &'static str {
        match self {
            RecipeState::Waiting => "waiting",
            RecipeState::UnderWay => "under way",
            RecipeState::Done => "done",
            RecipeState::Held => "held",
            RecipeState::Failed => "failed",
            RecipeState::Conflict => "conflict",
        }
    }

    pub(super) fn of(number: i64) -> RecipeState {
        RecipeState::ALL.into_iter().find(|state| *state as i64 == number).unwrap_or(RecipeState::Waiting)
    }
}

/// A recipe that is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    /// Its number.
    pub number: i64,
    /// Its id.
    pub id: String,
    /// Its JSON.
    pub recipe: Vec<u8>,
    /// The attempt that is to be sent, from 1.
    pub attempt: u32,
    /// Whether it is to run alone.
    pub alone: bool,
    /// SHA-256 of the granule, hexadecimal, if it was made or read before; else empty.
    pub sha256: String,
}

/// Something to be written down.
#[derive(Debug, Clone, PartialEq)]
pub enum LedgerEvent {
    /// The broker has confirmed a task message.
    Sent {
        /// The recipe's number.
        number: i64,
        /// The task message's attempt.
        attempt: u32,
    },
    /// A worker has said something.
    Reported(Box<Outcome>),
    /// The broker has dropped a task message, by a policy of its administrator.
    Dropped {
        /// The recipe's id.
        id: String,
        /// The task message's attempt.
        attempt: u32,
        /// Why.
        reason: String,
    },
}

/// A granule that stands at its destination.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MadeGranule {
    /// Whether it stood there before.
    pub already: bool,
    /// The output version that made it, if that is an earlier one than the recipe's; else 0.
    pub older: u32,
    /// Its size in bytes.
    pub bytes: u64,
    /// Its SHA-256, hexadecimal; empty if unknown.
    pub sha256: String,
    /// Seconds that it took.
    pub seconds: f64,
    /// What is odd about it.
    pub warnings: Vec<String>,
}

/// A recipe that came to its end, or came back from it.
#[derive(Debug, Clone, PartialEq)]
pub struct Settled {
    /// The granule.
    pub granule: String,
    /// The recipe's id.
    pub id: String,
    /// Where it stands.
    pub state: RecipeState,
    /// Why, unless it is done; of one that waits, why it was not made the last time.
    pub reason: Option<String>,
    /// Attempts sent.
    pub attempts: u32,
    /// What was made.
    pub made: MadeGranule,
}

/// How many recipes of the present list are in which state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts(pub(super) [u64; RecipeState::ALL.len()]);

impl Counts {
    /// How many are in a state.
    pub fn of(&self, state: RecipeState) -> u64 {
        self.0[state as usize]
    }

    /// Their number.
    pub fn all(&self) -> u64 {
        self.0.iter().sum()
    }

    /// How many are settled.
    pub fn settled(&self) -> u64 {
        RecipeState::ALL.into_iter().filter(|state| state.is_settled()).map(|state| self.of(state)).sum()
    }
}
