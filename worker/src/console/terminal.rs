//! Output for people: notes, a progress bar, a table.

use super::pulse::ProgressThread;
use edp_production::ledger::RecipeState;
use edp_production::report::{GranuleEntry, Report};
use edp_program::telemetry::lines;
use edp_protocol::name::base_name;
use edp_protocol::text;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::collections::HashSet;
use std::io::{self, IsTerminal as _, Write as _};
use std::sync::{Mutex, PoisonError};

/// Writes one notice to standard error.
pub fn note(text: &str) {
    lines::write(text);
}

/// Writes the output of a command to standard output, made safe to show (see [`text::page`]): names and reasons from
/// outside go through [`text::line`] before they become parts of lines. It is not an error if the reader has gone (`|
/// head`).
///
/// # Errors
/// Returns an error if standard output cannot be written to for another reason, such as a full disk.
pub fn out(text: &str) -> io::Result<()> {
    print(&text::page(text))
}

/// Writes output as [`out`] does, in place of what is on the terminal.
///
/// # Errors
/// Returns the errors of [`out`].
pub fn out_anew(text: &str) -> io::Result<()> {
    // Clears the screen and moves the cursor to its beginning.
    print(&format!("\x1b[2J\x1b[H{}", text::page(text)))
}

/// Writes a report as JSON to standard output, with a line break at its end.
///
/// # Errors
/// Returns the errors of [`out`].
pub fn out_json(json: &str) -> io::Result<()> {
    print(&(text::json(json).into_owned() + "\n"))
}

/// Writes JSON for programs, such as a task list or a table, in which every value stays exactly the same.
///
/// # Errors
/// Returns the errors of [`out`].
pub fn out_data(json: &str) -> io::Result<()> {
    print(&text::data(json))
}

fn print(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => {
            Err(io::Error::new(e.kind(), format!("standard output cannot be written: {e}")))
        }
        _ => Ok(()),
    }
}

/// The progress of a command: a bar on standard error, if that is a terminal; otherwise a line from time to time.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
    _pulse: Option<ProgressThread>,
    said: Mutex<ShownWarnings>,
}

impl Progress {
    /// Starts to show the progress of this number of granules.
    pub fn new(granules: usize) -> Progress {
        let is_bar = io::stderr().is_terminal() && !lines::is_json();
        let target = if is_bar { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(Some(granules as u64), target);
        let template = "{bar:40} {pos}/{len} granules  {elapsed_precise}  {msg}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        let counts = bar.clone();
        let count = move || (counts.position(), counts.length().unwrap_or_default());
        let pulse = (!is_bar).then(|| ProgressThread::start(count, |line| note(&line)));
        Progress { bar, _pulse: pulse.flatten(), said: Mutex::default() }
    }

    /// Adds to the number of granules.
    pub fn more(&self, granules: usize) {
        self.bar.inc_length(granules as u64);
    }

    /// Counts one granule that is settled. A failure is reported at once, and a warning once for each dataset.
    pub fn ended(&self, entry: &GranuleEntry) {
        self.bar.inc(1);
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let new = entry.warnings.iter().filter(|warning| said.is_new(&entry.granule, warning));
        let mut lines: Vec<String> = new.map(|warning| format!("warning: {warning}")).collect();
        drop(said);
        let standing = entry.standing;
        if let (Some(reason), RecipeState::Held | RecipeState::Failed | RecipeState::Conflict) =
            (&entry.reason, standing.state)
        {
            lines.push(format!("{}: {reason}", standing.word()));
        }
        self.bar.suspend(|| lines.iter().for_each(|line| note(line)));
    }

    /// Removes the bar from the terminal.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
        let repeated = self.said.lock().unwrap_or_else(PoisonError::into_inner).repeated;
        if repeated > 0 {
            note(&format!("{repeated} warnings like these about other granules; the report has them all"));
        }
    }
}

/// Warnings that were shown. The granules of a dataset share most of theirs.
#[derive(Debug, Default)]
struct ShownWarnings {
    /// Dataset and the remaining text of each warning.
    texts: HashSet<(String, String)>,
    /// Number of warnings that were like an earlier one.
    repeated: usize,
}

impl ShownWarnings {
    /// Returns true if a warning about a granule is the first of its kind about its dataset, which is the granule's
    /// directory.
    fn is_new(&mut self, granule: &str, warning: &str) -> bool {
        let dataset = granule.strip_suffix(base_name(granule)).unwrap_or(granule);
        let new = self.texts.insert((dataset.to_owned(), warning.replace(granule, "")));
        self.repeated += usize::from(!new);
        new
    }
}

/// A bar that only counts, and that any thread may advance.
#[derive(Debug)]
pub struct Counter(Progress);

impl Counter {
    /// Makes a bar for this number of granules.
    pub fn new(granules: usize) -> Counter {
        Counter(Progress::new(granules))
    }

    /// Adds granules to those that are counted.
    pub fn more(&self, granules: usize) {
        self.0.more(granules);
    }

    /// Counts one more granule.
    pub fn advance(&self) {
        self.0.bar.inc(1);
    }

    /// Removes the bar from the terminal.
    pub fn finish(&self) {
        self.0.finish();
    }
}

/// Returns a table of the granules of a production, sorted by name.
pub fn table(report: &Report) -> String {
    let named = |entry: &'_ GranuleEntry| text::line(base_name(&entry.granule)).into_owned();
    let mut entries: Vec<(String, &GranuleEntry)> = report.entries.iter().map(|entry| (named(entry), entry)).collect();
    entries.sort_by(|(a, _), (b, _)| a.cmp(b));
    let width = entries.iter().map(|(name, _)| name.len()).max().unwrap_or(0).max("granule".len());
    let mut text = format!("{:<width$}  {:<8}  {:>9}  {:>7}\n", "granule", "state", "kB", "seconds");
    for (name, entry) in entries {
        let state = entry.standing.word();
        let kilobytes = entry.bytes as f64 / 1000.0;
        text += &format!("{name:<width$}  {state:<8}  {kilobytes:>9.1}  {:>7.3}\n", entry.seconds);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_is_shown_once_for_each_dataset() {
        let mut said = ShownWarnings::default();
        let mut shown = |granule: &str, text: &str| said.is_new(granule, &format!("{granule}: {text}"));
        assert!(shown("out/A/A_1992-01.nc", "THETA: no entry"));
        assert!(shown("out/A/A_1992-01.nc", "SALT: no entry"));
        assert!(!shown("out/A/A_1992-02.nc", "THETA: no entry"));
        assert!(shown("out/B/B_1992-01.nc", "THETA: no entry"));
        assert!(!shown("out/B/B_1992-02.nc", "THETA: no entry"));
        assert_eq!(said.repeated, 2);
    }
}
