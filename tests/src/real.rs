//! Plans of benchmarks for ECCO V4 Release 4, of which the real data have the grid and a few fields.

use crate::{coordinator, expect};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Plans sea surface height, temperature and salinity, and velocity, with made-up fields on the real grid. Returns the
/// task list, which is valid in the current directory from then on.
///
/// # Panics
/// Panics if a program fails, or the data lack a file.
pub fn made_up_fields(data: &Path, tools: &Path, directory: &Path) -> PathBuf {
    let release = data.join("V4r4");
    let python = std::env::var_os("EDP_PYTHON").unwrap_or("python3".into());
    let fields =
        ["SSH:c2", "SSHIBC:c2", "SSHNOIBC:c2", "ETAN:c2", "THETA:c3", "SALT:c3", "UVEL:u3", "VVEL:v3", "WVELMASS:w3"];
    let mut make = Command::new(python);
    make.arg(tools.join("make_fields.py")).arg("--grid").arg(release.join("grid_ECCOV4r4"));
    expect(make.arg("--out").arg(directory.join("results/V4r4")).args(fields), 0);
    let jobs = directory.join("jobs.txt");
    let mut text = String::new();
    for grid in ["native", "latlon"] {
        let path = data.join(format!("metadata/V4r4/ECCOv4r4_groupings_for_{grid}_datasets.json"));
        let groupings = std::fs::read(path).expect("groupings");
        let groupings: Vec<serde_json::Value> = serde_json::from_slice(&groupings).expect("JSON");
        for dataset in ["SEA_SURFACE_HEIGHT", "OCEAN_TEMPERATURE_SALINITY", "OCEAN_VELOCITY"] {
            let index = groupings.iter().position(|grouping| grouping["filename"] == dataset).expect(dataset);
            text += &format!("[{index},'{grid}','AVG_MON','all']\n");
        }
    }
    std::fs::write(&jobs, text).expect("the job file");
    planned(&release, &jobs, &directory.join("results"), directory)
}

/// Plans the real sea surface height. Returns the task list, which is valid in the current directory from then on.
///
/// # Panics
/// Panics if the plan fails, or the data lack a file.
pub fn sea_surface_height(data: &Path, directory: &Path) -> PathBuf {
    let release = data.join("V4r4");
    std::fs::create_dir_all(directory).expect("a directory");
    planned(&release, &release.join("ssh.jobs.txt"), &release.join("results"), directory)
}

/// Plans these jobs. Paths of the list are relative to the data of the release, which become the current directory.
fn planned(release: &Path, jobs: &Path, source: &Path, directory: &Path) -> PathBuf {
    let list = directory.join("tasks.json");
    let mut plan = coordinator();
    plan.current_dir(release).arg("plan").arg("--jobs").arg(jobs).arg("--source").arg(source);
    plan.arg("--destination").arg(directory.join("out")).args(["--grid", "grid_ECCOV4r4"]);
    plan.args(["--mapping-factors", "mapping_factors", "--metadata", "../metadata/V4r4"]);
    plan.args(["--config", "../config/product_generation_config_updated.yaml", "--tasks-out"]).arg(&list);
    expect(&mut plan, 0);
    std::env::set_current_dir(release).expect("the data");
    list
}
