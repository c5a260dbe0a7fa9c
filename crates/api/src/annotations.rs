//! The labels and annotations that Catamaran reads and writes.

/// Pod annotation: a JSON object from container name to the image that the pod was created with.
///
/// Image volumes are named `volume/<name>`, so that they can't be taken for containers.
pub const ORIGINAL_IMAGES: &str = "catamaran.dev/original-images";

/// Pod annotation: the mirror and the epoch that decided, as `apps@7`; several are separated by commas.
///
/// Label of a minted pull secret: the mirror that it is for.
pub const MIRROR: &str = "catamaran.dev/mirror";

/// Pod annotation: a JSON object from container name to the reason for what happened to its image.
pub const REASONS: &str = "catamaran.dev/reasons";

/// Pod annotation: a JSON object from container name to the image it waited for before it was re-pointed.
pub const RESCUED: &str = "catamaran.dev/rescued-images";

/// Pod or namespace label: [`DISABLED`] leaves the pod, or every pod of the namespace, untouched.
pub const REWRITE: &str = "catamaran.dev/rewrite";

/// The value of [`REWRITE`] that switches rewriting off.
pub const DISABLED: &str = "disabled";

/// Label of what the operator makes and may remove again; its value is [`MANAGER`].
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";

/// The value of [`MANAGED_BY`].
pub const MANAGER: &str = "catamaran";

/// Secret annotation: when the operator minted this pull secret.
pub const MINTED: &str = "catamaran.dev/minted";

/// Secret annotation: when the token in this pull secret ends.
pub const EXPIRES: &str = "catamaran.dev/expires";

/// Secret annotation: the registry that this pull secret is for, as `host[:port]`.
pub const REGISTRY: &str = "catamaran.dev/registry";

/// ConfigMap annotation: the replica that wrote this shard of the evidence. A new leader's first write changes it, whatever
/// else it leaves as it was, so that what its predecessor sent before is too late.
pub const WRITTEN_BY: &str = "catamaran.dev/written-by";

/// ConfigMap label: this is a shard of the evidence of the mirror that the value names.
pub const EVIDENCE: &str = "catamaran.dev/evidence";
