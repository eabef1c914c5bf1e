//! The report on a production, granule by granule.

use super::ledger::{RecipeState, Settled};
use edp_protocol::wire::StageTotal;
use serde::{Serialize, Serializer};

/// The report on one granule.
#[derive(Debug, Clone, Serialize)]
pub struct GranuleEntry {
    /// Path or address of the granule.
    pub granule: String,
    /// Id of the recipe.
    pub id: String,
    /// State of the recipe, and whether the granule existed before this run.
    #[serde(rename = "state", serialize_with = "word")]
    pub standing: EntryState,
    /// The reason for the state, unless the granule exists.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Number of attempts that were made.
    pub attempts: u32,
    /// Time in seconds that the last attempt took.
    pub seconds: f64,
    /// Size of the granule in bytes, if it exists.
    pub bytes: u64,
    /// SHA-256 of the granule's bytes, hexadecimal; empty if they were not read.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub sha256: String,
    /// Durations of the stages of making it; empty if they are unknown.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stages: Vec<StageTotal>,
    /// Warnings about the granule.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// State of a recipe in the ledger, and for granules that are done whether they existed before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EntryState {
    /// State of the recipe.
    pub state: RecipeState,
    /// True if the granule was at its destination before this run.
    pub already: bool,
    /// True if it was made by an earlier output version.
    pub older: bool,
}

impl EntryState {
    /// The words of reports, in the order in which they are counted.
    pub const WORDS: [&'static str; 7] = ["made", "present", "older", "held", "failed", "conflict", "left"];

    /// Returns the state of a recipe in the ledger.
    pub fn of(one: &Settled) -> EntryState {
        EntryState { state: one.state, already: one.made.already, older: one.made.older > 0 }
    }

    /// Returns the word of reports: `made` by this run, `present` before it, `older` if it existed and was made by an
    /// earlier output version, `held`, `failed`, `conflict`, or `left` if the production was stopped before.
    pub fn word(self) -> &'static str {
        match self.state {
            RecipeState::Done if self.older => "older",
            RecipeState::Done if self.already => "present",
            RecipeState::Done => "made",
            RecipeState::Held => "held",
            RecipeState::Failed => "failed",
            RecipeState::Conflict => "conflict",
            RecipeState::Waiting | RecipeState::UnderWay => "left",
        }
    }
}

impl From<RecipeState> for EntryState {
    fn from(state: RecipeState) -> EntryState {
        EntryState { state, already: false, older: false }
    }
}

fn word<S: Serializer>(standing: &EntryState, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(standing.word())
}

impl GranuleEntry {
    /// Returns the entry of a granule that has no recipe in the ledger.
    pub fn unlisted(granule: String, id: String, state: RecipeState, reason: String) -> GranuleEntry {
        GranuleEntry {
            granule,
            id,
            standing: state.into(),
            reason: Some(reason),
            attempts: 0,
            seconds: 0.0,
            bytes: 0,
            sha256: String::new(),
            stages: Vec::new(),
            warnings: Vec::new(),
        }
    }
}

impl From<Settled> for GranuleEntry {
    fn from(one: Settled) -> GranuleEntry {
        let standing = EntryState::of(&one);
        let reason = match one.state {
            RecipeState::Waiting | RecipeState::UnderWay => Some("the production was stopped before".to_owned()),
            _ => one.reason,
        };
        GranuleEntry {
            granule: one.granule,
            id: one.id,
            standing,
            reason,
            attempts: one.attempts,
            seconds: one.made.seconds,
            bytes: one.made.bytes,
            sha256: one.made.sha256,
            stages: Vec::new(),
            warnings: one.made.warnings,
        }
    }
}

/// The report on a whole production.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Report {
    /// Entries of all granules, in the order of the list.
    pub entries: Vec<GranuleEntry>,
    /// The reason why the production ended early by itself, if it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stopped: Option<String>,
    /// Duration in seconds from beginning to end.
    pub seconds: f64,
}

impl Report {
    /// Number of granules that a word of [`EntryState::WORDS`] describes.
    pub fn count(&self, word: &str) -> usize {
        self.entries.iter().filter(|entry| entry.standing.word() == word).count()
    }

    /// Returns true if every granule is at its destination.
    pub fn is_complete(&self) -> bool {
        self.entries.iter().all(|entry| entry.standing.state == RecipeState::Done)
    }
}

impl std::fmt::Display for Report {
    /// Writes the counts in one line.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let counts = EntryState::WORDS.map(|word| (self.count(word), word));
        let shown = counts.iter().filter(|(count, word)| *count > 0 || *word == "made");
        let text: Vec<_> = shown.map(|(count, word)| format!("{count} {word}")).collect();
        write!(f, "{} of {} granules in {:.1} s", text.join(", "), self.entries.len(), self.seconds)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_report_counts_by_its_words() {
        let entry = |state, already| GranuleEntry {
            standing: EntryState { state, already, older: false },
            ..GranuleEntry::unlisted("out/a.nc".into(), "ab".into(), state, "why".into())
        };
        let entries = vec![
            entry(RecipeState::Done, false),
            entry(RecipeState::Done, true),
            entry(RecipeState::UnderWay, true),
            entry(RecipeState::Held, false),
        ];
        let mut report = Report { entries, stopped: None, seconds: 1.25 };
        assert_eq!(report.to_string(), "1 made, 1 present, 1 held, 1 left of 4 granules in 1.2 s");
        assert!(!report.is_complete());
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!((&json["entries"][1]["state"], json.get("stopped")), (&"present".into(), None));
        report.entries.truncate(2);
        assert!(report.is_complete());
        assert_eq!(Report::default().to_string(), "0 made of 0 granules in 0.0 s");
    }
}
