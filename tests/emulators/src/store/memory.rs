//! Repositories in memory.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http::Method;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::{Part, Route, Storage, Tag, Tags, manifest_unknown};
use crate::clock::Clock;
use crate::message::{Answer, Request};
use crate::server::Answering;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// Repositories, their tags, manifests and blobs.
#[derive(Debug)]
pub struct Memory {
    clock: Clock,
    content: Mutex<Content>,
}

#[derive(Debug, Default)]
struct Content {
    repositories: BTreeMap<String, Repository>,
    blobs: HashMap<String, Bytes>,
    uploads: HashMap<String, Vec<u8>>,
    next_upload: u64,
}

#[derive(Debug, Default)]
struct Repository {
    tags: BTreeMap<String, Tag>,
    /// Digest to media type and content.
    manifests: BTreeMap<String, (String, Bytes)>,
    blobs: BTreeSet<String>,
}

impl Memory {
    /// Nothing yet; tags get their times from `clock`.
    pub fn new(clock: Clock) -> Memory {
        Memory {
            clock,
            content: Mutex::default(),
        }
    }

    fn content(&self) -> MutexGuard<'_, Content> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Pushes a small image made of `content`: a config, a layer, a manifest and a tag. The manifest's digest.
    pub fn push(&self, repository: &str, tag: &str, content: &str) -> String {
        let config = self.put_blob(repository, format!(r#"{{"os":"linux","config":{content:?}}}"#));
        let layer = self.put_blob(repository, content.to_owned());
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config.0, "size": config.1},
            "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": layer.0, "size": layer.1}],
        });
        self.put_manifest(repository, Some(tag), MANIFEST, manifest.to_string())
    }

    /// Puts a blob; its digest and size.
    pub fn put_blob(&self, repository: &str, body: impl Into<Bytes>) -> (String, usize) {
        let body = body.into();
        let (digest, size) = (digest(&body), body.len());
        self.content().put_blob(repository, &digest, body);
        (digest, size)
    }

    /// Puts a manifest or index, with a tag if one is given; its digest.
    pub fn put_manifest(
        &self,
        repository: &str,
        tag: Option<&str>,
        media_type: &str,
        body: impl Into<Bytes>,
    ) -> String {
        let body = body.into();
        let digest = digest(&body);
        let mut content = self.content();
        let repository = content.repositories.entry(repository.to_owned()).or_default();
        repository
            .manifests
            .insert(digest.clone(), (media_type.to_owned(), body));
        if let Some(tag) = tag {
            repository.tag(tag, &digest, &self.clock);
        }
        digest
    }

    /// Points a tag at a digest, whether its manifest is there or not.
    pub fn tag(&self, repository: &str, tag: &str, digest: &str) {
        let mut content = self.content();
        let repository = content.repositories.entry(repository.to_owned()).or_default();
        repository.tag(tag, digest, &self.clock);
    }

    /// Removes a tag; its manifest stays.
    pub fn untag(&self, repository: &str, tag: &str) {
        if let Some(repository) = self.content().repositories.get_mut(repository) {
            repository.tags.remove(tag);
        }
    }

    /// Removes a repository with everything in it.
    pub fn delete(&self, repository: &str) {
        self.content().repositories.remove(repository);
    }

    /// The names of all repositories.
    pub fn repositories(&self) -> Vec<String> {
        self.content().repositories.keys().cloned().collect()
    }

    /// A manifest's media type and content, by tag or digest.
    pub fn manifest(&self, repository: &str, reference: &str) -> Option<(String, Bytes)> {
        self.content()
            .repositories
            .get(repository)?
            .manifest(reference)
            .map(|(_, found)| found)
    }

    fn respond(&self, request: &Request, route: &Route) -> Answer {
        let repository = route.repository.as_str();
        let reading = matches!(request.method, Method::GET | Method::HEAD);
        match &route.part {
            Part::Manifest(reference) if reading => self.get_manifest(repository, reference),
            Part::Manifest(reference) if request.method == Method::PUT => {
                self.store_manifest(request, repository, reference)
            }
            Part::Blob(digest) if reading => self.get_blob(request, repository, digest),
            Part::Uploads if request.method == Method::POST => self.begin_upload(request, repository),
            Part::Upload(id) => self.go_on(request, repository, id),
            _ => Answer::error("other", 405, "UNSUPPORTED", "the operation is unsupported"),
        }
    }

    fn get_manifest(&self, repository: &str, reference: &str) -> Answer {
        let content = self.content();
        let found = content
            .repositories
            .get(repository)
            .and_then(|found| found.manifest(reference));
        let Some((digest, (media_type, body))) = found else {
            return manifest_unknown();
        };
        Answer::status("manifest", 200)
            .header("content-type", &media_type)
            .header("docker-content-digest", &digest)
            .header("etag", &format!("\"{digest}\""))
            .body(body)
    }

    fn store_manifest(&self, request: &Request, repository: &str, reference: &str) -> Answer {
        let body = request.body.clone();
        let found = digest(&body);
        if reference.starts_with("sha256:") && reference != found {
            return Answer::error(
                "put-manifest",
                400,
                "DIGEST_INVALID",
                "provided digest did not match uploaded content",
            );
        }
        if let Some(lacking) = self.content().lacks(repository, &body) {
            let message = format!("blob unknown to registry: {lacking}");
            return Answer::error("put-manifest", 404, "MANIFEST_BLOB_UNKNOWN", &message);
        }
        let tag = Some(reference).filter(|reference| !reference.starts_with("sha256:"));
        let media_type = request.header("content-type").unwrap_or(MANIFEST);
        let digest = self.put_manifest(repository, tag, media_type, body);
        Answer::status("put-manifest", 201)
            .header("location", &format!("/v2/{repository}/manifests/{digest}"))
            .header("docker-content-digest", &digest)
    }

    fn get_blob(&self, request: &Request, repository: &str, digest: &str) -> Answer {
        let content = self.content();
        let linked = content
            .repositories
            .get(repository)
            .is_some_and(|found| found.blobs.contains(digest));
        let Some(body) = content.blobs.get(digest).filter(|_| linked) else {
            return Answer::error("blob", 404, "BLOB_UNKNOWN", "blob unknown to registry");
        };
        let answer = Answer::status("blob", 200)
            .header("content-type", "application/octet-stream")
            .header("accept-ranges", "bytes")
            .header("docker-content-digest", digest);
        match request.header("range").and_then(|range| bounds(range, body.len())) {
            None => answer.body(body.clone()),
            Some((first, last)) => {
                let mut answer = answer
                    .header("content-range", &format!("bytes {first}-{last}/{}", body.len()))
                    .body(body.slice(first..=last));
                answer.status = 206;
                answer
            }
        }
    }

    fn begin_upload(&self, request: &Request, repository: &str) -> Answer {
        let mut content = self.content();
        if let (Some(digest), Some(from)) = (request.parameter("mount"), request.parameter("from")) {
            let there = content
                .repositories
                .get(&from)
                .is_some_and(|source| source.blobs.contains(&digest));
            if let Some(body) = content.blobs.get(&digest).filter(|_| there).cloned() {
                content.put_blob(repository, &digest, body);
                return created("mount", repository, &digest);
            }
        }
        if let Some(wanted) = request.parameter("digest") {
            return content.finish("upload", repository, &wanted, request.body.to_vec());
        }
        content.next_upload += 1;
        let id = format!("upload-{}", content.next_upload);
        content.uploads.insert(id.clone(), Vec::new());
        accepted(repository, &id, 0)
    }

    fn go_on(&self, request: &Request, repository: &str, id: &str) -> Answer {
        let mut content = self.content();
        let Some(upload) = content.uploads.get_mut(id) else {
            return Answer::error("upload", 404, "BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry");
        };
        match request.method {
            Method::PATCH => {
                upload.extend_from_slice(&request.body);
                let length = upload.len();
                accepted(repository, id, length)
            }
            Method::PUT => {
                upload.extend_from_slice(&request.body);
                let body = std::mem::take(upload);
                content.uploads.remove(id);
                let wanted = request.parameter("digest").unwrap_or_default();
                content.finish("upload", repository, &wanted, body)
            }
            Method::DELETE => {
                content.uploads.remove(id);
                Answer::status("upload", 204)
            }
            _ => Answer::status("upload", 204)
                .header("range", &format!("0-{}", upload.len().saturating_sub(1)))
                .header("location", &format!("/v2/{repository}/blobs/uploads/{id}")),
        }
    }
}

impl Content {
    fn put_blob(&mut self, repository: &str, digest: &str, body: Bytes) {
        self.blobs.insert(digest.to_owned(), body);
        let repository = self.repositories.entry(repository.to_owned()).or_default();
        repository.blobs.insert(digest.to_owned());
    }

    fn finish(&mut self, kind: &'static str, repository: &str, wanted: &str, body: Vec<u8>) -> Answer {
        if digest(&body) != wanted {
            return Answer::error(
                kind,
                400,
                "DIGEST_INVALID",
                "provided digest did not match uploaded content",
            );
        }
        self.put_blob(repository, wanted, body.into());
        created(kind, repository, wanted)
    }

    /// A blob or manifest that a manifest refers to and the repository lacks.
    fn lacks(&self, repository: &str, manifest: &[u8]) -> Option<String> {
        let manifest: serde_json::Value = serde_json::from_slice(manifest).ok()?;
        let here = self.repositories.get(repository);
        let layers = manifest["layers"].as_array().into_iter().flatten();
        let blobs = layers.chain(manifest.get("config"));
        let children = manifest["manifests"].as_array().into_iter().flatten();
        let digest = |descriptor: &serde_json::Value| descriptor["digest"].as_str().map(str::to_owned);
        let lacking_blob = blobs
            .filter_map(digest)
            .find(|digest| !here.is_some_and(|here| here.blobs.contains(digest)));
        lacking_blob.or_else(|| {
            children
                .filter_map(digest)
                .find(|digest| !here.is_some_and(|here| here.manifests.contains_key(digest)))
        })
    }
}

impl Repository {
    fn tag(&mut self, tag: &str, digest: &str, clock: &Clock) {
        let now = clock.now();
        let entry = self.tags.entry(tag.to_owned()).or_insert_with(|| Tag {
            name: tag.to_owned(),
            digest: String::new(),
            created: now,
            updated: now,
        });
        digest.clone_into(&mut entry.digest);
        entry.updated = now;
    }

    fn manifest(&self, reference: &str) -> Option<(String, (String, Bytes))> {
        let digest = self.tags.get(reference).map_or(reference, |tag| tag.digest.as_str());
        Some((digest.to_owned(), self.manifests.get(digest)?.clone()))
    }
}

impl Storage for Memory {
    fn serve<'a>(&'a self, request: &'a Request, route: &'a Route) -> Answering<'a> {
        Box::pin(async move { self.respond(request, route) })
    }

    fn tags<'a>(&'a self, repository: &'a str) -> Tags<'a> {
        let content = self.content();
        let found = content.repositories.get(repository);
        let tags = found.map(|found| found.tags.values().cloned().collect());
        Box::pin(std::future::ready(tags))
    }

    fn manifests(&self, repository: &str) -> usize {
        let content = self.content();
        content
            .repositories
            .get(repository)
            .map_or(0, |found| found.manifests.len())
    }
}

fn digest(body: &[u8]) -> String {
    let mut text = "sha256:".to_owned();
    for byte in Sha256::digest(body) {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

fn created(kind: &'static str, repository: &str, digest: &str) -> Answer {
    Answer::status(kind, 201)
        .header("location", &format!("/v2/{repository}/blobs/{digest}"))
        .header("docker-content-digest", digest)
}

fn accepted(repository: &str, id: &str, length: usize) -> Answer {
    Answer::status("upload", 202)
        .header("location", &format!("/v2/{repository}/blobs/uploads/{id}"))
        .header("docker-upload-uuid", id)
        .header("range", &format!("0-{}", length.saturating_sub(1)))
}

/// First and last byte of `bytes=a-b` or `bytes=a-`, within `length`.
fn bounds(range: &str, length: usize) -> Option<(usize, usize)> {
    let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
    let first: usize = first.parse().ok()?;
    let last = last.parse().unwrap_or(usize::MAX).min(length.checked_sub(1)?);
    (first <= last).then_some((first, last))
}
