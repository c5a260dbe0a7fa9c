//! Lists of tags, page by page.

use http::{Method, StatusCode};
use serde::Deserialize;
use url::Url;

use super::Requests;
use crate::tags::ListedTag;
use crate::tags::link::next_link;
use crate::tags::pages::{Gathered, Seen};
use crate::wire::ask::Ask;
use crate::wire::failure::{Class, Failure, Stage};
use crate::wire::json;
use crate::wire::path;

/// How many tags we ask for at once: Azure's cap, and a number that GHCR honours.
const PAGE: usize = 1000;

/// A list of tags, as a provider has it.
pub(crate) struct Listing {
    /// The path for a repository.
    pub(crate) path: fn(&str) -> String,
    /// The tags of one page; `None` for what is no page.
    pub(crate) read: fn(&[u8]) -> Option<Vec<ListedTag>>,
    /// Whether a full page without a `Link` may have more behind it. Its order is by name then, so that `last` is safe to ask with.
    pub(crate) unlinked: bool,
}

/// `/v2/{name}/tags/list` of the distribution specification: names only.
pub(crate) const DISTRIBUTION: Listing = Listing {
    path: |repository| format!("/v2/{repository}/tags/list"),
    read: names,
    unlinked: false,
};

/// All tags of a repository, sorted by name, each once. `repository` must have been checked.
pub(crate) async fn tags(
    registry: &dyn Requests,
    repository: &str,
    listing: &Listing,
) -> Result<Vec<ListedTag>, Failure> {
    let limits = &registry.http().limits;
    let mut tags = Gathered::default();
    let mut seen = Seen::default();
    let first = {
        let mut url = registry.site().url(&(listing.path)(repository));
        url.query_pairs_mut().append_pair("n", &PAGE.to_string());
        url
    };
    let mut next = Some(first.clone());
    let mut linked = false;
    while let Some(url) = next {
        seen.note(url.query().unwrap_or_default(), limits)
            .map_err(|why| endless(&url, &why))?;
        let (page, link) = page(registry, &url, repository, listing).await?;
        let last = page.last().map(|tag| tag.name.clone());
        let full = page.len() >= PAGE;
        tags.add(page, limits).map_err(|why| endless(&url, &why))?;
        linked |= link.is_some();
        // Who links its pages has none behind the one without a link.
        let unlinked = last.filter(|_| full && !linked && listing.unlinked);
        next = link.or_else(|| {
            let mut url = first.clone();
            url.query_pairs_mut().append_pair("last", &unlinked?);
            Some(url)
        });
    }
    Ok(tags.sorted())
}

async fn page(
    registry: &dyn Requests,
    url: &Url,
    repository: &str,
    listing: &Listing,
) -> Result<(Vec<ListedTag>, Option<Url>), Failure> {
    let mut ask = Ask::new(Method::GET, url.clone(), Stage::Tags);
    ask.accept = Some("application/json");
    let reply = registry.get(ask, repository).await?;
    if reply.status() != StatusCode::OK || reply.is_html() {
        return Err(reply.not_a_registry("no list of tags"));
    }
    let link = next_link(&reply)?;
    let broken = reply.not_a_registry("no list of tags");
    let body = reply.body(registry.http().limits.page_bytes).await?;
    Ok(((listing.read)(&body).ok_or(broken)?, link))
}

fn endless(url: &Url, why: &str) -> Failure {
    let message = format!(
        "GET {}{}: not a registry's answer: {why}",
        url.origin().ascii_serialization(),
        url.path()
    );
    Failure::new(Stage::Tags, Class::TooLarge, message)
}

#[derive(Deserialize)]
struct Names {
    #[serde(default, deserialize_with = "json::present")]
    tags: Option<Vec<String>>,
}

fn names(body: &[u8]) -> Option<Vec<ListedTag>> {
    let tags = json::object::<Names>(body, json::PAGE_VALUES)?.tags?.into_iter();
    Some(
        tags.filter(|name| path::is_tag(name))
            .map(|name| ListedTag {
                name,
                digest: None,
                locked: None,
            })
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_an_object_with_tags_is_a_page() {
        let count = |body: &str| names(body.as_bytes()).map(|tags| tags.len());
        let cases = [
            (r#"{"name":"a","tags":["1","2"]}"#, Some(2)),
            (r#"{"tags":null}"#, Some(0)),
            (r#"{"tags":[]}"#, Some(0)),
            (r#"{"tags":["ok","no/tag","../x",""]}"#, Some(1)),
            ("{}", None),
            (r#"{"errors":[]}"#, None),
            (r#"{"tags":"1"}"#, None),
            (r#"{"tags":[1]}"#, None),
            (r#"[["1"]]"#, None),
            ("1", None),
            ("null", None),
            ("<html>", None),
            ("", None),
            (r#"{"tags":["1"]"#, None),
            (r#"{"tags":["1"]} x"#, None),
        ];
        for (body, expected) in cases {
            assert_eq!(count(body), expected, "{body}");
        }
    }

    #[test]
    fn two_hundred_thousand_tags_in_a_page_are_read_and_a_million_are_refused() {
        let page = |tags: usize| format!(r#"{{"tags":[{}"9"]}}"#, "\"1\",".repeat(tags - 1));
        assert_eq!(names(page(200_000).as_bytes()).unwrap().len(), 200_000);
        assert_eq!(names(page(1_000_000).as_bytes()), None);
        let deep = format!(r#"{{"tags":[],"x":{}}}"#, "[".repeat(10_000));
        assert_eq!(names(deep.as_bytes()), None);
    }

    #[test]
    fn fuzzed_pages_of_tags_are_tags_or_no_page() {
        let samples = [
            r#"{"name":"team/web","tags":["1.0","3f2a91c","latest","sha256-aa.sig"]}"#,
            r#"{"tags":null}"#,
            r#"{"errors":[{"code":"NAME_UNKNOWN","message":"x"}]}"#,
        ];
        let property = |input: Vec<u8>| {
            if let Some(tags) = names(&input) {
                prop_assert!(tags.len() <= json::PAGE_VALUES && tags.len() <= input.len());
                prop_assert!(tags.iter().all(|tag| path::is_tag(&tag.name)));
                let written: Vec<_> = tags.iter().map(|tag| tag.name.as_str()).collect();
                let written = serde_json::json!({ "tags": written }).to_string();
                prop_assert_eq!(names(written.as_bytes()), Some(tags));
            }
            Ok(())
        };
        catamaran_fuzz::run(file!(), "pages", &catamaran_fuzz::mutated(&samples), property);
    }
}
