//! Errors of recipes and lists, with advice on what to do about them.

use crate::text::line;
use crate::vocabulary::{Mode, UnknownWord};

/// The reason why a recipe cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RecipeError {
    /// The list is not valid JSON, or not an array of recipes.
    #[error(
        "{list}: not a task list: {source}; it must be a JSON array of objects as `plan` writes them, or one object in each line if its name ends with .jsonl"
    )]
    Json {
        /// Name of the file or other source of the text.
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
        /// Name of the file that holds the list.
        list: String,
        /// Largest permitted size in bytes.
        limit: u64,
        /// Largest permitted number of recipes.
        recipes: u64,
    },
    /// A recipe of the list is larger than a recipe may be.
    #[error("{list}: recipe {position} of the list has more than {limit} bytes: it is not a recipe; plan again")]
    Long {
        /// Name of the file that holds the list.
        list: String,
        /// Position of the recipe, counted from 1.
        position: u64,
        /// Largest permitted size in bytes.
        limit: u64,
    },
    /// The list cannot be read.
    #[error("{list}: {source}")]
    Read {
        /// Name of the file that holds the list.
        list: String,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// The recipe has not been completed by a plan.
    #[error(
        "recipe {granule}: it has no key 'recipe'; complete the list with `edp-coordinator run LIST --dry-run --tasks-out NEW` first"
    )]
    NoPlan {
        /// Path or address of the granule.
        granule: String,
    },
    /// A path of the recipe is not below its root.
    #[error("recipe {granule}: '{path}' is not below its root '{root}', or has '..', '.' or '//' in it")]
    OutsideRoot {
        /// Path or address of the granule.
        granule: String,
        /// The path that is outside.
        path: String,
        /// The root that should contain it.
        root: String,
    },
    /// The recipe was changed after planning.
    #[error(
        "recipe {granule}: its id is {found}, but its content has the id {computed}: it was edited after planning; plan again"
    )]
    Id {
        /// Path or address of the granule.
        granule: String,
        /// The id that the recipe states.
        found: String,
        /// The id of its content.
        computed: String,
    },
    /// Two recipes make the same granule.
    #[error("two recipes make the same granule {granule}: entries {first} and {second} of the list")]
    Duplicate {
        /// Path or address of the granule.
        granule: String,
        /// Position of the first recipe, counted from 1.
        first: usize,
        /// Position of the second recipe, counted from 1.
        second: usize,
    },
    /// One recipe occurs with two destinations.
    #[error(
        "entries {first} and {second} of the list are one recipe for two destinations, the second is {granule}: give \
         each destination a list of its own"
    )]
    Destinations {
        /// Path or address of the second granule.
        granule: String,
        /// Position of the first recipe, counted from 1.
        first: usize,
        /// Position of the second recipe, counted from 1.
        second: usize,
    },
    /// The recipe has an option that this program does not know.
    #[error(
        "recipe {granule}: it has the option '{option}', which this program does not know; make it by the program that planned it"
    )]
    Option {
        /// Path or address of the granule.
        granule: String,
        /// Name of the option.
        option: String,
    },
    /// An option of the recipe has a word that this program does not know.
    #[error("recipe {granule}: {source}, or make it by the program that planned it")]
    Choice {
        /// Path or address of the granule.
        granule: String,
        /// What is unknown.
        source: UnknownWord,
    },
    /// An option of the recipe has the default of its mode, or is not for its mode.
    #[error(
        "recipe {granule}: the option '{option}' must not state what mode {mode} does by itself, and the modes of EDP do not have it: plan again"
    )]
    Choices {
        /// Path or address of the granule.
        granule: String,
        /// Name of the option.
        option: &'static str,
        /// The mode.
        mode: Mode,
    },
    /// The recipe was planned by a program whose output differs.
    #[error(
        "recipe {granule}: it was planned for output version {found}, this program makes version {made}: {}",
        advice(*found, *made)
    )]
    Format {
        /// Path or address of the granule.
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
        /// Name of the file that holds the list.
        list: String,
        /// Number of recipes that this program cannot make.
        count: usize,
        /// Number of all recipes in the list.
        all: usize,
        /// Output version of these recipes, or that of the first of them if they differ.
        found: u32,
        /// Output version of this program.
        made: u32,
    },
    /// The key `strip_attributes` is neither true nor false.
    #[error(
        "recipe {granule}: its key 'strip_attributes' is '{}'; it must be true or false, or one of the texts true, false, \
         yes, no, 1 and 0",
        printable(.text)
    )]
    Strip {
        /// The granule.
        granule: String,
        /// The text that was found.
        text: String,
    },
    /// The rule by which an output is derived cannot be followed.
    #[error("recipe {granule}: {variable} cannot be derived: {why}; plan again")]
    Derived {
        /// Path or address of the granule.
        granule: String,
        /// Name of the output.
        variable: String,
        /// Description of the problem.
        why: String,
    },
    /// The path of the granule has invisible characters.
    #[error(
        "recipe {}: the granule's path has control characters, or marks of writing direction: no file gets such a name",
        printable(.granule)
    )]
    Unseen {
        /// Path or address of the granule.
        granule: String,
    },
    /// Something is wrong with a recipe of a list.
    #[error("{list}: {error}")]
    Listed {
        /// Name of the file that holds the list.
        list: String,
        /// Description of the problem.
        error: Box<RecipeError>,
    },
    /// The date of production is not a time in the form that granules have.
    #[error("recipe {granule}: its production_date '{}' is not a time: it must be YYYY-MM-DDThh:mm:ssZ", printable(.date))]
    Date {
        /// Path or address of the granule.
        granule: String,
        /// The text that the recipe states.
        date: String,
    },
}

/// Says what to do about a list of another output version.
fn advice(found: u32, made: u32) -> &'static str {
    if found < made {
        "plan again; granules of the earlier version at the destination then count as older, and are made again only \
         with --replace-older"
    } else {
        "use the program that planned it, or a newer one"
    }
}

/// Returns a text of a list as it may be shown on a terminal: at most 100 characters, with control characters escaped.
pub(super) fn printable(text: &str) -> String {
    line(text.chars().take(100).collect::<String>().as_str()).into_owned()
}
