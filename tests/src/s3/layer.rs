//! The layer in front of the S3 service: it counts requests, injects faults, and passes on the other requests.

use super::{FaultEffect, S3Call, S3Request, Switches, lock};
use futures_util::{Stream, StreamExt as _, TryStreamExt as _, stream};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use s3s::Body;
use s3s::dto::StreamingBlob;
use s3s::service::S3Service;
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;

pub(super) async fn accept(listener: TcpListener, layer: Layer) {
    let server = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
    while let Ok((socket, _)) = listener.accept().await {
        let (server, layer) = (server.clone(), layer.clone());
        tokio::spawn(async move {
            let answer = service_fn(move |request| {
                let layer = layer.clone();
                async move { layer.answer(request).await }
            });
            let _ = server.serve_connection(TokioIo::new(socket), answer).await; // connections may be cut on purpose
        });
    }
}

/// The layer in front of the service.
#[derive(Clone)]
pub(super) struct Layer {
    pub(super) service: S3Service,
    pub(super) switches: Arc<Mutex<Switches>>,
}

impl Layer {
    async fn answer(&self, request: Request<Incoming>) -> io::Result<Response<Body>> {
        let (call, target) = sort(&request);
        let _in_flight = RequestInFlight::new(&self.switches, call);
        let (effect, manners) = {
            let mut switches = lock(&self.switches);
            switches.payers += usize::from(request.headers().contains_key("x-amz-request-payer"));
            if let Some(recorded) = &mut switches.recorded {
                let text = |name| request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
                recorded.push(S3Request {
                    host: text("host").into(),
                    call,
                    target: target.clone(),
                    condition: text("if-none-match").into(),
                });
            }
            if switches.denied.iter().any(|denied| target.starts_with(denied.as_str())) {
                return Ok(refusal(403, "AccessDenied"));
            }
            (switches.effect(call, &target), switches.manners.clone())
        };
        if let Some(refusal) = manners.iter().find_map(|manner| manner.refuse(call, request.headers())) {
            // The body is read first, as below.
            let _ = Body::from(request.into_body()).try_for_each(|_| async { Ok(()) }).await;
            return Ok(refusal);
        }
        match effect {
            None => {
                let response = self.serve(request).await?;
                Ok(manners.iter().fold(response, |response, manner| manner.change(call, response)))
            }
            Some(FaultEffect::Answer(status, code)) => {
                // The body is read first: a client that is answered while it sends may see a broken connection instead.
                let _ = Body::from(request.into_body()).try_for_each(|_| async { Ok(()) }).await;
                Ok(refusal(status, code))
            }
            Some(FaultEffect::Swallow) => {
                let _ = Body::from(request.into_body()).try_for_each(|_| async { Ok(()) }).await;
                std::future::pending().await
            }
            Some(FaultEffect::LoseReply) => {
                let response = self.serve(request).await?;
                let _ = response.into_body().try_for_each(|_| async { Ok(()) }).await;
                Err(io::ErrorKind::ConnectionReset.into())
            }
            Some(FaultEffect::CutUpload(bytes)) => {
                let mut body = Body::from(request.into_body());
                let mut seen = 0;
                while seen < bytes
                    && let Some(Ok(piece)) = body.next().await
                {
                    seen += piece.len();
                }
                Err(io::ErrorKind::ConnectionReset.into())
            }
            Some(FaultEffect::CutDownload(bytes)) => {
                let end = stream::iter([Err(io::Error::from(io::ErrorKind::ConnectionReset))]);
                Ok(self.serve(request).await?.map(|body| wrap(head(body, bytes).chain(end))))
            }
            Some(FaultEffect::StallDownload(bytes)) => {
                let response = self.serve(request).await?;
                Ok(response.map(|body| wrap(head(body, bytes).chain(stream::pending()))))
            }
            Some(FaultEffect::Delay(time)) => {
                tokio::time::sleep(time).await;
                self.serve(request).await
            }
            Some(FaultEffect::Slow(time)) => Ok(self.serve(request).await?.map(|body| {
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

/// Counts a request of some kind as in progress until it is dropped.
struct RequestInFlight {
    switches: Arc<Mutex<Switches>>,
    call: S3Call,
}

impl RequestInFlight {
    fn new(shared: &Arc<Mutex<Switches>>, call: S3Call) -> RequestInFlight {
        let mut switches = lock(shared);
        *switches.counts.entry(call).or_default() += 1;
        let now = switches.in_flight.entry(call).or_default();
        *now += 1;
        let now = *now;
        let most = switches.most_in_flight.entry(call).or_default();
        *most = now.max(*most);
        RequestInFlight { switches: shared.clone(), call }
    }
}

impl Drop for RequestInFlight {
    fn drop(&mut self) {
        if let Some(now) = lock(&self.switches).in_flight.get_mut(&self.call) {
            *now -= 1;
        }
    }
}

impl Switches {
    /// Returns the effect on a request, and counts it against the fault.
    fn effect(&mut self, call: S3Call, target: &str) -> Option<FaultEffect> {
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

/// Returns the kind of a request and its target, `bucket/key` or `bucket/prefix`.
fn sort(request: &Request<Incoming>) -> (S3Call, String) {
    let mut target = decode(request.uri().path().trim_start_matches('/'));
    let pairs = request.uri().query().unwrap_or("").split('&');
    let query: BTreeMap<_, _> = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, ""))).collect();
    let has = |name: &str| query.contains_key(name);
    let is_bucket = !target.trim_end_matches('/').contains('/');
    let call = match *request.method() {
        Method::GET if has("uploads") => S3Call::ListUploads,
        Method::GET if is_bucket && has("list-type") => S3Call::List,
        Method::GET => S3Call::Get,
        Method::HEAD => S3Call::Head,
        Method::PUT if has("uploadId") => S3Call::PutPart,
        Method::PUT => S3Call::Put,
        Method::POST if has("uploads") => S3Call::BeginUpload,
        Method::POST if has("uploadId") => S3Call::CompleteUpload,
        Method::DELETE if has("uploadId") => S3Call::AbortUpload,
        Method::DELETE => S3Call::Delete,
        _ => S3Call::Other,
    };
    if is_bucket {
        target = format!("{}/{}", target.trim_end_matches('/'), decode(query.get("prefix").unwrap_or(&"")));
    }
    (call, target)
}

/// Decodes the percent signs of a text.
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

/// Returns the first bytes of a body.
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
