//! Files that change between planning and making are refused, whatever their new content is.

use super::{Production, edit, shown};
use std::path::PathBuf;

/// Changes a file that recipes share, and checks the number of granules that fail.
fn changed(path: impl Fn(&Production) -> PathBuf, what: &str, location: impl Fn(&Production) -> PathBuf, costs: usize) {
    let production = Production::small();
    production.plan();
    // One more blank would do no harm, but the program cannot know that.
    edit(&path(&production), |bytes| bytes.push(b'\n'));
    let words = [what, "changed since the recipe was planned", "plan again"];
    let location = shown(&location(&production));
    let words: Vec<&str> = words.into_iter().chain([location.as_str()]).collect();
    assert_eq!(production.run(3).failed_with(&words), costs);
    // After planning again, all granules are made.
    production.plan();
    let ended = production.run(0);
    assert_eq!(ended.count("made") + ended.count("present"), 2);
}

#[test]
fn a_changed_configuration_is_refused() {
    let configuration = |p: &Production| p.fixture.demo.configuration.clone();
    changed(configuration, "the configuration", configuration, 2);
}

#[test]
fn changed_metadata_are_refused() {
    let metadata = |p: &Production| p.fixture.demo.metadata.clone();
    changed(|p| metadata(p).join("variable_metadata.json"), "the metadata", metadata, 2);
}

#[test]
fn a_changed_grid_is_refused() {
    let grid = |p: &Production| p.fixture.demo.grid.clone();
    changed(|p| grid(p).join("available_diagnostics.log"), "the grid", grid, 2);
}

#[test]
fn changed_factors_are_refused() {
    let production = Production::small();
    production.plan();
    let factors = &production.fixture.demo.factors;
    // A level that this granule does not use has changed, and so has the set as a whole.
    edit(&factors.join("land_mask/ecco_latlon_land_mask_9.xz"), |bytes| bytes.push(0));
    let ended = production.run(3);
    assert_eq!(ended.failed_with(&["the mapping factors changed since the recipe was planned", &shown(factors)]), 1);
    assert!(ended.reasons("failed")[0].0.contains("/latlon/"));
}

#[test]
fn an_input_that_changed_its_size_is_refused() {
    let production = Production::small();
    production.plan();
    // A blank at the end of a header means nothing, but another size means another version.
    let meta = production.meta("SSH", 732);
    edit(&meta, |bytes| bytes.push(b'\n'));
    assert_eq!(production.run(3).failed_with(&["when the recipe was planned: plan again", &shown(&meta)]), 2);
    production.plan();
    assert_eq!(production.run(0).count("made"), 2);
}
