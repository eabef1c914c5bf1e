//! Addresses and passwords from files and programs. They are read at each connection, since they may have been changed.

use super::{Address, AddressError};
use edp_files::regular;
use edp_protocol::text::NamedFile;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// Largest size of an address or a password, in bytes.
const MAX_BYTES: usize = 64 << 10;

/// Time that a program may take to print a password.
const DEADLINE: Duration = Duration::from_secs(20);

/// Interval of the checks whether a program that has closed its output has ended.
const LOOK: Duration = Duration::from_millis(10);

/// Sources of the broker's address and password other than the settings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Secrets {
    /// A file that contains the whole address.
    pub url_file: Option<PathBuf>,
    /// A file that contains the password.
    pub password_file: Option<PathBuf>,
    /// A program that prints the password, with its arguments; empty if there is none.
    pub password_command: Vec<String>,
}

/// The reason why an address or a password is not available. Nothing in it is secret.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// A file cannot be read.
    #[error("queue.{key}: {}: {source}", NamedFile(.path))]
    Read {
        /// Key of the setting.
        key: &'static str,
        /// Path of the file.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The content of a file or the output of a program is not a password.
    #[error("queue.{key}: {what}")]
    Content {
        /// Key of the setting.
        key: &'static str,
        /// Description of the problem.
        what: String,
    },
    /// The content of a file is not an address.
    #[error("queue.url_file: {}: {source}", NamedFile(.path))]
    Address {
        /// Path of the file.
        path: PathBuf,
        /// Description of the problem.
        source: AddressError,
    },
    /// A program gives no password. Its output is not repeated.
    #[error("queue.password_command: {program}: {what}")]
    Program {
        /// Name of the program, without its arguments.
        program: String,
        /// Description of the problem.
        what: String,
    },
}

impl Secrets {
    /// Returns true if there is nothing to read.
    pub fn is_empty(&self) -> bool {
        *self == Secrets::default()
    }

    /// Returns the address to connect to now, or `None` if there is none. Blocks until files are read and the program
    /// has ended.
    ///
    /// # Errors
    /// Returns an error if a file cannot be read or has no valid content, or if the program fails or takes too long.
    pub fn address(&self, named: Option<&Address>) -> Result<Option<Address>, SecretError> {
        let Some(address) = self.address_from_files(named)? else { return Ok(None) };
        if self.password_command.is_empty() {
            return Ok(Some(address));
        }
        let password = password("password_command", run(&self.password_command, DEADLINE)?)?;
        Ok(Some(address.with_password(password)))
    }

    /// Returns the address as [`Secrets::address`] does, but without running the program for the password, which may
    /// take some time.
    ///
    /// # Errors
    /// Returns an error if a file cannot be read or has no valid content.
    pub(crate) fn address_from_files(&self, named: Option<&Address>) -> Result<Option<Address>, SecretError> {
        let address = match &self.url_file {
            None => named.cloned(),
            Some(path) => {
                let text = text("url_file", read("url_file", path)?)?;
                Some(text.parse().map_err(|source| SecretError::Address { path: path.clone(), source })?)
            }
        };
        let (Some(address), Some(path)) = (&address, &self.password_file) else { return Ok(address) };
        Ok(Some(address.clone().with_password(password("password_file", read("password_file", path)?)?)))
    }
}

/// Reads a small regular file. A FIFO would give its bytes once, and block at the next connection.
fn read(key: &'static str, path: &Path) -> Result<Vec<u8>, SecretError> {
    regular::read(path, MAX_BYTES as u64).map_err(|source| {
        let source = match source.kind() {
            io::ErrorKind::InvalidInput => io::Error::other(format!(
                "{source}, and could not be read again at the next connection; use queue.password_command"
            )),
            _ => source,
        };
        SecretError::Read { key, path: path.into(), source }
    })
}

/// Decodes a text, without the line break that editors and programs put at its end.
fn text(key: &'static str, bytes: Vec<u8>) -> Result<String, SecretError> {
    let wrong = |what: &str| SecretError::Content { key, what: what.into() };
    if bytes.len() > MAX_BYTES {
        return Err(wrong(&format!("more than the {MAX_BYTES} bytes that it may have")));
    }
    let mut text = String::from_utf8(bytes).map_err(|_| wrong("it is no UTF-8 text"))?;
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    Ok(text)
}

fn password(key: &'static str, bytes: Vec<u8>) -> Result<String, SecretError> {
    let password = text(key, bytes)?;
    let wrong = |what: &str| Err(SecretError::Content { key, what: what.into() });
    match password {
        _ if password.is_empty() => wrong("the password is empty"),
        _ if password.contains(['\n', '\0']) => wrong("it is more than one line: write the password alone, as it is"),
        _ => Ok(password),
    }
}

/// Returns the output of a program that is started without a shell. Its standard input is empty, and its standard error
/// is dropped.
fn run(command: &[String], deadline: Duration) -> Result<Vec<u8>, SecretError> {
    let (program, arguments) = command.split_first().map_or(("", command), |(first, rest)| (first.as_str(), rest));
    let fail = |what: String| SecretError::Program { program: program.into(), what };
    let end = Instant::now() + deadline;
    let mut started = Command::new(program);
    started.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = KilledOnDrop(started.spawn().map_err(|error| match error.kind() {
        // A word without a slash that is not a program may be the password itself.
        io::ErrorKind::NotFound if !program.contains('/') => SecretError::Program {
            program: "its first word".into(),
            what: "there is no such program (the word is not shown: it may be a password)".into(),
        },
        _ => fail(format!("it cannot be started: {error}")),
    })?);
    let Some(output) = child.0.stdout.take() else { return Err(fail("it has no output".into())) };
    let (printed, all) = mpsc::channel();
    // It is read on a thread of its own, since another process that has the output, such as one that the program left
    // behind, may keep it open.
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let read = output.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes);
        let _ = printed.send(read.map(|_| bytes));
    });
    let late = || fail(format!("it did not end within {} s", deadline.as_secs_f32()));
    let bytes = match all.recv_timeout(deadline) {
        Ok(read) => read.map_err(|error| fail(format!("what it prints cannot be read: {error}")))?,
        Err(_) => return Err(late()),
    };
    if bytes.len() > MAX_BYTES {
        return Ok(bytes); // too long for a password, whatever the exit status: the output was closed before the program had written all of it
    }
    let status = loop {
        match child.0.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if Instant::now() >= end => return Err(late()),
            Ok(None) => std::thread::sleep(LOOK),
            Err(error) => return Err(fail(error.to_string())),
        }
    };
    if status.success() { Ok(bytes) } else { Err(fail(format!("it failed ({status}); start it by hand to see why"))) }
}

/// A process that is killed when this is dropped, unless it has ended.
struct KilledOnDrop(Child);

impl Drop for KilledOnDrop {
    fn drop(&mut self) {
        if !matches!(self.0.try_wait(), Ok(Some(_))) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::fs;

    fn command(script: &str) -> Vec<String> {
        ["sh", "-c", script].map(str::to_owned).to_vec()
    }

    fn given(secrets: &Secrets, named: &str) -> Result<Option<Address>, String> {
        secrets.address(named.parse().ok().as_ref()).map_err(|error| error.to_string())
    }

    fn password_of(secrets: &Secrets) -> String {
        let address = given(secrets, "amqp://u:other@h/v").unwrap().unwrap();
        address.uri().authority.userinfo.password.clone()
    }

    #[test]
    fn files_and_programs_are_read_at_each_call() {
        let directory = tempfile::tempdir().unwrap();
        let (url, file) = (directory.path().join("url"), directory.path().join("password"));
        let secrets = Secrets { password_file: Some(file.clone()), ..Secrets::default() };
        for (content, password) in [("s3cret\n", "s3cret"), ("p@s/s #%\r\n", "p@s/s #%"), (" blank ", " blank ")] {
            fs::write(&file, content).unwrap();
            assert_eq!(password_of(&secrets), password);
        }
        let secrets = Secrets { password_command: command("printf '%s\n' 'p@s/s'"), ..Secrets::default() };
        assert_eq!(password_of(&secrets), "p@s/s");
        fs::write(&url, "amqp://edp:s3cret@broker/v\n").unwrap();
        let secrets = Secrets { url_file: Some(url.clone()), ..Secrets::default() };
        assert_eq!(given(&secrets, "").unwrap().unwrap().to_string(), "amqp://edp@broker:5672/v");
        fs::write(&url, "amqp://edp:s3cret@other/v\n").unwrap();
        assert_eq!(given(&secrets, "").unwrap().unwrap().to_string(), "amqp://edp@other:5672/v");
        assert!(Secrets::default().is_empty() && given(&Secrets::default(), "").unwrap().is_none());
    }

    #[test]
    fn what_gives_no_password_is_named_and_not_shown() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str, content: &[u8]| {
            let path = directory.path().join(name);
            fs::write(&path, content).unwrap();
            Secrets { password_file: Some(path), ..Secrets::default() }
        };
        let program = |script: &str| Secrets { password_command: command(script), ..Secrets::default() };
        let url = directory.path().join("url");
        fs::write(&url, "amqp://u:s3cret/x@h").unwrap();
        let none = directory.path().join("none");
        let bare = Secrets { password_file: Some("s3cret-itself".into()), ..Secrets::default() };
        assert!(!given(&bare, "amqp://u@h").unwrap_err().contains("s3cret"));
        for (secrets, part) in [
            (file("two", b"s3cret\ntwo"), "more than one line"),
            (file("empty", b"\n"), "empty"),
            (file("latin", b"s3cret\xe9"), "UTF-8"),
            (file("huge", &[b'x'; MAX_BYTES + 1]), "larger than the"),
            (Secrets { password_file: Some(none), ..Secrets::default() }, "none"),
            (Secrets { password_file: Some(directory.path().into()), ..Secrets::default() }, "not a regular file"),
            (Secrets { url_file: Some(url), ..Secrets::default() }, "percent-encode"),
            (program("echo s3cret; echo s3cret >&2; exit 3"), "exit status: 3"),
            (program("while echo s3cret; do :; done"), "more than the"),
            (
                Secrets { password_command: vec!["/nowhere/pass".into(), "s3cret".into()], ..Secrets::default() },
                "/nowhere/pass",
            ),
            (Secrets { password_command: vec!["s3cret".into()], ..Secrets::default() }, "no such program"),
            (Secrets { url_file: Some("amqp://u:s3cret@h/v".into()), ..Secrets::default() }, "queue.url_file"),
        ] {
            let error = given(&secrets, "amqp://u@h").unwrap_err();
            assert!(error.contains(part), "{error}");
            assert!(!error.contains("s3cret") || secrets.password_file.is_some(), "{error}");
        }
    }

    #[test]
    fn a_program_that_does_not_end_is_ended() {
        let directory = tempfile::tempdir().unwrap();
        let pid = directory.path().join("pid");
        let script = format!("echo $$ > {0}.new; mv {0}.new {0}; exec sleep 600", pid.display());
        let error = run(&command(&script), Duration::from_secs(2)).unwrap_err().to_string();
        assert!(error.contains("did not end"), "{error}");
        let pid = fs::read_to_string(&pid).unwrap();
        assert!(!Path::new(&format!("/proc/{}", pid.trim())).exists());
        // a program that has printed everything, and runs on
        let error = run(&command("echo s3cret; exec >&-; exec sleep 600"), Duration::from_secs(1)).unwrap_err();
        assert!(error.to_string().contains("did not end"), "{error}");
    }
}
