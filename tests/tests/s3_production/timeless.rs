//! Data without time, and time series, whose files are on S3.

use super::cloud::{Cloud, recipes};
use edp_demo::LEVELS;
use edp_tests::{coordinator, count, expect, files, json, timeless};
use std::fs;

#[test]
fn data_without_time_and_series_are_the_same_bytes_from_s3() {
    let cloud = Cloud::new();
    let (metadata, inputs) = (&cloud.fixture.demo.metadata, cloud.path("static"));
    let number = timeless::declare_coefficients(metadata);
    timeless::declare_series(metadata);
    cloud.server.put_files("shared", "metadata", metadata);
    timeless::write_coefficients(&inputs, cloud.fixture.demo.size, LEVELS);
    timeless::write_all_series(&inputs);
    cloud.server.put_files("model", "static", &inputs);
    let jobs = cloud.path("timeless.txt");
    let lines = [timeless::coefficient_jobs(number), timeless::SERIES.map(str::to_owned).into()].concat();
    fs::write(&jobs, lines.join("\n")).unwrap();
    cloud.server.put("shared", "timeless.txt", fs::read(&jobs).unwrap());

    let list = cloud.path("s3.json");
    let mut plan = cloud.coordinator(&["plan", "--tasks-out", list.to_str().unwrap()]);
    let mut options = Cloud::options("s3://out/granules");
    (options[1], options[5]) = ("s3://shared/timeless.txt", "s3://model/static");
    expect(plan.args(options), 0);
    let all = recipes(&list);
    assert_eq!(all.len(), lines.len());
    assert_eq!(count(&cloud.run(list.to_str().unwrap(), &[], 0), "made"), all.len());
    let verify = ["verify", list.to_str().unwrap(), "--depth", "values", "--output", "json"];
    let verified = json(&expect(&mut cloud.coordinator(&verify), 0));
    assert_eq!(verified["good"].as_u64(), Some(all.len() as u64), "{verified}");

    let (out, disk) = (cloud.path("disk"), cloud.path("disk.json"));
    let mut options = cloud.fixture.options(&out);
    (options[1], options[5]) = (jobs.display().to_string(), inputs.display().to_string());
    let mut plan = cloud.with(coordinator());
    expect(plan.arg("plan").args(options).arg("--tasks-out").arg(&disk), 0);
    expect(cloud.worker(&["make"]).arg(&disk), 0);
    assert_eq!(cloud.server.files("out", "granules"), files(&out));
    cloud.is_clean();

    // An input that has changed since the plan is refused.
    for (key, name) in [("static/SILL.data", "SILL.data"), ("static/GMSL.nc", "GMSL.nc")] {
        let mut bytes = fs::read(inputs.join(name)).unwrap();
        bytes.rotate_left(8);
        cloud.server.put("model", key, bytes);
    }
    let verified = json(&expect(&mut cloud.coordinator(&verify), 4));
    let problems = verified["problems"].as_array().unwrap();
    // SILL is in two granules.
    assert_eq!(problems.len(), 3, "{verified}");
    assert!(
        problems.iter().all(|one| one[1]["finding"] == "unknown" && one.to_string().contains("cannot be computed"))
    );
}
