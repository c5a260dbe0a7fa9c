//! What pods and the templates of workloads use of each mirror.
//!
//! Only what a mirror could move counts: images of namespaces that it does not select, of excluded pods, of owners that
//! compare images, and images that it leaves alone are none of its business, and must not hold up its failback.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use super::event::ReferenceName;
use super::proof::usage::{Place, ProofCount, ProofUse, note_node};
use crate::pod::{PodFacts, image_reference};
use crate::policy::{MirrorId, ProofMode};
use crate::reference::Reference;
use crate::rescue::is_movable;
use crate::routing::{ImageRoute, Located, PodRoutes, RouteTable};
use crate::side::{Side, Sides};

/// The most references that one namespace can have counted, so that its pods can't crowd out others.
const MOST_OF_A_NAMESPACE: usize = 5_000;

/// The most references that are counted over all mirrors.
const MOST: usize = 100_000;

/// What pods and templates use of one mirror.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InUse {
    /// By repository (its name in status) and tag or digest. An image with both is under both: the digest is what is asked
    /// for.
    pub references: BTreeMap<String, BTreeMap<String, Use>>,
    /// Pods with at least one image on the fallback.
    pub pods_on_fallback: u32,
    /// All pods of the cluster run on one node.
    pub is_single_node: bool,
    /// Whether the templates of workloads are among the references.
    pub workloads: WorkloadsRead,
    /// References that were left out because there are too many.
    pub left_out: u64,
    /// What proof pods pull, and where; empty unless the mirror has some.
    pub proof: Arc<ProofUse>,
}

impl InUse {
    /// Every reference, by repository and name.
    pub fn each(&self) -> impl Iterator<Item = (&str, &str, Use)> {
        self.references.iter().flat_map(|(repository, references)| {
            references
                .iter()
                .map(move |(reference, usage)| (repository.as_str(), reference.as_str(), *usage))
        })
    }

    /// Every reference from this one on, or from the first.
    pub(super) fn starting_at(&self, from: Option<&ReferenceName>) -> impl Iterator<Item = (&str, &str)> {
        let repositories = from.map_or(Bound::Unbounded, |from| Bound::Included(from.repository.as_str()));
        let repositories = self.references.range::<str, _>((repositories, Bound::Unbounded));
        repositories.flat_map(move |(repository, references)| {
            let from = from.filter(|from| from.repository == *repository);
            let from = from.map_or(Bound::Unbounded, |from| Bound::Included(from.reference.as_str()));
            let references = references.range::<str, _>((from, Bound::Unbounded));
            references.map(move |(reference, _)| (repository.as_str(), reference.as_str()))
        })
    }

    /// Whether a reference is in use.
    pub fn contains(&self, repository: &str, reference: &str) -> bool {
        self.references
            .get(repository)
            .is_some_and(|references| references.contains_key(reference))
    }
}

/// Who uses a reference, and where it is needed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Use {
    /// Some container or image volume with it has started: it exists.
    pub started: bool,
    /// The template of a workload names it.
    pub template: bool,
    /// For each side: whether new pods will ask that side for it while that side is active. So it is where the author named
    /// that side, and where routing moves what the author wrote.
    pub needed_on: Sides<bool>,
}

/// Whether the templates of workloads were read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WorkloadsRead {
    /// They were.
    Read,
    /// The operator has no right to.
    Forbidden,
    /// It was not asked to.
    #[default]
    Disabled,
}

/// The images of one pod, or of the template that pods are made of.
#[derive(Clone, Debug, Default)]
pub struct UsedImages<'a> {
    /// What decides whether a mirror may rewrite the pod; of a template that of the pods made of it.
    pub facts: PodFacts<'a>,
    /// It is a template.
    pub is_template: bool,
    /// Its service account; empty: the default one.
    pub service_account: &'a str,
    /// The pull secrets that it names.
    pub pull_secrets: Vec<&'a str>,
    /// The images of all containers and image volumes.
    pub images: Vec<UsedImage<'a>>,
}

/// One image of a pod or template.
#[derive(Clone, Copy, Debug, Default)]
pub struct UsedImage<'a> {
    /// The reference in its spec.
    pub image: &'a str,
    /// The reference before it was rewritten, as annotations have it. Anyone who may change the pod can write those, so it
    /// is believed only if routing leads from it to `image`.
    pub original: Option<&'a str>,
    /// Its pull policy is `Never`.
    pub pull_policy_never: bool,
    /// The kubelet got as far as to start something with it.
    pub started: bool,
}

/// Counts what is used, for all mirrors of a route table together.
#[derive(Debug)]
pub struct UsageCount {
    /// The table as it would be with either side active.
    tables: Sides<RouteTable>,
    found: BTreeMap<MirrorId, InUse>,
    /// How many references each namespace has brought.
    brought: BTreeMap<String, usize>,
    references: usize,
    /// The nodes that pods run on.
    nodes: BTreeSet<String>,
    /// Namespaces where proof pods may be made, and what they would pull for each mirror that has some.
    provable: Arc<BTreeSet<String>>,
    proofs: BTreeMap<MirrorId, ProofCount>,
}

impl UsageCount {
    /// Counts for the mirrors of this table.
    pub fn new(table: &RouteTable) -> UsageCount {
        let ids = table.routes().iter().map(|route| route.policy.id.clone());
        UsageCount {
            tables: Sides::from_fn(|side| table.with_active(side)),
            found: ids.map(|id| (id, InUse::default())).collect(),
            brought: BTreeMap::new(),
            references: 0,
            nodes: BTreeSet::new(),
            provable: Arc::default(),
            proofs: BTreeMap::new(),
        }
    }

    /// Counts also what proof pods would pull, which may be made in these namespaces.
    #[must_use]
    pub fn proving_in(self, provable: Arc<BTreeSet<String>>) -> UsageCount {
        let routes = self.tables.primary.routes().iter();
        let proving = routes.filter(|route| route.policy.proof.mode == ProofMode::Pull);
        let proofs = proving
            .map(|route| (route.policy.id.clone(), ProofCount::default()))
            .collect();
        UsageCount {
            provable,
            proofs,
            ..self
        }
    }

    /// Notes that a pod runs on this node, whatever it uses.
    pub fn note_node(&mut self, node: &str) {
        note_node(&mut self.nodes, node);
    }

    /// Adds the images of one pod or template.
    pub fn add(&mut self, used: &UsedImages<'_>) {
        let mut counted = Vec::new();
        {
            let pods = self.tables.as_ref().map(|table| table.pod(&used.facts));
            let images = used.images.iter();
            counted.extend(images.filter_map(|image| judge(&pods, image, used.is_template)));
        }
        let mut on_fallback: Vec<MirrorId> = Vec::new();
        for counted in counted {
            if counted.on_fallback && !used.is_template && !on_fallback.contains(&counted.mirror) {
                on_fallback.push(counted.mirror.clone());
            }
            self.count_proof(used, &counted);
            self.count(used.facts.namespace, counted);
        }
        for mirror in on_fallback {
            if let Some(found) = self.found.get_mut(&mirror) {
                found.pods_on_fallback += 1;
            }
        }
    }

    /// What was found of each mirror of the table.
    pub fn finish(mut self, workloads: WorkloadsRead) -> BTreeMap<MirrorId, InUse> {
        let nodes = Arc::new(self.nodes);
        for (mirror, found) in &mut self.found {
            found.workloads = workloads;
            found.is_single_node = nodes.len() == 1;
            if let Some(proof) = self.proofs.remove(mirror) {
                found.proof = Arc::new(proof.finish(Arc::clone(&nodes)));
            }
        }
        self.found
    }

    fn count_proof(&mut self, used: &UsedImages<'_>, counted: &Counted) {
        let Some(proof) = self.proofs.get_mut(&counted.mirror) else {
            return;
        };
        let namespace = used.facts.namespace;
        if !self.provable.contains(namespace) {
            return proof.add_unlisted(namespace);
        }
        let Some(image) = &counted.proof_image else { return };
        // Those of the mirror are added to a proof pod when it is admitted, like to any pod.
        let added = |name: &&&str| !counted.added_secrets.iter().any(|added| added == *name);
        let service_account = if used.service_account.is_empty() {
            "default"
        } else {
            used.service_account
        };
        let place = Place {
            namespace: namespace.to_owned(),
            service_account: service_account.to_owned(),
            pull_secrets: used
                .pull_secrets
                .iter()
                .filter(added)
                .map(|name| (*name).to_owned())
                .collect(),
        };
        proof.add(&place, used.is_template, &counted.repository, image);
    }

    fn count(&mut self, namespace: &str, counted: Counted) {
        let Counted {
            mirror,
            repository,
            digest,
            tag,
            used,
            ..
        } = counted;
        let beside_digest = Use {
            needed_on: Sides::default(),
            ..used
        };
        let tag = tag.map(|tag| (tag, if digest.is_some() { beside_digest } else { used }));
        for (name, used) in digest.map(|digest| (digest, used)).into_iter().chain(tag) {
            self.count_reference(namespace, &mirror, &repository, name, used);
        }
    }

    fn count_reference(&mut self, namespace: &str, mirror: &MirrorId, repository: &str, name: String, used: Use) {
        let Some(found) = self.found.get_mut(mirror) else {
            return;
        };
        if let Some(there) = found
            .references
            .get_mut(repository)
            .and_then(|names| names.get_mut(&name))
        {
            there.add(used);
            return;
        }
        let brought = self.brought.entry(namespace.to_owned()).or_default();
        if self.references >= MOST || *brought >= MOST_OF_A_NAMESPACE {
            found.left_out += 1;
            return;
        }
        *brought += 1;
        self.references += 1;
        found
            .references
            .entry(repository.to_owned())
            .or_default()
            .insert(name, used);
    }
}

impl Use {
    fn add(&mut self, other: Use) {
        self.started |= other.started;
        self.template |= other.template;
        self.needed_on = Sides::from_fn(|side| self.needed_on[side] || other.needed_on[side]);
    }
}

/// An image that counts.
struct Counted {
    mirror: MirrorId,
    repository: String,
    digest: Option<String>,
    tag: Option<String>,
    on_fallback: bool,
    used: Use,
    /// Its name on the fallback; none where nothing is proven.
    proof_image: Option<String>,
    /// The pull secrets that admission adds.
    added_secrets: Vec<String>,
}

/// What one image adds to what its mirror has in use; none where no mirror would move it. `pods` are the pod's routes with
/// either side active.
fn judge(pods: &Sides<PodRoutes<'_>>, used: &UsedImage<'_>, is_template: bool) -> Option<Counted> {
    let reference = image_reference(used.image)?;
    let located = pods.primary.locate(&reference)?;
    let original = used.original.and_then(image_reference);
    let original_side = original.as_ref().and_then(|original| {
        let there = pods.primary.locate(original)?;
        leads(original, &there, &reference, &located).then_some(there.side)
    });
    let (written, written_for) = match (used.original, original_side) {
        (Some(original), Some(side)) => (original, side),
        _ => (used.image, located.side),
    };
    let routes = pods.as_ref().map(|pod| pod.image(written, used.pull_policy_never));
    let is_movable = |side: Side| is_movable(&pods[side], &routes[side], used.pull_policy_never);
    if !Side::ALL.into_iter().all(is_movable) {
        return None;
    }
    let proves = located.route.policy.proof.mode == ProofMode::Pull;
    let sides = &located.route.policy.sides;
    let added = Side::ALL
        .into_iter()
        .filter(|_| proves)
        .flat_map(|side| &sides[side].image_pull_secrets);
    Some(Counted {
        proof_image: proves
            .then(|| pods.primary.counterpart(&reference, &located, Side::Fallback))
            .flatten(),
        added_secrets: added.cloned().collect(),
        mirror: located.route.policy.id.clone(),
        repository: located.repository.to_owned(),
        digest: reference.digest().map(str::to_owned),
        tag: reference.effective_tag().map(str::to_owned),
        on_fallback: located.side == Side::Fallback,
        used: Use {
            started: used.started,
            template: is_template,
            needed_on: Sides::from_fn(|side| side == written_for || is_moved(&routes[side])),
        },
    })
}

/// Whether routing leads from one reference to the other: they are the same tag and digest of one repository of one mirror.
fn leads(from: &Reference<'_>, there: &Located<'_, '_>, to: &Reference<'_>, here: &Located<'_, '_>) -> bool {
    there.route.policy.id == here.route.policy.id
        && there.repository == here.repository
        && from.digest() == to.digest()
        && from.effective_tag() == to.effective_tag()
}

fn is_moved(route: &ImageRoute<'_>) -> bool {
    matches!(route, ImageRoute::Rewritten { .. } | ImageRoute::Audited { .. })
}
