//! Section `queue` of the settings.

use crate::{Address, Secrets};
use serde::Deserialize;
use std::path::PathBuf;

/// The settings in section `queue`. All times are in seconds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct QueueSettings {
    /// Address of the broker: `amqp://user:password@host:port/vhost`, or `amqps://`.
    pub url: Option<Address>,
    /// A file that contains the address instead, read at each connection.
    pub url_file: Option<PathBuf>,
    /// A file that contains the password, read at each connection.
    pub password_file: Option<PathBuf>,
    /// A program that prints the password, with its arguments. It is started at each connection, without a shell.
    #[serde(deserialize_with = "words")]
    pub password_command: Option<Vec<String>>,
    /// Longest time without progress for which a broker is waited for, in seconds (default 600).
    pub patience: Option<u32>,
    /// Time in seconds after which a silent connection counts as lost (default 30).
    pub heartbeat: Option<u16>,
    /// Time in seconds that the broker may take to confirm or answer (default 30).
    pub confirm: Option<u32>,
    /// PEM file of the authorities to trust instead of those of the system.
    pub ca: Option<PathBuf>,
    /// PEM file of this program's certificate, with its chain.
    pub certificate: Option<PathBuf>,
    /// PEM file of the certificate's key.
    pub key: Option<PathBuf>,
    /// Number of recipes that may be in the queue and with workers at once (default 1000).
    pub window: Option<u32>,
}

impl QueueSettings {
    /// Sets the address that is given on the command line, which takes precedence over the settings.
    pub fn name(&mut self, option: Option<Address>) {
        if let Some(address) = option {
            self.url = Some(address);
            self.url_file = None;
        }
    }

    /// Returns the sources of address and password that are read at each connection.
    pub fn secrets(&self) -> Secrets {
        Secrets {
            url_file: self.url_file.clone(),
            password_file: self.password_file.clone(),
            password_command: self.password_command.clone().unwrap_or_default(),
        }
    }
}

/// Parses a program and its arguments: a list, or words separated by white space. No shell is involved.
fn words<'de, D: serde::Deserializer<'de>>(value: D) -> Result<Option<Vec<String>>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum CommandLine {
        Text(String),
        List(Vec<String>),
    }
    let words = match Option::<CommandLine>::deserialize(value) {
        Ok(None) => return Ok(None),
        Ok(Some(CommandLine::Text(text))) => text.split_whitespace().map(str::to_owned).collect(),
        Ok(Some(CommandLine::List(words))) => words,
        Err(_) => Vec::new(),
    };
    if words.first().is_none_or(String::is_empty) {
        let what = "write a program and its arguments, as a list of texts or with white space between them";
        return Err(serde::de::Error::custom(what));
    }
    Ok(Some(words))
}
