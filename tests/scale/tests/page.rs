//! The tables and plots of `doc/scale.md` are those that the simulation gives. `EDP_REFERENCES=update cargo test -p edp-scale
//! --test page` writes them, as `edp-scale page doc` does.

#![allow(clippy::expect_used)]

use std::path::{Path, PathBuf};

/// The file of a page or plot.
fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../doc").join(name)
}

#[test]
fn the_page_of_the_simulation_is_what_it_gives() {
    let text = std::fs::read_to_string(file("scale.md")).expect("the page");
    let page = edp_scale::page();
    let whole = edp_scale::filled(&text, &page.tables).expect("a page with places for all tables");
    let mut wanted = vec![("scale.md", whole)];
    wanted.extend(page.plots);
    for (name, wanted) in wanted {
        assert!(name == "scale.md" || text.contains(&format!("({name})")), "the page does not show {name}");
        if std::env::var_os("EDP_REFERENCES").is_some_and(|value| value == "update") {
            std::fs::write(file(name), &wanted).expect("a place to write");
        }
        let found = std::fs::read_to_string(file(name)).unwrap_or_default();
        let differs = found.lines().zip(wanted.lines()).find(|(found, wanted)| found != wanted);
        assert!(
            found == wanted,
            "doc/{name} is out of date: EDP_REFERENCES=update cargo test -p edp-scale --test page\n{differs:#?}"
        );
    }
}
