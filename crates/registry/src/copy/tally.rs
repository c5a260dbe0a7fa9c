//! What copies did.

use std::sync::atomic::{AtomicU64, Ordering};

/// Something that is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Count {
    /// Bytes of blobs that were sent.
    Bytes,
    /// Blobs that were sent.
    BlobsSent,
    /// Blobs that the target had.
    BlobsSkipped,
    /// Blobs that the target had in another repository.
    BlobsMounted,
    /// Manifests that were sent.
    ManifestsSent,
    /// Manifests that the target had.
    ManifestsSkipped,
}

impl Count {
    /// Everything that is counted.
    pub const ALL: [Count; 6] = [
        Count::Bytes,
        Count::BlobsSent,
        Count::BlobsSkipped,
        Count::BlobsMounted,
        Count::ManifestsSent,
        Count::ManifestsSkipped,
    ];
}

/// Counters that copies share.
#[derive(Debug, Default)]
pub struct Tally([AtomicU64; Count::ALL.len()]);

impl Tally {
    /// One of the counts so far.
    pub fn get(&self, count: Count) -> u64 {
        self.0[count as usize].load(Ordering::Relaxed)
    }

    pub(super) fn add(&self, count: Count, by: u64) {
        self.0[count as usize].fetch_add(by, Ordering::Relaxed);
    }
}
