//! The input of a mirror: everything that can change what is known of it, or what is to be done.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::contents::Inspected;
use super::failover::Standing;
use super::in_use::InUse;
use super::parity::{Canary, Observed};
use super::prewarm::{Placement, Pull};
use super::proof::ProofRead;
use super::proof::reading::Outcome;
use super::pulls::PodPulls;
use super::repair::Errand;
use crate::digest::Digest;
use crate::endpoint::{Reading, Vantages};
use crate::policy::MirrorPolicy;
use crate::routing::Conflict;
use crate::routing::evidence::{Evidence, MappingId};
use crate::side::{Side, Sides};

/// One piece of news about a mirror.
#[derive(Clone, Debug)]
pub enum Event {
    /// The spec, as it was parsed. The same generation again changes nothing.
    Spec {
        /// What the user asks for.
        policy: Arc<MirrorPolicy>,
        /// `metadata.generation`.
        generation: i64,
    },
    /// A spec that makes no sense: the last valid one stays in force.
    InvalidSpec {
        /// `metadata.generation`.
        generation: i64,
        /// What is wrong, and with which field.
        problem: String,
    },
    /// The status that the API server holds, read back by the watch or as the answer to a write.
    Status(Box<StatusRead>),
    /// What an earlier leader published as evidence, once when this replica begins to lead.
    Prior(Evidence),
    /// Whether this replica leads.
    Leading(bool),
    /// A probe of a side ended.
    Probed(Box<Probed>),
    /// A probe of a side takes long, or another replica has seen one fail.
    Suspected(Side),
    /// What other replicas see of a side.
    Vantages(Side, Arc<Vantages>),
    /// A piece of the listings of one repository.
    Listed(Box<Listed>),
    /// One reference was read.
    Resolved(Box<Resolved>),
    /// The content of a digest was inspected.
    Inspected(Box<Inspected>),
    /// What pods and workloads use.
    InUse {
        /// The request that this answers.
        request: RequestId,
        /// What was read.
        in_use: Arc<InUse>,
    },
    /// That could not be read.
    InUseFailed(RequestId),
    /// References that somebody asks about: waiting pods, registries' notifications.
    Wanted {
        /// Which.
        references: Vec<ReferenceName>,
        /// A kubelet was told that one of them does not exist: read again, however lately it was read.
        urgent: bool,
    },
    /// What the status of waiting pods says of their pulls: each pod once whenever that changes.
    Pulls(Vec<PodPulls>),
    /// A copy ended.
    Copied(Box<CopyEnded>),
    /// A tag was asked for through the pull-through cache.
    Prewarmed {
        /// Which.
        pull: Box<Pull>,
        /// What came of it.
        outcome: PrewarmOutcome,
    },
    /// The cloud's rule for the side that is a pull-through cache.
    Rule {
        /// The request that this answers.
        request: RequestId,
        /// What was read.
        rule: Box<CacheRule>,
    },
    /// A write of the status that was asked for begins only now: [`super::Mirror::view`] has what it is to say.
    WriteBegins(RequestId),
    /// A write of the status ended. What was written comes back as [`Event::Status`] before this.
    StatusWritten {
        /// The request that this answers.
        request: RequestId,
        /// Whether the status says now what it should.
        result: Result<(), WriteProblem>,
    },
    /// The flip that a write of the status was to carry out is stored apart from it, and holds: [`Event::Status`] came before this
    /// with what stands now. The status itself is still to say so.
    FlipStored(RequestId),
    /// Whether the evidence could be stored.
    EvidenceStored(Result<(), String>),
    /// So many waiting pods were re-pointed.
    Rescued(u64),
    /// A proof pod ended.
    Proved(Box<ProofEnded>),
    /// Somebody asks for everything to be verified and proven now. A word that was asked for before changes nothing.
    Reconcile(String),
    /// Which other mirrors claim repositories of this one and win.
    Conflicts(Vec<Conflict>),
    /// Time has passed: [`super::Mirror::wake_at`].
    Time,
}

// Every mirror has places for some dozens of them, also where none waits: what is larger is boxed.
const _: () = assert!(size_of::<Event>() <= 48, "a large variant of Event is to be boxed");

/// What an effect and its answer have in common. An answer to anything but what is under way changes nothing: it came twice, too
/// late, or was asked for under another spec.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(u64);

/// Numbers requests.
#[derive(Clone, Debug, Default)]
pub(super) struct Requests(u64);

impl Requests {
    /// An id that no earlier request had.
    pub(super) fn next(&mut self) -> RequestId {
        self.0 += 1;
        RequestId(self.0)
    }
}

/// A tag or digest of a repository, by the repository's name in status.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReferenceName {
    /// The repository's name in status.
    pub repository: String,
    /// A tag, or a digest with its algorithm.
    pub reference: String,
}

/// What a mirror's status holds that decisions go on from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StatusRead {
    /// Which side is active since when; none in a status that was never written or that was wiped.
    pub standing: Option<Standing>,
    /// Mappings of which a side has served a manifest.
    pub observed: BTreeSet<MappingId>,
    /// What probes ask for.
    pub canary: Option<Canary>,
    /// Pods re-pointed since the mirror was created.
    pub rescued: u64,
    /// What was proven of the fallback.
    pub proof: Option<ProofRead>,
    /// The request to reconcile that was followed last.
    pub reconciled: Option<String>,
}

/// How a proof pod ended.
#[derive(Clone, Debug)]
pub struct ProofEnded {
    /// The request that this answers.
    pub request: RequestId,
    /// What came of it.
    pub outcome: Outcome,
}

/// What a probe found of a side.
#[derive(Clone, Debug)]
pub struct Probed {
    /// The side.
    pub side: Side,
    /// The generation of the spec that the side was watched by.
    pub generation: i64,
    /// What was found.
    pub reading: Arc<Reading>,
}

/// Tags in one piece of a listing at most: few enough that taking one in keeps nothing else waiting.
pub const LARGEST_PIECE: usize = 64;

/// A piece of the listings of one repository, in the order of names. The pieces of a repository cover all names together: what
/// lies between the last name of one piece and the last of the next and is not in it, neither side lists.
#[derive(Clone, Debug)]
pub struct Listed {
    /// The pass that asked.
    pub pass: u64,
    /// The repository's name in status.
    pub repository: String,
    /// The last name of the piece before; none in the first piece.
    pub after: Option<String>,
    /// Why a side could not be listed. Nothing is learnt of it then.
    pub failures: Sides<Option<ReadFailure>>,
    /// How many names the other side lists and this one does not, over all pieces.
    pub unlisted: Sides<usize>,
    /// The tags.
    pub tags: Vec<ListedTag>,
    /// Whether this is the last piece.
    pub last: bool,
}

/// One tag as the two sides list it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedTag {
    /// The tag.
    pub name: String,
    /// What each side says.
    pub sides: Sides<Listing>,
}

/// What a side's listing says of a tag.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Listing {
    /// Nothing: the side could not be listed.
    #[default]
    Unread,
    /// It does not name it.
    Unlisted,
    /// It names it, with a digest if it tells digests.
    Named(Option<Digest>),
    /// It names it and does not give it out: locked or in quarantine.
    Withheld,
}

/// Why a side could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadFailure {
    /// Whether the registry limits our requests.
    pub throttled: bool,
    /// The condition reason of the class of the failure: a closed word.
    pub reason: &'static str,
    /// The failing request and its cause: for logs and Events, never for status.
    pub message: String,
}

/// What reading one reference brought.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// The request that this answers.
    pub request: RequestId,
    /// Which.
    pub name: ReferenceName,
    /// What each side holds, what the listing said included.
    pub seen: Sides<Observed>,
    /// Sides that served the manifest itself.
    pub served: Sides<bool>,
    /// Why a side could not be read.
    pub failures: Sides<Option<ReadFailure>>,
}

/// How a copy ended.
#[derive(Clone, Debug)]
pub struct CopyEnded {
    /// What was to be copied.
    pub errand: Errand,
    /// Whether it is there now.
    pub result: Result<CopyDone, CopyFailure>,
}

/// A copy that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopyDone {
    /// Whether it was written now; else it was there already.
    pub written: bool,
    /// Bytes of blobs that were sent.
    pub bytes: u64,
}

/// A copy that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyFailure {
    /// A closed word.
    pub reason: &'static str,
    /// The failing request and its cause.
    pub message: String,
    /// Whether it says more about a registry than about the tag.
    pub of_registry: bool,
    /// Whether the tag is not what it was thought to be, and is read again.
    pub read_again: bool,
}

/// What came of asking a pull-through cache for a tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PrewarmOutcome {
    /// It was served, so it is there now.
    Pulled,
    /// The upstream has no such tag.
    Absent,
    /// The registry limits our requests.
    Throttled,
    /// Anything else.
    Failed,
}

/// The cloud's rule for a side that is a pull-through cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CacheRule {
    /// The rule, and how the mirror's paths fit it.
    Read {
        /// Below which path the other side is cached; none where there is no rule.
        prefix: Option<String>,
        /// Whether the mirror's paths fit.
        placement: Placement,
    },
    /// It could not be read.
    Unknown {
        /// Why.
        message: String,
    },
}

/// Why the status was not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriteProblem {
    /// The object has changed since it was read; it is being read anew.
    pub conflict: bool,
}
