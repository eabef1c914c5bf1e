//! `edp-scale page DIRECTORY` brings the tables and plots of `scale.md` in a directory up to date; `edp-scale run` simulates
//! one production of Release 6 with other figures.

use edp_scale::{Costs, ListOrder, SimulatedProduction, filled, page, verification};
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

/// What is printed if the arguments are wrong.
const USAGE: &str = "usage: edp-scale page DIRECTORY
       edp-scale run [--slots N] [--order list|time] [--alone] [--no-copies] [FIGURE=VALUE ...]
FIGURE is one of the table at the end of doc/scale.md.";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words[..] {
        ["page", directory] => write(Path::new(directory)),
        ["run", ref options @ ..] => run(options),
        _ => Err(USAGE.into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("edp-scale: {error}");
            ExitCode::from(2)
        }
    }
}

/// Writes the tables and plots of the page.
fn write(directory: &Path) -> Result<(), String> {
    let at = directory.join("scale.md");
    let fail = |path: &Path, error: std::io::Error| format!("{}: {error}", path.display());
    let text = std::fs::read_to_string(&at).map_err(|error| fail(&at, error))?;
    let page = page();
    let plots = page.plots.iter().map(|(name, svg)| (directory.join(name), svg.clone()));
    for (path, content) in plots.chain([(at.clone(), filled(&text, &page.tables)?)]) {
        std::fs::write(&path, content).map_err(|error| fail(&path, error))?;
    }
    Ok(())
}

/// Simulates one production, and prints what was measured.
fn run(options: &[&str]) -> Result<(), String> {
    let (mut costs, mut slots, mut order) = (Costs::default(), 1000, ListOrder::ByTime);
    let (mut grouped, mut copies) = (true, true);
    let mut options = options.iter();
    while let Some(option) = options.next() {
        match (*option, option.split_once('=')) {
            ("--alone", _) => grouped = false,
            ("--no-copies", _) => copies = false,
            ("--slots", _) => {
                let number =
                    options.next().and_then(|text| text.parse().ok()).filter(|slots| (1..=20_000).contains(slots));
                slots = number.ok_or("--slots takes a number from 1 to 20000")?;
            }
            ("--order", _) => {
                order = match options.next() {
                    Some(&"list") => ListOrder::List,
                    Some(&"time") => ListOrder::ByTime,
                    _ => return Err("--order takes list or time".into()),
                }
            }
            (_, Some((name, value))) => {
                let number = value.parse().ok().filter(|number: &f64| (1e-3..=1e5).contains(number));
                let number =
                    number.ok_or_else(|| format!("{option}: the value must be a number from 0.001 to 100000"))?;
                if !costs.set(name, number) {
                    return Err(format!("{name}: there is no such figure\n{USAGE}"));
                }
            }
            _ => return Err(USAGE.into()),
        }
    }
    let after = verification(&costs);
    let mut production = SimulatedProduction::release(costs, slots, order, grouped);
    production.second_copies = copies;
    let measured = production.run();
    let (seconds, verified) = (measured.seconds, measured.seconds + after);
    let mut text = format!("until the last granule  {seconds:.0} s, with the final verification {verified:.0} s\n");
    text += &format!("granules a second       {:.1}\n", measured.rate);
    text += &format!("granules                {} made, {} failed\n", measured.done, measured.failed);
    if let Some(time) = measured.given_up {
        text += &format!("given up                after {time:.0} s\n");
    }
    let (lost, copies) = (measured.lost, measured.copies);
    text += &format!("attempts                {}, {lost} lost, {copies} second copies\n", measured.attempts);
    text += &format!("requests refused by S3  {}\n", measured.refused);
    text += &format!("after the last begin    {:.0} s\n", measured.tail);
    for (resource, share) in measured.resources() {
        text += &format!("{resource:<24}{:.0} %\n", 100.0 * share);
    }
    // A reader that has seen enough is no error.
    let _ = std::io::stdout().write_all(text.as_bytes());
    Ok(())
}
