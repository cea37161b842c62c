//! How long requests took and how they ended, in the Prometheus text format.

use api::edge::Counts;
use api::traffic::{BOUNDS_MICROS, KindTraffic, RequestKind};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::registry::Unit;
use std::fmt;
use std::sync::Arc;

/// What the edge counts of requests by their kind.
#[derive(Debug)]
pub struct TrafficMetrics(pub Arc<Counts>);

/// The durations of one kind.
struct Durations<'a>(&'a KindTraffic);

impl EncodeMetric for Durations<'_> {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        let classes = self.0.classes();
        let bounds = BOUNDS_MICROS.iter().map(|micros| *micros as f64 / 1e6).chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> = bounds.zip(classes).collect();
        let seconds = self.0.micros() as f64 / 1e6;
        encoder.encode_histogram::<[(&str, &str); 0]>(seconds, classes.iter().sum(), &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}

impl Collector for TrafficMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let traffic = self.0.traffic();
        let label = |kind: RequestKind| [("kind", kind.as_str())];
        let help = "How long requests took until their answer began, by kind.";
        let mut durations = encoder.encode_descriptor("request", help, Some(&Unit::Seconds), MetricType::Histogram)?;
        for kind in RequestKind::ALL {
            Durations(traffic.of(kind)).encode(durations.encode_family(&label(kind))?)?;
        }
        let mut counts = |name: &str, help: &str, count: fn(&KindTraffic) -> u64| {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            RequestKind::ALL.into_iter().try_for_each(|kind| {
                ConstCounter::new(count(traffic.of(kind))).encode(family.encode_family(&label(kind))?)
            })
        };
        counts("requests_refused", "Requests that were answered with 4xx, by kind.", KindTraffic::refused)?;
        counts("requests_failed", "Requests that were answered with 5xx, by kind.", KindTraffic::failed)
    }
}
