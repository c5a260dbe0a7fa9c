//! Manifests: what a reference stands for.

use bytes::Bytes;
use catamaran_core::digest::Digest;
use http::header::CONTENT_TYPE;
use http::{Method, StatusCode};
use serde::Deserialize;

use crate::session::Session;
use crate::tags::Resolved;
use crate::wire::ask::Ask;
use crate::wire::failure::{Class, Failure, Stage};
use crate::wire::json;
use crate::wire::path;
use crate::wire::reply::Reply;

/// Everything that a reference may stand for. GHCR answers 404 for what is not listed here, so `*/*` alone won't do.
const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
     application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json, \
     application/vnd.oci.artifact.manifest.v1+json, */*;q=0.1";

/// A manifest whose content has the digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// Its digest.
    pub digest: Digest,
    /// `Content-Type`, as the registry gave it.
    pub media_type: Option<String>,
    /// The content, at most 4 MiB by default.
    pub body: Bytes,
}

/// The parts of a manifest or index that lead to a blob.
#[derive(Deserialize)]
pub(crate) struct Parts {
    pub(crate) config: Option<Descriptor>,
    #[serde(default, deserialize_with = "json::nullable")]
    pub(crate) layers: Vec<Descriptor>,
    #[serde(default, deserialize_with = "json::nullable")]
    pub(crate) manifests: Vec<Descriptor>,
}

#[derive(Deserialize)]
pub(crate) struct Descriptor {
    pub(crate) digest: String,
}

impl Session {
    /// The digest that a tag or digest stands for.
    ///
    /// HEAD; when the answer has no digest, or HEAD is not understood, GET and hash. A 404 is asked again with GET, because
    /// only a body can say whether the manifest is absent.
    pub(crate) async fn resolve(&self, repository: &str, reference: &str) -> Result<Resolved, Failure> {
        if let Some(resolved) = self.observe(repository, reference).await? {
            return Ok(resolved);
        }
        let head = self.ask_for_manifest(Method::HEAD, repository, reference).await;
        self.resolve_by_head(head, repository, reference).await
    }

    /// What the answer to HEAD says that a reference stands for.
    pub(crate) async fn resolve_by_head(
        &self,
        head: Result<Reply, Failure>,
        repository: &str,
        reference: &str,
    ) -> Result<Resolved, Failure> {
        let reply = match head {
            Ok(reply) => reply,
            Err(failure) if failure.status == Some(404) && self.would_pull(reference) => {
                return Err(not_pulled(failure));
            }
            Err(failure) if matches!(failure.status, Some(404 | 405 | 501)) && failure.stage == Stage::Manifest => {
                return self.resolve_by_content(repository, reference).await;
            }
            Err(failure) => return Err(failure),
        };
        if reply.is_html() {
            return Err(reply.not_a_registry("a web page instead of a manifest"));
        }
        let wanted = reference.parse::<Digest>();
        let digest = announced_for(&reply, wanted.as_ref().ok())?;
        match (digest, wanted) {
            (Some(digest), Err(_)) => Ok(Resolved {
                digest,
                verified: false,
            }),
            (Some(digest), Ok(wanted)) if digest == wanted => Ok(Resolved {
                digest,
                verified: false,
            }),
            (Some(digest), Ok(wanted)) if algorithm(&digest) == algorithm(&wanted) => {
                let message = format!("{}: answered with another digest, {digest}", reply.request);
                Err(reply.failure(Class::LyingDigest, message))
            }
            // No digest, or one of another algorithm than asked for: the content decides.
            _ => self.resolve_by_content(repository, reference).await,
        }
    }

    /// A probe follows where the answer leads, as kubelets do; everyone else does not: the word of another host for a tag is not
    /// the registry's.
    async fn ask_for_manifest(&self, method: Method, repository: &str, reference: &str) -> Result<Reply, Failure> {
        let ask = manifest_ask(self, method.clone(), repository, reference)?;
        if !self.probes {
            return self.get(ask, repository).await;
        }
        let reply = self.ask(ask, repository).await?;
        self.follow_manifest(reply, &method, repository).await
    }

    /// Follows an answer to a request for a manifest to where it leads.
    pub(crate) async fn follow_manifest(
        &self,
        reply: Reply,
        method: &Method,
        repository: &str,
    ) -> Result<Reply, Failure> {
        let asking = |url| accepting(Ask::new(method.clone(), url, Stage::Manifest));
        self.arrive(reply, repository, asking).await
    }

    /// Whether asking for the content may have a pull-through cache import it: by tag it does, by digest it never does.
    fn would_pull(&self, reference: &str) -> bool {
        self.site.pull_through && path::is_tag(reference)
    }

    /// What a tag of a pull-through cache stands for, where the provider tells without a pull.
    async fn observe(&self, repository: &str, reference: &str) -> Result<Option<Resolved>, Failure> {
        if !self.would_pull(reference) {
            return Ok(None);
        }
        self.protocol.without_pull(repository, reference).await
    }

    /// The reference to fetch content by: on a pull-through cache the digest of a tag.
    pub(crate) async fn without_pulling(&self, repository: &str, reference: &str) -> Result<String, Failure> {
        if !self.would_pull(reference) {
            return Ok(reference.to_owned());
        }
        Ok(self.resolve(repository, reference).await?.digest.to_string())
    }

    pub(crate) async fn resolve_by_content(&self, repository: &str, reference: &str) -> Result<Resolved, Failure> {
        let manifest = self.manifest(repository, reference).await?;
        Ok(Resolved {
            digest: manifest.digest,
            verified: true,
        })
    }

    /// A manifest whose content was hashed. The digest is the announced one, the reference's own, or else SHA-256.
    pub(crate) async fn manifest(&self, repository: &str, reference: &str) -> Result<Manifest, Failure> {
        let read = self.read_manifest(repository, reference).await;
        if self.repeats(&read) {
            return self.read_manifest(repository, reference).await;
        }
        read
    }

    async fn read_manifest(&self, repository: &str, reference: &str) -> Result<Manifest, Failure> {
        let reply = self.ask_for_manifest(Method::GET, repository, reference).await?;
        if reply.status() != StatusCode::OK || reply.is_html() {
            return Err(reply.not_a_registry("no manifest"));
        }
        let media_type = reply.header(CONTENT_TYPE).map(str::to_owned);
        let wanted: Option<Digest> = reference.parse().ok();
        let announced = announced_for(&reply, wanted.as_ref())?;
        let lying = |digest: &Digest, class| {
            let message = format!(
                "{}: the content does not have the digest {digest} it is said to have",
                reply.request
            );
            reply.failure(class, message)
        };
        let claims: Vec<_> = announced
            .iter()
            .chain(&wanted)
            .map(|digest| (digest.clone(), lying(digest, Class::LyingDigest)))
            .collect();
        let untrusted = wanted.clone().map(|digest| {
            let failure = lying(&digest, Class::UntrustedContent);
            (digest, failure)
        });
        let not_json = reply.not_a_registry("a manifest that is no JSON object");
        let body = reply.body(self.http.limits.manifest_bytes).await?;
        // What a proxy cuts off, or puts in its place, says nothing of what the registry has.
        if let Some((digest, failure)) = untrusted
            && !digest.matches(&body)
            && is_manifest(&body)
        {
            return Err(failure);
        }
        for (digest, failure) in claims {
            if !digest.matches(&body) {
                return Err(failure);
            }
        }
        if !is_object(&body) {
            return Err(not_json);
        }
        let digest = wanted.or(announced).unwrap_or_else(|| Digest::of(&body));
        Ok(Manifest {
            digest,
            media_type,
            body,
        })
    }
}

/// A tag that a pull-through cache does not have. Only a body could tell that from other kinds of 404, and asking for one
/// would have it imported; what a cache lacks is no divergence.
fn not_pulled(mut failure: Failure) -> Failure {
    failure.class = Class::Absent;
    failure
        .message
        .push_str(": not in the cache; it is not asked for in a way that would pull it");
    failure
}

pub(crate) fn manifest_ask(
    session: &Session,
    method: Method,
    repository: &str,
    reference: &str,
) -> Result<Ask, Failure> {
    path::check_repository(repository)?;
    path::check_reference(reference)?;
    let url = session.site.url(&format!("/v2/{repository}/manifests/{reference}"));
    Ok(accepting(Ask::new(method, url, Stage::Manifest)))
}

fn accepting(mut ask: Ask) -> Ask {
    ask.accept = Some(ACCEPT);
    ask
}

/// The announced digest. Who asks for a digest needs none, so one that can't be read does no harm there.
fn announced_for(reply: &Reply, wanted: Option<&Digest>) -> Result<Option<Digest>, Failure> {
    match announced(reply) {
        Err(_) if wanted.is_some() => Ok(None),
        digest => digest,
    }
}

/// `Docker-Content-Digest`; one that can't be read is no digest but a broken answer.
pub(crate) fn announced(reply: &Reply) -> Result<Option<Digest>, Failure> {
    let value = reply.headers().get("docker-content-digest");
    let Some(value) = value.filter(|value| !value.is_empty()) else {
        return Ok(None);
    };
    let digest = value.to_str().ok().and_then(|text| text.trim().parse().ok());
    digest
        .map(Some)
        .ok_or_else(|| reply.not_a_registry("its Docker-Content-Digest is not a digest"))
}

fn algorithm(digest: &Digest) -> String {
    digest.to_string().split(':').next().unwrap_or_default().to_owned()
}

fn is_object(body: &Bytes) -> bool {
    body.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{')
        && serde_json::from_slice::<serde::de::IgnoredAny>(body).is_ok()
}

/// Whether it looks like a manifest, whichever.
fn is_manifest(body: &Bytes) -> bool {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Versioned {
        #[serde(rename = "schemaVersion")]
        _schema_version: serde::de::IgnoredAny,
    }
    serde_json::from_slice::<Versioned>(body).is_ok()
}
