//! Copying one tag from one registry to another, byte for byte.
//!
//! Blobs come first, then manifests by digest, the tag last: anyone who sees the tag can pull all of it. What the target has is
//! not sent again, so that a copy that was interrupted goes on where it stopped; of a blob in flight the whole is sent
//! again. Nothing is ever overwritten or deleted: a tag that turns out to exist with another digest ends the copy, and it
//! is looked for once more right before it would be written. A blob passes through memory in pieces of a few MiB.
//!
//! A manifest that the target has stands for itself only: registries accept none whose parts are missing, and clean-ups take those away
//! later. So each part is looked for.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use catamaran_core::digest::Digest;
use catamaran_core::endpoint::Unavailable;

use crate::budget::CopyBudget;
use crate::client::Client;
use crate::wire::ask::Access;
use crate::wire::error::ClientError;
use crate::wire::failure::{Class, Failure, Stage};
use crate::wire::limits::Limits;
use crate::wire::path;

mod blobs;
mod error;
mod explain;
mod inspect;
mod looks;
mod pace;
mod parts;
mod placed;
mod push;
mod referrers;
mod subjects;
mod tally;

pub use error::CopyError;
pub use explain::explain;
pub use inspect::{Found, check_manifest, inspect};
pub use pace::Pace;
pub use placed::Placed;
pub use tally::{Count, Tally};

use parts::Parts;

/// Indexes within indexes; buildx makes one level, two are unheard of.
const DEEPEST: usize = 4;

/// What a copy may cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyLimits {
    /// One request, except for the body of a blob that is read. Default 2 min.
    pub request: Duration,
    /// Between two reads of a body. Default 30 s.
    pub read: Duration,
    /// Reading one blob. Default 6 h.
    pub blob: Duration,
    /// One tag with everything below it, waits for budgets included. Default 12 h: a source that invents ever more manifests
    /// must not hold a place for good.
    pub tag: Duration,
    /// Bytes of a blob. Default 64 GiB.
    pub blob_bytes: u64,
    /// Bytes of a blob that are in memory, and sent in one request, unless the target wants more in one. Default 4 MiB, the most that
    /// GHCR takes.
    pub piece_bytes: usize,
}

impl Default for CopyLimits {
    fn default() -> CopyLimits {
        CopyLimits {
            request: Duration::from_mins(2),
            read: Duration::from_secs(30),
            blob: Duration::from_hours(6),
            tag: Duration::from_hours(12),
            blob_bytes: 64 << 30,
            piece_bytes: 4 << 20,
        }
    }
}

/// How copies are made.
#[derive(Clone, Debug, Default)]
pub struct CopySettings {
    /// What one may cost.
    pub limits: CopyLimits,
    /// Whether signatures, attestations and other referrers come along.
    pub referrers: bool,
    /// How fast blobs are read, over all copies that share it.
    pub pace: Arc<Pace>,
    /// What was done, over all copies that share it.
    pub tally: Arc<Tally>,
    /// Other repositories of the target that may have the same layers; the first few are asked for large ones.
    pub siblings: Vec<String>,
}

/// One tag to be copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// The full path on the source.
    pub from: String,
    /// The full path on the target.
    pub to: String,
    /// The tag.
    pub tag: String,
    /// What the source's tag is expected to stand for.
    pub digest: Digest,
}

/// How a copy ended well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Copied {
    /// The tag was written.
    Written,
    /// The target had it already, with the same digest.
    AlreadyThere,
}

/// Copies tags from one registry to another. Copies may run side by side: a blob that several need is sent once.
#[derive(Clone, Debug)]
pub struct Copier {
    source: Client,
    target: Client,
    placed: Arc<Placed>,
    settings: CopySettings,
}

/// A manifest that is to be on the target.
struct Manifest {
    digest: Digest,
    media_type: String,
    body: Bytes,
    parts: Parts,
}

impl Copier {
    /// A copier with connections, tokens and budgets of its own, so that copies are in nobody's way.
    ///
    /// `placed` is what is known of the target; only copiers to the same target may share it.
    pub fn new(
        source: (&Client, CopyBudget),
        target: (&Client, CopyBudget),
        placed: Arc<Placed>,
        settings: CopySettings,
    ) -> Result<Copier, ClientError> {
        let client = |(client, budget): (&Client, CopyBudget), access| {
            let limits = Limits {
                read: settings.limits.read,
                total: settings.limits.request,
                ..client.shared().session.http.limits.clone()
            };
            client.for_copies(&budget, limits, &access)
        };
        Ok(Copier {
            source: client(source, Access::Read)?,
            target: client(target, Access::Write)?,
            placed,
            settings,
        })
    }

    /// Copies one tag with everything that it stands for.
    ///
    /// Dropping the future stops the copy; what has arrived stays and is not sent again.
    pub async fn copy(&self, image: &Image) -> Result<Copied, CopyError> {
        Box::pin(self.bounded(image, self.copy_checked(image))).await
    }

    async fn bounded(
        &self,
        image: &Image,
        copied: impl Future<Output = Result<Copied, CopyError>>,
    ) -> Result<Copied, CopyError> {
        path::check_repository(&image.from).map_err(CopyError::Source)?;
        path::check_repository(&image.to).map_err(CopyError::Target)?;
        if !path::is_tag(&image.tag) {
            return Err(CopyError::Unsupported(format!("{:?} is not a tag", image.tag)));
        }
        let limit = self.settings.limits.tag;
        let copied = tokio::time::timeout(limit, copied).await;
        copied.unwrap_or_else(|_| {
            let message = format!("failed to copy {:?} within {} s", image.tag, limit.as_secs());
            let class = Class::Unavailable(Unavailable::Timeout);
            Err(CopyError::Source(Failure::new(Stage::Blob, class, message)))
        })
    }

    /// Sends what the target lacks of a tag that it has, with the same digest: manifests, configs and layers, each by its digest. No tag
    /// is written.
    pub async fn complete(&self, image: &Image) -> Result<Copied, CopyError> {
        Box::pin(self.bounded(image, self.complete_checked(image))).await
    }

    async fn complete_checked(&self, image: &Image) -> Result<Copied, CopyError> {
        let root = self.root(image).await?;
        self.content(image, &root, DEEPEST).await?;
        if !self.has_manifest(&image.to, &root.digest).await? {
            self.put(&image.to, &root.digest.to_string(), &root).await?;
        }
        if self.settings.referrers {
            self.attached(image, &root).await?;
        }
        Ok(Copied::Written)
    }

    async fn copy_checked(&self, image: &Image) -> Result<Copied, CopyError> {
        let is_there = self.is_there(image).await?;
        if is_there && !self.settings.referrers {
            return Ok(Copied::AlreadyThere);
        }
        let root = self.root(image).await?;
        if !is_there {
            self.content(image, &root, DEEPEST).await?;
        }
        // What was attached since the tag was written comes, too.
        if self.settings.referrers {
            self.attached(image, &root).await?;
        }
        if is_there {
            return Ok(Copied::AlreadyThere);
        }
        self.write_tag(image, &image.tag, &root).await
    }

    /// What the source's tag stands for now; it must be what was expected.
    async fn root(&self, image: &Image) -> Result<Manifest, CopyError> {
        let found = self.source.session(&image.from).manifest(&image.from, &image.tag).await;
        let found = found.map_err(|failure| {
            if failure.is_absent() {
                CopyError::Moved { found: None }
            } else {
                CopyError::source(failure)
            }
        })?;
        if !image.digest.matches(&found.body) {
            return Err(CopyError::Moved {
                found: Some(found.digest),
            });
        }
        Manifest::read(image.digest.clone(), found.media_type.as_deref(), found.body)
    }

    /// A manifest of the source by digest.
    async fn fetch(&self, repository: &str, digest: &Digest) -> Result<Manifest, CopyError> {
        let found = self
            .source
            .session(repository)
            .manifest(repository, &digest.to_string())
            .await;
        let found = found.map_err(CopyError::source)?;
        Manifest::read(digest.clone(), found.media_type.as_deref(), found.body)
    }

    /// Everything below a manifest. Boxed, because indexes may hold indexes.
    fn content<'a>(
        &'a self,
        image: &'a Image,
        manifest: &'a Manifest,
        deepest: usize,
    ) -> Pin<Box<dyn Future<Output = Result<(), CopyError>> + Send + 'a>> {
        Box::pin(async move {
            for blob in &manifest.parts.blobs {
                self.place_blob(image, blob).await?;
            }
            for child in &manifest.parts.children {
                if deepest == 0 {
                    return Err(too_deep());
                }
                self.place_manifest(image, &child.digest, deepest - 1).await?;
            }
            Ok(())
        })
    }

    /// A manifest by its digest, with everything below it.
    async fn place_manifest(&self, image: &Image, digest: &Digest, deepest: usize) -> Result<(), CopyError> {
        let flight = self.placed.flight(digest);
        let _alone = flight.lock().await;
        let manifest = self.fetch(&image.from, digest).await?;
        self.content(image, &manifest, deepest).await?;
        if self.has_manifest(&image.to, digest).await? {
            return Ok(());
        }
        self.put(&image.to, &digest.to_string(), &manifest).await?;
        Ok(())
    }

    /// Puts a manifest under a tag or its digest. Whether the target said that it has it by its digest.
    async fn put(&self, repository: &str, reference: &str, manifest: &Manifest) -> Result<bool, CopyError> {
        let target = &self.target.session(repository);
        let put = target.put_manifest(repository, reference, &manifest.media_type, manifest.body.clone());
        let put = put.await.inspect_err(|_| {
            // Perhaps one of its parts is gone, whatever we know.
            self.placed.forget(repository);
        });
        let put = put.map_err(CopyError::target)?;
        let is_said = put.is_some();
        if let Some(found) = put.filter(|found| *found != manifest.digest) {
            return Err(CopyError::Corrupt(format!(
                "the target calls what was sent as {} {found}",
                manifest.digest
            )));
        }
        self.placed.note(&manifest.digest, repository);
        self.settings.tally.add(Count::ManifestsSent, 1);
        Ok(is_said)
    }
}

fn too_deep() -> CopyError {
    CopyError::Unsupported("indexes within indexes, too deep".to_owned())
}

impl Manifest {
    fn read(digest: Digest, header: Option<&str>, body: Bytes) -> Result<Manifest, CopyError> {
        let (parts, media_type) = Parts::read(&body, header)?;
        Ok(Manifest {
            digest,
            media_type,
            body,
            parts,
        })
    }
}
