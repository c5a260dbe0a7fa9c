//! What the process tells Prometheus. The webhook counts in plain atomics; here they get their names.

use std::sync::Arc;
use std::time::Instant;

use catamaran_certificates::ServingCertificate;
use catamaran_lease::Leadership;
use catamaran_listener::{Closed, Counts};
use catamaran_webhook::View;
use catamaran_webhook::metrics::{DURATION_BUCKETS, ImageOutcome, Metrics as Webhook, Outcome, Refusal};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use tokio::sync::watch;

/// The counters of the process, ready to be printed.
pub fn registry(
    controller: &catamaran_controller::metrics::Metrics,
    snapshots: &catamaran_controller::publish::SnapshotMetrics,
    process: Process,
) -> Registry {
    let mut registry = Registry::with_prefix("catamaran");
    controller.register(&mut registry);
    snapshots.register(&mut registry);
    registry.register_collector(Box::new(process));
    registry
}

/// Where the values come from that this process does not count in a registry.
#[derive(Debug)]
pub struct Process {
    /// The webhook's counters.
    pub webhook: Arc<Webhook>,
    /// The webhook's view of the mirrors.
    pub view: Arc<View>,
    /// Whether this replica leads.
    pub leadership: watch::Receiver<Leadership>,
    /// The webhook's certificate.
    pub certificate: Arc<ServingCertificate>,
    /// What each port counts, by its name.
    pub listeners: Vec<(&'static str, Arc<Counts>)>,
}

type Encoded = Result<(), std::fmt::Error>;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Encoded {
        let reviews = Outcome::ALL
            .iter()
            .map(|outcome| (outcome.as_str(), self.webhook.reviews(*outcome)));
        family(
            &mut encoder,
            "admission_reviews",
            "Admission reviews, by how they ended",
            "outcome",
            reviews,
        )?;
        let images = ImageOutcome::ALL
            .iter()
            .map(|outcome| (outcome.as_str(), self.webhook.images(*outcome)));
        family(
            &mut encoder,
            "admission_images",
            "Images in reviews, by what was decided",
            "outcome",
            images,
        )?;
        let refusals = Refusal::ALL
            .iter()
            .map(|refusal| (refusal.as_str(), self.webhook.refusals(*refusal)));
        family(
            &mut encoder,
            "webhook_refusals",
            "Requests that held no review",
            "reason",
            refusals,
        )?;
        self.durations(&mut encoder)?;
        self.connections(&mut encoder)?;
        let leads = f64::from(u8::from(self.leadership.borrow().is_leading_now()));
        gauge(&mut encoder, "leader", "1 on the replica that leads", leads)?;
        let age = self
            .view
            .age(Instant::now())
            .map_or(f64::INFINITY, |age| age.as_secs_f64());
        gauge(
            &mut encoder,
            "view_age_seconds",
            "Since the API server was last heard from",
            age,
        )?;
        let expiry = self.certificate.not_after().map_or(0.0, |at| at.as_second() as f64);
        let help = "When the webhook's certificate expires";
        gauge(&mut encoder, "certificate_expiry_timestamp_seconds", help, expiry)?;
        let unusable = f64::from(u8::from(self.certificate.is_stored_unusable()));
        let help = "1 while the stored certificate can't be used and the last good one is served with";
        gauge(&mut encoder, "certificate_unusable", help, unusable)
    }
}

impl Process {
    fn connections(&self, encoder: &mut DescriptorEncoder<'_>) -> Encoded {
        let help = "Connections that are open";
        let mut family = encoder.encode_descriptor("connections", help, None, MetricType::Gauge)?;
        for (name, counts) in &self.listeners {
            let labels = [("listener", *name)];
            ConstGauge::new(counts.open()).encode(family.encode_family(&labels)?)?;
        }
        let help = "Connections that were closed before their peers did, by why";
        let mut family = encoder.encode_descriptor("connections_closed", help, None, MetricType::Counter)?;
        for (name, counts) in &self.listeners {
            for reason in Closed::ALL {
                let labels = [("listener", *name), ("reason", reason.as_str())];
                ConstCounter::new(counts.closed(reason)).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }

    fn durations(&self, encoder: &mut DescriptorEncoder<'_>) -> Encoded {
        let durations = self.webhook.durations().snapshot();
        let bounds = DURATION_BUCKETS.into_iter().chain([f64::MAX]);
        let buckets: Vec<(f64, u64)> = bounds.zip(durations.buckets).collect();
        let count = durations.buckets.iter().sum();
        let help = "How long reviews took, without the time on the wire";
        let mut metric = encoder.encode_descriptor("admission_duration_seconds", help, None, MetricType::Histogram)?;
        metric.encode_histogram::<prometheus_client::encoding::NoLabelSet>(durations.sum, count, &buckets, None)
    }
}

fn family<'v>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    label: &'static str,
    values: impl Iterator<Item = (&'v str, u64)>,
) -> Encoded {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (value, count) in values {
        let labels = [(label, value)];
        let metric = family.encode_family(&labels)?;
        ConstCounter::new(count).encode(metric)?;
    }
    Ok(())
}

fn gauge(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: f64) -> Encoded {
    let metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    ConstGauge::new(value).encode(metric)
}
