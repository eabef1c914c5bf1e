//! Putting granules, and the remains of uploads.

use super::{MIB, bytes, client, file, quick, server};
use edp_files::commit::Committed;
use edp_protocol::Location;
use edp_s3::S3;
use edp_store::{ObjectStore as _, S3Error, S3Settings};
use edp_tests::s3::{FaultEffect, S3Call, S3Fault, S3Server};
use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

#[test]
fn a_granule_is_put_once_with_its_id() {
    let server = server();
    let directory = tempfile::tempdir().unwrap();
    let content = bytes(MIB);
    let stores = edp_s3::stores(&quick(&server));
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
    // Nothing else was put, and nothing was deleted.
    assert_eq!(server.files("bkt", "").into_keys().collect::<Vec<_>>(), ["out/g.nc", "out/g.nc/empty"]);
    assert_eq!((server.count(S3Call::Put), server.count(S3Call::Delete)), (4, 0));
    let error = stores.put(&directory.path().join("none"), &at, "id", false).unwrap_err();
    assert!(error.to_string().contains("none"), "{error}");
}

#[test]
fn of_many_racing_puts_exactly_one_is_new() {
    for multipart in [S3Settings::default().multipart, 0] {
        let server = server();
        let directory = tempfile::tempdir().unwrap();
        let mut settings = server.settings();
        settings.s3.multipart = multipart;
        // There are two clients, as two workers would have.
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

/// Returns a client that uploads in parts from 5 MiB on, and a granule of two parts.
fn in_parts(server: &S3Server, directory: &Path) -> (S3, PathBuf, Vec<u8>) {
    let mut settings = quick(server);
    settings.s3.multipart = 5;
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
    let conflict = FaultEffect::Answer(409, "ConditionalRequestConflict");
    let faults = [
        (S3Call::Put, FaultEffect::CutUpload(MIB / 2)),
        (S3Call::Put, FaultEffect::Answer(500, "InternalError")),
        (S3Call::Put, conflict),
        (S3Call::PutPart, FaultEffect::CutUpload(MIB)),
        (S3Call::PutPart, FaultEffect::LoseReply),
        (S3Call::PutPart, FaultEffect::Answer(503, "SlowDown")),
        (S3Call::BeginUpload, FaultEffect::Answer(500, "InternalError")),
        (S3Call::CompleteUpload, FaultEffect::LoseReply),
        (S3Call::CompleteUpload, conflict),
        (S3Call::CompleteUpload, FaultEffect::Answer(500, "InternalError")),
    ];
    for (at, (call, effect)) in faults.into_iter().enumerate() {
        let key = format!("{at}.nc");
        let whole = call == S3Call::Put;
        server.inject(S3Fault::new(call, 2, effect).on(&key));
        let before = server.injected();
        let put = s3.put(if whole { &small } else { &large }, "bkt", &key, "id", false).unwrap();
        assert_eq!(put, Committed::New, "{call:?} {effect:?}");
        let object = server.get("bkt", &key).unwrap();
        assert!(object.bytes == content[..if whole { MIB } else { content.len() }], "{call:?} {effect:?}");
        // After a completion that took effect there is nothing to complete.
        let hit = if (call, effect) == (S3Call::CompleteUpload, FaultEffect::LoseReply) { 1..=2 } else { 2..=2 };
        assert!(hit.contains(&(server.injected() - before)), "{call:?} {effect:?}");
        server.heal();
        assert!(server.uploads().is_empty(), "{call:?} {effect:?}");
    }
    // The reply to the put of the whole file is lost; the object that is found then is its own.
    server.inject(S3Fault::new(S3Call::Put, 1, FaultEffect::LoseReply).on("lost.nc"));
    assert_eq!(s3.put(&small, "bkt", "lost.nc", "mine", false).unwrap(), Committed::AlreadyThere);
    assert_eq!(s3.head("bkt", "lost.nc").unwrap().unwrap().recipe_id.as_deref(), Some("mine"));
    assert!(server.get("bkt", "lost.nc").unwrap().bytes == content[..MIB]);
}

#[test]
fn an_upload_that_fails_leaves_nothing() {
    let server = server();
    let directory = tempfile::tempdir().unwrap();
    let (s3, large, _) = in_parts(&server, directory.path());
    for (call, code) in [(S3Call::PutPart, "SlowDown"), (S3Call::CompleteUpload, "InternalError")] {
        server.inject(
            S3Fault::new(call, usize::MAX, FaultEffect::Answer(503, code)).after(usize::from(call == S3Call::PutPart)),
        );
        let error = s3.put(&large, "bkt", "g.nc", "id", false).unwrap_err();
        assert!(error.is_transient() && error.to_string().contains(code), "{error}");
        server.heal();
    }
    assert!(server.uploads().is_empty() && server.files("bkt", "").is_empty());
    assert_eq!(server.count(S3Call::AbortUpload), 2);
}

#[test]
fn a_file_that_is_damaged_on_the_way_is_refused() {
    let server = server();
    let directory = tempfile::tempdir().unwrap();
    let large = file(directory.path(), "g.nc", &bytes(30 * MIB));
    let mut settings = server.settings();
    settings.s3.multipart = 5;
    let s3 = S3::start(&settings).unwrap();
    // A byte changes between checksum and sending; the first answer comes late enough for that.
    server.inject(S3Fault::new(S3Call::BeginUpload, 1, FaultEffect::Delay(Duration::from_secs(2))));
    std::thread::scope(|scope| {
        let put = scope.spawn(|| s3.put(&large, "bkt", "g.nc", "id", true));
        while server.count(S3Call::BeginUpload) == 0 && !put.is_finished() {
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
        let error = s3.check_conditions("bkt", "").unwrap_err();
        assert!(matches!(error, S3Error::IgnoresConditions { .. }), "{error:?}");
        assert!(error.to_string().contains("store.s3.unconditional"), "{error}");
    }
    assert_eq!(server.files("bkt", "").into_keys().collect::<Vec<_>>(), ["there.nc"]);
    let mut settings = quick(&server);
    settings.s3.unconditional = true;
    let s3 = S3::start(&settings).unwrap();
    s3.check_conditions("bkt", "").unwrap();
    assert_eq!(s3.put(&granule, "bkt", "g.nc", "id", false).unwrap(), Committed::New);
    assert_eq!(s3.put(&granule, "bkt", "there.nc", "id", false).unwrap(), Committed::AlreadyThere);
    assert_eq!(&*server.get("bkt", "there.nc").unwrap().bytes, b"theirs");
    // A trial whose reply is lost, or that is forbidden, must not lead to a wrong result.
    server.ignore_conditions(false);
    let s3 = client(&server);
    server.inject(S3Fault::new(S3Call::Put, 1, FaultEffect::LoseReply).on(".edp/conditions"));
    s3.check_conditions("bkt", "new").unwrap();
    assert_eq!(s3.put(&granule, "bkt", "h.nc", "id", false).unwrap(), Committed::New);
    server.deny("bkt/closed");
    let s3 = client(&server);
    for error in [
        s3.check_conditions("bkt", "closed").unwrap_err(),
        s3.put(&granule, "bkt", "closed/h.nc", "id", false).unwrap_err(),
    ] {
        assert!(matches!(error, S3Error::Denied { permission: "s3:PutObject", .. }), "{error:?}");
    }
    // The object of the trial stays in its place, so that one put is enough the next time.
    let puts = server.count(S3Call::Put);
    s3.check_conditions("bkt", "new").unwrap();
    assert_eq!((server.count(S3Call::Put) - puts, server.count(S3Call::Delete)), (1, 0));
    let left = ["g.nc", "h.nc", "new/.edp/conditions", "there.nc"];
    assert_eq!(server.files("bkt", "").into_keys().collect::<Vec<_>>(), left);
}

#[test]
fn stale_uploads_of_wanted_keys_are_aborted() {
    let server = server();
    let directory = tempfile::tempdir().unwrap();
    let (s3, large, _) = in_parts(&server, directory.path());
    // Uploads whose abort fails too stay.
    server.inject(S3Fault::new(S3Call::CompleteUpload, usize::MAX, FaultEffect::Answer(400, "InvalidRequest")));
    server.inject(S3Fault::new(S3Call::AbortUpload, usize::MAX, FaultEffect::Answer(400, "InvalidRequest")));
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
