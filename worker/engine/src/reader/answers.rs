//! The answers of a helper process to requests about one file.

use super::image::Image;
use super::open_file::OpenFile;
use super::outline::{self, Described, Outline};
use super::wire::{Answer, Ask, MAX_VALUES};
use crate::granule::inspected::{self, InspectionDepth};
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Largest number of variables of a file, and of dimensions of a variable, that are described.
const MOST: usize = 10_000;

impl OpenFile<'_> {
    /// Returns the answer to a request, and its values. A panic in the bindings of the libraries gives an answer too.
    pub(super) fn answer(&mut self, ask: &Ask) -> (Answer, Vec<u8>) {
        let answered = catch_unwind(AssertUnwindSafe(|| self.try_answer(ask)));
        match answered {
            Ok(Ok(answer)) => answer,
            Ok(Err(why)) => (Answer::Damaged(why), Vec::new()),
            Err(panic) => {
                let said = panic.downcast_ref::<String>().map(String::as_str);
                let said = said.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no reason given");
                (Answer::Damaged(format!("reading it made the reader panic ({said})")), Vec::new())
            }
        }
    }

    fn try_answer(&mut self, ask: &Ask) -> Result<(Answer, Vec<u8>), String> {
        let in_words = |error: netcdf::Error| error.to_string();
        let none = Vec::new();
        Ok(match ask {
            Ask::Close => (Answer::Values, none),
            Ask::Look { recipe, depth, places } => {
                (Answer::Inspected(inspected::look_at(self, recipe.as_deref(), *depth, *places)?), none)
            }
            Ask::Describe => (Answer::Described(self.describe().map_err(in_words)?), none),
            Ask::Outline => {
                let described = self.describe().map_err(in_words)?;
                let outline = self.file().and_then(|file| Outline::of(file, described, MOST));
                (Answer::Outlined(outline.map_err(in_words)?), none)
            }
            Ask::Values { variable, start, count, double: false } => {
                let values: Vec<f32> = self.values(variable, start, count)?;
                (Answer::Values, values.iter().flat_map(|value| value.to_le_bytes()).collect())
            }
            Ask::Values { variable, start, count, double: true } => {
                let values: Vec<f64> = self.values(variable, start, count)?;
                (Answer::Values, values.iter().flat_map(|value| value.to_le_bytes()).collect())
            }
        })
    }

    fn describe(&mut self) -> netcdf::Result<Vec<Described>> {
        let mut found = Vec::new();
        for variable in self.file()?.variables() {
            let dimensions: Vec<_> = variable.dimensions().iter().map(|d| (d.name(), d.len())).collect();
            if found.len() >= MOST || dimensions.len() > MOST {
                return Err(format!("it claims more than {MOST} variables or dimensions").into());
            }
            let text = |name: &str| match variable.attribute_value(name) {
                Some(Ok(netcdf::AttributeValue::Str(text))) => text,
                _ => String::new(),
            };
            let mut missing = Vec::new();
            for name in ["_FillValue", "missing_value"] {
                let number = variable.attribute_value(name).and_then(Result::ok).and_then(outline::first_number);
                missing.extend(number.map(f64::to_bits));
            }
            // Boolean variables have this attribute; all of their values are valid.
            if variable.attribute_value("dtype").is_some() {
                missing.clear();
            }
            found.push(Described {
                name: variable.name(),
                chunk: variable.chunking().ok().flatten(),
                long_name: text("long_name"),
                units: text("units"),
                missing,
                dimensions,
            });
        }
        Ok(found)
    }

    fn values<T: netcdf::NcTypeDescriptor + Copy>(
        &mut self,
        name: &str,
        start: &[usize],
        count: &[usize],
    ) -> Result<Vec<T>, String> {
        let length = count.iter().try_fold(size_of::<T>(), |all, length| all.checked_mul(*length));
        if length.is_none_or(|length| length > MAX_VALUES) {
            return Err(format!("{name}: more values are asked for than are given at once"));
        }
        let file = self.file().map_err(|error| error.to_string())?;
        let variable = file.variable(name).ok_or_else(|| format!("{name}: missing"))?;
        let values = if start.is_empty() { variable.get_values(..) } else { variable.get_values((start, count)) };
        values.map_err(|error| error.to_string())
    }
}

/// Largest number of values of a variable that [`examine`] reads.
const MOST_VALUES: usize = 1 << 16;

/// Asks, in this process, what a helper is asked about a file: its variables, their storage layout, and the values of
/// those variables that have few. This is for fuzzing, which must see how the libraries deal with a file. If they
/// crash, this process crashes too.
///
/// # Errors
/// Returns an error if the file cannot be mapped or is damaged.
pub fn examine(file: &File) -> Result<(), String> {
    let image = Image::map(file).map_err(|error| error.to_string())?;
    let mut opened = OpenFile::new(&image);
    let found = opened.describe().map_err(|error| error.to_string())?;
    let look = Ask::Look { recipe: None, depth: InspectionDepth::Structure, places: true };
    let mut answers = vec![opened.answer(&look).0, opened.answer(&Ask::Outline).0];
    for variable in found {
        let values = variable.shape().iter().try_fold(1, |all: usize, length| all.checked_mul(*length));
        if values.is_some_and(|values| values <= MOST_VALUES) {
            let (variable, start, count) = (variable.name, Vec::new(), Vec::new());
            answers.push(opened.answer(&Ask::Values { variable, start, count, double: true }).0);
        }
    }
    match answers.into_iter().find_map(|answer| if let Answer::Damaged(why) = answer { Some(why) } else { None }) {
        Some(why) => Err(why),
        None => Ok(()),
    }
}
