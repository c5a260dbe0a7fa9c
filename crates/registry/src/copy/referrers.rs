//! What is attached to an image: signatures, attestations, software bills.
//!
//! Two ways lead to them, and registries in the wild need both: the referrers API (OCI distribution specification 1.1, with
//! the tag `sha256-<hex>` where a registry has no such API), and cosign's tags `sha256-<hex>.sig`, `.att` and `.sbom`. They
//! are copied before the image's own tag, so that a cluster that admits only signed images never sees it unsigned.

use catamaran_core::digest::Digest;
use http::Method;

use super::{Copied, Copier, CopyError, DEEPEST, Image, Manifest};
use crate::session::Session;
use crate::wire::ask::Ask;
use crate::wire::failure::{Failure, Rung};

/// Cosign's tags, after `sha256-<hex>`.
const SUFFIXES: [&str; 3] = [".sig", ".att", ".sbom"];
const ACCEPT: &str = "application/vnd.oci.image.index.v1+json";

impl Copier {
    /// Everything that is attached to an image itself; what is attached to a platform's manifest within an index is not
    /// looked for.
    pub(super) async fn attached(&self, image: &Image, root: &Manifest) -> Result<(), CopyError> {
        let fallback = fallback_tag(&root.digest);
        if let Some(index) = self.list(image, &root.digest, &fallback).await? {
            for referrer in &index.parts.children {
                self.place_manifest(image, &referrer.digest, DEEPEST).await?;
            }
            // Where there is no API they are found by the tag.
            let target = &self.target.session(&image.to);
            let listed = target.referrers(&image.to, &root.digest).await;
            if listed.map_err(CopyError::target)?.is_none() {
                self.attach_tag(image, &fallback, &index).await?;
            }
        }
        for suffix in SUFFIXES {
            let tag = format!("{fallback}{suffix}");
            let source = &self.source.session(&image.from);
            let found = source
                .head_manifest(&image.from, &tag)
                .await
                .map_err(CopyError::source)?;
            if found.is_none() {
                continue;
            }
            let manifest = source.manifest(&image.from, &tag).await.map_err(CopyError::source)?;
            let manifest = Manifest::read(manifest.digest, manifest.media_type.as_deref(), manifest.body)?;
            self.content(image, &manifest, DEEPEST).await?;
            self.attach_tag(image, &tag, &manifest).await?;
        }
        Ok(())
    }

    /// The index of what refers to an image: from the API, else from the tag; `None` when there is nothing.
    async fn list(&self, image: &Image, digest: &Digest, fallback: &str) -> Result<Option<Manifest>, CopyError> {
        let source = &self.source.session(&image.from);
        let listed = match source.referrers(&image.from, digest).await.map_err(CopyError::source)? {
            Some(listed) => listed,
            None => match source
                .head_manifest(&image.from, fallback)
                .await
                .map_err(CopyError::source)?
            {
                None => return Ok(None),
                Some(_) => {
                    source
                        .manifest(&image.from, fallback)
                        .await
                        .map_err(CopyError::source)?
                        .body
                }
            },
        };
        let index = Manifest::read(Digest::of(&listed), Some(ACCEPT), listed)?;
        Ok(Some(index).filter(|index| !index.parts.children.is_empty()))
    }

    /// Writes a tag of this kind unless there is one; one that differs stays, as every tag does.
    async fn attach_tag(&self, image: &Image, tag: &str, manifest: &Manifest) -> Result<(), CopyError> {
        match self.write_tag(image, tag, manifest).await {
            Ok(Copied::Written | Copied::AlreadyThere) => Ok(()),
            Err(CopyError::Mismatched { found }) => {
                tracing::info!(repository = image.to, tag, %found, "the target has other signatures, which are kept");
                Ok(())
            }
            Err(error) => Err(error),
        }
    }
}

impl Session {
    /// The referrers API; `None` where there is none (404, or GHCR's redirect to a web page).
    async fn referrers(&self, repository: &str, digest: &Digest) -> Result<Option<bytes::Bytes>, Failure> {
        let url = self.site.url(&format!("/v2/{repository}/referrers/{digest}"));
        let mut ask = Ask::new(Method::GET, url, Rung::Manifest);
        ask.accept = Some(ACCEPT);
        match self.ask(ask, repository).await {
            Ok(reply) if !reply.status().is_success() || reply.is_html() => Ok(None),
            Ok(reply) => reply.body(self.http.limits.manifest_bytes).await.map(Some),
            Err(failure) if matches!(failure.status, Some(400 | 404 | 405 | 501)) => Ok(None),
            Err(failure) => Err(failure),
        }
    }
}

/// `sha256-<hex>` (OCI distribution specification, "Referrers Tag Schema").
fn fallback_tag(digest: &Digest) -> String {
    let text = digest.to_string();
    let (algorithm, hex) = text.split_once(':').unwrap_or((&text, ""));
    format!("{algorithm:.32}-{hex:.64}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fallback_tag_is_the_digest_cut_to_what_a_tag_may_hold() {
        let short = format!("sha256:{}", "a".repeat(64)).parse().unwrap();
        assert_eq!(fallback_tag(&short), format!("sha256-{}", "a".repeat(64)));
        let long = format!("sha512:{}", "b".repeat(128)).parse().unwrap();
        assert_eq!(fallback_tag(&long), format!("sha512-{}", "b".repeat(64)));
    }
}
