//! Carries out copies of missing tags.

use std::sync::{Arc, Mutex, PoisonError};

use catamaran_core::mirror::repair::Errand;
use catamaran_core::mirror::{CopyDone, CopyEnded, CopyFailure, Event};
use catamaran_core::policy::{MirrorPolicy, Repositories};
use catamaran_core::side::{Side, Sides};
use catamaran_registry::copy::{Count, Pace, Placed, Tally};
use catamaran_registry::{Client, Copied, Copier, CopyError, CopySettings, Image};
use tokio::sync::OnceCell;

use super::sources::clients;
use crate::context::Context;

/// The copiers of one round: copies of a round share blobs, pace and counts.
#[derive(Debug, Default)]
pub(super) struct Round {
    copiers: OnceCell<Sides<Result<Copier, String>>>,
    tally: Arc<Tally>,
    counted: Mutex<[u64; Count::ALL.len()]>,
}

impl Round {
    /// Copies one tag.
    pub(super) async fn copy(&self, context: &Context, policy: &MirrorPolicy, errand: Errand) -> Event {
        let copiers = self.copiers.get_or_init(|| copiers(context, policy, &self.tally)).await;
        let mirror = &*policy.id.name;
        let result = match &copiers[errand.to] {
            Ok(copier) => {
                let image = image(policy, &errand);
                let done = if errand.is_broken {
                    copier.complete(&image).await
                } else {
                    copier.copy(&image).await
                };
                done.map_err(|error| failure(&error))
            }
            Err(message) => Err(CopyFailure {
                reason: "NoClient",
                message: message.clone(),
                of_registry: true,
                read_again: false,
            }),
        };
        let bytes = self.count(context, mirror);
        let result = result.map(|copied| CopyDone {
            written: copied == Copied::Written,
            bytes,
        });
        let (repository, tag, to) = (&errand.repository, &errand.tag, errand.to);
        match &result {
            Ok(CopyDone { written, .. }) => {
                let word = if *written { "Copied" } else { "AlreadyThere" };
                context.metrics.copied_tag(mirror, word);
                tracing::info!(mirror, repository, tag, %to, written, "copied");
            }
            Err(CopyFailure { reason, message, .. }) => {
                context.metrics.copied_tag(mirror, reason);
                tracing::warn!(mirror, repository, tag, %to, reason, message, "failed to copy");
            }
        }
        Event::Copied(Box::new(CopyEnded { errand, result }))
    }

    /// Brings the metrics up to what the copiers counted; the bytes sent since the last time.
    fn count(&self, context: &Context, mirror: &str) -> u64 {
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        let mut bytes = 0;
        for count in Count::ALL {
            let so_far = self.tally.get(count);
            let new = so_far.saturating_sub(std::mem::replace(&mut counted[count as usize], so_far));
            match count {
                Count::Bytes => {
                    context.metrics.copied_bytes(mirror, new);
                    bytes = new;
                }
                Count::BlobsSent => context.metrics.copied_blobs(mirror, "sent", new),
                Count::BlobsSkipped => context.metrics.copied_blobs(mirror, "skipped", new),
                Count::BlobsMounted => context.metrics.copied_blobs(mirror, "mounted", new),
                Count::ManifestsSent | Count::ManifestsSkipped => {}
            }
        }
        bytes
    }
}

fn image(policy: &MirrorPolicy, errand: &Errand) -> Image {
    Image {
        from: policy.path(errand.to.other(), &errand.repository).into_owned(),
        to: policy.path(errand.to, &errand.repository).into_owned(),
        tag: errand.tag.clone(),
        digest: errand.digest.clone(),
    }
}

fn failure(error: &CopyError) -> CopyFailure {
    let reason = error.reason();
    CopyFailure {
        reason,
        message: error.to_string(),
        of_registry: matches!(reason, "Denied" | "Throttled" | "Source" | "Target"),
        read_again: matches!(reason, "Moved" | "Mismatched"),
    }
}

/// A copier to each side, or why there is none.
async fn copiers(context: &Context, policy: &MirrorPolicy, tally: &Arc<Tally>) -> Sides<Result<Copier, String>> {
    let clients = clients(context, policy).await;
    let pace = policy.repair.max_bytes_per_second.map(Pace::bytes_per_second);
    let settings = CopySettings {
        referrers: policy.repair.referrers,
        pace: Arc::new(pace.unwrap_or_default()),
        tally: Arc::clone(tally),
        ..CopySettings::default()
    };
    Sides::from_fn(|to| {
        let of = |side: Side| -> Result<(&Client, _), String> {
            let client = clients[side].as_ref().map_err(|failure| failure.message.clone())?;
            Ok((client, context.connections.copy_budget(&policy.sides[side])))
        };
        let settings = CopySettings {
            siblings: siblings(policy, to),
            ..settings.clone()
        };
        let copier = Copier::new(of(to.other())?, of(to)?, Arc::new(Placed::default()), settings);
        copier.map_err(|error| error.to_string())
    })
}

/// The repositories of the mirror on one side, where they are listed.
fn siblings(policy: &MirrorPolicy, side: Side) -> Vec<String> {
    match &policy.repositories {
        Repositories::Listed(rules) => rules.iter().map(|rule| rule.paths[side].clone()).collect(),
        Repositories::InUse => Vec::new(),
    }
}

#[cfg(test)]
mod tests;
