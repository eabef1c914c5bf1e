//! Task lists: JSON arrays of recipes, written by EDP or by this project, or one recipe in each line.

use super::{Recipe, RecipeError, output_version};
use crate::text_hash::TextHasher;
use serde::de::{Deserializer as _, Error as _, SeqAccess, Visitor};
use std::cell::Cell;
use std::collections::HashMap;
use std::fmt;
use std::io::{self, BufRead as _, BufReader, Read, Write};

/// The form of a task list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListForm {
    /// A JSON array of recipes, as EDP writes it.
    Array,
    /// JSON lines: each line is a recipe.
    Lines,
}

impl ListForm {
    /// Returns the form of the list in a file of this name: lines if it ends with `.jsonl` or `.jsonl.gz`, else an array.
    pub fn of(name: &str) -> ListForm {
        let name = name.strip_suffix(".gz").unwrap_or(name);
        if name.ends_with(".jsonl") { ListForm::Lines } else { ListForm::Array }
    }
}

/// Parses a task list of EDP or of this project. `list` is its name for errors.
///
/// # Errors
/// Returns an error if the text is not a JSON array of recipes, a date of production is malformed, or two recipes make
/// the same granule.
pub fn parse_list(list: &str, text: &[u8]) -> Result<Vec<Recipe>, RecipeError> {
    let recipes: Vec<Recipe> =
        serde_json::from_slice(text).map_err(|source| RecipeError::Json { list: list.into(), source })?;
    let mut check = ListCheck::new(list);
    recipes.iter().try_for_each(|recipe| check.see(recipe))?;
    Ok(recipes)
}

/// Checks the recipes of a list, one after the other.
struct ListCheck<'a> {
    list: &'a str,
    unique: UniqueCheck,
}

impl<'a> ListCheck<'a> {
    fn new(list: &'a str) -> ListCheck<'a> {
        ListCheck { list, unique: UniqueCheck::default() }
    }

    fn see(&mut self, recipe: &Recipe) -> Result<(), RecipeError> {
        let listed = |error| RecipeError::Listed { list: self.list.into(), error: Box::new(error) };
        recipe.check_date().map_err(listed)?;
        self.unique.see(recipe)
    }
}

/// Size in bytes that a list must have for each of its recipes. A real recipe has at least twice that, and takes a
/// similar amount of memory however short its text is.
const RECIPE: u64 = 1024;

/// Largest size in bytes of one recipe in a list, whose indentation can take more than the recipe itself.
const LONGEST: u64 = 4 * crate::wire::MAX_RECIPE as u64;

/// Size in bytes of the parts in which a list is read.
const PART: usize = 1 << 20;

/// Reads a task list of at most `limit` bytes; see [`read_each`].
///
/// # Errors
/// Returns the errors of [`read_each`].
pub fn read_list(list: &str, form: ListForm, reader: impl Read, limit: u64) -> Result<Vec<Recipe>, RecipeError> {
    let mut recipes = Vec::new();
    read_each(list, form, reader, limit, |recipe| {
        recipes.push(recipe);
        Ok::<_, RecipeError>(())
    })?;
    Ok(recipes)
}

/// Reads a task list of at most `limit` bytes, and passes each recipe to `each` as soon as it is read. A text that is not
/// a list is refused as soon as that shows. Neither the text nor the list is ever in memory as a whole; some 100 bytes
/// are kept of each recipe, by which two are noticed that make the same granule.
///
/// # Errors
/// Returns an error if the list cannot be read, is larger than the limit, has a recipe of more than 16 MiB, or has more
/// recipes than one for each KiB of the limit; the errors of [`parse_list`]; and the errors of `each`.
pub fn read_each<E: From<RecipeError>>(
    list: &str,
    form: ListForm,
    reader: impl Read,
    limit: u64,
    mut each: impl FnMut(Recipe) -> Result<(), E>,
) -> Result<(), E> {
    let (most, long, mut check, mut count) = (limit / RECIPE, Cell::new(0), ListCheck::new(list), 0);
    let too_large = || RecipeError::TooLarge { list: list.into(), limit, recipes: most };
    let mut failed = None;
    let mut see = |recipe: Recipe| {
        long.set(0);
        count += 1;
        let seen = match count > most {
            true => Err(E::from(too_large())),
            false => check.see(&recipe).map_err(E::from).and_then(|()| each(recipe)),
        };
        seen.map_err(|error| failed = Some(error))
    };
    let mut bounded = LimitedReader { reader, left: limit, long: &long, failed: None };
    let read = match form {
        ListForm::Array => {
            let mut text = serde_json::Deserializer::from_reader(BufReader::with_capacity(PART, &mut bounded));
            text.deserialize_seq(Recipes(&mut see)).and_then(|()| text.end())
        }
        ListForm::Lines => read_lines(&mut bounded, &mut see),
    };
    let Err(source) = read else { return Ok(()) };
    let unread = match bounded.failed {
        None => RecipeError::Json { list: list.into(), source },
        Some(ReadFailure::Limit) => too_large(),
        Some(ReadFailure::Long) => RecipeError::Long { list: list.into(), position: count + 1, limit: LONGEST },
        Some(ReadFailure::Io(source)) => RecipeError::Read { list: list.into(), source },
    };
    Err(failed.unwrap_or_else(|| unread.into()))
}

/// Reads recipes line by line. Empty lines are passed over.
fn read_lines(
    bounded: &mut LimitedReader<'_, impl Read>,
    see: &mut dyn FnMut(Recipe) -> Result<(), ()>,
) -> Result<(), serde_json::Error> {
    let mut text = BufReader::with_capacity(PART, bounded);
    let (mut line, mut number) = (Vec::new(), 0_u64);
    loop {
        line.clear();
        number += 1;
        if text.read_until(b'\n', &mut line).map_err(serde_json::Error::io)? == 0 {
            return Ok(());
        }
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let recipe = serde_json::from_slice(&line).map_err(|error| in_line(&error, number))?;
        see(recipe).map_err(|()| serde_json::Error::custom("refused"))?;
    }
}

/// Returns an error of a line with the number of the line, which its parser does not know.
fn in_line(error: &serde_json::Error, number: u64) -> serde_json::Error {
    let text = error.to_string();
    let what = text.rsplit_once(" at line ").map_or(text.as_str(), |(what, _)| what);
    serde_json::Error::custom(format!("{what} at line {number} column {}", error.column()))
}

/// The reason why a [`LimitedReader`] has failed.
enum ReadFailure {
    /// The text has more bytes than it may have.
    Limit,
    /// A recipe has more bytes than it may have.
    Long,
    Io(io::Error),
}

/// A reader that fails after a number of bytes, of the whole text or of one recipe.
struct LimitedReader<'a, R> {
    reader: R,
    left: u64,
    /// Number of bytes that were read since the last recipe was complete.
    long: &'a Cell<u64>,
    failed: Option<ReadFailure>,
}

impl<R: Read> Read for LimitedReader<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // A part is read when the last one is used up, so that it belongs to one recipe at first.
        self.failed = Some(match self.reader.read(buffer) {
            Ok(count) if count as u64 > self.left => ReadFailure::Limit,
            Ok(_) if self.long.get() > LONGEST => ReadFailure::Long,
            Ok(count) => {
                self.left -= count as u64;
                self.long.set(self.long.get() + count as u64);
                return Ok(count);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Err(error),
            Err(error) => ReadFailure::Io(error),
        });
        Err(io::ErrorKind::Other.into())
    }
}

/// Passes on the recipes of an array.
struct Recipes<'a>(&'a mut dyn FnMut(Recipe) -> Result<(), ()>);

impl<'de> Visitor<'de> for Recipes<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a sequence")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        while let Some(recipe) = entries.next_element()? {
            (self.0)(recipe).map_err(|()| A::Error::custom("refused"))?;
        }
        Ok(())
    }
}

/// Refuses recipes that were planned for another output version than this program has. They cannot be made, but they can
/// still be compared with the granules at the destination.
#[derive(Debug, Default)]
pub struct VersionsCheck {
    /// The output versions of the first of these recipes and of this program.
    first: Option<(u32, u32)>,
    count: usize,
    all: usize,
}

impl VersionsCheck {
    /// Looks at a recipe.
    pub fn see(&mut self, recipe: &Recipe) {
        self.all += 1;
        let Some(plan) = &recipe.recipe else { return };
        let (found, made) = (plan.format, output_version(plan.mode));
        if found != made {
            self.count += 1;
            self.first.get_or_insert((found, made));
        }
    }

    /// Ends the check of a list of this name.
    ///
    /// # Errors
    /// Returns [`RecipeError::Versions`], once for all of these recipes, with advice on what to do.
    pub fn end(self, list: &str) -> Result<(), RecipeError> {
        let VersionsCheck { first, count, all } = self;
        match first {
            None => Ok(()),
            Some((found, made)) => Err(RecipeError::Versions { list: list.into(), count, all, found, made }),
        }
    }
}

/// Refuses a list with recipes that were planned for another output version, see [`VersionsCheck`].
///
/// # Errors
/// Returns [`RecipeError::Versions`].
pub fn check_versions(list: &str, recipes: &[Recipe]) -> Result<(), RecipeError> {
    let mut check = VersionsCheck::default();
    recipes.iter().for_each(|recipe| check.see(recipe));
    check.end(list)
}

/// Refuses two recipes that make the same granule, and one recipe with two destinations. The id does not cover the
/// destination, and everything that is known about a recipe is kept under its id.
///
/// It keeps hashes, since the texts of a whole release would take hundreds of megabytes.
#[derive(Debug, Default)]
pub struct UniqueCheck {
    hasher: TextHasher,
    /// Positions, counted from 1, by granule and by id.
    granules: HashMap<u128, u32>,
    ids: HashMap<u128, u32>,
    count: u32,
}

impl UniqueCheck {
    /// Looks at a recipe.
    ///
    /// # Errors
    /// Returns [`RecipeError::Duplicate`] or [`RecipeError::Destinations`], with the positions of both recipes.
    pub fn see(&mut self, recipe: &Recipe) -> Result<(), RecipeError> {
        self.count = self.count.saturating_add(1);
        let (second, granule) = (self.count, || recipe.granule.clone());
        if let Some(first) = self.granules.insert(self.hasher.hash(&recipe.granule), second) {
            return Err(RecipeError::Duplicate { granule: granule(), first: first as usize, second: second as usize });
        }
        let Some(plan) = &recipe.recipe else { return Ok(()) };
        match self.ids.insert(self.hasher.hash(&plan.id), second) {
            Some(first) => {
                let (first, second) = (first as usize, second as usize);
                Err(RecipeError::Destinations { granule: granule(), first, second })
            }
            None => Ok(()),
        }
    }
}

/// Refuses a list in which two recipes make the same granule, or one recipe has two destinations; see [`UniqueCheck`].
///
/// # Errors
/// Returns [`RecipeError::Duplicate`] or [`RecipeError::Destinations`], with the positions of both recipes.
pub fn check_unique(recipes: &[Recipe]) -> Result<(), RecipeError> {
    let mut check = UniqueCheck::default();
    recipes.iter().try_for_each(|recipe| check.see(recipe))
}

/// Writes a task list, recipe by recipe.
#[derive(Debug)]
pub struct ListWriter<W> {
    out: W,
    form: ListForm,
    /// The text of one recipe.
    text: Vec<u8>,
    count: usize,
}

impl<W: Write> ListWriter<W> {
    /// Begins a list.
    pub fn new(form: ListForm, out: W) -> ListWriter<W> {
        ListWriter { out, form, text: Vec::new(), count: 0 }
    }

    /// Number of recipes that were written.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Writes a recipe. In an array it is indented by four spaces for each level, as by EDP.
    ///
    /// # Errors
    /// Returns an error if it cannot be written.
    pub fn add(&mut self, recipe: &impl serde::Serialize) -> io::Result<()> {
        self.text.clear();
        match self.form {
            ListForm::Lines => {
                serde_json::to_writer(&mut self.text, recipe)?;
                self.text.push(b'\n');
                self.out.write_all(&self.text)?;
            }
            ListForm::Array => {
                let formatter = serde_json::ser::PrettyFormatter::with_indent(INDENT);
                recipe.serialize(&mut serde_json::Serializer::with_formatter(&mut self.text, formatter))?;
                let mut before: &[u8] = if self.count == 0 { b"[\n" } else { b",\n" };
                // A line feed within a text is escaped, so that each one begins a line of the recipe.
                for line in self.text.split_inclusive(|byte| *byte == b'\n') {
                    self.out.write_all(std::mem::take(&mut before))?;
                    self.out.write_all(INDENT)?;
                    self.out.write_all(line)?;
                }
            }
        }
        self.count += 1;
        Ok(())
    }

    /// Ends the list, and returns what it was written to.
    ///
    /// # Errors
    /// Returns an error if it cannot be written.
    pub fn end(mut self) -> io::Result<W> {
        match (self.form, self.count) {
            (ListForm::Lines, _) => {}
            (ListForm::Array, 0) => self.out.write_all(b"[]\n")?,
            (ListForm::Array, _) => self.out.write_all(b"\n]\n")?,
        }
        Ok(self.out)
    }
}

/// The spaces of one level in an array.
const INDENT: &[u8] = b"    ";

/// Writes a task list as EDP does, indented by four spaces for each level.
///
/// # Errors
/// Returns errors of serde, which no recipe can cause.
pub fn format_list<T: serde::Serialize>(recipes: &[T]) -> io::Result<String> {
    let mut list = ListWriter::new(ListForm::Array, Vec::new());
    recipes.iter().try_for_each(|recipe| list.add(recipe))?;
    Ok(String::from_utf8_lossy(&list.end()?).into_owned())
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
        assert_eq!(read_list("l", ListForm::Array, &text[..], 1 << 20).unwrap(), parse_list("l", &text).unwrap());
        for bad in [&b"{}"[..], b"[", b"[1]", b"[]]", b"nonsense", b"", &list(2, "")[1..]] {
            // The two ways of parsing count columns a little differently.
            let said = |error: RecipeError| error.to_string().split(" column ").next().unwrap().to_owned();
            let read = said(read_list("l", ListForm::Array, bad, 1 << 20).unwrap_err());
            assert_eq!(read, said(parse_list("l", bad).unwrap_err()), "{bad:?}");
        }
    }

    #[test]
    fn what_is_no_list_is_not_read_to_its_end() {
        let mut read = 0;
        let error = read_list("l", ListForm::Array, Endless(b"no list ", &mut read), u64::MAX).unwrap_err();
        assert!(matches!(error, RecipeError::Json { .. }) && read <= 1 << 20, "{error}, after {read} bytes");
    }

    #[test]
    fn lists_have_a_largest_size() {
        let text = list(20, &"x".repeat(2000));
        let size = text.len() as u64;
        assert_eq!(read_list("l", ListForm::Array, &text[..], size).unwrap().len(), 20);
        let error = read_list("l", ListForm::Array, &text[..], size - 1).unwrap_err();
        assert!(
            matches!(error, RecipeError::TooLarge { .. }) && error.to_string().contains("run.list_size"),
            "{error}"
        );
        // Endless white space is refused at the limit as well.
        let mut read = 0;
        let error = read_list("l", ListForm::Array, Endless(b"[\n     ", &mut read), 10 << 20).unwrap_err();
        assert!(matches!(error, RecipeError::TooLarge { .. } | RecipeError::Json { .. }), "{error}");
        let mut read = 0;
        let error = read_list("l", ListForm::Array, Endless(b"        ", &mut read), 10 << 20).unwrap_err();
        assert!(matches!(error, RecipeError::TooLarge { .. }) && read <= 12 << 20, "{error}, after {read} bytes");
        // Short recipes take memory too.
        let text = list(100, "");
        assert!(matches!(
            read_list("l", ListForm::Array, &text[..], 99 * RECIPE),
            Err(RecipeError::TooLarge { recipes: 99, .. })
        ));
        assert_eq!(read_list("l", ListForm::Array, &text[..], 100 * RECIPE).unwrap().len(), 100);
    }

    #[test]
    fn an_error_of_reading_is_told_as_such() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::ErrorKind::ConnectionReset.into())
            }
        }
        assert!(matches!(read_list("l", ListForm::Array, Broken, 1 << 20), Err(RecipeError::Read { .. })));
    }

    #[test]
    fn lines_and_arrays_hold_the_same_recipes() {
        let recipes = parse_list("l", &list(20, "")).unwrap();
        let write = |form| {
            let mut writer = ListWriter::new(form, Vec::new());
            recipes.iter().for_each(|recipe| writer.add(recipe).unwrap());
            writer.end().unwrap()
        };
        let (lines, array) = (write(ListForm::Lines), write(ListForm::Array));
        assert_eq!(lines.split(|byte| *byte == b'\n').count(), 21);
        assert_eq!(read_list("l", ListForm::Lines, &lines[..], 1 << 20).unwrap(), recipes);
        assert_eq!(parse_list("l", &array).unwrap(), recipes);
        let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
        let mut whole = Vec::new();
        serde::Serialize::serialize(&recipes, &mut serde_json::Serializer::with_formatter(&mut whole, formatter))
            .unwrap();
        whole.push(b'\n');
        assert_eq!(array, whole, "as if it were written at once");
        assert_eq!(format_list::<Recipe>(&[]).unwrap(), "[]\n");
        assert!(read_list("l", ListForm::Lines, &b"\n\n"[..], 1 << 20).unwrap().is_empty());
        for (name, form) in
            [("a.jsonl", ListForm::Lines), ("a.jsonl.gz", ListForm::Lines), ("a.json.gz", ListForm::Array)]
        {
            assert_eq!(ListForm::of(name), form, "{name}");
        }
    }

    #[test]
    fn a_line_that_is_no_recipe_is_named_by_its_number() {
        let recipe = String::from_utf8(list(1, "")).unwrap().replace('\n', " ");
        let line = recipe.trim().trim_matches(['[', ']']);
        let error = read_list("l", ListForm::Lines, format!("{line}\n\n{{1\n").as_bytes(), 1 << 20).unwrap_err();
        assert!(error.to_string().contains("line 3 column 2"), "{error}");
        let twice = format!("{line}\n{line}");
        let error = read_list("l", ListForm::Lines, twice.as_bytes(), 1 << 20).unwrap_err();
        assert!(matches!(error, RecipeError::Duplicate { first: 1, second: 2, .. }), "{error}");
        let error = read_list("l", ListForm::Lines, twice.as_bytes(), 1500).unwrap_err();
        assert!(matches!(error, RecipeError::TooLarge { recipes: 1, .. }), "{error}");
    }

    #[test]
    fn a_recipe_without_an_end_is_not_kept_in_memory() {
        for (form, text) in
            [(ListForm::Lines, &b"        "[..]), (ListForm::Array, b"["), (ListForm::Array, b"[\"aaaaaa")]
        {
            let mut read = 0;
            let error = match text {
                b"[" => read_list("l", form, b"[\"".chain(Endless(b"aaaaaaaa", &mut read)), u64::MAX).unwrap_err(),
                text => read_list("l", form, text.chain(Endless(b"        ", &mut read)), u64::MAX).unwrap_err(),
            };
            assert!(matches!(error, RecipeError::Long { position: 1, .. } | RecipeError::Json { .. }), "{error}");
            assert!(read <= LONGEST + 4 * PART as u64, "{read}");
        }
    }

    #[test]
    fn recipes_come_as_they_are_read_until_one_is_refused() {
        let text = list(20, "");
        let mut seen = 0;
        let error = read_each("l", ListForm::Array, &text[..], 1 << 20, |recipe| {
            seen += 1;
            match seen < 3 {
                true => Ok(()),
                false => Err(RecipeError::NoPlan { granule: recipe.granule }),
            }
        });
        assert!(matches!(error, Err(RecipeError::NoPlan { granule }) if granule == "out/2.nc") && seen == 3);
    }
}
