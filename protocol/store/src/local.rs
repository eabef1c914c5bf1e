//! Listing of directories of this machine.

use edp_files::regular;
use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Number of times that one directory is listed if several links lead to it. Links that lead to each other could
/// otherwise make the listing endless.
const VISITS: u32 = 8;

/// A file found by [`list`].
#[derive(Debug)]
pub struct ListedFile<'a> {
    /// Path below the root, with `/` between its parts.
    pub path: &'a str,
    /// The same path with the root before it, for the operating system.
    file: &'a Path,
}

impl ListedFile<'_> {
    /// Returns size in bytes and time of the last modification; for a link, those of its target. It is a separate call,
    /// since it takes one system call for each file.
    ///
    /// # Errors
    /// Returns an error if the file has vanished or cannot be inspected.
    pub fn version(&self) -> io::Result<(u64, SystemTime)> {
        let found = fs::metadata(self.file)?;
        Ok((found.len(), found.modified()?))
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
    names: Vec<(String, fs::FileType)>,
    /// Length of the directory's path below the root.
    length: usize,
}

/// Visits all files below a directory in the order of their names, and follows links to files and directories. Returns
/// the entries that could not be listed, in the order in which they were met.
///
/// # Errors
/// Returns an error if the root itself cannot be listed.
pub fn list(root: &Path, mut visit: impl FnMut(ListedFile<'_>)) -> io::Result<Vec<Skipped>> {
    let mut skipped = Vec::new();
    let mut visits = HashMap::new();
    let mut below = String::new();
    let identity = identity(&fs::metadata(root)?);
    let mut levels = vec![DirectoryLevel { identity, names: names(root, &mut skipped)?, length: 0 }];
    while let Some(level) = levels.last_mut() {
        below.truncate(level.length);
        let Some((name, kind)) = level.names.pop() else {
            levels.pop();
            continue;
        };
        if !below.is_empty() {
            below.push('/');
        }
        below.push_str(&name);
        let full = root.join(&below);
        if kind.is_file() {
            visit(ListedFile { path: &below, file: &full });
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
            visit(ListedFile { path: &below, file: &full });
        } else if found.is_dir() {
            let identity = self::identity(&found);
            let seen: &mut u32 = visits.entry(identity).or_default();
            if levels.iter().any(|above| above.identity == identity) {
                skipped.push(Skipped::Loop(full));
            } else if *seen == VISITS {
                skipped.push(Skipped::TooManyLinks(full));
            } else {
                *seen += 1;
                match names(&full, &mut skipped) {
                    Ok(names) => levels.push(DirectoryLevel { identity, names, length: below.len() }),
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

/// Returns names and kinds of a directory's entries, the last name first. The kind is that of the entry itself, not of
/// a link's target.
fn names(directory: &Path, skipped: &mut Vec<Skipped>) -> io::Result<Vec<(String, fs::FileType)>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        match (entry.file_name().into_string(), entry.file_type()) {
            (Ok(name), Ok(kind)) => names.push((name, kind)),
            (Err(_), _) => skipped.push(Skipped::NotUtf8(entry.path())),
            (_, Err(source)) => skipped.push(Skipped::Unreadable { path: entry.path(), source }),
        }
    }
    names.sort_unstable_by(|(a, _), (b, _)| b.cmp(a));
    Ok(names)
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
        let skipped = list(root, |entry| paths.push(entry.path.to_owned())).unwrap();
        (paths, skipped)
    }

    #[test]
    fn files_come_in_the_order_of_names_with_their_parts() {
        let root = tree(&[("b/c/x", 3), ("b/a", 2), ("z", 1), ("a", 0)]);
        let mut seen = Vec::new();
        let skipped = list(root.path(), |entry| {
            seen.push((
                entry.path.to_owned(),
                entry.directory().to_owned(),
                entry.name().to_owned(),
                entry.version().unwrap().0,
            ));
        });
        assert!(skipped.unwrap().is_empty());
        let want = [("a", "", "a", 0), ("b/a", "b", "a", 2), ("b/c/x", "b/c", "x", 3), ("z", "", "z", 1)];
        assert_eq!(seen, want.map(|(path, directory, name, size)| (path.into(), directory.into(), name.into(), size)));
    }

    #[test]
    fn links_to_files_and_directories_are_followed() {
        let other = tree(&[("d/x", 5)]);
        let root = tree(&[("a", 1)]);
        symlink(other.path().join("d"), root.path().join("link")).unwrap();
        symlink(other.path().join("d/x"), root.path().join("y")).unwrap();
        let mut seen = Vec::new();
        list(root.path(), |entry| seen.push((entry.path.to_owned(), entry.version().unwrap().0))).unwrap();
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
        assert!(list(&root.path().join("none"), |_| ()).is_err());
        assert!(list(&root.path().join("file"), |_| ()).is_err());
    }
}
