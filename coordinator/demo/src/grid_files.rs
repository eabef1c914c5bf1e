//! The grid directory: MDS files, the model's list of available diagnostics, and geometry files.

use super::DemoError;
use super::bathymetry::{self, LEVELS, OpenFractions, THICKNESS};
use super::datasets::{CellPoint, DemoVariable, MODEL};
use super::factors::RegularGrid;
use super::geometry::DemoGeometry;
use super::geometry_files::{self, reference, steps_between};
use super::mds::{write_planes, write_profile};
use super::metadata::{Names, save};
use super::topology::cells;
use edp_engine::grid::DIAGNOSTICS_FILE;
use std::path::Path;

/// Writes all files of the grid directory.
pub(super) fn write(
    directory: &Path,
    grid: &DemoGeometry,
    open: &OpenFractions,
    target: &RegularGrid,
    nearest: &[Option<usize>],
    names: &Names,
) -> Result<(), DemoError> {
    let own: Vec<_> = cells(grid.n).map(|cell| grid.own_corner(cell)).collect();
    let first = |pairs: &[(f64, f64)]| pairs.iter().map(|p| p.0).collect::<Vec<_>>();
    let second = |pairs: &[(f64, f64)]| pairs.iter().map(|p| p.1).collect::<Vec<_>>();
    let planes = [
        ("XC", &first(&grid.centres)),
        ("YC", &second(&grid.centres)),
        ("XG", &first(&own)),
        ("YG", &second(&own)),
        ("RAC", &grid.rac),
        ("RAW", &grid.raw),
        ("RAS", &grid.ras),
        ("RAZ", &grid.raz),
        ("DXC", &grid.dxc),
        ("DYC", &grid.dyc),
        ("DXG", &grid.dxg),
        ("DYG", &grid.dyg),
        ("AngleCS", &grid.cs),
        ("AngleSN", &grid.sn),
        ("Depth", &open.depth),
    ];
    for (name, values) in planes {
        let values: Vec<f32> = values.iter().map(|v| *v as f32).collect();
        write_planes(&directory.join(name), grid.n, &values, None)?;
    }
    for (name, values) in [("hFacC", &open.c), ("hFacW", &open.w), ("hFacS", &open.s)] {
        write_planes(&directory.join(name), grid.n, values, None)?;
    }
    let (centres, faces) = (bathymetry::centres(), bathymetry::faces());
    for (name, values) in [
        ("RC", &centres),
        ("RF", &faces),
        ("DRC", &steps_between()),
        ("DRF", &THICKNESS.to_vec()),
        ("PHrefC", &reference(&centres)),
        ("PHrefF", &reference(&faces)),
    ] {
        write_profile(&directory.join(name), values)?;
    }
    save(&directory.join(DIAGNOSTICS_FILE), &diagnostics())?;
    geometry_files::write_native(&directory.join(native_name(&names.native_label)), grid, open)?;
    geometry_files::write_latlon(&directory.join(latlon_name(&names.latlon_label)), target, nearest, open)
}

/// Returns the name of the native geometry file.
pub(super) fn native_name(label: &str) -> String {
    format!("GRID_GEOMETRY_DEMO_native_{label}.nc")
}

/// Returns the name of the latlon geometry file.
pub(super) fn latlon_name(label: &str) -> String {
    format!("GRID_GEOMETRY_DEMO_latlon_{label}.nc")
}

/// Returns the list of the diagnostics that the model can write, in seven columns.
fn diagnostics() -> String {
    let mut text = format!(
        " Total Nb of available Diagnostics: ndiagt= {:5}\n  Num  |<-Name->|Levs|  mate |<- code ->|<--  Units   -->|<- Tile\n",
        MODEL.len()
    );
    let number =
        |name: &str| MODEL.iter().position(|v| v.name == name).map_or(String::new(), |at| (at + 1).to_string());
    for DemoVariable { name, three_d, place, units, long_name, .. } in MODEL {
        let mate = match *name {
            "UVEL" => number("VVEL"),
            "VVEL" => number("UVEL"),
            _ => String::new(),
        };
        let code = match (place, three_d) {
            (CellPoint::C, false) => "SM      M1",
            (CellPoint::C, true) => "SMR     MR",
            (CellPoint::U, false) => "UU      M1",
            (CellPoint::U, true) => "UUR     MR",
            (CellPoint::V, false) => "VV      M1",
            (CellPoint::V, true) => "VVR     MR",
            (CellPoint::W, _) => "WM      LR",
        };
        let levels = if *three_d { LEVELS } else { 1 };
        text += &format!("{:>6} |{name:8}|{levels:3} |{mate:>6} |{code}|{units:16}|{long_name}\n", number(name));
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use edp_engine::grid::{Diagnostics, HorizontalPoint, VerticalPoint};

    #[test]
    fn the_reader_understands_the_list() {
        let list = Diagnostics::parse("list", diagnostics().as_bytes()).unwrap();
        let place = |name| {
            let placement = list.placement(name).unwrap();
            (placement.horizontal, placement.vertical)
        };
        assert_eq!(place("SSH"), (HorizontalPoint::C, None));
        assert_eq!(place("THETA"), (HorizontalPoint::C, Some(VerticalPoint::Center)));
        assert_eq!(place("UVEL"), (HorizontalPoint::U, Some(VerticalPoint::Center)));
        assert_eq!(place("VVEL"), (HorizontalPoint::V, Some(VerticalPoint::Center)));
        assert_eq!(place("WVELMASS"), (HorizontalPoint::C, Some(VerticalPoint::Lower)));
    }
}
