//! The routes of one pod.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::{HashMap, HashSet};

use super::evidence::{Knowledge, Presence};
use super::mapping::selects_tag;
use super::rules::{self, Answer, Question};
use super::{ImageRoute, KeepReason, Route, RouteTable};
use crate::pod::{Exclusion, NamespaceFacts, PodFacts, eligibility, image_reference, is_excluded_namespace};
use crate::policy::{RepositoryRule, RewriteMode};
use crate::reference::Reference;
use crate::selector::Labels;
use crate::side::Side;

/// The routes of one pod: everything that is the same for all of its images is settled.
#[derive(Clone, Debug)]
pub struct PodRoutes<'t> {
    table: &'t RouteTable,
    facts: PodFacts<'t>,
    /// The labels of its namespace.
    labels: Cow<'t, Labels>,
    labels_known: bool,
    excluded: bool,
    /// What each mirror that was asked for says of the pod, by its place in memory: a pod may have hundreds of images and of
    /// labels, and each is read once.
    exclusions: RefCell<HashMap<usize, Option<Exclusion>>>,
}

/// Where a reference points, in terms of the mirror that owns it.
#[derive(Clone, Copy, Debug)]
pub struct Located<'t, 'r> {
    /// The mirror.
    pub route: &'t Route,
    /// The side that the reference names.
    pub side: Side,
    /// The repository's name in status and evidence.
    pub repository: &'r str,
    /// The rule that lists it.
    pub rule: Option<&'t RepositoryRule>,
}

impl<'t> PodRoutes<'t> {
    pub(super) fn new(table: &'t RouteTable, facts: &PodFacts<'t>) -> PodRoutes<'t> {
        let known = table.namespaces.get(facts.namespace);
        let labels = known.map_or_else(|| Cow::Owned(labels_of_unknown(facts.namespace)), Cow::Borrowed);
        PodRoutes {
            table,
            facts: *facts,
            labels,
            labels_known: known.is_some() || table.namespaces.is_empty(),
            excluded: is_excluded_namespace(facts.namespace, &table.excluded),
            exclusions: RefCell::default(),
        }
    }

    /// Decides about one image reference of a container or volume; `never`: its pull policy is `Never`.
    pub fn image(&self, image: &str, never: bool) -> ImageRoute<'t> {
        if self.table.routes.is_empty() {
            return ImageRoute::Untouched;
        }
        let Some(reference) = image_reference(image) else {
            return ImageRoute::Untouched;
        };
        let Some(located) = self.locate(&reference) else {
            return ImageRoute::Untouched;
        };
        let question = self.question(image, never, &reference, &located);
        self.outcome(&reference, &located, rules::decide(&question).answer)
    }

    /// All that the rules go by.
    pub(super) fn question(
        &self,
        image: &str,
        never: bool,
        reference: &Reference<'_>,
        located: &Located<'t, '_>,
    ) -> Question<'t> {
        let route = located.route;
        let excluded_pod = self.exclusion_from(route).map(KeepReason::Excluded);
        let unknown = || (!self.labels_known).then_some(KeepReason::NamespaceUnknown);
        let excluded_image = || {
            route
                .policy
                .rewrite
                .excludes_image(image)
                .then_some(KeepReason::ExcludedImage)
        };
        Question {
            never,
            excluded: excluded_pod.or_else(unknown).or_else(excluded_image),
            ..located.question(reference)
        }
    }

    /// What follows from the answer of a rule.
    pub(super) fn outcome(
        &self,
        reference: &Reference<'_>,
        located: &Located<'t, '_>,
        answer: Answer,
    ) -> ImageRoute<'t> {
        let route = located.route;
        let (to, reason) = match answer {
            Answer::OnActive => return ImageRoute::OnActive { route },
            Answer::Stays(reason) => return ImageRoute::Kept { route, reason },
            Answer::Goes(to, reason) => (to, reason),
        };
        match self.counterpart(reference, located, to) {
            Some(image) => match route.policy.rewrite.mode {
                RewriteMode::Rewrite => ImageRoute::Rewritten { route, image, reason },
                RewriteMode::Audit => ImageRoute::Audited { route, image, reason },
            },
            None => ImageRoute::Kept {
                route,
                reason: KeepReason::NoCounterpart,
            },
        }
    }

    /// Finds the mirror, side and repository that a reference names, among the mirrors that select this namespace:
    /// a listed repository beats a prefix, the longest prefix wins, then the older mirror, then the primary.
    pub fn locate<'r>(&self, reference: &'r Reference<'_>) -> Option<Located<'t, 'r>>
    where
        't: 'r,
    {
        self.table.index.find(&self.table.routes, reference, &self.labels)
    }

    /// The names of the pull secrets of both sides of every mirror that these images belong to, the primary's first,
    /// without duplicates. Pods get them even while nothing is rewritten, because they can't be added later. What never
    /// moves, and mirrors that only record what they would do, bring none.
    pub fn pull_secrets<'i>(&self, images: impl IntoIterator<Item = &'i ImageRoute<'t>>) -> Vec<&'t str>
    where
        't: 'i,
    {
        let mut names = Vec::new();
        let mut seen = HashSet::new();
        for route in images.into_iter().filter_map(ImageRoute::brings_secrets_of) {
            for name in Side::ALL
                .iter()
                .flat_map(|side| &route.policy.sides[*side].image_pull_secrets)
            {
                if seen.insert(name.as_str()) {
                    names.push(name.as_str());
                }
            }
        }
        names
    }

    /// Why this mirror does not rewrite this pod.
    pub(crate) fn exclusion_from(&self, route: &Route) -> Option<Exclusion> {
        let mut known = self.exclusions.borrow_mut();
        *known
            .entry(std::ptr::from_ref(route).addr())
            .or_insert_with(|| eligibility(&self.facts, &self.namespace(), &route.policy.rewrite))
    }

    fn namespace(&self) -> NamespaceFacts<'_> {
        NamespaceFacts {
            labels: &self.labels,
            excluded: self.excluded,
        }
    }

    /// The same image on this side, if its name there leads back to the same repository of the same mirror.
    ///
    /// It does not where another mirror claims that name, where the sides overlap, where the path gets too long, or where
    /// Docker Hub would read `library/` into it. Rewriting such an image would let a second pass rewrite it again.
    pub(crate) fn counterpart(&self, reference: &Reference<'_>, located: &Located<'_, '_>, to: Side) -> Option<String> {
        let target = &located.route.policy.sides[to];
        let path = match located.rule {
            Some(rule) => Cow::Borrowed(rule.paths[to].as_str()),
            None => target.path(located.repository),
        };
        let image = reference.relocate(&target.registry, &path);
        let parsed = Reference::parse(&image).ok()?;
        let there = self.locate(&parsed)?;
        let same =
            std::ptr::eq(there.route, located.route) && there.side == to && there.repository == located.repository;
        same.then_some(image)
    }
}

/// The one label that every namespace has.
fn labels_of_unknown(namespace: &str) -> Labels {
    Labels::from([("kubernetes.io/metadata.name".to_owned(), namespace.to_owned())])
}

impl<'t> Located<'t, '_> {
    /// What is known of a reference that points here; its tag and its digest.
    pub fn knowledge(&self, reference: &Reference<'_>) -> (Option<Knowledge>, Option<Knowledge>) {
        let evidence = &self.route.evidence;
        let key = |reference| self.route.policy.key(self.repository, self.rule, reference);
        let tag = reference
            .effective_tag()
            .map(|tag| evidence.tag(key(tag)).unwrap_or_default());
        let digest = reference.digest();
        let digest = digest.map(|digest| evidence.digest(key(digest)).unwrap_or_default());
        (tag, digest)
    }

    /// Whether the side that the reference names is known to lack what it means.
    pub fn lacks(&self, reference: &Reference<'_>) -> bool {
        let (tag, digest) = self.knowledge(reference);
        digest
            .or(tag)
            .is_some_and(|known| known.presence[self.side] == Presence::Absent)
    }

    /// The question where such a reference goes, as far as the pod does not matter.
    fn question(&self, reference: &Reference<'_>) -> Question<'t> {
        let Route {
            policy,
            active,
            unavailable,
            observed,
            ..
        } = self.route;
        let (tag, digest) = self.knowledge(reference);
        Question {
            policy,
            unavailable: *unavailable,
            observed: observed.contains(&policy.mapping(self.repository, self.rule)),
            never: false,
            excluded: None,
            selected: reference.effective_tag().is_some_and(|tag| selects_tag(self.rule, tag)),
            named: self.side,
            target: *active,
            tag,
            digest,
        }
    }
}
