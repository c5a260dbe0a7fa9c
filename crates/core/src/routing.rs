//! Where one image reference of one pod is sent.
//!
//! A [`RouteTable`] is an immutable snapshot of all mirrors, built when something changes and read for every admission.
//! Reading it costs a hash of the registry's name for images of other registries, and one SHA-256 for images that may
//! have to move.

mod conflicts;
pub mod evidence;
pub mod explain;
mod index;
pub mod mapping;
mod pod;
pub mod rules;

#[cfg(test)]
#[path = "../tests/fixtures/routes.rs"]
pub(crate) mod fixtures;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};

use crate::pod::{Exclusion, PodFacts, is_excluded_namespace};
use crate::policy::{ActiveSide, MirrorId, MirrorPolicy, RewriteMode};
use crate::routing::evidence::{Evidence, MappingId};
use crate::selector::Labels;
use crate::side::{Side, Sides};
use index::Index;
pub use pod::{Located, PodRoutes};

/// One mirror as it stands.
#[derive(Clone, Debug)]
pub struct Route {
    /// What the user asked for.
    pub policy: Arc<MirrorPolicy>,
    /// The side that pods are sent to.
    pub active: Side,
    /// How often the active side has changed.
    pub epoch: u64,
    /// What is known of tags and digests on both sides.
    pub evidence: Arc<Evidence>,
    /// The mappings under which a side has served a manifest at some time: nothing of another is moved.
    pub observed: Arc<BTreeSet<MappingId>>,
    /// Which sides are unavailable.
    pub unavailable: Sides<bool>,
}

/// All mirrors, indexed by registry and repository.
#[derive(Clone, Debug, Default)]
pub struct RouteTable {
    routes: Vec<Route>,
    index: Index,
    namespaces: Arc<BTreeMap<String, Labels>>,
    excluded: Arc<BTreeSet<String>>,
    /// Shared by all tables of the same specs and labels.
    conflicts: Arc<OnceLock<Arc<[Conflict]>>>,
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
    /// It would move, but its mirror only records what it would do.
    Audited {
        /// Its mirror.
        route: &'t Route,
        /// The reference that it would become.
        image: String,
        /// How sure that is.
        reason: RewriteReason,
    },
    /// It stays as it is.
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
    /// It was not verified yet.
    Unverified,
    /// The active side is known to lack it, and the other side has it.
    OnlyOnOther,
    /// The sides hold different content under the tag, and the one that it names is unavailable.
    Mismatched,
}

/// Why a reference stays as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeepReason {
    /// No side of its mirror has served anything under this mapping yet.
    NotObservedYet,
    /// The labels of its namespace are not known yet, so that it may have opted out.
    NamespaceUnknown,
    /// Its `imagePullPolicy` is `Never`: it is on the node under this name or not at all.
    PullPolicyNever,
    /// The mirror's `tags` don't select it.
    NotSelected,
    /// One of the mirror's `rewrite.excludeImages` matches it.
    ExcludedImage,
    /// The active side is known to lack it.
    MissingOnActive,
    /// A manifest, a config or a layer that it refers to is missing on the active side.
    BrokenOnActive,
    /// What the active side serves for it does not have the digest that it was asked for by.
    UntrustedOnActive,
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

impl RouteTable {
    /// Builds a snapshot. `namespaces` holds the labels of namespaces by name, `excluded` the names of namespaces whose pods
    /// are never rewritten; `kube-system` always is. Suspended mirrors are left out.
    pub fn new(
        routes: Vec<Route>,
        namespaces: Arc<BTreeMap<String, Labels>>,
        excluded: Arc<BTreeSet<String>>,
    ) -> RouteTable {
        RouteTable::default().next(routes, namespaces, excluded)
    }

    /// The snapshot after this one. Most changes are of what mirrors stand at and of evidence: what follows from specs and
    /// labels alone is found once, and shared for as long as these are the very same.
    #[must_use]
    pub fn next(
        &self,
        mut routes: Vec<Route>,
        namespaces: Arc<BTreeMap<String, Labels>>,
        excluded: Arc<BTreeSet<String>>,
    ) -> RouteTable {
        routes.retain(|route| !route.policy.suspended);
        // From here on the order is the precedence among equals: the older mirror, then the name.
        routes.sort_by(|a, b| {
            let precedence = |route: &Route| route.policy.created;
            let by_age = precedence(a).cmp(&precedence(b));
            by_age.then_with(|| a.policy.id.cmp(&b.policy.id))
        });
        let has_specs = self.has_specs_of(&routes);
        let has_labels = Arc::ptr_eq(&self.namespaces, &namespaces);
        RouteTable {
            index: if has_specs {
                self.index.clone()
            } else {
                Index::new(&routes)
            },
            conflicts: if has_specs && has_labels {
                Arc::clone(&self.conflicts)
            } else {
                Arc::default()
            },
            routes,
            namespaces,
            excluded,
        }
    }

    /// Whether these are routes of the very same specs, in the same order.
    fn has_specs_of(&self, routes: &[Route]) -> bool {
        let is_same = |(a, b): (&Route, &Route)| Arc::ptr_eq(&a.policy, &b.policy);
        self.routes.len() == routes.len() && self.routes.iter().zip(routes).all(is_same)
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

    /// Whether pods of this namespace are never rewritten.
    pub fn excludes_namespace(&self, namespace: &str) -> bool {
        is_excluded_namespace(namespace, &self.excluded)
    }

    /// The mirror with this identity.
    pub fn route(&self, mirror: &MirrorId) -> Option<&Route> {
        self.routes.iter().find(|route| route.policy.id == *mirror)
    }

    /// Judges a pod as a whole; ask the result for its images.
    pub fn pod<'t>(&'t self, facts: &PodFacts<'t>) -> PodRoutes<'t> {
        PodRoutes::new(self, facts)
    }

    /// The same snapshot as it would be with this side of every mirror active, and both available.
    #[must_use]
    pub fn with_active(&self, side: Side) -> RouteTable {
        let mut table = self.clone();
        for route in &mut table.routes {
            route.active = side;
            route.unavailable = Sides::default();
        }
        table
    }

    /// The same snapshot as it would be after this side of these mirrors became unavailable and those that may had flipped: a
    /// side that a person has chosen stays active.
    #[must_use]
    pub fn with_outage(&self, side: Side, concerns: impl Fn(&MirrorPolicy) -> bool) -> RouteTable {
        let mut table = self.clone();
        for route in table.routes.iter_mut().filter(|route| concerns(&route.policy)) {
            route.unavailable = Sides::from_fn(|it| it == side);
            if route.policy.failover.active == ActiveSide::Auto {
                route.active = side.other();
            }
        }
        table
    }

    /// Which mirrors lose repositories to which others in a namespace that both select: for each name that is claimed
    /// twice, the loser and the first that it loses to. One entry for each pair, in the order of names. Found at the first
    /// call; a table that [`RouteTable::next`] makes of the same specs and labels has the very same list.
    pub fn conflicts(&self) -> &Arc<[Conflict]> {
        let find = || conflicts::conflicts(&self.index, &self.routes, &self.namespaces).into();
        self.conflicts.get_or_init(find)
    }
}

impl<'t> ImageRoute<'t> {
    /// The mirror that the image belongs to, if any.
    pub fn route(&self) -> Option<&'t Route> {
        match self {
            ImageRoute::Untouched => None,
            ImageRoute::OnActive { route }
            | ImageRoute::Rewritten { route, .. }
            | ImageRoute::Audited { route, .. }
            | ImageRoute::Kept { route, .. } => Some(route),
        }
    }

    /// The mirror whose pull secrets the pod gets for this image.
    fn brings_secrets_of(&self) -> Option<&'t Route> {
        let never_moves = match self {
            ImageRoute::Kept { reason, .. } => matches!(
                reason,
                KeepReason::Excluded(_) | KeepReason::ExcludedImage | KeepReason::PullPolicyNever
            ),
            _ => false,
        };
        let audits = |route: &&Route| route.policy.rewrite.mode == RewriteMode::Audit;
        self.route().filter(|route| !never_moves && !audits(route))
    }
}

impl RewriteReason {
    /// The word in annotations and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            RewriteReason::Rewritten => "Rewritten",
            RewriteReason::Unverified => "Unverified",
            RewriteReason::OnlyOnOther => "OnlyOnOther",
            RewriteReason::Mismatched => "Mismatched",
        }
    }

    /// The word in annotations of a mirror that only records what it would do.
    pub fn as_audited(self) -> &'static str {
        match self {
            RewriteReason::Rewritten => "Audit:Rewritten",
            RewriteReason::Unverified => "Audit:Unverified",
            RewriteReason::OnlyOnOther => "Audit:OnlyOnOther",
            RewriteReason::Mismatched => "Audit:Mismatched",
        }
    }
}

impl KeepReason {
    /// Whether a pod stays byte for byte as it is for this reason: somebody asked for that, or may have.
    pub fn is_opt_out(self) -> bool {
        match self {
            KeepReason::Excluded(exclusion) => exclusion != Exclusion::ControllerOwned,
            KeepReason::NamespaceUnknown => true,
            _ => false,
        }
    }

    /// The word in annotations and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            KeepReason::NotObservedYet => "NotObservedYet",
            KeepReason::NamespaceUnknown => "NamespaceUnknown",
            KeepReason::PullPolicyNever => "PullPolicyNever",
            KeepReason::NotSelected => "NotSelected",
            KeepReason::ExcludedImage => "ExcludedImage",
            KeepReason::MissingOnActive => "MissingOnActive",
            KeepReason::BrokenOnActive => "BrokenOnActive",
            KeepReason::UntrustedOnActive => "UntrustedOnActive",
            KeepReason::DigestMismatch => "DigestMismatch",
            KeepReason::Unverified => "Unverified",
            KeepReason::NotCached => "NotCached",
            KeepReason::NoCounterpart => "NoCounterpart",
            KeepReason::Excluded(exclusion) => exclusion.as_str(),
        }
    }
}
