//! Recipes that read the same inputs, made by one worker from one transfer of each.

use super::cloud::{Cloud, recipes};
use edp_tests::s3::S3Call;
use edp_tests::{count, expect, json};
use std::collections::{BTreeMap, BTreeSet};

/// Returns how often each input below the source was fetched, by its name.
fn transfers(cloud: &Cloud, make: impl FnOnce()) -> BTreeMap<String, usize> {
    cloud.server.record();
    make();
    let mut transfers = BTreeMap::new();
    for request in cloud.server.recorded().into_iter().filter(|request| request.call == S3Call::Get) {
        if let Some(name) = request.target.strip_prefix("model/run/") {
            *transfers.entry(name.to_owned()).or_default() += 1;
        }
    }
    transfers
}

#[test]
fn inputs_of_both_grids_are_transferred_once_and_the_bytes_stay_the_same() {
    let cloud = Cloud::new();
    let [single, grouped] = ["never", "s3"].map(|group| {
        let list = cloud.plan(&format!("s3://out/{group}"), &format!("{group}.json"));
        let all = recipes(&list);
        let transfers = transfers(&cloud, || {
            let report = cloud.run(list.to_str().unwrap(), &["--group", group, "--slots", "2"], 0);
            assert_eq!(count(&report, "made"), all.len());
        });
        (all, transfers)
    });
    let reads =
        |recipe: &edp_protocol::recipe::Recipe| recipe.plan().unwrap().inputs.keys().cloned().collect::<Vec<_>>();
    let readers = single.0.iter().flat_map(reads).fold(BTreeMap::<_, usize>::new(), |mut readers, path| {
        *readers.entry(path).or_default() += 1;
        readers
    });
    assert!(readers.values().any(|count| *count > 1), "nothing to share");
    assert_eq!(single.1, readers, "each recipe by itself");
    let once: BTreeMap<_, _> =
        grouped.0.iter().flat_map(reads).collect::<BTreeSet<_>>().into_iter().map(|path| (path, 1)).collect();
    assert_eq!(grouped.1, once);
    assert_eq!(cloud.server.files("out", "s3"), cloud.server.files("out", "never"));
    cloud.is_clean();
}

#[test]
fn one_of_a_group_that_cannot_be_made_does_not_hinder_the_others() {
    let cloud = Cloud::new();
    let list = cloud.plan("s3://out/g", "tasks.json");
    let all = recipes(&list);
    // Something else is at the destination of the first recipe of a group.
    let first = &all[0];
    let (bucket, key) = super::parts(&first.granule);
    cloud.server.put(bucket, key, &b"something else"[..]);
    let report = cloud.run(list.to_str().unwrap(), &["--slots", "1"], 3);
    assert_eq!((count(&report, "conflict"), count(&report, "made")), (1, all.len() - 1), "{report:#}");
    // `make` groups as well.
    expect(&mut cloud.worker(&["make", list.to_str().unwrap()]), 3);
    cloud.server.remove(bucket, key).unwrap();
    let report = json(&expect(&mut cloud.worker(&["make", list.to_str().unwrap(), "--output", "json"]), 0));
    assert_eq!((count(&report, "made"), count(&report, "present")), (1, all.len() - 1));
}
