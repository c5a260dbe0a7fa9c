//! What is checked, and for whom.

use catamaran_core::policy::Provider;
use catamaran_registry::advice::Whose;
use catamaran_registry::{Client, DiagnosisTarget};

use super::line::Line;

/// Everything that the check of one target needs.
pub struct Plan {
    /// What to call it.
    pub heading: String,
    /// `host[:port]`.
    pub registry: String,
    /// Whose registry it is.
    pub provider: Provider,
    /// For whom.
    pub whose: Whose,
    /// What is to be told before the first step.
    pub notes: Vec<Line>,
    /// Absent when the notes say why there is none.
    pub client: Option<Client>,
    /// Where to.
    pub target: DiagnosisTarget,
}
