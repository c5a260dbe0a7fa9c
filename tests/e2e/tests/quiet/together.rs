//! When each of many mirrors has flipped: by its status, or by a flip that is stored together with those of others.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::ensure;
use catamaran_e2e::view::name;
use catamaran_e2e::watch::Watch;
use catamaran_e2e::{Case, operator};
use serde_json::Value;

/// How long all may take.
const PATIENCE: Duration = Duration::from_mins(2);

/// A watch of flips that are stored together.
pub(super) struct Together(Watch);

impl Together {
    pub(super) fn watch(case: &Case<'_>) -> anyhow::Result<Together> {
        let arguments = ["configmaps", "-n", operator::NAMESPACE, "-l", "catamaran.dev/flips"];
        Ok(Together(Watch::start(&case.ground.cluster, &arguments)?))
    }

    /// When each was first seen there, by the mirror's UID.
    pub(super) fn seen(&self) -> anyhow::Result<BTreeMap<String, Instant>> {
        self.0.wait("flips", Duration::ZERO, |seen| {
            let mut flips = BTreeMap::new();
            for item in seen {
                let content = item.object["data"]["flips"].as_str().unwrap_or_default();
                let stored: Value = serde_json::from_str(content).unwrap_or_default();
                for uid in stored.as_object().into_iter().flat_map(|stored| stored.keys()) {
                    flips.entry(uid.clone()).or_insert(item.at);
                }
            }
            Some(flips)
        })
    }

    /// Waits until so many mirrors of this scenario have flipped; when each of them has, by its name.
    pub(super) fn flipped(&self, case: &Case<'_>, count: usize) -> anyhow::Result<BTreeMap<String, Instant>> {
        let begun = Instant::now();
        loop {
            let together = self.seen()?;
            let flipped = case.ground.mirrors.wait("mirrors", Duration::ZERO, |seen| {
                let mut flipped = BTreeMap::<String, Instant>::new();
                let ours = seen.iter().filter(|item| name(&item.object).starts_with(&case.name));
                for item in ours {
                    let uid = item.object["metadata"]["uid"].as_str().unwrap_or_default();
                    let by_status = (item.object["status"]["active"] == "Fallback").then_some(item.at);
                    let at = by_status.into_iter().chain(together.get(uid).copied()).min();
                    if let Some(at) = at {
                        let known = flipped.entry(name(&item.object).to_owned()).or_insert(at);
                        *known = at.min(*known);
                    }
                }
                Some(flipped)
            })?;
            if flipped.len() >= count {
                return Ok(flipped);
            }
            ensure!(
                begun.elapsed() < PATIENCE,
                "{} of {count} mirrors have flipped within {} s",
                flipped.len(),
                PATIENCE.as_secs()
            );
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Waits until nothing is stored together any more, because every status says it.
    pub(super) fn gone(&self) -> anyhow::Result<()> {
        self.0
            .wait("that flips are no longer stored together", PATIENCE, |seen| {
                let mut there = BTreeSet::new();
                for item in seen {
                    if item.gone {
                        there.remove(name(&item.object));
                    } else {
                        there.insert(name(&item.object));
                    }
                }
                there.is_empty().then_some(())
            })
    }
}
