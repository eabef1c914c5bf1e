//! What a plan says of a job: what is missing, and what is odd about its times.

use super::super::dataset::{Dataset, PlannedVariable};
use super::super::few;
use super::super::survey::{Survey, gaps};
use super::{Context, Oddities, Planner, Problem};
use edp_protocol::{Frequency, Mode, calendar};
use jiff::civil::DateTime;

impl Planner<'_> {
    /// Returns the consequence of a missing variable.
    pub(super) fn without_it(&self) -> &'static str {
        let held = self.request.mode == Mode::Corrected && !self.request.allow_partial;
        if held { "these granules are held" } else { "these granules are made without it" }
    }

    /// Reports what is missing.
    pub(super) fn report(&mut self, context: &Context<'_>, survey: &Survey<'_>) {
        let place = &context.place;
        let without = self.without_it();
        for source in &survey.never {
            let text = format!("{} has no file at any step", describe(context.dataset, source));
            let consequence = if survey.records.is_empty() { "nothing is made" } else { without };
            self.complain(Problem::NoFile { place: place.clone(), text }, consequence);
        }
        for lack in &survey.lacks {
            let source = describe(context.dataset, lack.source);
            let (count, steps) = (lack.steps.len(), few(&lack.steps));
            self.warn(format!("{place}: {source} has no input at {count} steps: {steps}; {without}"));
        }
        if !survey.barren.is_empty() {
            let steps = few(&survey.barren);
            self.warn(format!("{place}: only single components of vectors at steps {steps}; nothing is made there"));
        }
        if survey.is_empty() && survey.never.len() < context.dataset.sources().len() {
            self.warn(format!("{place}: no results {}; nothing is made", self.request.window));
        }
        if !survey.absent.is_empty() {
            let problem = Problem::AbsentSteps { place: place.clone(), steps: survey.absent.clone() };
            self.complain(problem, "left out");
        }
        if let Some((first, more)) = survey.twice.split_first() {
            let (place, source) = (place.clone(), first.clone());
            self.leave_out(Problem::Twice { place, source, more: more.len() });
        }
    }

    /// Reports the days or months between the first and the last that have no results. For snapshots only the word for
    /// the period tells how often they are taken.
    pub(super) fn report_gaps(&mut self, context: &Context<'_>, ends: &[DateTime], words: &[&str]) {
        let (cadence, unit) = match (context.job.frequency, words) {
            (Frequency::Day, _) | (Frequency::Snapshot, ["day_snap"]) => (Frequency::Day, "days"),
            (Frequency::Month, _) | (Frequency::Snapshot, ["mon_snap"]) => (Frequency::Month, "months"),
            _ => return,
        };
        let number = |end: &DateTime| calendar::unit_of_result(cadence, context.job.frequency, *end);
        let gaps = gaps(&ends.iter().map(number).collect::<Vec<_>>());
        if gaps.is_empty() {
            return;
        }
        let count: i64 = gaps.iter().map(|(first, last)| last - first + 1).sum();
        let name = |number| calendar::unit_name(cadence, number);
        let ranges = gaps.iter().map(|&(first, last)| match first == last {
            true => name(first),
            false => format!("{} to {}", name(first), name(last)),
        });
        self.warn(format!("{}: no results for {count} {unit} in between: {}", context.place, few(ranges)));
    }

    /// Reports periods outside of the model run, and times that need finer units.
    pub(super) fn report_oddities(&mut self, context: &Context<'_>, oddities: &Oddities) {
        let configuration = self.request.configuration;
        let place = &context.place;
        let mut texts = Vec::new();
        if !oddities.before_start.is_empty() {
            let (start, steps) = (configuration.model_start, few(&oddities.before_start));
            texts.push(format!("{place}: periods that start before the model does ({start}) at steps {steps}"));
        }
        if !oddities.after_end.is_empty() {
            let (end, steps) = (configuration.model_end, few(&oddities.after_end));
            texts.push(format!("{place}: periods that end after the model does ({end}) at steps {steps}"));
        }
        if !oddities.finer_units.is_empty() {
            let (units, steps) = (&context.time_units, few(&oddities.finer_units));
            texts.push(format!("{place}: not exact in '{units}', finer units are used at steps {steps}"));
        }
        for text in texts {
            self.warn(format!("{text}; check model_start_time, model_end_time and model_timestep"));
        }
    }
}

/// Returns the name of a model variable for messages, with the outputs that need it if their names differ.
pub(super) fn describe(dataset: &Dataset<'_>, source: &str) -> String {
    let of = |output: &&PlannedVariable| output.sources().contains(&source);
    let outputs: Vec<&str> = dataset.outputs.iter().filter(of).map(|output| output.name.as_str()).collect();
    if outputs == [source] { source.to_owned() } else { format!("{source} (for {})", outputs.join(", ")) }
}
