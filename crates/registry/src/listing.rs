//! Lists of tags, page by page.

use std::collections::HashSet;

use http::header::LINK;
use http::{Method, StatusCode};
use serde::{Deserialize, Deserializer};
use url::Url;

use crate::client::ListedTag;
use crate::failure::{Class, Failure, Rung};
use crate::path;
use crate::provider::Listing;
use crate::session::Session;
use crate::transport::{Ask, Reply};

mod acr;

pub use acr::{Lock, Marker};

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
        let mut tags = Vec::new();
        let mut seen = HashSet::new();
        let mut next = Some(self.first_page(repository));
        let mut linked = false;
        while let Some(url) = next {
            if seen.len() == limits.pages {
                return Err(endless(&url, &format!("more than {} pages", limits.pages)));
            }
            if !seen.insert(url.query().unwrap_or_default().to_owned()) {
                return Err(endless(&url, "its pages lead in a circle"));
            }
            let (page, link) = self.page(&url, repository).await?;
            let last = page.last().map(|tag| tag.name.clone());
            let full = page.len() >= PAGE;
            tags.extend(page);
            if tags.len() > limits.tags {
                return Err(endless(&url, &format!("more than {} tags", limits.tags)));
            }
            linked |= link.is_some();
            // Who links its pages has none behind the one without a link.
            next = link.or_else(|| self.beyond(repository, last.filter(|_| full && !linked)));
        }
        // Pages shift while tags are pushed, so a tag may come twice; what came last is newest.
        tags.reverse();
        tags.sort_by(|one: &ListedTag, other| one.name.cmp(&other.name));
        tags.dedup_by(|one, other| one.name == other.name);
        if let Some(versions) = &self.apis.versions {
            versions.add_digests(self, repository, &mut tags).await;
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

/// The next page, which must be the same path on the same host (RFC 8288; a foreign one would be a request forged by the
/// registry, with our token in it).
fn next_link(reply: &Reply) -> Result<Option<Url>, Failure> {
    for value in reply.headers().get_all(LINK) {
        let Some(target) = value.to_str().ok().and_then(|value| link(value, "next")) else {
            continue;
        };
        let here = reply.url();
        let next = here.join(target).ok().filter(|next| {
            next.origin() == here.origin()
                && next.path() == here.path()
                && next.username().is_empty()
                && next.password().is_none()
        });
        let Some(mut next) = next else {
            let message = format!("{}: its next page is elsewhere, which is not followed", reply.request);
            return Err(reply.failure(Class::Misrouted, message));
        };
        next.set_fragment(None);
        return Ok(Some(next));
    }
    Ok(None)
}

/// The target of a relation, such as `rel="next"`, in one `Link` value.
pub(crate) fn link<'v>(value: &'v str, relation: &str) -> Option<&'v str> {
    let mut rest = value;
    loop {
        let (_, after) = rest.split_once('<')?;
        let (target, after) = after.split_once('>')?;
        let parameters = after.split('<').next().unwrap_or_default();
        let related = parameters.split([';', ',']).any(|parameter| {
            parameter.trim().split_once('=').is_some_and(|(name, value)| {
                name.trim().eq_ignore_ascii_case("rel")
                    && value
                        .trim()
                        .trim_matches('"')
                        .split_ascii_whitespace()
                        .any(|rel| rel.eq_ignore_ascii_case(relation))
            })
        });
        if related {
            return Some(target);
        }
        rest = after;
    }
}

/// Tells a missing key (a broken answer) from `null` (no tags).
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<Vec<T>>, D::Error> {
    Ok(Some(Option::deserialize(deserializer)?.unwrap_or_default()))
}

#[derive(Deserialize)]
struct Names {
    #[serde(default, deserialize_with = "present")]
    tags: Option<Vec<String>>,
}

fn object<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Option<T> {
    // A derived struct would also be read from an array.
    if body.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'{') {
        return None;
    }
    serde_json::from_slice(body).ok()
}

fn names(body: &[u8]) -> Option<Vec<ListedTag>> {
    let tags = object::<Names>(body)?.tags?.into_iter();
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
    use super::*;

    #[test]
    fn the_next_link_is_found_in_every_shape() {
        let cases = [
            (
                r#"</v2/a/tags/list?last=b&n=2>; rel="next""#,
                Some("/v2/a/tags/list?last=b&n=2"),
            ),
            ("</x>; rel=next", Some("/x")),
            ("</x>;REL=NEXT", Some("/x")),
            (r#"</x>; title="t"; rel="prev next""#, Some("/x")),
            (r#"</p>; rel="prev", </x>; rel="next""#, Some("/x")),
            (r#"</p>; rel="prev""#, None),
            ("</x>", None),
            ("</x; rel=next", None),
            ("", None),
            (r#"<>; rel="next""#, Some("")),
        ];
        for (value, expected) in cases {
            assert_eq!(link(value, "next"), expected, "{value}");
        }
    }

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
    fn a_million_tags_in_a_page_are_read_and_a_deep_one_is_refused() {
        let many = format!(r#"{{"tags":[{}"9"]}}"#, "\"1\",".repeat(999_999));
        assert_eq!(names(many.as_bytes()).unwrap().len(), 1_000_000);
        let deep = format!(r#"{{"tags":[],"x":{}}}"#, "[".repeat(10_000));
        assert_eq!(names(deep.as_bytes()), None);
    }
}
