//! Stores that differ from a plain bucket: each works, or the error names the cause and the setting.

use super::{MIB, bytes, client, file, paths, quick, server};
use edp_files::commit::Committed;
use edp_s3::S3;
use edp_store::{ObjectStore as _, S3Error, S3Settings, StoreSettings};
use edp_tests::s3::{Manner, S3Call, S3Server};

/// Starts a client with changed settings, which uploads in parts from 5 MiB on.
fn with(server: &S3Server, change: impl FnOnce(&mut StoreSettings)) -> S3 {
    let mut settings = quick(server);
    settings.s3.multipart = 5;
    change(&mut settings);
    S3::start(&settings).unwrap()
}

#[test]
fn stores_that_refuse_checksum_headers_get_md5() {
    let directory = tempfile::tempdir().unwrap();
    let large = bytes(17 * MIB);
    let (small, granule) = (file(directory.path(), "s", b"small"), file(directory.path(), "l", &large));
    for status in [400, 501] {
        let server = server();
        server.adopt(Manner::NoChecksumHeaders(status));
        server.put("bkt", "x", "content");
        let s3 = with(&server, |_| ());
        assert_eq!(s3.read("bkt", "x", None, 9).unwrap(), b"content");
        assert_eq!(s3.head("bkt", "x").unwrap().unwrap().size, 7);
        s3.check_conditions("bkt", "").unwrap();
        assert_eq!(s3.put(&small, "bkt", "s.nc", "id", false).unwrap(), Committed::New);
        // The refusal is remembered.
        let puts = server.count(S3Call::Put);
        assert_eq!(s3.put(&small, "bkt", "t.nc", "id", false).unwrap(), Committed::New);
        assert_eq!(s3.put(&small, "bkt", "t.nc", "id", false).unwrap(), Committed::AlreadyThere);
        assert_eq!(server.count(S3Call::Put) - puts, 2);
        assert_eq!(with(&server, |_| ()).put(&granule, "bkt", "l.nc", "id", false).unwrap(), Committed::New);
        assert!(server.get("bkt", "l.nc").unwrap().bytes == large && server.uploads().is_empty());
    }
}

#[test]
fn without_checksum_headers_damage_on_the_way_is_still_refused() {
    use edp_tests::s3::{FaultEffect, S3Fault};
    use std::os::unix::fs::FileExt as _;
    let server = server();
    server.adopt(Manner::NoChecksumHeaders(400));
    let directory = tempfile::tempdir().unwrap();
    let granule = file(directory.path(), "g", &bytes(30 * MIB));
    let small = file(directory.path(), "s", b"small");
    let s3 = with(&server, |settings| settings.s3.timeout = S3Settings::default().timeout);
    s3.put(&small, "bkt", "s.nc", "id", false).unwrap();
    // A byte changes between checksum and sending; the first answer comes late enough for that.
    server.inject(S3Fault::new(S3Call::BeginUpload, 1, FaultEffect::Delay(std::time::Duration::from_secs(2))));
    let before = server.count(S3Call::BeginUpload);
    std::thread::scope(|scope| {
        let put = scope.spawn(|| s3.put(&granule, "bkt", "g.nc", "id", true));
        while server.count(S3Call::BeginUpload) == before && !put.is_finished() {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        let file = std::fs::File::options().write(true).open(&granule).unwrap();
        file.write_all_at(b"damaged", 20 << 20).unwrap();
        let error = put.join().unwrap().unwrap_err();
        assert!(error.to_string().contains("BadDigest"), "{error}");
    });
    assert!(server.get("bkt", "g.nc").is_none() && server.uploads().is_empty());
}

#[test]
fn encryption_class_and_access_list_go_with_every_write() {
    let server = server();
    let directory = tempfile::tempdir().unwrap();
    let (small, large) = (file(directory.path(), "s", b"small"), file(directory.path(), "l", &bytes(6 * MIB)));
    server.adopt(Manner::Requires("x-amz-server-side-encryption", "aws:kms"));
    server.adopt(Manner::Requires("x-amz-acl", "bucket-owner-full-control"));
    let s3 = with(&server, |settings| {
        settings.s3.sse_kms_key = Some("alias/edp".into());
        settings.s3.storage_class = Some("STANDARD_IA".into());
        settings.s3.acl = Some("bucket-owner-full-control".into());
    });
    s3.check_conditions("bkt", "out").unwrap();
    s3.put(&small, "bkt", "out/s.nc", "id", false).unwrap();
    s3.put(&large, "bkt", "out/l.nc", "id", false).unwrap();
    for key in ["out/.edp/conditions", "out/s.nc", "out/l.nc"] {
        let placing = server.get("bkt", key).unwrap().placing;
        let placing: Vec<_> = placing.iter().map(|one| one.as_deref().unwrap_or_default()).collect();
        assert_eq!(placing, ["aws:kms", "alias/edp", "STANDARD_IA", "bucket-owner-full-control"], "{key}");
    }
    // Without the settings, the error names them.
    let error = with(&server, |_| ()).put(&small, "bkt", "out/n.nc", "id", false).unwrap_err().to_string();
    assert!(error.contains("store.s3.sse") && error.contains("store.s3.acl"), "{error}");
    server.heal();
    server.adopt(Manner::NoAccessLists);
    let error = with(&server, |settings| settings.s3.acl = Some("private".into()));
    let error = error.put(&small, "bkt", "out/n.nc", "id", false).unwrap_err().to_string();
    assert!(error.contains("unset store.s3.acl"), "{error}");
    let mut settings = quick(&server);
    settings.s3.sse = Some("AES-256".into());
    let error = S3::start(&settings).unwrap_err();
    assert!(error.is_of_settings() && error.to_string().contains("store.s3.sse: write"), "{error}");
}

#[test]
fn buckets_in_other_regions_are_found() {
    let server = server();
    let directory = tempfile::tempdir().unwrap();
    let small = file(directory.path(), "s", b"small");
    server.put("bkt", "x", "content");
    server.adopt(Manner::Region("eu-west-1"));
    // Each kind of call may be the first.
    assert_eq!(client(&server).head("bkt", "x").unwrap().unwrap().size, 7);
    assert_eq!(client(&server).read("bkt", "x", None, 9).unwrap(), b"content");
    assert_eq!(paths(&client(&server), ""), ["x"]);
    let s3 = client(&server);
    assert_eq!(s3.put(&small, "bkt", "s.nc", "id", false).unwrap(), Committed::New);
    // One redirection is enough, until the credentials are renewed.
    let heads = server.count(S3Call::Head);
    s3.head("bkt", "x").unwrap();
    assert_eq!(server.count(S3Call::Head) - heads, 1);
    server.rotate();
    assert_eq!(s3.read("bkt", "x", None, 9).unwrap(), b"content");
    // A store that redirects every request is not followed endlessly.
    server.adopt(Manner::Region("us-west-2"));
    for error in [s3.head("bkt", "x").unwrap_err(), client(&server).put(&small, "bkt", "n.nc", "id", true).unwrap_err()]
    {
        let text = error.to_string();
        assert!(text.contains("the bucket is in region ") && text.contains("store.s3.region"), "{text}");
        assert!(!error.is_transient(), "{text}");
    }
}

#[test]
fn what_is_not_there_is_told_from_what_is_denied() {
    let server = server();
    server.put("bkt", "there", "content");
    server.put("bkt", "there-too", "content");
    let s3 = client(&server);
    // S3 gives this answer to those who may not list.
    server.adopt(Manner::NoList);
    assert_eq!(s3.head("bkt", "there").unwrap().unwrap().size, 7);
    for error in [s3.head("bkt", "none").unwrap_err(), s3.read("bkt", "none", None, 9).unwrap_err()] {
        let text = error.to_string();
        assert!(matches!(error, S3Error::Denied { permission: "s3:GetObject", .. }), "{error:?}");
        assert!(text.contains("s3:ListBucket") && text.contains("s3:GetObject"), "{text}");
    }
    // Those who may list, but not read, learn which objects exist.
    server.heal();
    server.deny("bkt/there");
    server.deny("bkt/no");
    let error = s3.head("bkt", "there").unwrap_err();
    assert!(matches!(error, S3Error::Denied { .. }), "{error:?}");
    server.heal();
    server.inject(edp_tests::s3::S3Fault::new(
        S3Call::Head,
        2,
        edp_tests::s3::FaultEffect::Answer(403, "AccessDenied"),
    ));
    assert!(s3.head("bkt", "ther").unwrap().is_none());
    let error = s3.head("bkt", "there").unwrap_err().to_string();
    assert!(error.contains("s3:GetObject") && !error.contains("s3:ListBucket"), "{error}");
    // An answer to HEAD does not say that the key is unknown; that to the listing does.
    server.adopt(Manner::UnknownKey);
    for error in [s3.head("bkt", "there").unwrap_err(), s3.read("bkt", "there", None, 9).unwrap_err()] {
        let text = error.to_string();
        assert!(text.contains("InvalidAccessKeyId") && text.contains("does not know these credentials"), "{text}");
    }
}

#[test]
fn buckets_whose_users_pay_name_the_setting_or_are_paid_for() {
    let server = server();
    let directory = tempfile::tempdir().unwrap();
    let small = file(directory.path(), "s", b"small");
    server.put("bkt", "x", "content");
    server.adopt(Manner::RequesterPays);
    let s3 = client(&server);
    for error in [
        s3.head("bkt", "x").unwrap_err(),
        s3.read("bkt", "x", None, 9).unwrap_err(),
        s3.list("bkt", "", &mut |_| ()).unwrap_err(),
        s3.put(&small, "bkt", "s.nc", "id", false).unwrap_err(),
    ] {
        assert!(error.to_string().contains("store.s3.requester_pays"), "{error}");
    }
    let s3 = with(&server, |settings| settings.s3.requester_pays = true);
    s3.check_conditions("bkt", "").unwrap();
    assert_eq!(s3.head("bkt", "x").unwrap().unwrap().size, 7);
    assert_eq!(s3.head("bkt", "none").unwrap(), None);
    assert_eq!(s3.put(&small, "bkt", "s.nc", "id", false).unwrap(), Committed::New);
    let large = file(directory.path(), "l", &bytes(6 * MIB));
    assert_eq!(s3.put(&large, "bkt", "l.nc", "id", false).unwrap(), Committed::New);
    assert_eq!(s3.abort_uploads("bkt", "", &|_| true).unwrap(), 0);
}

#[test]
fn stores_that_refuse_conditions_are_named() {
    let directory = tempfile::tempdir().unwrap();
    let small = file(directory.path(), "s", b"small");
    for status in [400, 501] {
        let server = server();
        server.adopt(Manner::NoConditions(status));
        let s3 = client(&server);
        for error in
            [s3.check_conditions("bkt", "").unwrap_err(), s3.put(&small, "bkt", "s.nc", "id", false).unwrap_err()]
        {
            assert!(matches!(error, S3Error::IgnoresConditions { .. }), "{error:?}");
            assert!(error.to_string().contains("store.s3.unconditional"), "{error}");
        }
        assert!(server.files("bkt", "").is_empty());
        let s3 = with(&server, |settings| settings.s3.unconditional = true);
        assert_eq!(s3.put(&small, "bkt", "s.nc", "id", false).unwrap(), Committed::New);
    }
}
