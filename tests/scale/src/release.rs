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

/// What one task message asks for: a granule, or two that are made from one read.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskKind {
    /// Name of the dataset and of its grids.
    pub name: String,
    /// True if the variables have levels.
    pub is_3d: bool,
    /// Number of granules: 1, or 2 if the native and the latlon one are made together.
    pub granules: u32,
    /// Number of input files, without their headers.
    pub inputs: u32,
    /// Number of the directory of the first of them. The others are in the directories after it.
    pub directory: u32,
    /// Number of steps in which the inputs are fetched: a pair of components is fetched at once.
    pub steps: u32,
    /// Size of an input in megabytes.
    pub input: f64,
    /// Size of the granules in megabytes.
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

    /// Time in seconds for which a task occupies a slot that waits for nobody, with mean latencies.
    pub fn alone(&self, costs: &Costs) -> f64 {
        let mean = crate::random::mean_latency() / 1000.0;
        let (get, put) = (costs.get_latency * mean, costs.put_latency * mean);
        let headers = get * (f64::from(self.inputs) / costs.headers_at_once).ceil();
        let steps = f64::from(self.steps);
        let step = self.fetch(costs, || get);
        let (fetching, making) = (steps * step, self.cpu - self.lock);
        let made = (fetching + making / steps).max(step + making);
        let granules = f64::from(self.granules);
        let put = granules * put + self.written / costs.stream;
        let messages = 3.0 * costs.broker_latency / 1000.0;
        messages + get * granules + headers + made + self.lock + put
    }
}

/// The order in which recipes are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListOrder {
    /// As the list has them: one dataset on one grid after the other.
    List,
    /// Those that take long before those that do not.
    LargeFirst,
    /// All datasets side by side, day after day.
    Mixed,
}

/// Returns the kinds of tasks of Release 6, in the order of its list. With `grouped`, native and latlon granules of one
/// dataset and time are one task.
pub(crate) fn kinds(costs: &Costs, grouped: bool) -> Vec<TaskKind> {
    let mut kinds = Vec::new();
    let mut directory = 0;
    for (period, count) in [("day", DAYS), ("month", MONTHS)] {
        for dataset in &DATASETS {
            let first = directory;
            directory += dataset.native - dataset.derived;
            let native = granule(costs, dataset, dataset.native, 0, false);
            let latlon = dataset.latlon.map(|(variables, pairs)| granule(costs, dataset, variables, pairs, true));
            let together = latlon.clone().filter(|_| grouped).map(|latlon| TaskKind {
                name: format!("{} native and latlon", dataset.name),
                granules: 2,
                written: native.written + latlon.written,
                // What one of them has read, the other one need not read again.
                cpu: native.cpu + latlon.cpu - costs.cpu_transfer / 1000.0 * latlon.read(),
                lock: native.lock + latlon.lock,
                ..native.clone()
            });
            let of_both = match together {
                Some(both) => vec![both],
                None => std::iter::once(native).chain(latlon).collect(),
            };
            kinds.extend(of_both.into_iter().map(|kind| TaskKind {
                name: format!("{} {period}", kind.name),
                directory: first,
                count,
                ..kind
            }));
        }
    }
    if !grouped {
        // The list has all native datasets before all latlon ones.
        kinds.sort_by_key(|kind| (kind.count < DAYS, kind.name.contains("latlon")));
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
        granules: 1,
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

/// Returns the tasks in an order, as positions in `kinds`.
pub(crate) fn tasks(kinds: &[TaskKind], order: ListOrder, costs: &Costs) -> Vec<u16> {
    let mut order_of: Vec<usize> = (0..kinds.len()).collect();
    if order == ListOrder::LargeFirst {
        let time = |at: &usize| kinds[*at].alone(costs);
        order_of.sort_by(|one, other| time(other).total_cmp(&time(one)));
    }
    let in_a_row = |at: &usize| std::iter::repeat_n(*at as u16, kinds[*at].count as usize);
    if order != ListOrder::Mixed {
        return order_of.iter().flat_map(in_a_row).collect();
    }
    let most = kinds.iter().map(|kind| kind.count).max().unwrap_or_default();
    let due = |kind: &TaskKind, step: u32| (step + 1) * kind.count / most > step * kind.count / most;
    (0..most).flat_map(|step| (0..kinds.len()).filter(move |at| due(&kinds[*at], step)).map(|at| at as u16)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_release_has_the_granules_and_files_that_it_has() {
        let costs = Costs::default();
        let sum = |grouped, of: fn(&TaskKind) -> f64| -> f64 {
            kinds(&costs, grouped).iter().map(|kind| of(kind) * f64::from(kind.count)).sum()
        };
        for grouped in [false, true] {
            assert_eq!(sum(grouped, |kind| f64::from(kind.granules)), 521_598.0 + 17_136.0);
        }
        let files = sum(true, |kind| f64::from(2 * kind.inputs));
        assert_eq!(files, 2.0 * 132.0 * f64::from(DAYS + MONTHS), "two files for each of 132 variables");
        let (read, written) = (sum(false, TaskKind::read) / 1e6, sum(false, |kind| kind.written) / 1e6);
        assert!((20.0..23.0).contains(&read) && (9.0..10.5).contains(&written), "{read} TB, {written} TB");
        let hours = sum(false, |kind| kind.cpu) / 3600.0 - (read + written) * 1e6 * costs.cpu_transfer / 3.6e6;
        assert!((48.0..53.0).contains(&hours), "{hours} hours");
    }

    #[test]
    fn every_order_has_the_same_tasks() {
        let costs = Costs::default();
        let kinds = kinds(&costs, false);
        let of = |order| {
            let mut tasks = tasks(&kinds, order, &costs);
            let first = tasks[0];
            tasks.sort_unstable();
            (first, tasks)
        };
        let (list, large, mixed) = (of(ListOrder::List), of(ListOrder::LargeFirst), of(ListOrder::Mixed));
        assert!(list.1 == large.1 && list.1 == mixed.1);
        assert_eq!(list.1.len(), 538_734);
        assert!(kinds[usize::from(large.0)].is_3d && !kinds[usize::from(list.0)].is_3d);
    }
}
