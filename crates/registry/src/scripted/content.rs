//! What the registry holds.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use catamaran_core::digest::Digest;

#[derive(Default)]
pub(crate) struct Content {
    repositories: HashMap<String, Repository>,
    blobs: HashMap<Digest, Bytes>,
}

#[derive(Default)]
pub(crate) struct Repository {
    pub(crate) tags: BTreeMap<String, Digest>,
    manifests: HashMap<Digest, Stored>,
}

#[derive(Clone)]
pub(crate) struct Stored {
    pub(crate) media_type: String,
    pub(crate) body: Bytes,
}

impl Content {
    pub(crate) fn push(&mut self, repository: &str, tag: &str, content: &str) -> Digest {
        let config = Bytes::from(format!(
            r#"{{"architecture":"amd64","os":"linux","content":"{content}"}}"#
        ));
        let layer = Bytes::from(format!("layer of {content}"));
        let body = format!(
            r#"{{"schemaVersion":2,"mediaType":"{manifest}","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{config}","size":{config_size}}},"layers":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"{layer}","size":{layer_size}}}]}}"#,
            manifest = super::IMAGE_MANIFEST,
            config_size = config.len(),
            layer_size = layer.len(),
            config = self.put_blob(config),
            layer = self.put_blob(layer),
        );
        self.put_manifest(repository, Some(tag), super::IMAGE_MANIFEST, body.into())
    }

    pub(crate) fn put_manifest(
        &mut self,
        repository: &str,
        tag: Option<&str>,
        media_type: &str,
        body: Bytes,
    ) -> Digest {
        let digest = Digest::of(&body);
        let stored = Stored {
            media_type: media_type.to_owned(),
            body,
        };
        let repository = self.repositories.entry(repository.to_owned()).or_default();
        repository.manifests.insert(digest.clone(), stored);
        if let Some(tag) = tag {
            repository.tags.insert(tag.to_owned(), digest.clone());
        }
        digest
    }

    pub(crate) fn put_blob(&mut self, body: Bytes) -> Digest {
        let digest = Digest::of(&body);
        self.blobs.insert(digest.clone(), body);
        digest
    }

    pub(crate) fn tag(&mut self, repository: &str, tag: &str, digest: &Digest) {
        let repository = self.repositories.entry(repository.to_owned()).or_default();
        repository.tags.insert(tag.to_owned(), digest.clone());
    }

    pub(crate) fn untag(&mut self, repository: &str, tag: &str) {
        if let Some(repository) = self.repositories.get_mut(repository) {
            repository.tags.remove(tag);
        }
    }

    pub(crate) fn delete(&mut self, repository: &str) {
        self.repositories.remove(repository);
    }

    pub(crate) fn repository(&self, name: &str) -> Option<&Repository> {
        self.repositories.get(name)
    }

    pub(crate) fn blob(&self, digest: &str) -> Option<Bytes> {
        self.blobs.get(&digest.parse().ok()?).cloned()
    }
}

impl Repository {
    /// A manifest by tag or digest.
    pub(crate) fn manifest(&self, reference: &str) -> Option<(Digest, Stored)> {
        let digest = reference.parse().ok().or_else(|| self.tags.get(reference).cloned())?;
        let stored = self.manifests.get(&digest)?.clone();
        Some((digest, stored))
    }

    /// At most `count` tags after `last`, and whether there are more.
    pub(crate) fn page(&self, last: Option<&str>, count: usize) -> (Vec<(&String, &Digest)>, bool) {
        let mut rest = self
            .tags
            .iter()
            .filter(|(name, _)| last.is_none_or(|last| name.as_str() > last));
        let page: Vec<_> = rest.by_ref().take(count).collect();
        let more = rest.next().is_some();
        (page, more)
    }
}
