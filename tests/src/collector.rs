//! A collector of OpenTelemetry in the process of a test. It receives traces and metrics by OTLP over gRPC or HTTP, and
//! keeps them.

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_server::{
    MetricsService, MetricsServiceServer,
};
use opentelemetry_proto::tonic::collector::metrics::v1::{ExportMetricsServiceRequest, ExportMetricsServiceResponse};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::metrics::v1::{metric, number_data_point};
use opentelemetry_proto::tonic::resource::v1::Resource;
pub use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use prost::Message as _;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status};

/// Names and values of attributes as text.
pub type AttributeTexts = BTreeMap<String, String>;

/// A span that the collector has received.
#[derive(Debug, Clone)]
pub struct Span {
    /// Attributes of the program that made the span.
    pub resource: AttributeTexts,
    /// The id of its trace in hexadecimal digits.
    pub trace: String,
    /// The id of the span in hexadecimal digits.
    pub id: String,
    /// The id of its parent in hexadecimal digits; empty for the first span of a trace.
    pub parent: String,
    /// Name of the span.
    pub name: String,
    /// Kind of the span, such as producer or consumer.
    pub kind: SpanKind,
    /// Attributes of the span itself.
    pub attributes: AttributeTexts,
    /// The trace ids and span ids of linked spans.
    pub links: Vec<(String, String)>,
    /// True if its status is an error.
    pub failed: bool,
    /// Start time in nanoseconds since 1970.
    pub start: u64,
    /// End time in nanoseconds since 1970.
    pub end: u64,
}

impl Span {
    /// Returns the name of the program that made the span.
    pub fn service(&self) -> &str {
        self.resource.get("service.name").map_or("", String::as_str)
    }

    /// Returns an attribute; empty if the span has none of this name.
    pub fn get(&self, name: &str) -> &str {
        self.attributes.get(name).map_or("", String::as_str)
    }
}

/// The last value of a time series: one instrument of one process with one set of attributes.
#[derive(Debug, Clone)]
pub struct Point {
    /// Attributes of the program that measured the value.
    pub resource: AttributeTexts,
    /// Name of the instrument.
    pub name: String,
    /// Unit of the value.
    pub unit: String,
    /// Attributes of the time series.
    pub attributes: AttributeTexts,
    /// The value; for a histogram, the sum of its values.
    pub value: f64,
    /// Number of values of a histogram.
    pub count: u64,
}

#[derive(Default)]
struct Collected {
    spans: Vec<Span>,
    /// The points by everything that identifies a time series.
    points: BTreeMap<String, Point>,
    headers: Vec<String>,
}

/// A running collector. It stops when this is dropped.
pub struct Collector {
    address: SocketAddr,
    collected: Arc<Mutex<Collected>>,
    _runtime: Runtime,
}

impl Collector {
    /// Starts a collector on a port of its own.
    ///
    /// # Panics
    /// Panics if there is no free port or no thread.
    pub fn start() -> Collector {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).expect("a free port");
        let address = listener.local_addr().expect("its address");
        let collected = Arc::new(Mutex::new(Collected::default()));
        let server = Server::builder()
            .add_service(TraceServiceServer::new(CollectorService(collected.clone())))
            .add_service(MetricsServiceServer::new(CollectorService(collected.clone())))
            .serve_with_incoming(TcpListenerStream::new(listener));
        runtime.spawn(server);
        Collector { address, collected, _runtime: runtime }
    }

    /// Starts a collector that accepts `http/protobuf`, on a port of its own.
    ///
    /// # Panics
    /// Panics if there is no free port or no thread.
    pub fn start_http() -> Collector {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).expect("a free port");
        let address = listener.local_addr().expect("its address");
        let collected = Arc::new(Mutex::new(Collected::default()));
        let shared = collected.clone();
        runtime.spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let collected = shared.clone();
                tokio::spawn(async move {
                    let answer = service_fn(move |request| take(collected.clone(), request));
                    let server = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                    let _ = server.serve_connection(TokioIo::new(socket), answer).await; // clients may end at any time
                });
            }
        });
        Collector { address, collected, _runtime: runtime }
    }

    /// Returns the URL for `OTEL_EXPORTER_OTLP_ENDPOINT`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns all spans received so far.
    pub fn spans(&self) -> Vec<Span> {
        lock(&self.collected).spans.clone()
    }

    /// Returns the last values of all time series.
    pub fn points(&self) -> Vec<Point> {
        lock(&self.collected).points.values().cloned().collect()
    }

    /// Returns the values of the header `authorization` received so far.
    pub fn authorizations(&self) -> Vec<String> {
        lock(&self.collected).headers.clone()
    }

    /// Returns the sum of an instrument's last values over all processes and sets of attributes that contain
    /// `attributes`.
    pub fn sum(&self, name: &str, attributes: &[(&str, &str)]) -> f64 {
        let fits = |point: &Point| {
            point.name == name && attributes.iter().all(|(k, v)| point.attributes.get(*k).is_some_and(|own| own == v))
        };
        self.points().iter().filter(|point| fits(point)).map(|point| point.value).sum()
    }
}

impl Collected {
    fn take_spans(&mut self, request: ExportTraceServiceRequest) {
        for group in request.resource_spans {
            let resource = of_resource(group.resource);
            for span in group.scope_spans.into_iter().flat_map(|scope| scope.spans) {
                self.spans.push(Span {
                    resource: resource.clone(),
                    kind: span.kind(),
                    failed: span.status.as_ref().is_some_and(|status| status.code == 2),
                    trace: hex(&span.trace_id),
                    id: hex(&span.span_id),
                    parent: hex(&span.parent_span_id),
                    name: span.name,
                    attributes: attributes(span.attributes),
                    links: span.links.iter().map(|link| (hex(&link.trace_id), hex(&link.span_id))).collect(),
                    start: span.start_time_unix_nano,
                    end: span.end_time_unix_nano,
                });
            }
        }
    }

    fn take_points(&mut self, request: ExportMetricsServiceRequest) {
        for group in request.resource_metrics {
            let resource = of_resource(group.resource);
            for metric in group.scope_metrics.into_iter().flat_map(|scope| scope.metrics) {
                let values: Vec<(Vec<KeyValue>, f64, u64)> = match metric.data {
                    Some(metric::Data::Sum(sum)) => sum.data_points.into_iter().map(number).collect(),
                    Some(metric::Data::Gauge(gauge)) => gauge.data_points.into_iter().map(number).collect(),
                    Some(metric::Data::Histogram(histogram)) => {
                        let points = histogram.data_points.into_iter();
                        points.map(|point| (point.attributes, point.sum.unwrap_or_default(), point.count)).collect()
                    }
                    _ => Vec::new(),
                };
                for (own, value, count) in values {
                    let attributes = attributes(own);
                    let (name, unit) = (metric.name.clone(), metric.unit.clone());
                    let series = format!("{name} {attributes:?} {resource:?}");
                    let point = Point { resource: resource.clone(), name, unit, attributes, value, count };
                    self.points.insert(series, point);
                }
            }
        }
    }
}

struct CollectorService(Arc<Mutex<Collected>>);

fn lock(collected: &Mutex<Collected>) -> MutexGuard<'_, Collected> {
    collected.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Handles one request over HTTP.
async fn take(
    collected: Arc<Mutex<Collected>>,
    request: hyper::Request<Incoming>,
) -> Result<hyper::Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let is_protobuf = head.headers.get("content-type").is_some_and(|value| value == "application/x-protobuf");
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let header = head.headers.get("authorization").and_then(|value| value.to_str().ok()).map(str::to_owned);
    let taken = match head.uri.path() {
        _ if !is_protobuf || head.method != hyper::Method::POST => false,
        "/v1/traces" => ExportTraceServiceRequest::decode(body).map(|all| lock(&collected).take_spans(all)).is_ok(),
        "/v1/metrics" => ExportMetricsServiceRequest::decode(body).map(|all| lock(&collected).take_points(all)).is_ok(),
        _ => false,
    };
    lock(&collected).headers.extend(header);
    let mut response = hyper::Response::new(Full::default());
    if !taken {
        *response.status_mut() = hyper::StatusCode::BAD_REQUEST;
    }
    Ok(response)
}

#[tonic::async_trait]
impl TraceService for CollectorService {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let mut collected = lock(&self.0);
        let header = request.metadata().get("authorization").and_then(|value| value.to_str().ok()).map(str::to_owned);
        collected.headers.extend(header);
        collected.take_spans(request.into_inner());
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

#[tonic::async_trait]
impl MetricsService for CollectorService {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        let mut collected = lock(&self.0);
        collected.take_points(request.into_inner());
        Ok(Response::new(ExportMetricsServiceResponse::default()))
    }
}

fn number(point: opentelemetry_proto::tonic::metrics::v1::NumberDataPoint) -> (Vec<KeyValue>, f64, u64) {
    let value = match point.value {
        Some(number_data_point::Value::AsInt(value)) => value as f64,
        Some(number_data_point::Value::AsDouble(value)) => value,
        None => 0.0,
    };
    (point.attributes, value, 1)
}

fn of_resource(resource: Option<Resource>) -> AttributeTexts {
    attributes(resource.map(|resource| resource.attributes).unwrap_or_default())
}

fn attributes(list: Vec<KeyValue>) -> AttributeTexts {
    list.into_iter().map(|pair| (pair.key, pair.value.map(text).unwrap_or_default())).collect()
}

fn text(value: AnyValue) -> String {
    match value.value {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::DoubleValue(number)) => number.to_string(),
        Some(Value::BoolValue(yes)) => yes.to_string(),
        other => format!("{other:?}"),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
