//! What a simulated production has measured.

/// What was measured. Utilizations are shares of the time from the first instance to the end.
#[derive(Debug, Clone, Default)]
pub struct Measurements {
    /// Time in seconds from the request for instances until the last granule is in the ledger.
    pub seconds: f64,
    /// Number of granules that were made.
    pub granules: f64,
    /// Granules a second, from the first instance to the end.
    pub rate: f64,
    /// Time in seconds from the begin of the last task that is no second copy to the end.
    pub tail: f64,
    /// Slot-seconds of the instances, and those in which a slot had a task.
    pub slot_time: f64,
    /// Slot-seconds in which a slot had a task.
    pub slot_busy: f64,
    /// Core-seconds of the instances, and those that were used.
    pub core_time: f64,
    /// Core-seconds that were used.
    pub core_busy: f64,
    /// Seconds of the instances' networks, towards them, and those that were used.
    pub network_time: f64,
    /// Seconds of the instances' networks that were used.
    pub network_busy: f64,
    /// Utilization of the limit of GET requests for results.
    pub gets: f64,
    /// Utilization of the limit of HEAD requests for granules.
    pub heads: f64,
    /// Utilization of the limit of PUT requests for granules.
    pub puts: f64,
    /// Utilization of the thread of the ledger.
    pub ledger: f64,
    /// Utilization of the broker.
    pub broker: f64,
    /// Utilization of the actor of outcomes, which looks for granules and waits for the ledger.
    pub outcomes: f64,
    /// Number of requests that S3 has answered.
    pub requests: u64,
    /// Number of requests that S3 has refused.
    pub refused: u64,
    /// Number of granules that were made, and of tasks that have failed for good.
    pub done: u64,
    /// Number of tasks that have failed for good.
    pub failed: u64,
    /// When the share of failed recipes was first beyond its limit: the coordinator gives the production up there. It is
    /// simulated on.
    pub given_up: Option<f64>,
    /// Number of attempts.
    pub attempts: u64,
    /// Number of attempts that were lost with their instances.
    pub lost: u64,
    /// Number of instances that were taken back, and of those that were lost.
    pub taken: u64,
    /// Number of second copies that were sent.
    pub copies: u64,
    /// The time, and the number of granules made until then, after each batch of outcomes.
    pub curve: Vec<(f64, u64)>,
}

impl Measurements {
    /// Share of the slot time in which a slot had no task.
    pub fn idle(&self) -> f64 {
        1.0 - self.slot_busy / self.slot_time
    }

    /// Utilization of the cores.
    pub fn cores(&self) -> f64 {
        self.core_busy / self.core_time
    }

    /// Utilization of the instances' networks.
    pub fn network(&self) -> f64 {
        self.network_busy / self.network_time
    }

    /// Returns the resources with their utilization, the fullest first. Slots count as one: where nothing else is full,
    /// there are too few of them.
    pub fn resources(&self) -> Vec<(&'static str, f64)> {
        let mut all = vec![
            ("slots", 1.0 - self.idle()),
            ("cores", self.cores()),
            ("network", self.network()),
            ("GET of results", self.gets),
            ("HEAD of granules", self.heads),
            ("PUT", self.puts),
            ("outcomes", self.outcomes),
            ("ledger", self.ledger),
            ("broker", self.broker),
        ];
        all.sort_by(|one, other| other.1.total_cmp(&one.1));
        all
    }
}
