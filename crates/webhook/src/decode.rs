//! The few fields of an `AdmissionReview` that a decision needs, borrowed from the request's body.
//!
//! A review is mostly a Pod, and a Pod is mostly what no decision reads; decoding all of it is what makes other webhooks
//! slow. Strings are borrowed unless they hold escapes. The reading is as lenient as the API server's: `null` is
//! absence, unknown fields are skipped, and of two equal keys the later one counts.

use std::borrow::Cow;
use std::fmt;

use catamaran_api::annotations;
use serde::de::{Deserialize, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// Lists beyond this length are nobody's Pod. The bound keeps a hostile body from growing into many times its size in
/// memory, and lookups by name from taking long.
const LONGEST_LIST: usize = 4096;

/// Defines a struct whose fields are read from a JSON object; see the module's documentation for how.
macro_rules! partial {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $kind:ty = $key:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Default)]
        pub(crate) struct $name<'a> { $($(#[$field_doc])* pub(crate) $field: $kind,)* }

        impl<'a> Deserialize<'a> for $name<'a> {
            fn deserialize<D: Deserializer<'a>>(deserializer: D) -> Result<Self, D::Error> {
                struct Fields;
                impl<'a> Visitor<'a> for Fields {
                    type Value = $name<'a>;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str("an object or null")
                    }

                    fn visit_unit<E>(self) -> Result<Self::Value, E> {
                        Ok($name::default())
                    }

                    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                        let mut read = $name::default();
                        while let Some(Text(key)) = map.next_key()? {
                            match &*key {
                                $($key => read.$field = map.next_value()?,)*
                                _ => {
                                    map.next_value::<IgnoredAny>()?;
                                }
                            }
                        }
                        Ok(read)
                    }
                }
                deserializer.deserialize_any(Fields)
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
        containers: List<Container<'a>> = "containers",
        init_containers: List<Container<'a>> = "initContainers",
        ephemeral_containers: List<Container<'a>> = "ephemeralContainers",
        volumes: List<Volume<'a>> = "volumes",
        pull_secrets: Option<List<LocalReference<'a>>> = "imagePullSecrets",
    }
}

partial! {
    /// A container of any kind.
    Container {
        name: Text<'a> = "name",
        image: Text<'a> = "image",
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
        containers: List<Container<'a>> = "containers",
        init_containers: List<Container<'a>> = "initContainers",
        ephemeral_containers: List<Container<'a>> = "ephemeralContainers",
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

impl<'a> Deserialize<'a> for Text<'a> {
    fn deserialize<D: Deserializer<'a>>(deserializer: D) -> Result<Self, D::Error> {
        struct Str;
        impl<'a> Visitor<'a> for Str {
            type Value = Text<'a>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or null")
            }

            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(Text::default())
            }

            fn visit_borrowed_str<E>(self, text: &'a str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_any(Str)
    }
}

/// A boolean; absent and `null` are false.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Flag(pub(crate) bool);

impl<'de> Deserialize<'de> for Flag {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Option::deserialize(deserializer).map(|flag| Flag(flag.unwrap_or(false)))
    }
}

/// A list; absent and `null` are the empty one.
#[derive(Debug)]
pub(crate) struct List<T>(pub(crate) Vec<T>);

impl<T> Default for List<T> {
    fn default() -> Self {
        List(Vec::new())
    }
}

impl<'a, T: Deserialize<'a>> Deserialize<'a> for List<T> {
    fn deserialize<D: Deserializer<'a>>(deserializer: D) -> Result<Self, D::Error> {
        struct Items<T>(std::marker::PhantomData<T>);
        impl<'a, T: Deserialize<'a>> Visitor<'a> for Items<T> {
            type Value = List<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list or null")
            }

            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(List::default())
            }

            fn visit_seq<A: SeqAccess<'a>>(self, mut items: A) -> Result<Self::Value, A::Error> {
                let mut list = Vec::new();
                while let Some(item) = items.next_element()? {
                    if list.len() == LONGEST_LIST {
                        return Err(A::Error::custom("a list is longer than any Pod's"));
                    }
                    list.push(item);
                }
                Ok(List(list))
            }
        }
        deserializer.deserialize_any(Items(std::marker::PhantomData))
    }
}

/// The one label that decides about a Pod; selectors look at its namespace's labels, not at these.
#[derive(Debug, Default)]
pub(crate) struct Labels<'a> {
    pub(crate) rewrite: Option<Cow<'a, str>>,
}

impl<'a> Deserialize<'a> for Labels<'a> {
    fn deserialize<D: Deserializer<'a>>(deserializer: D) -> Result<Self, D::Error> {
        let mut labels = Labels::default();
        deserializer.deserialize_any(Pairs(|key: &str, value: Cow<'a, str>| {
            if key == annotations::REWRITE {
                labels.rewrite = Some(value);
            }
        }))?;
        Ok(labels)
    }
}

/// The annotations that are read or written, and how long all of them are together: a Pod whose annotations exceed
/// 256 KiB is refused by the API server.
#[derive(Debug, Default)]
pub(crate) struct Annotations<'a> {
    pub(crate) original_images: Option<Cow<'a, str>>,
    pub(crate) mirror: Option<Cow<'a, str>>,
    pub(crate) reasons: Option<Cow<'a, str>>,
    /// `kubernetes.io/config.mirror`: the kubelet's copy of a static pod.
    pub(crate) is_static: bool,
    /// Bytes of all keys and values.
    pub(crate) size: usize,
}

impl<'a> Deserialize<'a> for Annotations<'a> {
    fn deserialize<D: Deserializer<'a>>(deserializer: D) -> Result<Self, D::Error> {
        let mut read = Annotations::default();
        deserializer.deserialize_any(Pairs(|key: &str, value: Cow<'a, str>| {
            read.size += key.len() + value.len();
            match key {
                annotations::ORIGINAL_IMAGES => read.original_images = Some(value),
                annotations::MIRROR => read.mirror = Some(value),
                annotations::REASONS => read.reasons = Some(value),
                "kubernetes.io/config.mirror" => read.is_static = true,
                _ => {}
            }
        }))?;
        Ok(read)
    }
}

/// Hands each pair of an object of strings to a function.
pub(crate) struct Pairs<F>(pub(crate) F);

impl<'a, F: FnMut(&str, Cow<'a, str>)> Visitor<'a> for Pairs<F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of strings or null")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_map<A: MapAccess<'a>>(mut self, mut map: A) -> Result<(), A::Error> {
        while let Some((Text(key), Text(value))) = map.next_entry()? {
            (self.0)(&key, value);
        }
        Ok(())
    }
}

/// What can be saved of a review that could not be read: enough to answer it.
#[derive(Debug, Default)]
pub(crate) struct Salvage<'a> {
    pub(crate) api_version: Cow<'a, str>,
    pub(crate) uid: Cow<'a, str>,
}

impl<'a> Salvage<'a> {
    /// Reads up to the first error and keeps what was found before it.
    pub(crate) fn from(body: &'a [u8]) -> Salvage<'a> {
        let mut found = Salvage::default();
        // The error is why this is called; what matters is what came before it.
        let _ = serde_json::Deserializer::from_slice(body).deserialize_map(Document(&mut found));
        found
    }
}

struct Document<'s, 'a>(&'s mut Salvage<'a>);

impl<'a> Visitor<'a> for Document<'_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(Text(key)) = map.next_key()? {
            match &*key {
                "apiVersion" => self.0.api_version = map.next_value::<Text<'a>>()?.0,
                "request" => map.next_value_seed(Uid(&mut *self.0))?,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }
}

struct Uid<'s, 'a>(&'s mut Salvage<'a>);

impl<'a> serde::de::DeserializeSeed<'a> for Uid<'_, 'a> {
    type Value = ();

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'a> Visitor<'a> for Uid<'_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(Text(key)) = map.next_key()? {
            if key == "uid" {
                self.0.uid = map.next_value::<Text<'a>>()?.0;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}
