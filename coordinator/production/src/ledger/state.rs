//! Inputs and outputs of the ledger: states of recipes, due recipes, and events.

use edp_protocol::wire::Outcome;

/// The state of a recipe. The numbers are those in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RecipeState {
    /// It is sent when it is due.
    Waiting = 0,
    /// It is in the queue or with a worker, until its lease ends.
    UnderWay = 1,
    /// Its granule is at the destination.
    Done = 2,
    /// Outputs have no input yet.
    Held = 3,
    /// It will not be made, for a recorded reason.
    Failed = 4,
    /// Something else has the granule's name at the destination.
    Conflict = 5,
}

impl RecipeState {
    /// All states, in the order of their numbers.
    pub const ALL: [RecipeState; 6] = [
        RecipeState::Waiting,
        RecipeState::UnderWay,
        RecipeState::Done,
        RecipeState::Held,
        RecipeState::Failed,
        RecipeState::Conflict,
    ];

    /// Returns true if no more will happen.
    pub fn is_settled(self) -> bool {
        !matches!(self, RecipeState::Waiting | RecipeState::UnderWay)
    }

    /// Returns the word for people.
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

/// A recipe that is due to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    /// Number of the recipe in the ledger.
    pub number: i64,
    /// Id of the recipe.
    pub id: String,
    /// The recipe as JSON.
    pub recipe: Vec<u8>,
    /// Number of the attempt that is to be sent, from 1.
    pub attempt: u32,
    /// True if it is made with nothing else in its worker.
    pub alone: bool,
    /// SHA-256 of the granule, hexadecimal, if it was made or read before; else empty.
    pub sha256: String,
}

/// An event that is written into the ledger.
#[derive(Debug, Clone, PartialEq)]
pub enum LedgerEvent {
    /// The broker has confirmed a task message.
    Sent {
        /// Number of the recipe in the ledger.
        number: i64,
        /// Number of the attempt, from the task message.
        attempt: u32,
    },
    /// A worker has reported the beginning or end of an attempt.
    Reported(Box<Outcome>),
    /// The broker has dropped a task message, by a policy of its administrator.
    Dropped {
        /// Id of the recipe.
        id: String,
        /// Number of the attempt, from the task message.
        attempt: u32,
        /// The broker's reason in words.
        reason: String,
    },
}

/// A granule that is at its destination.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MadeGranule {
    /// True if it was there before the attempt.
    pub already: bool,
    /// The output version that made it, if it is earlier than that of the recipe; else 0.
    pub older: u32,
    /// Size of the granule in bytes.
    pub bytes: u64,
    /// SHA-256 of the granule, hexadecimal; empty if it is unknown.
    pub sha256: String,
    /// Time in seconds that making it took.
    pub seconds: f64,
    /// Warnings about the granule.
    pub warnings: Vec<String>,
}

/// A recipe that was settled, or was reset.
#[derive(Debug, Clone, PartialEq)]
pub struct Settled {
    /// Path or address of the granule.
    pub granule: String,
    /// Id of the recipe.
    pub id: String,
    /// State of the recipe.
    pub state: RecipeState,
    /// The reason for the state, unless it is done; for a waiting recipe, the reason why the last attempt failed.
    pub reason: Option<String>,
    /// Number of attempts that were sent.
    pub attempts: u32,
    /// The granule, if it was made.
    pub made: MadeGranule,
}

/// The number of recipes of the present list in each state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts(pub(super) [u64; RecipeState::ALL.len()]);

impl Counts {
    /// Number of recipes in one state.
    pub fn of(&self, state: RecipeState) -> u64 {
        self.0[state as usize]
    }

    /// Number of all recipes.
    pub fn all(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Number of recipes that are settled.
    pub fn settled(&self) -> u64 {
        RecipeState::ALL.into_iter().filter(|state| state.is_settled()).map(|state| self.of(state)).sum()
    }
}
