//! The configuration and the job file of the demo.

use super::calendar::{MODEL_END, MODEL_START};
use super::datasets::DATASETS;
use super::metadata::{Names, TABLE};

/// Returns the configuration as YAML.
pub(super) fn configuration(names: &Names, levels: usize) -> String {
    let Names { n, side, bottom, native_label, latlon_label } = names;
    format!(
        r#"# Made by the demo. Every key that a production needs; change them and make the granules again.

# What is produced: part of paths, file names and attributes.
ecco_version: 'DEMO'
product_version: 'Demonstration'
ecco_production_filestr_grid_label:
    latlon: '{latlon_label}'
    native: '{native_label}'

# The model: when it ran, and how long one of its steps is.
model_start_time: '{MODEL_START}'
model_end_time: '{MODEL_END}'
model_timestep: 1
model_timestep_units: 'h'
model_geometry: 'llc'
num_vertical_levels: {levels}
geospatial_vertical_min: {bottom:?}
llc_grid_size: {n}
llc_code: 'llc{n}'

# How granules are stored.
array_precision: 'float32'
netcdf4_compression_encodings:
    zlib: true
    complevel: 5
    shuffle: true

# The regular grid. The radius (in km) is so small that no target cell averages several source cells:
# factors made from this file are nearest neighbours, as the demo's own are.
ecco_native_grid_filename: 'GRID_GEOMETRY_DEMO_native_{native_label}.nc'
latlon_grid_resolution: {side:?}
latlon_grid_area_extent: [-180.0, 90.0, 180.0, -90.0]
latlon_effective_grid_radius: 0.001
latlon_grid_radius_method: 'method_1'
custom_grid_and_factors: false
source_grid_min_L: -1
source_grid_max_L: -1

# Attributes of all granules.
podaac_metadata_filename: '{TABLE}'
doi_prefix: '10.5072'
doi_authority: 'https://doi.org/'
metadata_link_root: 'https://example.org/demo/collections?ShortName='
history: 'Made up by the demonstration'
references: 'None'
source: 'Smooth functions of longitude, latitude and depth; no model was run'
summary: 'These are demonstration data. They resemble the output of an ocean model on a lat-lon-cap grid in form and size, not in content.'
dataset_description_tail_1D: ''
dataset_description_tail_latlon: ' on a regular grid of {side} degrees, brought there from a lat-lon-cap grid of size {n}.'
dataset_description_tail_native: ' on a lat-lon-cap grid of size {n}.'
"#
    )
}

/// Returns a job file with one job for each dataset on each grid.
pub(super) fn jobs() -> String {
    let mut text = String::from("# [place in the groupings, grid, frequency, model steps]\n");
    for grid in ["native", "latlon"] {
        text += &format!("\n# {grid} grid: all months there are\n");
        for (at, dataset) in DATASETS.iter().enumerate() {
            text += &format!("[{at}, '{grid}', 'AVG_MON', 'all']    # {}\n", dataset.name);
        }
    }
    text
}
