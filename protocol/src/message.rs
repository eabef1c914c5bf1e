//! What travels between a production and its workers.

use serde::{Deserialize, Serialize};

/// Kinds of failure, by what is to be done about them. They travel as their position in this list: append only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum FailureKind {
    /// The same recipe will fail again: bad recipe, missing or damaged input, gate.
    Permanent,
    /// The same recipe may succeed later: reading or writing failed.
    Transient,
    /// Outputs of the dataset have no input yet.
    Held,
    /// Another granule stands under its name.
    Conflict,
    /// Not tried to the end: the worker was told to stop, or can make nothing as things are (destination full or
    /// read-only, a root that is not mounted). Nothing is wrong with the recipe.
    Returned,
    /// Not tried: it was delivered before, to a worker that did not say how it ended. The coordinator, which owns the
    /// retries, knows what that means.
    Lost,
    /// Something that the recipe names is not there, as far as this worker can see. Another worker may find it.
    NotFound,
    /// This worker may not touch something that the recipe names: it lies outside of the worker's roots, or the system
    /// denies the permission. Another worker may be allowed to.
    Denied,
}

/// What an error says, and then each of its causes that adds something to what was said before it.
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

/// An error and its causes in one line.
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
