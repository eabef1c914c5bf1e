//! The HTTP service of a running program: its health for supervisors, and its metrics for Prometheus.
//!
//! `GET /healthz` answers with a JSON object and status 200, or 503 if the program cannot do its work. `GET /metrics`
//! answers with all metrics as text. The answers are made when they are asked for, by threads that work on other things
//! too: a process that is stopped or out of processor time gives none.
//!
//! Whoever reaches the address can ask: there is no authentication, and nothing can be changed. Requests are small, few
//! are answered at a time, and each connection ends after one.

use crate::telemetry::MetricsReader;
use edp_protocol::message::chain;
use http_body_util::{BodyExt as _, Empty, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use serde::Serialize;
use std::convert::Infallible;
use std::future::{self, Future};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

/// Number of connections at one time. Further ones wait in the operating system.
const CONNECTIONS: usize = 16;

/// Largest size of a request's head in bytes, and the number of its headers.
const MAX_HEAD: usize = 8 << 10;
const MAX_HEADERS: usize = 64;

/// Time that a client has to send its request.
const READING: Duration = Duration::from_secs(5);

/// Time that a connection lasts at most. The health of a worker may take two seconds, since file systems are asked.
const CONNECTION: Duration = Duration::from_secs(15);

/// Largest size of an answer about the health of a program, in bytes.
const MAX_ANSWER: usize = 64 << 10;

/// Pause after the operating system refused to accept a connection.
const PAUSE: Duration = Duration::from_secs(1);

/// Content type of the metrics.
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The reason why the service cannot be started.
#[derive(Debug, thiserror::Error)]
#[error(
    "{address}: cannot be listened at: {source}: give an address of this machine and a free port, as in 127.0.0.1:9464 \
     (--listen, telemetry.listen)"
)]
pub struct ListenError {
    /// The address.
    address: String,
    /// The error of the operating system.
    source: io::Error,
}

/// The health of a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// True if the program can do its work.
    pub is_healthy: bool,
    /// The state of the program as a JSON object.
    pub json: String,
}

impl Health {
    /// Returns the health that a status tells.
    pub fn of(is_healthy: bool, status: &impl Serialize) -> Health {
        Health { is_healthy, json: serde_json::to_string(status).unwrap_or_default() }
    }
}

/// A service that listens, and answers once it is polled.
#[derive(Debug)]
pub struct HttpService {
    listener: TcpListener,
    address: SocketAddr,
    metrics: MetricsReader,
}

impl HttpService {
    /// Listens at an address, `HOST:PORT`.
    ///
    /// # Errors
    /// Returns an error if the address is not one of this machine, or its port is not free.
    pub fn bind(address: &str, metrics: MetricsReader) -> Result<HttpService, ListenError> {
        let listen = || {
            let listener = TcpListener::bind(address)?;
            listener.set_nonblocking(true)?;
            Ok(HttpService { address: listener.local_addr()?, listener, metrics })
        };
        listen().map_err(|source| ListenError { address: address.to_owned(), source })
    }

    /// Returns the address, with the port that was chosen if none was given (port 0).
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers requests for as long as this is polled, by what `health` returns. Must be called within a runtime.
    pub async fn answer<F: Future<Output = Health> + Send + 'static>(
        self,
        health: impl Fn() -> F + Send + Sync + 'static,
    ) -> Infallible {
        let listener = match tokio::net::TcpListener::from_std(self.listener) {
            Ok(listener) => listener,
            Err(error) => {
                tracing::error!(%error, address = %self.address, "the HTTP service cannot be started");
                return future::pending().await;
            }
        };
        let pages = Arc::new(Pages { metrics: self.metrics, health });
        let free = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            // The semaphore is never closed.
            let Ok(permit) = free.clone().acquire_owned().await else { return future::pending().await };
            match listener.accept().await {
                Ok((stream, _)) => {
                    let pages = pages.clone();
                    tokio::spawn(async move {
                        let _ = timeout(CONNECTION, serve(stream, &pages)).await; // a slow client gets no answer
                        drop(permit);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, address = %self.address, "the HTTP service accepts no connection");
                    sleep(PAUSE).await;
                }
            }
        }
    }
}

/// The reason why a program does not say how it is.
#[derive(Debug, thiserror::Error)]
#[error("{address}: no program answers there: {why}: it needs --listen, and this machine must reach it")]
pub struct AskError {
    /// The address.
    address: String,
    /// Description of the problem.
    why: String,
}

/// Asks the program that listens at an address, `HOST:PORT`, for its health.
///
/// # Errors
/// Returns an error if it does not answer until the deadline, or answers with something else.
pub async fn ask(address: &str, deadline: Duration) -> Result<Health, AskError> {
    let fail = |why: String| AskError { address: address.to_owned(), why };
    let asking = async {
        let request = Request::get(format!("http://{address}/healthz")).body(Empty::<Bytes>::new());
        let request = request.map_err(|error| fail(chain(&error)))?;
        let client = Client::builder(TokioExecutor::new()).build_http();
        let answer = client.request(request).await.map_err(|error| fail(chain(&error)))?;
        let is_healthy = match answer.status() {
            StatusCode::OK => true,
            StatusCode::SERVICE_UNAVAILABLE => false,
            other => return Err(fail(format!("it answers {other}"))),
        };
        let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await;
        let body = body.map_err(|error| fail(chain(&*error)))?.to_bytes();
        let json = String::from_utf8(body.into()).map_err(|error| fail(chain(&error)))?;
        Ok(Health { is_healthy, json })
    };
    let late = |_| fail(format!("no answer within {} s", deadline.as_secs()));
    timeout(deadline, asking).await.map_err(late)?
}

/// What is answered.
struct Pages<H> {
    metrics: MetricsReader,
    health: H,
}

/// Answers one request on a connection.
async fn serve<F: Future<Output = Health>>(stream: TcpStream, pages: &Pages<impl Fn() -> F>) {
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(READING).keep_alive(false);
    server.max_buf_size(MAX_HEAD).max_headers(MAX_HEADERS);
    let service = service_fn(async |request| Ok::<_, Infallible>(answer(&request, pages).await));
    // Clients may send anything, and end at any time.
    let _ = server.serve_connection(TokioIo::new(stream), service).await;
}

async fn answer<F: Future<Output = Health>>(
    request: &Request<Incoming>,
    pages: &Pages<impl Fn() -> F>,
) -> Response<Full<Bytes>> {
    if ![Method::GET, Method::HEAD].contains(request.method()) {
        let mut refused = page(StatusCode::METHOD_NOT_ALLOWED, "text/plain", "only GET and HEAD\n".into());
        refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return refused;
    }
    match request.uri().path() {
        "/healthz" => {
            let Health { is_healthy, json } = (pages.health)().await;
            let status = if is_healthy { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
            page(status, "application/json", json)
        }
        "/metrics" => page(StatusCode::OK, METRICS, pages.metrics.text()),
        _ => page(StatusCode::NOT_FOUND, "text/plain", "only /healthz and /metrics\n".into()),
    }
}

fn page(status: StatusCode, kind: &'static str, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::io::{Read as _, Write as _};
    use std::net::TcpStream;

    /// Starts a service that is well or not, and returns its address.
    fn started(runtime: &tokio::runtime::Runtime, is_healthy: bool) -> SocketAddr {
        let service = HttpService::bind("127.0.0.1:0", MetricsReader::default()).unwrap();
        let address = service.address();
        let health = move || future::ready(Health { is_healthy, json: format!("{{\"well\":{is_healthy}}}") });
        runtime.spawn(service.answer(health));
        address
    }

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
    }

    /// Sends bytes, and returns everything that is answered until the connection ends.
    fn asked(address: SocketAddr, request: &[u8]) -> String {
        let mut stream = TcpStream::connect(address).unwrap();
        let _ = stream.write_all(request); // it may be refused before its end
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer); // what was not read of the request resets the connection
        String::from_utf8(answer).unwrap()
    }

    #[test]
    fn only_two_pages_are_given_and_nothing_is_taken() {
        let runtime = runtime();
        let [well, ill] = [true, false].map(|is_healthy| started(&runtime, is_healthy));
        let of = |address, line: &str| asked(address, format!("{line} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes());
        let healthy = of(well, "GET /healthz?a=b");
        assert!(healthy.starts_with("HTTP/1.1 200 ") && healthy.ends_with("\r\n\r\n{\"well\":true}"), "{healthy}");
        assert!(
            healthy.contains("content-type: application/json") && healthy.contains("connection: close"),
            "{healthy}"
        );
        let unwell = of(ill, "GET /healthz");
        assert!(unwell.starts_with("HTTP/1.1 503 ") && unwell.ends_with("{\"well\":false}"), "{unwell}");
        let head = of(well, "HEAD /healthz");
        assert!(head.starts_with("HTTP/1.1 200 ") && head.ends_with("\r\n\r\n"), "{head}");
        assert!(of(well, "GET /metrics").contains("content-type: text/plain; version=0.0.4"));
        for (line, status) in [
            ("GET /", "404"),
            ("GET /healthz/..", "404"),
            ("GET //metrics", "404"),
            ("POST /healthz", "405"),
            ("DELETE /metrics", "405"),
            ("GET /metrics HTTP/9.9", "400"),
        ] {
            let refused = of(well, line);
            assert!(refused.starts_with(&format!("HTTP/1.1 {status} ")), "{line}: {refused}");
        }
        assert_eq!(asked(well, b"\x16\x03\x01nonsense\r\n\r\n").split(' ').nth(1), Some("400"));
    }

    #[test]
    fn large_requests_are_refused_and_idle_clients_keep_nobody_out() {
        let runtime = runtime();
        let address = started(&runtime, true);
        let long = format!("GET /healthz HTTP/1.1\r\nHost: x\r\nA: {}\r\n\r\n", "a".repeat(2 * MAX_HEAD));
        let many = format!("GET /healthz HTTP/1.1\r\nHost: x\r\n{}\r\n", "A: a\r\n".repeat(MAX_HEADERS + 1));
        for request in [long, many] {
            let answer = asked(address, request.as_bytes());
            assert!(!answer.contains("well"), "{answer}");
        }
        // As many clients as are served at a time say nothing; one that asks is answered when the first has to go.
        let silent: Vec<TcpStream> = (0..CONNECTIONS).map(|_| TcpStream::connect(address).unwrap()).collect();
        let answer = asked(address, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n");
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        drop(silent);
    }

    #[test]
    fn an_address_that_cannot_be_used_is_named() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let taken = taken.local_addr().unwrap().to_string();
        for address in [taken.as_str(), "127.0.0.1", "9464", "192.0.2.1:9464", "127.0.0.1:99999", ""] {
            let _listening = TcpListener::bind(address);
            let said = HttpService::bind(address, MetricsReader::default()).unwrap_err().to_string();
            assert!(said.starts_with(&format!("{address}: ")) && said.contains("--listen"), "{said}");
        }
    }
}
