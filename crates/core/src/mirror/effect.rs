//! What a mirror wants done. The code that carries an effect out reports the result as an [`super::Event`].

use std::time::Duration;

use jiff::Timestamp;

use super::contents::Inspect;
use super::event::{ReferenceName, RequestId};
use super::parity::Observed;
use super::prewarm::Pull;
use super::proof::ProofPod;
use super::repair::Errand;
use crate::endpoint::Watch;
use crate::routing::evidence::GroupPlace;
use crate::side::{Side, Sides};

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Have a side watched by this, in place of what it was watched by before; not at all if there is none. Its probes come as
    /// `Probed`.
    Watch {
        /// Which.
        side: Side,
        /// How.
        watch: Option<Watch>,
    },
    /// Probe a side at this time, or at once where it has passed, unless a probe is under way that began then or later.
    ProbeNow {
        /// Which.
        side: Side,
        /// The time.
        after: Timestamp,
    },
    /// Read what pods and workloads use; ends with `InUse` or `InUseFailed`.
    ReadInUse {
        /// What the answer repeats.
        request: RequestId,
        /// How old the reading may be: mirrors that ask within this time share one.
        oldest: Duration,
    },
    /// List both sides of a repository; `Listed` brings the first piece.
    List {
        /// The pass.
        pass: u64,
        /// The repository's name in status.
        repository: String,
    },
    /// Bring the next piece of a listing.
    ListMore {
        /// The pass.
        pass: u64,
        /// The repository's name in status.
        repository: String,
    },
    /// The pass is done with a repository.
    CloseListing {
        /// The pass.
        pass: u64,
        /// The repository's name in status.
        repository: String,
    },
    /// Read one reference; ends with `Resolved`.
    Resolve(Resolve),
    /// Look whether what a digest stands for can be pulled; ends with `Inspected`.
    Inspect(Inspect),
    /// Drop what a pass has under way: nothing of it is reported any more.
    AbandonPass(u64),
    /// Copy a tag; ends with `Copied`.
    Copy(Errand),
    /// Stop all copies that are under way.
    StopCopies,
    /// Ask the pull-through cache for a tag; ends with `Prewarmed`.
    Prewarm(Pull),
    /// Read the cloud's rule for the pull-through cache; ends with `Rule`.
    ReadRule {
        /// What the answer repeats.
        request: RequestId,
        /// The cache.
        side: Side,
    },
    /// Make a proof pod, and delete it when it has ended; ends with `Proved`.
    Prove(ProofPod),
    /// Delete all proof pods that are under way; nothing of them is reported any more.
    StopProofs,
    /// Write the status as [`super::Mirror::view`] has it now, unless it says the same; ends with `StatusWritten`.
    WriteStatus(RequestId),
    /// Publish these groups of the evidence to this replica's webhook, and store them; ends with `EvidenceStored`.
    WriteEvidence(Vec<GroupPlace>),
    /// A pass has ended: its counts go to the metrics.
    Measure,
    /// Publish an Event on the mirror.
    Announce(Announcement),
}

/// One reference to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolve {
    /// What the answer repeats.
    pub request: RequestId,
    /// The pass; none on demand.
    pub pass: Option<u64>,
    /// Which.
    pub name: ReferenceName,
    /// Which sides are asked, and how.
    pub ask: Sides<Option<Expected>>,
    /// What is known of the sides that are not asked, which the answer repeats.
    pub seen: Sides<Observed>,
}

/// Whether a reference is likely to be there: what is not expected is asked for by GET, because after a 404 of HEAD only GET can say
/// whether something is absent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// The side lists it, or nothing is known of it.
    Present,
    /// The side does not list it.
    Absent,
}

/// An Event to be. Those that follow from a change of status are not among them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Announcement {
    /// Missing tags were copied.
    TagsCopied(String),
    /// A missing tag could not be copied.
    CopyFailed(String),
    /// What a dry run would copy.
    CopyPlanned(String),
    /// Pods can't pull from the side that a flip sent them to.
    PullsFailAfterFlip(String),
}
