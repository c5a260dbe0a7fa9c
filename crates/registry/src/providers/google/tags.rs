//! `tags/list` as Google answers it: besides the names of tags each manifest with its tags.
//!
//! The extension is what Google's own clients list by (go-containerregistry, `pkg/v1/google/list.go`; gcrane): an object `manifest`
//! whose keys are digests and whose values have the tags of each. Other fields of it are of no use here; Container Registry gives some of
//! them as text that Artifact Registry gives as numbers, so that they are not read at all.

use std::collections::HashMap;

use catamaran_core::digest::Digest;
use serde::Deserialize;

use crate::protocol::listing::Listing;
use crate::tags::ListedTag;
use crate::wire::json;
use crate::wire::path;

/// Values of a page: each manifest has a handful.
const MOST_VALUES: usize = 250_000;

/// `/v2/{name}/tags/list` with digests.
pub(super) const LISTING: Listing = Listing {
    path: |repository| format!("/v2/{repository}/tags/list"),
    read: tags,
    unlinked: false,
};

#[derive(Deserialize)]
struct Page {
    #[serde(default, deserialize_with = "json::present")]
    tags: Option<Vec<String>>,
    #[serde(default, deserialize_with = "json::nullable")]
    manifest: HashMap<String, Manifest>,
}

#[derive(Default, Deserialize)]
struct Manifest {
    #[serde(default, deserialize_with = "json::nullable")]
    tag: Vec<String>,
}

/// The tags of one page; `None` for what is no page. A tag that two manifests have was moved meanwhile: its digest is not known.
fn tags(body: &[u8]) -> Option<Vec<ListedTag>> {
    let page: Page = json::object(body, MOST_VALUES)?;
    let mut digests: HashMap<&str, Option<Digest>> = HashMap::new();
    for (digest, manifest) in &page.manifest {
        for tag in &manifest.tag {
            let known = digests.contains_key(tag.as_str());
            digests.insert(tag, digest.parse().ok().filter(|_| !known));
        }
    }
    let names = page.tags.as_ref()?.iter();
    let listed = names.filter(|name| path::is_tag(name)).map(|name| ListedTag {
        name: name.clone(),
        digest: digests.get(name.as_str()).cloned().flatten(),
        locked: None,
    });
    Some(listed.collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ONE: &str = "sha256:9b2e1d7a4c6f80b35d1e92a7c4b8f0e6d3a5917c2b4e8f6071d9a3c5b7e2f4a8";
    const OTHER: &str = "sha256:0b2e1d7a4c6f80b35d1e92a7c4b8f0e6d3a5917c2b4e8f6071d9a3c5b7e2f4a8";

    fn digests(body: &str) -> Option<Vec<(String, Option<String>)>> {
        let tags = tags(body.as_bytes())?.into_iter();
        let read = tags.map(|tag| (tag.name, tag.digest.map(|digest| digest.to_string())));
        Some(read.collect())
    }

    #[test]
    fn tag_has_the_digest_of_the_manifest_that_lists_it() {
        let page = format!(
            r#"{{"child":[],"name":"p/r/web","tags":["1.0","2.0","moved","bare"],"manifest":{{
                "{ONE}":{{"imageSizeBytes":"1","mediaType":"x","timeUploadedMs":1700000000000,"tag":["1.0","latest","moved"]}},
                "{OTHER}":{{"timeUploadedMs":"1700000000000","tag":["2.0","moved"]}},
                "sha256:short":{{"tag":["bare"]}}}}}}"#
        );
        let expected = [
            ("1.0", Some(ONE)),
            ("2.0", Some(OTHER)),
            ("moved", None),
            ("bare", None),
        ];
        let expected = expected.map(|(name, digest)| (name.to_owned(), digest.map(str::to_owned)));
        assert_eq!(digests(&page).unwrap(), expected);
    }

    #[test]
    fn list_without_the_extension_is_a_list_of_names() {
        assert_eq!(digests(r#"{"tags":["1"]}"#).unwrap(), [("1".to_owned(), None)]);
        assert_eq!(digests(r#"{"tags":null,"manifest":{}}"#).unwrap(), []);
        for body in [
            "{}",
            r#"{"manifest":{}}"#,
            "[]",
            r#"{"tags":["1"],"manifest":[]}"#,
            "<html>",
        ] {
            assert_eq!(digests(body), None, "{body}");
        }
    }

    #[test]
    fn fuzzed_pages_of_googles_tags_are_tags_or_no_page() {
        let page =
            format!(r#"{{"tags":["1.0","2.0"],"manifest":{{"{ONE}":{{"tag":["1.0"]}},"{OTHER}":{{"tag":["2.0"]}}}}}}"#);
        let samples = [page.as_str(), r#"{"tags":null}"#];
        let property = |input: Vec<u8>| {
            let tags = tags(&input).unwrap_or_default();
            prop_assert!(tags.len() <= input.len());
            prop_assert!(tags.iter().all(|tag| path::is_tag(&tag.name)));
            Ok(())
        };
        catamaran_fuzz::run(file!(), "google_tags", &catamaran_fuzz::mutated(&samples), property);
    }
}
