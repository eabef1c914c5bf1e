//! The beginning of a program: its command line.

use super::{Ending, leave, note};
use crate::service::{making_process, processes};
use clap::Parser;
use edp_engine::own_process;
use edp_program::telemetry::{Format, lines};
use edp_protocol::message::chain;
use edp_protocol::text;

/// Parses the command line, runs the command, and ends the process.
pub fn main<C: Parser>(execute: impl FnOnce(C) -> anyhow::Result<Ending>) -> ! {
    // Errors before the settings are known are reported in the requested form too.
    let words: Vec<String> = std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect();
    if asks_for_json(&words, std::env::var("EDP_LOG_FORMAT").ok().as_deref()) {
        lines::set(Format::Json);
    }
    lines::take_panics();
    if words.len() == 2 && words[1] == processes::COMMAND {
        make_granules();
    }
    let cli = match C::try_parse() {
        Ok(cli) => cli,
        // help and version go to standard output
        Err(error) if error.use_stderr() && lines::is_json() => {
            note(error.to_string().trim_end());
            leave(Ending::Usage)
        }
        // arguments that a script has passed on may come from outside
        Err(error) if error.use_stderr() && words.iter().any(|word| word.contains(text::is_unsafe)) => {
            lines::write_all(&error.to_string());
            leave(Ending::Usage)
        }
        Err(error) => error.exit(),
    };
    edp_engine::libraries::silence_hdf5();
    let ending = execute(cli).unwrap_or_else(|error| {
        lines::write_all(&format!("error: {}", chain(&*error)));
        Ending::of(&error)
    });
    leave(ending)
}

/// Makes granules for the worker that has started this process, and ends it.
fn make_granules() -> ! {
    edp_engine::libraries::silence_hdf5();
    let Some(socket) = own_process::inherited() else {
        note(&format!("error: {} is started by this program itself, to make granules", processes::COMMAND));
        leave(Ending::Usage)
    };
    leave(making_process::serve(&socket).map_or_else(
        |error| {
            lines::write_all(&format!("error: a process that makes granules: {}", chain(&*error)));
            Ending::of(&error)
        },
        |()| Ending::Done,
    ))
}

/// Returns true if the log is requested as JSON, by an option or else by an environment variable.
fn asks_for_json(words: &[String], variable: Option<&str>) -> bool {
    let is_json = |text: &str| text.eq_ignore_ascii_case("json");
    let option = words.iter().enumerate().find_map(|(at, word)| match word.strip_prefix("--log-format") {
        Some("") => words.get(at + 1).map(String::as_str),
        Some(rest) => rest.strip_prefix('='),
        None => None,
    });
    option.or(variable).is_some_and(is_json)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_of_lines_is_known_early() {
        let asks =
            |words: &str, variable| asks_for_json(&words.split(' ').map(str::to_owned).collect::<Vec<_>>(), variable);
        assert!(
            asks("run --log-format json t", None) && asks("run --log-format=JSON", None) && asks("run", Some("json"))
        );
        assert!(
            !asks("run --log-format human", Some("json")) && !asks("run t.json", None) && !asks("--log-format", None)
        );
    }
}
