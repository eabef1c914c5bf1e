//! The keys of EDP's configuration, of all its generations.

use super::yaml::Shape;

/// The keys whose values are read as text.
const TEXTS: [&str; 26] = [
    "ecco_version",
    "results_version",
    "granule_name_pattern",
    "product_version",
    "array_precision",
    "static_coordinates",
    "model_start_time",
    "model_end_time",
    "model_timestep",
    "model_timestep_units",
    "geospatial_vertical_min",
    "podaac_metadata_filename",
    "history",
    "references",
    "source",
    "summary",
    "project_summary",
    "doi_prefix",
    "doi_authority",
    "metadata_link_root",
    "dataset_description_tail_1D",
    "dataset_description_tail_latlon",
    "dataset_description_tail_native",
    "latlon_grid_resolution",
    "llc_grid_size",
    "llc_code",
];

/// The key of the last parts of file names.
pub(super) const LABELS: &str = "ecco_production_filestr_grid_label";
/// Key of the compression of data variables.
pub(super) const COMPRESSION: &str = "netcdf4_compression_encodings";

/// The keys that do not affect granules: they are for making mapping factors, or belong to older generations.
const OTHERS: [&str; 40] = [
    "num_vertical_levels",
    "model_geometry",
    "read_grid",
    "ecco_native_grid_filename",
    "ecco_grid_filename",
    "ecco_grid_dir",
    "ecco_grid_dir_mds",
    "mapping_factors_dir",
    "land_mask_dir",
    "variable_coordinates_as_encoded_attributes",
    "latlon_grid_area_extent",
    "latlon_effective_grid_radius",
    "latlon_grid_radius_method",
    "custom_grid_and_factors",
    "source_grid_min_L",
    "source_grid_max_L",
    "grid_files_dir",
    "custom_factors_dir",
    "source_grid_ftype",
    "target_grid_ftype",
    "metadata_dir",
    "model_output_dir",
    "processed_output_dir_base",
    "local_file_dir_to_upload",
    "ecco_code_name",
    "ecco_code_dir",
    "ecco_access_dir",
    "ecco_configurations_name",
    "ecco_configurations_subfolder",
    "filename_tail_1D",
    "filename_tail_latlon",
    "filename_tail_native",
    "processing_code_filename",
    "doi",
    "create_checksum",
    "extra_prints",
    "download_all_fields",
    "use_workers_to_download",
    "compare_checksums",
    "read_ecco_grid_for_native_load",
];

/// Returns the shape in which the value of a key is read.
pub(super) fn shape(key: &str) -> Shape {
    match key {
        LABELS | COMPRESSION => Shape::Mapping,
        _ if TEXTS.contains(&key) => Shape::Text,
        _ => Shape::Skipped,
    }
}

/// Key of the edges of the regular grid.
pub(super) const EXTENT: &str = "latlon_grid_area_extent";

/// Keys of the places from which mapping factors are made, and to which they are written: the native geometry's directory
/// and name (the first of two keys counts), and the directory of the factors.
pub(super) const FACTOR_PLACES: [&str; 4] =
    ["ecco_grid_dir", "ecco_native_grid_filename", "ecco_grid_filename", "mapping_factors_dir"];

/// Returns the shape in which the value of a key is read if only mapping factors are to be made.
pub(super) fn factor_shape(key: &str) -> Shape {
    match key {
        EXTENT => Shape::List,
        "latlon_grid_resolution" | "latlon_effective_grid_radius" | "latlon_grid_radius_method" => Shape::Text,
        _ if FACTOR_PLACES.contains(&key) => Shape::Text,
        _ => Shape::Skipped,
    }
}

/// Returns all known keys.
pub(super) fn known() -> impl Iterator<Item = &'static str> {
    TEXTS.into_iter().chain([LABELS, COMPRESSION]).chain(OTHERS)
}

/// Returns the known key that is most similar to a misspelt one; `None` if no key is similar.
pub(super) fn nearest(key: &str) -> Option<&'static str> {
    // The key is longer than any known one: nothing is similar, and the comparison would only take time.
    if key.chars().count() > 64 {
        return None;
    }
    let near = |known: &'static str| (distance(key, known), known);
    known().map(near).min().filter(|&(d, known)| d <= 1 + known.len() / 6).map(|(_, known)| known)
}

/// Returns the number of characters to insert, delete or replace to turn one word into the other.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, &y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misspelt_keys_find_the_right_one() {
        assert_eq!(nearest("ecco_vesrion"), Some("ecco_version"));
        assert_eq!(nearest("doi_authorty"), Some("doi_authority"));
        assert_eq!(nearest("summaries"), None);
        assert_eq!(nearest("x"), None);
        assert_eq!(nearest(&"doi".repeat(1000)), None);
        assert_eq!((distance("", "abc"), distance("abc", ""), distance("kitten", "sitting")), (3, 3, 3));
    }

    #[test]
    fn no_key_is_listed_twice() {
        let mut keys: Vec<_> = known().collect();
        keys.sort_unstable();
        assert!(keys.windows(2).all(|pair| pair[0] != pair[1]));
    }
}
