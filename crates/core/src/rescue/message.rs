//! What the kubelet says when a pull fails.

use crate::reference::Reference;

/// The image that a pull failure names first: `Back-off pulling image "REF": ErrImagePull: failed to pull and unpack image
/// "REF": ...`. Runtimes write names in full where the pod's spec may be short.
pub(super) fn named_image(message: &str) -> Option<&str> {
    let (_, quoted) = message.split_once("image \"")?;
    quoted.split_once('"').map(|(image, _)| image)
}

/// Whether two references mean the same image.
pub(super) fn same_image(a: &str, b: &str) -> bool {
    if a == b {
        return true;
    }
    match (Reference::parse(a), Reference::parse(b)) {
        (Ok(a), Ok(b)) => {
            a.registry() == b.registry()
                && a.repository() == b.repository()
                && a.digest() == b.digest()
                // A runtime drops the tag in front of a digest.
                && (a.digest().is_some() || a.effective_tag() == b.effective_tag())
        }
        _ => false,
    }
}
