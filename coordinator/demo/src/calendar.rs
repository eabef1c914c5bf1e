//! The three months of the demo's model run.

/// Start of the model run.
pub(super) const MODEL_START: &str = "1992-01-01T12:00:00";
/// End of the model run in the configuration. Only the first months of the run exist.
pub(super) const MODEL_END: &str = "1992-12-31T12:00:00";
/// Length of a model step in seconds.
pub(super) const STEP_SECONDS: i64 = 3600;

/// An averaging period of one calendar month.
pub(super) struct Month {
    /// Number of the month; 0 for January.
    pub(super) number: usize,
    /// Model steps since the start of the run at which it begins and ends.
    pub(super) steps: [i64; 2],
}

/// January (from noon of the first day on), February and March 1992.
pub(super) const MONTHS: [Month; 3] = [
    Month { number: 0, steps: [0, 732] },
    Month { number: 1, steps: [732, 1428] },
    Month { number: 2, steps: [1428, 2172] },
];
