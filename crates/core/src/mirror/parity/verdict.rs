//! The word for a reference in status and messages.

use crate::side::Side;

/// What status and messages say of one tag or digest. Routing goes by [`Knowledge`](crate::routing::evidence::Knowledge), which knows no grace period.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// Both sides have it, with the same digest.
    InSync,
    /// The fallback has it, the primary does not.
    MissingOnPrimary,
    /// The primary has it, the fallback does not.
    MissingOnFallback,
    /// Both sides have it, with different digests.
    Mismatched,
    /// Not verified yet, or different for less than the grace period.
    Pending,
}

impl Verdict {
    /// The verdict on a tag that `side` lacks.
    pub fn missing_on(side: Side) -> Verdict {
        match side {
            Side::Primary => Verdict::MissingOnPrimary,
            Side::Fallback => Verdict::MissingOnFallback,
        }
    }

    /// The side that lacks it, where that is what the verdict says.
    pub fn lacking(self) -> Option<Side> {
        match self {
            Verdict::MissingOnPrimary => Some(Side::Primary),
            Verdict::MissingOnFallback => Some(Side::Fallback),
            Verdict::InSync | Verdict::Mismatched | Verdict::Pending => None,
        }
    }

    /// `InSync`, `MissingOnPrimary`, ... as in the resource's status.
    pub fn as_str(self) -> &'static str {
        match self {
            Verdict::InSync => "InSync",
            Verdict::MissingOnPrimary => "MissingOnPrimary",
            Verdict::MissingOnFallback => "MissingOnFallback",
            Verdict::Mismatched => "Mismatched",
            Verdict::Pending => "Pending",
        }
    }
}
