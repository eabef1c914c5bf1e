//! The coordinator: publishing, outcomes and what the ledger knows of each task.

use super::{Event, ReportKind, Sending, SimulatedProduction, Simulation, SlotReport};
use crate::costs::Costs;
use crate::random::{Draws, mean_latency};
use crate::resources::Servers;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

/// Number of task messages between which the broker also takes other messages.
const AT_ONCE: u32 = 16;

/// Added to the number of an attempt for its second copy.
pub(super) const COPY: u8 = 100;

/// What the ledger knows of a task.
#[derive(Debug, Clone, Copy, Default)]
struct LedgerTask {
    attempt: u8,
    failures: u8,
    is_under_way: bool,
    is_settled: bool,
    is_copied: bool,
}

/// Outcomes that are written together.
struct OutcomeBatch {
    number: u32,
    reports: Vec<SlotReport>,
    is_looked: bool,
}

/// The state of the coordinator.
pub(super) struct CoordinatorState {
    tasks: Vec<LedgerTask>,
    /// The next task that was never sent.
    next: usize,
    /// Tasks that are sent again, with the times at which they are due.
    again: BinaryHeap<Reverse<(u64, u32)>>,
    under_way: usize,
    announced: u32,
    is_publishing: bool,
    batch: VecDeque<Sending>,
    reports: VecDeque<SlotReport>,
    /// True if the first outcome of a batch waits for others.
    is_gathering: bool,
    /// Counts batches of outcomes.
    batches: u32,
    /// True if that time is over, and the batch is begun as soon as it can be.
    is_gathered: bool,
    /// Batches whose granules are looked for, in the order in which they are written.
    looking: VecDeque<OutcomeBatch>,
    /// The batch that is being written.
    writing: Option<OutcomeBatch>,
    /// Time in seconds that one of the granules of a full batch takes to be looked for.
    look: f64,
    /// Tasks of the present batch whose messages are in the queue.
    sending: u32,
    /// Number of tasks that are settled.
    pub(super) settled: usize,
    /// Number of those that have failed.
    failed: usize,
    /// When the last task was begun that is no second copy.
    pub(super) last_begun: f64,
    /// Time for which outcomes have occupied what they have least of: requests, batches, or the actor that has them
    /// written.
    pub(super) busy: f64,
    /// Calls by which granules are looked for, which all batches share.
    calls: Servers,
    /// For each kind, the time of the attempts that have made a granule, and their number.
    pub(super) spent: Vec<(f64, u32)>,
}

impl CoordinatorState {
    pub(super) fn new(costs: &Costs, production: &SimulatedProduction) -> CoordinatorState {
        CoordinatorState {
            tasks: vec![LedgerTask::default(); production.tasks.len()],
            next: 0,
            again: BinaryHeap::new(),
            under_way: 0,
            announced: 0,
            is_publishing: false,
            batch: VecDeque::new(),
            reports: VecDeque::new(),
            is_gathering: false,
            batches: 0,
            is_gathered: false,
            looking: VecDeque::new(),
            writing: None,
            look: full_look(costs) / (costs.batch / 2.0),
            sending: 0,
            settled: 0,
            failed: 0,
            last_begun: 0.0,
            busy: 0.0,
            calls: Servers::new(1),
            spent: vec![(0.0, 0); production.kinds.len()],
        }
    }
}

/// Time in seconds that the ledger takes for some messages.
pub(crate) fn transaction(costs: &Costs, messages: usize) -> f64 {
    messages as f64 * costs.ledger_event / 1e6 + costs.ledger_sync / 1e3
}

/// Time in seconds in which granules are looked for, some at once.
fn looking(costs: &Costs, granules: u32, draws: &mut Draws) -> f64 {
    let mut threads = Servers::new((costs.looks_at_once as usize).min(granules as usize));
    (0..granules).map(|_| threads.serve(0.0, draws.latency(costs.get_latency / 1000.0))).fold(0.0, f64::max)
}

/// Mean time in seconds in which the granules of a full batch are looked for: half of its messages say that one is done.
pub(crate) fn full_look(costs: &Costs) -> f64 {
    let mut draws = Draws::new(0, 1, 2);
    let samples = 1000;
    let looked: f64 = (0..samples).map(|_| looking(costs, (costs.batch / 2.0) as u32, &mut draws)).sum();
    looked / f64::from(samples)
}

impl Simulation<'_> {
    fn window(&self) -> usize {
        let costs = self.costs;
        let for_slots = (f64::from(self.coordinator.announced) * costs.window_per_slot).min(costs.window_most);
        costs.window.max(for_slots) as usize
    }

    /// Sends a batch of what is due, if the window has room and no batch is on its way.
    pub(super) fn publish(&mut self) {
        let (window, batch, now) = (self.window(), self.costs.batch as usize, self.now);
        let production = self.production;
        let coordinator = &mut self.coordinator;
        if coordinator.is_publishing {
            return;
        }
        let room = window.saturating_sub(coordinator.under_way).min(batch);
        let mut taken = 0;
        while taken < room {
            let due = coordinator.again.peek().filter(|due| f64::from_bits(due.0.0) <= now);
            let task = if due.is_some() {
                coordinator.again.pop().map(|due| due.0.1)
            } else if coordinator.next < coordinator.tasks.len() {
                coordinator.next += 1;
                Some(coordinator.next as u32 - 1)
            } else {
                None
            };
            let Some(task) = task else { break };
            let known = &mut coordinator.tasks[task as usize];
            if known.is_settled {
                continue;
            }
            known.attempt = known.attempt.saturating_add(1);
            known.is_under_way = true;
            let attempt = known.attempt;
            // What travels with it is sent now as well, whether or not the window has room.
            let has_mate = attempt == 1 && coordinator.next == task as usize + 1 && production.rides(coordinator.next);
            if has_mate {
                let mate = &mut coordinator.tasks[coordinator.next];
                (mate.attempt, mate.is_under_way) = (1, true);
                coordinator.next += 1;
            }
            taken += 1 + usize::from(has_mate);
            coordinator.under_way += 1 + usize::from(has_mate);
            coordinator.batch.push_back(Sending { task, attempt, has_mate });
        }
        if coordinator.batch.is_empty() {
            return;
        }
        coordinator.is_publishing = true;
        self.send_some();
    }

    /// Gives the next messages of a batch to the broker.
    fn send_some(&mut self) {
        let count = AT_ONCE.min(self.coordinator.batch.len() as u32);
        let end = self.broker.serve(self.now, f64::from(count) * self.costs.broker_message / 1e6);
        self.at(end, Event::Sent { count });
    }

    pub(super) fn sent(&mut self, count: u32) {
        let sent = self.coordinator.batch.drain(..count as usize);
        for sending in sent {
            self.coordinator.sending += 1 + u32::from(sending.has_mate);
            self.queue.push_back(sending);
        }
        if self.coordinator.batch.is_empty() {
            self.at(self.now + self.costs.broker_latency / 1000.0, Event::Confirmed);
        } else {
            self.send_some();
        }
        self.hand_out();
    }

    pub(super) fn confirmed(&mut self) {
        let count = std::mem::take(&mut self.coordinator.sending);
        let end = self.ledger.serve(self.now, transaction(self.costs, count as usize));
        self.at(end, Event::Recorded);
    }

    pub(super) fn recorded(&mut self) {
        self.coordinator.is_publishing = false;
        self.publish();
    }

    /// An outcome is in its queue.
    pub(super) fn arrival(&mut self, report: SlotReport) {
        self.coordinator.reports.push_back(report);
        self.gather();
    }

    /// Begins a batch of outcomes, or waits for more of them.
    fn gather(&mut self) {
        let coordinator = &mut self.coordinator;
        // The actor that has a batch written does nothing else meanwhile.
        if coordinator.reports.is_empty()
            || coordinator.writing.is_some()
            || coordinator.looking.len() >= self.costs.batches_at_once as usize
        {
            return;
        }
        if coordinator.is_gathered || coordinator.reports.len() >= self.costs.batch as usize {
            self.look();
        } else if !std::mem::replace(&mut coordinator.is_gathering, true) {
            let batch = coordinator.batches;
            self.at(self.now + self.costs.gather / 1000.0, Event::Gathered { batch });
        }
    }

    pub(super) fn gathered(&mut self, batch: u32) {
        if self.coordinator.is_gathering && self.coordinator.batches == batch {
            self.coordinator.is_gathered = true;
            self.gather();
        }
    }

    /// Looks for the granules that are reported as done in a batch.
    fn look(&mut self) {
        let (costs, now, production) = (self.costs, self.now, self.production);
        let coordinator = &mut self.coordinator;
        let batch = coordinator.batches;
        (coordinator.is_gathering, coordinator.is_gathered) = (false, false);
        coordinator.batches += 1;
        let count = coordinator.reports.len().min(costs.batch as usize);
        let reports: Vec<SlotReport> = coordinator.reports.drain(..count).collect();
        let done = reports.iter().filter(|report| report.kind == ReportKind::Done);
        let kinds = done.map(|report| production.tasks[report.task as usize]);
        let (mut granules, mut refused) = (0, 0);
        for number in kinds {
            granules += 1;
            refused += self.heads.ask(now, 1, u32::from(number), 1);
        }
        // Small batches take longer for each of their messages, since they may: full ones show what can be done.
        let written = count as f64 * transaction(costs, costs.batch as usize) / costs.batch;
        let calls = f64::from(granules) * costs.get_latency / 1000.0 * mean_latency() / costs.looks_at_once;
        let of_batch = (f64::from(granules) * coordinator.look + written) / costs.batches_at_once;
        coordinator.busy += of_batch.max(calls).max(written);
        let mut draws = Draws::new(production.seed, 1 << 41, u64::from(batch));
        let alone = looking(costs, granules, &mut draws);
        let mut end = (now + alone).max(coordinator.calls.serve(now, calls));
        if refused > 0 {
            // What is refused is asked for again after a pause.
            end += costs.slow_pause + f64::from(refused) / costs.gets;
        }
        coordinator.looking.push_back(OutcomeBatch { number: batch, reports, is_looked: false });
        self.at(end, Event::Looked { batch });
        self.gather();
    }

    pub(super) fn looked(&mut self, number: u32) {
        let mut looking = self.coordinator.looking.iter_mut();
        if let Some(batch) = looking.find(|batch| batch.number == number) {
            batch.is_looked = true;
        }
        self.write_first();
    }

    /// Has the first batch written, if its granules were looked for.
    fn write_first(&mut self) {
        let coordinator = &mut self.coordinator;
        if coordinator.writing.is_some() || !coordinator.looking.front().is_some_and(|batch| batch.is_looked) {
            return;
        }
        coordinator.writing = coordinator.looking.pop_front();
        let count = coordinator.writing.as_ref().map_or(0, |batch| batch.reports.len());
        let end = self.ledger.serve(self.now, transaction(self.costs, count));
        self.at(end, Event::Written);
    }

    /// A batch of outcomes is in the ledger: what they say counts from now on.
    pub(super) fn written(&mut self) {
        let (costs, now) = (self.costs, self.now);
        let Some(OutcomeBatch { reports, .. }) = self.coordinator.writing.take() else { return };
        for report in reports {
            let instance = &mut self.instances[report.instance as usize];
            let coordinator = &mut self.coordinator;
            let known = &mut coordinator.tasks[report.task as usize];
            if report.kind == ReportKind::Started {
                if !std::mem::replace(&mut instance.is_announced, true) {
                    coordinator.announced += instance.slots();
                }
                continue;
            }
            // A granule that is there counts, whoever has made it; a failure only if it is the one that is waited for.
            let counts = report.kind == ReportKind::Done || (known.is_under_way && known.attempt == report.attempt);
            if known.is_settled || !counts {
                continue;
            }
            if std::mem::take(&mut known.is_under_way) {
                coordinator.under_way -= 1;
            }
            match report.kind {
                ReportKind::Done => {
                    known.is_settled = true;
                    coordinator.settled += 1;
                    self.measured.done += 1;
                }
                ReportKind::Failed => {
                    known.failures = known.failures.saturating_add(1);
                    if f64::from(known.failures) >= costs.attempts {
                        known.is_settled = true;
                        coordinator.settled += 1;
                        coordinator.failed += 1;
                        self.measured.failed += 1;
                    } else {
                        let wait = costs.first_wait * f64::from(1_u32 << (known.failures - 1).min(16));
                        coordinator.again.push(Reverse(((now + wait).to_bits(), report.task)));
                        self.at(now + wait, Event::Publish);
                    }
                }
                ReportKind::Started | ReportKind::Returned => {
                    coordinator.again.push(Reverse((now.to_bits(), report.task)));
                }
            }
        }
        let (settled, failed) = (self.coordinator.settled as f64, self.coordinator.failed as f64);
        if settled >= costs.failure_sample && failed > costs.failure_share / 100.0 * settled {
            self.measured.given_up.get_or_insert(now);
        }
        self.measured.curve.push((now, self.measured.done));
        self.publish();
        self.write_first();
        self.gather();
    }

    /// Sends tasks once more that take long, when nothing else is left to be sent and slots are free.
    pub(super) fn round(&mut self) {
        let (costs, coordinator) = (self.costs, &mut self.coordinator);
        let is_due = |due: &Reverse<(u64, u32)>| f64::from_bits(due.0.0) <= self.now;
        let is_over = coordinator.next == coordinator.tasks.len() && !coordinator.again.peek().is_some_and(is_due);
        if is_over && !coordinator.is_publishing && self.queue.is_empty() {
            let mut free = (coordinator.announced as usize).saturating_sub(coordinator.under_way);
            for slot in &self.slots {
                let Some(sending) = slot.sending.filter(|_| free > 0) else { continue };
                let (spent, made) = coordinator.spent[usize::from(self.production.tasks[sending.task as usize])];
                let known = &mut coordinator.tasks[sending.task as usize];
                let least = costs.copy_least.max(costs.copy_factor * spent / f64::from(made.max(1)));
                if made == 0 || known.is_settled || known.is_copied || self.now - slot.began <= least {
                    continue;
                }
                known.is_copied = true;
                free -= 1;
                self.measured.copies += 1;
                // Another number of the attempt, so that it has luck of its own; the ledger does not know this one.
                let attempt = sending.attempt.saturating_add(COPY);
                self.queue.push_back(Sending { task: sending.task, attempt, has_mate: false });
            }
            self.hand_out();
        }
        self.at(self.now + 0.5, Event::Round);
    }
}
