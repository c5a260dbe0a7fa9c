//! What the registry holds.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bytes::Bytes;
use catamaran_core::digest::Digest;
use serde_json::{Value, json};

/// The media type of the image manifests that [`Registry::push`] makes.
pub const IMAGE_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// The media type of image indexes.
pub const IMAGE_INDEX: &str = "application/vnd.oci.image.index.v1+json";

#[derive(Default)]
pub(crate) struct Content {
    repositories: HashMap<String, Repository>,
    blobs: HashMap<Digest, Blob>,
    uploads: HashMap<u64, Upload>,
    begun: u64,
}

struct Blob {
    body: Bytes,
    /// The repositories that have it; `None`: all of them, because it was put there before anything was asked.
    repositories: Option<BTreeSet<String>>,
}

/// An upload under way.
pub(crate) struct Upload {
    pub(crate) repository: String,
    pub(crate) body: Vec<u8>,
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
            manifest = IMAGE_MANIFEST,
            config_size = config.len(),
            layer_size = layer.len(),
            config = self.put_blob(config),
            layer = self.put_blob(layer),
        );
        self.put_manifest(repository, Some(tag), IMAGE_MANIFEST, body.into())
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
        let blob = Blob {
            body,
            repositories: None,
        };
        self.blobs.insert(digest.clone(), blob);
        digest
    }

    pub(crate) fn clean_up(&mut self, repository: &str, digest: &Digest) {
        self.blobs.remove(digest);
        if let Some(repository) = self.repositories.get_mut(repository) {
            repository.manifests.remove(digest);
        }
    }

    /// Notes a blob that was uploaded to a repository.
    pub(crate) fn place_blob(&mut self, repository: &str, digest: &Digest, body: Bytes) {
        let blob = self.blobs.entry(digest.clone()).or_insert_with(|| Blob {
            body,
            repositories: Some(BTreeSet::new()),
        });
        if let Some(repositories) = &mut blob.repositories {
            repositories.insert(repository.to_owned());
        }
    }

    /// Takes a blob over from another repository, if that has it.
    pub(crate) fn mount(&mut self, repository: &str, digest: &str, from: &str) -> bool {
        let Some(body) = self.blob(from, digest) else {
            return false;
        };
        let Ok(digest) = digest.parse() else { return false };
        self.place_blob(repository, &digest, body);
        true
    }

    pub(crate) fn begin_upload(&mut self, repository: &str) -> u64 {
        self.begun += 1;
        let upload = Upload {
            repository: repository.to_owned(),
            body: Vec::new(),
        };
        self.uploads.insert(self.begun, upload);
        self.begun
    }

    pub(crate) fn upload(&mut self, id: u64) -> Option<&mut Upload> {
        self.uploads.get_mut(&id)
    }

    pub(crate) fn end_upload(&mut self, id: u64) -> Option<Upload> {
        self.uploads.remove(&id)
    }

    pub(crate) fn uploads(&self) -> usize {
        self.uploads.len()
    }

    /// Whether everything that a manifest names is in the repository.
    pub(crate) fn is_complete(&self, repository: &str, manifest: &[u8]) -> bool {
        let Ok(manifest) = serde_json::from_slice::<serde_json::Value>(manifest) else {
            return false;
        };
        let digests = |key: &str| {
            let listed = manifest[key].as_array().cloned().unwrap_or_default();
            let digest = |one: serde_json::Value| one["digest"].as_str().unwrap_or_default().to_owned();
            listed.into_iter().map(digest).collect::<Vec<_>>()
        };
        let config = manifest["config"]["digest"].as_str().map(str::to_owned);
        let has_blob = |digest: &String| self.blob(repository, digest).is_some();
        let has_manifest = |digest: &String| {
            let there = self.repositories.get(repository);
            there.is_some_and(|there| there.manifest(digest).is_some())
        };
        digests("layers").iter().chain(&config).all(has_blob) && digests("manifests").iter().all(has_manifest)
    }

    /// The descriptors of a repository's manifests whose subject this is, with the type of what they are and their annotations
    /// (OCI distribution specification 1.1, "Listing Referrers").
    pub(crate) fn referrers(&self, repository: &str, subject: &str) -> Vec<Value> {
        let manifests = self
            .repositories
            .get(repository)
            .map(|repository| &repository.manifests);
        let mut found: Vec<_> = manifests.into_iter().flatten().collect();
        found.sort_by_key(|(digest, _)| digest.to_string());
        let describe = |(digest, stored): (&Digest, &Stored)| {
            let manifest = serde_json::from_slice::<Value>(&stored.body).ok()?;
            let mut descriptor = json!({
                "mediaType": stored.media_type, "digest": digest.to_string(), "size": stored.body.len(),
            });
            let kinds = [&manifest["artifactType"], &manifest["config"]["mediaType"]];
            if let Some(kind) = kinds.into_iter().find(|kind| kind.is_string()) {
                descriptor["artifactType"] = kind.clone();
            }
            if manifest["annotations"].is_object() {
                descriptor["annotations"] = manifest["annotations"].clone();
            }
            (manifest["subject"]["digest"] == subject).then_some(descriptor)
        };
        found.into_iter().filter_map(describe).collect()
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

    /// A blob that the repository has.
    pub(crate) fn blob(&self, repository: &str, digest: &str) -> Option<Bytes> {
        let blob = self.blobs.get(&digest.parse().ok()?)?;
        let has = |repositories: &BTreeSet<String>| repositories.contains(repository);
        blob.repositories.as_ref().is_none_or(has).then(|| blob.body.clone())
    }

    /// A blob of whatever repository.
    pub(crate) fn stored_blob(&self, digest: &str) -> Option<Bytes> {
        Some(self.blobs.get(&digest.parse().ok()?)?.body.clone())
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
