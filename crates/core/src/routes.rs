//! Where one image reference of one pod is sent: design.md section 2's table as code.
//!
//! A [`RouteTable`] is an immutable snapshot of all mirrors, built when something changes and read for every admission.
//! Reading it costs a hash of the registry's name for images of other registries, and one SHA-256 for images that may
//! have to move.

mod conflicts;
mod index;
mod judge;
mod pod;

#[cfg(test)]
pub(crate) mod fixtures;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::evidence::Evidence;
use crate::policy::{MirrorId, MirrorPolicy};
use crate::selector::Labels;
use crate::side::Side;
use index::Index;
pub(crate) use judge::judge;
pub use pod::{Located, Owner, PodFacts, PodRoutes};

/// The label on pods and namespaces that switches rewriting off.
pub const REWRITE_LABEL: &str = "catamaran.dev/rewrite";
/// The value of [`REWRITE_LABEL`] that does so.
pub const REWRITE_DISABLED: &str = "disabled";

/// One mirror as it stands.
#[derive(Clone, Debug)]
pub struct Route {
    /// What the user asked for.
    pub policy: Arc<MirrorPolicy>,
    /// The side that pods are sent to.
    pub active: Side,
    /// How often the active side has changed.
    pub epoch: u64,
    /// What was verified.
    pub evidence: Arc<Evidence>,
}

/// All mirrors, indexed by registry and repository.
#[derive(Clone, Debug, Default)]
pub struct RouteTable {
    routes: Vec<Route>,
    index: Index,
    namespaces: Arc<BTreeMap<String, Labels>>,
}

/// Two mirrors claim the same repositories.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Conflict {
    /// The mirror that does not get them.
    pub loser: MirrorId,
    /// The mirror that does: it names them more closely, or is older.
    pub winner: MirrorId,
    /// The first of them, as `registry/path`; `registry/path/*` for all repositories below a path.
    pub what: String,
}

/// What happens to one image reference.
#[derive(Clone, Debug)]
pub enum ImageRoute<'t> {
    /// It does not parse, or belongs to no mirror of this namespace.
    Untouched,
    /// It is on the active side already.
    OnActive {
        /// Its mirror.
        route: &'t Route,
    },
    /// It moves to the active side.
    Rewritten {
        /// Its mirror.
        route: &'t Route,
        /// The new reference, with tag and digest as they were.
        image: String,
        /// How sure that is.
        reason: RewriteReason,
    },
    /// It stays on the other side.
    Kept {
        /// Its mirror.
        route: &'t Route,
        /// Why.
        reason: KeepReason,
    },
}

/// How sure it is that a rewritten reference means the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RewriteReason {
    /// Verified, or content-addressed.
    Rewritten,
    /// The tag was not verified yet.
    Unverified,
}

/// Why a reference stays on the side that is not active.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeepReason {
    /// The active side is known to lack it.
    MissingOnActive,
    /// The sides hold different content under the tag.
    DigestMismatch,
    /// It was not verified, and the mirror swaps only what is proven equal.
    Unverified,
    /// The active side is a pull-through cache that does not hold it, and pulls by digest do not fill it.
    NotCached,
    /// Its name on the active side is no valid reference, or belongs to another mirror or repository.
    NoCounterpart,
    /// The pod is not to be rewritten.
    Excluded(Exclusion),
}

/// Why a whole pod is not rewritten.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Exclusion {
    /// A static pod: the kubelet runs it from a file, whatever the API says.
    StaticPod,
    /// The pod is labelled `catamaran.dev/rewrite: disabled`.
    PodLabel,
    /// Its namespace is.
    NamespaceLabel,
    /// Its owner is not a built-in workload controller and may compare images.
    ControllerOwned,
}

impl RouteTable {
    /// Builds a snapshot. `namespaces` holds the labels of namespaces by name. Suspended mirrors are left out.
    pub fn new(mut routes: Vec<Route>, namespaces: Arc<BTreeMap<String, Labels>>) -> RouteTable {
        routes.retain(|route| !route.policy.suspended);
        // From here on the order is the precedence among equals: the older mirror, then the name.
        routes.sort_by(|a, b| {
            let precedence = |route: &Route| (route.policy.created, route.policy.id.clone());
            precedence(a).cmp(&precedence(b))
        });
        let index = Index::new(&routes);
        RouteTable {
            routes,
            index,
            namespaces,
        }
    }

    /// A snapshot without mirrors: it touches nothing.
    pub fn empty() -> RouteTable {
        RouteTable::default()
    }

    /// All mirrors, the one that wins among equals first.
    pub fn routes(&self) -> &[Route] {
        &self.routes
    }

    /// The labels of namespaces, by name.
    pub fn namespaces(&self) -> &BTreeMap<String, Labels> {
        &self.namespaces
    }

    /// The mirror with this identity.
    pub fn route(&self, mirror: &MirrorId) -> Option<&Route> {
        self.routes.iter().find(|route| route.policy.id == *mirror)
    }

    /// Judges a pod as a whole; ask the result for its images.
    pub fn pod<'t>(&'t self, facts: &PodFacts<'_>) -> PodRoutes<'t> {
        PodRoutes::new(self, facts)
    }

    /// Which mirrors lose repositories to which others in a namespace that both select: for each name that is claimed
    /// twice, the loser and the first that it loses to. One entry for each pair, in the order of names.
    pub fn conflicts(&self) -> Vec<Conflict> {
        conflicts::conflicts(&self.index, &self.routes, &self.namespaces)
    }
}

impl<'t> ImageRoute<'t> {
    /// The mirror that the image belongs to, if any.
    pub fn route(&self) -> Option<&'t Route> {
        match self {
            ImageRoute::Untouched => None,
            ImageRoute::OnActive { route } | ImageRoute::Rewritten { route, .. } | ImageRoute::Kept { route, .. } => {
                Some(route)
            }
        }
    }
}

impl RewriteReason {
    /// The word in annotations and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            RewriteReason::Rewritten => "Rewritten",
            RewriteReason::Unverified => "Unverified",
        }
    }
}

impl KeepReason {
    /// The word in annotations and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            KeepReason::MissingOnActive => "MissingOnActive",
            KeepReason::DigestMismatch => "DigestMismatch",
            KeepReason::Unverified => "Unverified",
            KeepReason::NotCached => "NotCached",
            KeepReason::NoCounterpart => "NoCounterpart",
            KeepReason::Excluded(exclusion) => exclusion.as_str(),
        }
    }
}

impl Exclusion {
    /// The word in annotations and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Exclusion::StaticPod => "ExcludedStaticPod",
            Exclusion::PodLabel => "ExcludedByPodLabel",
            Exclusion::NamespaceLabel => "ExcludedByNamespaceLabel",
            Exclusion::ControllerOwned => "ExcludedControllerOwned",
        }
    }
}
