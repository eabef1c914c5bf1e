//! A server that speaks S3, in the process of a test, over a real socket. It misbehaves on request.
//!
//! HTTP comes from hyper, protocol and signatures from s3s, and the objects are our own ([`test_buckets`](self)):
//! s3s-fs checks conditions separately from the write that they guard, and lists neither entity tags nor uploads.
//! Everything can be changed while clients run, whether they are in this process or in others.

mod faults;
mod layer;
mod manner;
mod test_buckets;

pub use faults::{FaultEffect, S3Call, S3Fault};
pub use manner::Manner;
pub use test_buckets::TestObject;

use edp_protocol::Digest;
use edp_store::{S3Settings, StoreSettings};
use hyper::Method;
use hyper::body::Bytes;
use layer::Layer;
use s3s::access::{S3Access, S3AccessContext};
use s3s::auth::{S3Auth, SecretKey};
use s3s::service::S3ServiceBuilder;
use s3s::{S3Result, s3_error};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use test_buckets::{Objects, TestBuckets};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

/// The region that clients must name.
const REGION: &str = "us-east-1";

/// A request that was recorded.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct S3Request {
    /// Host and port by which the client knows the server.
    pub host: String,
    /// Its kind.
    pub call: S3Call,
    /// `bucket/key`, or `bucket/prefix` of a listing.
    pub target: String,
    /// The condition that nothing may be there yet (`*`); else empty.
    pub condition: String,
}

/// The state of the server that a test may change.
#[derive(Debug, Default)]
struct Switches {
    faults: Vec<S3Fault>,
    /// Number of requests that were affected by a fault.
    injected: usize,
    /// The `bucket/prefix` names to which access is denied.
    denied: Vec<String>,
    /// The buckets that may be read without credentials.
    public: Vec<String>,
    /// The access keys in the order of issue. All except the last have expired.
    keys: Vec<String>,
    counts: BTreeMap<S3Call, usize>,
    in_flight: BTreeMap<S3Call, usize>,
    most_in_flight: BTreeMap<S3Call, usize>,
    /// Number of requests with the header `x-amz-request-payer`.
    payers: usize,
    /// The ways in which this store differs from others.
    manners: Vec<Manner>,
    /// The requests so far, if they are recorded.
    recorded: Option<Vec<S3Request>>,
}

/// A running server. It stops when this is dropped.
pub struct S3Server {
    address: SocketAddr,
    directory: tempfile::TempDir,
    buckets: TestBuckets,
    switches: Arc<Mutex<Switches>>,
    runtime: Option<Runtime>,
}

impl S3Server {
    /// Returns the checksum that the server keeps of an object: SHA-256 in base64.
    pub fn checksum(bytes: &[u8]) -> String {
        test_buckets::sha256(bytes)
    }

    /// Starts a server with these buckets.
    ///
    /// # Panics
    /// Panics if there is no free port.
    pub fn start(buckets: &[&str]) -> S3Server {
        let objects = Objects {
            buckets: buckets.iter().map(|name| ((*name).to_owned(), BTreeMap::new())).collect(),
            page: 1000,
            ..Objects::default()
        };
        let buckets = TestBuckets(Arc::new(Mutex::new(objects)));
        let switches = Arc::new(Mutex::new(Switches::default()));
        let service = {
            let mut builder = S3ServiceBuilder::new(buckets.clone());
            builder.set_auth(AccessKeys(switches.clone()));
            builder.set_access(AccessKeys(switches.clone()));
            builder.build()
        };
        let threads = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = threads.expect("the server's threads");
        let socket = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        socket.set_nonblocking(true).expect("a socket");
        let address = socket.local_addr().expect("its address");
        let listener = {
            let _inside = runtime.enter();
            TcpListener::from_std(socket).expect("a socket")
        };
        runtime.spawn(layer::accept(listener, Layer { service, switches: switches.clone() }));
        let directory = tempfile::tempdir().expect("a temporary directory");
        let server = S3Server { address, directory, buckets, switches, runtime: Some(runtime) };
        server.rotate();
        server
    }

    /// Returns the URL of the server: `http://address:port`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns the socket on which it listens.
    pub fn socket(&self) -> SocketAddr {
        self.address
    }

    /// Returns the settings of a client in this process.
    pub fn settings(&self) -> StoreSettings {
        let s3 = S3Settings {
            endpoint: Some(self.endpoint()),
            region: Some(REGION.into()),
            credentials: Some(self.credentials()),
            ..S3Settings::default()
        };
        StoreSettings { scratch: Some(self.directory.path().into()), s3 }
    }

    /// Returns the environment variables of a client in another process.
    pub fn environment(&self) -> Vec<(String, String)> {
        let pairs = [
            ("AWS_ACCESS_KEY_ID", self.key()),
            ("AWS_SECRET_ACCESS_KEY", secret(&self.key())),
            ("AWS_REGION", REGION.into()),
            ("AWS_EC2_METADATA_DISABLED", "true".into()),
            ("NO_PROXY", "127.0.0.1".into()),
            ("AWS_CONFIG_FILE", "/dev/null".into()),
            ("AWS_SHARED_CREDENTIALS_FILE", "/dev/null".into()),
            ("EDP_STORE__S3__ENDPOINT", self.endpoint()),
        ];
        pairs.map(|(name, value)| (name.to_owned(), value)).into()
    }

    /// Returns the path of a file with the present credentials, in the format of AWS programs.
    pub fn credentials(&self) -> PathBuf {
        self.directory.path().join("credentials")
    }

    /// Lets the present credentials expire, and writes new ones into the file.
    ///
    /// # Panics
    /// Panics if the file cannot be written.
    pub fn rotate(&self) {
        let key = {
            let mut switches = self.switches();
            let key = format!("AKIATEST{}", switches.keys.len());
            switches.keys.push(key.clone());
            key
        };
        let text = format!("[default]\naws_access_key_id = {key}\naws_secret_access_key = {}\n", secret(&key));
        std::fs::write(self.credentials(), text).expect("the file of credentials");
    }

    /// Returns the secret of the present credentials, which must not appear in any output.
    pub fn secret(&self) -> String {
        secret(&self.key())
    }

    /// Stores an object, unaffected by faults.
    ///
    /// # Panics
    /// Panics if there is no such bucket.
    pub fn put(&self, bucket: &str, key: &str, bytes: impl Into<Vec<u8>>) {
        let object = test_buckets::object(Bytes::from(bytes.into()));
        self.buckets.objects().buckets.get_mut(bucket).expect("a bucket").insert(key.into(), object);
    }

    /// Stores all files below a directory under a prefix, which has no slash at its end.
    ///
    /// # Panics
    /// Panics if a file cannot be read, or if there is no such bucket.
    pub fn put_files(&self, bucket: &str, prefix: &str, root: &Path) {
        for name in crate::files(root).keys() {
            let key = if prefix.is_empty() { name.clone() } else { format!("{prefix}/{name}") };
            self.put(bucket, &key, std::fs::read(root.join(name)).expect("a readable file"));
        }
    }

    /// Returns an object; `None` if it does not exist.
    pub fn get(&self, bucket: &str, key: &str) -> Option<TestObject> {
        self.buckets.objects().buckets.get(bucket)?.get(key).cloned()
    }

    /// Changes an object, unaffected by faults. Its other attributes in the store remain as they were.
    ///
    /// # Panics
    /// Panics if there is no such object.
    pub fn change(&self, bucket: &str, key: &str, change: impl FnOnce(&mut TestObject)) {
        let mut objects = self.buckets.objects();
        change(objects.buckets.get_mut(bucket).and_then(|bucket| bucket.get_mut(key)).expect("an object"));
    }

    /// Removes an object, unaffected by faults.
    pub fn remove(&self, bucket: &str, key: &str) -> Option<TestObject> {
        self.buckets.objects().buckets.get_mut(bucket)?.remove(key)
    }

    /// Returns the digests of all objects below a prefix (without slash at its end) by their keys below it, like
    /// [`crate::files`]; the objects of a coordinator itself are left out.
    pub fn files(&self, bucket: &str, prefix: &str) -> BTreeMap<String, Digest> {
        let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
        let objects = self.buckets.objects();
        let all = objects.buckets.get(bucket).into_iter().flatten();
        let below = all.filter_map(|(key, object)| Some((key.strip_prefix(&prefix)?, object)));
        let others = below.filter(|(key, _)| !key.starts_with(".edp/"));
        others.map(|(key, object)| (key.to_owned(), Digest::of(&object.bytes))).collect()
    }

    /// Returns the keys of the multipart uploads that were begun and have not ended.
    pub fn uploads(&self) -> Vec<String> {
        self.buckets.objects().pending()
    }

    /// Adds a fault that affects later requests.
    pub fn inject(&self, fault: S3Fault) {
        self.switches().faults.push(fault);
    }

    /// Makes the store differ from others in one more way.
    pub fn adopt(&self, manner: Manner) {
        self.switches().manners.push(manner);
    }

    /// Ends all faults, denials and manners.
    pub fn heal(&self) {
        let mut switches = self.switches();
        switches.faults.clear();
        switches.manners.clear();
        switches.denied.clear();
        self.buckets.objects().ignore_conditions = false;
    }

    /// Denies access to everything at or below `bucket/prefix`.
    pub fn deny(&self, prefix: &str) {
        self.switches().denied.push(prefix.into());
    }

    /// Lets everybody read a bucket without credentials.
    pub fn publish(&self, bucket: &str) {
        self.switches().public.push(bucket.into());
    }

    /// Sets whether the conditions of writes are ignored, as some stores do.
    pub fn ignore_conditions(&self, ignore: bool) {
        self.buckets.objects().ignore_conditions = ignore;
    }

    /// Sets the largest number of entries in a page of a listing (1000 by default).
    pub fn page(&self, entries: usize) {
        self.buckets.objects().page = entries;
    }

    /// Returns the number of requests of a kind so far.
    pub fn count(&self, call: S3Call) -> usize {
        self.switches().counts.get(&call).copied().unwrap_or(0)
    }

    /// Returns the largest number of requests of a kind that were in progress at the same time.
    pub fn most_in_flight(&self, call: S3Call) -> usize {
        self.switches().most_in_flight.get(&call).copied().unwrap_or(0)
    }

    /// Returns the number of requests affected by faults so far.
    pub fn injected(&self) -> usize {
        self.switches().injected
    }

    /// Begins to record requests.
    pub fn record(&self) {
        self.switches().recorded = Some(Vec::new());
    }

    /// Returns the requests that were recorded.
    pub fn recorded(&self) -> Vec<S3Request> {
        self.switches().recorded.clone().unwrap_or_default()
    }

    /// Returns the number of requests that agreed to pay.
    pub fn payers(&self) -> usize {
        self.switches().payers
    }

    fn key(&self) -> String {
        self.switches().keys.last().cloned().unwrap_or_default()
    }

    fn switches(&self) -> MutexGuard<'_, Switches> {
        lock(&self.switches)
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn lock(switches: &Mutex<Switches>) -> MutexGuard<'_, Switches> {
    switches.lock().unwrap_or_else(PoisonError::into_inner)
}

fn secret(key: &str) -> String {
    format!("sEcReT-{key}")
}

/// The check of access keys and permissions.
struct AccessKeys(Arc<Mutex<Switches>>);

#[async_trait::async_trait]
impl S3Auth for AccessKeys {
    async fn get_secret_key(&self, key: &str) -> S3Result<SecretKey> {
        let switches = lock(&self.0);
        match switches.keys.iter().position(|known| known == key) {
            None => Err(s3_error!(InvalidAccessKeyId)),
            Some(at) if at + 1 < switches.keys.len() => Err(s3_error!(ExpiredToken)),
            Some(_) => Ok(secret(key).into()),
        }
    }
}

#[async_trait::async_trait]
impl S3Access for AccessKeys {
    async fn check(&self, context: &mut S3AccessContext<'_>) -> S3Result<()> {
        let reads = matches!(*context.method(), Method::GET | Method::HEAD);
        let public =
            context.s3_path().get_bucket_name().is_some_and(|name| lock(&self.0).public.iter().any(|p| p == name));
        match context.credentials() {
            None if !(public && reads) => Err(test_buckets::denied()),
            _ => Ok(()),
        }
    }
}
