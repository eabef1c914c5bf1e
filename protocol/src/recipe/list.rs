//! Task lists: JSON arrays of recipes, written by EDP or by this project.

use super::{Recipe, RecipeError, output_version};
use serde::Serialize as _;
use serde::de::{Deserializer as _, Error as _, SeqAccess, Visitor};
use std::collections::HashMap;
use std::fmt;
use std::io::{self, BufReader, Read};

/// Parses a task list of EDP or of this project. `list` is its name for errors.
///
/// # Errors
/// Returns an error if the text is not a JSON array of recipes, a date of production is malformed, or two recipes make
/// the same granule.
pub fn parse_list(list: &str, text: &[u8]) -> Result<Vec<Recipe>, RecipeError> {
    let recipes = serde_json::from_slice(text).map_err(|source| RecipeError::Json { list: list.into(), source })?;
    checked(list, recipes)
}

fn checked(list: &str, recipes: Vec<Recipe>) -> Result<Vec<Recipe>, RecipeError> {
    let listed = |error| RecipeError::Listed { list: list.into(), error: Box::new(error) };
    recipes.iter().try_for_each(Recipe::check_date).map_err(listed)?;
    check_unique(&recipes)?;
    Ok(recipes)
}

/// Size in bytes that a list must have for each of its recipes. A real recipe has at least twice that, and takes a
/// similar amount of memory however short its text is.
const RECIPE: u64 = 1024;

/// Reads a task list of at most `limit` bytes, recipe by recipe. A text that is not a list is refused as soon as that
/// shows, and the text is never in memory as a whole.
///
/// # Errors
/// Returns an error if the list cannot be read, is larger than the limit, or has more recipes than one for each KiB of
/// the limit; and the errors of [`parse_list`].
pub fn read_list(list: &str, reader: impl Read, limit: u64) -> Result<Vec<Recipe>, RecipeError> {
    let too_large = || RecipeError::TooLarge { list: list.into(), limit, recipes: limit / RECIPE };
    let mut bounded = LimitedReader { reader, left: limit, failed: None };
    let mut crowded = false;
    let mut text = serde_json::Deserializer::from_reader(BufReader::with_capacity(1 << 20, &mut bounded));
    let read = text.deserialize_seq(Recipes { most: limit / RECIPE, crowded: &mut crowded });
    let read = read.and_then(|recipes| text.end().map(|()| recipes));
    match (read, bounded.failed) {
        (Ok(recipes), _) => checked(list, recipes),
        (Err(_), _) if crowded => Err(too_large()),
        (Err(_), Some(None)) => Err(too_large()),
        (Err(_), Some(Some(source))) => Err(RecipeError::Read { list: list.into(), source }),
        (Err(source), None) => Err(RecipeError::Json { list: list.into(), source }),
    }
}

/// A reader that fails after a number of bytes.
struct LimitedReader<R> {
    reader: R,
    left: u64,
    /// `None` until it fails; then the operating system's error, or `Some(None)` if the limit was reached.
    failed: Option<Option<io::Error>>,
}

impl<R: Read> Read for LimitedReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.reader.read(buffer) {
            Ok(count) if count as u64 > self.left => self.failed = Some(None),
            Ok(count) => {
                self.left -= count as u64;
                return Ok(count);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Err(error),
            Err(error) => self.failed = Some(Some(error)),
        }
        Err(io::ErrorKind::Other.into())
    }
}

/// Collects the recipes of a list, unless there are too many.
struct Recipes<'a> {
    most: u64,
    crowded: &'a mut bool,
}

impl<'de> Visitor<'de> for Recipes<'_> {
    type Value = Vec<Recipe>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a sequence")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<Vec<Recipe>, A::Error> {
        let mut recipes = Vec::new();
        while let Some(recipe) = entries.next_element()? {
            if recipes.len() as u64 >= self.most {
                *self.crowded = true;
                return Err(A::Error::custom("too many recipes"));
            }
            recipes.push(recipe);
        }
        Ok(recipes)
    }
}

/// Refuses a list with recipes that were planned for another output version than this program has. They cannot be made,
/// but they can still be compared with the granules at the destination.
///
/// # Errors
/// Returns [`RecipeError::Versions`], once for all of these recipes, with advice on what to do.
pub fn check_versions(list: &str, recipes: &[Recipe]) -> Result<(), RecipeError> {
    let others = || {
        let plans = recipes.iter().filter_map(|recipe| recipe.recipe.as_ref());
        plans.map(|plan| (plan.format, output_version(plan.mode))).filter(|(found, made)| found != made)
    };
    match others().next() {
        None => Ok(()),
        Some((found, made)) => {
            let (count, all) = (others().count(), recipes.len());
            Err(RecipeError::Versions { list: list.into(), count, all, found, made })
        }
    }
}

/// Refuses a list in which two recipes make the same granule, or one recipe has two destinations. The id does not cover
/// the destination, and everything that is known about a recipe is kept under its id.
///
/// # Errors
/// Returns [`RecipeError::Duplicate`] or [`RecipeError::Destinations`], which name both entries.
pub fn check_unique(recipes: &[Recipe]) -> Result<(), RecipeError> {
    let (mut granules, mut ids) = (HashMap::new(), HashMap::new());
    for (position, recipe) in recipes.iter().enumerate() {
        let granule = || recipe.granule.clone();
        if let Some(first) = granules.insert(recipe.granule.as_str(), position) {
            return Err(RecipeError::Duplicate { granule: granule(), first: first + 1, second: position + 1 });
        }
        let Some(plan) = &recipe.recipe else { continue };
        if let Some(first) = ids.insert(plan.id.as_str(), position) {
            let other = recipes[first].granule.clone();
            let (first, second) = (first + 1, position + 1);
            return Err(RecipeError::Destinations { granule: other, first, other: granule(), second });
        }
    }
    Ok(())
}

/// Writes a task list as EDP does, indented by four spaces for each level.
///
/// # Errors
/// Returns errors of serde, which no recipe can cause.
pub fn format_list<T: serde::Serialize>(recipes: &[T]) -> Result<String, serde_json::Error> {
    let mut bytes = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    recipes.serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, formatter))?;
    bytes.push(b'\n');
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn list(count: usize, more: &str) -> Vec<u8> {
        let recipe = |n| {
            format!(
                r#"{{"granule": "out/{n}.nc", "variables": {{}},
                "dynamic_metadata": {{"name": "a", "dimension": "2D", "summary": "s{more}"}}}}"#
            )
        };
        format!("[{}]\n", (0..count).map(recipe).collect::<Vec<_>>().join(",\n")).into_bytes()
    }

    /// Endless bytes, and the number of those that were read.
    struct Endless<'a>(&'static [u8], &'a mut u64);

    impl Read for Endless<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let count = self.0.len().min(buffer.len());
            buffer[..count].copy_from_slice(&self.0[..count]);
            *self.1 += count as u64;
            Ok(count)
        }
    }

    #[test]
    fn a_list_is_read_as_it_is_parsed() {
        let text = list(20, "");
        assert_eq!(read_list("l", &text[..], 1 << 20).unwrap(), parse_list("l", &text).unwrap());
        for bad in [&b"{}"[..], b"[", b"[1]", b"[]]", b"nonsense", b"", &list(2, "")[1..]] {
            // The two ways of parsing count columns a little differently.
            let said = |error: RecipeError| error.to_string().split(" column ").next().unwrap().to_owned();
            let read = said(read_list("l", bad, 1 << 20).unwrap_err());
            assert_eq!(read, said(parse_list("l", bad).unwrap_err()), "{bad:?}");
        }
    }

    #[test]
    fn what_is_no_list_is_not_read_to_its_end() {
        let mut read = 0;
        let error = read_list("l", Endless(b"no list ", &mut read), u64::MAX).unwrap_err();
        assert!(matches!(error, RecipeError::Json { .. }) && read <= 1 << 20, "{error}, after {read} bytes");
    }

    #[test]
    fn lists_have_a_largest_size() {
        let text = list(20, &"x".repeat(2000));
        let size = text.len() as u64;
        assert_eq!(read_list("l", &text[..], size).unwrap().len(), 20);
        let error = read_list("l", &text[..], size - 1).unwrap_err();
        assert!(
            matches!(error, RecipeError::TooLarge { .. }) && error.to_string().contains("run.list_size"),
            "{error}"
        );
        // Endless white space is refused at the limit as well.
        let mut read = 0;
        let error = read_list("l", Endless(b"[\n     ", &mut read), 10 << 20).unwrap_err();
        assert!(matches!(error, RecipeError::TooLarge { .. } | RecipeError::Json { .. }), "{error}");
        let mut read = 0;
        let error = read_list("l", Endless(b"        ", &mut read), 10 << 20).unwrap_err();
        assert!(matches!(error, RecipeError::TooLarge { .. }) && read <= 12 << 20, "{error}, after {read} bytes");
        // Short recipes take memory too.
        let text = list(100, "");
        assert!(matches!(read_list("l", &text[..], 99 * RECIPE), Err(RecipeError::TooLarge { recipes: 99, .. })));
        assert_eq!(read_list("l", &text[..], 100 * RECIPE).unwrap().len(), 100);
    }

    #[test]
    fn an_error_of_reading_is_told_as_such() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::ErrorKind::ConnectionReset.into())
            }
        }
        assert!(matches!(read_list("l", Broken, 1 << 20), Err(RecipeError::Read { .. })));
    }
}
