//! Lists of tags, page by page.

use std::collections::HashSet;
use std::hash::{BuildHasher as _, RandomState};

use http::header::LINK;
use http::{HeaderMap, Method, StatusCode};
use serde::{Deserialize, Deserializer};
use url::Url;

use crate::client::ListedTag;
use crate::connection::Limits;
use crate::failure::{Class, Failure, Rung};
use crate::json;
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

/// The tags of the pages so far.
#[derive(Default)]
pub(crate) struct Gathered {
    tags: Vec<ListedTag>,
    bytes: usize,
}

impl Gathered {
    /// Adds a page; the error says what there is too much of.
    pub(crate) fn add(&mut self, page: Vec<ListedTag>, limits: &Limits) -> Result<(), String> {
        if self.tags.len() + page.len() > limits.tags {
            return Err(format!("more than {} tags", limits.tags));
        }
        self.bytes += page.iter().map(|tag| tag.name.len()).sum::<usize>();
        if self.bytes > limits.name_bytes {
            return Err(format!("names of more than {} bytes", limits.name_bytes));
        }
        self.tags.extend(page);
        Ok(())
    }

    /// All of them by name, each once. Pages shift while tags are pushed, so a tag may come twice; what came last is newest.
    pub(crate) fn sorted(self) -> Vec<ListedTag> {
        let mut tags = self.tags;
        tags.reverse();
        tags.sort_by(|one, other| one.name.cmp(&other.name));
        tags.dedup_by(|one, other| one.name == other.name);
        tags
    }
}

/// The pages that were asked for: by their hashes, because what names a page may be long, and there may be many.
#[derive(Default)]
pub(crate) struct Seen {
    pages: HashSet<u64>,
    hasher: RandomState,
}

impl Seen {
    /// Takes note of a page to be asked for; the error says why it must not be.
    pub(crate) fn note(&mut self, page: &str, limits: &Limits) -> Result<(), String> {
        if self.pages.len() >= limits.pages {
            return Err(format!("more than {} pages", limits.pages));
        }
        if !self.pages.insert(self.hasher.hash_one(page)) {
            return Err("its pages lead in a circle".to_owned());
        }
        Ok(())
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

/// The next page, which must be the same list on the same host (RFC 8288; a foreign one would be a request forged by the
/// registry, with our token in it). Scheme and port are not looked at, and stay ours: behind another server a registry often
/// does not know its own.
fn next_link(reply: &Reply) -> Result<Option<Url>, Failure> {
    next_of(reply.url(), reply.headers()).map_err(|()| {
        let message = format!("{}: its next page is elsewhere, which is not followed", reply.request);
        reply.failure(Class::Misrouted, message)
    })
}

fn next_of(here: &Url, headers: &HeaderMap) -> Result<Option<Url>, ()> {
    let mut values = headers.get_all(LINK).iter().filter_map(|value| value.to_str().ok());
    let Some(target) = values.find_map(|value| link(value, "next")) else {
        return Ok(None);
    };
    let there = here.join(target).map_err(|_| ())?;
    let same = there.host() == here.host()
        && there.path() == here.path()
        && there.username().is_empty()
        && there.password().is_none();
    if !same {
        return Err(());
    }
    let mut next = here.clone();
    next.set_query(there.query());
    Ok(Some(next))
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
    fn two_hundred_thousand_tags_in_a_page_are_read_and_a_million_are_refused() {
        let page = |tags: usize| format!(r#"{{"tags":[{}"9"]}}"#, "\"1\",".repeat(tags - 1));
        assert_eq!(names(page(200_000).as_bytes()).unwrap().len(), 200_000);
        assert_eq!(names(page(1_000_000).as_bytes()), None);
        let deep = format!(r#"{{"tags":[],"x":{}}}"#, "[".repeat(10_000));
        assert_eq!(names(deep.as_bytes()), None);
    }

    #[test]
    fn fuzzed_links_lead_to_the_same_list_or_nowhere() {
        let samples = [
            r#"</v2/team/web/tags/list?last=b&n=2>; rel="next""#,
            r#"<https://registry.test:5443/v2/team/web/tags/list?n=2&next_page=gAAAAAB%3D>; rel="next""#,
            "<http://registry.test/v2/team/web/tags/list?last=b>; rel=next; title=t",
            r#"</p>; rel="prev", <?last=b>; rel="first next""#,
            r#"<//evil.test/v2/team/web/tags/list>; rel="next""#,
        ];
        let here = Url::parse("https://registry.test:5443/v2/team/web/tags/list?n=1000").unwrap();
        let property = |input: Vec<u8>| {
            let Ok(value) = http::HeaderValue::from_bytes(&input) else {
                return Ok(());
            };
            let mut headers = HeaderMap::new();
            headers.insert(LINK, value);
            if let Ok(Some(next)) = next_of(&here, &headers) {
                prop_assert_eq!((next.origin(), next.path()), (here.origin(), here.path()));
                prop_assert!(next.username().is_empty() && next.password().is_none() && next.fragment().is_none());
                prop_assert!(next.as_str().len() <= 3 * input.len() + here.as_str().len());
                // A link that is followed can be written down and read again.
                let written = format!("<{next}>; rel=\"next\"");
                headers.insert(LINK, http::HeaderValue::from_str(&written).unwrap());
                prop_assert_eq!(next_of(&here, &headers), Ok(Some(next)));
            }
            Ok(())
        };
        catamaran_fuzz::run(file!(), "links", &catamaran_fuzz::mutated(&samples), property);
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
