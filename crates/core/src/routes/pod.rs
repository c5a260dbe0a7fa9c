//! The routes of one pod.

use std::borrow::Cow;

use super::{Exclusion, ImageRoute, KeepReason, REWRITE_DISABLED, REWRITE_LABEL, Route, RouteTable, judge};
use crate::policy::{ControllerOwnedPods, RepositoryRule};
use crate::reference::Reference;
use crate::selector::Labels;
use crate::side::Side;

/// What of a pod decides whether it is rewritten.
#[derive(Clone, Copy, Debug, Default)]
pub struct PodFacts<'a> {
    /// The pod's namespace.
    pub namespace: &'a str,
    /// The value of the pod's own label [`REWRITE_LABEL`].
    pub rewrite_label: Option<&'a str>,
    /// Its controlling owner.
    pub owner_kind: Option<Owner<'a>>,
    /// It carries the annotation `kubernetes.io/config.mirror`.
    pub is_static: bool,
}

/// The kind of object that controls a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner<'a> {
    /// `apps/v1`.
    pub api_version: &'a str,
    /// `ReplicaSet`.
    pub kind: &'a str,
}

/// The routes of one pod: everything that is the same for all of its images is settled.
#[derive(Clone, Debug)]
pub struct PodRoutes<'t> {
    table: &'t RouteTable,
    labels: Cow<'t, Labels>,
    exclusion: Option<Exclusion>,
    foreign_owner: bool,
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

impl Owner<'_> {
    /// Whether this is one of the built-in controllers, which never look at the images of their pods. The group counts:
    /// others have kinds of the same names.
    fn is_built_in(self) -> bool {
        let group = self.api_version.split_once('/').map_or("", |(group, _)| group);
        matches!(
            (group, self.kind),
            ("apps", "ReplicaSet" | "StatefulSet" | "DaemonSet") | ("batch", "Job") | ("", "ReplicationController")
        )
    }
}

impl<'t> PodRoutes<'t> {
    pub(super) fn new(table: &'t RouteTable, facts: &PodFacts<'_>) -> PodRoutes<'t> {
        let labels = table.namespaces.get(facts.namespace).map_or_else(
            || {
                Cow::Owned(Labels::from([(
                    "kubernetes.io/metadata.name".to_owned(),
                    facts.namespace.to_owned(),
                )]))
            },
            Cow::Borrowed,
        );
        let disabled = |label: Option<&str>| label == Some(REWRITE_DISABLED);
        let exclusion = if facts.is_static {
            Some(Exclusion::StaticPod)
        } else if disabled(facts.rewrite_label) {
            Some(Exclusion::PodLabel)
        } else if disabled(labels.get(REWRITE_LABEL).map(String::as_str)) {
            Some(Exclusion::NamespaceLabel)
        } else {
            None
        };
        let foreign_owner = facts.owner_kind.is_some_and(|owner| !owner.is_built_in());
        PodRoutes {
            table,
            labels,
            exclusion,
            foreign_owner,
        }
    }

    /// Why no mirror rewrites this pod. Whether pods of other controllers are rewritten is up to each mirror:
    /// [`PodRoutes::image`] says so for each image.
    pub fn excluded(&self) -> Option<Exclusion> {
        self.exclusion
    }

    /// Decides about one image reference.
    pub fn image(&self, image: &str) -> ImageRoute<'t> {
        if self.table.routes.is_empty() {
            return ImageRoute::Untouched;
        }
        let Ok(reference) = Reference::parse(image) else {
            return ImageRoute::Untouched;
        };
        let Some(located) = self.locate(&reference) else {
            return ImageRoute::Untouched;
        };
        let Located {
            route,
            side,
            repository,
            ..
        } = located;
        if let Some(exclusion) = self.exclusion_from(route) {
            return ImageRoute::Kept {
                route,
                reason: KeepReason::Excluded(exclusion),
            };
        }
        if side == route.active {
            return ImageRoute::OnActive { route };
        }
        let reason = match judge(route, route.active, repository, &reference) {
            Ok(reason) => reason,
            Err(reason) => return ImageRoute::Kept { route, reason },
        };
        match self.counterpart(&reference, &located) {
            Some(image) => ImageRoute::Rewritten { route, image, reason },
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
        let selects = |route: &Route| route.policy.namespaces.matches(&self.labels);
        self.table.index.find(&self.table.routes, reference, selects)
    }

    /// The names of the pull secrets of both sides of every mirror that these images belong to, the primary's first,
    /// without duplicates. Pods get them even while nothing is rewritten, because they can't be added later. Excluded
    /// pods get none.
    pub fn pull_secrets<'i>(&self, images: impl IntoIterator<Item = &'i ImageRoute<'t>>) -> Vec<&'t str>
    where
        't: 'i,
    {
        let mut names = Vec::new();
        for image in images {
            let excluded = matches!(
                image,
                ImageRoute::Kept {
                    reason: KeepReason::Excluded(_),
                    ..
                }
            );
            let Some(route) = image.route().filter(|_| !excluded) else {
                continue;
            };
            for name in Side::ALL
                .iter()
                .flat_map(|side| &route.policy.sides[*side].image_pull_secrets)
            {
                if !names.contains(&name.as_str()) {
                    names.push(name);
                }
            }
        }
        names
    }

    /// Why this mirror does not rewrite this pod.
    pub(crate) fn exclusion_from(&self, route: &Route) -> Option<Exclusion> {
        let keeps = route.policy.rewrite.controller_owned == ControllerOwnedPods::Keep;
        self.exclusion
            .or((self.foreign_owner && keeps).then_some(Exclusion::ControllerOwned))
    }

    /// The same image on the opposite side, if its name there leads back to the same repository of the same mirror.
    ///
    /// It does not where another mirror claims that name, where the sides overlap, where the path gets too long, or where
    /// Docker Hub would read `library/` into it. Rewriting such an image would let a second pass rewrite it again.
    pub(crate) fn counterpart(&self, reference: &Reference<'_>, located: &Located<'_, '_>) -> Option<String> {
        let to = located.side.other();
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
