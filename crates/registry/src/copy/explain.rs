//! What makes the manifests of two registries different.

use catamaran_core::digest::Digest;
use catamaran_core::mirror::parity::explain::{
    Content, Described, Explanation, Format, Layers, Member, Platforms, differing_platforms, explain as judge,
};
use catamaran_core::side::{Side, Sides};

use super::parts::Parts;
use crate::client::Client;
use crate::session::Session;
use crate::wire::failure::Failure;

/// Manifests of platforms that are read of one index at most; others are not compared.
const MOST_READ: usize = 16;

/// How two manifests with different digests differ; none where one of them is not understood. Reads both, and of indexes the manifests
/// of those platforms that differ.
pub async fn explain(
    clients: Sides<&Client>,
    paths: Sides<&str>,
    digests: Sides<&Digest>,
) -> Result<Option<Explanation>, Failure> {
    let places = Sides::from_fn(|side| Place {
        session: clients[side].session(paths[side]),
        path: paths[side],
    });
    let described = Sides {
        primary: places.primary.describe(digests.primary).await?,
        fallback: places.fallback.describe(digests.fallback).await?,
    };
    let Sides {
        primary: Some(primary),
        fallback: Some(fallback),
    } = described
    else {
        return Ok(None);
    };
    let mut described = Sides { primary, fallback };
    let wanted = wanted(&described);
    for side in Side::ALL {
        places[side].complete(&mut described[side], &wanted).await?;
    }
    Ok(Some(judge(described.as_ref())))
}

/// The platforms whose manifests are to be read: those that differ, and all of them beside a single image.
fn wanted(described: &Sides<Described>) -> Vec<String> {
    match (&described.primary.content, &described.fallback.content) {
        (Content::Index(primary), Content::Index(fallback)) => differing_platforms(Sides { primary, fallback }),
        (Content::Index(index), Content::Image(_)) | (Content::Image(_), Content::Index(index)) => {
            index.images.keys().cloned().collect()
        }
        (Content::Image(_), Content::Image(_)) => Vec::new(),
    }
}

struct Place<'a> {
    session: &'a Session,
    path: &'a str,
}

impl Place<'_> {
    /// A manifest; none if it is not understood.
    async fn describe(&self, digest: &Digest) -> Result<Option<Described>, Failure> {
        let manifest = self.session.manifest(self.path, &digest.to_string()).await?;
        let Ok((parts, media_type)) = Parts::read(&manifest.body, manifest.media_type.as_deref()) else {
            return Ok(None);
        };
        Ok(Some(Described {
            digest: digest.clone(),
            format: format(&media_type),
            content: content(parts),
        }))
    }

    /// Reads the manifests of these platforms of an index.
    async fn complete(&self, described: &mut Described, platforms: &[String]) -> Result<(), Failure> {
        let Content::Index(index) = &mut described.content else {
            return Ok(());
        };
        let images = index.images.iter_mut();
        let members = images
            .filter(|(name, _)| platforms.contains(name))
            .flat_map(|(_, all)| all);
        for member in members.take(MOST_READ) {
            let read = self.describe(&member.digest).await?;
            member.image = read.and_then(|read| match read.content {
                Content::Image(layers) => Some((read.format, layers)),
                Content::Index(_) => None,
            });
        }
        Ok(())
    }
}

fn format(media_type: &str) -> Format {
    match media_type {
        _ if media_type.starts_with("application/vnd.docker.") => Format::Docker,
        _ if media_type.starts_with("application/vnd.oci.") => Format::Oci,
        _ => Format::Other,
    }
}

fn content(parts: Parts) -> Content {
    if !parts.is_index {
        let mut blobs = parts.blobs.into_iter().map(|blob| blob.digest);
        return Content::Image(Layers {
            config: parts.has_config.then(|| blobs.next()).flatten(),
            layers: blobs.collect(),
        });
    }
    let mut platforms = Platforms::default();
    for child in parts.children {
        if child.is_attestation() {
            platforms.attestations.insert(child.digest);
        } else {
            let name = child.platform.unwrap_or_else(|| "no platform".to_owned());
            platforms.images.entry(name).or_default().push(Member {
                digest: child.digest,
                image: None,
            });
        }
    }
    Content::Index(platforms)
}
