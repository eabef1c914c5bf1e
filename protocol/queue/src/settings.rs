//! Section `queue` of the settings.

use crate::{Address, Secrets};
use serde::Deserialize;
use std::path::PathBuf;

edp_protocol::settings! {
    /// The settings of section `queue`.
    pub struct QueueSettings {
        /// Address of the broker. Special characters of a password are percent-encoded.
        pub url: Option<Address> = None,
            limits "`amqp://user:password@host:port/vhost` or `amqps://...`; not beside `queue.url_file`";
        /// File with the address instead. It is read at each connection.
        pub url_file: Option<PathBuf> = None;
        /// File with the password, not percent-encoded. It is read at each connection.
        pub password_file: Option<PathBuf> = None, limits "not beside `queue.password_command`";
        /// Program that prints the password, with its arguments. It is started at each connection, without a shell.
        #[serde(deserialize_with = "words")]
        pub password_command: Option<Vec<String>> = None,
            limits "a list of texts, or one text with blanks between the words";
        /// Time that the program waits for a broker, a queue, or room in the broker's memory before it ends with status
        /// 4.
        pub patience: u32 = 600, unit "s", range 1..=u32::MAX;
        /// Time without a sign of life after which a connection counts as lost. The broker may ask for less.
        pub heartbeat: u16 = 30, unit "s", range 1..=u16::MAX;
        /// Time that the broker may take to confirm a message, or to answer anything else.
        pub confirm: u32 = 30, unit "s", range 1..=u32::MAX;
        /// PEM file of the authorities to trust.
        pub ca: Option<PathBuf> = None, default "the system's authorities";
        /// PEM file of the program's own certificate, with its chain.
        pub certificate: Option<PathBuf> = None;
        /// PEM file of the key of this certificate.
        pub key: Option<PathBuf> = None;
        /// Number of recipes in the queue and with workers at the same time, or four for each announced job slot if that
        /// is more, but at most 20000.
        pub window: u32 = 1000, range 1..=u32::MAX;
    }
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
