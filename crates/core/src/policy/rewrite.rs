//! How references are rewritten, and which pods and images are left alone.

use std::sync::{Arc, LazyLock};

use crate::policy::ImageGlob;
use crate::selector::{Operator, Requirement, Selector};

/// Labels of pods whose operator compares their images with what it wants, although a built-in controller or nothing owns
/// them: the defaults of `spec.rewrite.excludePods`. docs/exclusions.md has what each operator does, and the sources.
pub const IMAGE_COMPARING_OPERATORS: &[(&str, &str)] = &[
    // Zalando's Postgres operator recreates pods whose image is not the StatefulSet's.
    ("application", "spilo"),
    // Kueue stops pods whose image changes after they were queued.
    ("kueue.x-k8s.io/managed", "true"),
    // Aerospike's operator recreates pods whose image is not the cluster's.
    ("app", "aerospike-cluster"),
    // Longhorn's manager does not start beside managers with another image.
    ("app", "longhorn-manager"),
];

/// Selectors of these pods.
static OF_IMAGE_COMPARING_OPERATORS: LazyLock<Arc<[Selector]>> = LazyLock::new(|| {
    let selectors = IMAGE_COMPARING_OPERATORS.iter().map(|(key, value)| Selector {
        requirements: vec![Requirement {
            key: (*key).to_owned(),
            operator: Operator::In(vec![(*value).to_owned()]),
        }],
    });
    selectors.collect()
});

/// How references are rewritten.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RewritePolicy {
    /// Whether images are changed at all.
    pub mode: RewriteMode,
    /// What to do with a reference of which nothing is known on the active side.
    pub unverified: UnverifiedTags,
    /// What to do with pods of controllers that compare images.
    pub controller_owned: ControllerOwnedPods,
    /// Kinds of owners whose pods are rewritten although `controller_owned` is `Keep`.
    pub owner_kinds: Vec<OwnerKind>,
    /// Images that are never rewritten.
    pub exclude_images: Vec<ImageGlob>,
    /// Pods that are never rewritten: those that one of these selects.
    pub exclude_pods: Arc<[Selector]>,
    /// What to do with a tag that has different digests on the two sides.
    pub mismatched: MismatchedTags,
}

impl Default for RewritePolicy {
    fn default() -> RewritePolicy {
        RewritePolicy {
            mode: RewriteMode::default(),
            unverified: UnverifiedTags::default(),
            controller_owned: ControllerOwnedPods::default(),
            owner_kinds: Vec::new(),
            exclude_images: Vec::new(),
            exclude_pods: Arc::clone(&OF_IMAGE_COMPARING_OPERATORS),
            mismatched: MismatchedTags::default(),
        }
    }
}

impl RewritePolicy {
    /// The same selectors; those of the default, which most mirrors have, are there once.
    pub fn shared(selectors: Vec<Selector>) -> Arc<[Selector]> {
        let default = &*OF_IMAGE_COMPARING_OPERATORS;
        if selectors[..] == default[..] {
            return Arc::clone(default);
        }
        selectors.into()
    }

    /// Whether this image, as a pod names it, is never rewritten.
    pub fn excludes_image(&self, image: &str) -> bool {
        ImageGlob::any_matches(&self.exclude_images, image)
    }

    /// Whether a pod with these labels is never rewritten.
    pub fn excludes_pod<'l>(&self, label: impl Fn(&str) -> Option<&'l str>) -> bool {
        self.exclude_pods.iter().any(|selector| selector.matches_with(&label))
    }

    /// Whether pods of an owner of this kind are rewritten although its controller is not a built-in one.
    pub fn allows_owner(&self, api_group: &str, kind: &str) -> bool {
        let named = |owner: &OwnerKind| owner.api_group == api_group && owner.kind == kind;
        self.controller_owned == ControllerOwnedPods::Rewrite || self.owner_kinds.iter().any(named)
    }
}

/// Whether images are changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RewriteMode {
    /// They are.
    #[default]
    Rewrite,
    /// What would be done is recorded; no image and no pull secret changes.
    Audit,
}

/// What happens to a reference of which nothing is known on the active side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UnverifiedTags {
    /// Rewrite it, and verify it immediately.
    #[default]
    Rewrite,
    /// Leave it: never swap what is not proven equal.
    Keep,
}

/// What happens to a pod owned by something other than the built-in workload controllers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ControllerOwnedPods {
    /// Leave it: its owner may compare images and recreate it for ever.
    #[default]
    Keep,
    /// Rewrite it like any other.
    Rewrite,
}

/// What happens to a tag that has different digests on the two sides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MismatchedTags {
    /// Leave it: the pod would run other content than it names.
    #[default]
    Keep,
    /// Rewrite it while the registry that it names is unavailable.
    WhenUnavailable,
}

/// A kind of object that owns pods, in any version.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct OwnerKind {
    /// `tekton.dev`; empty for the core group.
    pub api_group: String,
    /// `TaskRun`.
    pub kind: String,
}
