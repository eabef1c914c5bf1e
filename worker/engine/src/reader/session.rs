//! A session with one file that is read by a helper process.

use super::helper::{Fault, Helper};
use super::outline::{Described, Outline};
use super::wire::{Answer, Ask, HelperRequest, MAX_VALUES};
use super::{HelperPool, ReadError};
use crate::codec::MOST_OF_ONE;
use crate::granule::inspected::{Inspected, InspectionDepth};
use edp_protocol::recipe::Recipe;
use std::fs::File;
use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

/// Longest time that a request may take, not counting the time for the size of the file.
const PATIENCE: Duration = Duration::from_secs(60);

/// Longest time that a file waits for a helper while others are read, which may be many and large.
const QUEUE: Duration = Duration::from_secs(30 * 60);

/// Processor time that a request may take. It is much less than its time, so that a file whose reading never ends can
/// be told from slow storage.
const WORK: Duration = Duration::from_secs(10);

/// Number of bytes of a file that even slow storage and a slow processor read in a second.
const RATE: u64 = 4 << 20;

/// Number of helpers that may be killed from outside while reading one file (by the kernel where memory runs out, by a
/// user with a signal) before the file is reported as damaged.
const TRIES: usize = 3;

/// The signals that the kernel sends because of what this process does with a file.
mod signal {
    pub(super) const BUS: i32 = rustix::process::Signal::BUS.as_raw();
    pub(super) const XCPU: i32 = rustix::process::Signal::XCPU.as_raw();
}

/// The signals that come from outside, with numbers that are the same on all systems: hang-up, interrupt, quit, kill,
/// termination.
const FROM_OUTSIDE: [i32; 5] = [1, 2, 3, 9, 15];

/// A file that is read by a helper process (see the [module](super)). The helper stays with it until the session is
/// dropped.
#[derive(Debug)]
pub struct ReaderSession {
    path: PathBuf,
    file: File,
    size: u64,
    reader: &'static HelperPool,
    helper: Option<Helper>,
    /// The thread for which the session has taken a helper from the pool.
    taken: Option<ThreadId>,
    /// True if the helper has served no other file.
    fresh: bool,
    /// True if the helper has received the file.
    begun: bool,
}

/// A type in which values are returned, whatever their type in the file: `f32` or `f64`.
pub trait Number: Copy + private::Sealed {
    #[doc(hidden)]
    const DOUBLE: bool;
    #[doc(hidden)]
    fn all(bytes: &[u8], into: &mut Vec<Self>);
}

mod private {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for f64 {}
}

impl Number for f32 {
    const DOUBLE: bool = false;

    fn all(bytes: &[u8], into: &mut Vec<f32>) {
        into.extend(bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)));
    }
}

impl Number for f64 {
    const DOUBLE: bool = true;

    fn all(bytes: &[u8], into: &mut Vec<f64>) {
        into.extend(bytes.as_chunks().0.iter().map(|bytes| f64::from_le_bytes(*bytes)));
    }
}

impl ReaderSession {
    /// Opens a session with the file at a path.
    ///
    /// # Errors
    /// Returns an error if the file cannot be opened or is not a regular file.
    pub fn open(path: &Path) -> Result<ReaderSession, ReadError> {
        ReaderSession::with(super::open(path)?, path)
    }

    /// Opens a session with an open file. The path is used in messages.
    ///
    /// # Errors
    /// Returns an error if the file is not a regular file.
    pub fn with(file: File, path: &Path) -> Result<ReaderSession, ReadError> {
        let metadata = file.metadata().map_err(|source| ReadError::Io { path: path.into(), source })?;
        if !metadata.is_file() {
            return Err(ReadError::NoFile { path: path.into() });
        }
        let (size, reader) = (metadata.len(), HelperPool::shared());
        Ok(ReaderSession {
            path: path.into(),
            file,
            size,
            reader,
            helper: None,
            taken: None,
            fresh: false,
            begun: false,
        })
    }

    /// Returns the path of the file, as used in messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the size of the file in bytes at the time when it was opened.
    pub fn size(&self) -> u64 {
        self.size
    }

    #[cfg(test)]
    pub(super) fn helper(&self) -> Option<&Helper> {
        self.helper.as_ref()
    }

    /// Identifies the granule in the file and checks whether it is complete; see [`crate::granule::inspect::look`].
    pub(crate) fn look(
        &mut self,
        recipe: Option<&Recipe>,
        depth: InspectionDepth,
        places: bool,
    ) -> Result<Inspected, ReadError> {
        let recipe = recipe.map(|recipe| Box::new(recipe.clone()));
        match self.ask(Ask::Look { recipe, depth, places }, 0)? {
            (Answer::Inspected(looked), _) => Ok(looked),
            _ => Err(self.nonsense()),
        }
    }

    /// Returns the variables of the file, in the order of the file.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read.
    pub fn variables(&mut self) -> Result<Vec<Described>, ReadError> {
        match self.ask(Ask::Describe, 0)? {
            (Answer::Described(variables), _) => Ok(variables),
            _ => Err(self.nonsense()),
        }
    }

    /// Returns the outline of the file: everything except the values.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn outline(&mut self) -> Result<Outline, ReadError> {
        match self.ask(Ask::Outline, 0)? {
            (Answer::Outlined(outline), _) => Ok(outline),
            _ => Err(self.nonsense()),
        }
    }

    /// Returns the values of a part of a variable: `count` values in each dimension from index `start` on, with the
    /// last dimension varying fastest.
    ///
    /// # Errors
    /// Returns an error if the values cannot be read, if the variable has fewer, or if there is not enough memory for
    /// them.
    pub fn values<T: Number>(
        &mut self,
        variable: &Described,
        start: &[usize],
        count: &[usize],
    ) -> Result<Vec<T>, ReadError> {
        let mut values = Vec::new();
        let bytes = self.check_size::<T>(variable, count)?;
        values.try_reserve_exact(bytes / size_of::<T>()).map_err(|_| {
            let why = format!("no memory for {bytes} bytes of {}", variable.name);
            self.unread(io::Error::new(io::ErrorKind::OutOfMemory, why))
        })?;
        self.each(variable, start, count, |some: &[T]| values.extend(some))?;
        Ok(values)
    }

    /// Passes the same values as [`ReaderSession::values`] to `take`, in pieces, so that they are never all in memory.
    ///
    /// # Errors
    /// Returns an error if the values cannot be read or if the variable has fewer.
    pub fn each<T: Number>(
        &mut self,
        variable: &Described,
        start: &[usize],
        count: &[usize],
        mut take: impl FnMut(&[T]),
    ) -> Result<(), ReadError> {
        self.check_size::<T>(variable, count)?;
        let mut some = Vec::new();
        for (start, count) in slabs(start, count, variable.chunk.as_deref(), MAX_VALUES / size_of::<T>()) {
            let expected = count.iter().product::<usize>() * size_of::<T>();
            let ask = Ask::Values { variable: variable.name.clone(), start, count, double: T::DOUBLE };
            match self.ask(ask, expected)? {
                (Answer::Values, bytes) if bytes.len() == expected => {
                    some.clear();
                    T::all(&bytes, &mut some);
                    take(&some);
                }
                _ => return Err(self.nonsense()),
            }
        }
        Ok(())
    }

    /// Returns the number of bytes that `count` values take, if the file can hold them: a false size in it must not
    /// make us allocate gigabytes.
    pub(crate) fn check_size<T>(&self, variable: &Described, count: &[usize]) -> Result<usize, ReadError> {
        let bytes = count.iter().try_fold(size_of::<T>(), |all, length| all.checked_mul(*length));
        match bytes {
            Some(bytes) if bytes <= MAX_VALUES || bytes as u64 / MOST_OF_ONE <= self.size => Ok(bytes),
            _ => {
                let (name, shape, size) = (&variable.name, variable.shape(), self.size);
                Err(self
                    .damaged(format!("{name} claims the shape {shape:?}, more than a file of {size} bytes can hold")))
            }
        }
    }

    /// Sends a request and returns the answer. If a helper that has served other files before fails at this file, the
    /// request is sent to a new helper.
    fn ask(&mut self, ask: Ask, values: usize) -> Result<(Answer, Vec<u8>), ReadError> {
        let of_size = Duration::from_secs((self.size + values as u64) / RATE);
        let (patience, work) = (PATIENCE + 2 * of_size, WORK + of_size);
        let request = HelperRequest { seconds: work.as_secs(), ask };
        let mut ended = 0;
        loop {
            let mut helper = match self.helper.take() {
                Some(helper) => helper,
                None => self.find_helper(Instant::now() + QUEUE)?,
            };
            let deadline = Instant::now() + patience;
            let file = (!self.begun).then_some(&self.file);
            let outcome = helper.ask(&request, file, values, deadline);
            self.begun = true;
            helper.served = true;
            let error = match outcome {
                Ok((Answer::Damaged(why), _)) => self.damaged(why),
                Ok((Answer::Unread(why), _)) => {
                    // The helper has not read the file, so it can be used again.
                    (self.helper, self.begun) = (Some(helper), false);
                    return Err(self.unread(io::Error::other(why)));
                }
                Ok(answer) => {
                    self.helper = Some(helper);
                    return Ok(answer);
                }
                Err(Fault::Deadline) => {
                    let why = format!("it was not read within {} s", patience.as_secs());
                    return Err(self.unread(io::Error::new(io::ErrorKind::TimedOut, why)));
                }
                Err(Fault::Nonsense(e)) => self.damaged(format!("reading it made the reader answer nonsense ({e})")),
                Err(Fault::Ended(status)) if status.signal().is_some_and(|number| FROM_OUTSIDE.contains(&number)) => {
                    ended += 1;
                    if ended < TRIES {
                        continue;
                    }
                    return Err(self.damaged(format!("its reader was ended each of {ended} times ({status})")));
                }
                Err(Fault::Ended(status)) => self.verdict(status, work),
            };
            if self.fresh {
                return Err(self.unless_changed(error));
            }
        }
    }

    fn find_helper(&mut self, deadline: Instant) -> Result<Helper, ReadError> {
        let thread = self.taken.unwrap_or_else(|| thread::current().id());
        let found = if self.taken.is_some() { self.reader.start() } else { self.reader.take(thread, deadline) };
        let helper = found.map_err(|source| self.unread(source))?;
        (self.taken, self.fresh, self.begun) = (Some(thread), !helper.served, false);
        Ok(helper)
    }

    /// Returns the error if the file still has the size that it had when it was opened; otherwise an error that says
    /// that it changed.
    fn unless_changed(&self, error: ReadError) -> ReadError {
        match self.file.metadata() {
            Ok(now) if now.len() == self.size => error,
            Ok(_) => self.unread(io::Error::other("its size changed while it was read")),
            Err(source) => self.unread(source),
        }
    }

    /// Returns the error for a helper that ended by itself.
    fn verdict(&self, status: ExitStatus, work: Duration) -> ReadError {
        match status.signal() {
            Some(signal::BUS) => self.unread(io::Error::other("the storage failed, or the file was made shorter")),
            Some(signal::XCPU) => {
                self.damaged(format!("reading it took more than {} s of processor time", work.as_secs()))
            }
            Some(_) => self.damaged(format!("reading it brought the reader down ({status})")),
            None => self.damaged(format!("reading it ended the reader ({status})")),
        }
    }

    fn damaged(&self, why: String) -> ReadError {
        ReadError::Damaged { path: self.path.clone(), why }
    }

    fn unread(&self, source: io::Error) -> ReadError {
        ReadError::Io { path: self.path.clone(), source }
    }

    fn nonsense(&self) -> ReadError {
        self.damaged("reading it made the reader answer something else than was asked".into())
    }
}

impl Drop for ReaderSession {
    fn drop(&mut self) {
        match (self.helper.take(), self.taken) {
            (Some(helper), Some(thread)) if helper.close() => self.reader.give_back(thread, helper),
            (_, Some(thread)) => self.reader.give_up(thread),
            (_, None) => {}
        }
    }
}

/// Divides a part of an array into slabs of at most `most` values each, in the order of the values. If possible, they
/// end where chunks end, which would otherwise be decompressed several times.
fn slabs(start: &[usize], count: &[usize], chunk: Option<&[usize]>, most: usize) -> Vec<(Vec<usize>, Vec<usize>)> {
    let inner = |axis: usize| count[axis + 1..].iter().try_fold(1_usize, |all, length| all.checked_mul(*length));
    let Some(axis) = (0..count.len()).find(|axis| inner(*axis).is_some_and(|inner| inner <= most)) else {
        return vec![(Vec::new(), Vec::new())]; // a single value
    };
    if count.contains(&0) {
        return Vec::new();
    }
    let mut step = (most / inner(axis).unwrap_or(most)).max(1);
    if let Some(chunk) = chunk.and_then(|chunk| chunk.get(axis).copied()).filter(|chunk| (1..step).contains(chunk)) {
        step -= step % chunk;
    }
    let outer: usize = count[..axis].iter().product();
    let mut slabs = Vec::new();
    for number in 0..outer {
        let (mut first, mut rest) = (start.to_vec(), number);
        for above in (0..axis).rev() {
            first[above] += rest % count[above];
            rest /= count[above];
        }
        for at in (0..count[axis]).step_by(step) {
            let (mut from, mut length) = (first.clone(), vec![1; axis]);
            from[axis] += at;
            length.push(step.min(count[axis] - at));
            length.extend(&count[axis + 1..]);
            slabs.push((from, length));
        }
    }
    slabs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slabs_are_the_whole_in_order_and_end_where_chunks_do() {
        assert_eq!(slabs(&[], &[], None, 9), [(vec![], vec![])]);
        assert_eq!(slabs(&[0, 0], &[4, 0], None, 9), []);
        assert_eq!(slabs(&[1, 2], &[2, 3], None, 9), [(vec![1, 2], vec![2, 3])]);
        let two = slabs(&[0, 0], &[7, 3], Some(&[2, 3]), 15); // five rows fit, four are whole chunks
        assert_eq!(two, [(vec![0, 0], vec![4, 3]), (vec![4, 0], vec![3, 3])]);
        for (count, most) in [([2, 3, 5], 1), ([2, 3, 5], 4), ([2, 3, 5], 5), ([2, 3, 5], 29), ([1, 1, 9], 2)] {
            let mut seen = Vec::new();
            for (start, length) in slabs(&[0; 3], &count, None, most) {
                assert!(length.iter().product::<usize>() <= most);
                for at in 0..length.iter().product() {
                    let [k, j, i] = [at / (length[1] * length[2]), at / length[2] % length[1], at % length[2]];
                    seen.push(((start[0] + k) * count[1] + start[1] + j) * count[2] + start[2] + i);
                }
            }
            assert_eq!(seen, (0..count.iter().product()).collect::<Vec<_>>(), "{count:?} {most}");
        }
    }
}
