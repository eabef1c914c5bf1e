//! Questions to the HTTP service of a program, as Prometheus and supervisors ask them.

use crate::until;
use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;

/// One value of `/metrics`.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Name of the metric.
    pub name: String,
    /// Names and values of its labels.
    pub labels: BTreeMap<String, String>,
    /// The value.
    pub value: f64,
}

/// The address of a program's HTTP service.
#[derive(Debug, Clone, Copy)]
pub struct HttpAddress(SocketAddr);

impl std::fmt::Display for HttpAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl HttpAddress {
    /// Waits until a program has said in its log on standard error where it listens.
    ///
    /// # Panics
    /// Panics if it does not say so in time.
    pub fn from_log(log: &Path) -> HttpAddress {
        let mut address = None;
        until("a program says where it listens", || {
            let text = std::fs::read_to_string(log).unwrap_or_default();
            let said =
                text.split_once("health and metrics at http://").and_then(|(_, rest)| rest.split_once("/healthz"));
            address = said.and_then(|(address, _)| address.parse().ok());
            address.is_some()
        });
        HttpAddress(address.expect("it was said"))
    }

    /// Asks for a page. Returns the status and the body, or `None` if nothing is answered.
    pub fn get(&self, path: &str) -> Option<(u16, String)> {
        let mut stream = TcpStream::connect(self.0).ok()?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", self.0).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
    }

    /// Asks for the health. Returns the status and the object.
    pub fn health(&self) -> Option<(u16, serde_json::Value)> {
        let (status, body) = self.get("/healthz")?;
        Some((status, serde_json::from_str(&body).ok()?))
    }

    /// Asks for the metrics; there are none if nothing is answered.
    pub fn metrics(&self) -> Vec<Sample> {
        let body = self.get("/metrics").map(|(_, body)| body).unwrap_or_default();
        body.lines().filter(|line| !line.starts_with('#')).filter_map(sample).collect()
    }

    /// Returns the sum over all values of a metric whose labels contain these.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let fits = |one: &Sample| {
            one.name == name && labels.iter().all(|(k, v)| one.labels.get(*k).is_some_and(|own| own == v))
        };
        self.metrics().iter().filter(|one| fits(one)).map(|one| one.value).sum()
    }
}

/// Parses a line. No label of ours has quotes, commas or spaces that would have to be told apart.
fn sample(line: &str) -> Option<Sample> {
    let (series, value) = line.rsplit_once(' ')?;
    let (name, labels) = series.strip_suffix('}').and_then(|series| series.split_once('{')).unwrap_or((series, ""));
    let labels = labels.split_terminator("\",").map(|pair| pair.split_once("=\""));
    let labels: Option<BTreeMap<String, String>> =
        labels.map(|pair| pair.map(|(k, v)| (k.to_owned(), v.trim_end_matches('"').to_owned()))).collect();
    Some(Sample { name: name.to_owned(), labels: labels?, value: value.parse().ok()? })
}
