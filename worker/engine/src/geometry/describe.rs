//! Variables of geometry files with their attributes.

use crate::granule::blocks::Element;
use crate::granule::content::{Attributes, Chunked, Storage, Value, Values, Variable};
use crate::metadata::source::Metadata;
use crate::metadata::{coordinate, variable};
use edp_protocol::GridKind;

/// Name, units and meaning of what geometry files hold, for where there are no metadata.
const PLAIN: [(&str, &str, &str); 48] = [
    ("XC", "degrees_east", "longitude of tracer grid cell center"),
    ("YC", "degrees_north", "latitude of tracer grid cell center"),
    ("XG", "degrees_east", "longitude of 'southwest' corner of tracer grid cell"),
    ("YG", "degrees_north", "latitude of 'southwest' corner of tracer grid cell"),
    ("XU", "degrees_east", "longitude of 'west' face of tracer grid cell"),
    ("YU", "degrees_north", "latitude of 'west' face of tracer grid cell"),
    ("XV", "degrees_east", "longitude of 'south' face of tracer grid cell"),
    ("YV", "degrees_north", "latitude of 'south' face of tracer grid cell"),
    ("XGG", "degrees_east", "longitude of all corners of tracer grid cells"),
    ("YGG", "degrees_north", "latitude of all corners of tracer grid cells"),
    ("Z", "m", "depth of grid cell center"),
    ("Zp1", "m", "depth of top/bottom face of tracer grid cell"),
    ("Zu", "m", "depth of bottom face of tracer grid cell"),
    ("Zl", "m", "depth of top face of tracer grid cell"),
    ("latitude", "degrees_north", "latitude at grid cell center"),
    ("longitude", "degrees_east", "longitude at grid cell center"),
    ("CS", "1", "cosine of tracer grid cell orientation vs geographical north"),
    ("SN", "1", "sine of tracer grid cell orientation vs geographical north"),
    ("rA", "m2", "area of tracer grid cell"),
    ("rAs", "m2", "area of 'v' grid cell"),
    ("rAw", "m2", "area of 'u' grid cell"),
    ("rAz", "m2", "area of vorticity 'g' grid cell"),
    ("dxC", "m", "distance between centers of adjacent tracer grid cells in the 'x' direction"),
    ("dyC", "m", "distance between centers of adjacent tracer grid cells in the 'y' direction"),
    ("dxG", "m", "distance between 'southwest' and 'southeast' corners of the tracer grid cell"),
    ("dyG", "m", "distance between 'southwest' and 'northwest' corners of the tracer grid cell"),
    ("drC", "m", "distance between the centers of adjacent tracer grid cells in the 'z' direction"),
    ("drF", "m", "distance between the upper and lower interfaces of the model grid cell"),
    ("Depth", "m", "model seafloor depth below ocean surface at rest"),
    ("ice_shelf_draft", "m", "ice shelf draft"),
    ("ocean_column_thickness", "m", "ocean column thickness"),
    ("cavity_mask", "", "boolean mask indicating presence of ice-shelf cavity"),
    ("PHrefC", "m2 s-2", "reference ocean hydrostatic pressure at tracer grid cell center"),
    ("PHrefF", "m2 s-2", "reference ocean hydrostatic pressure at tracer grid cell top/bottom interface"),
    ("hFacC", "1", "vertical open fraction of tracer grid cell"),
    ("hFacW", "1", "vertical open fraction of tracer grid cell 'west' face"),
    ("hFacS", "1", "vertical open fraction of tracer grid cell 'south' face"),
    ("maskC", "", "wet/dry boolean mask for tracer grid cell"),
    ("maskW", "", "wet/dry boolean mask for 'west' face of tracer grid cell"),
    ("maskS", "", "wet/dry boolean mask for 'south' face of tracer grid cell"),
    ("maskZ", "", "wet/dry boolean mask for 'southwest' corner of tracer grid cell: wet where a cell around it is"),
    ("area", "m2", "area of lat-lon grid cell"),
    ("XC_bnds", "", "longitudes of tracer grid cell corners"),
    ("YC_bnds", "", "latitudes of tracer grid cell corners"),
    ("Z_bnds", "", "depths of grid cell upper and lower interfaces"),
    ("latitude_bnds", "", "latitudes of grid cell edges"),
    ("longitude_bnds", "", "longitudes of grid cell edges"),
    ("tile", "", "lat-lon-cap tile index"),
];

/// The origin of attributes.
#[derive(Debug, Clone, Copy)]
pub(super) struct GeometryText<'a> {
    /// The metadata, if there are any.
    pub(super) metadata: Option<&'a Metadata>,
    /// The grid that is described.
    pub(super) grid: GridKind,
}

impl GeometryText<'_> {
    /// Returns a coordinate or its bounds, stored as a contiguous block.
    pub(super) fn coordinate(&self, name: &str, dimensions: &[&str], values: Values) -> Variable {
        let found = self.metadata.map(|metadata| match name.strip_suffix("_bnds") {
            Some(parent) => {
                let parent = coordinate::describe(metadata, self.grid, parent);
                coordinate::describe_bounds(metadata, self.grid, name, &parent)
            }
            None => coordinate::describe(metadata, self.grid, name),
        });
        let mut attributes = found.filter(|attributes| !attributes.is_empty()).unwrap_or_else(|| plain(name));
        let bounded = ["XC", "YC", "Z", "latitude", "longitude"].contains(&name);
        if bounded && !attributes.iter().any(|(key, _)| key == "bounds") {
            attributes.push(("bounds".into(), Value::Text(format!("{name}_bnds"))));
        }
        new(name, dimensions, None, attributes, Storage::Contiguous(values))
    }

    /// Returns a data variable, compressed, with the fill value of its type.
    pub(super) fn field<T: Element>(&self, name: &str, dimensions: &[&str], fill: f64, chunked: Chunked) -> Variable {
        new(name, dimensions, Some(fill), self.attributes(name), Storage::Chunked(T::TYPE, chunked))
    }

    /// Returns a mask, compressed. Readers take it for truth values.
    pub(super) fn mask(&self, name: &str, dimensions: &[&str], fill: Option<f64>, chunked: Chunked) -> Variable {
        let mut attributes = self.attributes(name);
        attributes.push(("dtype".into(), Value::Text("bool".into())));
        new(name, dimensions, fill, attributes, Storage::Chunked(i8::TYPE, chunked))
    }

    fn attributes(&self, name: &str) -> Attributes {
        let Some(metadata) = self.metadata else { return plain(name) };
        let described = match self.grid {
            GridKind::Native | GridKind::Series => variable::describe(metadata, self.grid, name),
            GridKind::Latlon => variable::describe_latlon_geometry(metadata, name),
        };
        let attributes = described.attributes.into_iter().filter(|(key, _)| key != "mask_variable").collect::<Vec<_>>();
        if attributes.is_empty() { plain(name) } else { attributes }
    }
}

fn new(name: &str, dimensions: &[&str], fill: Option<f64>, mut attributes: Attributes, storage: Storage) -> Variable {
    attributes.retain(|(_, value)| *value != Value::Text(String::new()));
    let dimensions = dimensions.iter().map(|name| (*name).to_owned()).collect();
    Variable { name: name.to_owned(), dimensions, fill, attributes, storage }
}

fn plain(name: &str) -> Attributes {
    let text = |key: &str, value: &str| (key.to_owned(), Value::Text(value.to_owned()));
    match PLAIN.iter().find(|(known, ..)| *known == name) {
        Some((_, units, long_name)) => vec![text("long_name", long_name), text("units", units)],
        None => vec![text("long_name", "grid index")],
    }
}
