//! An account of AWS that moto makes up, in a process of its own, and the AWS command line.

use super::template::REGION;
use super::tools;
use edp_tests::{Started, expect, text};
use serde_json::Value;
use std::ffi::OsStr;
use std::fs::File;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// An account with nothing in it.
pub(crate) struct Account {
    tools: PathBuf,
    port: u16,
    directory: tempfile::TempDir,
    _server: Started,
}

impl Account {
    /// Starts moto; `None` where the tools are missing.
    pub(crate) fn start() -> Option<Account> {
        let (tools, directory) = (tools()?, tempfile::tempdir().unwrap());
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let log = File::create(directory.path().join("log")).unwrap();
        let mut moto = Command::new(tools.join("moto_server"));
        moto.args(["-H", "127.0.0.1", "-p", &port.to_string()]).current_dir(directory.path());
        moto.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let mut server = Started(moto.spawn().unwrap());
        edp_tests::until("moto answers", || {
            assert!(server.try_wait().unwrap().is_none(), "moto has ended: {}", directory.path().display());
            TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()
        });
        Some(Account { tools, port, directory, _server: server })
    }

    /// Returns the address of the account's services.
    pub(crate) fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Returns what programs of AWS and ours need in their environment.
    pub(crate) fn environment(&self) -> Vec<(String, String)> {
        let path = std::env::var("PATH").unwrap();
        let pairs = [
            ("AWS_ENDPOINT_URL", self.endpoint()),
            ("AWS_ACCESS_KEY_ID", "key".into()),
            ("AWS_SECRET_ACCESS_KEY", "secret".into()),
            ("AWS_REGION", REGION.into()),
            ("AWS_DEFAULT_REGION", REGION.into()),
            ("AWS_CONFIG_FILE", "/dev/null".into()),
            ("AWS_SHARED_CREDENTIALS_FILE", "/dev/null".into()),
            ("AWS_EC2_METADATA_DISABLED", "true".into()),
            ("AWS_MAX_ATTEMPTS", "2".into()),
            ("NO_PROXY", "127.0.0.1".into()),
            ("PATH", format!("{}:{path}", self.tools.display())),
        ];
        pairs.map(|(name, value)| (name.to_owned(), value)).into()
    }

    /// Returns the AWS command line with these words.
    pub(crate) fn aws<I: IntoIterator<Item: AsRef<OsStr>>>(&self, words: I) -> Command {
        let mut command = Command::new(self.tools.join("aws"));
        command.envs(self.environment()).args(words).args(["--output", "json"]).current_dir(self.directory.path());
        command
    }

    /// Returns what the AWS command line answers.
    pub(crate) fn answer<I: IntoIterator<Item: AsRef<OsStr>>>(&self, words: I) -> Value {
        let output = expect(&mut self.aws(words), 0);
        if output.stdout.iter().all(u8::is_ascii_whitespace) {
            return Value::Null;
        }
        serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}", text(&output)))
    }
}
