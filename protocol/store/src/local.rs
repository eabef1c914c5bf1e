//! Listing of directories of this machine.

use edp_files::{at_once, regular};
use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Number of times that one directory is listed if several links lead to it. Links that lead to each other could
/// otherwise make the listing endless.
const VISITS: u32 = 8;

/// Number of directories of one level that are listed at once, and of files that are inspected at once. Both wait for
/// servers of a parallel file system, which keeps names and sizes in different places, and hardly for the processor.
const DIRECTORIES_AT_ONCE: usize = 8;
const FILES_AT_ONCE: usize = 16;

/// Size in bytes and time of the last modification of a file.
type FileState = io::Result<(u64, SystemTime)>;

/// A file found by [`list`].
#[derive(Debug)]
pub struct ListedFile<'a> {
    /// Path below the root, with `/` between its parts.
    pub path: &'a str,
    /// The same path with the root before it, for the operating system.
    file: &'a Path,
    /// The state of the file, if it was wanted.
    state: Option<FileState>,
}

impl ListedFile<'_> {
    /// Returns size in bytes and time of the last modification; for a link, those of its target. They are known already
    /// for files that were wanted; for others this takes a system call.
    ///
    /// # Errors
    /// Returns an error if the file has vanished or cannot be inspected.
    pub fn version(self) -> io::Result<(u64, SystemTime)> {
        self.state.unwrap_or_else(|| state(self.file))
    }

    /// The last part of the path.
    pub fn name(&self) -> &str {
        edp_protocol::name::base_name(self.path)
    }

    /// The path without its last part and the slash before that. It is empty for files in the root itself.
    pub fn directory(&self) -> &str {
        self.path.rsplit_once('/').map_or("", |(directory, _)| directory)
    }
}

/// An entry below the root that could not be listed. The listing went on without it.
#[derive(Debug, thiserror::Error)]
pub enum Skipped {
    /// A directory that cannot be listed, or an entry whose kind cannot be determined.
    #[error("{}: {source}; what is there was not seen", path.display())]
    Unreadable {
        /// Path of the directory or entry.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// A name that is not UTF-8 text, so that no task list can contain it.
    #[error("{}: the name is not UTF-8 text; rename it", .0.display())]
    NotUtf8(PathBuf),
    /// A link to a directory that contains the link.
    #[error("{}: the link leads back to a directory above it; not followed", .0.display())]
    Loop(PathBuf),
    /// A FIFO, a socket or a device. These are not read.
    #[error("{}: {source}; it was left out", path.display())]
    NoFile {
        /// Path of the entry.
        path: PathBuf,
        /// An error that says what it is.
        source: io::Error,
    },
    /// A directory to which many links lead.
    #[error("{}: the same directory was listed {VISITS} times under other names; not listed again", .0.display())]
    TooManyLinks(PathBuf),
}

/// One directory on the way down.
struct DirectoryLevel {
    /// Device and inode, which identify the directory whatever name has led to it.
    identity: (u64, u64),
    /// Entries that are not visited yet, the last name first.
    entries: Vec<DirectoryEntry>,
    /// Length of the directory's path below the root.
    length: usize,
}

/// An entry of a directory.
struct DirectoryEntry {
    name: String,
    /// The kind of the entry itself, not of a link's target.
    kind: fs::FileType,
    /// The state of a file that is wanted.
    state: Option<FileState>,
    /// The listing of a directory that was listed together with others.
    listing: Option<io::Result<DirectoryListing>>,
}

/// The entries of a directory, the last name first, and what could not be listed.
#[derive(Default)]
struct DirectoryListing {
    entries: Vec<DirectoryEntry>,
    skipped: Vec<Skipped>,
}

/// Visits all files below a directory in the order of their names, and follows links to files and directories. Several
/// directories are listed at once, and several of the files that are `wanted`, by their path below the root, are
/// inspected at once: each of them once, in whichever order. Returns the entries that could not be listed, in the order in
/// which they were met.
///
/// # Errors
/// Returns an error if the root itself cannot be listed.
pub fn list(
    root: &Path,
    wanted: impl Fn(&str) -> bool + Sync,
    mut visit: impl FnMut(ListedFile<'_>),
) -> io::Result<Vec<Skipped>> {
    let mut skipped = Vec::new();
    let mut visits = HashMap::new();
    let mut below = String::new();
    let identity = identity(&fs::metadata(root)?);
    let mut listing = one_listing(root, "", &wanted)?;
    skipped.append(&mut listing.skipped);
    let mut levels = vec![DirectoryLevel { identity, entries: listing.entries, length: 0 }];
    while let Some(level) = levels.last_mut() {
        below.truncate(level.length);
        let Some(mut entry) = level.entries.pop() else {
            levels.pop();
            continue;
        };
        if entry.kind.is_dir() && entry.listing.is_none() {
            list_ahead(root, &below, &mut entry, &mut level.entries, &wanted);
        }
        if !below.is_empty() {
            below.push('/');
        }
        below.push_str(&entry.name);
        let full = root.join(&below);
        if entry.kind.is_file() {
            visit(ListedFile { path: &below, file: &full, state: entry.state });
            continue;
        }
        let found = match fs::metadata(&full) {
            Ok(found) => found,
            Err(source) => {
                skipped.push(Skipped::Unreadable { path: full, source });
                continue;
            }
        };
        if found.is_file() {
            let state = found.modified().map(|modified| (found.len(), modified));
            visit(ListedFile { path: &below, file: &full, state: Some(state) });
        } else if found.is_dir() {
            let identity = self::identity(&found);
            let seen: &mut u32 = visits.entry(identity).or_default();
            if levels.iter().any(|above| above.identity == identity) {
                skipped.push(Skipped::Loop(full));
            } else if *seen == VISITS {
                skipped.push(Skipped::TooManyLinks(full));
            } else {
                *seen += 1;
                match entry.listing.unwrap_or_else(|| one_listing(&full, &below, &wanted)) {
                    Ok(mut listing) => {
                        skipped.append(&mut listing.skipped);
                        levels.push(DirectoryLevel { identity, entries: listing.entries, length: below.len() });
                    }
                    Err(source) => skipped.push(Skipped::Unreadable { path: full, source }),
                }
            }
        } else if let Err(source) = regular::check(&found) {
            skipped.push(Skipped::NoFile { path: full, source });
        }
    }
    Ok(skipped)
}

fn identity(metadata: &fs::Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

fn state(file: &Path) -> FileState {
    let found = fs::metadata(file)?;
    Ok((found.len(), found.modified()?))
}

/// Lists a directory that is about to be visited, and at the same time those that come next after it.
fn list_ahead(
    root: &Path,
    below: &str,
    entry: &mut DirectoryEntry,
    others: &mut [DirectoryEntry],
    wanted: &(impl Fn(&str) -> bool + Sync),
) {
    let is_next = |other: &&mut DirectoryEntry| other.kind.is_dir() && other.listing.is_none();
    let next = others.iter_mut().rev().filter(is_next).take(DIRECTORIES_AT_ONCE - 1);
    let entries: Vec<&mut DirectoryEntry> = std::iter::once(entry).chain(next).collect();
    let path = |entry: &&mut DirectoryEntry| match below {
        "" => entry.name.clone(),
        below => format!("{below}/{}", entry.name),
    };
    let paths: Vec<String> = entries.iter().map(path).collect();
    let at: Vec<(PathBuf, &str)> = paths.iter().map(|path| (root.join(path), path.as_str())).collect();
    for (entry, listing) in entries.into_iter().zip(listings(&at, wanted)) {
        entry.listing = Some(listing);
    }
}

fn one_listing(directory: &Path, below: &str, wanted: &(impl Fn(&str) -> bool + Sync)) -> io::Result<DirectoryListing> {
    listings(&[(directory.to_owned(), below)], wanted).pop().unwrap_or_else(|| Ok(DirectoryListing::default()))
}

/// Lists directories, given by their paths and their paths below the root, and inspects the files in them that are
/// wanted.
fn listings(
    directories: &[(PathBuf, &str)],
    wanted: &(impl Fn(&str) -> bool + Sync),
) -> Vec<io::Result<DirectoryListing>> {
    let mut listings = at_once::map(directories, DIRECTORIES_AT_ONCE, |(path, _)| entries(path));
    let files: Vec<(usize, usize)> = listings
        .iter()
        .enumerate()
        .flat_map(|(at, listing)| {
            (0..listing.as_ref().map_or(0, |found| found.entries.len())).map(move |entry| (at, entry))
        })
        .collect();
    let look = |&(at, entry): &(usize, usize)| {
        let ((directory, below), entry) = (&directories[at], &listings[at].as_ref().ok()?.entries[entry]);
        let is_wanted = entry.kind.is_file()
            && match *below {
                "" => wanted(&entry.name),
                below => wanted(&format!("{below}/{}", entry.name)),
            };
        is_wanted.then(|| state(&directory.join(&entry.name)))
    };
    let states = at_once::map(&files, FILES_AT_ONCE, look);
    for ((at, entry), state) in files.into_iter().zip(states) {
        if let Ok(listing) = &mut listings[at] {
            listing.entries[entry].state = state;
        }
    }
    listings
}

/// Returns the entries of a directory.
fn entries(directory: &Path) -> io::Result<DirectoryListing> {
    let DirectoryListing { mut entries, mut skipped } = DirectoryListing::default();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        match (entry.file_name().into_string(), entry.file_type()) {
            (Ok(name), Ok(kind)) => entries.push(DirectoryEntry { name, kind, state: None, listing: None }),
            (Err(_), _) => skipped.push(Skipped::NotUtf8(entry.path())),
            (_, Err(source)) => skipped.push(Skipped::Unreadable { path: entry.path(), source }),
        }
    }
    entries.sort_unstable_by(|a, b| b.name.cmp(&a.name));
    Ok(DirectoryListing { entries, skipped })
}

#[cfg(test)]
mod list_tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::symlink;

    fn tree(files: &[(&str, usize)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, size) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, vec![0; *size]).unwrap();
        }
        root
    }

    fn listed(root: &Path) -> (Vec<String>, Vec<Skipped>) {
        let mut paths = Vec::new();
        let skipped = list(root, |_| true, |entry| paths.push(entry.path.to_owned())).unwrap();
        (paths, skipped)
    }

    #[test]
    fn files_come_in_the_order_of_names_with_their_parts() {
        let root = tree(&[("b/c/x", 3), ("b/a", 2), ("z", 1), ("a", 0)]);
        let mut seen = Vec::new();
        let skipped = list(
            root.path(),
            |path| path != "b/a",
            |entry| {
                assert_eq!(entry.state.is_some(), entry.path != "b/a", "{}", entry.path);
                let [path, directory, name] = [entry.path, entry.directory(), entry.name()].map(str::to_owned);
                seen.push((path, directory, name, entry.version().unwrap().0));
            },
        );
        assert!(skipped.unwrap().is_empty());
        let want = [("a", "", "a", 0), ("b/a", "b", "a", 2), ("b/c/x", "b/c", "x", 3), ("z", "", "z", 1)];
        assert_eq!(seen, want.map(|(path, directory, name, size)| (path.into(), directory.into(), name.into(), size)));
    }

    #[test]
    fn many_directories_are_listed_at_once_and_come_in_order() {
        let paths: Vec<String> = (0..40).flat_map(|i| (0..5).map(move |j| format!("{i:02}/x/{j}"))).collect();
        let files: Vec<(&str, usize)> = paths.iter().map(String::as_str).zip(0..).collect();
        let root = tree(&files);
        let mut seen = Vec::new();
        list(root.path(), |_| true, |entry| seen.push((entry.path.to_owned(), entry.version().unwrap().0))).unwrap();
        let want: Vec<(String, u64)> = paths.iter().cloned().zip(0..).collect();
        assert_eq!(seen, want);
    }

    #[test]
    fn links_to_files_and_directories_are_followed() {
        let other = tree(&[("d/x", 5)]);
        let root = tree(&[("a", 1)]);
        symlink(other.path().join("d"), root.path().join("link")).unwrap();
        symlink(other.path().join("d/x"), root.path().join("y")).unwrap();
        let mut seen = Vec::new();
        list(root.path(), |_| true, |entry| seen.push((entry.path.to_owned(), entry.version().unwrap().0))).unwrap();
        assert_eq!(seen, [("a".into(), 1), ("link/x".into(), 5), ("y".into(), 5)]);
    }

    #[test]
    fn loops_end() {
        let root = tree(&[("a/x", 1)]);
        symlink(root.path(), root.path().join("a/up")).unwrap();
        symlink("self", root.path().join("self")).unwrap();
        let (paths, skipped) = listed(root.path());
        assert_eq!(paths, ["a/x"]);
        assert!(matches!(&skipped[0], Skipped::Loop(path) if path.ends_with("a/up")), "{skipped:?}");
        assert!(matches!(&skipped[1], Skipped::Unreadable { path, .. } if path.ends_with("self")), "{skipped:?}");
    }

    #[test]
    fn a_knot_of_links_ends_soon() {
        let names: Vec<_> = (0..12).map(|i| format!("d{i:02}")).collect();
        let root = tree(&[]);
        for name in &names {
            fs::create_dir(root.path().join(name)).unwrap();
        }
        for from in &names {
            for to in &names {
                symlink(root.path().join(to), root.path().join(from).join(to)).unwrap();
            }
        }
        fs::write(root.path().join("d11/x"), "").unwrap();
        let (paths, _) = listed(root.path());
        assert_eq!(paths.len(), VISITS as usize);
    }

    #[test]
    fn what_cannot_be_listed_is_reported_and_the_rest_is_listed() {
        let root = tree(&[("a", 1), ("c", 1)]);
        symlink("nowhere", root.path().join("b")).unwrap();
        fs::write(root.path().join(std::ffi::OsStr::from_bytes(b"bad\xff")), "").unwrap();
        let (paths, skipped) = listed(root.path());
        assert_eq!(paths, ["a", "c"]);
        assert_eq!(skipped.len(), 2);
        assert!(skipped.iter().any(|s| s.to_string().contains("not UTF-8")));
        assert!(skipped.iter().any(|s| s.to_string().contains("b: ")));
    }

    #[test]
    fn a_root_that_is_not_there_is_an_error() {
        let root = tree(&[("file", 1)]);
        assert!(list(&root.path().join("none"), |_| true, |_| ()).is_err());
        assert!(list(&root.path().join("file"), |_| true, |_| ()).is_err());
    }
}
