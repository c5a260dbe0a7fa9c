//! The requests that write a registry, and those that ask what it has (OCI distribution specification, "Pushing").

use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use catamaran_core::digest::Digest;
use http::header::{CONTENT_RANGE, CONTENT_TYPE, HeaderValue, LOCATION};
use http::{HeaderMap, Method, StatusCode};
use url::Url;

use crate::content::manifest::{announced, manifest_ask};
use crate::session::Session;
use crate::wire::ask::{Access, Ask, Stream};
use crate::wire::failure::{Class, Failure, Stage};
use crate::wire::path;
use crate::wire::reply::Reply;

/// The least bytes of a piece (OCI distribution specification, "Pushing a blob in chunks").
const LEAST: &str = "oci-chunk-min-length";
const BINARY: HeaderValue = HeaderValue::from_static("application/octet-stream");

/// An upload that was begun: where its next piece goes, and how much it has.
pub(super) struct Upload {
    location: Url,
    sent: u64,
    /// Bytes that each piece but the last must have, where the registry says so.
    pub(super) least: u64,
}

/// What came of asking for a blob of another repository.
pub(super) enum Mounted {
    /// It is there.
    Done,
    /// It is not, and an upload was begun instead.
    Begun(Upload),
}

/// The headers of content of a kind.
fn typed(kind: HeaderValue) -> HeaderMap {
    HeaderMap::from_iter([(CONTENT_TYPE, kind)])
}

/// The request that ends an upload.
fn closing(upload: &Upload, digest: &Digest) -> Ask {
    let mut url = upload.location.clone();
    url.query_pairs_mut().append_pair("digest", &digest.to_string());
    let mut ask = Ask::new(Method::PUT, url, Stage::Blob);
    ask.access = Access::Write;
    ask.headers = typed(BINARY);
    ask
}

/// Whether HEAD itself is what was refused: then GET tells, as far as the first byte.
fn knows_no_head(failure: &Failure, stage: Stage) -> bool {
    failure.stage == stage && matches!(failure.status, Some(400 | 405 | 501)) && failure.class != Class::Locked
}

impl Session {
    /// The digest of a manifest if it is there, by one HEAD; the inner `None`: it is there, and has no digest.
    ///
    /// Every 404 counts as absent: who must be sure asks [`Session::resolve`].
    pub(super) async fn head_manifest(
        &self,
        repository: &str,
        reference: &str,
    ) -> Result<Option<Option<Digest>>, Failure> {
        let ask = manifest_ask(self, Method::HEAD, repository, reference)?;
        match self.get(ask, repository).await {
            Ok(reply) if reply.is_html() => Err(reply.not_a_registry("a web page instead of a manifest")),
            Ok(reply) => announced(&reply).map(Some),
            Err(failure) if failure.status == Some(404) && failure.stage == Stage::Manifest => Ok(None),
            Err(failure) if knows_no_head(&failure, Stage::Manifest) => {
                match self.manifest(repository, reference).await {
                    Ok(manifest) => Ok(Some(Some(manifest.digest))),
                    Err(failure) if failure.status == Some(404) => Ok(None),
                    Err(failure) => Err(failure),
                }
            }
            Err(failure) => Err(failure),
        }
    }

    /// Whether a repository has a blob. A registry that redirects to its storage has it; one that knows no HEAD is asked for its first byte.
    pub(super) async fn has_blob(&self, repository: &str, digest: &Digest) -> Result<bool, Failure> {
        path::check_repository(repository)?;
        let url = self.site.url(&format!("/v2/{repository}/blobs/{digest}"));
        let ask = Ask::new(Method::HEAD, url, Stage::Blob);
        match self.ask(ask, repository).await {
            Ok(reply) if reply.is_html() => Err(reply.not_a_registry("a web page instead of a blob")),
            Ok(_) => Ok(true),
            Err(failure) if failure.status == Some(404) && failure.stage == Stage::Blob => Ok(false),
            Err(failure) if knows_no_head(&failure, Stage::Blob) => {
                match self.first_blob_byte(repository, digest).await {
                    Ok(_) => Ok(true),
                    Err(failure) if failure.status == Some(404) => Ok(false),
                    Err(failure) => Err(failure),
                }
            }
            Err(failure) => Err(failure),
        }
    }

    /// Puts a manifest under a tag or its digest; the digest that the registry gave it, if it says so.
    pub(super) async fn put_manifest(
        &self,
        repository: &str,
        reference: &str,
        media_type: &str,
        body: Bytes,
    ) -> Result<Option<Digest>, Failure> {
        let mut ask = manifest_ask(self, Method::PUT, repository, reference)?;
        ask.access = Access::Write;
        if let Ok(media_type) = HeaderValue::from_str(media_type) {
            ask.headers.insert(CONTENT_TYPE, media_type);
        }
        ask.body = Some(body);
        let reply = self.get(ask, repository).await?;
        // A `Location` is not needed, and not every registry gives one.
        announced(&reply)
    }

    /// Asks for a blob that another repository of this registry has.
    pub(super) async fn mount(&self, repository: &str, digest: &Digest, from: &str) -> Result<Mounted, Failure> {
        let mut url = self.uploads(repository)?;
        url.query_pairs_mut()
            .append_pair("mount", &digest.to_string())
            .append_pair("from", from);
        let access = Access::Mount { from: from.to_owned() };
        let reply = self
            .write(Method::POST, url, repository, access, HeaderMap::new(), None)
            .await?;
        match reply.status() {
            StatusCode::CREATED => Ok(Mounted::Done),
            _ => self.upload(&reply, 0).map(Mounted::Begun),
        }
    }

    /// Begins an upload.
    pub(super) async fn begin_upload(&self, repository: &str) -> Result<Upload, Failure> {
        let url = self.uploads(repository)?;
        let reply = self
            .write(Method::POST, url, repository, Access::Write, HeaderMap::new(), None)
            .await?;
        self.upload(&reply, 0)
    }

    /// Sends the next piece.
    pub(super) async fn send_piece(&self, repository: &str, upload: &mut Upload, piece: Bytes) -> Result<(), Failure> {
        let end = upload.sent + piece.len() as u64;
        let range = format!("{}-{}", upload.sent, end.saturating_sub(1));
        let mut headers = typed(BINARY);
        if let Ok(range) = HeaderValue::from_str(&range) {
            headers.insert(CONTENT_RANGE, range);
        }
        let url = upload.location.clone();
        let reply = self
            .write(Method::PATCH, url, repository, Access::Write, headers, Some(piece))
            .await?;
        let least = upload.least;
        *upload = self.upload(&reply, end)?;
        upload.least = upload.least.max(least);
        Ok(())
    }

    /// Ends an upload, with the whole content if none was sent before.
    pub(super) async fn end_upload(
        &self,
        repository: &str,
        upload: &Upload,
        digest: &Digest,
        content: Bytes,
    ) -> Result<(), Failure> {
        let mut ask = closing(upload, digest);
        ask.body = Some(content);
        self.close(ask, repository, digest).await
    }

    /// Ends an upload with the whole content, which is sent as it comes; `time` is for all of that.
    pub(super) async fn stream_upload(
        &self,
        repository: &str,
        upload: &Upload,
        digest: &Digest,
        content: Stream,
        time: Duration,
    ) -> Result<(), Failure> {
        let mut ask = closing(upload, digest);
        ask.stream = Some(Mutex::new(Some(content)));
        ask.time = Some(time);
        self.close(ask, repository, digest).await
    }

    async fn close(&self, ask: Ask, repository: &str, digest: &Digest) -> Result<(), Failure> {
        let reply = self.get(ask, repository).await?;
        match announced(&reply)? {
            Some(found) if found != *digest => {
                let message = format!("{}: stored as {found}", reply.request);
                Err(reply.failure(Class::LyingDigest, message))
            }
            _ => Ok(()),
        }
    }

    /// Gives an upload up, so that the registry need not keep what has come of it. That it fails changes nothing.
    pub(super) async fn cancel_upload(&self, repository: &str, upload: &Upload) {
        let url = upload.location.clone();
        let cancelled = self
            .write(Method::DELETE, url, repository, Access::Write, HeaderMap::new(), None)
            .await;
        if let Err(failure) = cancelled {
            tracing::debug!(%failure, "failed to cancel an upload; the registry will do so in time");
        }
    }

    fn uploads(&self, repository: &str) -> Result<Url, Failure> {
        path::check_repository(repository)?;
        Ok(self.site.url(&format!("/v2/{repository}/blobs/uploads/")))
    }

    async fn write(
        &self,
        method: Method,
        url: Url,
        repository: &str,
        access: Access,
        headers: HeaderMap,
        body: Option<Bytes>,
    ) -> Result<Reply, Failure> {
        let mut ask = Ask::new(method, url, Stage::Blob);
        ask.access = access;
        ask.headers = headers;
        // Azure and others want to be told that there is nothing.
        ask.body = Some(body.unwrap_or_default());
        self.get(ask, repository).await
    }

    /// Where the next piece goes. It must be on the registry itself: it is sent with the credential. Scheme and port are not looked at,
    /// and stay ours: behind another server a registry often does not know its own.
    fn upload(&self, reply: &Reply, sent: u64) -> Result<Upload, Failure> {
        let location = reply.header(LOCATION).and_then(|to| reply.url().join(to).ok());
        let Some(there) = location else {
            return Err(reply.not_a_registry("an upload without a Location"));
        };
        let plain = there.username().is_empty() && there.password().is_none() && there.host().is_some();
        if there.host() != self.site.base.host() || !plain || !matches!(there.scheme(), "https" | "http") {
            let message = format!(
                "{}: sends the upload to another place ({}), which gets nothing from us",
                reply.request,
                there.host_str().unwrap_or("?")
            );
            return Err(reply.failure(Class::Misrouted, message));
        }
        let mut location = self.site.url(there.path());
        location.set_query(there.query());
        let least = reply
            .headers()
            .get(LEAST)
            .and_then(|least| least.to_str().ok()?.trim().parse().ok());
        Ok(Upload {
            location,
            sent,
            least: least.unwrap_or(0),
        })
    }
}
