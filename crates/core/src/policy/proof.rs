//! Proof pulls from the fallback.

use std::time::Duration;

/// How it is proven that nodes can pull from the fallback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProofPolicy {
    /// Whether anything is done.
    pub mode: ProofMode,
    /// Time from one proof to the next; at least 10 min.
    pub interval: Duration,
}

impl Default for ProofPolicy {
    fn default() -> ProofPolicy {
        ProofPolicy {
            mode: ProofMode::Off,
            interval: Duration::from_hours(24),
        }
    }
}

/// Whether pulls from the fallback are proven.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ProofMode {
    /// They are not.
    #[default]
    Off,
    /// Short-lived pods pull from it.
    Pull,
}
