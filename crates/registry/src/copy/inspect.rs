//! Whether two registries can serve all that a digest refers to.

use std::collections::HashSet;

use catamaran_core::digest::Digest;
use catamaran_core::mirror::{FlawedPart, Part};
use catamaran_core::routing::evidence::Flaw;
use catamaran_core::side::{Side, Sides};

use super::DEEPEST;
use super::parts::{Child, Parts};
use crate::client::Client;
use crate::content::manifest::Manifest;
use crate::session::Session;
use crate::wire::failure::{Class, Failure};
use crate::wire::path;

/// Manifests and blobs that one inspection asks for at most; the rest is not looked at.
const MOST_PARTS: usize = 4096;

/// For each side the first part that can't be used, or why the side could not be read.
pub type Found = Sides<Result<Option<FlawedPart>, Failure>>;

/// Inspects on both sides everything that a digest refers to. Its manifest and those of an index are fetched and hashed; of each image the
/// config and the layers are looked for, and of attestations, which no node pulls, only the manifest.
///
/// What is not understood as an image or index has no parts. A side that does not have the digest itself lacks its manifest only if
/// `tag` still stands for it there, else that is a failure: the tag has moved on.
///
/// A side without a client is not asked, and nothing is found there.
pub async fn inspect(clients: Sides<Option<&Client>>, paths: Sides<&str>, tag: &str, digest: &Digest) -> Found {
    let mut inspection = Inspection {
        sessions: Sides::from_fn(|side| clients[side].map(|client| client.session(paths[side]))),
        paths,
        tag,
        found: Sides::from_fn(|_| Ok(None)),
        asked: HashSet::new(),
    };
    inspection.walk(digest).await;
    inspection.found
}

/// Fetches and hashes the manifest that a side has under a digest.
pub async fn check_manifest(
    client: &Client,
    path: &str,
    tag: &str,
    digest: &Digest,
) -> Result<Option<FlawedPart>, Failure> {
    let session = client.session(path);
    match fetch(session, path, digest, None).await? {
        Ok(_) => Ok(None),
        Err(failed) => root_flaw(session, (path, tag), failed).await.map(Some),
    }
}

/// A part that a side answered for, and can't be used.
struct Failed {
    part: FlawedPart,
    failure: Failure,
}

/// A manifest by digest, or what is wrong with it.
async fn fetch(
    session: &Session,
    path: &str,
    digest: &Digest,
    platform: Option<&String>,
) -> Result<Result<Manifest, Failed>, Failure> {
    let failure = match session.manifest(path, &digest.to_string()).await {
        Ok(manifest) => return Ok(Ok(manifest)),
        Err(failure) => failure,
    };
    let flaw = match failure.class {
        Class::Absent => Flaw::Broken,
        Class::UntrustedContent => Flaw::Untrusted,
        _ => return Err(failure),
    };
    let part = flawed(flaw, Part::Manifest, digest, platform);
    Ok(Err(Failed { part, failure }))
}

/// Whether what failed of the digest itself is a flaw: what is not there may have been deleted together with its tag.
async fn root_flaw(session: &Session, (path, tag): (&str, &str), failed: Failed) -> Result<FlawedPart, Failure> {
    if failed.part.flaw == Flaw::Broken {
        let resolved = path::is_tag(tag).then(|| session.resolve(path, tag));
        let claimed = match resolved {
            Some(resolved) => resolved
                .await
                .is_ok_and(|resolved| resolved.digest == failed.part.digest),
            None => false,
        };
        if !claimed {
            return Err(failed.failure);
        }
    }
    Ok(failed.part)
}

fn flawed(flaw: Flaw, part: Part, digest: &Digest, platform: Option<&String>) -> FlawedPart {
    FlawedPart {
        flaw,
        part,
        digest: digest.clone(),
        platform: platform.cloned(),
    }
}

struct Inspection<'a> {
    sessions: Sides<Option<&'a Session>>,
    paths: Sides<&'a str>,
    tag: &'a str,
    found: Found,
    /// Parts that were asked for.
    asked: HashSet<Digest>,
}

/// A manifest that is to be read.
struct Step {
    digest: Digest,
    platform: Option<String>,
    depth: usize,
}

impl<'a> Inspection<'a> {
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
            let mut images = Vec::new();
            for child in parts.children {
                if child.is_attestation() || step.depth == DEEPEST {
                    self.look_for(Part::Manifest, &child.digest, child.platform.as_ref())
                        .await;
                } else if self.is_new(&child.digest) {
                    images.push(step.below(child));
                }
            }
            // The first one is read next.
            steps.extend(images.into_iter().rev());
        }
    }

    /// Sides of which it is not known yet that something is flawed, and that answer.
    fn open(&self) -> impl Iterator<Item = (Side, &'a Session)> + use<'a> {
        let open = Sides::from_fn(|side| self.sessions[side].filter(|_| matches!(self.found[side], Ok(None))));
        Side::ALL
            .into_iter()
            .filter_map(move |side| open[side].map(|session| (side, session)))
    }

    /// Whether a part was not asked for before, and may be.
    fn is_new(&mut self, digest: &Digest) -> bool {
        self.asked.len() < MOST_PARTS && self.asked.insert(digest.clone())
    }

    /// Reads a manifest from both sides; what it leads to.
    async fn read(&mut self, step: &Step) -> Option<Parts> {
        let mut parts = None;
        for (side, session) in self.open() {
            let path = self.paths[side];
            match fetch(session, path, &step.digest, step.platform.as_ref()).await {
                // Both have the same content.
                Ok(Ok(manifest)) => {
                    parts = parts.or_else(|| Parts::read(&manifest.body, manifest.media_type.as_deref()).ok());
                }
                Ok(Err(failed)) if step.depth == 0 => {
                    self.found[side] = root_flaw(session, (path, self.tag), failed).await.map(Some);
                }
                Ok(Err(failed)) => self.found[side] = Ok(Some(failed.part)),
                Err(failure) => self.found[side] = Err(failure),
            }
        }
        parts.map(|(parts, _)| parts)
    }

    /// Looks for one part on both sides.
    async fn look_for(&mut self, part: Part, digest: &Digest, platform: Option<&String>) {
        if !self.is_new(digest) {
            return;
        }
        for (side, session) in self.open() {
            let path = self.paths[side];
            let there = match part {
                Part::Manifest => has_manifest(session, path, digest).await,
                Part::Config | Part::Layer => has_blob(session, path, digest).await,
            };
            self.found[side] = there.map(|there| (!there).then(|| flawed(Flaw::Broken, part, digest, platform)));
        }
    }
}

impl Step {
    fn below(&self, child: Child) -> Step {
        Step {
            digest: child.digest,
            platform: child.platform.or_else(|| self.platform.clone()),
            depth: self.depth + 1,
        }
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
