//! The granules of Release 6: its datasets, with what their granules cost.

use crate::costs::Costs;

/// Number of days, and of months, of Release 6.
pub(crate) const DAYS: u32 = 12_419;
pub(crate) const MONTHS: u32 = 408;

/// A dataset: its variables on the native grid, and on the latlon grid if it has granules there.
struct DatasetShape {
    name: &'static str,
    is_3d: bool,
    /// Number of variables on the native grid.
    native: u32,
    /// Number of variables on the latlon grid, and how many pairs of them are rotated vectors.
    latlon: Option<(u32, u32)>,
    /// Number of the variables that are derived from others of the dataset, and have no input of their own.
    derived: u32,
}

const fn shape(name: &'static str, is_3d: bool, native: u32, latlon: Option<(u32, u32)>) -> DatasetShape {
    DatasetShape { name, is_3d, native, latlon, derived: 0 }
}

/// The datasets in the order of the groupings, without the two variables that the model does not write.
const DATASETS: [DatasetShape; 29] = [
    shape("SEA_SURFACE_HEIGHT", false, 4, Some((3, 0))),
    DatasetShape { derived: 2, ..shape("OCEAN_BOTTOM_PRESSURE", false, 5, Some((4, 0))) },
    shape("OCEAN_AND_ICE_SURFACE_FW_FLUX", false, 8, Some((8, 0))),
    shape("OCEAN_AND_ICE_SURFACE_HEAT_FLUX", false, 12, Some((12, 0))),
    shape("ATM_SURFACE_TEMP_HUM_WIND_PRES", false, 6, Some((6, 1))),
    shape("OCEAN_MIXED_LAYER_DEPTH", false, 1, Some((1, 0))),
    shape("OCEAN_AND_ICE_SURFACE_STRESS", false, 6, Some((6, 3))),
    shape("SEA_ICE_CONC_THICKNESS", false, 4, Some((4, 0))),
    shape("SEA_ICE_VELOCITY", false, 2, Some((2, 1))),
    shape("OCEAN_TEMPERATURE_SALINITY", true, 2, Some((2, 0))),
    shape("OCEAN_DENS_STRAT_PRESS", true, 4, Some((3, 0))),
    shape("OCEAN_VELOCITY", true, 3, Some((3, 1))),
    shape("OCEAN_BOLUS_VELOCITY", true, 3, Some((3, 1))),
    shape("SEA_ICE_HORIZ_VOLUME_FLUX", false, 4, None),
    shape("OCEAN_BOLUS_STREAMFUNCTION", true, 2, None),
    shape("OCEAN_3D_VOLUME_FLUX", true, 3, None),
    shape("OCEAN_3D_TEMPERATURE_FLUX", true, 7, None),
    shape("OCEAN_3D_SALINITY_FLUX", true, 8, None),
    shape("SEA_ICE_SALT_PLUME_FLUX", false, 2, None),
    shape("OCEAN_3D_MOMENTUM_TEND_X", true, 8, None),
    shape("OCEAN_3D_MOMENTUM_ADV_TEND_X", true, 3, None),
    shape("OCEAN_3D_MOMENTUM_DISS_TEND_X", true, 5, None),
    shape("OCEAN_3D_MOMENTUM_TEND_Y", true, 8, None),
    shape("OCEAN_3D_MOMENTUM_ADV_TEND_Y", true, 3, None),
    shape("OCEAN_3D_MOMENTUM_DISS_TEND_Y", true, 5, None),
    shape("ICE_SHELF_FLUX", false, 2, None),
    shape("ICE_FRONT_FLUX", true, 2, None),
    shape("SEA_ICE_THERMO_BUDG", false, 9, None),
    shape("OCEAN_3D_VORT_DIV_KE", true, 3, None),
];

/// What a recipe asks for: one granule.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskKind {
    /// Name of the dataset and of its grids.
    pub name: String,
    /// True if the variables have levels.
    pub is_3d: bool,
    /// True if it travels with the native recipe of the same dataset and time, which then is the kind before it.
    pub rides: bool,
    /// Number of input files, without their headers.
    pub inputs: u32,
    /// Number of the directory of the first of them. The others are in the directories after it.
    pub directory: u32,
    /// Number of steps in which the inputs are fetched: a pair of components is fetched at once.
    pub steps: u32,
    /// Size of an input in megabytes.
    pub input: f64,
    /// Size of the granule in megabytes.
    pub written: f64,
    /// Processor time in seconds, and the part of it under the lock of HDF5.
    pub cpu: f64,
    /// The part under the lock.
    pub lock: f64,
    /// Number of tasks of this kind.
    pub count: u32,
}

impl TaskKind {
    /// Number of parts in which an input is read.
    pub fn parts(&self, costs: &Costs) -> u32 {
        (self.input / costs.part).ceil().max(1.0) as u32
    }

    /// Number of GET requests: a header and some parts for each input.
    pub fn gets(&self, costs: &Costs) -> u32 {
        self.inputs * (1 + self.parts(costs))
    }

    /// Megabytes that are read.
    pub fn read(&self) -> f64 {
        f64::from(self.inputs) * self.input
    }

    /// Time in seconds in which the inputs of one step are fetched, without waiting for anybody, with this latency of a
    /// request: the first part alone, which tells the size, then others at once.
    pub fn fetch(&self, costs: &Costs, mut latency: impl FnMut() -> f64) -> f64 {
        let first = self.input.min(costs.part);
        let (rest, streams) = (self.input - first, f64::from(self.parts(costs) - 1).min(costs.parts_at_once));
        let mut time = latency() + first / costs.stream;
        if rest > 0.0 {
            time += latency() + rest / (costs.stream * streams);
        }
        time
    }

    /// Processor time in seconds that is saved if another recipe of the group has read the inputs.
    pub fn saved(&self, costs: &Costs) -> f64 {
        costs.cpu_transfer / 1000.0 * self.read()
    }

    /// What it costs if another recipe of its group has read the inputs.
    #[must_use]
    pub fn riding(&self, costs: &Costs) -> TaskKind {
        TaskKind { cpu: self.cpu - self.saved(costs), inputs: 0, steps: 0, ..self.clone() }
    }

    /// Time in seconds for which a task occupies a slot that waits for no other, with mean latencies.
    pub fn alone(&self, costs: &Costs) -> f64 {
        let mean = crate::random::mean_latency() / 1000.0;
        let (get, put) = (costs.get_latency * mean, costs.put_latency * mean);
        let headers = get * (f64::from(self.inputs) / costs.headers_at_once).ceil();
        let (step, steps) = match self.steps {
            0 => (0.0, 1.0),
            steps => (self.fetch(costs, || get), f64::from(steps)),
        };
        let (fetching, making) = (steps * step, self.cpu - self.lock);
        let made = (fetching + making / steps).max(step + making);
        let put = put + self.written / costs.stream;
        let messages = 3.0 * costs.broker_latency / 1000.0;
        messages + get + headers + made + self.lock + put
    }
}

/// The order in which recipes are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListOrder {
    /// As the list has them: one dataset on one grid after the other.
    List,
    /// Day after day, those of a day that read much first.
    ByTime,
}

/// Returns the kinds of recipes of Release 6: a latlon one comes after the native one of its dataset. With `grouped`, both
/// travel together.
pub(crate) fn kinds(costs: &Costs, grouped: bool) -> Vec<TaskKind> {
    let mut kinds = Vec::new();
    let mut directory = 0;
    for (period, count) in [("day", DAYS), ("month", MONTHS)] {
        for dataset in &DATASETS {
            let first = directory;
            directory += dataset.native - dataset.derived;
            let native = granule(costs, dataset, dataset.native, 0, false);
            let latlon = dataset.latlon.map(|(variables, pairs)| TaskKind {
                rides: grouped,
                ..granule(costs, dataset, variables, pairs, true)
            });
            kinds.extend(std::iter::once(native).chain(latlon).map(|kind| TaskKind {
                name: format!("{} {period}", kind.name),
                directory: first,
                count,
                ..kind
            }));
        }
    }
    kinds
}

fn granule(costs: &Costs, dataset: &DatasetShape, variables: u32, pairs: u32, is_latlon: bool) -> TaskKind {
    let (cpu, size) = match (dataset.is_3d, is_latlon) {
        (false, false) => (costs.cpu_2d_native, costs.write_2d_native),
        (false, true) => (costs.cpu_2d_latlon, costs.write_2d_latlon),
        (true, false) => (costs.cpu_3d_native, costs.write_3d_native),
        (true, true) => (costs.cpu_3d_latlon, costs.write_3d_latlon),
    };
    let (input, lock) = if dataset.is_3d { (costs.read_3d, costs.lock_3d) } else { (costs.read_2d, costs.lock_2d) };
    let constant = if is_latlon { 0.0 } else { costs.static_native };
    let written = constant + f64::from(variables) * size;
    let inputs = variables - dataset.derived;
    let transferred = f64::from(inputs) * input + written;
    TaskKind {
        name: format!("{} {}", dataset.name, if is_latlon { "latlon" } else { "native" }),
        is_3d: dataset.is_3d,
        rides: false,
        inputs,
        directory: 0,
        steps: inputs - pairs,
        input,
        written,
        cpu: (f64::from(variables) * cpu + costs.cpu_transfer * transferred) / 1000.0,
        // A granule with one small variable takes little more than its time under the lock.
        lock: (lock / 1000.0).min(f64::from(variables) * cpu / 1000.0),
        count: 0,
    }
}

/// Returns the tasks in an order, as positions in `kinds`. One that rides comes after the one that it rides with.
pub(crate) fn tasks(kinds: &[TaskKind], order: ListOrder) -> Vec<u16> {
    let leader = |at: usize| if kinds[at].rides { at - 1 } else { at };
    let mut all: Vec<usize> = (0..kinds.len()).collect();
    if order == ListOrder::List {
        // The list has all native datasets before all latlon ones. Recipes that are far from each other travel together
        // only if they read exactly the same.
        let is_apart = |at: usize| kinds[leader(at)].inputs != kinds[at].inputs;
        let is_later = |at: usize| kinds[at].name.contains("latlon") && (!kinds[at].rides || is_apart(at));
        all.sort_by_key(|at| (kinds[*at].count < DAYS, is_later(*at)));
        let mut tasks = Vec::new();
        let together = |one: &usize, other: &usize| kinds[*other].rides && *other == one + 1;
        for group in all.chunk_by(together) {
            let row = || group.iter().map(|at| *at as u16);
            tasks.extend((0..kinds[group[0]].count).flat_map(|_| row()));
        }
        return tasks;
    }
    // The size counts in powers of 2, as in `rank` of `coordinator/production/src/ledger/order.rs`.
    all.sort_by_key(|at| ((kinds[leader(*at)].read() * 1e6) as u64).leading_zeros());
    let most = kinds.iter().map(|kind| kind.count).max().unwrap_or_default();
    let due = |kind: &TaskKind, step: u32| (step + 1) * kind.count / most > step * kind.count / most;
    let of_step = |step| all.iter().filter(move |at| due(&kinds[**at], step)).map(|at| *at as u16);
    (0..most).flat_map(of_step).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_release_has_the_granules_and_files_that_it_has() {
        let costs = Costs::default();
        let kinds = kinds(&costs, true);
        let sum =
            |of: &dyn Fn(&TaskKind) -> f64| -> f64 { kinds.iter().map(|kind| of(kind) * f64::from(kind.count)).sum() };
        assert_eq!(sum(&|_| 1.0), 521_598.0 + 17_136.0);
        let files = sum(&|kind| if kind.rides { 0.0 } else { f64::from(2 * kind.inputs) });
        assert_eq!(files, 2.0 * 132.0 * f64::from(DAYS + MONTHS), "two files for each of 132 variables");
        let (read, written) = (sum(&TaskKind::read) / 1e6, sum(&|kind| kind.written) / 1e6);
        assert!((20.0..23.0).contains(&read) && (9.0..10.5).contains(&written), "{read} TB, {written} TB");
        let hours = sum(&|kind| kind.cpu) / 3600.0 - (read + written) * 1e6 * costs.cpu_transfer / 3.6e6;
        assert!((48.0..53.0).contains(&hours), "{hours} hours");
    }

    #[test]
    fn every_order_has_the_same_tasks() {
        let costs = Costs::default();
        let [alone, grouped] = [false, true].map(|grouped| kinds(&costs, grouped));
        let of = |kinds: &[TaskKind], order| {
            let mut tasks = tasks(kinds, order);
            let rides = |pair: &&[u16]| kinds[usize::from(pair[1])].rides && pair[1] == pair[0] + 1;
            let (first, riders) = (tasks[0], tasks.windows(2).filter(rides).count());
            tasks.sort_unstable();
            (first, riders, tasks)
        };
        let (list, by_time) = (of(&alone, ListOrder::List), of(&alone, ListOrder::ByTime));
        let (list_grouped, grouped_by_time) = (of(&grouped, ListOrder::List), of(&grouped, ListOrder::ByTime));
        assert_eq!(list.2.len(), 538_734);
        assert!([&by_time, &list_grouped, &grouped_by_time].iter().all(|other| other.2 == list.2));
        assert!(alone[usize::from(by_time.0)].is_3d && !alone[usize::from(list.0)].is_3d);
        assert_eq!((list.1, by_time.1), (0, 0));
        let pairs = 13 * (DAYS + MONTHS) as usize;
        assert_eq!(grouped_by_time.1, pairs);
        assert!((10 * (DAYS + MONTHS) as usize..pairs).contains(&list_grouped.1), "{}", list_grouped.1);
    }
}
