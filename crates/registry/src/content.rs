//! What a registry is for: tags, manifests and blobs.

pub(crate) mod blob;
pub(crate) mod listing;
pub(crate) mod manifest;
