//! `lint` on the demo's metadata, which have no defect, and on copies of them with one defect each.

use edp_tests::{Fixture, coordinator, expect, json, text};
use serde_json::Value;
use std::fs;
use std::path::PathBuf;

/// The demo's metadata and configuration, of which a test may change texts.
struct Described {
    fixture: Fixture,
}

impl Described {
    fn new() -> Described {
        Described { fixture: Fixture::new(8) }
    }

    fn path(&self, name: &str) -> PathBuf {
        if name == "config.yaml" {
            self.fixture.demo.configuration.clone()
        } else {
            self.fixture.demo.metadata.join(name)
        }
    }

    /// Replaces one text in a file, which must be there.
    fn change(&self, name: &str, from: &str, to: &str) {
        let path = self.path(name);
        let before = fs::read_to_string(&path).unwrap();
        assert!(before.contains(from), "{name} holds no {from}");
        fs::write(path, before.replacen(from, to, 1)).unwrap();
    }

    /// Lints with some more options, and returns the report.
    fn lint(&self, more: &[&str], status: i32) -> Value {
        let mut command = coordinator();
        command.arg("lint").arg("--config").arg(&self.fixture.demo.configuration);
        command.arg("--metadata").arg(&self.fixture.demo.metadata).args(["--output", "json"]);
        json(&expect(command.args(more), status))
    }
}

/// Returns the defects of a report as `severity: base name of the file: place: message`.
fn defects(report: &Value) -> Vec<String> {
    let part = |defect: &Value, key: &str| defect[key].as_str().unwrap().to_owned();
    let all = report["defects"].as_array().unwrap().iter();
    all.map(|defect| {
        let file = part(defect, "file");
        let name = file.rsplit('/').next().unwrap();
        format!("{}: {name}: {}: {}", part(defect, "severity"), part(defect, "place"), part(defect, "message"))
    })
    .collect()
}

#[test]
fn the_demo_has_neither_errors_nor_warnings() {
    let report = Described::new().lint(&["--strict"], 0);
    assert_eq!((&report["errors"], &report["warnings"]), (&0.into(), &0.into()), "{report:#}");
}

/// A text of a file, what stands in its place, and a defect that follows.
const DEFECTS: [(&str, &str, &str, &str); 31] = [
    ("config.yaml", "doi_prefix: '10.5072'", "doi_prefix: 'ten'", "error: config.yaml: key doi_prefix: 'ten' is none"),
    (
        "config.yaml",
        "llc0008",
        "llc0090",
        "warning: config.yaml: key ecco_production_filestr_grid_label: the label of native",
    ),
    (
        "config.yaml",
        "6p00deg",
        "0p50deg",
        "warning: config.yaml: key ecco_production_filestr_grid_label: the label of latlon",
    ),
    (
        "config.yaml",
        "-5500.0",
        "5500.0",
        "error: config.yaml: key geospatial_vertical_min: it is above the sea surface",
    ),
    (
        "config.yaml",
        "PODAAC_demo",
        "PODAAC_none",
        "error: config.yaml: key podaac_metadata_filename: there is no PODAAC_none",
    ),
    (
        "config.yaml",
        "?ShortName=",
        "",
        "warning: config.yaml: key metadata_link_root: 'https://example.org/demo/collections'",
    ),
    ("config.yaml", "latlon_grid_radius_method: 'method_1'", "latlon_grid_radius_method: 'method_7'", "'method_7'"),
    ("config.yaml", "history: 'Made", "histroy: 'Made", "error: config.yaml: : missing: history"),
    ("config.yaml", "references: 'None'", "references: 'See www.example.org.'", "warning: config.yaml: line"),
    (
        "variable_metadata.json",
        "\"name\": \"SSH\",",
        "\"name\": \"SSK\",",
        "error: groupings_for_native_datasets.json: entry 0 (SEA_SURFACE_HEIGHT), key fields: no entry in the variable metadata for SSH:",
    ),
    (
        "variable_metadata.json",
        "modelResult",
        "model result",
        "coverage_content_type: 'model result' is not one of image",
    ),
    ("variable_metadata.json", "\"units\": \"m\"", "\"units\": \"\"", "warning: variable_metadata.json: : 1 of "),
    ("variable_metadata.json", "\"comments_1\"", "\"comment_1\"", "comments_1: it is missing: EDP fails"),
    (
        "variable_metadata.json",
        "\"name\": \"SSHIBC\"",
        "\"name\": \"SSH\"",
        "error: variable_metadata.json: SSH: it has two entries that differ",
    ),
    (
        "groupings_for_native_datasets.json",
        "\"AVG_DAY, AVG_MON\"",
        "\"\"",
        "warning: groupings_for_native_datasets.json: entry 0 (SEA_SURFACE_HEIGHT): it has no frequency",
    ),
    (
        "groupings_for_native_datasets.json",
        "\"AVG_DAY, AVG_MON\"",
        "\"AVG_DAY, AVG_MON, SNAP\"",
        "error: groupings_for_native_datasets.json: entry 0 (SEA_SURFACE_HEIGHT): SNAP has no row",
    ),
    (
        "groupings_for_native_datasets.json",
        "SEA_ICE_CONC_THICKNESS",
        "SEA_SURFACE_HEIGHT",
        "error: groupings_for_native_datasets.json: entry 1 (SEA_SURFACE_HEIGHT): entry 0 has the same filename and AVG_DAY",
    ),
    (
        "groupings_for_native_datasets.json",
        "\"2D\"",
        "\"3D\"",
        "key fields: the dataset is 3D, but not by the grid_dimension in the variable metadata: SSH (2D)",
    ),
    (
        "groupings_for_latlon_datasets.json",
        "\"EVEL, NVEL, WVELMASS\"",
        "\"UVEL, NVEL, WVELMASS\"",
        "key fields: UVEL is mapped without rotation",
    ),
    (
        "groupings_for_latlon_datasets.json",
        "  },\n  {",
        "  }\n  {",
        "error: groupings_for_latlon_datasets.json: line 10: no valid JSON, so that EDP cannot read it",
    ),
    ("groupings_for_latlon_datasets.json", "[\n", "{[\n", "error: groupings_for_latlon_datasets.json"),
    ("global_metadata_for_all_datasets.json", "https://", "https:/", "leads nowhere: '://' does not follow its scheme"),
    (
        "PODAAC_demo_datasets.csv",
        "PODAAC-ECG5D-SSH00",
        "PODAAC-ECG5M-SSH00",
        "error: PODAAC_demo_datasets.csv: lines 2, 3: 2 rows have the DATASET.PERSISTENT_ID",
    ),
    (
        "PODAAC_demo_datasets.csv",
        "PODAAC-ECG5D-SSH00",
        "PODAAC-ECL5D-SSX00",
        "warning: PODAAC_demo_datasets.csv: line 2: the code of PODAAC-ECL5D-SSX00",
    ),
    (
        "PODAAC_demo_datasets.csv",
        "PODAAC-ECG5D-SSH00",
        "",
        "error: PODAAC_demo_datasets.csv: line 2: no DATASET.PERSISTENT_ID for SEA_SURFACE_HEIGHT_day_mean",
    ),
    ("PODAAC_demo_datasets.csv", "PODAAC-ECG5D-SSH00", "10.50/x", "error: PODAAC_demo_datasets.csv: line 2: '10.50/x'"),
    (
        "PODAAC_demo_datasets.csv",
        "DEMO_L4_SSH_6P00DEG_DAILY",
        "DEMO_L4_SSH_6P00DEG_MONTHLY",
        "2 rows have the DATASET.SHORT_NAME DEMO_L4_SSH_6P00DEG_MONTHLY",
    ),
    (
        "PODAAC_demo_datasets.csv",
        "SEA_SURFACE_HEIGHT_day_mean",
        "SEA_HEIGHT_day_mean",
        "warning: PODAAC_demo_datasets.csv: line 2: no dataset of the groupings makes SEA_HEIGHT_day_mean",
    ),
    (
        "PODAAC_demo_datasets.csv",
        "_ECCO_DEMO_latlon_6p00deg",
        "_ECCO_DEMO_latlon_0p50deg",
        "error: PODAAC_demo_datasets.csv: line 2: SEA_SURFACE_HEIGHT_day_mean_1992-01-01_ECCO_DEMO_latlon_0p50deg.nc does not count",
    ),
    ("PODAAC_demo_datasets.csv", "DATASET.SHORT_NAME", "SHORT", "the columns DATASET.SHORT_NAME are missing"),
    (
        "config.yaml",
        "product_version: 'Demonstration'",
        "product_version: 'TBD_VERSION'",
        "nothing fills the placeholder of the global attribute product_version in",
    ),
];

#[test]
fn each_defect_is_found_and_named() {
    let described = Described::new();
    for (name, from, to, expected) in DEFECTS {
        let before = fs::read(described.path(name)).unwrap();
        described.change(name, from, to);
        let mut command = coordinator();
        command.arg("lint").arg("--config").arg(&described.fixture.demo.configuration);
        command.arg("--metadata").arg(&described.fixture.demo.metadata).args(["--output", "json"]);
        let output = command.output().unwrap();
        let found = defects(&json(&output));
        assert!(found.iter().any(|defect| defect.contains(expected)), "{name}: {to}: {found:#?}");
        if expected.starts_with("error") {
            assert_eq!(output.status.code(), Some(2), "{name}: {to}");
        }
        fs::write(described.path(name), before).unwrap();
    }
}

#[test]
fn a_table_and_texts_of_another_release_are_found() {
    let described = Described::new();
    described.change("config.yaml", "ecco_version: 'DEMO'", "ecco_version: 'V4r5'");
    described.change("config.yaml", "'Demonstration'", "'Version 4, Release 4'");
    let table = described.path("PODAAC_demo_datasets.csv");
    let rows = fs::read_to_string(&table).unwrap().replace("ECCO_DEMO", "ECCO_V4r5").replace("SSH00", "SSH44");
    fs::write(&table, rows).unwrap();
    let found = defects(&described.lint(&["--no-notes"], 2));
    let expected = [
        "error: config.yaml: key product_version: it speaks of V4r4, but ecco_version is V4r5: every granule says so",
        "the DOI of 16 of 16 rows is of another release than V4r5, such as PODAAC-ECG5D-SSH44",
    ];
    for text in expected {
        assert!(found.iter().any(|defect| defect.contains(text)), "{text}: {found:#?}");
    }
}

#[test]
fn warnings_fail_only_if_that_is_asked_for() {
    let described = Described::new();
    described.change("config.yaml", "?ShortName=", "");
    let report = described.lint(&["--check", "configuration"], 0);
    assert_eq!((&report["errors"], &report["warnings"]), (&0.into(), &1.into()));
    described.lint(&["--check", "configuration", "--strict"], 2);
    described.lint(&["--check", "datasets", "--strict"], 0);
}

#[test]
fn the_differences_from_another_release_are_listed() {
    let (described, other) = (Described::new(), Described::new());
    other.change("variable_metadata.json", "\"units\": \"m\"", "\"units\": \"cm\"");
    other.change("groupings_for_native_datasets.json", "SEA_ICE_CONC_THICKNESS", "SEA_ICE");
    other.change("groupings_for_native_datasets.json", "SSHNOIBC", "SSHPLAIN");
    let against = other.fixture.demo.metadata.display().to_string();
    let found = defects(&described.lint(&["--against", &against, "--check", "releases"], 0));
    for text in [
        "its units are 'm' here and 'cm' in ",
        "note: groupings_for_native_datasets.json: entry 1 (SEA_ICE_CONC_THICKNESS): there is no such dataset in ",
        "SEA_ICE of ",
        "are new: SSHNOIBC",
        "are no longer there: SSHPLAIN",
    ] {
        assert!(found.iter().any(|defect| defect.contains(text)), "{text}: {found:#?}");
    }
}

#[test]
fn without_anything_to_check_it_says_what_it_needs() {
    let output = expect(coordinator().arg("lint"), 2);
    assert!(text(&output).contains("--config or --metadata is needed"), "{}", text(&output));
    let output = expect(coordinator().args(["lint", "--metadata", "nowhere"]), 2);
    assert!(text(&output).contains("nowhere"), "{}", text(&output));
}

#[test]
fn effective_settings_are_shown_without_secrets() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("edp.toml");
    fs::write(&file, "[queue]\nwindow = 7\npassword_command = [\"tell\", \"hunter2\"]\n[run]\nmemory = 99\n").unwrap();
    let mut command = coordinator();
    command.arg("lint").arg("--show-settings").arg("--settings").arg(&file);
    command
        .env("EDP_QUEUE__URL", "amqp://someone:secret%2Fword@broker.example.org:5672/mine")
        .env("EDP_RUN__MEMORY", "100");
    let output = expect(&mut command, 0);
    let shown = text(&output);
    for line in ["queue.window = 7", "run.memory = 100", "queue.password_command = \"***\"", "# plan.source is not set"]
    {
        assert!(shown.contains(line), "{line}: {shown}");
    }
    assert!(shown.contains("broker.example.org") && shown.contains("someone"), "{shown}");
    assert!(!shown.contains("hunter2") && !shown.contains("secret"), "{shown}");
    let output = expect(command.args(["--output", "json"]), 0);
    let all = json(&output);
    assert_eq!((&all["run"]["memory"], &all["queue"]["window"]), (&100.into(), &7.into()));
    assert!(!text(&output).contains("hunter2") && !text(&output).contains("secret"));
}

/// A release, the archive's table if it is not that of its configuration, the number of errors, and texts of defects.
type KnownDefects = (&'static str, Option<&'static str>, Option<u64>, &'static [&'static str]);

/// What is known of the released metadata.
const RELEASED: [KnownDefects; 4] = [
    (
        "V4r4",
        None,
        Some(0),
        &[
            "key fields: the dataset is 3D, but not by the grid_dimension in the variable metadata: oceSPtnd (2D)",
            "entry 0 (GLOBAL_MEAN_ATM_SURFACE_PRES): AVG_DAY has 0 rows",
            "line 80: no dataset of the groupings makes OCEAN_3D_MIXING_COEFFS_ECCO_V4r4_latlon_0p50deg.nc",
        ],
    ),
    (
        "V4r5",
        None,
        None,
        &[
            "global_metadata_for_all_datasets.json: line 148: no valid JSON",
            "global_metadata_for_all_datasets.json: line 153: no valid JSON",
            "key dataset_description_tail_latlon: it speaks of V4r4, but ecco_version is V4r5",
            "the file name of 79 of 79 rows is of another release than V4r5",
            "no entry in the variable metadata for OBPAnoma, OBPGMAPA",
            "entry 20 (OCEAN_3D_MOMENTUM_TEND_X): it has no frequency",
        ],
    ),
    ("V4r5", Some("PODAAC_dataset_table.csv"), None, &["the DOI of 79 of 79 rows is of another release than V4r5"]),
    (
        "V4r6",
        None,
        Some(2),
        &[
            "entry 12 (OCEAN_BOLUS_VELOCITY): SNAP has no row",
            "entry 6 (OCEAN_AND_ICE_SURFACE_STRESS), key fields: no entry in the variable metadata for botTAUE, botTAUN",
            "no dataset of the groupings makes ICE_SHELF_FLUX_day_mean_1992-01-01_ECCO_V4r6_latlon_0p50deg.nc",
            "ICE_SHELF_FLUX_mon_mean_1992-01-01_ECCO_V4r6_native_llc0090.nc is not one of its form",
        ],
    ),
];

#[test]
#[ignore = "needs EDP_REAL_DATA: make conformance"]
fn real_data_known_defects_of_the_releases_are_found_and_nothing_false() {
    let data =
        PathBuf::from(std::env::var_os("EDP_REAL_DATA").expect("EDP_REAL_DATA names the folder of the real data"));
    for (release, table, errors, expected) in RELEASED {
        let metadata = data.join("metadata").join(release);
        let configuration = data.join("config").join(format!("product_generation_config_{release}.yaml"));
        let mut command = coordinator();
        command.arg("lint").arg("--config").arg(configuration).arg("--metadata").arg(&metadata);
        command.args(["--output", "json"]);
        if let Some(table) = table {
            command.arg("--podaac").arg(metadata.join(table));
        }
        let report = json(&expect(&mut command, if errors == Some(0) { 0 } else { 2 }));
        let found = defects(&report);
        assert!(errors.is_none_or(|errors| report["errors"] == errors), "{release}: {found:#?}");
        for text in expected {
            assert!(found.iter().any(|defect| defect.contains(text)), "{release}: {text}: {found:#?}");
        }
    }
}
