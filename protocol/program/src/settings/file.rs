//! Reading of the settings file, and checks of its owner.
//!
//! A file that the user has named is read regardless of its owner. A file that is found in the current directory is checked
//! first: in a directory that others can write to, anyone could put one there that sends data, and the credentials that
//! go with them, elsewhere.

use super::{MAX_FILE_BYTES, SettingsError};
use edp_files::regular;
use std::fs::{self, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

/// Reads a file that the user has named. Returns its text, with a warning if everybody may change it. It may come
/// through a pipe of a shell.
pub(super) fn read_named(path: &Path) -> Result<(String, Option<String>), SettingsError> {
    let read = regular::read_named(path, MAX_FILE_BYTES).and_then(text);
    let writable = fs::metadata(path).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o002 != 0);
    let warning = || format!("{}: may be changed by everybody: chmod o-w", path.display());
    Ok((read.map_err(|source| SettingsError::Read { path: path.into(), source })?, writable.then(warning)))
}

/// Reads the file that the user has not named. Returns `None` if it does not exist.
pub(super) fn read_found(path: &Path) -> Result<Option<String>, SettingsError> {
    let fail = |source| SettingsError::Read { path: path.into(), source };
    let file = match regular::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file.map_err(fail)?,
    };
    let user = rustix::process::geteuid().as_raw();
    // The owner of a link chooses what is read.
    let link = fs::symlink_metadata(path).map_err(fail)?;
    if let Some((why, remedy)) = distrust(&file.metadata().map_err(fail)?, &link, user) {
        return Err(SettingsError::Foreign { path: path.into(), why, remedy });
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(fail)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(fail(io::Error::other(format!("larger than the {MAX_FILE_BYTES} bytes that settings may have"))));
    }
    text(bytes).map(Some).map_err(fail)
}

fn text(bytes: Vec<u8>) -> io::Result<String> {
    String::from_utf8(bytes).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8 text"))
}

/// Returns the reason why a user must not trust a file, with advice. Returns `None` if the file and the link that leads
/// to it belong to the user or to root, and no other user may write to it.
fn distrust(file: &Metadata, link: &Metadata, user: u32) -> Option<(String, &'static str)> {
    let stranger = [link.uid(), file.uid()].into_iter().find(|owner| ![user, 0].contains(owner));
    if let Some(owner) = stranger {
        let what = if file.uid() == owner { "" } else { "is a link that " };
        return Some((format!("{what}belongs to another user (uid {owner})"), "make a copy of your own"));
    }
    let mode = file.permissions().mode() & 0o7777;
    (mode & 0o022 != 0).then(|| (format!("may be changed by others (mode {mode:04o})"), "chmod go-w"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::fs::Permissions;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_file_that_others_may_change_is_not_taken_unless_it_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("edp.toml");
        assert_eq!(read_found(&path).unwrap(), None);
        fs::write(&path, "log = 'info'").unwrap();
        for (mode, trusted, quiet) in [
            (0o600, true, true),
            (0o644, true, true),
            (0o664, false, true),
            (0o620, false, true),
            (0o646, false, false),
            (0o666, false, false),
        ] {
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            match read_found(&path) {
                Ok(text) => assert!(trusted && text.as_deref() == Some("log = 'info'"), "{mode:o}"),
                Err(error) => {
                    let error = error.to_string();
                    assert!(!trusted && error.contains("edp.toml") && error.contains("chmod go-w"), "{error}");
                    assert!(error.contains(&format!("{mode:04o}")) && error.contains("--settings"), "{error}");
                }
            }
            let (text, warning) = read_named(&path).unwrap();
            assert_eq!((text.as_str(), warning.is_none()), ("log = 'info'", quiet), "{mode:o}");
        }
    }

    #[test]
    fn a_file_or_link_of_another_user_is_not_taken() {
        let directory = tempfile::tempdir().unwrap();
        let [path, link] = ["file", "link"].map(|name| directory.path().join(name));
        fs::write(&path, "").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        symlink(&path, &link).unwrap();
        let own = fs::metadata(&path).unwrap();
        let (user, root) = (own.uid(), fs::metadata("/").unwrap());
        assert_eq!(distrust(&own, &own, user), None);
        assert_eq!(
            distrust(&own, &fs::symlink_metadata(&link).unwrap(), user),
            None,
            "links of one's own are followed"
        );
        if root.uid() == 0 {
            assert_eq!(distrust(&own, &root, user), None, "root may say what is read");
        }
        if user != 0 {
            assert!(distrust(&own, &own, user + 1).unwrap().0.contains("another user"));
        }
        // Only root can make files that belong to others.
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::lchown(&link, Some(65_534), None).unwrap();
            let theirs = fs::symlink_metadata(&link).unwrap();
            let (why, _) = distrust(&own, &theirs, user).unwrap();
            assert!(why.contains("is a link that belongs to another user (uid 65534)"), "{why}");
            assert!(read_found(&link).unwrap_err().to_string().contains("uid 65534"));
            std::os::unix::fs::lchown(&path, Some(65_534), None).unwrap();
            let error = read_found(&path).unwrap_err().to_string();
            assert!(error.contains("another user (uid 65534)") && error.contains("--settings"), "{error}");
            let theirs = fs::metadata(&path).unwrap();
            assert_eq!(distrust(&theirs, &theirs, 65_534), None, "their own");
            assert!(read_named(&path).is_ok());
        }
    }

    #[test]
    fn what_is_no_regular_file_is_refused_under_both_names() {
        let directory = tempfile::tempdir().unwrap();
        let pipe = directory.path().join("edp.toml");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        for error in [read_found(&pipe).unwrap_err(), read_named(&pipe).unwrap_err()] {
            assert!(error.to_string().contains("edp.toml: it is a FIFO"), "{error}");
        }
    }
}
