//! The three months that the demo's model ran.

/// Start of the model run.
pub(super) const MODEL_START: &str = "1992-01-01T12:00:00";
/// End of the model run that the configuration tells of; only its first months are there.
pub(super) const MODEL_END: &str = "1992-12-31T12:00:00";
/// Seconds of a model step.
pub(super) const STEP_SECONDS: i64 = 3600;

/// An averaging period.
pub(super) struct Month {
    /// 0 for January.
    pub(super) number: usize,
    /// Model steps since the start at which it begins and ends.
    pub(super) steps: [i64; 2],
}

/// January (from noon of the first day on), February and March 1992.
pub(super) const MONTHS: [Month; 3] = [
    Month { number: 0, steps: [0, 732] },
    Month { number: 1, steps: [732, 1428] },
    Month { number: 2, steps: [1428, 2172] },
];
