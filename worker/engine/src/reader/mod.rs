//! NetCDF files that may be damaged or hostile, read in a separate process.
//!
//! The netCDF and HDF5 libraries follow offsets and sizes of a file into memory: one flipped bit can crash the process
//! that reads it, or make it read and write where it should not. So existing granules, grid geometries and files to be
//! drawn are opened by a *helper process*: the program itself, started again with the hidden command [`COMMAND`]. If
//! the libraries crash it, that is a finding about the file, and costs nothing else.
//!
//! * The helper is started when it is first needed, and serves one file after the other. Another helper is started
//!   while all are busy, up to a small number, so that a file that takes long does not delay the others.
//! * It gets an open descriptor, never a path, and maps the file into memory. Before it reads its first file, it gives
//!   up all rights that it does not need (see `confine`): opening files, sockets, other processes, writing.
//! * Each request has a limit of processor time, and a deadline after which the helper is ended.
//! * A helper that died, or failed at a file, serves no other file. A file is reported as damaged only if a helper
//!   failed at it that had served no other file before: whatever one file has done to the memory of a helper never
//!   affects the next one.
//!
//! ```text
//!  program                                            helper process
//!    |-- request, descriptor of the file ------------->|  maps the file, and reads it with netCDF and HDF5
//!    |<------------------------- answer, plain values --|
//!    |-- close ---------------------------------------->|  releases the file, and waits for the next one
//! ```
//!
//! Every program that contains this crate can be started as a helper, also those of tests and benchmarks, and none
//! reads such files in its own process: see `entry`.

#[cfg(target_os = "linux")]
mod answers;
mod confine;
mod entry;
mod helper;
pub(crate) mod image;
pub(crate) mod open_file;
mod outline;
mod serve;
mod session;
mod wire;

pub use answers::examine;
pub use outline::{Described, Outline, OutlinedVariable, ValueKind};
pub use session::{Number, ReaderSession};

use edp_files::regular;
use helper::Helper;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

/// The hidden command of both programs that makes them a helper process.
pub(crate) const COMMAND: &str = "netcdf-reader";

/// The reason why a file could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The path leads to a directory, a pipe or a device. Opening it could block forever.
    #[error("{}: is not a regular file", .path.display())]
    NoFile {
        /// The path as it was given.
        path: PathBuf,
    },
    /// The file could not be read, and as far as can be seen, its content is not to blame: the storage or this machine
    /// failed.
    #[error("{}: cannot be read", .path.display())]
    Io {
        /// Path of the file.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The file is damaged, or is no NetCDF file.
    #[error("{}: cannot be read as NetCDF: {why}", .path.display())]
    Damaged {
        /// Path of the file.
        path: PathBuf,
        /// The error of the libraries, or the way in which the helper process ended.
        why: String,
    },
}

/// Opens a regular file for reading. It never blocks on a pipe or a device.
///
/// # Errors
/// Returns an error if the file cannot be opened or is not a regular file.
pub fn open(path: &Path) -> Result<File, ReadError> {
    let fail = |source| ReadError::Io { path: path.into(), source };
    regular::open(path).map_err(|error| match error.kind() {
        io::ErrorKind::InvalidInput => ReadError::NoFile { path: path.into() },
        _ => fail(error),
    })
}

/// The pool of the helper processes of a program.
#[derive(Debug, Default)]
pub(crate) struct HelperPool {
    helpers: Mutex<Helpers>,
    returned: Condvar,
}

#[derive(Debug, Default)]
struct Helpers {
    idle: Vec<Helper>,
    /// The threads that have taken the helpers that are busy, one entry for each helper.
    busy: Vec<ThreadId>,
}

impl Helpers {
    /// Removes a helper that a thread has taken from the busy ones.
    fn free(&mut self, thread: ThreadId) {
        if let Some(at) = self.busy.iter().position(|other| *other == thread) {
            self.busy.swap_remove(at);
        }
    }
}

static SHARED: OnceLock<HelperPool> = OnceLock::new();

impl HelperPool {
    /// Returns the pool of this process.
    pub(crate) fn shared() -> &'static HelperPool {
        SHARED.get_or_init(HelperPool::default)
    }

    /// Largest number of helpers, except for further ones of threads that have one already.
    fn most() -> usize {
        thread::available_parallelism().map_or(2, |cores| cores.get().clamp(2, 8))
    }

    /// Returns an idle helper or starts a new one, for a thread. While too many are busy, it waits until the deadline.
    /// A thread that has a helper already gets a further one at once: threads that read two files each would otherwise
    /// wait for each other.
    fn take(&self, thread: ThreadId, deadline: Instant) -> io::Result<Helper> {
        let mut helpers = self.lock();
        loop {
            if let Some(helper) = helpers.idle.pop() {
                helpers.busy.push(thread);
                return Ok(helper);
            }
            if helpers.busy.len() < HelperPool::most() || helpers.busy.contains(&thread) {
                helpers.busy.push(thread);
                drop(helpers);
                return self.start().inspect_err(|_| self.give_up(thread));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left == Duration::ZERO {
                return Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "all readers of NetCDF files were busy for too long",
                ));
            }
            helpers = self.returned.wait_timeout(helpers, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Starts a new helper in place of one that was taken and has ended.
    fn start(&self) -> io::Result<Helper> {
        let started = Helper::start();
        started.map_err(|e| io::Error::new(e.kind(), format!("the reader of NetCDF files cannot be started: {e}")))
    }

    /// Returns a helper to the pool, which the thread has taken. One that is not needed any more ends.
    fn give_back(&self, thread: ThreadId, helper: Helper) {
        let mut helpers = self.lock();
        helpers.free(thread);
        let surplus = match helpers.busy.len() + helpers.idle.len() < HelperPool::most() {
            true => {
                helpers.idle.push(helper);
                None
            }
            false => Some(helper),
        };
        self.returned.notify_one();
        drop(helpers);
        drop(surplus); // which may take a moment
    }

    /// Records that a helper that the thread has taken has ended.
    fn give_up(&self, thread: ThreadId) {
        self.lock().free(thread);
        self.returned.notify_one();
    }

    /// Locks the list. A panic elsewhere leaves the count and the list valid.
    fn lock(&self) -> MutexGuard<'_, Helpers> {
        self.helpers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;

    #[test]
    fn only_regular_files_are_opened_and_nothing_waits() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        for path in [pipe.as_path(), dir.path(), Path::new("/dev/null")] {
            let error = open(path).unwrap_err();
            assert_eq!(error.to_string(), format!("{}: is not a regular file", path.display()));
        }
        assert!(matches!(open(&dir.path().join("none")), Err(ReadError::Io { .. })));
    }

    /// Makes a file with `length` values of one variable `x`.
    fn file(dir: &Path, length: usize) -> PathBuf {
        let path = dir.join("values.nc");
        let mut file = crate::libraries::create(&path).unwrap();
        file.add_dimension("x", length).unwrap();
        let mut variable = file.add_variable::<f32>("x", &["x"]).unwrap();
        variable.put_values(&(0..length).map(|x| x as f32).collect::<Vec<_>>(), ..).unwrap();
        file.close().unwrap();
        path
    }

    #[test]
    fn a_file_is_described_and_read() {
        let dir = tempfile::tempdir().unwrap();
        let mut session = ReaderSession::open(&file(dir.path(), 1000)).unwrap();
        let variables = session.variables().unwrap();
        let [x] = &variables[..] else { panic!("{variables:?}") };
        assert_eq!((x.name.as_str(), x.shape()), ("x", vec![1000]));
        assert_eq!(session.values::<f64>(x, &[998], &[2]).unwrap(), [998.0, 999.0]);
        assert_eq!(session.values::<f32>(x, &[0], &[1000]).unwrap()[7], 7.0);
        let error = session.values::<f32>(x, &[999], &[2]).unwrap_err();
        assert!(matches!(error, ReadError::Damaged { .. }), "{error}");
        assert_eq!(session.values::<f32>(x, &[5], &[1]).unwrap(), [5.0]); // by another helper
    }

    #[test]
    fn threads_that_read_two_files_each_do_not_wait_for_each_other() {
        let dir = tempfile::tempdir().unwrap();
        let path = file(dir.path(), 10);
        let all_have_one = std::sync::Barrier::new(HelperPool::most());
        thread::scope(|scope| {
            for _ in 0..HelperPool::most() {
                scope.spawn(|| {
                    let mut first = ReaderSession::open(&path).unwrap();
                    first.variables().unwrap();
                    all_have_one.wait();
                    let mut second = ReaderSession::open(&path).unwrap();
                    assert_eq!(second.variables().unwrap(), first.variables().unwrap());
                });
            }
        });
    }

    #[test]
    fn a_helper_that_somebody_kills_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let mut session = ReaderSession::open(&file(dir.path(), 10)).unwrap();
        let variables = session.variables().unwrap();
        let first = session.helper().unwrap().process();
        rustix::process::kill_process(first, rustix::process::Signal::KILL).unwrap();
        assert_eq!(session.values::<f32>(&variables[0], &[3], &[1]).unwrap(), [3.0]);
        assert_ne!(session.helper().unwrap().process(), first);
    }

    #[test]
    fn a_helper_ends_with_the_program_that_started_it() {
        let mut helper = Helper::start().unwrap();
        assert_eq!(helper.abandon().and_then(|status| status.code()), Some(0));
    }

    #[test]
    fn a_file_that_is_made_shorter_meanwhile_is_not_called_damaged() {
        let dir = tempfile::tempdir().unwrap();
        let path = file(dir.path(), 100_000);
        let mut session = ReaderSession::open(&path).unwrap();
        let variables = session.variables().unwrap();
        File::options().write(true).open(&path).unwrap().set_len(0).unwrap();
        let error = session.values::<f32>(&variables[0], &[0], &[100_000]).unwrap_err();
        // A new helper finds an empty file, which would be damage if the file had been empty when it was opened.
        assert!(matches!(error, ReadError::Io { .. }), "{error}");
    }

    #[test]
    fn sizes_that_a_file_cannot_have_are_not_allocated() {
        let dir = tempfile::tempdir().unwrap();
        let mut session = ReaderSession::open(&file(dir.path(), 10)).unwrap();
        let mut variables = session.variables().unwrap();
        variables[0].dimensions[0].1 = 1 << 50;
        let error = session.values::<f32>(&variables[0], &[0], &[1 << 50]).unwrap_err();
        assert!(error.to_string().contains("more than a file of"), "{error}");
    }
}
