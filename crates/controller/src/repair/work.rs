//! One round of copies.

use std::sync::Arc;
use std::time::Duration;

use catamaran_core::policy::MirrorPolicy;
use catamaran_core::repair::{Attempts, Errand};
use catamaran_core::side::Sides;
use catamaran_registry::copy::{Count, Tally};
use catamaran_registry::{Copied, Copier, CopyError, Image};
use futures::stream::{FuturesUnordered, StreamExt as _};
use jiff::Timestamp;

use super::progress::{list, name, tags};
use crate::clock::Clock;
use crate::memory::{MirrorMemory, RepositoryTag};
use crate::metrics::Metrics;

/// The time between two reports while a round is under way.
const REPORT_EVERY: Duration = Duration::from_secs(10);
/// After so many failures in a row that are a registry's, the round leaves that direction alone: what one tag is refused for
/// the next ones are refused for too.
const MOST_IN_A_ROW: usize = 8;
/// Names in an Event.
const MOST_NAMES: usize = 5;

/// What a round of copies works with.
pub struct Work<'a> {
    /// The time.
    pub clock: Clock,
    /// The mirror's policy.
    pub policy: &'a MirrorPolicy,
    /// Where results go.
    pub memory: &'a MirrorMemory,
    /// Counters.
    pub metrics: &'a Metrics,
    /// A copier to each side, or why there is none.
    pub copiers: Sides<Result<Copier, String>>,
    /// What the copiers count.
    pub tally: Arc<Tally>,
}

/// What a round did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// Tags that were copied.
    pub copied: usize,
    /// Some of their names.
    pub names: Vec<String>,
    /// Bytes of blobs that were sent.
    pub bytes: u64,
    /// Tags that were not.
    pub failed: usize,
    /// Why the first was not, with its name.
    pub failure: Option<String>,
}

impl Work<'_> {
    /// Copies so many tags at a time as the policy says, until all were tried or `go_on` says no; calls `report` now and then.
    /// What was copied is verified out of turn.
    pub async fn carry_out(
        &self,
        errands: Vec<Errand>,
        attempts: &mut Attempts,
        go_on: &(dyn Fn() -> bool + Sync),
        report: &(dyn Fn() + Sync),
    ) -> Done {
        let mut done = Done::default();
        let mut counted = [0; Count::ALL.len()];
        let mut reported = self.clock.now();
        let mut left = errands.into_iter();
        let mut streak = Sides::<usize>::default();
        let mut running = FuturesUnordered::new();
        loop {
            while running.len() < self.policy.repair.concurrency.max(1) && go_on() {
                let Some(errand) = left.find(|errand| streak[errand.to] < MOST_IN_A_ROW) else {
                    break;
                };
                running.push(async move {
                    let outcome = self.copy(&errand).await;
                    (errand, outcome)
                });
            }
            let Some((errand, outcome)) = running.next().await else {
                break;
            };
            match &outcome {
                Ok(_) => streak[errand.to] = 0,
                Err(failed) if failed.is_the_registry() => streak[errand.to] += 1,
                Err(_) => {}
            }
            self.note(&errand, outcome, attempts, &mut done);
            self.count(&mut counted);
            if is_due(reported, self.clock.now()) {
                reported = self.clock.now();
                report();
            }
        }
        done.bytes = self.tally.get(Count::Bytes);
        done
    }

    async fn copy(&self, errand: &Errand) -> Result<Copied, Failed> {
        let copier = self.copiers[errand.to].as_ref().map_err(|why| Failed {
            reason: "NoClient",
            message: why.clone(),
        })?;
        let image = Image {
            from: self.policy.path(errand.to.other(), &errand.repository).into_owned(),
            to: self.policy.path(errand.to, &errand.repository).into_owned(),
            tag: errand.tag.clone(),
            digest: errand.digest.clone(),
        };
        copier.copy(&image).await.map_err(Failed::from)
    }

    fn note(&self, errand: &Errand, outcome: Result<Copied, Failed>, attempts: &mut Attempts, done: &mut Done) {
        let mirror = &*self.policy.id.name;
        let named = name(errand);
        match outcome {
            Ok(copied) => {
                attempts.succeeded(errand);
                self.verify(errand);
                done.copied += 1;
                if done.names.len() < MOST_NAMES {
                    done.names.push(named);
                }
                let written = copied == Copied::Written;
                self.metrics
                    .copied_tag(mirror, if written { "Copied" } else { "AlreadyThere" });
                tracing::info!(%mirror, repository = errand.repository, tag = errand.tag, to = %errand.to, written, "copied");
                self.told(|progress| progress.succeeded(attempts.len()));
            }
            Err(Failed { reason, message }) => {
                attempts.failed(errand, self.clock.now());
                if matches!(reason, "Moved" | "Mismatched") {
                    self.verify(errand);
                }
                done.failed += 1;
                let failure = format!("{named}: {message}");
                self.metrics.copied_tag(mirror, reason);
                tracing::warn!(%mirror, repository = errand.repository, tag = errand.tag, to = %errand.to, reason, message, "failed to copy");
                self.told(|progress| progress.failed(attempts.len(), &failure));
                done.failure.get_or_insert(failure);
            }
        }
    }

    /// Has the tag looked at again at once.
    fn verify(&self, errand: &Errand) {
        self.memory.want(RepositoryTag {
            repository: errand.repository.clone(),
            tag: errand.tag.clone(),
        });
    }

    fn told(&self, change: impl FnOnce(&mut super::Progress)) {
        change(self.memory.state().repair.get_or_insert_default());
    }

    /// Brings the metrics up to what the copiers counted.
    fn count(&self, counted: &mut [u64; Count::ALL.len()]) {
        let mirror = &*self.policy.id.name;
        for count in Count::ALL {
            let so_far = self.tally.get(count);
            let new = so_far.saturating_sub(std::mem::replace(&mut counted[count as usize], so_far));
            match count {
                Count::Bytes => self.metrics.copied_bytes(mirror, new),
                Count::BlobsSent => self.metrics.copied_blobs(mirror, "sent", new),
                Count::BlobsSkipped => self.metrics.copied_blobs(mirror, "skipped", new),
                Count::BlobsMounted => self.metrics.copied_blobs(mirror, "mounted", new),
                Count::ManifestsSent | Count::ManifestsSkipped => {}
            }
        }
    }
}

/// Why a tag was not copied, in a word and in a sentence.
struct Failed {
    reason: &'static str,
    message: String,
}

impl Failed {
    /// Whether it says more about a registry than about the tag.
    fn is_the_registry(&self) -> bool {
        matches!(self.reason, "NoClient" | "Denied" | "Throttled" | "Source" | "Target")
    }
}

impl From<CopyError> for Failed {
    fn from(error: CopyError) -> Failed {
        Failed {
            reason: error.reason(),
            message: error.to_string(),
        }
    }
}

fn is_due(reported: Timestamp, now: Timestamp) -> bool {
    Duration::try_from(now.duration_since(reported)).is_ok_and(|since| since >= REPORT_EVERY)
}

impl Done {
    /// What was copied, for an Event.
    pub fn copied_note(&self) -> Option<String> {
        let names = list(&self.names, self.copied);
        (self.copied > 0).then(|| format!("copied {} ({} bytes sent): {names}", tags(self.copied), self.bytes))
    }

    /// What was not, for an Event.
    pub fn failed_note(&self) -> Option<String> {
        let failure = self.failure.as_ref()?;
        Some(match self.failed {
            1 => format!("failed to copy {failure}"),
            n => format!("failed to copy {}, the first of them {failure}", tags(n)),
        })
    }
}
