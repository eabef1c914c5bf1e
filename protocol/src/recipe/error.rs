//! The reason why recipes and lists cannot be used, and what to do about it.

use crate::text::line;

/// The reason why a recipe cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RecipeError {
    /// The list is not JSON, or not a list of recipes.
    #[error("{list}: not a task list: {source}; it must be a JSON array of objects as `plan` writes them")]
    Json {
        /// Where the text came from.
        list: String,
        /// The parser's message, with line and column.
        source: serde_json::Error,
    },
    /// The list is larger than lists may be.
    #[error(
        "{list}: larger than {limit} bytes, or of more than {recipes} recipes: make it in parts (`edp-worker make --part I/N`), \
         or raise run.list_size (MiB)"
    )]
    TooLarge {
        /// Where it is.
        list: String,
        /// Bytes that it may have.
        limit: u64,
        /// Recipes that it may have.
        recipes: u64,
    },
    /// The list cannot be read.
    #[error("{list}: {source}")]
    Read {
        /// Where it is.
        list: String,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// The recipe has not been completed by a plan.
    #[error(
        "recipe {granule}: it has no key 'recipe'; complete the list with `edp-coordinator run LIST --dry-run --tasks-out NEW` first"
    )]
    NoPlan {
        /// The granule.
        granule: String,
    },
    /// A path of the recipe is not below its root.
    #[error("recipe {granule}: '{path}' is not below its root '{root}'")]
    OutsideRoot {
        /// The granule.
        granule: String,
        /// The path.
        path: String,
        /// The root it should be below.
        root: String,
    },
    /// The recipe was changed after planning.
    #[error(
        "recipe {granule}: its id is {found}, but its content has the id {computed}: it was edited after planning; plan again"
    )]
    Id {
        /// The granule.
        granule: String,
        /// The id that it carries.
        found: String,
        /// The id of what it holds.
        computed: String,
    },
    /// Two recipes make the same granule.
    #[error("two recipes make the same granule {granule}: entries {first} and {second} of the list")]
    Duplicate {
        /// The granule.
        granule: String,
        /// Position of the first, from 1.
        first: usize,
        /// Position of the second, from 1.
        second: usize,
    },
    /// One recipe has two destinations.
    #[error(
        "entries {first} and {second} of the list are one recipe for two destinations, {granule} and {other}: give each \
         destination a list of its own"
    )]
    Destinations {
        /// The granule of the first.
        granule: String,
        /// Position of the first, from 1.
        first: usize,
        /// The granule of the second.
        other: String,
        /// Position of the second, from 1.
        second: usize,
    },
    /// The recipe has an option that this program does not know.
    #[error(
        "recipe {granule}: it has the option '{option}', which this program does not know; make it by the program that planned it"
    )]
    Option {
        /// The granule.
        granule: String,
        /// The option.
        option: String,
    },
    /// The recipe was planned by a program whose output differs.
    #[error(
        "recipe {granule}: it was planned for output version {found}, this program makes version {made}: {}",
        advice(*found, *made)
    )]
    Format {
        /// The granule.
        granule: String,
        /// Output version of the recipe.
        found: u32,
        /// Output version of this program.
        made: u32,
    },
    /// Recipes of a list were planned by a program whose output differs.
    #[error(
        "{list}: {count} of its {all} recipes were planned for output version {found}, this program makes version \
         {made}: {}",
        advice(*found, *made)
    )]
    Versions {
        /// The list.
        list: String,
        /// Number of recipes.
        count: usize,
        /// Recipes in the list.
        all: usize,
        /// Their output version; that of the first one, if they differ.
        found: u32,
        /// Output version of this program.
        made: u32,
    },
    /// The path of the granule has invisible characters.
    #[error(
        "recipe {}: the granule's path has control characters, or marks of writing direction: no file gets such a name",
        printable(.granule)
    )]
    Unseen {
        /// The granule.
        granule: String,
    },
    /// Something is wrong with a recipe of a list.
    #[error("{list}: {error}")]
    Listed {
        /// The list.
        list: String,
        /// Description of the problem.
        error: Box<RecipeError>,
    },
    /// The date of the production is none.
    #[error("recipe {granule}: its production_date '{}' is not a time: it must be YYYY-MM-DDThh:mm:ssZ", printable(.date))]
    Date {
        /// The granule.
        granule: String,
        /// What is there.
        date: String,
    },
}

/// What to do about a list of another output version.
fn advice(found: u32, made: u32) -> &'static str {
    if found < made {
        "plan again; granules of the earlier version at the destination then count as older, and are made again only \
         with --replace-older"
    } else {
        "use the program that planned it, or a newer one"
    }
}

/// Text of a list as it may be shown on a terminal: control characters escaped, and cut.
pub(super) fn printable(text: &str) -> String {
    line(text.chars().take(100).collect::<String>().as_str()).into_owned()
}
