//! The S3 client against a server that speaks S3 over a socket: what it promises, and what it survives.

use edp_protocol::Location;
use edp_protocol::settings::StoreSettings;
use edp_protocol::store::commit::Committed;
use edp_protocol::store::{Object, ReadAt as _, S3, S3Error, StoreError, Stores};
use edp_tests::proxy::{Mode, Proxy};
use edp_tests::s3::{Call, Effect, Fault, S3Server};
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

const MIB: usize = 1 << 20;

fn server() -> S3Server {
    S3Server::start(&["bkt"])
}

/// A client that gives up soon.
fn client(server: &S3Server) -> S3 {
    S3::start(&quick(server)).unwrap()
}

fn quick(server: &S3Server) -> StoreSettings {
    let mut settings = server.settings();
    settings.s3.timeout = Some(2);
    settings.s3.attempts = Some(4);
    settings
}

/// Bytes that differ everywhere.
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
    // at least two pages of three, however they are cut
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
    server.inject(Fault::new(Call::List, usize::MAX, Effect::Delay(Duration::from_millis(20))));
    assert_eq!(paths(&client(&server), "p").len(), 100);
    let most = server.most_in_flight(Call::List);
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
    assert_eq!(server.count(Call::Get), 1, "what is denied is not tried again");
}

#[test]
fn a_list_that_breaks_in_the_middle_is_an_error() {
    let server = server();
    for i in 0..30 {
        server.put("bkt", &format!("{i:02}"), "x");
    }
    server.page(10);
    server.inject(Fault::new(Call::List, usize::MAX, Effect::Answer(500, "InternalError")).after(2));
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
    let stores = Stores::new(&quick(&server));
    let at: Location = "s3://bkt/big".parse().unwrap();
    let read = stores.open(&at, Some(&etag), u64::MAX).unwrap();
    let mut all = vec![0; content.len()];
    assert_eq!(read.length().unwrap(), content.len() as u64);
    read.read_exact_at(&mut all, 0).unwrap();
    assert!(all == content);
    assert_eq!(server.count(Call::Get), 3);
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
    server.inject(Fault::new(Call::Get, usize::MAX, Effect::Delay(Duration::from_secs(1))).after(1));
    let s3 = client(&server);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| s3.read("bkt", "big", None, u64::MAX));
        while server.count(Call::Get) < 2 && !reader.is_finished() {
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
    server.inject(Fault::new(Call::Get, 1, Effect::CutDownload(3 * MIB)));
    server.inject(Fault::new(Call::Get, 2, Effect::CutDownload(MIB)));
    let s3 = client(&server);
    assert!(s3.read("bkt", "big", None, u64::MAX).unwrap() == content);
    assert_eq!(server.injected(), 3);
    server.inject(Fault::new(Call::Get, 1, Effect::StallDownload(MIB)));
    server.inject(Fault::new(Call::Get, usize::MAX, Effect::Slow(Duration::from_millis(1))));
    assert!(s3.read("bkt", "big", None, u64::MAX).unwrap() == content);
    server.heal();
    server.inject(Fault::new(Call::Get, usize::MAX, Effect::CutDownload(0)));
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
        server.inject(Fault::new(Call::Get, 3, Effect::Answer(status, code)));
        assert_eq!(s3.read("bkt", "x", None, 99).unwrap(), b"content", "{code}");
    }
    for effect in [Effect::LoseReply, Effect::Answer(503, "SlowDown")] {
        server.inject(Fault::new(Call::Head, 3, effect));
        assert_eq!(s3.head("bkt", "x").unwrap().unwrap().size, 7);
    }
    assert_eq!(server.injected(), 18);
    server.inject(Fault::new(Call::Get, usize::MAX, Effect::Answer(503, "SlowDown")).on("x"));
    let error = s3.read("bkt", "x", None, 99).unwrap_err();
    let text = error.to_string();
    for part in ["s3://bkt/x", "read it", "503 SlowDown", "tried 4 times in ", "may succeed later"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(error.is_transient());
    let before = server.count(Call::Get);
    server.inject(Fault::new(Call::Get, 1, Effect::Answer(400, "InvalidRequest")).on("y"));
    let error = s3.read("bkt", "y", None, 99).unwrap_err();
    assert!(!error.is_transient() && error.to_string().contains("InvalidRequest"), "{error}");
    assert_eq!(server.count(Call::Get), before + 1);
}

#[test]
fn every_call_ends_although_the_server_swallows_it() {
    let server = server();
    server.put("bkt", "x", "content");
    let directory = tempfile::tempdir().unwrap();
    let mut settings = quick(&server);
    settings.s3.timeout = Some(1);
    settings.s3.attempts = Some(2);
    let s3 = S3::start(&settings).unwrap();
    let granule = file(directory.path(), "g.nc", &bytes(1000));
    server.inject(Fault { call: None, key: String::new(), after: 0, times: usize::MAX, effect: Effect::Swallow });
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
    settings.s3.timeout = Some(1);
    settings.s3.attempts = Some(1);
    // connections are made and nothing is read from them: at the rate of the deadline this would take hours
    let deaf = TcpListener::bind("127.0.0.1:0").unwrap();
    let granule = directory.path().join("g.nc");
    fs::File::create(&granule).unwrap().set_len(200 << 20).unwrap();
    settings.s3.endpoint = Some(format!("http://{}", deaf.local_addr().unwrap()));
    let error = S3::start(&settings).unwrap().put(&granule, "bkt", "g.nc", "id", true).unwrap_err();
    assert!(error.is_transient(), "{error}");
    // nobody listens
    let proxy = Proxy::start(server.socket());
    settings.s3.endpoint = Some(format!("http://{}", proxy.address()));
    let s3 = S3::start(&settings).unwrap();
    assert!(s3.head("bkt", "g.nc").unwrap().is_none());
    proxy.set(Mode::Refuse);
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
    // a HEAD has no body that could name the reason
    for call in [Call::Get, Call::Head, Call::List] {
        server.rotate();
        match call {
            Call::Get => assert_eq!(s3.read("bkt", "x", None, 99).unwrap(), b"content"),
            Call::Head => assert!(s3.head("bkt", "x").unwrap().is_some()),
            _ => assert_eq!(paths(&s3, ""), ["x"]),
        }
    }
    server.inject(Fault::new(Call::Get, 2, Effect::Answer(400, "ExpiredToken")));
    assert_eq!(s3.read("bkt", "x", None, 99).unwrap(), b"content");
    let directory = tempfile::tempdir().unwrap();
    let granule = file(directory.path(), "g.nc", b"granule");
    server.rotate();
    assert_eq!(s3.put(&granule, "bkt", "g.nc", "id", false).unwrap(), Committed::New);
    server.inject(Fault::new(Call::Get, usize::MAX, Effect::Answer(400, "ExpiredToken")));
    let error = s3.read("bkt", "x", None, 99).unwrap_err();
    assert!(error.is_transient() && error.to_string().contains("ExpiredToken"), "{error}");
}

#[test]
fn a_granule_is_put_once_with_its_id() {
    let server = server();
    let directory = tempfile::tempdir().unwrap();
    let content = bytes(MIB);
    let stores = Stores::new(&quick(&server));
    let at: Location = "s3://bkt/out/g.nc".parse().unwrap();
    assert_eq!(stores.head(&at).unwrap(), None);
    let one = file(directory.path(), "one", &content);
    let two = file(directory.path(), "two", b"two");
    assert_eq!(stores.put(&one, &at, "id-1", false).unwrap(), Committed::New);
    assert_eq!(stores.put(&two, &at, "id-2", false).unwrap(), Committed::AlreadyThere);
    let head = stores.head(&at).unwrap().unwrap();
    let object = server.get("bkt", "out/g.nc").unwrap();
    assert!(object.bytes == content);
    assert_eq!((head.size, head.recipe_id.as_deref()), (MIB as u64, Some("id-1")));
    assert_eq!((head.etag, head.modified <= std::time::SystemTime::now()), (Some(object.etag), true));
    assert_eq!(object.content_type.as_deref(), Some("application/x-netcdf"));
    assert_eq!(stores.put(&two, &at, "id-2", true).unwrap(), Committed::New);
    assert_eq!(&*server.get("bkt", "out/g.nc").unwrap().bytes, b"two");
    let empty = file(directory.path(), "empty", b"");
    assert_eq!(stores.put(&empty, &at.join("empty"), "id-3", false).unwrap(), Committed::New);
    // the object that the store was tried with is gone, and was put once
    assert_eq!(server.files("bkt", "").into_keys().collect::<Vec<_>>(), ["out/g.nc", "out/g.nc/empty"]);
    assert_eq!(server.count(Call::Delete), 1);
    let error = stores.put(&directory.path().join("none"), &at, "id", false).unwrap_err();
    assert!(error.to_string().contains("none"), "{error}");
}

#[test]
fn of_many_racing_puts_exactly_one_is_new() {
    for multipart in [None, Some(0)] {
        let server = server();
        let directory = tempfile::tempdir().unwrap();
        let mut settings = server.settings();
        settings.s3.multipart = multipart;
        // two clients, as two workers have them
        let clients = [S3::start(&settings).unwrap(), S3::start(&settings).unwrap()];
        let puts: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..32)
                .map(|i| {
                    let granule = file(directory.path(), &i.to_string(), format!("{i}").as_bytes());
                    let s3 = &clients[i % 2];
                    scope.spawn(move || s3.put(&granule, "bkt", "out/g.nc", &format!("id-{i}"), false).unwrap())
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let winners: Vec<_> = (0..32).filter(|i| puts[*i] == Committed::New).collect();
        assert_eq!(winners.len(), 1, "{puts:?}");
        let head = clients[0].head("bkt", "out/g.nc").unwrap().unwrap();
        assert_eq!(head.recipe_id, Some(format!("id-{}", winners[0])));
        assert_eq!(&*server.get("bkt", "out/g.nc").unwrap().bytes, winners[0].to_string().as_bytes());
        assert!(server.uploads().is_empty());
        assert_eq!(server.files("bkt", "").len(), 1);
    }
}

/// A client that puts in parts from 5 MiB on, and a granule of two of them.
fn in_parts(server: &S3Server, directory: &Path) -> (S3, PathBuf, Vec<u8>) {
    let mut settings = quick(server);
    settings.s3.multipart = Some(5);
    let content = bytes(17 * MIB);
    (S3::start(&settings).unwrap(), file(directory, "g.nc", &content), content)
}

#[test]
fn large_granules_are_put_in_parts() {
    let server = server();
    let directory = tempfile::tempdir().unwrap();
    let (s3, granule, content) = in_parts(&server, directory.path());
    assert_eq!(s3.put(&granule, "bkt", "g.nc", "id", false).unwrap(), Committed::New);
    let object = server.get("bkt", "g.nc").unwrap();
    assert!(object.bytes == content);
    assert_eq!(object.metadata.get("recipe-id").map(String::as_str), Some("id"));
    assert_eq!(object.content_type.as_deref(), Some("application/x-netcdf"));
    assert!(object.etag.ends_with("-2"), "{}", object.etag);
    assert_eq!(s3.put(&granule, "bkt", "g.nc", "id", false).unwrap(), Committed::AlreadyThere);
    assert_eq!(s3.put(&granule, "bkt", "g.nc", "id-2", true).unwrap(), Committed::New);
    assert_eq!(s3.head("bkt", "g.nc").unwrap().unwrap().recipe_id.as_deref(), Some("id-2"));
    assert!(server.uploads().is_empty());
}

#[test]
fn puts_survive_cuts_conflicts_and_lost_replies() {
    let server = server();
    let directory = tempfile::tempdir().unwrap();
    let (s3, large, content) = in_parts(&server, directory.path());
    let small = file(directory.path(), "small", &content[..MIB]);
    let conflict = Effect::Answer(409, "ConditionalRequestConflict");
    let faults = [
        (Call::Put, Effect::CutUpload(MIB / 2)),
        (Call::Put, Effect::Answer(500, "InternalError")),
        (Call::Put, conflict),
        (Call::PutPart, Effect::CutUpload(MIB)),
        (Call::PutPart, Effect::LoseReply),
        (Call::PutPart, Effect::Answer(503, "SlowDown")),
        (Call::BeginUpload, Effect::Answer(500, "InternalError")),
        (Call::CompleteUpload, Effect::LoseReply),
        (Call::CompleteUpload, conflict),
        (Call::CompleteUpload, Effect::Answer(500, "InternalError")),
    ];
    for (at, (call, effect)) in faults.into_iter().enumerate() {
        let key = format!("{at}.nc");
        let whole = call == Call::Put;
        server.inject(Fault::new(call, 2, effect).on(&key));
        let before = server.injected();
        let put = s3.put(if whole { &small } else { &large }, "bkt", &key, "id", false).unwrap();
        assert_eq!(put, Committed::New, "{call:?} {effect:?}");
        let object = server.get("bkt", &key).unwrap();
        assert!(object.bytes == content[..if whole { MIB } else { content.len() }], "{call:?} {effect:?}");
        // a completion that took place leaves nothing to complete
        let hit = if (call, effect) == (Call::CompleteUpload, Effect::LoseReply) { 1..=2 } else { 2..=2 };
        assert!(hit.contains(&(server.injected() - before)), "{call:?} {effect:?}");
        server.heal();
        assert!(server.uploads().is_empty(), "{call:?} {effect:?}");
    }
    // the reply to the put of the whole file: what is found then is its own
    server.inject(Fault::new(Call::Put, 1, Effect::LoseReply).on("lost.nc"));
    assert_eq!(s3.put(&small, "bkt", "lost.nc", "mine", false).unwrap(), Committed::AlreadyThere);
    assert_eq!(s3.head("bkt", "lost.nc").unwrap().unwrap().recipe_id.as_deref(), Some("mine"));
    assert!(server.get("bkt", "lost.nc").unwrap().bytes == content[..MIB]);
}

#[test]
fn an_upload_that_fails_leaves_nothing() {
    let server = server();
    let directory = tempfile::tempdir().unwrap();
    let (s3, large, _) = in_parts(&server, directory.path());
    for (call, code) in [(Call::PutPart, "SlowDown"), (Call::CompleteUpload, "InternalError")] {
        server
            .inject(Fault::new(call, usize::MAX, Effect::Answer(503, code)).after(usize::from(call == Call::PutPart)));
        let error = s3.put(&large, "bkt", "g.nc", "id", false).unwrap_err();
        assert!(error.is_transient() && error.to_string().contains(code), "{error}");
        server.heal();
    }
    assert!(server.uploads().is_empty() && server.files("bkt", "").is_empty());
    assert_eq!(server.count(Call::AbortUpload), 2);
}

#[test]
fn a_file_that_is_damaged_on_the_way_is_refused() {
    let server = server();
    let directory = tempfile::tempdir().unwrap();
    let large = file(directory.path(), "g.nc", &bytes(30 * MIB));
    let mut settings = server.settings();
    settings.s3.multipart = Some(5);
    let s3 = S3::start(&settings).unwrap();
    // a byte changes between checksum and sending: the first answer is late enough for that
    server.inject(Fault::new(Call::BeginUpload, 1, Effect::Delay(Duration::from_secs(2))));
    std::thread::scope(|scope| {
        let put = scope.spawn(|| s3.put(&large, "bkt", "g.nc", "id", true));
        while server.count(Call::BeginUpload) == 0 && !put.is_finished() {
            std::thread::sleep(Duration::from_millis(1));
        }
        let file = fs::File::options().write(true).open(&large).unwrap();
        file.write_all_at(b"damaged", 20 << 20).unwrap();
        let error = put.join().unwrap().unwrap_err();
        assert!(error.to_string().contains("BadDigest"), "{error}");
    });
    assert!(server.get("bkt", "g.nc").is_none() && server.uploads().is_empty());
}

#[test]
fn a_store_that_ignores_conditions_is_refused() {
    let server = server();
    server.put("bkt", "there.nc", "theirs");
    server.ignore_conditions(true);
    let directory = tempfile::tempdir().unwrap();
    let granule = file(directory.path(), "g.nc", b"granule");
    let s3 = client(&server);
    for _ in 0..2 {
        let error = s3.put(&granule, "bkt", "g.nc", "id", false).unwrap_err();
        assert!(matches!(error, S3Error::IgnoresConditions { .. }), "{error:?}");
        assert!(error.to_string().contains("store.s3.unconditional"), "{error}");
    }
    assert_eq!(server.files("bkt", "").into_keys().collect::<Vec<_>>(), ["there.nc"]);
    let mut settings = quick(&server);
    settings.s3.unconditional = Some(true);
    let s3 = S3::start(&settings).unwrap();
    assert_eq!(s3.put(&granule, "bkt", "g.nc", "id", false).unwrap(), Committed::New);
    assert_eq!(s3.put(&granule, "bkt", "there.nc", "id", false).unwrap(), Committed::AlreadyThere);
    assert_eq!(&*server.get("bkt", "there.nc").unwrap().bytes, b"theirs");
    // a probe whose reply is lost, or that is forbidden, settles nothing wrongly
    server.ignore_conditions(false);
    let s3 = client(&server);
    server.inject(Fault::new(Call::Put, 1, Effect::LoseReply).on(".edp-probe-"));
    assert_eq!(s3.put(&granule, "bkt", "h.nc", "id", false).unwrap(), Committed::New);
    server.deny("bkt/closed");
    let error = client(&server).put(&granule, "bkt", "closed/h.nc", "id", false).unwrap_err();
    assert!(matches!(error, S3Error::Denied { permission: "s3:PutObject", .. }), "{error:?}");
    assert_eq!(server.files("bkt", "").into_keys().collect::<Vec<_>>(), ["g.nc", "h.nc", "there.nc"]);
}

#[test]
fn copies_are_made_once_and_removed_with_the_last_clone() {
    let server = server();
    let content = bytes(9 * MIB);
    server.put("bkt", "grid/a/big.npz", content.clone());
    server.put("bkt", "grid/b.txt", "b");
    server.put("bkt", "grid/empty", "");
    server.put("bkt", "grid.nc", "single");
    let stores = Stores::new(&quick(&server));
    let at: Location = "s3://bkt/grid".parse().unwrap();
    let copies: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| stores.mirror(&at).unwrap())).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(copies.iter().all(|copy| *copy == copies[0]), "{copies:?}");
    let copy = &copies[0];
    assert_eq!(server.count(Call::Get), 3, "two parts and a small file, once");
    assert_eq!(edp_tests::files(copy), server.files("bkt", "grid"));
    assert!(copy.ends_with("grid"));
    let single = stores.mirror(&"s3://bkt/grid.nc".parse().unwrap()).unwrap();
    assert_eq!(
        (fs::read(&single).unwrap().as_slice(), single.file_name().unwrap().to_str()),
        (&b"single"[..], Some("grid.nc"))
    );
    // a new content: the same copy until somebody says that it is not the right one
    server.put("bkt", "grid/b.txt", "changed");
    assert_eq!(stores.mirror(&at).unwrap(), *copy);
    stores.forget(&at, copy);
    let new = stores.mirror(&at).unwrap();
    assert_eq!(fs::read(new.join("b.txt")).unwrap(), b"changed");
    stores.forget(&at, copy); // somebody who is late: the new one stays
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
    server.inject(Fault::new(Call::Get, usize::MAX, Effect::Answer(500, "InternalError")));
    assert!(s3.mirror("bkt", "x").unwrap_err().is_transient());
    server.heal();
    let copy = s3.mirror("bkt", "x").unwrap();
    assert_eq!(fs::read(copy.join("good")).unwrap(), b"good");
    // nothing of the copies that failed is left beside it
    let copies = copy.parent().and_then(Path::parent).unwrap();
    assert_eq!(fs::read_dir(copies).unwrap().count(), 1);
    server.put("bkt", "closed/x", "x");
    server.deny("bkt/closed");
    assert!(matches!(s3.mirror("bkt", "closed").unwrap_err(), S3Error::Denied { .. }));
}

#[test]
fn stale_uploads_of_wanted_keys_are_aborted() {
    let server = server();
    let directory = tempfile::tempdir().unwrap();
    let (s3, large, _) = in_parts(&server, directory.path());
    // uploads whose abort fails too stay
    server.inject(Fault::new(Call::CompleteUpload, usize::MAX, Effect::Answer(400, "InvalidRequest")));
    server.inject(Fault::new(Call::AbortUpload, usize::MAX, Effect::Answer(400, "InvalidRequest")));
    for key in ["out/a.nc", "out/b.nc", "out/c.nc", "other/d.nc"] {
        s3.put(&large, "bkt", key, "id", true).unwrap_err();
    }
    server.heal();
    server.page(1);
    assert_eq!(server.uploads().len(), 4);
    assert_eq!(s3.abort_uploads("bkt", "out", &|key| key != "out/b.nc").unwrap(), 2);
    let mut left = server.uploads();
    left.sort();
    assert_eq!(left, ["other/d.nc", "out/b.nc"]);
    assert_eq!(s3.abort_uploads("bkt", "", &|_| true).unwrap(), 2);
    assert_eq!(s3.abort_uploads("bkt", "", &|_| true).unwrap(), 0);
}

#[test]
fn open_buckets_are_read_without_credentials_and_payers_pay() {
    let server = server();
    server.put("bkt", "x", "content");
    let mut settings = quick(&server);
    settings.s3.anonymous = Some(true);
    settings.s3.credentials = None;
    let s3 = S3::start(&settings).unwrap();
    assert!(matches!(s3.read("bkt", "x", None, 99).unwrap_err(), S3Error::Denied { .. }));
    server.publish("bkt");
    assert_eq!(s3.read("bkt", "x", None, 99).unwrap(), b"content");
    assert_eq!(paths(&s3, ""), ["x"]);
    assert_eq!(server.payers(), 0);
    let mut settings = quick(&server);
    settings.s3.requester_pays = Some(true);
    let s3 = S3::start(&settings).unwrap();
    s3.read("bkt", "x", None, 99).unwrap();
    s3.head("bkt", "x").unwrap();
    assert_eq!(server.payers(), 2);
}

#[test]
fn secrets_appear_nowhere() {
    let server = server();
    let secret = server.secret();
    let stores = Stores::new(&quick(&server));
    let s3 = stores.s3().unwrap();
    let mut said = format!("{stores:?} {s3:?}");
    server.deny("bkt/closed");
    server.inject(Fault::new(Call::Get, usize::MAX, Effect::LoseReply));
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
    let stores = Stores::new(&settings);
    for _ in 0..2 {
        let error = stores.head(&"s3://bkt/x".parse().unwrap()).unwrap_err();
        assert!(error.to_string().contains("no credentials for S3"), "{error}");
    }
}

/// The usual places are those of the process, so that this runs in another one: itself.
#[test]
fn the_usual_places_are_used_and_no_other_is_waited_for() {
    const MARK: &str = "EDP_TESTS_S3_CHILD";
    if std::env::var_os(MARK).is_some() {
        let environment = std::env::vars().filter(|(name, _)| name.starts_with("EDP_STORE__"));
        let settings = edp_protocol::settings::Settings::parse(None, environment).unwrap().store;
        let s3 = S3::start(&settings).unwrap();
        assert_eq!(s3.read("bkt", "x", None, 99).unwrap(), b"content");
        return;
    }
    let server = server();
    server.put("bkt", "x", "content");
    let mut child = std::process::Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "the_usual_places_are_used_and_no_other_is_waited_for"]).env(MARK, "1");
    // where a machine's role would be asked for: nobody answers there, which would take longer than the deadline
    child.env("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://192.0.2.1/").env("EDP_STORE__S3__TIMEOUT", "1");
    let environment = server.environment().into_iter().filter(|(name, _)| name != "AWS_EC2_METADATA_DISABLED");
    edp_tests::expect(child.envs(environment), 0);
    assert_eq!(server.count(Call::Get), 1);
}
