//! What is attached to an image: signatures, attestations, software bills.
//!
//! Two ways lead to them, and registries in the wild need both: the referrers API (OCI distribution specification 1.1, with
//! the tag `sha256-<hex>` where a registry has no such API), and cosign's tags `sha256-<hex>.sig`, `.att` and `.sbom`. They
//! are copied before the image's own tag, so that a cluster that admits only signed images never sees it unsigned. All of them come, or
//! the copy fails: what is attached to an index, to its platforms, and to what is attached.

use std::collections::HashSet;

use bytes::Bytes;
use catamaran_core::digest::Digest;
use http::Method;
use url::Url;

use super::looks::{found, is_refused, note_refused};
use super::subjects::{INDEX, Referrers, fallback_tag};
use super::{Copied, Copier, CopyError, DEEPEST, Image, Manifest, too_deep};
use crate::content::manifest::Manifest as Fetched;
use crate::session::Session;
use crate::tags::link::next_link;
use crate::tags::pages::Seen;
use crate::wire::ask::Ask;
use crate::wire::failure::{Class, Failure, Stage};

/// Cosign's tags, after `sha256-<hex>`.
const SUFFIXES: [&str; 3] = [".sig", ".att", ".sbom"];
/// Manifests of one image that something may be attached to.
const MOST_SUBJECTS: usize = 2048;
/// How often a list is merged into one that others write at the same time.
const MERGES: usize = 3;

impl Copier {
    /// Everything that is attached to an image, to the manifests of an index, and to what is attached itself.
    pub(super) async fn attached(&self, image: &Image, root: &Manifest) -> Result<(), CopyError> {
        let children = root.parts.children.iter().map(|child| child.digest.clone());
        let mut subjects: Vec<_> = [root.digest.clone()]
            .into_iter()
            .chain(children)
            .map(|one| (one, DEEPEST))
            .collect();
        let mut seen: HashSet<_> = subjects.iter().map(|(subject, _)| subject.clone()).collect();
        while let Some((subject, deepest)) = subjects.pop() {
            for referrer in self.attached_to(image, &subject).await? {
                if !seen.insert(referrer.clone()) {
                    continue;
                }
                if seen.len() > MOST_SUBJECTS {
                    let message = format!("more than {MOST_SUBJECTS} manifests belong to it or refer to it");
                    return Err(CopyError::Unsupported(message));
                }
                subjects.push((referrer, deepest.checked_sub(1).ok_or_else(too_deep)?));
            }
        }
        Ok(())
    }

    /// What is attached to one manifest; what refers to it.
    async fn attached_to(&self, image: &Image, subject: &Digest) -> Result<Vec<Digest>, CopyError> {
        let fallback = fallback_tag(subject);
        let (referrers, listed) = self.list(image, subject, &fallback).await?;
        for referrer in referrers.digests() {
            self.place_manifest(image, referrer, DEEPEST).await?;
        }
        if !referrers.is_empty() {
            // Where there is no API they are found by the tag.
            let target = self.target.session(&image.to);
            let api = target.referrers(&image.to, subject).await;
            if api.map_err(CopyError::target)?.is_none() {
                self.merge(image, &fallback, &referrers, listed).await?;
            }
        }
        for suffix in SUFFIXES {
            let tag = format!("{fallback}{suffix}");
            if let Some(manifest) = self.source_tag(image, &tag).await? {
                let manifest = Manifest::read(manifest.digest, manifest.media_type.as_deref(), manifest.body)?;
                self.content(image, &manifest, DEEPEST).await?;
                self.attach_tag(image, &tag, &manifest).await?;
            }
        }
        Ok(referrers.digests().cloned().collect())
    }

    /// What refers to a manifest of the source, from the API and from the tag: a registry that has learnt the one may not know what was
    /// attached by the other. With the list as it is, where there is only one.
    async fn list(
        &self,
        image: &Image,
        subject: &Digest,
        fallback: &str,
    ) -> Result<(Referrers, Option<Bytes>), CopyError> {
        let source = self.source.session(&image.from);
        let mut pages = source
            .referrers(&image.from, subject)
            .await
            .map_err(CopyError::source)?
            .unwrap_or_default();
        let tagged = self.source_tag(image, fallback).await?;
        pages.extend(tagged.map(|index| index.body));
        let mut referrers = Referrers::default();
        for page in &pages {
            referrers.add(page)?;
        }
        let whole = pages.pop().filter(|_| pages.is_empty());
        Ok((referrers, whole))
    }

    /// A manifest of the source by a tag that need not be there.
    async fn source_tag(&self, image: &Image, tag: &str) -> Result<Option<Fetched>, CopyError> {
        let source = self.source.session(&image.from);
        let look = found(source.head_manifest(&image.from, tag).await);
        if look.map_err(CopyError::source)?.is_none() {
            return Ok(None);
        }
        source
            .manifest(&image.from, tag)
            .await
            .map(Some)
            .map_err(CopyError::source)
    }

    /// Adds what the target's tag lacks, and keeps what it has. `listed`: the source's list, where it is the whole.
    async fn merge(
        &self,
        image: &Image,
        tag: &str,
        referrers: &Referrers,
        listed: Option<Bytes>,
    ) -> Result<(), CopyError> {
        for _ in 0..MERGES {
            let (mut merged, is_there) = self.target_list(image, tag).await?;
            if merged.contains(referrers) {
                return Ok(());
            }
            merged.extend(referrers)?;
            let body = listed.clone().filter(|_| !is_there).unwrap_or_else(|| merged.index());
            let index = Manifest::read(Digest::of(&body), Some(INDEX), body)?;
            let is_said = self.put(&image.to, tag, &index).await?;
            // Another writer at the same time may have taken ours away again.
            let (now, is_readable) = self.target_list(image, tag).await?;
            if now.contains(referrers) || (!is_readable && is_said) {
                return Ok(());
            }
        }
        let class = Class::Unexpected;
        let message = format!("failed to add to the tag {tag:?} of the target: others write it at the same time");
        Err(CopyError::Target(Failure::new(Stage::Manifest, class, message)))
    }

    /// What the target's tag lists, and whether there is one.
    async fn target_list(&self, image: &Image, tag: &str) -> Result<(Referrers, bool), CopyError> {
        let target = self.target.session(&image.to);
        let is_there = match target.head_manifest(&image.to, tag).await {
            Ok(look) => look.is_some(),
            Err(failure) if is_refused(&failure) => self.unlisted(image, tag, failure).await?.is_some(),
            Err(failure) => return Err(CopyError::target(failure)),
        };
        let mut referrers = Referrers::default();
        if is_there {
            let index = target.manifest(&image.to, tag).await.map_err(CopyError::target)?;
            referrers.add(&index.body)?;
        }
        Ok((referrers, is_there))
    }

    /// Writes one of cosign's tags. One that is there and lacks some of the signatures is replaced by the one that has them all; one that
    /// has others stays: both sides may have been signed apart, and each signature is good for both.
    async fn attach_tag(&self, image: &Image, tag: &str, manifest: &Manifest) -> Result<(), CopyError> {
        let found = match self.write_tag(image, tag, manifest).await {
            Ok(Copied::Written | Copied::AlreadyThere) => return Ok(()),
            Err(CopyError::Mismatched { found }) => found,
            Err(error) => return Err(error),
        };
        let target = self.target.session(&image.to);
        let theirs = target
            .manifest(&image.to, &found.to_string())
            .await
            .map_err(CopyError::target)?;
        let theirs = Manifest::read(theirs.digest, theirs.media_type.as_deref(), theirs.body)?;
        let ours = manifest.parts.layers();
        if theirs.parts.layers().iter().all(|layer| ours.contains(layer)) {
            self.put(&image.to, tag, manifest).await?;
        } else if !ours.iter().all(|layer| theirs.parts.layers().contains(layer)) {
            tracing::info!(repository = image.to, tag, %found, "the target has other signatures, which are kept");
        }
        Ok(())
    }
}

impl Session {
    /// All pages of the referrers API; `None` where there is none (404, or GHCR's redirect to a web page). A later page that is not
    /// there is an error.
    async fn referrers(&self, repository: &str, digest: &Digest) -> Result<Option<Vec<Bytes>>, Failure> {
        let mut pages = Vec::new();
        let mut seen = Seen::default();
        let mut next = Some(self.site.url(&format!("/v2/{repository}/referrers/{digest}")));
        let mut bytes = 0;
        while let Some(url) = next {
            let endless = |why: String| {
                let message = format!("GET {}: not a registry's answer: {why}", self.site.url(url.path()));
                Failure::new(Stage::Manifest, Class::TooLarge, message)
            };
            seen.note(url.query().unwrap_or_default(), &self.http.limits)
                .map_err(endless)?;
            let (body, link) = match self.referrers_page(url.clone(), repository).await {
                Ok(Some(page)) => page,
                Ok(None) => return Ok(None),
                Err(failure) if pages.is_empty() && is_refused(&failure) => {
                    note_refused(&failure);
                    return Ok(None);
                }
                Err(failure) if pages.is_empty() && matches!(failure.status, Some(400 | 404 | 405 | 501)) => {
                    return Ok(None);
                }
                Err(failure) => return Err(failure),
            };
            bytes += body.len() as u64;
            if bytes > self.http.limits.manifest_bytes {
                return Err(endless(format!("more than {} bytes", self.http.limits.manifest_bytes)));
            }
            pages.push(body);
            next = link;
        }
        Ok(Some(pages))
    }

    /// One page, and where the next one is; `None` for what is no page of a list.
    async fn referrers_page(&self, url: Url, repository: &str) -> Result<Option<(Bytes, Option<Url>)>, Failure> {
        let is_first = url.query().is_none();
        let mut ask = Ask::new(Method::GET, url, Stage::Manifest);
        ask.accept = Some(INDEX);
        let reply = self.ask(ask, repository).await?;
        if !reply.status().is_success() || reply.is_html() {
            let broken = reply.not_a_registry("no list of referrers");
            return if is_first { Ok(None) } else { Err(broken) };
        }
        let link = next_link(&reply)?;
        let body = reply.body(self.http.limits.manifest_bytes).await?;
        Ok(Some((body, link)))
    }
}
