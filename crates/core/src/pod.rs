//! What of a pod decides about its images: who owns it, how it is labelled, where it runs, and what the kubelet says of it.
//!
//! [`eligibility`] is the one rule that says whether a mirror may rewrite a pod. Admission, rescue and the list of what is
//! in use all ask it, so that none of them does what another refuses.

pub mod message;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use crate::policy::RewritePolicy;
use crate::reference::Reference;
use crate::selector::Labels;

/// The label on pods and namespaces that switches rewriting off.
pub const REWRITE_LABEL: &str = "catamaran.dev/rewrite";
/// The value of [`REWRITE_LABEL`] that does so.
pub const REWRITE_DISABLED: &str = "disabled";
/// The annotation by which the kubelet marks the API's copy of a static pod.
pub const STATIC_POD: &str = "kubernetes.io/config.mirror";

/// The group of the mirrors, which own proof pods.
const API_GROUP: &str = "catamaran.dev";
/// The namespace of the cluster's own components, whose pods are never rewritten.
const KUBE_SYSTEM: &str = "kube-system";
/// What injectors replace at admission, whatever registry its name would lead to: Istio's for its sidecars and gateways.
const PLACEHOLDERS: &[&str] = &["auto"];

/// What of a pod decides whether it is rewritten.
#[derive(Clone, Copy, Debug, Default)]
pub struct PodFacts<'a> {
    /// The pod's namespace.
    pub namespace: &'a str,
    /// All labels of the pod, as pairs of name and value.
    pub labels: &'a [(&'a str, &'a str)],
    /// The owner that decides, by [`deciding_owner`].
    pub owner: Option<Owner<'a>>,
    /// It carries the annotation [`STATIC_POD`].
    pub is_static: bool,
}

/// The kind of object that owns a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner<'a> {
    /// `apps/v1`.
    pub api_version: &'a str,
    /// `ReplicaSet`.
    pub kind: &'a str,
}

/// What of a pod's namespace decides whether the pod is rewritten.
#[derive(Clone, Copy, Debug)]
pub struct NamespaceFacts<'a> {
    /// Its labels, as far as they are known.
    pub labels: &'a Labels,
    /// It is one of the namespaces whose pods are never rewritten.
    pub excluded: bool,
}

/// Why a whole pod is not rewritten.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Exclusion {
    /// A static pod: the kubelet runs it from a file, whatever the API says.
    StaticPod,
    /// Its namespace is `kube-system`, the operator's own or one of `webhook.excludedNamespaces`.
    Namespace,
    /// The pod is labelled `catamaran.dev/rewrite: disabled`.
    PodLabel,
    /// Its namespace is.
    NamespaceLabel,
    /// One of the mirror's `rewrite.excludePods` selects it.
    PodSelector,
    /// Its owner is not a built-in workload controller and may compare images.
    ControllerOwned,
}

impl<'a> PodFacts<'a> {
    /// The value of one of the pod's labels.
    pub fn label(&self, name: &str) -> Option<&'a str> {
        self.labels
            .iter()
            .find(|(key, _)| *key == name)
            .map(|(_, value)| *value)
    }
}

impl Owner<'_> {
    /// The group of its API: `apps`; empty for the core group.
    pub fn api_group(&self) -> &str {
        self.api_version.split_once('/').map_or("", |(group, _)| group)
    }

    /// Whether the mirror rewrites pods of such an owner.
    fn may_be_rewritten(&self, rewrite: &RewritePolicy) -> bool {
        // A proof pod names the side that it is about.
        let is_mirror = self.api_group() == API_GROUP;
        !is_mirror && (self.is_built_in() || rewrite.allows_owner(self.api_group(), self.kind))
    }

    /// Whether this is one of the built-in controllers, which never look at the images of their pods. The group counts:
    /// others have kinds of the same names.
    fn is_built_in(&self) -> bool {
        matches!(
            (self.api_group(), self.kind),
            ("apps", "ReplicaSet" | "StatefulSet" | "DaemonSet") | ("batch", "Job") | ("", "ReplicationController")
        )
    }
}

impl Exclusion {
    /// The word in annotations and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Exclusion::StaticPod => "ExcludedStaticPod",
            Exclusion::Namespace => "ExcludedNamespace",
            Exclusion::PodLabel => "ExcludedByPodLabel",
            Exclusion::NamespaceLabel => "ExcludedByNamespaceLabel",
            Exclusion::PodSelector => "ExcludedByPodSelector",
            Exclusion::ControllerOwned => "ExcludedControllerOwned",
        }
    }
}

/// Which of a pod's owners decides: its controller, else the first owner, because an owner that is not the controller may
/// compare images as well. Each owner comes with whether it is the controller.
pub fn deciding_owner<'a>(owners: impl Iterator<Item = (Owner<'a>, bool)>) -> Option<Owner<'a>> {
    let mut first = None;
    for (owner, is_controller) in owners {
        if is_controller {
            return Some(owner);
        }
        first = first.or(Some(owner));
    }
    first
}

/// Whether pods of this namespace are never rewritten: `kube-system`, and what `excluded` lists.
pub fn is_excluded_namespace(namespace: &str, excluded: &BTreeSet<String>) -> bool {
    namespace == KUBE_SYSTEM || excluded.contains(namespace)
}

/// Why a mirror with these settings must not rewrite this pod; none when it may.
///
/// What a person asked for comes before what its owner suggests.
pub fn eligibility(pod: &PodFacts<'_>, namespace: &NamespaceFacts<'_>, rewrite: &RewritePolicy) -> Option<Exclusion> {
    let disabled = |label: Option<&str>| label == Some(REWRITE_DISABLED);
    let foreign_owner = || pod.owner.is_some_and(|owner| !owner.may_be_rewritten(rewrite));
    if pod.is_static {
        Some(Exclusion::StaticPod)
    } else if namespace.excluded {
        Some(Exclusion::Namespace)
    } else if disabled(pod.label(REWRITE_LABEL)) {
        Some(Exclusion::PodLabel)
    } else if disabled(namespace.labels.get(REWRITE_LABEL).map(String::as_str)) {
        Some(Exclusion::NamespaceLabel)
    } else if rewrite.excludes_pod(|name| pod.label(name)) {
        Some(Exclusion::PodSelector)
    } else {
        foreign_owner().then_some(Exclusion::ControllerOwned)
    }
}

/// The reference that a container's or an image volume's text stands for; none for what does not parse, and for words
/// that injectors replace, which name no image at all.
pub fn image_reference(image: &str) -> Option<Reference<'_>> {
    if PLACEHOLDERS.contains(&image) {
        return None;
    }
    Reference::parse(image).ok()
}
