//! What is done about tags that only one side has.

use catamaran_core::policy::{RepairDirection, RepairMode, RepairPolicy};

use super::checks::{PolicyError, within};
use crate::mirror::{MissingTags, RegistryMirrorSpec, RepairDirectionName};
use crate::rules::{BYTES_PER_SECOND, CONCURRENCY};

pub(super) fn repair(spec: &RegistryMirrorSpec) -> Result<RepairPolicy, PolicyError> {
    let repair = &spec.repair;
    let mode = match repair.missing_tags {
        MissingTags::Off => RepairMode::Off,
        MissingTags::DryRun => RepairMode::DryRun,
        MissingTags::Copy => RepairMode::Copy,
    };
    let (direction, to_a_cache) = match repair.direction {
        RepairDirectionName::Both => (RepairDirection::Both, false),
        RepairDirectionName::ToFallback => (RepairDirection::ToFallback, spec.fallback.pull_through_cache),
        RepairDirectionName::ToPrimary => (RepairDirection::ToPrimary, spec.primary.pull_through_cache),
    };
    if mode != RepairMode::Off && to_a_cache {
        return Err(PolicyError::new(
            "spec.repair.direction",
            "names a pull-through cache, which is never written",
        ));
    }
    let concurrency = within(repair.concurrency, &CONCURRENCY, "spec.repair.concurrency")?;
    Ok(RepairPolicy {
        mode,
        direction,
        referrers: repair.referrers,
        concurrency: usize::try_from(concurrency).unwrap_or(1),
        max_bytes_per_second: repair.max_bytes_per_second.map(bytes_per_second).transpose()?,
    })
}

fn bytes_per_second(value: i64) -> Result<u64, PolicyError> {
    let bounds = BYTES_PER_SECOND;
    let inside = u64::try_from(value).ok().filter(|_| bounds.contains(&value));
    inside.ok_or_else(|| {
        PolicyError::new(
            "spec.repair.maxBytesPerSecond",
            format!("must be between {} and {}, not {value}", bounds.start(), bounds.end()),
        )
    })
}
