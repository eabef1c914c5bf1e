//! What many share: servers with a queue in front of them, lines with a bandwidth, and limits on requests.

/// Some equal servers, such as cores, that serve one after the other in the order of arrival.
#[derive(Debug, Clone)]
pub(crate) struct Servers {
    /// The times at which the servers are free.
    free: Vec<f64>,
    /// Time for which servers were busy, in seconds.
    pub(crate) busy: f64,
}

impl Servers {
    pub(crate) fn new(count: usize) -> Servers {
        Servers { free: vec![0.0; count.max(1)], busy: 0.0 }
    }

    pub(crate) fn count(&self) -> usize {
        self.free.len()
    }

    /// Serves somebody who has come now, for this time. Returns when that ends. Those who come must come in the order
    /// of time.
    pub(crate) fn serve(&mut self, now: f64, time: f64) -> f64 {
        let mut first = 0;
        for (at, free) in self.free.iter().enumerate().skip(1) {
            if *free < self.free[first] {
                first = at;
            }
        }
        let end = now.max(self.free[first]) + time;
        self.free[first] = end;
        self.busy += time;
        end
    }
}

/// A line with a bandwidth, which all transfers share.
#[derive(Debug, Clone)]
pub(crate) struct NetworkLine {
    bandwidth: f64,
    servers: Servers,
}

impl NetworkLine {
    /// A line with a bandwidth in megabytes a second.
    pub(crate) fn new(bandwidth: f64) -> NetworkLine {
        NetworkLine { bandwidth, servers: Servers::new(1) }
    }

    /// Returns when a transfer ends that would take `alone` on an idle line.
    pub(crate) fn transfer(&mut self, now: f64, megabytes: f64, alone: f64) -> f64 {
        self.servers.serve(now, megabytes / self.bandwidth).max(now + alone)
    }

    /// Time for which the line was busy, in seconds.
    pub(crate) fn busy(&self) -> f64 {
        self.servers.busy
    }
}

/// A limit on requests a second for each partition of a bucket, beyond which requests are refused.
#[derive(Debug, Clone)]
pub(crate) struct RequestLimit {
    rate: f64,
    burst: f64,
    /// For each partition, the number of requests that it accepts now, and the time when that was counted.
    partitions: Vec<(f64, f64)>,
    /// Number of requests that were accepted, and of those that were refused.
    pub(crate) accepted: u64,
    pub(crate) refused: u64,
}

impl RequestLimit {
    /// A limit of `rate` requests a second, of which those of `burst` seconds may come at once.
    pub(crate) fn new(rate: f64, burst: f64, partitions: usize) -> RequestLimit {
        let burst = rate * burst;
        RequestLimit { rate, burst, partitions: vec![(burst, 0.0); partitions.max(1)], accepted: 0, refused: 0 }
    }

    /// Accepts as many of these requests as the limit allows now. They are spread over some directories, beginning with
    /// one, and each directory is in one partition. Returns the number of the others.
    pub(crate) fn ask(&mut self, now: f64, requests: u32, directory: u32, directories: u32) -> u32 {
        let mut refused = 0;
        for at in 0..directories {
            let own = requests / directories + u32::from(at < requests % directories);
            let partition = (directory + at) as usize % self.partitions.len();
            let (left, counted) = &mut self.partitions[partition];
            *left = (*left + (now - *counted) * self.rate).min(self.burst);
            *counted = now;
            let accepted = own.min(*left as u32);
            *left -= f64::from(accepted);
            refused += own - accepted;
        }
        self.accepted += u64::from(requests - refused);
        self.refused += u64::from(refused);
        refused
    }

    /// Share of the requests that it would have accepted in this time which were made.
    pub(crate) fn utilization(&self, time: f64) -> f64 {
        self.accepted as f64 / (self.rate * self.partitions.len() as f64 * time)
    }
}

/// The simultaneous calls of a process: halved at most once a second when a call is refused, and one more after as many
/// that were accepted as are permitted.
#[derive(Debug, Clone)]
pub(crate) struct CallLimit {
    least: u32,
    most: u32,
    permitted: u32,
    accepted: u32,
    slowed: f64,
    /// When another call is permitted.
    free: f64,
}

impl CallLimit {
    /// A limit of up to `most` calls, and never fewer than `least`.
    pub(crate) fn new(least: u32, most: u32) -> CallLimit {
        CallLimit { least, most, permitted: most, accepted: 0, slowed: f64::NEG_INFINITY, free: 0.0 }
    }

    /// Takes up to this number of calls, each of which lasts some time. Returns how many begin together, and when.
    pub(crate) fn begin(&mut self, now: f64, calls: u32, time: f64) -> (u32, f64) {
        let (some, start) = (calls.min(self.permitted), now.max(self.free));
        self.free = start + f64::from(some) * time / f64::from(self.permitted);
        (some, start)
    }

    /// Notes that calls were accepted.
    pub(crate) fn accepted(&mut self, calls: u32) {
        if self.permitted == self.most {
            return;
        }
        self.accepted += calls;
        while self.accepted >= self.permitted && self.permitted < self.most {
            self.accepted -= self.permitted;
            self.permitted += 1;
        }
    }

    /// Notes that some were refused.
    pub(crate) fn slow_down(&mut self, now: f64) {
        if now - self.slowed >= 1.0 {
            (self.permitted, self.accepted, self.slowed) = ((self.permitted / 2).max(self.least), 0, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_serve_in_the_order_of_arrival() {
        let mut servers = Servers::new(2);
        let ends: Vec<f64> = [0.0, 0.0, 1.0, 9.0].map(|now| servers.serve(now, 4.0)).to_vec();
        assert_eq!(ends, [4.0, 4.0, 8.0, 13.0]);
        assert_eq!(servers.busy, 16.0);
    }

    #[test]
    fn a_transfer_waits_for_the_line_and_is_no_faster_than_alone() {
        let mut line = NetworkLine::new(100.0);
        assert_eq!(line.transfer(0.0, 50.0, 2.0), 2.0);
        assert_eq!(line.transfer(0.0, 250.0, 2.0), 3.0);
        assert_eq!(line.busy(), 3.0);
    }

    /// A queue with random arrivals and one server that always takes the same time: the mean wait is known exactly.
    #[test]
    fn the_wait_at_one_server_is_that_of_the_formula() {
        let (mut draws, mut server) = (crate::random::Draws::new(7, 0, 0), Servers::new(1));
        for load in [0.5, 0.8] {
            let (mut now, mut waited, count) = (1e9 * load, 0.0, 400_000);
            for _ in 0..count {
                now += -libm::log(1.0 - draws.next()) / load;
                waited += server.serve(now, 1.0) - now - 1.0;
            }
            let (mean, formula) = (waited / f64::from(count), load / (2.0 * (1.0 - load)));
            assert!((mean / formula - 1.0).abs() < 0.05, "{load}: {mean}, not {formula}");
        }
    }

    /// Several servers with more work than they can do, and with little: the limits of the queue with random arrivals.
    #[test]
    fn several_servers_are_busy_or_nobody_waits() {
        let mut draws = crate::random::Draws::new(8, 0, 0);
        for (load, busy) in [(0.05, 0.05), (3.0, 1.0)] {
            let (mut servers, mut now, mut waited, mut end) = (Servers::new(8), 0.0, 0.0, 0.0_f64);
            for _ in 0..100_000 {
                now += -libm::log(1.0 - draws.next()) / (8.0 * load);
                let ended = servers.serve(now, 1.0);
                waited += ended - now - 1.0;
                end = end.max(ended);
            }
            assert!((servers.busy / (8.0 * end) - busy).abs() < 0.01 * busy, "{load}: {}", servers.busy / (8.0 * end));
            assert!(load > 1.0 || waited < 1.0, "{load}: {waited}");
        }
    }

    #[test]
    fn calls_are_halved_once_a_second_and_come_back_slowly() {
        let mut calls = CallLimit::new(1, 64);
        assert_eq!(calls.begin(0.0, 100, 0.5), (64, 0.0));
        assert_eq!(calls.begin(0.0, 32, 0.5), (32, 0.5), "half a second for 64 at once");
        assert_eq!(calls.begin(0.6, 1, 0.5), (1, 0.75));
        for tenth in 0..60 {
            calls.slow_down(10.0 + f64::from(tenth) / 10.0);
        }
        assert_eq!(calls.begin(20.0, 9, 0.5), (1, 20.0), "64 was halved six times");
        calls.accepted(1 + 2 + 3);
        assert_eq!(calls.begin(30.0, 9, 0.5).0, 4);
        calls.accepted(5000);
        assert_eq!(calls.begin(40.0, 100, 0.5).0, 64);
    }

    #[test]
    fn requests_beyond_the_limit_are_refused() {
        let mut limit = RequestLimit::new(10.0, 1.0, 1);
        let refused = [(0.0, 8), (0.0, 8), (0.5, 8), (9.0, 11)].map(|(now, count)| limit.ask(now, count, 3, 2));
        assert_eq!(refused, [0, 6, 3, 1]);
        assert_eq!((limit.accepted, limit.refused), (25, 10));
        assert_eq!(limit.utilization(10.0), 0.25);
        let mut limit = RequestLimit::new(10.0, 1.0, 3);
        assert_eq!(limit.ask(0.0, 45, 1, 3), 15, "each partition has 15");
        assert_eq!(limit.ask(1.0, 12, 2, 1), 2, "all are for one partition");
    }
}
