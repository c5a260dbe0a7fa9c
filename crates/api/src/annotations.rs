//! The labels and annotations that Catamaran reads and writes.

/// Pod annotation: a JSON object from container name to the image that the pod was created with.
///
/// Image volumes are named `volume/<name>`, so that they can't be taken for containers.
pub const ORIGINAL_IMAGES: &str = "catamaran.dev/original-images";

/// Pod annotation: the mirror and the epoch that decided, as `apps@7`; several are separated by commas.
pub const MIRROR: &str = "catamaran.dev/mirror";

/// Pod annotation: a JSON object from container name to the reason for what happened to its image.
pub const REASONS: &str = "catamaran.dev/reasons";

/// Pod annotation: a JSON object from container name to the image it waited for before it was re-pointed.
pub const RESCUED: &str = "catamaran.dev/rescued-images";

/// Pod or namespace label: [`DISABLED`] leaves the pod, or every pod of the namespace, untouched.
pub const REWRITE: &str = "catamaran.dev/rewrite";

/// The value of [`REWRITE`] that switches rewriting off.
pub const DISABLED: &str = "disabled";

/// ConfigMap label: this is a shard of the evidence of the mirror that the value names.
pub const EVIDENCE: &str = "catamaran.dev/evidence";
