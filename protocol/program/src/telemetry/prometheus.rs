//! Metrics in the text format of Prometheus, with names as OpenTelemetry's rules for that format give them.
//!
//! The crate `opentelemetry-prometheus` would bring another registry along, and stands on the same interface of the SDK as
//! this module ([`ManualReader`]).

use opentelemetry::{Key, KeyValue};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::metrics::data::{AggregatedMetrics, Histogram, Metric, MetricData, ResourceMetrics};
use opentelemetry_sdk::metrics::reader::MetricReader;
use opentelemetry_sdk::metrics::{InstrumentKind, ManualReader, Pipeline, Temporality};
use std::collections::BTreeMap;
use std::fmt::{Display, Write as _};
use std::sync::{Arc, Weak};
use std::time::Duration;

/// Reads the metrics of this program when it is asked to. Clones read the same.
#[derive(Debug, Clone, Default)]
pub struct MetricsReader(Arc<ManualReader>);

impl MetricsReader {
    /// Returns all metrics as text; nothing if metrics are switched off.
    pub fn text(&self) -> String {
        let mut metrics = ResourceMetrics::default();
        self.0.collect(&mut metrics).map(|()| exposition(&metrics)).unwrap_or_default()
    }
}

impl MetricReader for MetricsReader {
    fn register_pipeline(&self, pipeline: Weak<Pipeline>) {
        self.0.register_pipeline(pipeline);
    }

    fn collect(&self, metrics: &mut ResourceMetrics) -> OTelSdkResult {
        self.0.collect(metrics)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.0.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.0.shutdown_with_timeout(timeout)
    }

    fn temporality(&self, kind: InstrumentKind) -> Temporality {
        self.0.temporality(kind)
    }
}

/// Returns the name of a metric: with `_` for dots, its unit, and `_total` if it is a counter.
pub(super) fn metric_name(name: &str, unit: &str, is_counter: bool) -> String {
    let mut whole = label(name);
    let unit = match unit {
        "s" => "_seconds",
        "By" => "_bytes",
        "1" if !is_counter => "_ratio",
        _ => "", // braces only say what is counted
    };
    for ending in [unit, if is_counter { "_total" } else { "" }] {
        if !whole.ends_with(ending) {
            whole.push_str(ending);
        }
    }
    whole
}

/// Returns the name of a label: with `_` for everything that is neither a letter nor a digit.
pub(super) fn label(name: &str) -> String {
    let plain = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' });
    let digit = name.starts_with(|c: char| c.is_ascii_digit());
    digit.then_some('_').into_iter().chain(plain).collect()
}

/// Writes all metrics of a program, and `target_info` with the attributes of the program itself.
fn exposition(metrics: &ResourceMetrics) -> String {
    let mut text = String::new();
    head(&mut text, "target_info", "gauge", "Attributes of the program.");
    sample(&mut text, "target_info", &resource(metrics.resource()), &1);
    for metric in metrics.scope_metrics().flat_map(|scope| scope.metrics()) {
        match metric.data() {
            AggregatedMetrics::F64(data) => family(&mut text, metric, data),
            AggregatedMetrics::U64(data) => family(&mut text, metric, data),
            AggregatedMetrics::I64(data) => family(&mut text, metric, data),
        }
    }
    text
}

fn resource(resource: &Resource) -> Labels {
    resource.iter().map(|(key, value)| (label(key.as_str()), value.as_str().into_owned())).collect()
}

/// Names and values of labels. Two attributes whose names become one give one label.
type Labels = BTreeMap<String, String>;

fn labels<'a>(attributes: impl Iterator<Item = &'a KeyValue>) -> Labels {
    attributes.map(|one| (label(Key::as_str(&one.key)), one.value.as_str().into_owned())).collect()
}

/// Writes the samples of one metric.
fn family<T: Copy + Display>(text: &mut String, metric: &Metric, data: &MetricData<T>) {
    let name = |is_counter| metric_name(metric.name(), metric.unit(), is_counter);
    match data {
        MetricData::Gauge(gauge) => {
            let name = name(false);
            head(text, &name, "gauge", metric.description());
            gauge.data_points().for_each(|point| sample(text, &name, &labels(point.attributes()), &point.value()));
        }
        MetricData::Sum(sum) => {
            let name = name(sum.is_monotonic());
            head(text, &name, if sum.is_monotonic() { "counter" } else { "gauge" }, metric.description());
            sum.data_points().for_each(|point| sample(text, &name, &labels(point.attributes()), &point.value()));
        }
        MetricData::Histogram(histogram) => {
            let name = name(false);
            head(text, &name, "histogram", metric.description());
            buckets(text, &name, histogram);
        }
        MetricData::ExponentialHistogram(_) => {} // no instrument has such buckets
    }
}

/// Writes the samples of a histogram. A bucket counts what the smaller ones count too.
fn buckets<T: Copy + Display>(text: &mut String, name: &str, histogram: &Histogram<T>) {
    for point in histogram.data_points() {
        let mut labels = labels(point.attributes());
        let mut count = 0;
        let bounds = point.bounds().map(|bound| bound.to_string()).chain(["+Inf".to_owned()]);
        for (bound, own) in bounds.zip(point.bucket_counts()) {
            count += own;
            labels.insert("le".to_owned(), bound);
            sample(text, &format!("{name}_bucket"), &labels, &count);
        }
        labels.remove("le");
        sample(text, &format!("{name}_sum"), &labels, &point.sum());
        sample(text, &format!("{name}_count"), &labels, &point.count());
    }
}

fn head(text: &mut String, name: &str, kind: &str, help: &str) {
    let help = help.replace('\\', "\\\\").replace('\n', "\\n");
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}"); // a text has room
}

fn sample(text: &mut String, name: &str, labels: &Labels, value: &dyn Display) {
    text.push_str(name);
    for (number, (label, value)) in labels.iter().enumerate() {
        let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let _ = write!(text, "{}{label}=\"{value}\"", if number == 0 { '{' } else { ',' });
    }
    let _ = writeln!(text, "{} {value}", if labels.is_empty() { "" } else { "}" });
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use opentelemetry::metrics::MeterProvider as _;
    use opentelemetry_sdk::metrics::SdkMeterProvider;

    #[test]
    fn names_follow_the_rules() {
        for (name, unit, is_counter, expected) in [
            ("edp.recipes", "{recipe}", false, "edp_recipes"),
            ("edp.backlog", "s", false, "edp_backlog_seconds"),
            ("edp.io", "By", true, "edp_io_bytes_total"),
            ("edp.retries", "{attempt}", true, "edp_retries_total"),
            ("x.seconds", "s", false, "x_seconds"),
            ("share", "1", false, "share_ratio"),
            ("3.d", "", false, "_3_d"),
        ] {
            assert_eq!(metric_name(name, unit, is_counter), expected);
        }
    }

    #[test]
    fn the_text_is_as_prometheus_expects_it() {
        let reader = MetricsReader::default();
        let resource = Resource::builder_empty().with_attribute(KeyValue::new("service.name", "x\\\"y\n")).build();
        let provider = SdkMeterProvider::builder().with_resource(resource).with_reader(reader.clone()).build();
        let meter = provider.meter("m");
        meter.u64_counter("c").with_description("all\nof it").build().add(3, &[KeyValue::new("a.b", "v")]);
        meter.f64_gauge("g").with_unit("s").build().record(0.5, &[]);
        let histogram = meter.f64_histogram("h").with_unit("s").with_boundaries(vec![0.1, 1.0]).build();
        [0.05, 0.5, 0.5, 5.0].iter().for_each(|value| histogram.record(*value, &[KeyValue::new("k", 1)]));
        let text = reader.text();
        let (info, rest) = text.split_once("# HELP c_total").unwrap();
        assert_eq!(
            info,
            "# HELP target_info Attributes of the program.\n# TYPE target_info gauge\n\
             target_info{service_name=\"x\\\\\\\"y\\n\"} 1\n"
        );
        assert_eq!(
            rest,
            " all\\nof it\n# TYPE c_total counter\nc_total{a_b=\"v\"} 3\n\
             # HELP g_seconds \n# TYPE g_seconds gauge\ng_seconds 0.5\n\
             # HELP h_seconds \n# TYPE h_seconds histogram\n\
             h_seconds_bucket{k=\"1\",le=\"0.1\"} 1\nh_seconds_bucket{k=\"1\",le=\"1\"} 3\n\
             h_seconds_bucket{k=\"1\",le=\"+Inf\"} 4\nh_seconds_sum{k=\"1\"} 6.05\nh_seconds_count{k=\"1\"} 4\n"
        );
        drop(provider);
        assert_eq!(reader.text(), "", "nothing is measured any more");
    }
}
