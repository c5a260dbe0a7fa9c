//! Pages of package versions: what they say, what they cost, and what they come to.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use catamaran_core::digest::Digest;
use http::HeaderMap;
use http::header::LINK;
use serde::Deserialize;
use url::Url;

use crate::tags::link::link;
use crate::wire::json;
use crate::wire::path;

/// More pages than this are never read: a repository with so many versions is cheaper to ask tag by tag.
pub(super) const MOST_PAGES: usize = 100;
/// Values of a page: a hundred versions, each with a dozen facts and its tags.
const MOST_VALUES: usize = 50_000;

/// Whether reading all pages takes fewer requests than asking for each tag.
///
/// Versions count untagged manifests too: each platform of an image, each attestation.
pub(super) fn cheaper(pages: usize, tags: usize) -> bool {
    pages <= MOST_PAGES && pages < tags
}

/// How many pages there are, by the answer to the first. Its links are read, never followed.
pub(super) fn last_page(headers: &HeaderMap) -> usize {
    page_of(headers, "last").unwrap_or(1)
}

/// Whether there is a page behind this one.
pub(super) fn has_next(headers: &HeaderMap) -> bool {
    page_of(headers, "next").is_some()
}

fn page_of(headers: &HeaderMap, relation: &str) -> Option<usize> {
    let mut values = headers.get_all(LINK).iter().filter_map(|value| value.to_str().ok());
    let target = values.find_map(|value| link(value, relation).flatten())?;
    let url = Url::parse("https://api.github.com/").ok()?.join(target).ok()?;
    let page = url.query_pairs().find(|(name, _)| name == "page")?.1.parse().ok()?;
    Some(page).filter(|page| *page > 0)
}

/// A tag and what it stood for when its page was read.
pub(super) type Tagged = (String, Digest);

#[derive(Deserialize)]
struct Version {
    name: String,
    #[serde(default, deserialize_with = "json::nullable")]
    metadata: Metadata,
}

#[derive(Default, Deserialize)]
struct Metadata {
    #[serde(default, deserialize_with = "json::nullable")]
    container: Container,
}

#[derive(Default, Deserialize)]
struct Container {
    #[serde(default, deserialize_with = "json::nullable")]
    tags: Vec<String>,
}

/// The tags of a page; `None` when it is none. A version that is named otherwise than by a digest says nothing.
pub(super) fn read(body: &[u8]) -> Option<Vec<Tagged>> {
    let versions: Vec<Version> = json::list(body, MOST_VALUES)?;
    let tagged = versions.into_iter().flat_map(|version| {
        let digest: Option<Digest> = version.name.parse().ok();
        let tags = version.metadata.container.tags.into_iter();
        tags.filter(|tag| path::is_tag(tag))
            .filter_map(move |tag| Some((tag, digest.clone()?)))
    });
    Some(tagged.collect())
}

/// What each tag stands for; `None` for one that two versions have: it was moved while the pages were read.
pub(super) fn digests<'p>(pages: impl Iterator<Item = &'p [Tagged]>) -> HashMap<&'p str, Option<&'p Digest>> {
    let mut found = HashMap::new();
    for (tag, digest) in pages.flatten() {
        match found.entry(tag.as_str()) {
            Entry::Vacant(entry) => {
                entry.insert(Some(digest));
            }
            Entry::Occupied(mut entry) if *entry.get() != Some(digest) => {
                entry.insert(None);
            }
            Entry::Occupied(_) => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn versions_are_read_when_they_take_fewer_requests_than_tags() {
        let cases = [
            ("one tag on one page", 1, 1, false),
            ("two tags on one page", 1, 2, true),
            ("a page for each tag", 40, 40, false),
            ("attestations and platforms: ten versions for each tag", 10, 100, true),
            ("fifty versions for each tag", 50, 100, true),
            ("a hundred and fifty versions for each tag", 150, 100, false),
            ("no tags", 1, 0, false),
            ("as many pages as are ever read", 100, 10_000, true),
            ("more pages than are ever read", 101, 10_000, false),
        ];
        for (name, pages, tags, expected) in cases {
            assert_eq!(cheaper(pages, tags), expected, "{name}");
        }
    }

    fn linked(value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(LINK, HeaderValue::from_str(value).unwrap());
        headers
    }

    #[test]
    fn the_number_of_pages_is_in_the_link_header() {
        let at = "https://api.github.com/orgs/o/packages/container/web/versions?per_page=100";
        let first = linked(&format!(r#"<{at}&page=2>; rel="next", <{at}&page=46>; rel="last""#));
        assert_eq!((last_page(&first), has_next(&first)), (46, true));
        let end = linked(&format!(r#"<{at}&page=1>; rel="first", <{at}&page=45>; rel="prev""#));
        assert_eq!((last_page(&end), has_next(&end)), (1, false));
        assert_eq!((last_page(&HeaderMap::new()), has_next(&HeaderMap::new())), (1, false));
        for strange in [
            r#"<?page=0>; rel="last""#,
            r#"<?page=-1>; rel="last""#,
            r#"<?page=99999999999999999999>; rel="last""#,
        ] {
            assert_eq!(last_page(&linked(strange)), 1, "{strange}");
        }
    }

    #[test]
    fn only_a_list_of_versions_is_a_page() {
        let digest = Digest::of(b"x");
        let version = |name: &str, tags: &str| {
            format!(
                r#"[{{"id":1,"name":"{name}","metadata":{{"package_type":"container","container":{{"tags":{tags}}}}}}}]"#
            )
        };
        let count = |body: &str| read(body.as_bytes()).map(|tags| tags.len());
        let cases = [
            (version(&digest.to_string(), r#"["1","latest"]"#), Some(2)),
            (version(&digest.to_string(), "[]"), Some(0)),
            (version(&digest.to_string(), r#"["no/tag","","ok"]"#), Some(1)),
            (version("not-a-digest", r#"["1"]"#), Some(0)),
            (r#"[{"name":"x"}]"#.to_owned(), Some(0)),
            ("[]".to_owned(), Some(0)),
            (version(&digest.to_string(), r#""1""#), None),
            (r#"{"message":"Not Found"}"#.to_owned(), None),
            ("[{}]".to_owned(), None),
            ("null".to_owned(), None),
            (String::new(), None),
            ("[".repeat(10_000), None),
        ];
        for (body, expected) in cases {
            assert_eq!(count(&body), expected, "{body:.60}");
        }
    }

    #[test]
    fn a_tag_that_two_versions_have_is_not_believed() {
        let (one, other) = (Digest::of(b"1"), Digest::of(b"2"));
        let tagged = |tag: &str, digest: &Digest| (tag.to_owned(), digest.clone());
        let pages = [
            vec![tagged("moved", &one), tagged("still", &one)],
            // The page slid while it was read: the same version again.
            vec![tagged("still", &one), tagged("moved", &other)],
        ];
        let found = digests(pages.iter().map(Vec::as_slice));
        assert_eq!(found["still"], Some(&one));
        assert_eq!(found["moved"], None);
    }

    proptest! {
        #[test]
        fn no_page_makes_the_reader_fail(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = read(&bytes);
        }

        #[test]
        fn what_is_read_is_tags_only(
            tags in proptest::collection::vec(".{0,12}", 0..8), name in "(sha256:[0-9a-f]{64}|.{0,20})"
        ) {
            let body = serde_json::json!([{ "name": name, "metadata": { "container": { "tags": tags } } }]).to_string();
            let found = read(body.as_bytes()).unwrap();
            prop_assert!(found.len() <= tags.len());
            prop_assert!(found.iter().all(|(tag, digest)| path::is_tag(tag) && digest.to_string() == name));
        }

        #[test]
        fn no_link_makes_the_count_fail(value in "[ -~]{0,200}") {
            prop_assert!(last_page(&linked(&value)) > 0);
        }
    }

    #[test]
    fn fuzzed_package_versions_are_tags_with_digests_or_no_page() {
        let version = r#"{"id":1,"name":"sha256:9b2e1d7a4c6f80b35d1e92a7c4b8f0e6d3a5917c2b4e8f6071d9a3c5b7e2f4a8","url":"https://api.github.com/x","metadata":{"package_type":"container","container":{"tags":["1.0","latest"]}}}"#;
        let page = format!("[{version},{version}]");
        let samples = [page.as_str(), "[]", r#"{"message":"Not Found","status":"404"}"#];
        let property = |input: Vec<u8>| {
            if let Some(tagged) = read(&input) {
                prop_assert!(tagged.len() <= MOST_VALUES);
                prop_assert!(tagged.iter().all(|(tag, _)| path::is_tag(tag)));
                let written = tagged.iter().map(|(tag, digest)| {
                    serde_json::json!({ "name": digest.to_string(), "metadata": { "container": { "tags": [tag] } } })
                });
                let written = serde_json::Value::from(written.collect::<Vec<_>>()).to_string();
                prop_assert_eq!(read(written.as_bytes()), Some(tagged));
            }
            Ok(())
        };
        catamaran_fuzz::run(file!(), "versions", &catamaran_fuzz::mutated(&samples), property);
    }
}
