//! The reference pages in `doc/`, against the code that they describe. `EDP_REFERENCES=update` writes the page of the
//! settings anew; the others are written by hand, and a key or a column without its row fails.

use edp_program::settings::Settings;
use edp_program::telemetry::metrics::{METRICS, MetricKind};
use edp_protocol::recipe::{
    Components, Derivation, Digests, DynamicMetadata, OPTIONS, PeriodMean, Plan, Recipe, RecordSeries, Roots, Rule,
    VariableKind, Version, output_version,
};
use edp_protocol::{Digest, Mode};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::PathBuf;

fn page(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "..", "doc", name].iter().collect()
}

/// The text before the tables of the settings.
const SETTINGS: &str = "\
# Settings

This page is generated from the code (`EDP_REFERENCES=update cargo test -p edp-tests --test references`); a test fails when
it is out of date.

Both programs read the same settings. The command line stands above environment variables, these above the file, and the
file above the defaults. The file is the one that `--settings FILE` names, else `edp.toml` in the current directory, in TOML:

```toml
log = \"info\"

[queue]
url_file = \"/run/secrets/broker\"

[store.s3]
timeout = 60
```

Other variables that begin with `EDP_` have no effect on them. A key that there is not, a value of another type and a number
beyond its limits end the program with status 2; the message names the file, the line and the key, or the variable, and
never repeats the value. A setting without a default has no effect unless it is set.
";

/// The page of the settings: a table for each section.
fn settings_page() -> String {
    let mut page = SETTINGS.to_owned();
    let mut section = None;
    for setting in Settings::reference() {
        let of = setting.key.rsplit_once('.').map_or("", |(section, _)| section).to_owned();
        if section.as_ref() != Some(&of) {
            let title = if of.is_empty() { "Logging".to_owned() } else { format!("Section `{of}`") };
            write!(
                page,
                "\n## {title}\n\n| key | variable | default | unit | limits | meaning |\n|---|---|---|---|---|---|\n"
            )
            .expect("a text has room");
            section = Some(of);
        }
        let variable = setting.variable();
        let [default, limits, meaning] =
            [setting.default, setting.limits, setting.meaning].map(|text| text.replace('|', "\\|"));
        writeln!(page, "| `{}` | `{variable}` | {default} | {} | {limits} | {meaning} |", setting.key, setting.unit)
            .expect("a text has room");
    }
    page
}

#[test]
fn the_page_of_the_settings_is_that_of_the_code() {
    is_page("settings.md", &settings_page());
}

/// Checks that a page is this text, or writes it if that is asked for.
fn is_page(name: &str, wanted: &str) {
    let path = page(name);
    if std::env::var_os("EDP_REFERENCES").is_some_and(|value| value == "update") {
        std::fs::write(&path, wanted).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    let differs = found.lines().zip(wanted.lines()).find(|(found, wanted)| found != wanted);
    assert!(
        found == wanted,
        "doc/{name} is out of date: EDP_REFERENCES=update cargo test -p edp-tests --test references\n{differs:#?}"
    );
}

/// The text before the table of the metrics.
const METRICS_TEXT: &str = "\
# Metrics

This page is generated from the code (`EDP_REFERENCES=update cargo test -p edp-tests --test references`); a test fails when
it is out of date.

Both programs measure the same whether they send metrics to a collector of OpenTelemetry or are read by Prometheus; the
section *Traces, metrics and logs* of [GUIDE.md](../GUIDE.md) says how to ask for either. The names of OpenTelemetry have
dots; in the format of Prometheus the same metrics have the names and labels of the first two columns. `target_info` has the
attributes of the program as labels, such as `service_name` and `service_instance_id`. The number of values of each label is
limited: datasets, stages, states and reasons are few, and a program measures one production.

Counters begin at 0 when a program starts. While recipes are made, gauges of the coordinator are measured every 15 s
(`edp_recipes`, `edp_backlog_seconds`) or twice a second while the broker answers (queues, workers, window); times are those of
events. All keep their last value until the program ends.

| Prometheus | labels | OpenTelemetry | kind | unit | program | meaning |
|---|---|---|---|---|---|---|
";

/// The page of the metrics.
fn metrics_page() -> String {
    let mut page = METRICS_TEXT.to_owned();
    for metric in METRICS {
        let kind = match metric.kind {
            MetricKind::Counter => "counter",
            MetricKind::Gauge => "gauge",
            MetricKind::Histogram => "histogram",
        };
        let labels: Vec<String> = metric.labels().map(|label| format!("`{label}`")).collect();
        let (own, name, unit) = (metric.prometheus_name(), metric.name, metric.unit);
        writeln!(
            page,
            "| `{own}` | {} | `{name}` | {kind} | `{unit}` | {} | {} |",
            labels.join(", "),
            metric.programs,
            metric.meaning
        )
        .expect("a text has room");
    }
    page
}

#[test]
fn the_page_of_the_metrics_is_that_of_the_code() {
    is_page("metrics.md", &metrics_page());
}

#[test]
fn every_setting_is_explained() {
    let all = Settings::reference();
    assert!(all.len() > 40, "{}", all.len());
    for setting in all {
        assert!(setting.meaning.ends_with(['.', ')']) || setting.meaning.ends_with("..."), "{setting:?}");
        assert!(!setting.default.starts_with("Some"), "{setting:?}: say the default in words");
    }
}

/// A recipe with every key that there is: without `..`, so that a new key does not compile until it stands here.
fn full_recipe() -> Recipe {
    let text = || Some("x".to_owned());
    let digest = || Digest::of(b"x");
    Recipe {
        granule: "x".into(),
        variables: [("V".to_owned(), vec![vec!["x".to_owned()]])].into(),
        ecco_cfg_loc: text(),
        ecco_grid_loc: text(),
        ecco_mapping_factors_loc: text(),
        ecco_metadata_loc: text(),
        dynamic_metadata: DynamicMetadata {
            name: "x".into(),
            dimension: "x".into(),
            time_coverage_start: text(),
            time_coverage_end: text(),
            time_coverage_center: text(),
            comment: text(),
            time_long_name: text(),
            time_coverage_duration: text(),
            time_coverage_resolution: text(),
            field_components: Some([("V".to_owned(), Components { x: "x".into(), y: "y".into() })].into()),
            field_orientations: Some([("V".to_owned(), "zonal".to_owned())].into()),
            summary: "x".into(),
        },
        input_netcdf: text(),
        strip_attributes: Some(edp_protocol::recipe::FlagOrText::Flag(true)),
        recipe: Some(Plan {
            id: "x".into(),
            format: 1,
            mode: Mode::Corrected,
            options: [("vectors".to_owned(), "target".into())].into(),
            time_units: "x".into(),
            digests: Digests { configuration: digest(), metadata: digest(), grid: digest(), factors: Some(digest()) },
            inputs: [("x".to_owned(), Version { size: 1, etag: text(), modified: text(), sha256: Some(digest()) })]
                .into(),
            roots: Roots { source: "x".into(), destination: "x".into() },
            fields: [("V".to_owned(), vec!["x".to_owned()])].into(),
            derived: [(
                "V".to_owned(),
                Derivation {
                    rule: serde_json::from_str(r#"{"anomaly": {"of": "x", "from": "2005-01-01", "to": "2010-12-31"}}"#)
                        .unwrap(),
                    mean: Some(PeriodMean {
                        path: "x".into(),
                        id: digest(),
                        seen: digest(),
                        by_content: true,
                        records: vec![RecordSeries {
                            stem: "x".into(),
                            steps: vec![[1, 1, 1]],
                            pieces: vec!["x".into()],
                        }],
                    }),
                },
            )]
            .into(),
            missing: vec!["x".into()],
            production_date: "x".into(),
        }),
    }
}

/// Paths of the keys of a value that is written as JSON, with `*` for keys that are data.
fn keys(value: &serde_json::Value, path: &str, found: &mut BTreeSet<String>) {
    const DATA: [&str; 7] = [
        "variables",
        "dynamic_metadata.field_components",
        "dynamic_metadata.field_orientations",
        "recipe.options",
        "recipe.inputs",
        "recipe.fields",
        "recipe.derived",
    ];
    let Some(entries) = value.as_object() else { return };
    for (key, value) in entries {
        let key = if DATA.contains(&path) { "*" } else { key };
        let at = if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
        keys(value, &at, found);
        found.insert(at);
    }
}

#[test]
fn every_key_of_a_recipe_stands_on_its_page() {
    let text = std::fs::read_to_string(page("recipe.md")).unwrap();
    let rows: BTreeSet<&str> =
        text.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` | ")).map(|(key, _)| key).collect();
    let mut found = BTreeSet::new();
    keys(&serde_json::to_value(full_recipe()).unwrap(), "", &mut found);
    // Said in the row above each: they have no parts of their own.
    let said = ["recipe.digests", "recipe.roots", "recipe.options.*", "recipe.fields.*", "recipe.inputs.*"];
    let said = [&said[..], &["dynamic_metadata.field_components.*", "dynamic_metadata.field_orientations.*"]].concat();
    let rule = ["", ".rule.anomaly", ".rule.anomaly.of", ".rule.anomaly.from", ".rule.anomaly.to", ".mean"];
    let of_rule: Vec<String> = rule.into_iter().map(|part| format!("recipe.derived.*{part}")).collect();
    let said: Vec<&str> = said.into_iter().chain(of_rule.iter().map(String::as_str)).collect();
    for key in found.iter().filter(|key| !said.contains(&key.as_str())) {
        assert!(rows.contains(key.as_str()), "{key} is not in doc/recipe.md");
    }
    for option in OPTIONS {
        assert!(rows.contains(option), "the option {option} is not in doc/recipe.md");
    }
    for row in rows {
        assert!(found.contains(row) || OPTIONS.contains(&row), "{row} is neither a key nor an option of a recipe");
    }
    let guide = std::fs::read_to_string(page("../GUIDE.md")).unwrap();
    for form in Rule::FORMS {
        assert!(text.contains(form) && guide.contains(form), "{form} is not in doc/recipe.md, or not in the guide");
    }
    let formats = 1..=Mode::ALL.into_iter().map(output_version).max().unwrap();
    for format in formats {
        assert!(text.contains(&format!("\n| {format} | ")), "format {format} is not in doc/recipe.md");
    }
}

#[test]
fn a_recipe_says_how_its_variables_are_made() {
    let mut recipe = full_recipe();
    assert!(matches!(recipe.kind("V"), Ok(VariableKind::Derived(Rule::Anomaly(_)))));
    recipe.recipe.as_mut().unwrap().derived.clear();
    assert_eq!(recipe.kind("V"), Ok(VariableKind::Direct));
    recipe.variables["V"].push(vec!["y".into()]);
    let kind = recipe.kind("V").unwrap();
    assert_eq!(kind.sources("V"), ["x", "y"]);
    assert!(matches!(kind, VariableKind::Rotated { .. }));
    recipe.variables["V"].push(vec!["z".into()]);
    assert_eq!(recipe.kind("V").unwrap_err().to_string(), "3 inputs: one, or two for a rotated vector");
}
