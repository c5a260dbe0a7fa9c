//! What a manifest leads to.

use catamaran_core::digest::Digest;
use serde::Deserialize;

use super::error::CopyError;
use crate::wire::json;

/// Blobs and manifests that one manifest may list; the image specification has no limit, and no image has a tenth of it.
const MOST_PARTS: usize = 4096;

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// A blob to be copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Blob {
    pub(super) digest: Digest,
    /// Bytes, as the manifest says.
    pub(super) size: u64,
}

/// A manifest that an index names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Child {
    pub(super) digest: Digest,
    /// `os/architecture`, where the index names them.
    pub(super) platform: Option<String>,
}

impl Child {
    /// What builders call the platform of what no node runs: attestations.
    pub(super) fn is_attestation(&self) -> bool {
        self.platform.as_deref() == Some("unknown/unknown")
    }
}

/// Everything that a manifest or index leads to, in its order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Parts {
    pub(super) blobs: Vec<Blob>,
    /// The first of the blobs is the config.
    pub(super) has_config: bool,
    pub(super) is_index: bool,
    pub(super) children: Vec<Child>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Written {
    media_type: Option<String>,
    config: Option<Descriptor>,
    #[serde(default, deserialize_with = "json::nullable")]
    layers: Vec<Descriptor>,
    #[serde(default, deserialize_with = "json::nullable")]
    blobs: Vec<Descriptor>,
    #[serde(default, deserialize_with = "json::present")]
    manifests: Option<Vec<Descriptor>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    #[serde(default)]
    media_type: String,
    digest: String,
    size: u64,
    #[serde(default, deserialize_with = "json::nullable")]
    urls: Vec<String>,
    platform: Option<Platform>,
}

#[derive(Deserialize)]
struct Platform {
    os: String,
    architecture: String,
}

/// Longer names of platforms are left out.
const LONGEST_PLATFORM: usize = 64;

impl Parts {
    /// All blobs but the config.
    pub(super) fn layers(&self) -> &[Blob] {
        &self.blobs[usize::from(self.has_config).min(self.blobs.len())..]
    }

    /// The parts of a manifest and its media type: the one it names, else the one it came with, else what it looks like.
    pub(super) fn read(body: &[u8], header: Option<&str>) -> Result<(Parts, String), CopyError> {
        let unsupported = |why: &str| CopyError::Unsupported(why.to_owned());
        let written: Written =
            serde_json::from_slice(body).map_err(|_| unsupported("its manifest is not one that is understood"))?;
        let is_index = written.manifests.is_some();
        let children = written.manifests.as_ref().map_or(0, Vec::len);
        if children + written.layers.len() + written.blobs.len() > MOST_PARTS {
            return Err(unsupported("its manifest has more than 4096 parts"));
        }
        if !is_index && written.config.is_none() && written.blobs.is_empty() {
            return Err(unsupported(
                "its manifest has neither a config nor manifests (Docker schema 1?)",
            ));
        }
        let media_type = written
            .media_type
            .as_deref()
            .or_else(|| header.map(|header| header.split(';').next().unwrap_or_default().trim()))
            .filter(|name| name.starts_with("application/vnd.") && name.len() <= 255 && name.bytes().all(is_graphic))
            .unwrap_or(if is_index { INDEX } else { MANIFEST })
            .to_owned();
        let has_config = written.config.as_ref().is_some_and(|config| !is_elsewhere(config));
        let blobs = written.config.into_iter().chain(written.layers).chain(written.blobs);
        let children = written.manifests.unwrap_or_default();
        let mut parts = Parts {
            has_config,
            is_index,
            ..Parts::default()
        };
        for blob in blobs.filter(|blob| !is_elsewhere(blob)) {
            let digest = digest(&blob)?;
            if !parts.blobs.iter().any(|known| known.digest == digest) {
                parts.blobs.push(Blob {
                    digest,
                    size: blob.size,
                });
            }
        }
        for child in children {
            let digest = digest(&child)?;
            if !parts.children.iter().any(|known| known.digest == digest) {
                let platform = child
                    .platform
                    .map(|platform| format!("{}/{}", platform.os, platform.architecture));
                let platform = platform.filter(|name| name.len() <= LONGEST_PLATFORM && name.bytes().all(is_graphic));
                parts.children.push(Child { digest, platform });
            }
        }
        Ok((parts, media_type))
    }
}

fn digest(descriptor: &Descriptor) -> Result<Digest, CopyError> {
    let read = descriptor.digest.parse();
    read.map_err(|_| CopyError::Unsupported("its manifest has a digest that is none".to_owned()))
}

/// Layers that registries do not hold: anyone who needs them fetches them from their URLs (Windows base images).
fn is_elsewhere(blob: &Descriptor) -> bool {
    let kind = &blob.media_type;
    !blob.urls.is_empty() && (kind.contains("nondistributable") || kind.contains("foreign"))
}

fn is_graphic(byte: u8) -> bool {
    byte.is_ascii_graphic()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest_of(text: &str) -> Digest {
        Digest::of(text.as_bytes())
    }

    #[test]
    #[expect(clippy::too_many_lines, reason = "one table")]
    fn every_kind_of_manifest_is_read() {
        let (a, b) = (digest_of("a"), digest_of("b"));
        let blob = |digest: &Digest, size| Blob {
            digest: digest.clone(),
            size,
        };
        let foreign =
            r#""mediaType":"application/vnd.docker.image.rootfs.foreign.diff.tar.gzip","urls":["https://x/y"]"#;
        let docker = "application/vnd.docker.distribution.manifest.v2+json";
        let cases = [
            (
                "image",
                format!(r#"{{"config":{{"digest":"{a}","size":1}},"layers":[{{"digest":"{b}","size":2}}]}}"#),
                None,
                vec![blob(&a, 1), blob(&b, 2)],
                vec![],
                MANIFEST,
            ),
            (
                "the same layer twice",
                format!(
                    r#"{{"mediaType":"{docker}","config":{{"digest":"{a}","size":1}},"layers":[{{"digest":"{b}","size":2}},{{"digest":"{b}","size":2}}]}}"#
                ),
                None,
                vec![blob(&a, 1), blob(&b, 2)],
                vec![],
                docker,
            ),
            (
                "index",
                format!(r#"{{"manifests":[{{"digest":"{a}","size":1}},{{"digest":"{b}","size":2}}]}}"#),
                None,
                vec![],
                vec![a.clone(), b.clone()],
                INDEX,
            ),
            (
                "lists that are null",
                format!(r#"{{"config":{{"digest":"{a}","size":1,"urls":null}},"layers":null,"blobs":null}}"#),
                None,
                vec![blob(&a, 1)],
                vec![],
                MANIFEST,
            ),
            (
                "index of nothing",
                r#"{"manifests":null}"#.to_owned(),
                None,
                vec![],
                vec![],
                INDEX,
            ),
            (
                "empty index",
                r#"{"manifests":[]}"#.to_owned(),
                Some("text/html"),
                vec![],
                vec![],
                INDEX,
            ),
            (
                "type from the header",
                format!(r#"{{"config":{{"digest":"{a}","size":1}}}}"#),
                Some("application/vnd.x+json; charset=utf-8"),
                vec![blob(&a, 1)],
                vec![],
                "application/vnd.x+json",
            ),
            (
                "foreign layer",
                format!(r#"{{"config":{{"digest":"{a}","size":1}},"layers":[{{"digest":"{b}","size":2,{foreign}}}]}}"#),
                None,
                vec![blob(&a, 1)],
                vec![],
                MANIFEST,
            ),
            (
                "artifact",
                format!(r#"{{"blobs":[{{"digest":"{b}","size":2}}]}}"#),
                None,
                vec![blob(&b, 2)],
                vec![],
                MANIFEST,
            ),
        ];
        for (name, body, header, blobs, children, media_type) in cases {
            let read = Parts::read(body.as_bytes(), header).unwrap();
            let has_config = body.contains("config");
            let children = children.into_iter().map(|digest| Child { digest, platform: None });
            let parts = Parts {
                blobs,
                has_config,
                is_index: body.contains("manifests"),
                children: children.collect(),
            };
            assert_eq!(read, (parts, media_type.to_owned()), "{name}");
        }
    }

    #[test]
    fn what_is_no_manifest_is_refused() {
        let many: Vec<String> = (0..=MOST_PARTS)
            .map(|n| format!(r#"{{"digest":"{}","size":1}}"#, digest_of(&n.to_string())))
            .collect();
        let cases = [
            String::new(),
            "[]".to_owned(),
            r#"{"fsLayers":[]}"#.to_owned(),
            r#"{"config":{"digest":"sha256:00","size":1}}"#.to_owned(),
            format!(r#"{{"config":{{"digest":"{}","size":-1}}}}"#, digest_of("a")),
            format!(r#"{{"manifests":[{}]}}"#, many.join(",")),
        ];
        for body in cases {
            let error = Parts::read(body.as_bytes(), None).unwrap_err();
            assert_eq!(error.reason(), "Unsupported", "{body:.80}");
        }
    }
}
