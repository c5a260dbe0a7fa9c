//! What the target has already, and what is written where it has not.
//!
//! A look may be refused where nothing is there: Artifactory answers 403 for a tag that does not exist, Docker Hub 401 for a repository.
//! So a refused look says nothing, and the write that follows decides.

use std::time::Duration;

use catamaran_core::digest::Digest;

use super::parts::Blob;
use super::{Copied, Copier, CopyError, Count, Image, Manifest};
use crate::wire::failure::{Class, Failure};

/// A tag that was written may be read from a replica that does not have it yet: so often it is asked for again, after these waits.
const UNTIL_READABLE: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(4)];

/// Whether a look was refused, in words that may mean that nothing is there.
pub(super) fn is_refused(failure: &Failure) -> bool {
    matches!(
        failure.class,
        Class::Unauthorized | Class::Forbidden | Class::WaitingForAuthorization
    )
}

/// Notes a look that was refused: what it was for counts as not there.
pub(super) fn note_refused(failure: &Failure) {
    tracing::info!(%failure, "a look was refused, which counts as finding nothing");
}

/// What a look that may be refused found.
pub(super) fn found<T>(look: Result<Option<T>, Failure>) -> Result<Option<T>, Failure> {
    match look {
        Err(failure) if is_refused(&failure) => {
            note_refused(&failure);
            Ok(None)
        }
        look => look,
    }
}

impl Copier {
    /// Whether the target's tag is there; with another digest it is an error. One cheap request: an answer that leaves doubt
    /// counts as no, because the tag is looked for again before it is written.
    pub(super) async fn is_there(&self, image: &Image) -> Result<bool, CopyError> {
        let target = self.target.session(&image.to);
        let look = target.head_manifest(&image.to, &image.tag).await;
        match found(look).map_err(CopyError::target)? {
            Some(Some(found)) if found == image.digest => Ok(true),
            Some(Some(found)) => Err(CopyError::Mismatched { found }),
            Some(None) | None => Ok(false),
        }
    }

    /// Whether the target has a manifest by digest.
    pub(super) async fn has_manifest(&self, repository: &str, digest: &Digest) -> Result<bool, CopyError> {
        let there = self.placed.is_in(digest, repository) || {
            let target = self.target.session(repository);
            let look = target.head_manifest(repository, &digest.to_string()).await;
            found(look).map_err(CopyError::target)?.is_some()
        };
        if there {
            self.placed.note(digest, repository);
            self.settings.tally.add(Count::ManifestsSkipped, 1);
        }
        Ok(there)
    }

    /// Whether the target has a blob. A registry that does not let anybody look has it in doubt, and is sent it.
    pub(super) async fn has_blob(&self, repository: &str, blob: &Blob) -> Result<bool, CopyError> {
        let target = self.target.session(repository);
        let look = target.has_blob(repository, &blob.digest).await;
        let there = found(look.map(|there| there.then_some(())));
        Ok(there.map_err(CopyError::target)?.is_some())
    }

    /// Writes a tag, unless it is there; never over another digest. Looks at it before and after.
    pub(super) async fn write_tag(&self, image: &Image, tag: &str, manifest: &Manifest) -> Result<Copied, CopyError> {
        match self.tagged(image, tag).await? {
            Some(found) if found == manifest.digest => return Ok(Copied::AlreadyThere),
            Some(found) => return Err(CopyError::Mismatched { found }),
            None => {}
        }
        let is_said = self.put(&image.to, tag, manifest).await?;
        let found = self.written(image, tag, is_said).await?;
        match found.filter(|found| *found != manifest.digest) {
            None => Ok(Copied::Written),
            Some(found) => Err(CopyError::Mismatched { found }),
        }
    }

    /// What the target's tag stands for before it is written; `None` when it is not there.
    async fn tagged(&self, image: &Image, tag: &str) -> Result<Option<Digest>, CopyError> {
        match self.target.resolve(&image.to, tag).await {
            Ok(found) => Ok(Some(found.digest)),
            Err(failure) if failure.is_absent() => Ok(None),
            Err(failure) if is_refused(&failure) => self.unlisted(image, tag, failure).await,
            Err(failure) => Err(CopyError::target(failure)),
        }
    }

    /// Makes sure that a tag that must not be looked at does not exist, as far as the list of tags tells.
    pub(super) async fn unlisted(
        &self,
        image: &Image,
        tag: &str,
        refusal: Failure,
    ) -> Result<Option<Digest>, CopyError> {
        match self.target.list_tags(&image.to).await {
            Ok(tags) if tags.iter().any(|listed| listed.name == tag) => Err(CopyError::target(refusal)),
            Ok(_) => Ok(None),
            Err(failure) if is_refused(&failure) || failure.status == Some(404) => {
                note_refused(&refusal);
                Ok(None)
            }
            Err(failure) => Err(CopyError::target(failure)),
        }
    }

    /// What a tag stands for that was written right now. Where it can't be read even after a while, the target's word counts
    /// (`is_said`): `None`.
    async fn written(&self, image: &Image, tag: &str, is_said: bool) -> Result<Option<Digest>, CopyError> {
        let mut waits = UNTIL_READABLE.into_iter();
        loop {
            let failure = match self.target.resolve(&image.to, tag).await {
                Ok(found) => return Ok(Some(found.digest)),
                Err(failure) if failure.is_absent() || is_refused(&failure) => failure,
                Err(failure) => return Err(CopyError::target(failure)),
            };
            match waits.next() {
                Some(wait) if failure.is_absent() => tokio::time::sleep(wait).await,
                _ if is_said => {
                    tracing::info!(%failure, "a tag that was written can't be read yet");
                    return Ok(None);
                }
                _ => return Err(CopyError::target(failure)),
            }
        }
    }
}
