//! Blobs: the part of a pull that other machines serve.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use catamaran_core::digest::Digest;
use http::Method;
use url::Url;

use crate::content::manifest::{Descriptor, Parts};
use crate::session::{About, Session};
use crate::wire::ask::Ask;
use crate::wire::failure::{Class, Failure, Stage};
use crate::wire::path;
use crate::wire::reply::Reply;

/// Manifests whose blob is remembered at most.
const MOST_REMEMBERED: usize = 64;

/// A blob of each manifest that was probed with: content never changes.
#[derive(Debug, Default)]
pub(crate) struct Blobs(Mutex<HashMap<Digest, Digest>>);

impl Blobs {
    pub(crate) fn get(&self, manifest: &Digest) -> Option<Digest> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(manifest)
            .cloned()
    }

    pub(crate) fn keep(&self, manifest: &Digest, blob: &Digest) {
        let mut blobs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if blobs.len() >= MOST_REMEMBERED {
            blobs.clear();
        }
        blobs.insert(manifest.clone(), blob.clone());
    }
}

impl Session {
    /// Reads the first byte of a blob that a manifest leads to.
    pub(crate) async fn first_byte_below(&self, repository: &str, manifest: &Digest) -> Result<String, Failure> {
        let blob = self.blob_of(repository, manifest).await?;
        self.first_blob_byte(repository, &blob).await
    }

    /// Reads the first byte of a blob, through its redirects. A host that knows no ranges, which kubelets don't ask for, is asked
    /// for all of it.
    pub(crate) async fn first_blob_byte(&self, repository: &str, blob: &Digest) -> Result<String, Failure> {
        let read = self.read_first_byte(repository, blob).await;
        if self.repeats(&read) {
            return self.read_first_byte(repository, blob).await;
        }
        read
    }

    async fn read_first_byte(&self, repository: &str, blob: &Digest) -> Result<String, Failure> {
        let reply = match self.open_blob(repository, blob, true, None).await {
            Err(failure) if may_be_about_ranges(&failure) => self.open_blob(repository, blob, false, None).await?,
            reply => reply?,
        };
        let request = reply.request.clone();
        reply.first_byte().await?;
        Ok(request)
    }

    /// Asks for a blob, or for its first byte only, and follows its redirects. Nothing of the body was read yet.
    pub(crate) async fn open_blob(
        &self,
        repository: &str,
        blob: &Digest,
        first_byte: bool,
        time: Option<Duration>,
    ) -> Result<Reply, Failure> {
        path::check_repository(repository)?;
        let url = self.site.url(&format!("/v2/{repository}/blobs/{blob}"));
        let asking = |url: Url| {
            let mut ask = Ask::new(Method::GET, url, Stage::Blob);
            ask.first_byte = first_byte;
            ask.time = time;
            ask
        };
        let reply = self.ask(asking(url), repository).await?;
        self.arrive(reply, repository, asking).await
    }

    /// Follows an answer to where it leads. Nothing of the body was read yet.
    pub(crate) async fn arrive(
        &self,
        mut reply: Reply,
        repository: &str,
        asking: impl Fn(Url) -> Ask,
    ) -> Result<Reply, Failure> {
        let mut hops = 0;
        while let Some(target) = reply.location() {
            hops += 1;
            if hops > self.http.limits.redirects {
                let message = format!("{}: more than {} redirects", reply.request, self.http.limits.redirects);
                return Err(reply.failure(Class::Misrouted, message));
            }
            reply = self.follow(&reply, asking(target), repository).await?;
        }
        if !reply.status().is_success() {
            return Err(reply.not_a_registry("a redirect to nowhere"));
        }
        Ok(reply)
    }

    /// One hop. A credential goes to the registry itself only: other places are signed for anyone who holds their URL.
    async fn follow(&self, reply: &Reply, mut ask: Ask, repository: &str) -> Result<Reply, Failure> {
        let target = &ask.url;
        if target.scheme() != "https" || !target.username().is_empty() || target.password().is_some() {
            let message = format!(
                "{}: redirects to what is not plain https, which is not followed",
                reply.request
            );
            return Err(reply.failure(Class::Misrouted, message));
        }
        if reply.sent.is_in(target.as_str()) {
            let message = format!(
                "{}: redirects to a place that would be told our credential, which is not followed",
                reply.request
            );
            return Err(reply.failure(Class::Misrouted, message));
        }
        if self.site.owns(target) {
            ask.authorization = self.authorization(Some(About::reading(repository))).await?;
        }
        let reply = self.http.exchange(&ask).await?;
        if reply.status().is_success() || reply.location().is_some() {
            return Ok(reply);
        }
        Err(self.fail(reply, &ask, None).await)
    }

    /// The digest of the manifest's config or first layer; of an index, of its first manifest's.
    pub(crate) async fn blob_of(&self, repository: &str, manifest: &Digest) -> Result<Digest, Failure> {
        let mut digest = manifest.clone();
        for _ in 0..2 {
            let found = self.manifest(repository, &digest.to_string()).await?;
            let parts: Option<Parts> = serde_json::from_slice(&found.body).ok();
            let Some(parts) = parts else { break };
            let first = |descriptors: Vec<Descriptor>| descriptors.into_iter().next();
            if let Some(blob) = parts.config.or_else(|| first(parts.layers)) {
                return blob.digest.parse().map_err(|_| no_blob(manifest));
            }
            digest = first(parts.manifests)
                .and_then(|child| child.digest.parse().ok())
                .ok_or_else(|| no_blob(manifest))?;
        }
        Err(no_blob(manifest))
    }
}

fn may_be_about_ranges(failure: &Failure) -> bool {
    failure.stage == Stage::Blob
        && failure
            .status
            .is_some_and(|status| matches!(status, 400..=499 | 501) && !matches!(status, 401 | 403 | 404 | 429))
}

fn no_blob(manifest: &Digest) -> Failure {
    // Such a canary says nothing about the registry; another one is wanted.
    Failure::new(
        Stage::Blob,
        Class::NotFound,
        format!("failed to find a blob in the manifest {manifest}"),
    )
}
