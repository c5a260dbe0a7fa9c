//! The few fields of an `AdmissionReview` that a decision needs, borrowed from the request's body.
//!
//! A review is mostly a Pod, and a Pod is mostly what no decision reads; decoding all of it is what makes other webhooks
//! slow.

use std::borrow::Cow;

use catamaran_api::annotations;
use catamaran_core::pod::STATIC_POD;

use crate::reader::{Fault, LONGEST_LIST, Read, Reader};

/// Defines a struct whose fields are read from a JSON object; other fields are skipped.
macro_rules! partial {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $kind:ty = $key:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Default)]
        pub(crate) struct $name<'a> { $($(#[$field_doc])* pub(crate) $field: $kind,)* }

        impl<'a> Read<'a> for $name<'a> {
            fn read(reader: &mut Reader<'a>) -> Result<Self, Fault> {
                let mut read = $name::default();
                reader.object(|key, reader| {
                    match key {
                        $($key => read.$field = Read::read(reader)?,)*
                        _ => reader.skip()?,
                    }
                    Ok(())
                })?;
                Ok(read)
            }
        }
    };
}

partial! {
    /// The whole document.
    Review {
        api_version: Text<'a> = "apiVersion",
        kind: Text<'a> = "kind",
        request: Option<Request<'a>> = "request",
    }
}

partial! {
    /// `AdmissionRequest` of `admission.k8s.io/v1`.
    Request {
        uid: Text<'a> = "uid",
        kind: GroupVersionKind<'a> = "kind",
        resource: GroupVersionResource<'a> = "resource",
        sub_resource: Text<'a> = "subResource",
        operation: Text<'a> = "operation",
        namespace: Text<'a> = "namespace",
        name: Text<'a> = "name",
        user: UserInfo<'a> = "userInfo",
        object: Option<Pod<'a>> = "object",
        old_object: Option<OldPod<'a>> = "oldObject",
    }
}

partial! {
    /// What kind of object is under review.
    GroupVersionKind {
        group: Text<'a> = "group",
        version: Text<'a> = "version",
        kind: Text<'a> = "kind",
    }
}

partial! {
    /// Which resource the request goes to.
    GroupVersionResource {
        group: Text<'a> = "group",
        resource: Text<'a> = "resource",
    }
}

partial! {
    /// Who asks.
    UserInfo {
        username: Text<'a> = "username",
    }
}

partial! {
    /// The Pod under review.
    Pod {
        metadata: Option<Metadata<'a>> = "metadata",
        spec: PodSpec<'a> = "spec",
    }
}

partial! {
    /// `ObjectMeta`.
    Metadata {
        name: Text<'a> = "name",
        generate_name: Text<'a> = "generateName",
        labels: Labels<'a> = "labels",
        annotations: Option<Annotations<'a>> = "annotations",
        owners: List<OwnerReference<'a>> = "ownerReferences",
    }
}

partial! {
    /// One entry of `metadata.ownerReferences`.
    OwnerReference {
        api_version: Text<'a> = "apiVersion",
        kind: Text<'a> = "kind",
        controller: Flag = "controller",
    }
}

partial! {
    /// `PodSpec`.
    PodSpec {
        containers: Containers<'a> = "containers",
        init_containers: Containers<'a> = "initContainers",
        ephemeral_containers: Containers<'a> = "ephemeralContainers",
        volumes: List<Volume<'a>> = "volumes",
        pull_secrets: Option<List<LocalReference<'a>>> = "imagePullSecrets",
    }
}

partial! {
    /// A container of any kind.
    Container {
        name: Text<'a> = "name",
        image: Text<'a> = "image",
        pull_policy: Text<'a> = "imagePullPolicy",
    }
}

partial! {
    /// A volume; only image volumes have an `image`.
    Volume {
        name: Text<'a> = "name",
        image: VolumeImage<'a> = "image",
    }
}

partial! {
    /// The source of an image volume.
    VolumeImage {
        reference: Text<'a> = "reference",
        pull_policy: Text<'a> = "pullPolicy",
    }
}

partial! {
    /// The name of an object in the same namespace.
    LocalReference {
        name: Text<'a> = "name",
    }
}

partial! {
    /// What an update is compared with.
    OldPod {
        spec: OldPodSpec<'a> = "spec",
    }
}

partial! {
    /// The containers before an update.
    OldPodSpec {
        containers: Containers<'a> = "containers",
        init_containers: Containers<'a> = "initContainers",
        ephemeral_containers: Containers<'a> = "ephemeralContainers",
    }
}

/// A string; absent and `null` are the empty one.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Text<'a>(pub(crate) Cow<'a, str>);

impl Text<'_> {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl<'a> Read<'a> for Text<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, Fault> {
        reader.string().map(Text)
    }
}

/// A boolean; absent and `null` are false.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Flag(pub(crate) bool);

impl<'a> Read<'a> for Flag {
    fn read(reader: &mut Reader<'a>) -> Result<Self, Fault> {
        reader.boolean().map(Flag)
    }
}

/// More containers or labels than any Pod has. Kubernetes has no bound of its own but the size of a request, which takes tens of
/// thousands of containers; a Pod of 256 is larger than any that was ever reported, and costs less than a millisecond.
const MOST: usize = 256;

/// A list of at most `LONGEST` items; absent and `null` are the empty one.
#[derive(Debug)]
pub(crate) struct List<T, const LONGEST: usize = LONGEST_LIST>(pub(crate) Vec<T>);

/// One of a Pod's lists of containers.
pub(crate) type Containers<'a> = List<Container<'a>, MOST>;

impl<T, const LONGEST: usize> Default for List<T, LONGEST> {
    fn default() -> Self {
        List(Vec::new())
    }
}

impl<'a, T: Read<'a>, const LONGEST: usize> Read<'a> for List<T, LONGEST> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, Fault> {
        reader.list(LONGEST).map(List)
    }
}

/// Where it matters whether something is there.
impl<'a, T: Read<'a>> Read<'a> for Option<T> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, Fault> {
        if reader.null() {
            Ok(None)
        } else {
            T::read(reader).map(Some)
        }
    }
}

/// All labels of a Pod, in order.
#[derive(Debug, Default)]
pub(crate) struct Labels<'a>(pub(crate) Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'a> Read<'a> for Labels<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, Fault> {
        let mut labels = Vec::new();
        reader.entries(|key, reader| {
            if labels.len() == MOST {
                return Err(reader.too_long());
            }
            labels.push((key, reader.string()?));
            Ok(())
        })?;
        Ok(Labels(labels))
    }
}

/// The annotations that are read or written, and how long all of them are together: a Pod whose annotations exceed
/// 256 KiB is refused by the API server.
#[derive(Debug, Default)]
pub(crate) struct Annotations<'a> {
    pub(crate) original_images: Option<Cow<'a, str>>,
    pub(crate) mirror: Option<Cow<'a, str>>,
    pub(crate) reasons: Option<Cow<'a, str>>,
    /// The kubelet's copy of a static pod.
    pub(crate) is_static: bool,
    /// Bytes of all keys and values; escapes in values that are not read count as they are written.
    pub(crate) size: usize,
}

impl Annotations<'_> {
    /// Whether an earlier review wrote something about images here.
    pub(crate) fn has_notes(&self) -> bool {
        self.original_images.is_some() || self.reasons.is_some()
    }
}

impl<'a> Read<'a> for Annotations<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, Fault> {
        let mut read = Annotations::default();
        reader.object(|key, reader| {
            let known = match key {
                annotations::ORIGINAL_IMAGES => &mut read.original_images,
                annotations::MIRROR => &mut read.mirror,
                annotations::REASONS => &mut read.reasons,
                _ => {
                    read.is_static |= key == STATIC_POD;
                    read.size += key.len() + reader.skip_string()?;
                    return Ok(());
                }
            };
            let value = reader.string()?;
            read.size += key.len() + value.len();
            *known = Some(value);
            Ok(())
        })?;
        Ok(read)
    }
}

/// What can be saved of a review that could not be read: enough to answer it.
#[derive(Debug, Default)]
pub(crate) struct Salvage<'a> {
    pub(crate) api_version: Cow<'a, str>,
    pub(crate) uid: Cow<'a, str>,
}

impl<'a> Salvage<'a> {
    /// Reads up to the first fault and keeps what was found before it.
    pub(crate) fn from(body: &'a [u8]) -> Salvage<'a> {
        let mut found = Salvage::default();
        let sound = match std::str::from_utf8(body) {
            Ok(text) => text,
            Err(error) => std::str::from_utf8(&body[..error.valid_up_to()]).unwrap_or_default(),
        };
        // The fault is why this is called; what matters is what came before it.
        let _ = Reader::new(sound).object(|key, reader| match key {
            "apiVersion" => {
                found.api_version = reader.string()?;
                Ok(())
            }
            "request" => reader.object(|key, reader| {
                if key == "uid" {
                    found.uid = reader.string()?;
                    return Ok(());
                }
                reader.skip()
            }),
            _ => reader.skip(),
        });
        found
    }
}
