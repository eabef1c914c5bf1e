//! Descriptions of coordinates and of the fixed fields of the grid, for metadata and geometry files alike.

/// A coordinate or fixed field. Empty texts stand for absent attributes.
pub(super) struct FieldDescription {
    pub(super) name: &'static str,
    /// Dimensions in the geometry files, the slowest first.
    pub(super) dimensions: &'static [&'static str],
    pub(super) units: &'static str,
    pub(super) standard_name: &'static str,
    pub(super) long_name: &'static str,
    pub(super) comment: &'static str,
    /// Value of the attribute `axis`.
    pub(super) axis: &'static str,
    /// Value of the attribute `positive`.
    pub(super) positive: &'static str,
    /// Name of the variable with the bounds.
    pub(super) bounds: &'static str,
}

const fn fixed(
    name: &'static str,
    dimensions: &'static [&'static str],
    units: &'static str,
    standard_name: &'static str,
    long_name: &'static str,
    comment: &'static str,
) -> FieldDescription {
    FieldDescription { name, dimensions, units, standard_name, long_name, comment, axis: "", positive: "", bounds: "" }
}

const fn index(
    name: &'static str,
    dimensions: &'static [&'static str],
    axis: &'static str,
    long_name: &'static str,
) -> FieldDescription {
    FieldDescription { axis, ..fixed(name, dimensions, "", "", long_name, "") }
}

const fn place(
    name: &'static str,
    dimensions: &'static [&'static str],
    units: &'static str,
    standard_name: &'static str,
    long_name: &'static str,
    bounds: &'static str,
) -> FieldDescription {
    FieldDescription { bounds, ..fixed(name, dimensions, units, standard_name, long_name, "") }
}

const fn height(
    name: &'static str,
    dimensions: &'static [&'static str],
    axis: &'static str,
    long_name: &'static str,
    bounds: &'static str,
) -> FieldDescription {
    FieldDescription { positive: "up", axis, ..place(name, dimensions, "m", "depth", long_name, bounds) }
}

const C: &[&str] = &["tile", "j", "i"];
const U: &[&str] = &["tile", "j", "i_g"];
const V: &[&str] = &["tile", "j_g", "i"];
const G: &[&str] = &["tile", "j_g", "i_g"];
const CORNERS: &str = "Corners in the order (j, i), (j, i+1), (j+1, i+1), (j+1, i) of the model's own indices";

/// Coordinates and bounds of native files.
pub(super) const NATIVE_COORDINATES: &[FieldDescription] = &[
    index("i", &["i"], "X", "index of cells along the x axis of a tile"),
    index("i_g", &["i_g"], "X", "index of western cell faces along the x axis of a tile"),
    index("j", &["j"], "Y", "index of cells along the y axis of a tile"),
    index("j_g", &["j_g"], "Y", "index of southern cell faces along the y axis of a tile"),
    index("k", &["k"], "Z", "index of levels from the surface down"),
    index("k_u", &["k_u"], "Z", "index of the lower faces of the levels"),
    index("k_l", &["k_l"], "Z", "index of the upper faces of the levels"),
    index("k_p1", &["k_p1"], "Z", "index of all faces of the levels, surface and bottom included"),
    index("tile", &["tile"], "", "number of the tile in the lat-lon-cap grid"),
    place("XC", C, "degrees_east", "longitude", "longitude of the cell centre", "XC_bnds"),
    place("YC", C, "degrees_north", "latitude", "latitude of the cell centre", "YC_bnds"),
    place("XG", G, "degrees_east", "longitude", "longitude of the cell corner at low i and j", ""),
    place("YG", G, "degrees_north", "latitude", "latitude of the cell corner at low i and j", ""),
    height("Z", &["k"], "", "height of the middle of the level", "Z_bnds"),
    height("Zp1", &["k_p1"], "", "height of the faces of the levels", ""),
    height("Zu", &["k_u"], "", "height of the lower face of the level", ""),
    height("Zl", &["k_l"], "", "height of the upper face of the level", ""),
    fixed("XC_bnds", &["tile", "j", "i", "nb"], "degrees_east", "", "longitudes of the corners of the cell", CORNERS),
    fixed("YC_bnds", &["tile", "j", "i", "nb"], "degrees_north", "", "latitudes of the corners of the cell", CORNERS),
    fixed("Z_bnds", &["k", "nv"], "m", "", "heights of the upper and lower face of the level", ""),
];

/// Coordinates and bounds of latlon files.
pub(super) const LATLON_COORDINATES: &[FieldDescription] = &[
    FieldDescription {
        axis: "Y",
        ..place("latitude", &["latitude"], "degrees_north", "latitude", "latitude of the cell centre", "latitude_bnds")
    },
    fixed("latitude_bnds", &["latitude", "nv"], "degrees_north", "", "latitudes of the cell edges", ""),
    FieldDescription {
        axis: "X",
        ..place(
            "longitude",
            &["longitude"],
            "degrees_east",
            "longitude",
            "longitude of the cell centre",
            "longitude_bnds",
        )
    },
    fixed("longitude_bnds", &["longitude", "nv"], "degrees_east", "", "longitudes of the cell edges", ""),
    height("Z", &["Z"], "Z", "height of the middle of the level", "Z_bnds"),
    fixed("Z_bnds", &["Z", "nv"], "m", "", "heights of the upper and lower face of the level", ""),
];

/// Fixed fields of the native grid.
pub(super) const NATIVE_FIELDS: &[FieldDescription] = &[
    fixed("CS", C, "1", "", "cosine of the angle from east to the x axis of the tile", TURN),
    fixed("SN", C, "1", "", "sine of the angle from east to the x axis of the tile", TURN),
    fixed("rA", C, "m2", "cell_area", "area of the cell", ""),
    fixed("dxG", V, "m", "", "length of the southern side of the cell", AXES),
    fixed("dyG", U, "m", "", "length of the western side of the cell", AXES),
    fixed("Depth", C, "m", "sea_floor_depth_below_geoid", "depth of the sea floor as the cells hold it", ""),
    fixed("rAz", G, "m2", "cell_area", "area around the corner of the cell", AXES),
    fixed("dxC", U, "m", "", "distance to the centre of the western neighbour", AXES),
    fixed("dyC", V, "m", "", "distance to the centre of the southern neighbour", AXES),
    fixed("rAw", U, "m2", "cell_area", "area around the western face of the cell", AXES),
    fixed("rAs", V, "m2", "cell_area", "area around the southern face of the cell", AXES),
    fixed("drC", &["k_p1"], "m", "", "distance between the middles of neighbouring levels", ""),
    fixed("drF", &["k"], "m", "cell_thickness", "thickness of the level", ""),
    fixed("PHrefC", &["k"], "m2 s-2", "", "reference hydrostatic pressure over density in the middle of the level", ""),
    fixed(
        "PHrefF",
        &["k_p1"],
        "m2 s-2",
        "",
        "reference hydrostatic pressure over density at the faces of the level",
        "",
    ),
    fixed("hFacC", &["k", "tile", "j", "i"], "1", "", "open part of the cell", PARTS),
    fixed("hFacW", &["k", "tile", "j", "i_g"], "1", "", "open part of the western face of the cell", PARTS),
    fixed("hFacS", &["k", "tile", "j_g", "i"], "1", "", "open part of the southern face of the cell", PARTS),
    fixed("maskC", &["k", "tile", "j", "i"], "", "", "whether the cell holds water", ""),
    fixed("maskW", &["k", "tile", "j", "i_g"], "", "", "whether the western face of the cell is open", ""),
    fixed("maskS", &["k", "tile", "j_g", "i"], "", "", "whether the southern face of the cell is open", ""),
];

/// Fixed fields of the latlon grid.
pub(super) const LATLON_FIELDS: &[FieldDescription] = &[
    fixed("hFacC", &["Z", "latitude", "longitude"], "1", "", "open part of the cell", PARTS),
    fixed("Depth", &["latitude", "longitude"], "m", "sea_floor_depth_below_geoid", "depth of the sea floor", ""),
    fixed("area", &["latitude", "longitude"], "m2", "cell_area", "area of the cell", ""),
    fixed("drF", &["Z"], "m", "cell_thickness", "thickness of the level", ""),
    fixed("maskC", &["Z", "latitude", "longitude"], "", "", "whether the cell holds water", ""),
];

const TURN: &str =
    "A vector (x, y) along the axes of the tile has the components east = CS x - SN y, north = SN x + CS y";
const AXES: &str = "West and south are meant along the axes of the tile";
const PARTS: &str = "0 is closed, 1 wholly open; the lowest open cell of a column may be open in part";
