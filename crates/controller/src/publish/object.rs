//! A mirror's object, as it is kept between two changes of it.
//!
//! Decoded, an object takes three times as much memory as its text, and each replica has one of every mirror. What the spec says
//! is kept as its policy; the status is decoded anew where it is read or written.

use catamaran_api::annotations::RECONCILE_REQUESTED_AT;
use catamaran_api::mirror::{RegistryMirror, RegistryMirrorStatus};
use catamaran_core::policy::MirrorId;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{Resource as _, ResourceExt as _};

/// A mirror's object without its spec.
#[derive(Clone, Debug)]
pub struct MirrorObject {
    /// Its name and UID.
    pub id: MirrorId,
    /// `metadata.resourceVersion`.
    pub version: Box<str>,
    /// `metadata.generation`.
    pub generation: i64,
    /// Whether it is being deleted.
    pub deleted: bool,
    /// The word by which somebody asks to reconcile, as an annotation has it.
    pub reconcile: Option<Box<str>>,
    /// As JSON.
    status: Option<Box<str>>,
}

impl MirrorObject {
    /// What is kept of an object.
    ///
    /// # Errors
    /// A status that can't be written as JSON, which none that was read from JSON is.
    pub fn of(mirror: &RegistryMirror) -> serde_json::Result<MirrorObject> {
        let meta = &mirror.metadata;
        let status = mirror.status.as_ref().map(serde_json::to_string).transpose()?;
        Ok(MirrorObject {
            id: MirrorId {
                name: mirror.name_any().into(),
                uid: mirror.uid().unwrap_or_default().into(),
            },
            version: mirror.resource_version().unwrap_or_default().into(),
            generation: meta.generation.unwrap_or_default(),
            deleted: meta.deletion_timestamp.is_some(),
            reconcile: mirror
                .annotations()
                .get(RECONCILE_REQUESTED_AT)
                .map(|word| word.as_str().into()),
            status: status.map(Into::into),
        })
    }

    /// The status; none where nobody has written one.
    ///
    /// # Errors
    /// A status that can't be read from the JSON that it was written as.
    pub fn status(&self) -> serde_json::Result<Option<RegistryMirrorStatus>> {
        self.status.as_deref().map(serde_json::from_str).transpose()
    }
}

/// What goes with a mirror names it so. A mirror is of the cluster, so it may own what is in any namespace.
pub(crate) fn owned_by(mirror: &MirrorId) -> OwnerReference {
    OwnerReference {
        api_version: RegistryMirror::api_version(&()).into_owned(),
        kind: RegistryMirror::kind(&()).into_owned(),
        name: mirror.name.to_string(),
        uid: mirror.uid.to_string(),
        ..OwnerReference::default()
    }
}
