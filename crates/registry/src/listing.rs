//! Lists of tags, page by page.

use http::{Method, StatusCode};
use serde::Deserialize;
use url::Url;

use crate::ask::Ask;
use crate::failure::{Class, Failure, Rung};
use crate::json;
use crate::path;
use crate::provider::site::Listing;
use crate::session::Session;

mod acr;
pub(crate) mod link;
pub(crate) mod pages;
pub(crate) mod tag;

use self::link::next_link;
use self::pages::{Gathered, Seen};
pub use self::tag::{ListedTag, Lock};

/// How many tags we ask for at once: Azure's cap, and a number that GHCR honours.
const PAGE: usize = 1000;

impl Session {
    /// All tags of a repository, sorted by name, each once.
    pub(crate) async fn list_tags(&self, repository: &str) -> Result<Vec<ListedTag>, Failure> {
        path::check_repository(repository)?;
        #[cfg(feature = "aws")]
        if let Some(ecr) = &self.apis.ecr {
            match ecr.list(repository).await {
                // Names can be had with fewer rights.
                Err(failure) if failure.class == Class::Forbidden => {
                    tracing::debug!(repository, %failure, "images can't be described; listing names");
                }
                listed => return listed,
            }
        }
        let limits = &self.http.limits;
        let mut tags = Gathered::default();
        let mut seen = Seen::default();
        let mut next = Some(self.first_page(repository));
        let mut linked = false;
        while let Some(url) = next {
            seen.note(url.query().unwrap_or_default(), limits)
                .map_err(|why| endless(&url, &why))?;
            let (page, link) = self.page(&url, repository).await?;
            let last = page.last().map(|tag| tag.name.clone());
            let full = page.len() >= PAGE;
            tags.add(page, limits).map_err(|why| endless(&url, &why))?;
            linked |= link.is_some();
            // Who links its pages has none behind the one without a link.
            next = link.or_else(|| self.beyond(repository, last.filter(|_| full && !linked)));
        }
        let mut tags = tags.sorted();
        if let Some(versions) = &self.apis.versions {
            versions
                .add_digests(&self.http, &self.site, repository, &mut tags)
                .await;
        }
        Ok(tags)
    }

    fn first_page(&self, repository: &str) -> Url {
        let mut url = match self.site.listing() {
            Listing::Distribution => self.site.url(&format!("/v2/{repository}/tags/list")),
            Listing::Azure => self.site.url(&format!("/acr/v1/{repository}/_tags")),
        };
        url.query_pairs_mut().append_pair("n", &PAGE.to_string());
        url
    }

    /// Azure's full page without a `Link` may have more behind it; its order is by name, so `last` is safe to ask with.
    fn beyond(&self, repository: &str, last: Option<String>) -> Option<Url> {
        let last = last.filter(|_| self.site.listing() == Listing::Azure)?;
        let mut url = self.first_page(repository);
        url.query_pairs_mut().append_pair("last", &last);
        Some(url)
    }

    async fn page(&self, url: &Url, repository: &str) -> Result<(Vec<ListedTag>, Option<Url>), Failure> {
        let mut ask = Ask::new(Method::GET, url.clone(), Rung::Tags);
        ask.accept = Some("application/json");
        let reply = self.get(ask, repository).await?;
        if reply.status() != StatusCode::OK || reply.is_html() {
            return Err(reply.not_a_registry("no list of tags"));
        }
        let link = next_link(&reply)?;
        let broken = reply.not_a_registry("no list of tags");
        let body = reply.body(self.http.limits.page_bytes).await?;
        let tags = match self.site.listing() {
            Listing::Distribution => names(&body),
            Listing::Azure => acr::tags(&body),
        };
        Ok((tags.ok_or(broken)?, link))
    }
}

fn endless(url: &Url, why: &str) -> Failure {
    let message = format!(
        "GET {}{}: not a registry's answer: {why}",
        url.origin().ascii_serialization(),
        url.path()
    );
    Failure::new(Rung::Tags, Class::TooLarge, message)
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
