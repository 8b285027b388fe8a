//! Metrics of the databases.

use std::fmt;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use super::{Geo, Shown};

impl Collector for Geo {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if shown.is_empty() {
            return Ok(());
        }
        type Value = fn(&Shown) -> Option<i64>;
        let metrics: [(&str, &str, Value); 3] = [
            ("portolan_geoip_database_loaded", "Whether a database is answered from", |shown| {
                Some(shown.built.is_some().into())
            }),
            (
                "portolan_geoip_database_failed",
                "Whether the file that is there now can't be used; the last good one stays",
                |shown| Some(shown.failed.into()),
            ),
            (
                "portolan_geoip_database_build_timestamp_seconds",
                "When the database that is answered from was built, in seconds since the Unix epoch",
                |shown| shown.built.map(|built| i64::try_from(built).unwrap_or(i64::MAX)),
            ),
        ];
        for (name, help, value) in metrics {
            let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for database in &shown {
                if let Some(value) = value(database) {
                    let labels = [("database", database.path.display().to_string())];
                    ConstGauge::new(value).encode(metric.encode_family(&labels)?)?;
                }
            }
        }
        let help = "Database files that were refused";
        let refused = encoder.encode_descriptor("portolan_geoip_refused", help, None, MetricType::Counter)?;
        ConstCounter::new(self.refused.load(Ordering::Relaxed)).encode(refused)
    }
}
