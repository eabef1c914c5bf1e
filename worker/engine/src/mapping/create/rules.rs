//! The rules for the distance of source cells from a target cell.

use super::target::RegularTarget;
use crate::metadata::factor_keys::{FactorKeys, RadiusMethod};
use edp_protocol::Mode;
use std::fmt;

/// Length in metres of a degree of latitude, as EDP has it.
const DEGREE: f64 = 111_000.0;
/// EDP's default radius, which is meant in kilometres but used in metres: all factors of Release 4 were made with it.
const AS_SHIPPED: f64 = 111.0 / 2.0 * std::f64::consts::SQRT_2;
/// Largest number of neighbours that EDP considers.
const EDP_NEIGHBOURS: usize = 100;

/// The radius around the centre of a target cell within which source cells are averaged.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum RadiusRule {
    /// The radius of a circle with the area of the cell (EDP's `method_1`).
    CellArea,
    /// Half of the diagonal of a cell at the equator, the same everywhere (EDP's `method_2`).
    HalfDiagonal,
    /// A number of metres, the same everywhere.
    Metres(f64),
}

impl RadiusRule {
    /// Returns the rule of the EDP of 2024 without a configured radius: 78 m, so that every cell has one source.
    pub(crate) const fn as_shipped() -> RadiusRule {
        RadiusRule::Metres(AS_SHIPPED)
    }

    /// Returns the rule that corresponds to a configured radius. It is documented as kilometres; EDP of 2024 takes the
    /// number as metres, and EDP of 2026 divides it by 1000.
    pub fn configured(number: f64, mode: Mode) -> RadiusRule {
        RadiusRule::Metres(match mode {
            Mode::Corrected => number * 1000.0,
            Mode::Edp2024 => number,
            Mode::Edp2026 => number / 1000.0,
        })
    }

    /// Returns the radius for the cells of each row in metres.
    pub(crate) fn radii(self, target: &RegularTarget) -> Vec<f64> {
        let same = |metres: f64| vec![metres; target.latitudes.len()];
        match self {
            RadiusRule::CellArea => target.areas().iter().map(|area| (area / std::f64::consts::PI).sqrt()).collect(),
            RadiusRule::HalfDiagonal => same(DEGREE * target.resolution * 2.0_f64.sqrt() / 2.0),
            RadiusRule::Metres(metres) => same(metres),
        }
    }
}

impl fmt::Display for RadiusRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RadiusRule::CellArea => f.write_str("method_1 (circle of the area of the cell)"),
            RadiusRule::HalfDiagonal => f.write_str("method_2 (half of the diagonal of a cell at the equator)"),
            RadiusRule::Metres(metres) => write!(f, "{metres:.2} m"),
        }
    }
}

/// The limit on the number of source cells within the radius that count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NeighbourLimit {
    /// All cells within the radius count.
    None,
    /// Only the nearest cells count, this many.
    Nearest(usize),
    /// As many cells count as EDP considers: those that fit into the largest radius, at most 100.
    Edp,
}

impl NeighbourLimit {
    /// Returns the limit, for the largest radius and the shortest side of a source cell in metres.
    pub fn count(self, largest: f64, shortest: f64) -> usize {
        match self {
            NeighbourLimit::None => usize::MAX,
            NeighbourLimit::Nearest(count) => count,
            NeighbourLimit::Edp => {
                let fit = 2.0 * largest / shortest;
                (fit * fit).ceil().clamp(1.0, EDP_NEIGHBOURS as f64) as usize
            }
        }
    }
}

/// The rules that determine factors together with the two grids.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FactorRules {
    /// The radius of averages.
    pub radius: RadiusRule,
    /// Limit on the number of cells that are averaged.
    pub neighbours: NeighbourLimit,
    /// True if positions have single precision, with an error of half a metre, as with EDP of 2026: one cell of several
    /// hundred thousand that lies just at the radius is then inside instead of outside, or vice versa.
    pub single: bool,
}

impl FactorRules {
    /// Returns the rules of a mode with the keys of a configuration.
    ///
    /// `corrected` uses the configured radius in kilometres, or the configured method, or `method_1`, and all
    /// neighbours. EDP of 2024 has no methods.
    pub fn of(keys: &FactorKeys, mode: Mode) -> FactorRules {
        let radius = match (keys.radius, keys.method, mode) {
            (Some(radius), ..) => RadiusRule::configured(radius, mode),
            (None, _, Mode::Edp2024) => RadiusRule::as_shipped(),
            (None, Some(RadiusMethod::HalfDiagonal), _) => RadiusRule::HalfDiagonal,
            (None, Some(RadiusMethod::CellArea) | None, _) => RadiusRule::CellArea,
        };
        let neighbours = if mode.is_edp() { NeighbourLimit::Edp } else { NeighbourLimit::None };
        FactorRules { radius, neighbours, single: mode == Mode::Edp2026 }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::target::TargetEdges;
    use super::*;

    #[test]
    fn radii_of_half_a_degree() {
        let target = RegularTarget::new(0.5, TargetEdges::GLOBE, true).unwrap();
        let radii = |rule: RadiusRule| rule.radii(&target);
        let areas = radii(RadiusRule::CellArea);
        assert!((areas[0] - 2072.0).abs() < 1.0 && (areas[180] - 31_367.0).abs() < 1.0, "{} {}", areas[0], areas[180]);
        assert!(radii(RadiusRule::HalfDiagonal).iter().all(|radius| (radius - 39_244.4).abs() < 0.1));
        assert!(radii(RadiusRule::as_shipped()).iter().all(|radius| (radius - 78.49).abs() < 0.01));
        for (mode, metres) in [(Mode::Corrected, 40_000.0), (Mode::Edp2024, 40.0), (Mode::Edp2026, 0.04)] {
            assert_eq!(RadiusRule::configured(40.0, mode), RadiusRule::Metres(metres));
        }
    }

    #[test]
    fn rules_of_configurations() {
        let rules = |radius, method, mode| {
            let keys = FactorKeys { radius, method, ..FactorKeys::default() };
            FactorRules::of(&keys, mode)
        };
        let diagonal = Some(RadiusMethod::HalfDiagonal);
        for (mode, none, method) in [
            (Mode::Corrected, RadiusRule::CellArea, RadiusRule::HalfDiagonal),
            (Mode::Edp2024, RadiusRule::as_shipped(), RadiusRule::as_shipped()),
            (Mode::Edp2026, RadiusRule::CellArea, RadiusRule::HalfDiagonal),
        ] {
            assert_eq!(rules(None, None, mode).radius, none, "{mode}");
            assert_eq!(rules(None, diagonal, mode).radius, method, "{mode}");
            assert_eq!(rules(Some(2.0), diagonal, mode).radius, RadiusRule::configured(2.0, mode));
            assert_eq!(rules(None, None, mode).neighbours == NeighbourLimit::None, mode == Mode::Corrected);
        }
    }

    #[test]
    fn limits_of_neighbours() {
        assert_eq!(NeighbourLimit::Edp.count(31_367.0, 233.561_58), 100);
        assert_eq!(NeighbourLimit::Edp.count(78.49, 233.561_58), 1);
        assert_eq!(NeighbourLimit::Edp.count(500.0, 250.0), 16);
        assert_eq!(NeighbourLimit::Edp.count(0.0, 233.0), 1);
        assert_eq!(NeighbourLimit::Nearest(3).count(500.0, 250.0), 3);
        assert_eq!(NeighbourLimit::None.count(1.0, 1.0), usize::MAX);
    }
}
