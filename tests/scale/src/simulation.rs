//! The simulation: events in the order of time, over the state of a cluster and its coordinator.
//!
//! `workers` has what happens to machines and in job slots, `coordinator` what publishing and outcomes do. Both follow
//! the programs: a constant of theirs is a figure of [`Costs`], and a wait of theirs is an event here.

pub(crate) mod coordinator;
mod workers;

use crate::costs::Costs;
use crate::measurements::Measurements;
use crate::release::{ListOrder, TaskKind, kinds, tasks};
use crate::resources::{RequestLimit, Servers};
use coordinator::CoordinatorState;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use workers::{Instance, SlotState};

/// A production that is simulated.
#[derive(Debug, Clone)]
pub struct SimulatedProduction {
    /// The figures.
    pub costs: Costs,
    /// The kinds of its tasks.
    pub kinds: Vec<TaskKind>,
    /// Its tasks in the order in which they are sent, by their kinds.
    pub tasks: Vec<u16>,
    /// Number of job slots.
    pub slots: u32,
    /// True if a task that takes long is sent once more when no others are left.
    pub second_copies: bool,
    /// Number from which all random numbers are made.
    pub seed: u64,
}

impl SimulatedProduction {
    /// Release 6 with this number of job slots, as the programs make it but for this order, and with native and latlon
    /// recipes in one message or not.
    pub fn release(costs: Costs, slots: u32, order: ListOrder, grouped: bool) -> SimulatedProduction {
        let kinds = kinds(&costs, grouped);
        let tasks = tasks(&kinds, order);
        SimulatedProduction { costs, kinds, tasks, slots, second_copies: true, seed: 6 }
    }

    /// Returns true if a task travels in the message of the one before it.
    fn rides(&self, task: usize) -> bool {
        let before = task.checked_sub(1).and_then(|before| self.tasks.get(before));
        let own = self.tasks.get(task).filter(|kind| self.kinds[usize::from(**kind)].rides);
        matches!((before, own), (Some(before), Some(own)) if *own == before + 1)
    }

    /// Runs it to its end.
    pub fn run(&self) -> Measurements {
        Simulation::new(self).run()
    }
}

/// Something that happens.
#[derive(Debug, Clone, Copy)]
enum Event {
    /// An instance begins to take task messages.
    Ready { instance: u32 },
    /// A minute has passed, in which instances may have been taken back or lost.
    Minute,
    /// The time of an instance that drains is over.
    Over { instance: u32, life: u32 },
    /// The work of a slot has come to its next step.
    Slot { slot: u32, turn: u32 },
    /// The broker has an outcome, or found out that a worker is lost.
    Arrival(SlotReport),
    /// The publishing actor looks for what is due.
    Publish,
    /// Some task messages of a batch are in the queue.
    Sent { count: u32 },
    /// A batch is confirmed.
    Confirmed,
    /// A batch is in the ledger as sent.
    Recorded,
    /// The time is over for which the first outcome waits for others.
    Gathered { batch: u32 },
    /// The granules of a batch of outcomes were looked for.
    Looked { batch: u32 },
    /// A batch of outcomes is in the ledger.
    Written,
    /// The coordinator looks for tasks that take long.
    Round,
}

/// What an outcome says about a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ReportKind {
    Started,
    Done,
    Failed,
    Returned,
}

/// An outcome.
#[derive(Debug, Clone, Copy)]
struct SlotReport {
    task: u32,
    attempt: u8,
    instance: u32,
    kind: ReportKind,
}

/// A task message.
#[derive(Debug, Clone, Copy)]
struct Sending {
    task: u32,
    attempt: u8,
    /// True if the next task travels with it.
    has_mate: bool,
}

/// Time in seconds after which a production is given up that does not end: a year.
const LONGEST: f64 = 3.2e7;

/// An event with its time; the number keeps events of the same time in their order.
struct Scheduled(u64, u32, Event);

impl PartialEq for Scheduled {
    fn eq(&self, other: &Scheduled) -> bool {
        (self.0, self.1) == (other.0, other.1)
    }
}

impl Eq for Scheduled {}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Scheduled) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Scheduled {
    fn cmp(&self, other: &Scheduled) -> std::cmp::Ordering {
        (self.0, self.1).cmp(&(other.0, other.1))
    }
}

/// The state of everything.
struct Simulation<'p> {
    production: &'p SimulatedProduction,
    costs: &'p Costs,
    now: f64,
    events: BinaryHeap<Reverse<Scheduled>>,
    scheduled: u32,
    instances: Vec<Instance>,
    slots: Vec<SlotState>,
    idle: VecDeque<u32>,
    /// The queue of task messages.
    queue: VecDeque<Sending>,
    coordinator: CoordinatorState,
    broker: Servers,
    ledger: Servers,
    /// Limits of requests: GET of results, HEAD of granules, PUT of granules.
    gets: RequestLimit,
    heads: RequestLimit,
    puts: RequestLimit,
    measured: Measurements,
}

impl<'p> Simulation<'p> {
    fn new(production: &'p SimulatedProduction) -> Simulation<'p> {
        let costs = &production.costs;
        let limit = |rate: f64| RequestLimit::new(rate, costs.burst, costs.partitions as usize);
        let (instances, slots) = workers::cluster(costs, production.slots);
        let mut simulation = Simulation {
            production,
            costs,
            now: 0.0,
            events: BinaryHeap::new(),
            scheduled: 0,
            instances,
            slots,
            idle: VecDeque::new(),
            queue: VecDeque::new(),
            coordinator: CoordinatorState::new(costs, production),
            broker: Servers::new(1),
            ledger: Servers::new(1),
            gets: limit(costs.gets),
            heads: limit(costs.gets),
            puts: limit(costs.puts),
            measured: Measurements::default(),
        };
        let count = simulation.instances.len();
        for instance in 0..count {
            let share = instance as f64 / count as f64;
            simulation.at(costs.boot + costs.ramp * share, Event::Ready { instance: instance as u32 });
        }
        simulation.at(costs.listing / 1e6 * production.tasks.len() as f64, Event::Publish);
        simulation.at(60.0, Event::Minute);
        if production.second_copies {
            simulation.at(0.5, Event::Round);
        }
        simulation
    }

    /// Schedules an event.
    fn at(&mut self, time: f64, event: Event) {
        // The bits of positive numbers are in the order of the numbers.
        self.events.push(Reverse(Scheduled(time.to_bits(), self.scheduled, event)));
        self.scheduled = self.scheduled.wrapping_add(1);
    }

    fn run(mut self) -> Measurements {
        while self.coordinator.settled < self.production.tasks.len() {
            let Some(Reverse(Scheduled(time, _, event))) = self.events.pop() else { break };
            self.now = f64::from_bits(time);
            if self.now > LONGEST {
                break;
            }
            match event {
                Event::Ready { instance } => self.ready(instance),
                Event::Minute => self.minute(),
                Event::Over { instance, life } => self.over(instance, life),
                Event::Slot { slot, turn } => self.step(slot, turn),
                Event::Arrival(report) => self.arrival(report),
                Event::Publish => self.publish(),
                Event::Sent { count } => self.sent(count),
                Event::Confirmed => self.confirmed(),
                Event::Recorded => self.recorded(),
                Event::Gathered { batch } => self.gathered(batch),
                Event::Looked { batch } => self.looked(batch),
                Event::Written => self.written(),
                Event::Round => self.round(),
            }
        }
        self.measure()
    }

    /// Sums up at the end.
    fn measure(mut self) -> Measurements {
        let costs = self.costs;
        for instance in 0..self.instances.len() {
            self.count_life(instance);
        }
        let measured = &mut self.measured;
        // Nothing could be made before the first instance was there.
        let begin = costs.boot.min(self.now);
        let time = (self.now - begin).max(f64::MIN_POSITIVE);
        measured.seconds = self.now;
        measured.granules = measured.done as f64;
        measured.rate = measured.granules / time;
        measured.tail = self.now - self.coordinator.last_begun;
        measured.gets = self.gets.utilization(time);
        measured.heads = self.heads.utilization(time);
        measured.puts = self.puts.utilization(time);
        measured.ledger = self.ledger.busy / time;
        measured.broker = self.broker.busy / time;
        measured.outcomes = self.coordinator.busy / time;
        measured.refused = self.gets.refused + self.heads.refused + self.puts.refused;
        measured.requests = self.gets.accepted + self.heads.accepted + self.puts.accepted;
        self.measured
    }
}
