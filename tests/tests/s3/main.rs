//! The S3 client against a server that speaks S3 over a socket: its guarantees, and the faults that it survives.

mod manners;
mod puts;

use edp_files::ReadAt as _;
use edp_files::commit::Committed;
use edp_protocol::Location;
use edp_s3::S3;
use edp_store::{Object, ObjectStore as _, S3Error, StoreError, StoreSettings};
use edp_tests::proxy::{Proxy, ProxyMode};
use edp_tests::s3::{FaultEffect, S3Call, S3Fault, S3Server};
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

const MIB: usize = 1 << 20;

fn server() -> S3Server {
    S3Server::start(&["bkt"])
}

/// Starts a client that gives up soon.
fn client(server: &S3Server) -> S3 {
    S3::start(&quick(server)).unwrap()
}

fn quick(server: &S3Server) -> StoreSettings {
    let mut settings = server.settings();
    settings.s3.timeout = 2;
    settings.s3.attempts = 4;
    settings
}

/// Returns bytes without any repetition.
fn bytes(length: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let next = |state: &mut u32| {
        *state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (*state >> 24) as u8
    };
    (0..length).map(|_| next(&mut state)).collect()
}

fn file(directory: &Path, name: &str, content: &[u8]) -> PathBuf {
    let path = directory.join(name);
    fs::write(&path, content).unwrap();
    path
}

fn listed(s3: &S3, prefix: &str) -> Vec<Object> {
    let mut found = Vec::new();
    s3.list("bkt", prefix, &mut |entry| found.push(entry)).unwrap();
    found
}

fn paths(s3: &S3, prefix: &str) -> Vec<String> {
    listed(s3, prefix).into_iter().map(|entry| entry.path).collect()
}

#[test]
fn lists_come_in_the_order_of_keys_over_many_pages_and_prefixes() {
    let server = server();
    let mut keys: Vec<String> = (0..2500).map(|i| format!("flat/{i:04}")).collect();
    for a in 0..9 {
        for b in 0..5 {
            keys.extend((0..3).map(|c| format!("deep/{a}/{b}/{c}")));
        }
        keys.push(format!("deep/{a}-x"));
        keys.push(format!("deep/{a}0"));
    }
    keys.extend(["z".into(), "deep".into(), "deep.txt".into(), "flat-2/a".into(), "deep/ü &<+%20/ x".into()]);
    for key in &keys {
        server.put("bkt", key, key.as_bytes());
    }
    server.put("bkt", "deep/folder/", "");
    keys.push("deep/folder/x".into());
    server.put("bkt", "deep/folder/x", "x");
    keys.sort();
    let s3 = client(&server);
    assert_eq!(paths(&s3, ""), keys);
    // At least two pages of three, however they are cut.
    server.page(7);
    let deep: Vec<_> = keys.iter().filter_map(|key| key.strip_prefix("deep/")).collect();
    assert_eq!(paths(&s3, "deep"), deep);
    assert_eq!(paths(&s3, "deep/"), deep);
    assert_eq!(
        paths(&s3, "deep/3"),
        ["0/0", "0/1", "0/2", "1/0", "1/1", "1/2", "2/0", "2/1", "2/2", "3/0", "3/1", "3/2", "4/0", "4/1", "4/2"]
    );
    let entry = listed(&s3, "deep/3/4").remove(2);
    let object = server.get("bkt", "deep/3/4/2").unwrap();
    assert_eq!(entry, Object { path: "2".into(), size: 10, etag: object.etag });
}

#[test]
fn prefixes_are_listed_side_by_side_and_not_all_at_once() {
    let server = server();
    for i in 0..100 {
        server.put("bkt", &format!("p/{i:02}/x"), "x");
    }
    server.inject(S3Fault::new(S3Call::List, usize::MAX, FaultEffect::Delay(Duration::from_millis(20))));
    assert_eq!(paths(&client(&server), "p").len(), 100);
    let most = server.most_in_flight(S3Call::List);
    assert!((4..=20).contains(&most), "{most}");
}

#[test]
fn denied_is_not_empty_and_neither_is_a_bucket_that_is_not_there() {
    let server = server();
    server.put("bkt", "secret/x", "x");
    let s3 = client(&server);
    assert!(paths(&s3, "nothing").is_empty());
    server.deny("bkt/secret");
    let error = s3.list("bkt", "secret", &mut |_| ()).unwrap_err();
    assert!(matches!(error, S3Error::Denied { .. }), "{error:?}");
    let text = error.to_string();
    assert!(
        text.contains("s3://bkt/secret/") && text.contains("s3:ListBucket") && text.contains("AccessDenied"),
        "{text}"
    );
    let error = s3.list("none", "", &mut |_| ()).unwrap_err();
    assert!(matches!(&error, S3Error::NoBucket { bucket } if bucket == "none"), "{error:?}");
    assert!(matches!(s3.head("bkt", "secret/x").unwrap_err(), S3Error::Denied { permission: "s3:GetObject", .. }));
    assert!(matches!(s3.read("bkt", "secret/x", None, 9).unwrap_err(), S3Error::Denied { .. }));
    assert_eq!(server.count(S3Call::Get), 1, "what is denied is not tried again");
}

#[test]
fn a_list_that_breaks_in_the_middle_is_an_error() {
    let server = server();
    for i in 0..30 {
        server.put("bkt", &format!("{i:02}"), "x");
    }
    server.page(10);
    server.inject(S3Fault::new(S3Call::List, usize::MAX, FaultEffect::Answer(500, "InternalError")).after(2));
    let mut seen = 0;
    let error = client(&server).list("bkt", "", &mut |_| seen += 1).unwrap_err();
    assert!(error.is_transient() && seen == 20, "{seen} {error}");
}

#[test]
fn reads_are_in_parts_of_one_version() {
    let server = server();
    let content = bytes(20 * MIB + 5);
    server.put("bkt", "big", content.clone());
    server.put("bkt", "empty", "");
    let etag = server.get("bkt", "big").unwrap().etag;
    let stores = edp_s3::stores(&quick(&server));
    let at: Location = "s3://bkt/big".parse().unwrap();
    let read = stores.open(&at, Some(&etag), u64::MAX).unwrap();
    let mut all = vec![0; content.len()];
    assert_eq!(read.length().unwrap(), content.len() as u64);
    read.read_exact_at(&mut all, 0).unwrap();
    assert!(all == content);
    assert_eq!(server.count(S3Call::Get), 3);
    assert!(stores.read(&"s3://bkt/empty".parse().unwrap(), 0).unwrap().is_empty());
    let error = stores.read(&at, content.len() as u64 - 1).unwrap_err();
    assert!(matches!(error, StoreError::TooLarge { .. }), "{error:?}");
    let error = stores.open(&"s3://bkt/none".parse().unwrap(), None, 9).err().unwrap();
    assert!(error.is_missing() && error.to_string().contains("s3://bkt/none"), "{error}");
    let error = stores.read(&"s3://none/x".parse().unwrap(), 9).unwrap_err();
    assert!(matches!(error, StoreError::S3(S3Error::NoBucket { .. })), "{error:?}");
    let error = stores.open(&at, Some("0000"), u64::MAX).err().unwrap();
    let StoreError::Changed { found, planned, .. } = &error else { panic!("{error:?}") };
    assert_eq!((found, &**planned), (&etag, "0000"));
}

#[test]
fn an_object_that_changes_while_it_is_read_is_noticed() {
    let server = server();
    server.put("bkt", "big", bytes(30 * MIB));
    server.inject(S3Fault::new(S3Call::Get, usize::MAX, FaultEffect::Delay(Duration::from_secs(1))).after(1));
    let s3 = client(&server);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| s3.read("bkt", "big", None, u64::MAX));
        while server.count(S3Call::Get) < 2 && !reader.is_finished() {
            std::thread::sleep(Duration::from_millis(1));
        }
        server.put("bkt", "big", "changed");
        let error = reader.join().unwrap().unwrap_err();
        assert!(matches!(error, S3Error::Changed { .. }), "{error:?}");
    });
}

#[test]
fn cut_bodies_are_taken_up_where_they_ended() {
    let server = server();
    let content = bytes(9 * MIB);
    server.put("bkt", "big", content.clone());
    server.inject(S3Fault::new(S3Call::Get, 1, FaultEffect::CutDownload(3 * MIB)));
    server.inject(S3Fault::new(S3Call::Get, 2, FaultEffect::CutDownload(MIB)));
    let s3 = client(&server);
    assert!(s3.read("bkt", "big", None, u64::MAX).unwrap() == content);
    assert_eq!(server.injected(), 3);
    server.inject(S3Fault::new(S3Call::Get, 1, FaultEffect::StallDownload(MIB)));
    server.inject(S3Fault::new(S3Call::Get, usize::MAX, FaultEffect::Slow(Duration::from_millis(1))));
    assert!(s3.read("bkt", "big", None, u64::MAX).unwrap() == content);
    server.heal();
    server.inject(S3Fault::new(S3Call::Get, usize::MAX, FaultEffect::CutDownload(0)));
    let error = s3.read("bkt", "big", None, u64::MAX).unwrap_err();
    assert!(error.is_transient() && error.to_string().contains("tried 4 times"), "{error}");
}

#[test]
fn what_passes_is_tried_again_and_the_error_tells_of_it() {
    let server = server();
    server.put("bkt", "x", "content");
    let s3 = client(&server);
    let answers = [(500, "InternalError"), (503, "SlowDown"), (429, "Throttling"), (400, "RequestTimeout")];
    for (status, code) in answers {
        server.inject(S3Fault::new(S3Call::Get, 3, FaultEffect::Answer(status, code)));
        assert_eq!(s3.read("bkt", "x", None, 99).unwrap(), b"content", "{code}");
    }
    for effect in [FaultEffect::LoseReply, FaultEffect::Answer(503, "SlowDown")] {
        server.inject(S3Fault::new(S3Call::Head, 3, effect));
        assert_eq!(s3.head("bkt", "x").unwrap().unwrap().size, 7);
    }
    assert_eq!(server.injected(), 18);
    server.inject(S3Fault::new(S3Call::Get, usize::MAX, FaultEffect::Answer(503, "SlowDown")).on("x"));
    let error = s3.read("bkt", "x", None, 99).unwrap_err();
    let text = error.to_string();
    for part in ["s3://bkt/x", "read it", "503 SlowDown", "tried 4 times in ", "may succeed later"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(error.is_transient());
    let before = server.count(S3Call::Get);
    server.inject(S3Fault::new(S3Call::Get, 1, FaultEffect::Answer(400, "InvalidRequest")).on("y"));
    let error = s3.read("bkt", "y", None, 99).unwrap_err();
    assert!(!error.is_transient() && error.to_string().contains("InvalidRequest"), "{error}");
    assert_eq!(server.count(S3Call::Get), before + 1);
}

#[test]
fn every_call_ends_although_the_server_swallows_it() {
    let server = server();
    server.put("bkt", "x", "content");
    let directory = tempfile::tempdir().unwrap();
    let mut settings = quick(&server);
    settings.s3.timeout = 1;
    settings.s3.attempts = 2;
    let s3 = S3::start(&settings).unwrap();
    let granule = file(directory.path(), "g.nc", &bytes(1000));
    server.inject(S3Fault {
        call: None,
        key: String::new(),
        after: 0,
        times: usize::MAX,
        effect: FaultEffect::Swallow,
    });
    let errors = [
        s3.read("bkt", "x", None, 99).unwrap_err(),
        s3.head("bkt", "x").unwrap_err(),
        s3.list("bkt", "", &mut |_| ()).unwrap_err(),
        s3.put(&granule, "bkt", "g.nc", "id", true).unwrap_err(),
        s3.abort_uploads("bkt", "", &|_| true).unwrap_err(),
    ];
    for error in errors {
        assert!(error.is_transient() && error.to_string().contains("tried 2 times"), "{error}");
    }
}

#[test]
fn an_upload_into_a_line_that_takes_nothing_ends() {
    let server = server();
    let directory = tempfile::tempdir().unwrap();
    let mut settings = quick(&server);
    settings.s3.timeout = 1;
    settings.s3.attempts = 1;
    // Connections are made and nothing is read from them; at the rate of the deadline the upload would take hours.
    let deaf = TcpListener::bind("127.0.0.1:0").unwrap();
    let granule = directory.path().join("g.nc");
    fs::File::create(&granule).unwrap().set_len(200 << 20).unwrap();
    settings.s3.endpoint = Some(format!("http://{}", deaf.local_addr().unwrap()));
    let error = S3::start(&settings).unwrap().put(&granule, "bkt", "g.nc", "id", true).unwrap_err();
    assert!(error.is_transient(), "{error}");
    // Nothing listens at this port.
    let proxy = Proxy::start(server.socket());
    settings.s3.endpoint = Some(format!("http://{}", proxy.address()));
    let s3 = S3::start(&settings).unwrap();
    assert!(s3.head("bkt", "g.nc").unwrap().is_none());
    proxy.set(ProxyMode::Refuse);
    proxy.cut();
    let error = s3.head("bkt", "g.nc").unwrap_err();
    assert!(error.is_transient(), "{error}");
}

#[test]
fn expired_credentials_are_renewed() {
    let server = server();
    server.put("bkt", "x", "content");
    let s3 = client(&server);
    s3.read("bkt", "x", None, 99).unwrap();
    // A HEAD has no body that could state the reason.
    for call in [S3Call::Get, S3Call::Head, S3Call::List] {
        server.rotate();
        match call {
            S3Call::Get => assert_eq!(s3.read("bkt", "x", None, 99).unwrap(), b"content"),
            S3Call::Head => assert!(s3.head("bkt", "x").unwrap().is_some()),
            _ => assert_eq!(paths(&s3, ""), ["x"]),
        }
    }
    server.inject(S3Fault::new(S3Call::Get, 2, FaultEffect::Answer(400, "ExpiredToken")));
    assert_eq!(s3.read("bkt", "x", None, 99).unwrap(), b"content");
    let directory = tempfile::tempdir().unwrap();
    let granule = file(directory.path(), "g.nc", b"granule");
    server.rotate();
    assert_eq!(s3.put(&granule, "bkt", "g.nc", "id", false).unwrap(), Committed::New);
    server.inject(S3Fault::new(S3Call::Get, usize::MAX, FaultEffect::Answer(400, "ExpiredToken")));
    let error = s3.read("bkt", "x", None, 99).unwrap_err();
    assert!(error.is_transient() && error.to_string().contains("ExpiredToken"), "{error}");
}

#[test]
fn copies_are_made_once_and_removed_with_the_last_clone() {
    let server = server();
    let content = bytes(9 * MIB);
    server.put("bkt", "grid/a/big.npz", content.clone());
    server.put("bkt", "grid/b.txt", "b");
    server.put("bkt", "grid/empty", "");
    server.put("bkt", "grid.nc", "single");
    let stores = edp_s3::stores(&quick(&server));
    let at: Location = "s3://bkt/grid".parse().unwrap();
    let copies: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| stores.mirror(&at).unwrap())).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(copies.iter().all(|copy| *copy == copies[0]), "{copies:?}");
    let copy = &copies[0];
    assert_eq!(server.count(S3Call::Get), 3, "two parts and a small file, once");
    assert_eq!(edp_tests::files(copy), server.files("bkt", "grid"));
    assert!(copy.ends_with("grid"));
    let single = stores.mirror(&"s3://bkt/grid.nc".parse().unwrap()).unwrap();
    assert_eq!(
        (fs::read(&single).unwrap().as_slice(), single.file_name().unwrap().to_str()),
        (&b"single"[..], Some("grid.nc"))
    );
    // The content is new, but the copy remains the same until it is reported to be wrong.
    server.put("bkt", "grid/b.txt", "changed");
    assert_eq!(stores.mirror(&at).unwrap(), *copy);
    stores.forget(&at, copy);
    let new = stores.mirror(&at).unwrap();
    assert_eq!(fs::read(new.join("b.txt")).unwrap(), b"changed");
    stores.forget(&at, copy); // a late report: the new copy stays
    assert_eq!(stores.mirror(&at).unwrap(), new);
    assert_eq!(fs::read(copy.join("b.txt")).unwrap(), b"b");
    let clone = stores.clone();
    drop(stores);
    assert!(copy.exists());
    drop(clone);
    assert!(!copy.exists() && !new.exists() && !single.exists());
    let left: Vec<_> =
        fs::read_dir(server.settings().scratch.unwrap()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, ["credentials"]);
}

#[test]
fn copies_that_fail_leave_nothing_and_are_tried_anew() {
    let server = server();
    let s3 = client(&server);
    let error = s3.mirror("bkt", "none").unwrap_err();
    assert!(error.is_missing() && error.to_string().contains("s3://bkt/none"), "{error}");
    for key in ["x/../../escape", "x//etc/passwd", "x/./y"] {
        server.put("bkt", key, "evil");
        let error = s3.mirror("bkt", "x").unwrap_err();
        assert!(matches!(error, S3Error::Escapes { .. }), "{key}: {error:?}");
        server.remove("bkt", key).unwrap();
    }
    server.put("bkt", "d/..", "evil");
    assert!(matches!(s3.mirror("bkt", "d/..").unwrap_err(), S3Error::Escapes { .. }));
    server.put("bkt", "x/good", "good");
    server.inject(S3Fault::new(S3Call::Get, usize::MAX, FaultEffect::Answer(500, "InternalError")));
    assert!(s3.mirror("bkt", "x").unwrap_err().is_transient());
    server.heal();
    let copy = s3.mirror("bkt", "x").unwrap();
    assert_eq!(fs::read(copy.join("good")).unwrap(), b"good");
    // Nothing is left of the copies that failed.
    let copies = copy.parent().and_then(Path::parent).unwrap();
    assert_eq!(fs::read_dir(copies).unwrap().count(), 1);
    server.put("bkt", "closed/x", "x");
    server.deny("bkt/closed");
    assert!(matches!(s3.mirror("bkt", "closed").unwrap_err(), S3Error::Denied { .. }));
}

#[test]
fn open_buckets_are_read_without_credentials_and_payers_pay() {
    let server = server();
    server.put("bkt", "x", "content");
    let mut settings = quick(&server);
    settings.s3.anonymous = true;
    settings.s3.credentials = None;
    let s3 = S3::start(&settings).unwrap();
    assert!(matches!(s3.read("bkt", "x", None, 99).unwrap_err(), S3Error::Denied { .. }));
    server.publish("bkt");
    assert_eq!(s3.read("bkt", "x", None, 99).unwrap(), b"content");
    assert_eq!(paths(&s3, ""), ["x"]);
    assert_eq!(server.payers(), 0);
    let mut settings = quick(&server);
    settings.s3.requester_pays = true;
    let s3 = S3::start(&settings).unwrap();
    s3.read("bkt", "x", None, 99).unwrap();
    s3.head("bkt", "x").unwrap();
    assert_eq!(server.payers(), 2);
}

#[test]
fn secrets_appear_nowhere() {
    let server = server();
    let secret = server.secret();
    let stores = edp_s3::stores(&quick(&server));
    let s3 = stores.objects().unwrap();
    let mut said = format!("{stores:?} {s3:?}");
    server.deny("bkt/closed");
    server.inject(S3Fault::new(S3Call::Get, usize::MAX, FaultEffect::LoseReply));
    for error in [
        s3.read("bkt", "x", None, 9).unwrap_err(),
        s3.head("bkt", "closed/x").unwrap_err(),
        s3.list("none", "", &mut |_| ()).unwrap_err(),
    ] {
        said += &format!("{error} {error:?}");
    }
    assert!(!said.contains(&secret), "{said}");
    let mut settings = server.settings();
    settings.s3.credentials = Some("/nowhere/credentials".into());
    let stores = edp_s3::stores(&settings);
    for _ in 0..2 {
        let error = stores.head(&"s3://bkt/x".parse().unwrap()).unwrap_err();
        assert!(error.to_string().contains("no credentials for S3"), "{error}");
    }
}

/// The usual places are those of the process, so this runs in a process of its own, which is the test itself.
#[test]
fn the_usual_places_are_used_and_no_other_is_waited_for() {
    const MARK: &str = "EDP_TESTS_S3_CHILD";
    if std::env::var_os(MARK).is_some() {
        let environment = std::env::vars().filter(|(name, _)| name.starts_with("EDP_STORE__"));
        let settings = edp_program::settings::Settings::parse(None, environment).unwrap().store;
        let s3 = S3::start(&settings).unwrap();
        assert_eq!(s3.read("bkt", "x", None, 99).unwrap(), b"content");
        return;
    }
    let server = server();
    server.put("bkt", "x", "content");
    let mut child = std::process::Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "the_usual_places_are_used_and_no_other_is_waited_for"]).env(MARK, "1");
    // The address at which a machine's role would be requested: nothing answers there, and waiting would take longer
    // than the deadline.
    child.env("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://192.0.2.1/").env("EDP_STORE__S3__TIMEOUT", "1");
    let environment = server.environment().into_iter().filter(|(name, _)| name != "AWS_EC2_METADATA_DISABLED");
    edp_tests::expect(child.envs(environment), 0);
    assert_eq!(server.count(S3Call::Get), 1);
}

#[test]
fn what_begins_with_a_text_is_found_without_a_look_at_the_rest() {
    let server = S3Server::start(&["bkt"]);
    server.page(1);
    let ends = ["", ".1-of-2.manifest.jsonl", ".manifest.jsonl"];
    for key in ends.iter().map(|end| format!("a/tasks.json{end}")).chain((0..20).map(|n| format!("a/g{n:02}.nc"))) {
        server.put("bkt", &key, b"x".to_vec());
    }
    let mut found = Vec::new();
    client(&server).list_beginning("bkt", "a/tasks.json", &mut |entry| found.push(entry.path)).unwrap();
    assert_eq!(found, ends);
    assert!(server.count(S3Call::List) <= ends.len() + 1, "{}", server.count(S3Call::List));
}
