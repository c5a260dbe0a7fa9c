//! The labels and annotations that Catamaran reads and writes.

// Shown as plain text in docs/reference: the names of kinds are words there.
#![allow(clippy::doc_markdown)]

use crate::words::words;

words! {
    /// Every key with what it means: first what kind of mark on what kind of object it is, then a colon.
    ALL:

    /// Label of pods and namespaces: `disabled` leaves the pod, or every pod of the namespace, untouched. You set it.
    REWRITE = "catamaran.dev/rewrite";

    /// Annotation of pods: a JSON object from container name to the image that the pod was created with. Image volumes are
    /// named `volume/<name>`, so that they can't be taken for containers.
    ORIGINAL_IMAGES = "catamaran.dev/original-images";

    /// Annotation of pods, label of minted pull secrets: the mirror and the epoch that decided, as `apps@7`, several separated
    /// by commas; on a Secret the mirror that it is for.
    MIRROR = "catamaran.dev/mirror";

    /// Annotation of pods: a JSON object from container name to the reason for what happened to its image.
    REASONS = "catamaran.dev/reasons";

    /// Annotation of pods: a JSON object from container name to the image it waited for before it was re-pointed.
    RESCUED = "catamaran.dev/rescued-images";

    /// Annotation of pods: a JSON object from container name to the mirror and epoch in which it was last re-pointed, as
    /// `apps@7`. A container is moved once an epoch only, unless the side that it is on is known not to serve its image.
    RESCUED_EPOCH = "catamaran.dev/rescued-epoch";

    /// Annotation of mirrors: asks for everything to be verified and proven now. Any value that is not the one of
    /// `status.lastHandledReconcileAt`; `kubectl catamaran reconcile` sets the time. You set it.
    RECONCILE_REQUESTED_AT = "catamaran.dev/reconcile-requested-at";

    /// Label of pods: a proof pod of the mirror that the value names. It exempts a pod from nothing.
    PROOF = "catamaran.dev/proof";

    /// Label of Secrets and pods: `catamaran` on those that the operator makes: the webhook's certificate and minted pull secrets; of proof pods likewise.
    MANAGED_BY = "app.kubernetes.io/managed-by";

    /// Annotation of minted pull secrets: when the operator minted this one.
    MINTED = "catamaran.dev/minted";

    /// Annotation of minted pull secrets: when the token in this one ends.
    EXPIRES = "catamaran.dev/expires";

    /// Annotation of minted pull secrets: the registry that this one is for, as `host[:port]`.
    REGISTRY = "catamaran.dev/registry";

    /// Annotation of Secrets of type `kubernetes.io/basic-auth`: the registries that the credentials are for, as `host[:port]`, several
    /// separated by commas. They are sent to no other. You set it.
    REGISTRY_HOST = "catamaran.dev/registry-host";

    /// Annotation of ConfigMaps and proof pods: the replica that wrote this part of the evidence, or made the pod.
    WRITTEN_BY = "catamaran.dev/written-by";

    /// Annotation of ConfigMaps: a hash over this part of the evidence. The leader writes only those parts whose hash differs.
    REVISION = "catamaran.dev/revision";

    /// Label of ConfigMaps: flips that many mirrors carried out at once, until their statuses say so.
    FLIPS = "catamaran.dev/flips";

    /// Label of ConfigMaps: this is a part of the evidence of the mirror that the value names.
    EVIDENCE = "catamaran.dev/evidence";
}

/// The value of [`REWRITE`] that switches rewriting off.
pub const DISABLED: &str = "disabled";

/// The value of [`MANAGED_BY`].
pub const MANAGER: &str = "catamaran";
