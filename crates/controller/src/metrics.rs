//! Counters and gauges, in closed label sets: mirrors, sides and enums, never images or tags.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use catamaran_api::conditions;
use catamaran_api::mirror::RegistryMirrorStatus;
use catamaran_core::endpoint::Outcome;
use catamaran_core::mirror::failover::Flip;
use catamaran_core::mirror::parity::Summary;
use catamaran_core::mirror::prewarm::Holdings;
use catamaran_core::side::Side;
use jiff::Timestamp;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

mod proof;

pub use proof::{ProofLabels, ProofMetrics};

/// Labels of what is told of one side of one mirror.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct SideLabels {
    /// The mirror's name.
    pub mirror: String,
    /// `Primary` or `Fallback`.
    pub side: &'static str,
}

/// Labels of what is told of one registry.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RegistryLabels {
    /// Its host, with a port if it has one.
    pub registry: String,
}

/// Labels of one kind of probe outcome.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ProbeLabels {
    /// The mirror's name.
    pub mirror: String,
    /// `Primary` or `Fallback`.
    pub side: &'static str,
    /// The outcome's class.
    pub outcome: &'static str,
}

/// Labels of what is told of one mirror.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct MirrorLabels {
    /// The mirror's name.
    pub mirror: String,
}

/// Labels of one kind of thing in one mirror: a tag's state, a flip's reason, a rescue's action.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct KindLabels {
    /// The mirror's name.
    pub mirror: String,
    /// What kind.
    pub kind: &'static str,
}

/// Labels of what became of a registry's notifications.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct NotificationLabels {
    /// Whose protocol they came by.
    pub sender: &'static str,
    /// A closed word for what became of them.
    pub outcome: &'static str,
}

/// Labels of an error's category.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ErrorLabels {
    /// A closed word for the error.
    pub error: &'static str,
}

/// Kinds of tags in use of a pull-through cache: held as the upstream has them, lacking, and held with another digest.
const HOLDINGS: [&str; 3] = ["hit", "miss", "stale"];

type Seconds = Gauge<f64, AtomicU64>;
type HistogramFamily = Family<RegistryLabels, Histogram, fn() -> Histogram>;

/// Everything the controller counts.
#[derive(Debug)]
pub struct Metrics {
    probes: Family<ProbeLabels, Counter>,
    probe_duration: HistogramFamily,
    active: Family<SideLabels, Gauge>,
    epoch: Family<MirrorLabels, Gauge>,
    flips: Family<KindLabels, Counter>,
    pulls_failing: Family<MirrorLabels, Gauge>,
    failing_pods: Family<MirrorLabels, Gauge>,
    tags: Family<KindLabels, Gauge>,
    broken_tags: Family<MirrorLabels, Gauge>,
    untrusted_tags: Family<MirrorLabels, Gauge>,
    pass_duration: Family<MirrorLabels, Seconds>,
    last_pass: Family<MirrorLabels, Seconds>,
    rescues: Family<KindLabels, Counter>,
    waiting_pods: Gauge,
    waiting_pods_left_out: Counter,
    webhook_silent: Gauge,
    copies: Family<KindLabels, Counter>,
    copied_blobs: Family<KindLabels, Counter>,
    copied_bytes: Family<MirrorLabels, Counter>,
    cache_tags: Family<KindLabels, Gauge>,
    cache_age: Family<MirrorLabels, Seconds>,
    prewarmed: Family<KindLabels, Counter>,
    reconcile_errors: Family<ErrorLabels, Counter>,
    notifications: Family<NotificationLabels, Counter>,
    /// What proof pods found.
    pub proof: ProofMetrics,
    known: Mutex<BTreeSet<String>>,
}

fn probe_buckets() -> Histogram {
    Histogram::new([0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0])
}

impl Default for Metrics {
    fn default() -> Self {
        Metrics {
            probes: Family::default(),
            probe_duration: Family::new_with_constructor(probe_buckets),
            active: Family::default(),
            epoch: Family::default(),
            flips: Family::default(),
            pulls_failing: Family::default(),
            failing_pods: Family::default(),
            tags: Family::default(),
            broken_tags: Family::default(),
            untrusted_tags: Family::default(),
            pass_duration: Family::default(),
            last_pass: Family::default(),
            rescues: Family::default(),
            waiting_pods: Gauge::default(),
            waiting_pods_left_out: Counter::default(),
            webhook_silent: Gauge::default(),
            copies: Family::default(),
            copied_blobs: Family::default(),
            copied_bytes: Family::default(),
            cache_tags: Family::default(),
            cache_age: Family::default(),
            prewarmed: Family::default(),
            reconcile_errors: Family::default(),
            notifications: Family::default(),
            proof: ProofMetrics::default(),
            known: Mutex::default(),
        }
    }
}

impl Metrics {
    /// Makes all of them visible in `registry`.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("probes", "Probes of a registry, by outcome", self.probes.clone());
        registry.register(
            "probe_duration_seconds",
            "How long probes of a registry took",
            self.probe_duration.clone(),
        );
        registry.register(
            "active_side",
            "1 for the side that pods are sent to",
            self.active.clone(),
        );
        registry.register("epoch", "Flips so far, plus one", self.epoch.clone());
        registry.register("flips", "Changes of the active side, by reason", self.flips.clone());
        self.register_parity(registry);
        self.register_pods(registry);
        registry.register(
            "copies",
            "Missing tags that were copied, and why others were not",
            self.copies.clone(),
        );
        registry.register(
            "copied_blobs",
            "Blobs of copied tags, sent or already there",
            self.copied_blobs.clone(),
        );
        registry.register(
            "copied_bytes",
            "Bytes of blobs sent for copied tags",
            self.copied_bytes.clone(),
        );
        self.register_caches(registry);
        self.proof.register(registry);
        registry.register(
            "reconcile_errors",
            "Reconciles whose writes failed",
            self.reconcile_errors.clone(),
        );
        registry.register(
            "notifications",
            "Notifications of registries, by what became of them",
            self.notifications.clone(),
        );
    }

    fn register_parity(&self, registry: &mut Registry) {
        registry.register("tags", "Verified tags, by state", self.tags.clone());
        registry.register(
            "broken_tags",
            "Tags with the same digest on both sides that can't be pulled from one of them, because content is missing",
            self.broken_tags.clone(),
        );
        registry.register(
            "untrusted_tags",
            "Tags of which a side serves a manifest that does not have the digest it was asked for by",
            self.untrusted_tags.clone(),
        );
        registry.register(
            "parity_pass_duration_seconds",
            "How long the last pass took",
            self.pass_duration.clone(),
        );
        registry.register(
            "parity_last_pass_timestamp_seconds",
            "When the last pass ended",
            self.last_pass.clone(),
        );
    }

    fn register_pods(&self, registry: &mut Registry) {
        registry.register(
            "rescues",
            "What was done for pods that waited for an image",
            self.rescues.clone(),
        );
        registry.register(
            "pulls_failing",
            "1 while pods on several nodes can't pull from the active side",
            self.pulls_failing.clone(),
        );
        registry.register(
            "failing_pods",
            "Pods that wait because a pull from the active side failed",
            self.failing_pods.clone(),
        );
        registry.register(
            "waiting_pods",
            "Pods of mirrors that wait for an image, as far as they are kept",
            self.waiting_pods.clone(),
        );
        registry.register(
            "waiting_pods_left_out",
            "Waiting pods that were not kept because there are too many; they are not re-pointed",
            self.waiting_pods_left_out.clone(),
        );
        registry.register(
            "webhook_silent",
            "1 while no admission review reaches any replica although pods of mirrors are created",
            self.webhook_silent.clone(),
        );
    }

    fn register_caches(&self, registry: &mut Registry) {
        registry.register(
            "pull_through_tags_in_use",
            "Tags that pods use, by whether the pull-through cache holds them",
            self.cache_tags.clone(),
        );
        registry.register(
            "pull_through_age_seconds",
            "For how long the oldest tag of the pull-through cache has differed from its upstream; 0 if none does",
            self.cache_age.clone(),
        );
        registry.register(
            "prewarmed",
            "Tags that a pull-through cache was asked for ahead of pods, by what came of it",
            self.prewarmed.clone(),
        );
    }

    /// Notes what a pull-through cache holds of what pods use.
    pub fn cache_holds(&self, mirror: &str, holdings: &Holdings, now: Timestamp) {
        let counts = [holdings.hits, holdings.misses, holdings.stale];
        for (kind, count) in HOLDINGS.into_iter().zip(counts) {
            let mirror = mirror.to_owned();
            self.cache_tags
                .get_or_create(&KindLabels { mirror, kind })
                .set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        let age = holdings
            .stale_since
            .map(|since| now.duration_since(since).as_secs_f64());
        self.cache_age
            .get_or_create(&MirrorLabels {
                mirror: mirror.to_owned(),
            })
            .set(age.unwrap_or_default().max(0.0));
    }

    /// Counts a tag that a pull-through cache was asked for: `Pulled`, `Absent`, `Throttled` or `Failed`.
    pub fn prewarmed(&self, mirror: &str, kind: &'static str) {
        let mirror = mirror.to_owned();
        self.prewarmed.get_or_create(&KindLabels { mirror, kind }).inc();
    }

    /// Counts a probe that a side of a mirror was told of.
    pub fn probed(&self, mirror: &str, side: Side, outcome: &Outcome) {
        let (mirror, side, outcome) = (mirror.to_owned(), side.as_str(), outcome.as_str());
        self.probes.get_or_create(&ProbeLabels { mirror, side, outcome }).inc();
    }

    /// Notes how long a probe of a registry took. Mirrors share it: it counts once.
    pub fn probe_took(&self, registry: &str, took: Duration) {
        let registry = registry.to_owned();
        self.probe_duration
            .get_or_create(&RegistryLabels { registry })
            .observe(took.as_secs_f64());
    }

    /// Forgets a registry that is probed no longer.
    pub(crate) fn forget_registry(&self, registry: &str) {
        let registry = registry.to_owned();
        self.probe_duration.remove(&RegistryLabels { registry });
    }

    /// Notes a pass over the tags.
    pub fn scanned(&self, mirror: &str, summary: &Summary, begun: Timestamp, ended: Timestamp) {
        let states = [
            ("in_sync", summary.in_sync),
            ("missing_on_primary", summary.missing_on_primary),
            ("missing_on_fallback", summary.missing_on_fallback),
            ("mismatched", summary.mismatched),
            ("pending", summary.pending),
            ("not_cached", summary.not_cached),
        ];
        for (gauge, count) in [
            (&self.broken_tags, summary.broken),
            (&self.untrusted_tags, summary.untrusted),
        ] {
            gauge
                .get_or_create(&MirrorLabels {
                    mirror: mirror.to_owned(),
                })
                .set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        for (kind, count) in states {
            let labels = KindLabels {
                mirror: mirror.to_owned(),
                kind,
            };
            self.tags
                .get_or_create(&labels)
                .set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        let labels = MirrorLabels {
            mirror: mirror.to_owned(),
        };
        self.pass_duration
            .get_or_create(&labels)
            .set(ended.duration_since(begun).as_secs_f64());
        self.last_pass
            .get_or_create(&labels)
            .set(ended.as_millisecond() as f64 / 1000.0);
    }

    /// Counts a flip.
    pub fn flipped(&self, mirror: &str, flip: &Flip) {
        self.flips
            .get_or_create(&KindLabels {
                mirror: mirror.to_owned(),
                kind: flip.reason.as_str(),
            })
            .inc();
    }

    /// Notes what a status says.
    pub fn reported(&self, mirror: &str, status: &RegistryMirrorStatus) {
        for side in Side::ALL {
            let labels = SideLabels {
                mirror: mirror.to_owned(),
                side: side.as_str(),
            };
            self.active
                .get_or_create(&labels)
                .set(i64::from(status.active == Some(side)));
        }
        let labels = MirrorLabels {
            mirror: mirror.to_owned(),
        };
        self.epoch.get_or_create(&labels).set(status.epoch);
        let pulls = conditions::find_condition(&status.conditions, conditions::PULLS_FAILING);
        let fail = pulls.is_some_and(|pulls| pulls.status == "True");
        self.pulls_failing.get_or_create(&labels).set(i64::from(fail));
        let failing = status.pods.as_ref().map_or(0, |pods| pods.failing);
        self.failing_pods.get_or_create(&labels).set(failing);
        self.proof.reported(mirror, status);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if !known.contains(mirror) {
            known.insert(mirror.to_owned());
        }
    }

    /// Counts what was done for a waiting pod: `patched`, `replaced`, `reported` or `failed`.
    pub fn rescued(&self, mirror: &str, kind: &'static str) {
        self.rescues
            .get_or_create(&KindLabels {
                mirror: mirror.to_owned(),
                kind,
            })
            .inc();
    }

    /// Notes how many waiting pods are kept, and counts those that there was no room for.
    pub(crate) fn waiting_pods(&self, kept: usize, left_out: u64) {
        self.waiting_pods.set(i64::try_from(kept).unwrap_or(i64::MAX));
        self.waiting_pods_left_out.inc_by(left_out);
    }

    /// Notes whether the webhook is not asked about pods that are created.
    pub(crate) fn webhook_silent(&self, is_silent: bool) {
        self.webhook_silent.set(i64::from(is_silent));
    }

    /// Counts an attempt to copy a tag: `Copied`, `AlreadyThere`, or the reason why it failed.
    pub fn copied_tag(&self, mirror: &str, kind: &'static str) {
        let mirror = mirror.to_owned();
        self.copies.get_or_create(&KindLabels { mirror, kind }).inc();
    }

    /// Counts blobs by what was done about them: `sent`, `skipped` or `mounted`.
    pub fn copied_blobs(&self, mirror: &str, kind: &'static str, count: u64) {
        let mirror = mirror.to_owned();
        self.copied_blobs
            .get_or_create(&KindLabels { mirror, kind })
            .inc_by(count);
    }

    /// Counts bytes of blobs that were sent.
    pub fn copied_bytes(&self, mirror: &str, bytes: u64) {
        let mirror = mirror.to_owned();
        self.copied_bytes.get_or_create(&MirrorLabels { mirror }).inc_by(bytes);
    }

    /// Counts a reconcile whose writes failed.
    pub fn reconcile_failed(&self, error: &'static str) {
        self.reconcile_errors.get_or_create(&ErrorLabels { error }).inc();
    }

    /// Counts a notification.
    pub fn notified(&self, sender: &'static str, outcome: &'static str) {
        self.notifications
            .get_or_create(&NotificationLabels { sender, outcome })
            .inc();
    }

    /// Forgets the gauges of mirrors that are gone.
    pub fn retain(&self, keep: impl Fn(&str) -> bool) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        for mirror in known.extract_if(.., |mirror| !keep(mirror)) {
            let labels = MirrorLabels { mirror: mirror.clone() };
            self.epoch.remove(&labels);
            self.proof.forget(&mirror);
            self.pulls_failing.remove(&labels);
            self.failing_pods.remove(&labels);
            self.broken_tags.remove(&labels);
            self.untrusted_tags.remove(&labels);
            self.pass_duration.remove(&labels);
            self.last_pass.remove(&labels);
            self.cache_age.remove(&labels);
            for kind in HOLDINGS {
                let mirror = mirror.clone();
                self.cache_tags.remove(&KindLabels { mirror, kind });
            }
            for side in Side::ALL {
                self.active.remove(&SideLabels {
                    mirror: mirror.clone(),
                    side: side.as_str(),
                });
            }
        }
    }
}
