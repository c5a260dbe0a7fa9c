//! Whether two registries have all that a digest refers to.

use std::collections::HashSet;

use catamaran_core::digest::Digest;
use catamaran_core::mirror::{Missing, Part};
use catamaran_core::side::{Side, Sides};

use super::DEEPEST;
use super::parts::Parts;
use crate::client::Client;
use crate::session::Session;
use crate::wire::failure::Failure;

/// Manifests and blobs that one inspection asks for at most; the rest is not looked at.
const MOST_PARTS: usize = 4096;

/// Looks on both sides for everything that a digest refers to: the manifests of an index, and of each image its config and layers. Of
/// attestations, which no node pulls, only the manifest. For each side the first part that it lacks, or why it could not be read.
///
/// What is not understood as an image or index has no parts. A side that does not have the digest itself is a failure.
pub async fn inspect(
    clients: Sides<&Client>,
    paths: Sides<&str>,
    digest: &Digest,
) -> Sides<Result<Option<Missing>, Failure>> {
    let mut inspection = Inspection {
        sessions: Sides::from_fn(|side| clients[side].session(paths[side])),
        paths,
        found: Sides::from_fn(|_| Ok(None)),
        asked: HashSet::new(),
    };
    inspection.walk(digest).await;
    inspection.found
}

struct Inspection<'a> {
    sessions: Sides<&'a Session>,
    paths: Sides<&'a str>,
    found: Sides<Result<Option<Missing>, Failure>>,
    /// Parts that were asked for.
    asked: HashSet<Digest>,
}

/// A manifest that is to be read.
struct Step {
    digest: Digest,
    platform: Option<String>,
    depth: usize,
}

impl Inspection<'_> {
    async fn walk(&mut self, root: &Digest) {
        let mut steps = vec![Step {
            digest: root.clone(),
            platform: None,
            depth: 0,
        }];
        while let Some(step) = steps.pop() {
            let Some(parts) = self.read(&step).await else { continue };
            for (index, blob) in parts.blobs.iter().enumerate() {
                let is_config = index == 0 && parts.has_config;
                let part = if is_config { Part::Config } else { Part::Layer };
                self.look_for(part, &blob.digest, step.platform.as_ref()).await;
            }
            for child in parts.children {
                let is_new = self
                    .look_for(Part::Manifest, &child.digest, child.platform.as_ref())
                    .await;
                if is_new && step.depth < DEEPEST && !child.is_attestation() {
                    steps.push(Step {
                        digest: child.digest,
                        platform: child.platform.or_else(|| step.platform.clone()),
                        depth: step.depth + 1,
                    });
                }
            }
        }
    }

    /// Sides of which it is not known yet that something is missing, and that answer.
    fn open(&self) -> impl Iterator<Item = Side> + use<> {
        let open = Sides::from_fn(|side| matches!(self.found[side], Ok(None)));
        Side::ALL.into_iter().filter(move |side| open[*side])
    }

    /// What a manifest leads to, from the first side that gives it out.
    async fn read(&mut self, step: &Step) -> Option<Parts> {
        for side in self.open() {
            let digest = step.digest.to_string();
            match self.sessions[side].manifest(self.paths[side], &digest).await {
                Ok(manifest) => {
                    return Parts::read(&manifest.body, manifest.media_type.as_deref())
                        .ok()
                        .map(|(parts, _)| parts);
                }
                Err(failure) => self.found[side] = Err(failure),
            }
        }
        None
    }

    /// Looks for one part on both sides. Whether it was not looked for before.
    async fn look_for(&mut self, part: Part, digest: &Digest, platform: Option<&String>) -> bool {
        if self.asked.len() >= MOST_PARTS || !self.asked.insert(digest.clone()) {
            return false;
        }
        for side in self.open() {
            let (session, path) = (self.sessions[side], self.paths[side]);
            let there = match part {
                Part::Manifest => has_manifest(session, path, digest).await,
                Part::Config | Part::Layer => has_blob(session, path, digest).await,
            };
            self.found[side] = there.map(|there| {
                (!there).then(|| Missing {
                    part,
                    digest: digest.clone(),
                    platform: platform.cloned(),
                })
            });
        }
        true
    }
}

async fn has_manifest(session: &Session, path: &str, digest: &Digest) -> Result<bool, Failure> {
    match session.resolve(path, &digest.to_string()).await {
        Ok(_) => Ok(true),
        Err(failure) if failure.is_absent() => Ok(false),
        Err(failure) => Err(failure),
    }
}

/// Who says that it lacks a blob is asked for it as a kubelet would: only a body can say that it is absent.
async fn has_blob(session: &Session, path: &str, digest: &Digest) -> Result<bool, Failure> {
    let head = session.has_blob(path, digest).await;
    if !matches!(head, Ok(false)) {
        return head;
    }
    match session.first_blob_byte(path, digest).await {
        Ok(_) => Ok(true),
        Err(failure) if failure.is_absent() => Ok(false),
        Err(failure) => Err(failure),
    }
}
