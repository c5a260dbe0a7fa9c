//! What Azure tells about tags and repositories besides their names: digests, locks, and when something changed.

use catamaran_core::digest::Digest;
use http::{Method, StatusCode};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};

use crate::protocol::Requests;
use crate::protocol::listing::Listing;
use crate::tags::{ListedTag, Lock};
use crate::wire::ask::Ask;
use crate::wire::failure::{Failure, Stage};
use crate::wire::json;
use crate::wire::path;

/// Values of a page: a thousand tags have a dozen each. Attributes are read as any value, which takes memory.
const MOST_VALUES: usize = 64_000;

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(default)]
struct Attributes {
    #[serde(rename = "writeEnabled")]
    write: Option<bool>,
    #[serde(rename = "readEnabled")]
    read: Option<bool>,
    #[serde(rename = "listEnabled")]
    list: Option<bool>,
}

impl Attributes {
    fn lock(self) -> Lock {
        Lock {
            hidden: self.list == Some(false),
            unreadable: self.read == Some(false),
            unwritable: self.write == Some(false),
            quarantined: false,
        }
    }
}

#[derive(Deserialize)]
struct Page {
    #[serde(default, deserialize_with = "json::present")]
    tags: Option<Vec<Tag>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Tag {
    name: String,
    #[serde(default)]
    digest: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    changeable_attributes: Attributes,
}

#[derive(Deserialize)]
struct OneTag {
    tag: Tag,
}

#[derive(Deserialize)]
struct OneManifest {
    manifest: ManifestEntry,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ManifestEntry {
    #[serde(default, deserialize_with = "lenient")]
    changeable_attributes: Quarantine,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Quarantine {
    read_enabled: Option<bool>,
    quarantine_state: Option<String>,
}

/// Attributes that can't be read lock nothing: a listing must not fail for them.
fn lenient<'de, D: Deserializer<'de>, T: DeserializeOwned + Default>(deserializer: D) -> Result<T, D::Error> {
    let value = serde_json::Value::deserialize(deserializer)?;
    Ok(serde_json::from_value(value).unwrap_or_default())
}

/// `/acr/v1/{name}/_tags`: names, digests and locks. A full page without a `Link` may have more behind it.
pub(super) const LISTING: Listing = Listing {
    path: |repository| format!("/acr/v1/{repository}/_tags"),
    read: tags,
    unlinked: true,
};

/// The tags of one page; `None` for what is no page.
fn tags(body: &[u8]) -> Option<Vec<ListedTag>> {
    let tags = json::object::<Page>(body, MOST_VALUES)?.tags?.into_iter();
    let read = |tag: Tag| ListedTag {
        digest: tag.digest.as_deref().and_then(|digest| digest.parse::<Digest>().ok()),
        locked: tag.changeable_attributes.lock().any(),
        name: tag.name,
    };
    Some(tags.filter(|tag| path::is_tag(&tag.name)).map(read).collect())
}

/// What is locked about a tag; `None` when nothing is. The tag and the repository must have been checked.
pub(super) async fn lock_of(registry: &dyn Requests, repository: &str, tag: &str) -> Result<Option<Lock>, Failure> {
    let OneTag { tag } = describe(registry, repository, &format!("/_tags/{tag}")).await?;
    let mut lock = tag.changeable_attributes.lock();
    let digest = tag.digest.and_then(|digest| digest.parse::<Digest>().ok());
    if let Some(digest) = digest {
        let OneManifest { manifest } = describe(registry, repository, &format!("/_manifests/{digest}")).await?;
        let of_manifest = manifest.changeable_attributes;
        let state = of_manifest.quarantine_state.unwrap_or_default();
        lock.quarantined = state.eq_ignore_ascii_case("quarantined");
        lock.unreadable |= of_manifest.read_enabled == Some(false);
    }
    Ok(lock.any())
}

/// One document below `/acr/v1/{repository}`; `part` must consist of checked parts.
async fn describe<T: DeserializeOwned>(registry: &dyn Requests, repository: &str, part: &str) -> Result<T, Failure> {
    let url = registry.site().url(&format!("/acr/v1/{repository}{part}"));
    let mut ask = Ask::new(Method::GET, url, Stage::Tags);
    ask.accept = Some("application/json");
    let reply = registry.get(ask, repository).await?;
    let broken = reply.not_a_registry("no description of what was asked for");
    if reply.status() != StatusCode::OK || reply.is_html() {
        return Err(broken);
    }
    let body = reply.body(registry.http().limits.token_bytes).await?;
    json::object(&body, json::FEW_VALUES).ok_or(broken)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn digests_come_with_the_names() {
        let digest = Digest::of(b"x");
        let body =
            format!(r#"{{"tags":[{{"name":"1","digest":"{digest}"}},{{"name":"2","digest":"bad"}},{{"name":"3"}}]}}"#);
        let digests: Vec<_> = tags(body.as_bytes())
            .unwrap()
            .into_iter()
            .map(|tag| tag.digest)
            .collect();
        assert_eq!(digests, [Some(digest), None, None]);
    }

    #[test]
    fn each_lock_is_told_and_strange_attributes_lock_nothing() {
        let lock = |attributes: &str| {
            let body = format!(r#"{{"tags":[{{"name":"1","changeableAttributes":{attributes}}}]}}"#);
            tags(body.as_bytes())
                .unwrap()
                .remove(0)
                .locked
                .map(|lock| lock.describe())
        };
        let cases = [
            (
                r#"{"deleteEnabled":true,"writeEnabled":true,"readEnabled":true,"listEnabled":true}"#,
                None,
            ),
            (r#"{"deleteEnabled":false}"#, None),
            (
                r#"{"writeEnabled":false}"#,
                Some("locked against writing (writeEnabled is false)"),
            ),
            (
                r#"{"readEnabled":false,"writeEnabled":false}"#,
                Some("locked against reading (readEnabled is false)"),
            ),
            (
                r#"{"listEnabled":false}"#,
                Some("hidden from lists (listEnabled is false)"),
            ),
            ("{}", None),
            ("null", None),
            ("[]", None),
            (r#""x""#, None),
            (r#"{"readEnabled":"no"}"#, None),
        ];
        for (attributes, expected) in cases {
            assert_eq!(lock(attributes), expected, "{attributes}");
        }
    }

    fn json() -> impl Strategy<Value = serde_json::Value> {
        use serde_json::{Value, json};
        let names = prop::sample::select(vec![
            "tags",
            "name",
            "digest",
            "changeableAttributes",
            "readEnabled",
            "x",
        ]);
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "[ -~]{0,20}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 6, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::vec((names.clone(), inner), 0..6).prop_map(|entries| {
                    entries.into_iter().fold(json!({}), |mut object, (name, value)| {
                        object[name] = value;
                        object
                    })
                }),
            ]
        })
    }

    proptest! {
        #[test]
        fn no_page_makes_the_reader_fail(body in prop::collection::vec(any::<u8>(), 0..400)) {
            tags(&body);
        }

        #[test]
        fn whatever_a_page_holds_only_tags_come_out_of_it(page in json()) {
            for tag in tags(page.to_string().as_bytes()).unwrap_or_default() {
                prop_assert!(path::is_tag(&tag.name), "{tag:?}");
            }
        }

        #[test]
        fn a_page_is_read_as_it_was_written(
            names in prop::collection::btree_set("[A-Za-z0-9_][A-Za-z0-9._-]{0,20}", 0..40),
            readable in any::<bool>(),
        ) {
            let digest = Digest::of(b"x").to_string();
            let entries: Vec<_> = names
                .iter()
                .map(|name| serde_json::json!({
                    "name": name, "digest": digest, "changeableAttributes": {"readEnabled": readable},
                }))
                .collect();
            let page = serde_json::json!({"registry": "r", "imageName": "i", "tags": entries}).to_string();
            let read = tags(page.as_bytes()).unwrap();
            prop_assert!(read.iter().map(|tag| &tag.name).eq(names.iter()));
            prop_assert!(read.iter().all(|tag| tag.digest.is_some() && tag.locked.is_some() != readable));
        }
    }

    #[test]
    fn fuzzed_pages_of_azures_tags_are_tags_with_digests_or_no_page() {
        let tag = r#"{"name":"1.0","digest":"sha256:9b2e1d7a4c6f80b35d1e92a7c4b8f0e6d3a5917c2b4e8f6071d9a3c5b7e2f4a8","createdTime":"2026-11-20T00:00:00Z","signed":false,"changeableAttributes":{"deleteEnabled":true,"writeEnabled":false,"readEnabled":true,"listEnabled":true}}"#;
        let page = format!(r#"{{"registry":"kracr.azurecr.io","imageName":"web","tags":[{tag},{tag}]}}"#);
        let samples = [page.as_str(), r#"{"tags":null}"#];
        let property = |input: Vec<u8>| {
            if let Some(tags) = tags(&input) {
                prop_assert!(tags.len() <= input.len());
                prop_assert!(tags.iter().all(|tag| path::is_tag(&tag.name)));
                let written = tags.iter().map(|tag| {
                    let lock = tag.locked.unwrap_or_default();
                    serde_json::json!({
                        "name": tag.name, "digest": tag.digest.as_ref().map(ToString::to_string),
                        "changeableAttributes": {
                            "writeEnabled": !lock.unwritable, "readEnabled": !lock.unreadable, "listEnabled": !lock.hidden,
                        },
                    })
                });
                let written = serde_json::json!({ "tags": written.collect::<Vec<_>>() }).to_string();
                prop_assert_eq!(super::tags(written.as_bytes()), Some(tags));
            }
            Ok(())
        };
        catamaran_fuzz::run(file!(), "acr_tags", &catamaran_fuzz::mutated(&samples), property);
    }
}
