//! The variables and datasets of the demo.

/// The point of a cell at which a variable is defined.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum CellPoint {
    /// The centre of the cell.
    C,
    /// West face of the cell.
    U,
    /// South face of the cell.
    V,
    /// Top face of the cell.
    W,
}

/// A variable that the model writes or a granule has. Empty texts stand for absent attributes.
pub(super) struct DemoVariable {
    pub(super) name: &'static str,
    pub(super) three_d: bool,
    pub(super) place: CellPoint,
    pub(super) units: &'static str,
    pub(super) long_name: &'static str,
    pub(super) standard_name: &'static str,
    pub(super) comment: &'static str,
    /// Text on the direction of positive values.
    pub(super) direction: &'static str,
    pub(super) keywords: &'static str,
}

const HEIGHT: &str = "EARTH SCIENCE > OCEANS > SEA SURFACE TOPOGRAPHY > SEA SURFACE HEIGHT";
const CURRENTS: &str = "EARTH SCIENCE > OCEANS > OCEAN CIRCULATION > OCEAN CURRENTS";

/// The variables that the model writes.
pub(super) const MODEL: &[DemoVariable] = &[
    DemoVariable {
        name: "SSH",
        three_d: false,
        place: CellPoint::C,
        units: "m",
        long_name: "height of the sea surface, inverted barometer taken off",
        standard_name: "sea_surface_height_above_geoid",
        comment: "Invented: gyres, a circumpolar front and waves of random phase",
        direction: "",
        keywords: HEIGHT,
    },
    DemoVariable {
        name: "SSHIBC",
        three_d: false,
        place: CellPoint::C,
        units: "m",
        long_name: "answer of the sea surface to air pressure (inverted barometer)",
        standard_name: "",
        comment: "Invented",
        direction: "",
        keywords: HEIGHT,
    },
    DemoVariable {
        name: "SSHNOIBC",
        three_d: false,
        place: CellPoint::C,
        units: "m",
        long_name: "height of the sea surface, inverted barometer included",
        standard_name: "sea_surface_height_above_geoid",
        comment: "Sum of SSH and SSHIBC",
        direction: "",
        keywords: HEIGHT,
    },
    DemoVariable {
        name: "ETAN",
        three_d: false,
        place: CellPoint::C,
        units: "m",
        long_name: "height of the liquid surface, pressed down by sea ice and snow",
        standard_name: "",
        comment: "SSHNOIBC less the weight of ice and snow",
        direction: "",
        keywords: HEIGHT,
    },
    DemoVariable {
        name: "SIarea",
        three_d: false,
        place: CellPoint::C,
        units: "1",
        long_name: "part of the cell covered by sea ice",
        standard_name: "sea_ice_area_fraction",
        comment: "Invented: grows where the made-up surface water would freeze",
        direction: "",
        keywords: "EARTH SCIENCE > CRYOSPHERE > SEA ICE > SEA ICE CONCENTRATION",
    },
    DemoVariable {
        name: "SIheff",
        three_d: false,
        place: CellPoint::C,
        units: "m",
        long_name: "sea-ice thickness averaged over the whole cell",
        standard_name: "sea_ice_thickness",
        comment: "Open water counts as ice of no thickness",
        direction: "",
        keywords: "EARTH SCIENCE > CRYOSPHERE > SEA ICE > ICE DEPTH/THICKNESS",
    },
    DemoVariable {
        name: "SIhsnow",
        three_d: false,
        place: CellPoint::C,
        units: "m",
        long_name: "thickness of snow on sea ice averaged over the whole cell",
        standard_name: "surface_snow_thickness",
        comment: "Open water counts as snow of no thickness",
        direction: "",
        keywords: "EARTH SCIENCE > CRYOSPHERE > SEA ICE > SNOW DEPTH",
    },
    DemoVariable {
        name: "THETA",
        three_d: true,
        place: CellPoint::C,
        units: "degree_C",
        long_name: "potential temperature",
        standard_name: "sea_water_potential_temperature",
        comment: "Invented: falls off with latitude and depth",
        direction: "",
        keywords: "EARTH SCIENCE > OCEANS > OCEAN TEMPERATURE > POTENTIAL TEMPERATURE",
    },
    DemoVariable {
        name: "SALT",
        three_d: true,
        place: CellPoint::C,
        units: "1e-3",
        long_name: "salinity",
        standard_name: "sea_water_salinity",
        comment: "Invented: salty subtropics, fresh tropics and polar seas",
        direction: "",
        keywords: "EARTH SCIENCE > OCEANS > SALINITY/DENSITY > SALINITY",
    },
    DemoVariable {
        name: "UVEL",
        three_d: true,
        place: CellPoint::U,
        units: "m s-1",
        long_name: "velocity along the model's x axis",
        standard_name: "sea_water_x_velocity",
        comment: "Flow along the contours of SSH, slower with depth. The x axis of the model turns from tile to tile",
        direction: "positive along the x axis of the model",
        keywords: CURRENTS,
    },
    DemoVariable {
        name: "VVEL",
        three_d: true,
        place: CellPoint::V,
        units: "m s-1",
        long_name: "velocity along the model's y axis",
        standard_name: "sea_water_y_velocity",
        comment: "Flow along the contours of SSH, slower with depth. The y axis of the model turns from tile to tile",
        direction: "positive along the y axis of the model",
        keywords: CURRENTS,
    },
    DemoVariable {
        name: "WVELMASS",
        three_d: true,
        place: CellPoint::W,
        units: "m s-1",
        long_name: "upward velocity",
        standard_name: "upward_sea_water_velocity",
        comment: "Invented: upwelling on the equator and waves of random phase. Lies at the top face of the cell",
        direction: "positive upwards",
        keywords: CURRENTS,
    },
];

/// The variables that only latlon granules have: the model's vectors rotated to east and north.
pub(super) const ROTATED: &[DemoVariable] = &[
    DemoVariable {
        name: "EVEL",
        three_d: true,
        place: CellPoint::C,
        units: "m s-1",
        long_name: "eastward velocity",
        standard_name: "eastward_sea_water_velocity",
        comment: "UVEL and VVEL averaged to the cell centre and turned to geographic axes",
        direction: "positive eastwards",
        keywords: CURRENTS,
    },
    DemoVariable {
        name: "NVEL",
        three_d: true,
        place: CellPoint::C,
        units: "m s-1",
        long_name: "northward velocity",
        standard_name: "northward_sea_water_velocity",
        comment: "UVEL and VVEL averaged to the cell centre and turned to geographic axes",
        direction: "positive northwards",
        keywords: CURRENTS,
    },
];

/// Name in the model, and name in granules, of the one variable that granules rename.
pub(super) const RENAMED: (&str, &str) = ("WVELMASS", "WVEL");

/// One dataset. It has the same position in the groupings of both grids.
pub(super) struct DemoDataset {
    pub(super) name: &'static str,
    pub(super) filename: &'static str,
    /// Abbreviation for short names and identifiers.
    pub(super) code: &'static str,
    pub(super) title: &'static str,
    pub(super) three_d: bool,
    pub(super) comment: &'static str,
    pub(super) native: &'static [&'static str],
    pub(super) latlon: &'static [&'static str],
}

/// All datasets, in the order of the groupings.
pub(super) const DATASETS: &[DemoDataset] = &[
    DemoDataset {
        name: "sea surface height",
        filename: "SEA_SURFACE_HEIGHT",
        code: "SSH",
        title: "Sea Surface Height",
        three_d: false,
        comment: "SSHNOIBC = SSH + SSHIBC.",
        native: &["SSH", "SSHIBC", "SSHNOIBC", "ETAN"],
        latlon: &["SSH", "SSHIBC", "SSHNOIBC"],
    },
    DemoDataset {
        name: "sea-ice cover and thickness, and snow",
        filename: "SEA_ICE_CONC_THICKNESS",
        code: "ICE",
        title: "Sea-Ice Cover, Ice and Snow Thickness",
        three_d: false,
        comment: "",
        native: &["SIarea", "SIheff", "SIhsnow"],
        latlon: &["SIarea", "SIheff", "SIhsnow"],
    },
    DemoDataset {
        name: "ocean temperature and salinity",
        filename: "OCEAN_TEMPERATURE_SALINITY",
        code: "TSA",
        title: "Ocean Temperature and Salinity",
        three_d: true,
        comment: "",
        native: &["THETA", "SALT"],
        latlon: &["THETA", "SALT"],
    },
    DemoDataset {
        name: "ocean velocity",
        filename: "OCEAN_VELOCITY",
        code: "VEL",
        title: "Ocean Velocity",
        three_d: true,
        comment: "",
        native: &["UVEL", "VVEL", "WVELMASS"],
        latlon: &["EVEL", "NVEL", "WVELMASS"],
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datasets_name_variables_that_exist() {
        let known: Vec<_> = MODEL.iter().chain(ROTATED).map(|v| (v.name, v.three_d)).collect();
        for dataset in DATASETS {
            for name in dataset.native.iter().chain(dataset.latlon) {
                assert!(known.contains(&(name, dataset.three_d)), "{name}");
            }
        }
    }
}
