//! The fields of `decode`, read by `serde_json`: borrowed where they can be, `null` as absence.
#![allow(dead_code, reason = "reading them is what is measured")]

use std::borrow::Cow;
use std::marker::PhantomData;

use serde::de::{Deserializer, MapAccess, Visitor};
use serde::{Deserialize, de};

type Text<'a> = Cow<'a, str>;

/// Absent, `null` and a value: what the API server means by the first two is the same.
fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(deserializer: D) -> Result<T, D::Error> {
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// A string that is borrowed unless it holds escapes; `Cow` by itself never borrows.
fn text<'de: 'a, 'a, D: Deserializer<'de>>(deserializer: D) -> Result<Text<'a>, D::Error> {
    struct TextVisitor;
    impl<'de> Visitor<'de> for TextVisitor {
        type Value = Cow<'de, str>;
        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a string")
        }
        fn visit_borrowed_str<E: de::Error>(self, value: &'de str) -> Result<Self::Value, E> {
            Ok(Cow::Borrowed(value))
        }
        fn visit_str<E: de::Error>(self, value: &str) -> Result<Self::Value, E> {
            Ok(Cow::Owned(value.to_owned()))
        }
        fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
            Ok(Cow::Borrowed(""))
        }
        fn visit_none<E: de::Error>(self) -> Result<Self::Value, E> {
            Ok(Cow::Borrowed(""))
        }
    }
    deserializer.deserialize_any(TextVisitor)
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
pub struct Review<'a> {
    #[serde(borrow, deserialize_with = "text")]
    pub api_version: Text<'a>,
    #[serde(borrow, deserialize_with = "text")]
    pub kind: Text<'a>,
    #[serde(borrow)]
    pub request: Option<Request<'a>>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
pub struct Request<'a> {
    #[serde(borrow, deserialize_with = "text")]
    pub uid: Text<'a>,
    #[serde(borrow, deserialize_with = "or_default")]
    pub kind: Names<'a>,
    #[serde(borrow, deserialize_with = "or_default")]
    pub resource: Names<'a>,
    #[serde(borrow, deserialize_with = "text")]
    pub sub_resource: Text<'a>,
    #[serde(borrow, deserialize_with = "text")]
    pub operation: Text<'a>,
    #[serde(borrow, deserialize_with = "text")]
    pub namespace: Text<'a>,
    #[serde(borrow, deserialize_with = "text")]
    pub name: Text<'a>,
    #[serde(borrow, deserialize_with = "or_default")]
    pub user_info: UserInfo<'a>,
    #[serde(borrow)]
    pub object: Option<Pod<'a>>,
    #[serde(borrow)]
    pub old_object: Option<Pod<'a>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub struct Names<'a> {
    #[serde(borrow, deserialize_with = "text")]
    pub group: Text<'a>,
    #[serde(borrow, deserialize_with = "text")]
    pub version: Text<'a>,
    #[serde(borrow, deserialize_with = "text")]
    pub kind: Text<'a>,
    #[serde(borrow, deserialize_with = "text")]
    pub resource: Text<'a>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub struct UserInfo<'a> {
    #[serde(borrow, deserialize_with = "text")]
    pub username: Text<'a>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub struct Pod<'a> {
    #[serde(borrow)]
    pub metadata: Option<Metadata<'a>>,
    #[serde(borrow, deserialize_with = "or_default")]
    pub spec: PodSpec<'a>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
pub struct Metadata<'a> {
    #[serde(borrow, deserialize_with = "text")]
    pub name: Text<'a>,
    #[serde(borrow, deserialize_with = "text")]
    pub generate_name: Text<'a>,
    #[serde(borrow, deserialize_with = "or_default")]
    pub labels: Pairs<'a>,
    #[serde(borrow)]
    pub annotations: Option<Pairs<'a>>,
    #[serde(borrow, deserialize_with = "or_default")]
    pub owner_references: Vec<OwnerReference<'a>>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
pub struct OwnerReference<'a> {
    #[serde(borrow, deserialize_with = "text")]
    pub api_version: Text<'a>,
    #[serde(borrow, deserialize_with = "text")]
    pub kind: Text<'a>,
    #[serde(deserialize_with = "or_default")]
    pub controller: bool,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
pub struct PodSpec<'a> {
    #[serde(borrow, deserialize_with = "or_default")]
    pub containers: Vec<Container<'a>>,
    #[serde(borrow, deserialize_with = "or_default")]
    pub init_containers: Vec<Container<'a>>,
    #[serde(borrow, deserialize_with = "or_default")]
    pub ephemeral_containers: Vec<Container<'a>>,
    #[serde(borrow, deserialize_with = "or_default")]
    pub volumes: Vec<Volume<'a>>,
    #[serde(borrow)]
    pub image_pull_secrets: Option<Vec<LocalReference<'a>>>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
pub struct Container<'a> {
    #[serde(borrow, deserialize_with = "text")]
    pub name: Text<'a>,
    #[serde(borrow, deserialize_with = "text")]
    pub image: Text<'a>,
    #[serde(borrow, deserialize_with = "text")]
    pub image_pull_policy: Text<'a>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub struct Volume<'a> {
    #[serde(borrow, deserialize_with = "text")]
    pub name: Text<'a>,
    #[serde(borrow, deserialize_with = "or_default")]
    pub image: VolumeImage<'a>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
pub struct VolumeImage<'a> {
    #[serde(borrow, deserialize_with = "text")]
    pub reference: Text<'a>,
    #[serde(borrow, deserialize_with = "text")]
    pub pull_policy: Text<'a>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub struct LocalReference<'a> {
    #[serde(borrow, deserialize_with = "text")]
    pub name: Text<'a>,
}

/// Labels or annotations, in order.
#[derive(Default)]
pub struct Pairs<'a>(Vec<(Text<'a>, Text<'a>)>);

impl<'de: 'a, 'a> Deserialize<'de> for Pairs<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PairsVisitor<'a>(PhantomData<&'a ()>);
        impl<'de: 'a, 'a> Visitor<'de> for PairsVisitor<'a> {
            type Value = Pairs<'a>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object of strings")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut pairs = Vec::new();
                while let Some((key, value)) = map.next_entry::<Borrowed<'a>, Borrowed<'a>>()? {
                    pairs.push((key.0, value.0));
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(PairsVisitor(PhantomData))
    }
}

#[derive(Deserialize)]
#[serde(transparent)]
struct Borrowed<'a>(#[serde(borrow, deserialize_with = "text")] Text<'a>);
