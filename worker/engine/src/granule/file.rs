//! Writing of granules: the netCDF library defines the file, and this module writes its chunks.

use super::chunks::{ChunkError, ChunkWriter};
use super::content::{Attributes, Chunk, GranuleContent, Storage, Type, Value, Values, Variable};
use super::skeletons::{self, Difference, Skeletons};
use crate::libraries;
use netcdf::{AttributeValue, FileMut};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

/// The reason why a file could not be written.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The netCDF library has returned an error.
    #[error("{path}: netCDF could not {action}: {source}")]
    Netcdf {
        /// Path of the file.
        path: PathBuf,
        /// The operation that has failed.
        action: String,
        /// The error of the library.
        source: netcdf::Error,
    },
    /// The operating system has returned an error.
    #[error("{path}: {source}")]
    Io {
        /// Path of the file.
        path: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// Chunks could not be written.
    #[error(transparent)]
    Chunk(#[from] ChunkError),
}

impl FileError {
    /// Returns true if the same may succeed later: if the storage layer of the libraries has failed, and the operating
    /// system gives no reason (if it does, the error is [`FileError::Io`]). The libraries return the same error for a
    /// disk that failed for a moment and for what they cannot do; trying again costs little and shows the difference.
    pub fn may_pass(&self) -> bool {
        /// Codes of the netCDF library for failures of HDF5 (`NC_EHDFERR` to `NC_EVARMETA`), of input and output
        /// (`NC_EIO`), and for lack of memory (`NC_ENOMEM`).
        const STORAGE: std::ops::RangeInclusive<i32> = -108..=-101;
        const IO: i32 = -68;
        const MEMORY: i32 = -61;
        match self {
            FileError::Netcdf { source: netcdf::Error::Netcdf(code), .. } => {
                // Positive codes are those of the operating system, but guessed: it is EACCES whatever HDF5 could not
                // create.
                *code > 0 || STORAGE.contains(code) || [IO, MEMORY].contains(code)
            }
            FileError::Netcdf { .. } => false,
            FileError::Io { .. } | FileError::Chunk(_) => true,
        }
    }
}

/// Writes a file: first everything except chunks, through the netCDF library, then chunks as they are made, then what
/// is known only after them. The order of everything is that of the calls and of the content, so that the same content
/// gives the same bytes. Any error leaves an incomplete file.
#[derive(Debug)]
pub struct Writer {
    path: PathBuf,
    /// Handle of the file itself, even if another file has its name by now.
    file: File,
    chunks: ChunkWriter,
    written: Written,
}

/// Offset and size in bytes of each chunk of each variable, in the order in which they were written.
pub(crate) type Written = BTreeMap<String, Vec<(Vec<u64>, u64)>>;

/// Generous upper limit of the size of definitions, attributes and coordinates, in bytes.
const FRAME: usize = 4 << 20;

impl Writer {
    /// Begins a file with all definitions, attributes and contiguous values of its content. The caller has created the
    /// file; it is empty, and `path` leads to it as long as the writer exists.
    ///
    /// # Errors
    /// Returns an error if the file is not empty, if a definition is refused, or if the disk is full or cannot be
    /// written to; in the last cases it is the error of the operating system.
    pub fn create(path: &Path, dataset: &GranuleContent) -> Result<Writer, FileError> {
        Writer::begin(path, dataset, None)
    }

    /// Does the same with a copy of a file that has begun in the same way, if there is one among `skeletons`, or else
    /// keeps the beginning of this one there. The bytes are those of [`Writer::create`].
    ///
    /// # Errors
    /// Returns the errors of [`Writer::create`].
    pub(crate) fn create_like(
        path: &Path,
        dataset: &GranuleContent,
        skeletons: &Skeletons,
    ) -> Result<Writer, FileError> {
        Writer::begin(path, dataset, Some(skeletons))
    }

    fn begin(path: &Path, dataset: &GranuleContent, skeletons: Option<&Skeletons>) -> Result<Writer, FileError> {
        libraries::silence_hdf5(); // in whatever thread this is called
        // A handle of our own gives the operating system's error if something is wrong; a create that fails inside the
        // netCDF library leaves HDF5 with a file that it cannot close.
        let fail = |source| FileError::Io { path: path.into(), source };
        let file = File::options().read(true).write(true).open(path).map_err(fail)?;
        if file.metadata().map_err(fail)?.len() > 0 {
            return Err(fail(std::io::ErrorKind::AlreadyExists.into()));
        }
        let begun = match skeletons {
            None => begin(path, dataset).and_then(|()| Ok(ChunkWriter::open(path)?)),
            Some(skeletons) => begin_like(path, &file, dataset, skeletons),
        };
        let chunks = begun.map_err(|error| explain(path, &file, error, FRAME))?;
        Ok(Writer { path: path.into(), file, chunks, written: Written::new() })
    }

    /// Writes chunks of a variable.
    ///
    /// # Errors
    /// Returns an error if the variable is not defined in this way, or if the disk is full; in that case it is the
    /// error of the operating system.
    pub fn write(&mut self, variable: &str, chunks: &[Chunk]) -> Result<(), FileError> {
        self.chunks.write(variable, chunks).map_err(|error| {
            let bytes: usize = chunks.iter().map(|chunk| chunk.bytes.len()).sum();
            explain(&self.path, &self.file, error.into(), bytes + FRAME)
        })?;
        let sizes = chunks.iter().map(|chunk| (chunk.offset.clone(), chunk.bytes.len() as u64));
        self.written.entry(variable.to_owned()).or_default().extend(sizes);
        Ok(())
    }

    /// Replaces the value of an attribute of a variable by another of the same type and size.
    ///
    /// # Errors
    /// Returns an error if there is no such attribute, or the value has another type or size.
    pub fn set(&mut self, variable: &str, attribute: &str, value: &Value) -> Result<(), FileError> {
        let set = self.chunks.set_attribute(Some(variable), attribute, value);
        set.map_err(|error| explain(&self.path, &self.file, error.into(), FRAME))
    }

    /// Removes an attribute of a variable.
    ///
    /// # Errors
    /// Returns an error if there is no such attribute.
    pub fn remove(&mut self, variable: &str, attribute: &str) -> Result<(), FileError> {
        let removed = self.chunks.remove_attribute(variable, attribute);
        removed.map_err(|error| explain(&self.path, &self.file, error.into(), FRAME))
    }

    /// Closes the file. Its bytes need not be on the disk when this returns; the caller has to sync it.
    ///
    /// # Errors
    /// Returns an error if anything could not be written.
    pub fn close(self) -> Result<Written, FileError> {
        let Writer { path, file, chunks, written } = self;
        chunks.close().map_err(|error| explain(&path, &file, error.into(), FRAME))?;
        Ok(written)
    }
}

/// Writes a whole file whose chunks are all made. The file appears under its name when it is complete.
///
/// # Errors
/// Returns the errors of [`Writer`], and an error if the file cannot be given its name.
pub fn write_whole(path: &Path, dataset: &GranuleContent) -> Result<(), FileError> {
    complete(path, |part| {
        let mut writer = Writer::create(part, dataset)?;
        for variable in &dataset.variables {
            if let Storage::Chunked(_, chunked) = &variable.storage {
                writer.write(&variable.name, chunked.chunks.as_deref().map_or(&[], Vec::as_slice))?;
            }
        }
        writer.close().map(drop)
    })
}

/// Lets `write` fill an empty file beside a path, and gives it this name when it is complete and synced; it is removed
/// if that fails. A file of this name is replaced.
///
/// # Errors
/// Returns the error of `write`, and an error if the file cannot be made or given its name.
pub(super) fn complete<T, E: From<FileError>>(path: &Path, write: impl FnOnce(&Path) -> Result<T, E>) -> Result<T, E> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let part = path.with_file_name(format!(".{name}.{}.part", std::process::id()));
    let fail = |source| FileError::Io { path: path.into(), source };
    let _ = std::fs::remove_file(&part); // of a process that had this number before
    let file = File::create_new(&part).map_err(fail)?;
    let written = write(&part).and_then(|written| {
        file.sync_all().and_then(|()| std::fs::rename(&part, path)).map_err(fail)?;
        Ok(written)
    });
    written.inspect_err(|_| {
        let _ = std::fs::remove_file(&part);
    })
}

/// Replaces an error of the libraries by that of the operating system, if there is one: the libraries say that they
/// could not write, but rarely why. Appending as many plain bytes to the file, which is not valid any more, shows the
/// reason if it lasts (no space, no more quota, a file system that has become read-only). If it does not last, the
/// error of the libraries is returned.
fn explain(path: &Path, mut file: &File, error: FileError, bytes: usize) -> FileError {
    let mut try_plainly = || {
        file.seek(SeekFrom::End(0))?;
        let block = vec![0; FRAME];
        let mut left = bytes;
        while left > 0 {
            file.write_all(&block[..left.min(FRAME)])?;
            left = left.saturating_sub(FRAME);
        }
        file.sync_all()
    };
    match error {
        FileError::Netcdf { .. } | FileError::Chunk(_) => match try_plainly() {
            Ok(()) => error,
            Err(source) => FileError::Io { path: path.into(), source },
        },
        error => error,
    }
}

/// Writes everything except chunks into an empty file: as a copy of another, or by the netCDF library.
fn begin_like(
    path: &Path,
    file: &File,
    dataset: &GranuleContent,
    skeletons: &Skeletons,
) -> Result<ChunkWriter, FileError> {
    let fail = |source| FileError::Io { path: path.into(), source };
    let Some((skeleton, differences)) = skeletons.find(dataset) else {
        begin(path, dataset)?;
        let size = file.metadata().map_err(fail)?.len();
        if size <= skeletons::LARGEST {
            let mut bytes = vec![0; size as usize];
            file.read_exact_at(&mut bytes, 0).map_err(fail)?;
            skeletons.keep(dataset, bytes);
        }
        return Ok(ChunkWriter::open(path)?);
    };
    let mut file = file;
    file.write_all(&skeleton.bytes).map_err(fail)?;
    let chunks = ChunkWriter::open(path)?;
    for difference in differences {
        match difference {
            Difference::Attribute(variable, name, value) => chunks.set_attribute(variable, name, value)?,
            Difference::Values(variable, values) => chunks.set_values(variable, values)?,
        }
    }
    Ok(chunks)
}

/// Writes everything except chunks into an empty file.
fn begin(path: &Path, dataset: &GranuleContent) -> Result<(), FileError> {
    let fail = |action: &str| {
        let action = action.to_owned();
        move |source| FileError::Netcdf { path: path.into(), action, source }
    };
    let mut file = libraries::create(path).map_err(fail("create the file"))?;
    for (name, length) in &dataset.dimensions {
        file.add_dimension(name, *length).map_err(fail(&format!("define dimension {name}")))?;
    }
    for variable in &dataset.variables {
        define(&mut file, variable).map_err(fail(&format!("define variable {}", variable.name)))?;
    }
    for (name, value) in &dataset.attributes {
        file.add_attribute(name, attribute_value(value)).map_err(fail(&format!("write global attribute {name}")))?;
    }
    for variable in &dataset.variables {
        if let Storage::Contiguous(values) = &variable.storage {
            put(&mut file, &variable.name, values).map_err(fail(&format!("write variable {}", variable.name)))?;
        }
    }
    file.close().map_err(fail("close the file"))
}

fn define(file: &mut FileMut, variable: &Variable) -> netcdf::Result<()> {
    let dimensions: Vec<&str> = variable.dimensions.iter().map(String::as_str).collect();
    let mut var = match variable.data_type() {
        Type::I8 => file.add_variable::<i8>(&variable.name, &dimensions)?,
        Type::I32 => file.add_variable::<i32>(&variable.name, &dimensions)?,
        Type::F32 => file.add_variable::<f32>(&variable.name, &dimensions)?,
        Type::F64 => file.add_variable::<f64>(&variable.name, &dimensions)?,
    };
    if let Storage::Chunked(_, chunked) = &variable.storage {
        var.set_chunking(&chunked.shape)?;
        chunked.codec.define(&mut var)?;
    }
    if let Some(fill) = variable.fill {
        match variable.data_type() {
            Type::I8 => var.set_fill_value(fill as i8)?,
            Type::I32 => var.set_fill_value(fill as i32)?,
            Type::F32 => var.set_fill_value(fill as f32)?,
            Type::F64 => var.set_fill_value(fill)?,
        }
    }
    for (name, value) in &variable.attributes {
        var.put_attribute(name, attribute_value(value))?;
    }
    Ok(())
}

fn put(file: &mut FileMut, name: &str, values: &Values) -> netcdf::Result<()> {
    let mut variable = file.variable_mut(name).ok_or_else(|| netcdf::Error::NotFound(name.into()))?;
    match values {
        Values::I8(values) => variable.put_values(values, ..),
        Values::I32(values) => variable.put_values(values, ..),
        Values::F32(values) => variable.put_values(values, ..),
        Values::F64(values) => variable.put_values(values, ..),
    }
}

/// Converts an attribute for the netCDF library. ASCII text becomes characters, other text a string (UTF-8). A single
/// number becomes a scalar. An empty text becomes one NUL character, since HDF5 readers differ on empty ones.
pub(super) fn attribute_value(value: &Value) -> AttributeValue {
    match value {
        Value::Text(text) if text.is_empty() => AttributeValue::Str("\0".into()),
        Value::Text(text) if text.is_ascii() => AttributeValue::Str(text.clone()),
        Value::Text(text) => AttributeValue::Strs(vec![text.clone()]),
        Value::F32(numbers) => match numbers[..] {
            [number] => AttributeValue::Float(number),
            _ => AttributeValue::Floats(numbers.clone()),
        },
        Value::F64(numbers) => match numbers[..] {
            [number] => AttributeValue::Double(number),
            _ => AttributeValue::Doubles(numbers.clone()),
        },
        Value::I32(numbers) => match numbers[..] {
            [number] => AttributeValue::Int(number),
            _ => AttributeValue::Ints(numbers.clone()),
        },
    }
}

/// Converts an attribute of a file; returns `None` for types that granules do not use.
pub(crate) fn attribute_from(value: AttributeValue) -> Option<Value> {
    Some(match value {
        AttributeValue::Str(text) => Value::Text(text.trim_end_matches('\0').to_owned()),
        AttributeValue::Strs(texts) => Value::Text(texts.into_iter().next()?),
        AttributeValue::Float(number) => Value::F32(vec![number]),
        AttributeValue::Floats(numbers) => Value::F32(numbers),
        AttributeValue::Double(number) => Value::F64(vec![number]),
        AttributeValue::Doubles(numbers) => Value::F64(numbers),
        AttributeValue::Int(number) => Value::I32(vec![number]),
        AttributeValue::Ints(numbers) => Value::I32(numbers),
        _ => return None,
    })
}

/// Returns the attributes of a variable in file order, without `_FillValue`.
pub(super) fn attributes_of<'a>(attributes: impl Iterator<Item = netcdf::Attribute<'a>>) -> netcdf::Result<Attributes> {
    let mut found = Vec::new();
    for attribute in attributes.filter(|attribute| attribute.name() != "_FillValue") {
        let name = attribute.name().to_owned();
        let value = attribute_from(attribute.value()?)
            .ok_or_else(|| netcdf::Error::Str(format!("attribute {name} has a type that granules do not use")))?;
        found.push((name, value));
    }
    Ok(found)
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::blocks::Block;
    use super::super::content::Chunked;
    use super::super::stages::Stages;
    use super::*;
    use crate::codec::{Codec, Compressor};

    /// Writes a file whose chunks all exist.
    pub(in super::super) fn write(path: &Path, dataset: &GranuleContent) -> Result<Written, FileError> {
        File::create_new(path).map_err(|source| FileError::Io { path: path.into(), source })?;
        let mut writer = Writer::create(path, dataset)?;
        for variable in &dataset.variables {
            if let Storage::Chunked(_, Chunked { chunks: Some(chunks), .. }) = &variable.storage {
                writer.write(&variable.name, chunks)?;
            }
        }
        writer.close()
    }

    /// Returns a small file with everything that granules use.
    pub(in super::super) fn sample() -> GranuleContent {
        let codec = Codec { compressor: Compressor::Deflate(5), shuffle: true };
        let field: Vec<f32> = (0..24).map(|i| if i % 5 == 0 { 9.96921e36 } else { i as f32 }).collect();
        let (shape, chunk) = (&[1, 4, 6], &[1, 3, 4]);
        let block = Block { values: &field, shape, origin: &[0; 3], chunk, pad: 9.96921e36 };
        let chunks = codec.encode(&block, || (), &Stages::begin()).unwrap();
        let chunked = Chunked { chunks: Some(chunks.into()), ..codec.chunked(vec![1, 3, 4]) };
        let range = ("actual_range".to_owned(), Value::F32(vec![1.0, 23.0]));
        let text = |name: &str, text: &str| (name.to_owned(), Value::from(text));
        GranuleContent {
            dimensions: vec![("time".into(), 1), ("y".into(), 4), ("x".into(), 6)],
            variables: vec![
                Variable {
                    name: "time".into(),
                    dimensions: vec!["time".into()],
                    fill: None,
                    attributes: vec![text("units", "hours since 1992-01-01T12:00:00"), text("comment", "")],
                    storage: Storage::Contiguous(Values::I32([366].into())),
                },
                Variable {
                    name: "SSH".into(),
                    dimensions: vec!["time".into(), "y".into(), "x".into()],
                    fill: Some(9.969_209_968_386_869e36),
                    attributes: vec![range, text("long_name", "sea’s surface")],
                    storage: Storage::Chunked(Type::F32, chunked),
                },
            ],
            attributes: vec![text("title", "sample"), ("geospatial_lat_min".into(), Value::from(-90.0))],
        }
    }

    #[test]
    fn readers_find_what_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.nc");
        write(&path, &sample()).unwrap();
        let file = netcdf::open(&path).unwrap();
        let ssh = file.variable("SSH").unwrap();
        let values: Vec<f32> = ssh.get_values(..).unwrap();
        for (i, value) in values.iter().enumerate() {
            assert_eq!(*value, if i % 5 == 0 { 9.96921e36 } else { i as f32 });
        }
        assert_eq!(ssh.fill_value::<f32>().unwrap(), Some(9.96921e36));
        assert_eq!(ssh.attributes().next().unwrap().name(), "_FillValue");
        assert_eq!(ssh.chunking().unwrap(), Some(vec![1, 3, 4]));
        for variable in &sample().variables {
            let found = file.variable(&variable.name).unwrap();
            assert_eq!(attributes_of(found.attributes()).unwrap(), variable.attributes);
        }
        let globals: Vec<_> = file.attributes().filter(|a| a.name() != "_NCProperties").collect();
        assert_eq!(attributes_of(globals.into_iter()).unwrap(), sample().attributes);
    }

    #[test]
    fn the_same_dataset_gives_the_same_bytes_whoever_writes_it() {
        let dir = tempfile::tempdir().unwrap();
        let written: Vec<Vec<u8>> = std::thread::scope(|scope| {
            let writer = |i: usize| {
                let path = dir.path().join(format!("{i}.nc"));
                scope.spawn(move || {
                    write(&path, &sample()).unwrap();
                    std::fs::read(path).unwrap()
                })
            };
            let threads: Vec<_> = (0..8).map(writer).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(written.windows(2).all(|pair| pair[0] == pair[1]));
    }

    #[test]
    fn attributes_that_come_late_leave_the_same_file() {
        let dir = tempfile::tempdir().unwrap();
        let (early, late) = (dir.path().join("early.nc"), dir.path().join("late.nc"));
        write(&early, &sample()).unwrap();
        let mut dataset = sample();
        dataset.variables[1].attributes[0].1 = Value::F32(vec![f32::NAN, f32::NAN]);
        File::create_new(&late).unwrap();
        let mut writer = Writer::create(&late, &dataset).unwrap();
        let Storage::Chunked(_, chunked) = &dataset.variables[1].storage else { unreachable!() };
        for chunk in chunked.chunks.as_ref().unwrap().iter() {
            writer.write("SSH", std::slice::from_ref(chunk)).unwrap();
        }
        writer.set("SSH", "actual_range", &sample().variables[1].attributes[0].1).unwrap();
        // also a value with as many bytes as two numbers of single precision
        let wrong = [Value::F32(vec![1.0]), Value::F64(vec![1.0, 2.0]), Value::F64(vec![1.0]), Value::I32(vec![1, 2])];
        for wrong in wrong.into_iter().chain([Value::from("x"), Value::from("8 bytes.")]) {
            assert!(writer.set("SSH", "actual_range", &wrong).is_err(), "{wrong:?}");
        }
        assert!(writer.set("SSH", "valid_range", &Value::F32(vec![1.0, 2.0])).is_err());
        drop(writer);
        assert!(std::fs::read(&early).unwrap() != std::fs::read(&late).unwrap(), "attempts to explain are in it");
        std::fs::remove_file(&late).unwrap();
        File::create_new(&late).unwrap();
        let mut writer = Writer::create(&late, &dataset).unwrap();
        writer.write("SSH", chunked.chunks.as_ref().unwrap()).unwrap();
        writer.set("SSH", "actual_range", &sample().variables[1].attributes[0].1).unwrap();
        writer.close().unwrap();
        assert!(std::fs::read(&early).unwrap() == std::fs::read(&late).unwrap());
        std::fs::remove_file(&late).unwrap();
        File::create_new(&late).unwrap();
        let mut writer = Writer::create(&late, &dataset).unwrap();
        writer.remove("SSH", "actual_range").unwrap();
        writer.close().unwrap();
        let file = netcdf::open(&late).unwrap();
        assert!(file.variable("SSH").unwrap().attribute("actual_range").is_none());
        assert!(file.variable("SSH").unwrap().attribute("long_name").is_some());
    }

    #[test]
    fn what_the_storage_layer_could_not_do_may_pass_and_what_is_wrong_does_not() {
        let error = |code| FileError::Netcdf {
            path: "a.nc".into(),
            action: "close the file".into(),
            source: netcdf::Error::Netcdf(code),
        };
        for code in [netcdf_sys::NC_EHDFERR, netcdf_sys::NC_ECANTWRITE, netcdf_sys::NC_EVARMETA, netcdf_sys::NC_EIO] {
            assert!(error(code).may_pass(), "{code}");
        }
        for code in
            [netcdf_sys::NC_EBADNAME, netcdf_sys::NC_ENAMEINUSE, netcdf_sys::NC_EBADTYPE, netcdf_sys::NC_ENOTNC4]
        {
            assert!(!error(code).may_pass(), "{code}");
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        let file = File::create_new(&path).unwrap();
        assert!(explain(&path, &file, error(13), FRAME).may_pass(), "a guess of the library");
        // an error that does not last is not explained, and no other file is written to
        std::fs::rename(&path, dir.path().join("moved")).unwrap();
        std::fs::write(&path, "another").unwrap();
        assert!(explain(&path, &file, error(netcdf_sys::NC_EHDFERR), FRAME).may_pass());
        assert_eq!(std::fs::read(&path).unwrap(), b"another");
        // the handle cannot be written through, which the operating system reports
        let file = File::open(&path).unwrap();
        let explained = explain(&path, &file, error(netcdf_sys::NC_EHDFERR), FRAME);
        assert!(matches!(explained, FileError::Io { .. }), "{explained}");
    }

    #[test]
    fn an_existing_file_is_never_written_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.nc");
        std::fs::write(&path, "precious").unwrap();
        assert!(write(&path, &sample()).is_err());
        assert!(Writer::create(&path, &sample()).is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"precious");
    }
}
