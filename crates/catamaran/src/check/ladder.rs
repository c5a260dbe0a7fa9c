//! What is climbed, and for whom.

use catamaran_core::policy::Provider;
use catamaran_registry::{Client, LadderTarget};

use super::line::Line;

/// For whom the ladder is climbed; it decides which advice helps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whose {
    /// Whoever typed the command.
    Own,
    /// The operator, whose service account is `system:serviceaccount:NAMESPACE:NAME`.
    Operator {
        /// The operator's namespace.
        namespace: String,
        /// The subject that identity providers know the operator by.
        subject: String,
        /// What takes its place inside of one of its pods, where it has an identity of its own and this command was not told to use
        /// that of its surroundings.
        exec: Option<String>,
    },
}

/// Everything that one climb needs.
pub struct Ladder {
    /// What to call it.
    pub heading: String,
    /// `host[:port]`.
    pub registry: String,
    /// Whose registry it is.
    pub provider: Provider,
    /// For whom.
    pub whose: Whose,
    /// What is to be told before the first rung.
    pub notes: Vec<Line>,
    /// Absent when the notes say why there is none.
    pub client: Option<Client>,
    /// Where to.
    pub target: LadderTarget,
}
