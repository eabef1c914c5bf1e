//! Derived variables whose records, and whose means, are on S3.

use super::cloud::{Cloud, parts, reasons, recipes};
use edp_tests::derived::{declare, means};
use edp_tests::{count, expect, json};
use std::collections::BTreeSet;
use std::process::Stdio;

/// Number of bytes before the values of a mean.
const HEADER: usize = 4096;

/// Returns a cloud whose groupings declare derived variables.
fn cloud() -> Cloud {
    let cloud = Cloud::new();
    declare(&cloud.fixture.demo.metadata);
    cloud.server.put_files("shared", "metadata", &cloud.fixture.demo.metadata);
    cloud
}

#[test]
fn a_mean_is_made_once_on_s3_with_the_values_that_it_has_on_disk() {
    let cloud = cloud();
    let list = cloud.plan("s3://out/granules", "tasks.json");
    let all = recipes(&list);
    // Two processes at once, each with two slots.
    let part = |number: usize| {
        let mut command = cloud.worker(&["make", list.to_str().unwrap(), "--slots", "2", "--output", "json"]);
        command.args(["--part", &format!("{number}/2")]).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    };
    let made: usize = [part(1), part(2)]
        .into_iter()
        .map(|child| {
            let output = child.wait_with_output().unwrap();
            assert_eq!(output.status.code(), Some(0), "{}", edp_tests::text(&output));
            count(&json(&output), "made")
        })
        .sum();
    assert_eq!(made, all.len());
    let places: BTreeSet<String> = all.iter().flat_map(|recipe| recipe.mean_places()).collect();
    assert_eq!(places.len(), 2);
    cloud.is_clean();

    let disk = cloud.path("disk");
    expect(cloud.worker(&["make"]).arg(cloud.fixture.plan(&disk, "disk.json", &[])), 0);
    let values: BTreeSet<Vec<u8>> =
        means(&disk).iter().map(|mean| std::fs::read(mean).unwrap()[HEADER..].to_vec()).collect();
    let object = |place: &String| {
        let (bucket, key) = parts(place);
        cloud.server.get(bucket, key).unwrap().bytes
    };
    assert_eq!(places.iter().map(|place| object(place)[HEADER..].to_vec()).collect::<BTreeSet<_>>(), values);
    // The id covers entity tags, which files on a disk do not have.
    let on_disk = recipes(&cloud.path("disk.json"));
    let sea = |recipe: &&edp_protocol::Recipe| recipe.granule.contains("/native/mon_mean/SEA_SURFACE_HEIGHT/");
    let [here, there] = [&on_disk, &all].map(|recipes| recipes.iter().find(sea).unwrap().plan().unwrap());
    assert_ne!(here.derived["SSHAnoma"].mean.as_ref().unwrap().id, there.derived["SSHAnoma"].mean.as_ref().unwrap().id);

    // A mean that is damaged is not used.
    let damaged = places.iter().find(|place| place.contains("/SSH_")).unwrap();
    let (bucket, key) = parts(damaged);
    let mut bytes = object(damaged).to_vec();
    bytes[HEADER + 9] ^= 1;
    cloud.server.put(bucket, key, bytes);
    let victims: Vec<&str> =
        all.iter().filter(|recipe| recipe.mean_places().contains(damaged)).map(|r| &*r.granule).collect();
    let before = cloud.server.files("out", "granules");
    for granule in &victims {
        let (bucket, key) = parts(granule);
        cloud.server.remove(bucket, key).unwrap();
    }
    let report = cloud.run(list.to_str().unwrap(), &[], 3);
    assert_eq!(count(&report, "failed"), victims.len(), "{report:#}");
    assert!(reasons(&report, "failed").iter().all(|reason| reason.contains("it is damaged: its values have")));
    cloud.server.remove(bucket, key).unwrap();
    cloud.run(list.to_str().unwrap(), &[], 0);
    let after = cloud.server.files("out", "granules");
    assert_eq!(after.len(), before.len());
    assert_eq!(
        after.iter().filter(|(name, _)| name.ends_with(".nc")).collect::<Vec<_>>(),
        before.iter().filter(|(name, _)| name.ends_with(".nc")).collect::<Vec<_>>()
    );
    cloud.is_clean();
}

#[test]
fn a_record_on_s3_that_has_changed_since_planning_makes_no_mean() {
    let cloud = cloud();
    let list = cloud.plan("s3://out/granules", "tasks.json");
    let march =
        cloud.server.files("model", "run").into_keys().find(|key| key.ends_with("SSH_mon_mean.0000002172.data"));
    let key = format!("run/{}", march.unwrap());
    let mut bytes = cloud.server.get("model", &key).unwrap().bytes.to_vec();
    bytes.rotate_left(4); // the values of other cells
    cloud.server.put("model", &key, bytes);
    let report = cloud.run(list.to_str().unwrap(), &[], 3);
    let reasons = reasons(&report, "failed");
    assert!(reasons.iter().any(|reason| reason.contains("names, sizes or entity tags differ")), "{reasons:?}");
    assert!(!cloud.server.files("out", "granules").keys().any(|key| key.contains("/SSH_mon_mean_")));
    cloud.is_clean();
}
