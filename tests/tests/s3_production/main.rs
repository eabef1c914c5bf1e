//! Productions with results, resources, lists and granules on S3.

mod cloud;
mod derived;
mod follow;
mod groups;
mod manners;
mod timeless;
mod workers;

use cloud::{Cloud, parts, reasons, recipes};
use edp_protocol::Digest;
use edp_protocol::recipe::Recipe;
use edp_tests::s3::{FaultEffect, S3Call, S3Fault, S3Server};
use edp_tests::{count, expect, files, json, text};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

#[test]
fn everything_may_be_on_s3() {
    let cloud = Cloud::new();
    let list = "s3://out/tasks.json";
    let mut plan = cloud.coordinator(&["plan", "--tasks-out", list]);
    expect(plan.args(Cloud::options("s3://out/granules")), 0);
    let bytes = cloud.server.get("out", "tasks.json").unwrap().bytes;
    let all = edp_protocol::recipe::parse_list(list, &bytes).unwrap();
    assert!(!all.is_empty());
    for recipe in &all {
        assert!(recipe.granule.starts_with("s3://out/granules/"), "{}", recipe.granule);
        for (path, version) in &recipe.plan().unwrap().inputs {
            let object = cloud.server.get("model", &format!("run/{path}")).unwrap();
            assert_eq!(
                (version.size, version.etag.as_ref()),
                (object.bytes.len() as u64, Some(&object.etag)),
                "{path}"
            );
        }
    }
    let report = cloud.run(list, &[], 0);
    assert_eq!((count(&report, "made"), report["verified"]["good"].as_u64()), (all.len(), Some(all.len() as u64)));
    assert_eq!(cloud.server.files("out", "granules").len(), all.len());
    cloud.is_clean();

    // Existing granules stay, whichever command meets them.
    let made = cloud.server.files("out", "granules");
    let puts = cloud.server.count(S3Call::Put);
    assert_eq!(count(&cloud.run(list, &[], 0), "present"), all.len());
    let made_again = json(&expect(&mut cloud.worker(&["make", list, "--output", "json"]), 0));
    assert_eq!(count(&made_again, "present"), all.len());
    assert_eq!((cloud.server.count(S3Call::Put), cloud.server.files("out", "granules")), (puts, made));
    let verified = json(&expect(&mut cloud.coordinator(&["verify", list, "--output", "json", "--depth", "values"]), 0));
    assert_eq!((verified["good"].as_u64(), verified["extra"].as_array().unwrap().len()), (Some(all.len() as u64), 0));

    // The granules are those of a production on disks: the place of the results is not part of an id.
    let out = cloud.path("local");
    let local = recipes(&cloud.fixture.plan(&out, "local.json", &[]));
    expect(cloud.worker(&["make"]).arg(cloud.path("local.json")), 0);
    for (here, there) in local.iter().zip(&all) {
        assert_eq!(here.plan().unwrap().id, there.plan().unwrap().id);
        let (bucket, key) = parts(&there.granule);
        let copy = cloud.path("copy.nc");
        fs::write(&copy, cloud.server.get(bucket, key).unwrap().bytes).unwrap();
        let (here, there) = (values(Path::new(&here.granule), here), values(&copy, there));
        assert!(here == there, "{key}");
    }
    cloud.is_clean();
}

fn values(granule: &Path, recipe: &Recipe) -> Vec<(String, Vec<u32>)> {
    let file = netcdf::open(granule).unwrap();
    let of = |name: &String| file.variable(name).unwrap().get_values::<f32, _>(..).unwrap();
    recipe.variables.keys().map(|name| (name.clone(), of(name).into_iter().map(f32::to_bits).collect())).collect()
}

#[test]
fn granules_are_the_same_bytes_on_disk_and_on_s3() {
    let cloud = Cloud::new();
    let out = cloud.path("disk");
    expect(cloud.worker(&["make"]).arg(cloud.fixture.plan(&out, "disk.json", &[])), 0);
    let list = cloud.fixture.plan(Path::new("s3://out/same"), "s3.json", &[]);
    // The lists are the same except for the destination, so the ids are the same.
    cloud.run(list.to_str().unwrap(), &["--slots", "3"], 0);
    let disk: BTreeMap<String, Digest> = files(&out);
    assert!(!disk.is_empty());
    assert_eq!(cloud.server.files("out", "same"), disk);
    // The same from S3 to a disk.
    let disk = cloud.path("down");
    cloud.run(cloud.plan(disk.to_str().unwrap(), "down.json").to_str().unwrap(), &[], 0);
    cloud.run(cloud.plan("s3://out/across", "across.json").to_str().unwrap(), &[], 0);
    assert_eq!(files(&disk), cloud.server.files("out", "across"));
    cloud.is_clean();
}

#[test]
fn results_on_s3_may_be_grouped_or_in_pieces() {
    let cloud = Cloud::new();
    let results = &cloud.fixture.demo.results;
    let single = recipes(&cloud.plan("s3://out/single", "single.json"));
    cloud.run(cloud.path("single.json").to_str().unwrap(), &[], 0);
    edp_tests::layouts::grouped(results, &cloud.path("grouped"), true);
    edp_tests::layouts::tiled(results, &cloud.path("tiled"), 3, |_, _| true);
    for name in ["grouped", "tiled"] {
        cloud.server.put_files("model", name, &cloud.path(name));
        let (source, destination) = (format!("s3://model/{name}"), format!("s3://out/{name}"));
        let mut options = Cloud::options(&destination);
        let at = options.iter().position(|option| *option == "--source").unwrap();
        options[at + 1] = &source;
        let list = cloud.path(&format!("{name}.json"));
        expect(cloud.coordinator(&["plan", "--tasks-out"]).arg(&list).args(options), 0);
        let report = cloud.run(list.to_str().unwrap(), &[], 0);
        assert_eq!(count(&report, "made"), single.len(), "{name}");
        for (single, other) in single.iter().zip(recipes(&list)) {
            let [here, there] = [single, &other].map(|recipe| {
                let (bucket, key) = parts(&recipe.granule);
                let copy = cloud.path("copy.nc");
                fs::write(&copy, cloud.server.get(bucket, key).unwrap().bytes).unwrap();
                values(&copy, recipe)
            });
            assert!(here == there, "{name}: {}", other.granule);
        }
    }
    cloud.is_clean();
}

#[test]
fn an_input_that_changed_is_refused() {
    let cloud = Cloud::new();
    let list = cloud.plan("s3://out/g", "tasks.json");
    let all = recipes(&list);
    let input = all[0].variables[0][0].iter().find(|path| path.ends_with(".data")).unwrap();
    let users = all.iter().filter(|r| r.variables.values().flatten().flatten().any(|path| path == input)).count();
    let (bucket, key) = parts(input);
    // The object is as large as before, so only the version shows the change.
    let mut bytes = cloud.server.get(bucket, key).unwrap().bytes.to_vec();
    bytes[0] ^= 1;
    cloud.server.put(bucket, key, bytes);
    let report = cloud.run(list.to_str().unwrap(), &[], 3);
    assert_eq!((count(&report, "failed"), count(&report, "made")), (users, all.len() - users));
    for reason in reasons(&report, "failed") {
        assert!(reason.contains(input) && reason.contains("plan again"), "{reason}");
    }
    // After planning again, it is used.
    let again = cloud.plan("s3://out/g", "again.json");
    assert_eq!(count(&cloud.run(again.to_str().unwrap(), &[], 0), "made"), users);
}

#[test]
fn what_else_is_there_is_a_conflict_until_replaced() {
    let cloud = Cloud::new();
    let list = cloud.plan("s3://out/g", "tasks.json");
    let (all, list) = (recipes(&list), list.to_str().unwrap());
    cloud.run(list, &[], 0);
    let made = cloud.server.files("out", "g");
    let keys: Vec<&str> = all.iter().map(|recipe| parts(&recipe.granule).1).collect();
    let first = cloud.server.get("out", keys[0]).unwrap().bytes;
    cloud.server.put("out", keys[1], first); // that of another recipe
    cloud.server.put("out", keys[2], b"no granule".to_vec());
    cloud.server.remove("out", keys[3]);
    let beside = format!("{}/notes.txt", keys[4].rsplit_once('/').unwrap().0);
    cloud.server.put("out", &beside, b"x".to_vec());

    let redo = "s3://out/redo.json";
    let verified = expect(&mut cloud.coordinator(&["verify", list, "--redo", redo, "--output", "json"]), 3);
    let verified = json(&verified);
    let problems = verified["problems"].as_array().unwrap();
    let findings: Vec<_> = problems.iter().map(|problem| problem[1]["finding"].as_str().unwrap()).collect();
    assert_eq!(findings, ["foreign", "damaged", "missing"]);
    assert_eq!(verified["extra"][0].as_str(), Some(format!("s3://out/{beside}").as_str()));
    let again = edp_protocol::recipe::parse_list(redo, &cloud.server.get("out", "redo.json").unwrap().bytes).unwrap();
    assert_eq!(again.len(), 3);

    let report = cloud.run(list, &[], 3);
    assert_eq!((count(&report, "conflict"), count(&report, "made")), (2, 1));
    let why = reasons(&report, "conflict").join("\n");
    assert!(why.contains("product_name: ") && why.contains("something else is there"), "{why}");
    let report = cloud.run(list, &["--replace"], 0);
    assert_eq!((count(&report, "made"), count(&report, "present")), (2, all.len() - 2));
    cloud.server.remove("out", &beside);
    assert_eq!(cloud.server.files("out", "g"), made);
    cloud.is_clean();
}

#[test]
fn what_may_not_be_listed_is_not_empty() {
    let cloud = Cloud::new();
    let plan = |source: &str, status: i32| {
        let mut options = Cloud::options("s3://out/g");
        let at = options.iter().position(|option| *option == "--source").unwrap();
        options[at + 1] = source;
        text(&expect(cloud.coordinator(&["plan", "--tasks-out", "s3://out/list.json"]).args(options), status))
    };
    let said = plan("s3://model/nowhere", 2);
    assert!(said.contains("s3://model/nowhere: there is nothing"), "{said}");
    cloud.server.deny("model/run");
    let said = plan("s3://model/run", 4);
    assert!(said.contains("s3://model/run") && said.contains("not allowed"), "{said}");
    let said = plan("s3://elsewhere/run", 4);
    assert!(said.contains("no such bucket"), "{said}");
    cloud.server.heal();
    cloud.server.inject(S3Fault::new(S3Call::List, usize::MAX, FaultEffect::Answer(503, "SlowDown")));
    let mut busy = cloud.coordinator(&["plan", "--tasks-out", "s3://out/list.json"]);
    let said = text(&expect(busy.args(Cloud::options("s3://out/g")).env("EDP_STORE__S3__ATTEMPTS", "2"), 4));
    assert!(said.contains("SlowDown") && !said.contains(&cloud.server.secret()), "{said}");
}

#[test]
fn what_may_not_be_read_or_written_costs_what_it_must() {
    let cloud = Cloud::new();
    let list = cloud.plan("s3://out/g", "tasks.json");
    let (all, list) = (recipes(&list), list.to_str().unwrap());
    let input = all[0].variables[0][0].iter().find(|path| path.ends_with(".data")).unwrap();
    let users = all.iter().filter(|r| r.variables.values().flatten().flatten().any(|path| path == input)).count();
    // A destination to which this worker may not write affects everything that it makes.
    cloud.server.deny("out/g");
    let report = cloud.run(list, &[], 4);
    assert_eq!((count(&report, "left"), count(&report, "failed")), (all.len(), 0), "{report:#}");
    assert!(report["stopped"].as_str().unwrap().contains("not allowed"), "{report:#}");
    // An input that it may not read affects the granules that need it.
    cloud.server.heal();
    let (bucket, key) = parts(input);
    cloud.server.deny(&format!("{bucket}/{key}"));
    let report = cloud.run(list, &[], 3);
    assert_eq!((count(&report, "failed"), count(&report, "made")), (users, all.len() - users), "{report:#}");
    assert!(reasons(&report, "failed").iter().all(|reason| reason.contains(input)), "{report:#}");
    // Without credentials nothing can be made, and no recipe is to blame.
    cloud.server.heal();
    let mut bare = cloud.coordinator(&["run", list, "--output", "json"]);
    bare.env_remove("AWS_ACCESS_KEY_ID").env_remove("AWS_SECRET_ACCESS_KEY");
    let report = json(&expect(&mut bare, 4));
    assert_eq!((count(&report, "left"), count(&report, "failed")), (all.len(), 0), "{report:#}");
    assert_eq!(count(&cloud.run(list, &[], 0), "made"), users);
}

#[test]
fn a_store_that_fails_for_a_while_is_tried_again() {
    let cloud = Cloud::new();
    let list = cloud.plan("s3://out/g", "tasks.json");
    let (all, list) = (recipes(&list), list.to_str().unwrap());
    let failing = |call, effect| cloud.server.inject(S3Fault::new(call, 3, effect));
    failing(S3Call::Get, FaultEffect::Answer(503, "SlowDown"));
    failing(S3Call::Get, FaultEffect::CutDownload(100));
    failing(S3Call::Head, FaultEffect::Answer(500, "InternalError"));
    let mut run = cloud.coordinator(&["run", list, "--output", "json"]);
    // The store is tried once, and the granules are tried again.
    let report = json(&expect(run.env("EDP_STORE__S3__ATTEMPTS", "1"), 0));
    assert_eq!(count(&report, "made"), all.len());
    assert_eq!(cloud.server.injected(), 9);
    assert!(report["entries"].as_array().unwrap().iter().any(|entry| entry["attempts"].as_u64() > Some(1)));
    cloud.is_clean();
}

#[test]
fn granules_on_s3_are_held_against_the_checksums_of_their_store() {
    let cloud = Cloud::new();
    let list = "s3://out/tasks.json";
    expect(cloud.coordinator(&["plan", "--tasks-out", list]).args(Cloud::options("s3://out/g")), 0);
    cloud.run(list, &[], 0);
    let all = recipes_of(&cloud, list);
    let keys: Vec<&str> = all.iter().map(|recipe| parts(&recipe.granule).1).collect();
    let verify = |more: &[&str], status| {
        let words: Vec<&str> = ["verify", list, "--output", "json"].iter().chain(more).copied().collect();
        json(&expect(&mut cloud.coordinator(&words), status))
    };
    // Nothing is downloaded except the list and its manifest.
    let gets = cloud.server.count(S3Call::Get);
    assert_eq!(verify(&[], 0)["good"], all.len());
    assert_eq!(cloud.server.count(S3Call::Get) - gets, 2);

    // One object is changed in its store, which notices it: it has another checksum. For another one the store keeps no
    // checksum.
    cloud.server.change("out", keys[0], |object| object.checksum = Some(S3Server::checksum(b"other")));
    cloud.server.change("out", keys[1], |object| object.checksum = None);
    let verified = verify(&[], 3);
    assert_eq!(
        (&verified["problems"][0][0], &verified["problems"][0][1]["finding"]),
        (&all[0].granule.as_str().into(), &"damaged".into())
    );
    assert_eq!(
        (verified["unread"].as_array().unwrap().len(), verified["good"].as_u64()),
        (1, Some(all.len() as u64 - 2))
    );
    let report = cloud.run(list, &[], 3);
    assert_eq!((count(&report, "conflict"), count(&report, "present")), (1, all.len() - 1));
    let report = cloud.run(list, &["--replace"], 0);
    assert_eq!((count(&report, "made"), count(&report, "present")), (1, all.len() - 1), "{report}");
    assert_eq!(verify(&["--read"], 0)["good"], all.len());
    cloud.server.change("out", keys[1], |object| {
        let mut bytes = object.bytes.to_vec();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        object.bytes = bytes.into();
    });
    assert_eq!(verify(&[], 0)["unread"][0], all[1].granule.as_str());
    assert_eq!(verify(&["--read"], 3)["problems"][0][1]["finding"], "damaged");
}

fn recipes_of(cloud: &Cloud, list: &str) -> Vec<Recipe> {
    let (bucket, key) = parts(list);
    edp_protocol::recipe::parse_list(list, &cloud.server.get(bucket, key).unwrap().bytes).unwrap()
}
