//! A real distribution registry behind an emulator, on plain HTTP.

use std::collections::HashMap;
use std::io;
use std::sync::{Mutex, PoisonError};

use http::{HeaderName, Method};
use reqwest::redirect::Policy;
use serde::Deserialize;
use url::Url;

use super::{Part, Route, Storage, Tag, Tags};
use crate::clock::Clock;
use crate::message::{Answer, Request};
use crate::server::Answering;

/// Headers that are passed on with a request.
const ASKED: [&str; 5] = ["accept", "content-type", "content-range", "range", "if-none-match"];
/// Headers that are passed back with an answer.
const TOLD: [&str; 9] = [
    "content-type",
    "content-length",
    "content-range",
    "docker-content-digest",
    "docker-upload-uuid",
    "etag",
    "location",
    "oci-filters-applied",
    "range",
];

/// Passes everything on to a distribution registry without authentication.
#[derive(Debug)]
pub struct Proxy {
    base: Url,
    client: reqwest::Client,
    clock: Clock,
    /// When each tag was first seen with its digest: the registry behind does not tell.
    seen: Mutex<HashMap<(String, String), Tag>>,
}

#[derive(Deserialize)]
struct List {
    tags: Option<Vec<String>>,
}

impl Proxy {
    /// `base` is `http://host:port/`.
    pub fn new(base: Url, clock: Clock) -> io::Result<Proxy> {
        let client = reqwest::Client::builder().redirect(Policy::none()).no_proxy();
        Ok(Proxy {
            base,
            client: client.build().map_err(io::Error::other)?,
            clock,
            seen: Mutex::default(),
        })
    }

    async fn pass(&self, request: &Request, kind: &'static str) -> Result<Answer, reqwest::Error> {
        let mut url = self.base.clone();
        url.set_path(&request.path);
        url.set_query(
            Some(&request.query)
                .filter(|query| !query.is_empty())
                .map(String::as_str),
        );
        let mut ask = self
            .client
            .request(request.method.clone(), url)
            .body(request.body.clone());
        for name in ASKED {
            if let Some(value) = request.headers.get(name) {
                ask = ask.header(name, value);
            }
        }
        let reply = ask.send().await?;
        let mut answer = Answer::status(kind, reply.status().as_u16());
        for name in TOLD {
            let name = HeaderName::from_static(name);
            let Some(value) = reply.headers().get(&name) else {
                continue;
            };
            let text = value.to_str().unwrap_or_default();
            // What the registry behind calls itself is nothing to its emulator's clients.
            let inside = text.strip_prefix(self.base.as_str()).map(|rest| format!("/{rest}"));
            let value = inside
                .and_then(|inside| inside.parse().ok())
                .unwrap_or_else(|| value.clone());
            answer.headers.insert(name, value);
        }
        if request.method != Method::HEAD {
            answer.headers.remove("content-length");
            answer.body = reply.bytes().await?;
        }
        Ok(answer)
    }

    async fn list(&self, repository: &str) -> Result<Option<Vec<Tag>>, reqwest::Error> {
        let mut url = self.base.clone();
        url.set_path(&format!("/v2/{repository}/tags/list"));
        let reply = self.client.get(url).send().await?;
        if reply.status() == 404 {
            return Ok(None);
        }
        let list: List =
            serde_json::from_slice(&reply.error_for_status()?.bytes().await?).unwrap_or(List { tags: None });
        let mut tags = Vec::new();
        for name in list.tags.unwrap_or_default() {
            if let Some(digest) = self.digest(repository, &name).await? {
                tags.push(self.dated(repository, name, digest));
            }
        }
        tags.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(Some(tags))
    }

    async fn digest(&self, repository: &str, tag: &str) -> Result<Option<String>, reqwest::Error> {
        let mut url = self.base.clone();
        url.set_path(&format!("/v2/{repository}/manifests/{tag}"));
        let accept = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
                      application/vnd.docker.distribution.manifest.list.v2+json, \
                      application/vnd.docker.distribution.manifest.v2+json";
        let reply = self.client.head(url).header("accept", accept).send().await?;
        let digest = reply.headers().get("docker-content-digest");
        Ok(digest.and_then(|digest| digest.to_str().ok()).map(str::to_owned))
    }

    fn dated(&self, repository: &str, name: String, digest: String) -> Tag {
        let now = self.clock.now();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let tag = seen
            .entry((repository.to_owned(), name.clone()))
            .or_insert_with(|| Tag {
                name,
                digest: digest.clone(),
                created: now,
                updated: now,
            });
        if tag.digest != digest {
            (tag.digest, tag.updated) = (digest, now);
        }
        tag.clone()
    }
}

impl Storage for Proxy {
    fn serve<'a>(&'a self, request: &'a Request, route: &'a Route) -> Answering<'a> {
        let kind = match &route.part {
            Part::Manifest(_) if request.method == Method::PUT => "put-manifest",
            Part::Manifest(_) => "manifest",
            Part::Blob(_) => "blob",
            Part::Uploads | Part::Upload(_) => "upload",
            Part::Tags | Part::Referrers(_) => "other",
        };
        Box::pin(async move {
            let passed = self.pass(request, kind).await;
            passed.unwrap_or_else(|error| Answer::error(kind, 502, "UNAVAILABLE", &error.to_string()))
        })
    }

    fn tags<'a>(&'a self, repository: &'a str) -> Tags<'a> {
        Box::pin(async move { self.list(repository).await.unwrap_or_default() })
    }

    fn manifests(&self, repository: &str) -> usize {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let digests = seen
            .iter()
            .filter(|((of, _), _)| of == repository)
            .map(|(_, tag)| &tag.digest);
        digests.collect::<std::collections::BTreeSet<_>>().len()
    }
}
