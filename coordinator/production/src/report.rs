//! What became of a production, granule by granule.

use super::ledger::{RecipeState, Settled};
use edp_protocol::wire::StageTotal;
use serde::{Serialize, Serializer};

/// One granule of a production.
#[derive(Debug, Clone, Serialize)]
pub struct GranuleEntry {
    /// Full path or address.
    pub granule: String,
    /// The recipe's id.
    pub id: String,
    /// Where it stands, and whether it stood there before this run.
    #[serde(rename = "state", serialize_with = "word")]
    pub standing: EntryState,
    /// Why, unless it is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Attempts made.
    pub attempts: u32,
    /// Seconds of the last one.
    pub seconds: f64,
    /// Size in bytes, if it is there.
    pub bytes: u64,
    /// SHA-256 of its bytes, hexadecimal; empty if they were not read.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub sha256: String,
    /// What each stage of making it took; none if that is unknown.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stages: Vec<StageTotal>,
    /// What is odd about it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// State of a recipe in the ledger, and for granules that are done whether they were there before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EntryState {
    /// The state.
    pub state: RecipeState,
    /// Whether the granule was at its destination before this run.
    pub already: bool,
    /// Whether it was made by an earlier output version.
    pub older: bool,
}

impl EntryState {
    /// The words of reports, in the order in which they are counted.
    pub const WORDS: [&'static str; 7] = ["made", "present", "older", "held", "failed", "conflict", "left"];

    /// Where a recipe of the ledger stands.
    pub fn of(one: &Settled) -> EntryState {
        EntryState { state: one.state, already: one.made.already, older: one.made.older > 0 }
    }

    /// The word of reports: `made` by this run, `present` before it, `older` if it was made by an earlier output
    /// version before it, `held`, `failed`, `conflict`, or `left` where the production was stopped before.
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
    /// A granule without recipe in the ledger.
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

/// A whole production.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Report {
    /// Every granule, in the order of the list.
    pub entries: Vec<GranuleEntry>,
    /// The reason why the production ended early by itself, if it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stopped: Option<String>,
    /// Seconds from beginning to end.
    pub seconds: f64,
}

impl Report {
    /// How many granules a word of [`EntryState::WORDS`] describes.
    pub fn count(&self, word: &str) -> usize {
        self.entries.iter().filter(|entry| entry.standing.word() == word).count()
    }

    /// Whether every granule stands at its destination.
    pub fn is_complete(&self) -> bool {
        self.entries.iter().all(|entry| entry.standing.state == RecipeState::Done)
    }
}

impl std::fmt::Display for Report {
    /// The counts in one line.
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
