//! Recipes for the tests of productions: monthly means of the sea surface height, two months for each grid.
#![allow(clippy::unwrap_used)]

use edp_protocol::recipe::{Digests, DynamicMetadata, Plan, Recipe, Roots, Version};
use edp_protocol::{Digest, GridKind, Mode};
use std::collections::BTreeMap;

/// Returns the recipes, grid by grid and month by month.
pub(crate) fn recipes(grids: &[GridKind]) -> Vec<Recipe> {
    grids.iter().flat_map(|grid| [(1, 732), (2, 1428)].map(|(month, step)| recipe(*grid, month, step))).collect()
}

fn recipe(grid: GridKind, month: u32, step: u64) -> Recipe {
    let (folder, label) = match grid {
        GridKind::Native => ("native", "native_llc0090"),
        GridKind::Latlon => ("latlon", "latlon_0p50deg"),
        GridKind::Series => ("1d", "1D"),
    };
    let name = "SEA_SURFACE_HEIGHT";
    let granule = format!("out/V4r4/{folder}/mon_mean/{name}/{name}_mon_mean_1992-{month:02}_ECCO_V4r4_{label}.nc");
    let input = |variable: &str, end: &str| format!("in/{variable}_mon_mean/{variable}_mon_mean.{step:010}.{end}");
    let variables: Vec<_> = ["SSH", "ETAN"].into_iter().collect();
    let inputs: BTreeMap<_, _> = variables
        .iter()
        .flat_map(|variable| [(input(variable, "data"), 16), (input(variable, "meta"), 5)])
        .map(|(path, size)| (path["in/".len()..].to_owned(), Version { size, ..Version::default() }))
        .collect();
    let factors = (grid == GridKind::Latlon).then(|| Digest::of(b"f"));
    let mut recipe = Recipe {
        granule,
        variables: variables
            .iter()
            .map(|variable| ((*variable).to_owned(), vec![vec![input(variable, "data"), input(variable, "meta")]]))
            .collect(),
        ecco_cfg_loc: Some("config.yaml".into()),
        ecco_grid_loc: Some("grid".into()),
        ecco_mapping_factors_loc: factors.as_ref().map(|_| "factors".into()),
        ecco_metadata_loc: Some("metadata".into()),
        dynamic_metadata: DynamicMetadata {
            name: "sea surface height".into(),
            dimension: "2D".into(),
            time_coverage_start: None,
            time_coverage_end: None,
            time_coverage_center: None,
            comment: None,
            time_long_name: None,
            time_coverage_duration: Some("P1M".into()),
            time_coverage_resolution: Some("P1M".into()),
            field_components: None,
            field_orientations: None,
            summary: "of the sea".into(),
        },
        input_netcdf: None,
        strip_attributes: None,
        recipe: Some(Plan {
            inputs,
            ..Plan::new(
                Mode::Corrected,
                "hours since 1992-01-01T12:00:00".into(),
                Digests {
                    configuration: Digest::of(b"c"),
                    metadata: Digest::of(b"m"),
                    grid: Digest::of(b"g"),
                    factors,
                },
                Roots { source: "in".into(), destination: "out".into() },
                "2024-11-05T06:07:08Z".into(),
            )
        }),
    };
    let id = recipe.computed_id().unwrap();
    recipe.recipe.as_mut().unwrap().id = id;
    recipe
}
