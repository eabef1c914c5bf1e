//! A server that speaks S3, in the process of a test, over a real socket; it misbehaves on demand.
//!
//! HTTP is hyper's, protocol and signatures are those of s3s, the objects are our own ([`shelf`](self)): s3s-fs decides
//! conditions apart from the write that they guard, and lists neither entity tags nor uploads. Everything can be
//! changed while clients run, whether they are in this process or in others.

mod manner;
mod shelf;

pub use manner::Manner;
pub use shelf::Object;

use edp_protocol::Digest;
use edp_store::{S3Settings, StoreSettings};
use futures_util::{Stream, StreamExt as _, TryStreamExt as _, stream};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use s3s::access::{S3Access, S3AccessContext};
use s3s::auth::{S3Auth, SecretKey};
use s3s::dto::StreamingBlob;
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{Body, S3Result, s3_error};
use shelf::{Objects, Shelf};
use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

/// The region that clients have to name.
const REGION: &str = "us-east-1";

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Call {
    Get,
    Head,
    Put,
    Delete,
    List,
    BeginUpload,
    PutPart,
    CompleteUpload,
    AbortUpload,
    ListUploads,
    Other,
}

/// What happens to a request instead of its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// It is answered with this status and error code, and has no effect.
    Answer(u16, &'static str),
    /// It is taken, has no effect and is never answered.
    Swallow,
    /// It has its effect; its connection is closed without an answer.
    LoseReply,
    /// Its connection is closed after this many bytes of its body, and it has no effect.
    CutUpload(usize),
    /// The body of its answer is cut after this many bytes.
    CutDownload(usize),
    /// The body of its answer stops after this many bytes, and the connection stays open.
    StallDownload(usize),
    /// It is handled this much later.
    Delay(Duration),
    /// Each piece of the answer's body (64 KiB) comes this much later.
    Slow(Duration),
}

/// An effect on the requests that it fits.
#[derive(Debug, Clone)]
pub struct Fault {
    /// What must be asked for; anything if none.
    pub call: Option<Call>,
    /// What the key must contain.
    pub key: String,
    /// How many such requests go unharmed before.
    pub after: usize,
    /// How many are hit.
    pub times: usize,
    /// What happens to them.
    pub effect: Effect,
}

impl Fault {
    /// An effect on the next `times` requests of a kind, whatever their keys.
    pub fn new(call: Call, times: usize, effect: Effect) -> Fault {
        Fault { call: Some(call), key: String::new(), after: 0, times, effect }
    }

    /// Only on keys that contain this.
    #[must_use]
    pub fn on(mut self, key: &str) -> Fault {
        self.key = key.into();
        self
    }

    /// Only after so many requests that it fits.
    #[must_use]
    pub fn after(mut self, requests: usize) -> Fault {
        self.after = requests;
        self
    }
}

/// What a test may change.
#[derive(Debug, Default)]
struct Switches {
    faults: Vec<Fault>,
    /// How many requests a fault was the effect of.
    injected: usize,
    /// `bucket/prefix` that nobody may touch.
    denied: Vec<String>,
    /// Buckets that may be read without credentials.
    public: Vec<String>,
    /// Access keys in the order of issue; all but the last have expired.
    keys: Vec<String>,
    counts: BTreeMap<Call, usize>,
    in_flight: BTreeMap<Call, usize>,
    most_in_flight: BTreeMap<Call, usize>,
    /// Values of `x-amz-request-payer` that came.
    payers: usize,
    /// Ways in which this store differs from others.
    manners: Vec<Manner>,
}

/// The server; it stops when this is dropped.
pub struct S3Server {
    address: SocketAddr,
    directory: tempfile::TempDir,
    shelf: Shelf,
    switches: Arc<Mutex<Switches>>,
    runtime: Option<Runtime>,
}

impl S3Server {
    /// The checksum that the server keeps of an object: SHA-256 in base64.
    pub fn checksum(bytes: &[u8]) -> String {
        shelf::sha256(bytes)
    }

    /// A server with these buckets.
    ///
    /// # Panics
    /// There is no free port.
    pub fn start(buckets: &[&str]) -> S3Server {
        let objects = Objects {
            buckets: buckets.iter().map(|name| ((*name).to_owned(), BTreeMap::new())).collect(),
            page: 1000,
            ..Objects::default()
        };
        let shelf = Shelf(Arc::new(Mutex::new(objects)));
        let switches = Arc::new(Mutex::new(Switches::default()));
        let service = {
            let mut builder = S3ServiceBuilder::new(shelf.clone());
            builder.set_auth(Keys(switches.clone()));
            builder.set_access(Keys(switches.clone()));
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
        runtime.spawn(accept(listener, Layer { service, switches: switches.clone() }));
        let directory = tempfile::tempdir().expect("a temporary directory");
        let server = S3Server { address, directory, shelf, switches, runtime: Some(runtime) };
        server.rotate();
        server
    }

    /// Where it listens: `http://address:port`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The socket it listens on.
    pub fn socket(&self) -> SocketAddr {
        self.address
    }

    /// Settings of a client in this process.
    pub fn settings(&self) -> StoreSettings {
        let s3 = S3Settings {
            endpoint: Some(self.endpoint()),
            region: Some(REGION.into()),
            credentials: Some(self.credentials()),
            ..S3Settings::default()
        };
        StoreSettings { scratch: Some(self.directory.path().into()), s3 }
    }

    /// Environment variables of a client in another process.
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

    /// A file with the credentials that are good now, in the form of AWS programs.
    pub fn credentials(&self) -> PathBuf {
        self.directory.path().join("credentials")
    }

    /// Lets the credentials so far expire, and writes new ones into the file.
    ///
    /// # Panics
    /// The file cannot be written.
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

    /// The secret of the credentials that are good now: it must appear nowhere.
    pub fn secret(&self) -> String {
        secret(&self.key())
    }

    /// Puts an object there, past all faults.
    ///
    /// # Panics
    /// There is no such bucket.
    pub fn put(&self, bucket: &str, key: &str, bytes: impl Into<Vec<u8>>) {
        let object = shelf::object(Bytes::from(bytes.into()));
        self.shelf.objects().buckets.get_mut(bucket).expect("a bucket").insert(key.into(), object);
    }

    /// Puts all files below a directory there, under a prefix without slash at its end.
    ///
    /// # Panics
    /// They cannot be read, or there is no such bucket.
    pub fn put_files(&self, bucket: &str, prefix: &str, root: &Path) {
        for name in crate::files(root).keys() {
            let key = if prefix.is_empty() { name.clone() } else { format!("{prefix}/{name}") };
            self.put(bucket, &key, std::fs::read(root.join(name)).expect("a readable file"));
        }
    }

    /// An object.
    pub fn get(&self, bucket: &str, key: &str) -> Option<Object> {
        self.shelf.objects().buckets.get(bucket)?.get(key).cloned()
    }

    /// Changes an object, past all faults; what its store says of it otherwise stays as it was.
    ///
    /// # Panics
    /// There is no such object.
    pub fn change(&self, bucket: &str, key: &str, change: impl FnOnce(&mut Object)) {
        let mut objects = self.shelf.objects();
        change(objects.buckets.get_mut(bucket).and_then(|bucket| bucket.get_mut(key)).expect("an object"));
    }

    /// Removes an object, past all faults.
    pub fn remove(&self, bucket: &str, key: &str) -> Option<Object> {
        self.shelf.objects().buckets.get_mut(bucket)?.remove(key)
    }

    /// All objects below a prefix (without slash at its end) with their digests, by key below it, but for a coordinator's
    /// own: like [`crate::files`].
    pub fn files(&self, bucket: &str, prefix: &str) -> BTreeMap<String, Digest> {
        let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
        let objects = self.shelf.objects();
        let all = objects.buckets.get(bucket).into_iter().flatten();
        let below = all.filter_map(|(key, object)| Some((key.strip_prefix(&prefix)?, object)));
        let others = below.filter(|(key, _)| !key.starts_with(".edp/"));
        others.map(|(key, object)| (key.to_owned(), Digest::of(&object.bytes))).collect()
    }

    /// Keys of the uploads in parts that were begun and not ended.
    pub fn uploads(&self) -> Vec<String> {
        self.shelf.objects().pending()
    }

    /// Adds a fault.
    pub fn inject(&self, fault: Fault) {
        self.switches().faults.push(fault);
    }

    /// Makes it a store that differs from others in one more way.
    pub fn adopt(&self, manner: Manner) {
        self.switches().manners.push(manner);
    }

    /// Ends all faults, denials and manners.
    pub fn heal(&self) {
        let mut switches = self.switches();
        switches.faults.clear();
        switches.manners.clear();
        switches.denied.clear();
        self.shelf.objects().ignore_conditions = false;
    }

    /// Forbids what is at or below `bucket/prefix`.
    pub fn deny(&self, prefix: &str) {
        self.switches().denied.push(prefix.into());
    }

    /// Lets everybody read a bucket without credentials.
    pub fn publish(&self, bucket: &str) {
        self.switches().public.push(bucket.into());
    }

    /// Whether conditions of writes are ignored, as some stores do.
    pub fn ignore_conditions(&self, ignore: bool) {
        self.shelf.objects().ignore_conditions = ignore;
    }

    /// Most entries of a page of a listing (1000).
    pub fn page(&self, entries: usize) {
        self.shelf.objects().page = entries;
    }

    /// How many requests of a kind came so far.
    pub fn count(&self, call: Call) -> usize {
        self.switches().counts.get(&call).copied().unwrap_or(0)
    }

    /// How many requests of a kind were under way at once, at most.
    pub fn most_in_flight(&self, call: Call) -> usize {
        self.switches().most_in_flight.get(&call).copied().unwrap_or(0)
    }

    /// How many requests were hit by faults so far.
    pub fn injected(&self) -> usize {
        self.switches().injected
    }

    /// How many requests said that they pay.
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

/// Who may do what.
struct Keys(Arc<Mutex<Switches>>);

#[async_trait::async_trait]
impl S3Auth for Keys {
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
impl S3Access for Keys {
    async fn check(&self, context: &mut S3AccessContext<'_>) -> S3Result<()> {
        let reads = matches!(*context.method(), Method::GET | Method::HEAD);
        let public =
            context.s3_path().get_bucket_name().is_some_and(|name| lock(&self.0).public.iter().any(|p| p == name));
        match context.credentials() {
            None if !(public && reads) => Err(shelf::denied()),
            _ => Ok(()),
        }
    }
}

async fn accept(listener: TcpListener, layer: Layer) {
    let server = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
    while let Ok((socket, _)) = listener.accept().await {
        let (server, layer) = (server.clone(), layer.clone());
        tokio::spawn(async move {
            let answer = service_fn(move |request| {
                let layer = layer.clone();
                async move { layer.answer(request).await }
            });
            let _ = server.serve_connection(TokioIo::new(socket), answer).await; // cut ones are meant
        });
    }
}

/// The faults before the service.
#[derive(Clone)]
struct Layer {
    service: S3Service,
    switches: Arc<Mutex<Switches>>,
}

impl Layer {
    async fn answer(&self, request: Request<Incoming>) -> io::Result<Response<Body>> {
        let (call, target) = sort(&request);
        let _counted = Counted::new(&self.switches, call);
        let (effect, manners) = {
            let mut switches = lock(&self.switches);
            switches.payers += usize::from(request.headers().contains_key("x-amz-request-payer"));
            if switches.denied.iter().any(|denied| target.starts_with(denied.as_str())) {
                return Ok(refusal(403, "AccessDenied"));
            }
            (switches.effect(call, &target), switches.manners.clone())
        };
        if let Some(refusal) = manners.iter().find_map(|manner| manner.refuse(call, request.headers())) {
            // the body is read first, as below
            let _ = Body::from(request.into_body()).try_for_each(|_| async { Ok(()) }).await;
            return Ok(refusal);
        }
        match effect {
            None => {
                let response = self.serve(request).await?;
                Ok(manners.iter().fold(response, |response, manner| manner.change(call, response)))
            }
            Some(Effect::Answer(status, code)) => {
                // the body is read first: a client that is answered while it sends may see a broken connection instead
                let _ = Body::from(request.into_body()).try_for_each(|_| async { Ok(()) }).await;
                Ok(refusal(status, code))
            }
            Some(Effect::Swallow) => {
                let _ = Body::from(request.into_body()).try_for_each(|_| async { Ok(()) }).await;
                std::future::pending().await
            }
            Some(Effect::LoseReply) => {
                let response = self.serve(request).await?;
                let _ = response.into_body().try_for_each(|_| async { Ok(()) }).await;
                Err(io::ErrorKind::ConnectionReset.into())
            }
            Some(Effect::CutUpload(bytes)) => {
                let mut body = Body::from(request.into_body());
                let mut seen = 0;
                while seen < bytes
                    && let Some(Ok(piece)) = body.next().await
                {
                    seen += piece.len();
                }
                Err(io::ErrorKind::ConnectionReset.into())
            }
            Some(Effect::CutDownload(bytes)) => {
                let end = stream::iter([Err(io::Error::from(io::ErrorKind::ConnectionReset))]);
                Ok(self.serve(request).await?.map(|body| wrap(head(body, bytes).chain(end))))
            }
            Some(Effect::StallDownload(bytes)) => {
                let response = self.serve(request).await?;
                Ok(response.map(|body| wrap(head(body, bytes).chain(stream::pending()))))
            }
            Some(Effect::Delay(time)) => {
                tokio::time::sleep(time).await;
                self.serve(request).await
            }
            Some(Effect::Slow(time)) => Ok(self.serve(request).await?.map(|body| {
                wrap(body.map_err(io::Error::other).then(move |piece| async move {
                    tokio::time::sleep(time).await;
                    piece
                }))
            })),
        }
    }

    async fn serve(&self, request: Request<Incoming>) -> io::Result<Response<Body>> {
        self.service.call(request.map(Body::from)).await.map_err(|_| io::Error::other("the service failed"))
    }
}

/// One more request of a kind under way.
struct Counted {
    switches: Arc<Mutex<Switches>>,
    call: Call,
}

impl Counted {
    fn new(shared: &Arc<Mutex<Switches>>, call: Call) -> Counted {
        let mut switches = lock(shared);
        *switches.counts.entry(call).or_default() += 1;
        let now = switches.in_flight.entry(call).or_default();
        *now += 1;
        let now = *now;
        let most = switches.most_in_flight.entry(call).or_default();
        *most = now.max(*most);
        Counted { switches: shared.clone(), call }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        if let Some(now) = lock(&self.switches).in_flight.get_mut(&self.call) {
            *now -= 1;
        }
    }
}

impl Switches {
    /// What is to happen to a request; the fault has one time less then.
    fn effect(&mut self, call: Call, target: &str) -> Option<Effect> {
        for fault in &mut self.faults {
            if fault.times == 0 || fault.call.is_some_and(|wanted| wanted != call) || !target.contains(&fault.key) {
                continue;
            }
            if fault.after > 0 {
                fault.after -= 1;
                continue;
            }
            fault.times -= 1;
            self.injected += 1;
            return Some(fault.effect);
        }
        None
    }
}

/// What a request asks for, and `bucket/key` or `bucket/prefix` that it is about.
fn sort(request: &Request<Incoming>) -> (Call, String) {
    let mut target = decode(request.uri().path().trim_start_matches('/'));
    let pairs = request.uri().query().unwrap_or("").split('&');
    let query: BTreeMap<_, _> = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, ""))).collect();
    let has = |name: &str| query.contains_key(name);
    let is_bucket = !target.trim_end_matches('/').contains('/');
    let call = match *request.method() {
        Method::GET if has("uploads") => Call::ListUploads,
        Method::GET if is_bucket && has("list-type") => Call::List,
        Method::GET => Call::Get,
        Method::HEAD => Call::Head,
        Method::PUT if has("uploadId") => Call::PutPart,
        Method::PUT => Call::Put,
        Method::POST if has("uploads") => Call::BeginUpload,
        Method::POST if has("uploadId") => Call::CompleteUpload,
        Method::DELETE if has("uploadId") => Call::AbortUpload,
        Method::DELETE => Call::Delete,
        _ => Call::Other,
    };
    if is_bucket {
        target = format!("{}/{}", target.trim_end_matches('/'), decode(query.get("prefix").unwrap_or(&"")));
    }
    (call, target)
}

/// Text without percent signs.
fn decode(text: &str) -> String {
    let mut bytes = text.bytes();
    let mut plain = Vec::new();
    while let Some(byte) = bytes.next() {
        let digits = (byte == b'%').then(|| [bytes.next(), bytes.next()].map(|b| b.map_or(' ', char::from)));
        let value = digits.and_then(|digits| u8::from_str_radix(&String::from_iter(digits), 16).ok());
        plain.push(value.unwrap_or(byte));
    }
    String::from_utf8_lossy(&plain).into_owned()
}

fn refusal(status: u16, code: &str) -> Response<Body> {
    let text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>made up by the test</Message></Error>"
    );
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response
}

fn wrap(stream: impl Stream<Item = io::Result<Bytes>> + Send + Sync + 'static) -> Body {
    Body::from(StreamingBlob::wrap(stream))
}

/// The first bytes of a body.
fn head(body: Body, bytes: usize) -> impl Stream<Item = io::Result<Bytes>> + Send + Sync + 'static {
    let mut left = bytes;
    body.map_err(io::Error::other)
        .map_ok(move |piece| {
            let part = piece.slice(..piece.len().min(left));
            left -= part.len();
            part
        })
        .try_take_while(|piece| std::future::ready(Ok(!piece.is_empty())))
}
