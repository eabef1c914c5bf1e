//! Instances and job slots: what a worker does with a task message, and what may happen to its machine.

use super::coordinator::COPY;
use super::{Event, ReportKind, Sending, Simulation, SlotReport};
use crate::costs::Costs;
use crate::random::{Draws, mean_latency};
use crate::resources::{CallLimit, NetworkLine, RequestLimit, Servers};

/// A machine with a worker.
pub(super) struct Instance {
    slots: std::ops::Range<u32>,
    /// Counts the machines that were here.
    life: u32,
    since: Option<f64>,
    is_draining: bool,
    cores: Servers,
    lock: Servers,
    down: NetworkLine,
    up: NetworkLine,
    /// The calls to S3 of its processes.
    calls: CallLimit,
    /// Counted by the coordinator when it hears of the worker.
    pub(super) is_announced: bool,
}

impl Instance {
    fn new(costs: &Costs, slots: std::ops::Range<u32>) -> Instance {
        let bandwidth = costs.network * 1000.0 / 8.0;
        // A group that has fewer slots than an instance has cores has a smaller one, with its share of the network.
        let own = slots.len() as f64 / costs.slots_per_core;
        let share = (own / costs.cores).min(1.0);
        Instance {
            slots,
            life: 0,
            since: None,
            is_draining: false,
            cores: Servers::new(own.min(costs.cores).ceil() as usize),
            lock: Servers::new(costs.processes as usize),
            down: NetworkLine::new(bandwidth * share),
            up: NetworkLine::new(bandwidth * share),
            calls: CallLimit::new((costs.least_calls * costs.processes) as u32, (costs.calls * costs.processes) as u32),
            is_announced: false,
        }
    }

    pub(super) fn slots(&self) -> u32 {
        self.slots.end - self.slots.start
    }
}

/// The next thing that a slot does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SlotStep {
    Begin,
    Head,
    Headers,
    Data,
    Make,
    Write,
    Put,
    Report,
    Acknowledge,
}

/// A job slot.
pub(super) struct SlotState {
    instance: u32,
    /// Counts what the slot has done, so that events of a lost machine have no effect.
    turn: u32,
    pub(super) sending: Option<Sending>,
    since: f64,
    /// When the present attempt was begun.
    pub(super) began: f64,
    next: SlotStep,
    draws: Draws,
    /// How many times slower than usual this attempt is.
    slowness: f64,
    /// The requests of this step that are not accepted yet, those of them that begin now, and how often some were
    /// refused.
    left: u32,
    beginning: u32,
    tries: u32,
    /// True if the inputs were fetched for another task of the same message.
    has_inputs: bool,
    /// When all inputs are there.
    fetched: f64,
    has_failed: bool,
}

/// Returns the machines and their slots.
pub(super) fn cluster(costs: &Costs, slots: u32) -> (Vec<Instance>, Vec<SlotState>) {
    let each = ((costs.cores * costs.slots_per_core) as u32).max(1);
    let instances = (0..slots.div_ceil(each)).map(|at| Instance::new(costs, at * each..((at + 1) * each).min(slots)));
    let slot = |at: u32| SlotState {
        instance: at / each,
        turn: 0,
        sending: None,
        since: 0.0,
        began: 0.0,
        next: SlotStep::Begin,
        draws: Draws::new(0, 0, 0),
        slowness: 1.0,
        left: 0,
        beginning: 0,
        tries: 0,
        has_inputs: false,
        fetched: 0.0,
        has_failed: false,
    };
    (instances.collect(), (0..slots).map(slot).collect())
}

/// What came of a request.
enum Asked {
    Accepted,
    Later(f64),
    GivenUp,
}

/// The requests of a step: their number, the time that one takes, and the first of their directories with the number of
/// these.
#[derive(Clone, Copy)]
struct StepRequests {
    count: u32,
    time: f64,
    directories: (u32, u32),
}

impl SlotState {
    /// Makes the requests of a step, as many at once as are permitted, or those of them again that were refused.
    fn ask(
        &mut self,
        costs: &Costs,
        calls: &mut CallLimit,
        limit: &mut RequestLimit,
        now: f64,
        requests: StepRequests,
    ) -> Asked {
        if self.left == 0 {
            self.left = requests.count;
        }
        while self.left > 0 {
            if self.beginning == 0 {
                let (some, start) = calls.begin(now, self.left, requests.time);
                self.beginning = some;
                if start > now {
                    return Asked::Later(start);
                }
            }
            let some = std::mem::take(&mut self.beginning);
            let refused = limit.ask(now, some, requests.directories.0, requests.directories.1);
            self.left -= some - refused;
            calls.accepted(some - refused);
            if refused == 0 {
                self.tries = 0;
                continue;
            }
            calls.slow_down(now);
            self.tries += 1;
            if f64::from(self.tries) >= costs.tries {
                (self.left, self.tries) = (0, 0);
                return Asked::GivenUp;
            }
            let pause = (costs.slow_pause * f64::from(1_u32 << (self.tries - 1).min(16))).min(20.0);
            return Asked::Later(now + pause * (0.5 + self.draws.next() / 2.0));
        }
        Asked::Accepted
    }
}

impl Simulation<'_> {
    pub(super) fn ready(&mut self, at: u32) {
        let instance = &mut self.instances[at as usize];
        let now = self.now;
        instance.since = Some(now);
        for slot in instance.slots.clone() {
            self.slots[slot as usize].sending = None;
            self.idle.push_back(slot);
        }
        self.hand_out();
    }

    /// Adds the life of a machine to what was measured, which ends here.
    pub(super) fn count_life(&mut self, at: usize) {
        let (fresh, now) = (Instance::new(self.costs, self.instances[at].slots.clone()), self.now);
        let instance = &mut self.instances[at];
        let Some(since) = instance.since.take() else { return };
        let life = now - since;
        let measured = &mut self.measured;
        measured.slot_time += life * f64::from(instance.slots());
        measured.core_time += life * instance.cores.count() as f64;
        measured.core_busy += instance.cores.busy;
        measured.network_time += life;
        measured.network_busy += instance.down.busy();
        for slot in instance.slots.clone() {
            let slot = &mut self.slots[slot as usize];
            if slot.sending.take().is_some() {
                self.measured.slot_busy += now - slot.since;
            }
            slot.turn += 1;
        }
        let life = instance.life + 1;
        *instance = Instance { life, is_announced: instance.is_announced, ..fresh };
    }

    /// Gives task messages to slots that are free.
    pub(super) fn hand_out(&mut self) {
        while !self.queue.is_empty() {
            let Some(slot) = self.idle.pop_front() else { return };
            let state = &mut self.slots[slot as usize];
            let instance = &self.instances[state.instance as usize];
            if state.sending.is_some() || instance.since.is_none() || instance.is_draining {
                continue;
            }
            let Some(sending) = self.queue.pop_front() else { return };
            (state.since, state.has_inputs) = (self.now, false);
            state.turn += 1;
            self.begin(slot, sending, self.now + self.costs.broker_latency / 1000.0);
        }
    }

    /// Begins with a task of a message.
    fn begin(&mut self, at: u32, sending: Sending, time: f64) {
        let state = &mut self.slots[at as usize];
        let (seed, task, attempt) = (self.production.seed, u64::from(sending.task), u64::from(sending.attempt));
        state.draws = Draws::new(seed, task, attempt);
        let mut luck = Draws::new(seed, task, 1 << 32 | attempt);
        let is_slow = luck.next() * 100.0 < self.costs.stragglers;
        let least = self.costs.slowest * 0.3;
        state.slowness = if is_slow { least + luck.next() * (self.costs.slowest - least) } else { 1.0 };
        (state.sending, state.began) = (Some(sending), self.now);
        (state.left, state.beginning, state.tries, state.has_failed) = (0, 0, 0, false);
        self.measured.attempts += 1;
        if sending.attempt < COPY {
            self.coordinator.last_begun = self.now;
        }
        self.then(at, SlotStep::Begin, time);
    }

    /// Does the next step of a slot.
    pub(super) fn step(&mut self, at: u32, turn: u32) {
        let (now, costs) = (self.now, self.costs);
        let state = &mut self.slots[at as usize];
        let Some(sending) = state.sending.filter(|_| state.turn == turn) else { return };
        let instance = &mut self.instances[state.instance as usize];
        let number = self.production.tasks[sending.task as usize];
        let kind = &self.production.kinds[usize::from(number)];
        // What another task of the message has read is not read again.
        let (inputs, steps) = if state.has_inputs { (0, 0) } else { (kind.inputs, kind.steps) };
        let head = StepRequests {
            count: 1,
            time: costs.get_latency / 1000.0 * mean_latency(),
            directories: (u32::from(number), 1),
        };
        let headers = StepRequests { count: inputs, directories: (kind.directory, kind.inputs), ..head };
        let data = StepRequests {
            count: inputs * kind.parts(costs),
            time: head.time + kind.input.min(costs.part) / costs.stream,
            ..headers
        };
        let put =
            StepRequests { time: costs.put_latency / 1000.0 * mean_latency() + kind.written / costs.stream, ..head };
        let get = |state: &mut SlotState| state.draws.latency(costs.get_latency / 1000.0);
        let of_instance = state.instance;
        let report = |kind| SlotReport { task: sending.task, attempt: sending.attempt, instance: of_instance, kind };
        let (asked, next) = match state.next {
            SlotStep::Begin => {
                let end = self.broker.serve(now, costs.broker_message / 1e6);
                self.at(end, Event::Arrival(report(ReportKind::Started)));
                self.then(at, SlotStep::Head, end + costs.broker_latency / 1000.0);
                return;
            }
            SlotStep::Report => {
                let end = self.broker.serve(now, costs.broker_message / 1e6);
                let kind = if state.has_failed { ReportKind::Failed } else { ReportKind::Done };
                if !state.has_failed {
                    let spent = &mut self.coordinator.spent[usize::from(number)];
                    *spent = (spent.0 + now - state.began, spent.1 + 1);
                }
                self.at(end, Event::Arrival(report(kind)));
                self.then(at, SlotStep::Acknowledge, end + costs.broker_latency / 1000.0);
                return;
            }
            SlotStep::Acknowledge => {
                if sending.has_mate {
                    self.begin(at, Sending { task: sending.task + 1, attempt: 1, has_mate: false }, now);
                    return;
                }
                self.measured.slot_busy += now - state.since;
                state.sending = None;
                self.idle.push_back(at);
                self.end_if_drained(at);
                self.hand_out();
                return;
            }
            SlotStep::Make => {
                let saved = if state.has_inputs { kind.saved(costs) } else { 0.0 };
                let making = (kind.cpu - kind.lock - saved).max(0.0) * state.slowness;
                let end = instance.cores.serve(now, making).max(state.fetched + making / f64::from(steps.max(1)));
                state.has_inputs = true;
                self.then(at, SlotStep::Write, end);
                return;
            }
            SlotStep::Write => {
                let end = instance.lock.serve(now, kind.lock);
                // The thread that has the lock also has a core, and does not wait for one.
                instance.cores.busy += kind.lock;
                self.then(at, SlotStep::Put, end);
                return;
            }
            SlotStep::Head => (state.ask(costs, &mut instance.calls, &mut self.heads, now, head), SlotStep::Headers),
            SlotStep::Headers => (state.ask(costs, &mut instance.calls, &mut self.gets, now, headers), SlotStep::Data),
            SlotStep::Data => (state.ask(costs, &mut instance.calls, &mut self.gets, now, data), SlotStep::Make),
            SlotStep::Put => (state.ask(costs, &mut instance.calls, &mut self.puts, now, put), SlotStep::Report),
        };
        match asked {
            Asked::Later(time) => {
                let turn = state.turn;
                self.at(time, Event::Slot { slot: at, turn });
                return;
            }
            Asked::GivenUp => {
                state.has_failed = true;
                self.then(at, SlotStep::Report, now);
                return;
            }
            Asked::Accepted => {}
        }
        let slowness = state.slowness;
        let end = match next {
            SlotStep::Headers => now + slowness * get(state),
            SlotStep::Data => {
                // Each round takes as long as the slowest of its requests.
                let at_once = costs.headers_at_once as u32;
                let rounds = (0..inputs.div_ceil(at_once)).map(|round| at_once.min(inputs - round * at_once));
                now + slowness * rounds.map(|some| (0..some).map(|_| get(state)).fold(0.0, f64::max)).sum::<f64>()
            }
            SlotStep::Make if steps == 0 => {
                state.fetched = now;
                now
            }
            SlotStep::Make => {
                let first = kind.fetch(costs, || get(state));
                let others: f64 = (1..steps).map(|_| kind.fetch(costs, || get(state))).sum();
                let alone = (first + others) * slowness;
                state.fetched = instance.down.transfer(now, kind.read(), alone);
                // What is first on a line that others use too comes later by the same factor.
                now + first * slowness * (state.fetched - now) / alone
            }
            _ => {
                let alone = (state.draws.latency(costs.put_latency / 1000.0) + kind.written / costs.stream) * slowness;
                instance.up.transfer(now, kind.written, alone)
            }
        };
        self.then(at, next, end);
    }

    /// Schedules the next step of a slot.
    fn then(&mut self, slot: u32, next: SlotStep, time: f64) {
        let state = &mut self.slots[slot as usize];
        state.next = next;
        let turn = state.turn;
        self.at(time, Event::Slot { slot, turn });
    }

    /// Lets machines be taken back, and lost.
    pub(super) fn minute(&mut self) {
        let costs = self.costs;
        for at in 0..self.instances.len() {
            let instance = &self.instances[at];
            if instance.since.is_none() || instance.is_draining {
                continue;
            }
            let mut draws = Draws::new(self.production.seed, 1 << 40 | at as u64, (self.now / 60.0) as u64);
            let chance = draws.next() * 100.0 * 60.0;
            if chance < costs.losses {
                self.lose(at, costs.detection);
                self.measured.taken += 1;
            } else if chance < costs.losses + costs.interruptions {
                let instance = &mut self.instances[at];
                instance.is_draining = true;
                let (life, slot) = (instance.life, instance.slots.start);
                self.measured.taken += 1;
                self.at(self.now + GRACE, Event::Over { instance: at as u32, life });
                self.end_if_drained(slot);
            }
        }
        self.at(self.now + 60.0, Event::Minute);
    }

    /// Ends a machine whose worker had its time to drain.
    pub(super) fn over(&mut self, at: u32, life: u32) {
        let instance = &self.instances[at as usize];
        if instance.life == life && instance.since.is_some() {
            self.lose(at as usize, 0.0);
        }
    }

    /// Ends the machine of a slot if it drains and has nothing to do any more.
    fn end_if_drained(&mut self, slot: u32) {
        let at = self.slots[slot as usize].instance as usize;
        let instance = &self.instances[at];
        let is_busy = || instance.slots.clone().any(|slot| self.slots[slot as usize].sending.is_some());
        if instance.is_draining && instance.since.is_some() && !is_busy() {
            self.lose(at, 0.0);
        }
    }

    /// Ends a machine. What it was making is known to be lost after some time. Another machine takes its place.
    fn lose(&mut self, at: usize, known_after: f64) {
        let range = self.instances[at].slots.clone();
        let lost: Vec<Sending> = range.filter_map(|slot| self.slots[slot as usize].sending).collect();
        for Sending { task, attempt, has_mate } in lost {
            self.measured.lost += 1;
            let instance = at as u32;
            let report = SlotReport { task, attempt, instance, kind: ReportKind::Returned };
            self.at(self.now + known_after, Event::Arrival(report));
            if has_mate {
                let report = SlotReport { task: task + 1, attempt: 1, ..report };
                self.at(self.now + known_after, Event::Arrival(report));
            }
        }
        self.count_life(at);
        self.at(self.now + self.costs.boot, Event::Ready { instance: at as u32 });
    }
}

/// Time in seconds in which a worker that drains must have ended what it makes (`serve.grace`).
const GRACE: f64 = 60.0;
