//! Beginnings of files: what granules of one kind have in common is encoded by the netCDF library once, and copied.
//!
//! Definitions, attributes and static values take the library several milliseconds for each granule, during which no
//! other thread can use it. The beginning of a file depends on the types and sizes of everything in it, and most
//! granules of a dataset only differ in a few texts of equal length, such as dates, and in the values of the time. So
//! the bytes of the first one are kept, and the others are copies in which these texts and values are overwritten. They
//! are the same bytes as the library would have written.

use super::content::{Attributes, GranuleContent, Storage, Value, Values, Variable};
use std::sync::{Arc, Mutex, PoisonError};

/// Number of beginnings that are kept: those of the datasets that are made side by side.
const KEPT: usize = 64;

/// Largest size of all beginnings that are kept, in bytes.
const KEPT_BYTES: usize = 64 << 20;

/// Largest size of a beginning that is kept, in bytes. Larger ones hold whole coordinates, which take longer than the
/// definitions.
pub(super) const LARGEST: u64 = 8 << 20;

/// The beginnings of files on one grid.
#[derive(Debug, Default)]
pub(crate) struct Skeletons(Mutex<Vec<Arc<Skeleton>>>);

/// The beginning of a file.
#[derive(Debug)]
pub(super) struct Skeleton {
    /// The content for which it was written, without chunks.
    content: GranuleContent,
    /// The bytes of the file.
    pub(super) bytes: Vec<u8>,
}

/// Something in which a granule differs from the one whose beginning is copied.
#[derive(Debug, PartialEq)]
pub(super) enum Difference<'a> {
    /// An attribute of a variable, or without one of the file.
    Attribute(Option<&'a str>, &'a str, &'a Value),
    /// The values of a variable.
    Values(&'a str, &'a Values),
}

impl Skeletons {
    /// Returns a beginning that becomes the one of this content by overwriting, and what has to be overwritten.
    pub(super) fn find<'a>(&self, content: &'a GranuleContent) -> Option<(Arc<Skeleton>, Vec<Difference<'a>>)> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = kept.iter().position(|skeleton| has_same_form(&skeleton.content, content))?;
        // The last one used is the last to go.
        let skeleton = kept.remove(at);
        kept.push(Arc::clone(&skeleton));
        drop(kept);
        let differences = differences(&skeleton.content, content);
        Some((skeleton, differences))
    }

    /// Keeps the beginning of a file with this content, at most [`LARGEST`] bytes. Those go that were not used for the
    /// longest time.
    pub(super) fn keep(&self, content: &GranuleContent, bytes: Vec<u8>) {
        let mut content = content.clone();
        for variable in &mut content.variables {
            if let Storage::Chunked(_, chunked) = &mut variable.storage {
                chunked.chunks = None;
            }
        }
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Another slot may have been as fast.
        if kept.iter().any(|skeleton| has_same_form(&skeleton.content, &content)) {
            return;
        }
        kept.push(Arc::new(Skeleton { content, bytes }));
        let size = |kept: &[Arc<Skeleton>]| kept.iter().map(|skeleton| skeleton.bytes.len()).sum::<usize>();
        while kept.len() > KEPT || size(&kept) > KEPT_BYTES {
            kept.remove(0);
        }
    }

    /// Forgets all beginnings, since a file that was made of one is not as it should be.
    pub(super) fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// Returns true if the beginnings of files with these contents have the same bytes, except those of values and of texts
/// of equal length.
fn has_same_form(one: &GranuleContent, other: &GranuleContent) -> bool {
    let same = |(one, other): (&Variable, &Variable)| {
        let storage = match (&one.storage, &other.storage) {
            (Storage::Contiguous(one), Storage::Contiguous(other)) => {
                one.data_type() == other.data_type() && one.len() == other.len()
            }
            (Storage::Chunked(one_type, one), Storage::Chunked(other_type, other)) => {
                one_type == other_type && one.shape == other.shape && one.codec == other.codec
            }
            _ => false,
        };
        storage
            && one.name == other.name
            && one.dimensions == other.dimensions
            && one.fill.map(f64::to_bits) == other.fill.map(f64::to_bits)
            && have_same_form(&one.attributes, &other.attributes)
    };
    one.dimensions == other.dimensions
        && one.variables.len() == other.variables.len()
        && have_same_form(&one.attributes, &other.attributes)
        && one.variables.iter().zip(&other.variables).all(same)
}

/// Returns true if these are attributes of the same names, types and sizes.
fn have_same_form(one: &Attributes, other: &Attributes) -> bool {
    let same = |((one_name, one), (other_name, other)): (&(String, Value), &(String, Value))| {
        one_name == other_name
            && match (one, other) {
                // Other texts are stored apart from the attribute, see `attribute_value`.
                (Value::Text(one), Value::Text(other)) => {
                    one == other || (one.is_ascii() && other.is_ascii() && one.len() == other.len() && !one.is_empty())
                }
                (Value::F32(one), Value::F32(other)) => one.len() == other.len(),
                (Value::F64(one), Value::F64(other)) => one.len() == other.len(),
                (Value::I32(one), Value::I32(other)) => one.len() == other.len(),
                _ => false,
            }
    };
    one.len() == other.len() && one.iter().zip(other).all(same)
}

/// Returns in what the second of two contents of the same form differs from the first.
fn differences<'a>(one: &GranuleContent, other: &'a GranuleContent) -> Vec<Difference<'a>> {
    let of = |variable: Option<&'a str>, one: &Attributes, other: &'a Attributes| {
        let pairs = one.iter().zip(other).filter(|(one, other)| !one.1.is_same(&other.1));
        let differences = pairs.map(|(_, (name, value))| Difference::Attribute(variable, name, value));
        differences.collect::<Vec<_>>()
    };
    let mut all = of(None, &one.attributes, &other.attributes);
    for (one, other) in one.variables.iter().zip(&other.variables) {
        all.extend(of(Some(&other.name), &one.attributes, &other.attributes));
        if let (Storage::Contiguous(one), Storage::Contiguous(values)) = (&one.storage, &other.storage)
            && !are_same(one, values)
        {
            all.push(Difference::Values(&other.name, values));
        }
    }
    all
}

/// Returns true if these are the same values to the bit. Static coordinates are the very same memory.
fn are_same(one: &Values, other: &Values) -> bool {
    match (one, other) {
        (Values::I8(one), Values::I8(other)) => Arc::ptr_eq(one, other) || one == other,
        (Values::I32(one), Values::I32(other)) => Arc::ptr_eq(one, other) || one == other,
        (Values::F32(one), Values::F32(other)) => {
            Arc::ptr_eq(one, other) || one.iter().map(|x| x.to_bits()).eq(other.iter().map(|x| x.to_bits()))
        }
        (Values::F64(one), Values::F64(other)) => {
            Arc::ptr_eq(one, other) || one.iter().map(|x| x.to_bits()).eq(other.iter().map(|x| x.to_bits()))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::codec::Codec;
    use crate::granule::content::{Chunk, Chunked, Type};
    use crate::granule::file::Writer;
    use std::fs;
    use std::path::Path;

    /// Returns the content of a granule with this number of global attributes. HDF5 stores more than eight in another way.
    fn content(date: &str, time: f64, attributes: usize) -> GranuleContent {
        let text = |text: &str| Value::Text(text.into());
        let mut global: Attributes =
            (0..attributes).map(|at| (format!("a{at}"), text(&format!("attribute {at}")))).collect();
        global.insert(attributes / 2, ("date_created".into(), text(date)));
        global.push(("summary".into(), text("not ASCII: é")));
        global.push(("extent".into(), Value::F64(vec![time, 2.0 * time])));
        let chunked = Chunked { shape: vec![1, 4], codec: Codec::PLAIN, chunks: None };
        let variable = |name: &str, dimensions: &[&str], fill, attributes: Attributes, storage| Variable {
            name: name.into(),
            dimensions: dimensions.iter().map(|name| (*name).into()).collect(),
            fill,
            attributes,
            storage,
        };
        GranuleContent {
            dimensions: vec![("time".into(), 1), ("x".into(), 4)],
            variables: vec![
                variable(
                    "time",
                    &["time"],
                    None,
                    vec![("first".into(), text(date))],
                    Storage::Contiguous(Values::F64(Arc::new([time]))),
                ),
                variable(
                    "x",
                    &["x"],
                    None,
                    vec![("n".into(), Value::I32(vec![4]))],
                    Storage::Contiguous(Values::I32(Arc::new([1, 2, 3, 4]))),
                ),
                variable(
                    "SSH",
                    &["time", "x"],
                    Some(9.0),
                    vec![("valid_min".into(), Value::F32(vec![f32::NAN]))],
                    Storage::Chunked(Type::F32, chunked),
                ),
            ],
            attributes: global,
        }
    }

    fn written(path: &Path, content: &GranuleContent, skeletons: &Skeletons) -> Vec<u8> {
        let _ = fs::remove_file(path);
        fs::File::create(path).unwrap();
        let mut writer = Writer::create_like(path, content, skeletons).unwrap();
        writer.write("SSH", &[Chunk { offset: vec![0, 0], bytes: vec![7; 16] }]).unwrap();
        writer.set("SSH", "valid_min", &Value::F32(vec![3.0])).unwrap();
        writer.close().unwrap();
        fs::read(path).unwrap()
    }

    #[test]
    fn copies_have_the_bytes_of_what_the_library_writes() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("granule.nc");
        for attributes in [3, 60] {
            let first = content("1992-01-16T00:00:00Z", 15.5, attributes);
            let second = content("1992-02-15T12:00:00Z", 45.0, attributes);
            let skeletons = Skeletons::default();
            let of_first = written(&path, &first, &skeletons);
            assert_eq!(skeletons.find(&second).unwrap().1.len(), 4, "two dates, an extent and the time");
            assert!(skeletons.find(&first).unwrap().1.is_empty());
            let copied = written(&path, &second, &skeletons);
            assert!(copied == written(&path, &second, &Skeletons::default()) && copied != of_first);
            assert!(of_first == written(&path, &first, &skeletons));
            assert_eq!(skeletons.0.lock().unwrap().len(), 1);
        }
    }

    #[test]
    fn contents_of_another_form_are_not_copied() {
        let skeletons = Skeletons::default();
        let first = content("1992-01-16", 15.5, 9);
        skeletons.keep(&first, vec![1]);
        let changes: [fn(&mut GranuleContent); 9] = [
            |content| content.attributes[4].1 = Value::Text("1992-01-16T00".into()),
            |content| content.attributes[4].1 = Value::Text("1992-01-1é".into()),
            |content| content.attributes[10].1 = Value::Text("not ASCII: è".into()),
            |content| content.attributes[11].1 = Value::F64(vec![1.0]),
            |content| content.attributes[0].0.push('b'),
            |content| content.variables[2].fill = None,
            |content| content.variables[1].attributes[0].1 = Value::F32(vec![4.0]),
            |content| content.variables[1].storage = Storage::Contiguous(Values::F32(Arc::new([1.0; 4]))),
            |content| drop(content.variables.pop()),
        ];
        for (number, change) in changes.iter().enumerate() {
            let mut other = first.clone();
            assert!(skeletons.find(&other).is_some());
            change(&mut other);
            assert!(skeletons.find(&other).is_none(), "change {number}");
        }
    }

    #[test]
    fn few_and_small_beginnings_are_kept() {
        let skeletons = Skeletons::default();
        let contents: Vec<GranuleContent> = (0..=KEPT).map(|attributes| content("d", 1.0, attributes)).collect();
        for content in &contents[..KEPT] {
            skeletons.keep(content, vec![1]);
            skeletons.keep(content, vec![2]);
        }
        assert_eq!(skeletons.find(&contents[0]).unwrap().0.bytes, [1], "the first one stays");
        skeletons.keep(&contents[KEPT], vec![1]);
        assert!(skeletons.find(&contents[0]).is_some(), "it was used last");
        assert!(skeletons.find(&contents[1]).is_none());
        skeletons.keep(&contents[1], vec![0; KEPT_BYTES]);
        assert_eq!(skeletons.0.lock().unwrap().len(), 1, "there is no room for others");
        skeletons.clear();
        assert!(skeletons.find(&contents[1]).is_none());
    }

    #[test]
    fn values_differ_by_their_bits() {
        let values = |value: f64| Values::F64(Arc::new([value]));
        assert!(are_same(&values(f64::NAN), &values(f64::NAN)));
        assert!(!are_same(&values(0.0), &values(-0.0)));
        assert!(!are_same(&values(0.0), &Values::F32(Arc::new([0.0]))));
    }
}
