//! Kinds of failure, which travel between a production and its workers, and texts of errors.

use serde::{Deserialize, Serialize};

/// Kinds of failure, by the action that they ask for. They are transmitted as their position in this list, so new kinds
/// go to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum FailureKind {
    /// The same recipe will fail again: the recipe is wrong, an input is missing or damaged, or the gate refuses the
    /// granule.
    Permanent,
    /// The same recipe may succeed later: reading or writing failed.
    Transient,
    /// Outputs of the dataset have no inputs yet.
    Held,
    /// Another granule has the name of this one.
    Conflict,
    /// The attempt was not finished: the worker was told to stop, or it can make nothing as things are (the destination
    /// is full or read-only, or a root is not mounted). Nothing is wrong with the recipe.
    Returned,
    /// The attempt was not started: the task message had been delivered before, to a worker that did not report how the
    /// attempt ended. The coordinator decides what that means, since it owns the retries.
    Lost,
    /// Something that the recipe names does not exist, as far as this worker can see. Another worker may find it.
    NotFound,
    /// This worker may not access something that the recipe names: it lies outside the worker's roots, or the operating
    /// system denies permission. Another worker may be allowed to.
    Denied,
}

impl FailureKind {
    /// Returns true if an attempt was made and has failed, as opposed to one that was given back or found that there is
    /// nothing to make.
    pub fn is_of_attempt(self) -> bool {
        match self {
            FailureKind::Permanent | FailureKind::Transient | FailureKind::NotFound | FailureKind::Denied => true,
            FailureKind::Held | FailureKind::Conflict | FailureKind::Returned | FailureKind::Lost => false,
        }
    }
}

/// Returns the text of an error, followed by the text of each of its causes that adds something new.
pub fn causes(error: &dyn std::error::Error) -> Vec<String> {
    let mut texts = vec![error.to_string()];
    let mut source = error.source();
    while let Some(cause) = source {
        let text = cause.to_string();
        if !texts.iter().any(|said| said.contains(&text)) {
            texts.push(text);
        }
        source = cause.source();
    }
    texts
}

/// Returns an error and its causes in one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    causes(error).join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Link(&'static str, #[source] Option<Box<Link>>);

    #[test]
    fn causes_that_say_nothing_new_are_left_out() {
        let link = |text, cause| Link(text, cause);
        let error = link("a.nc: no room", Some(Box::new(link("no room", Some(Box::new(link("quota", None)))))));
        assert_eq!(causes(&error), ["a.nc: no room", "quota"]);
        assert_eq!(chain(&error), "a.nc: no room: quota");
    }
}
