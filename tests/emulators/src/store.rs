//! What registries hold: the seam between an emulator's protocol and its content.

use std::future::Future;
use std::pin::Pin;

use jiff::Timestamp;

use crate::message::{Answer, Request};
use crate::server::Answering;

mod memory;
mod proxy;
mod route;

pub use memory::Memory;
pub use proxy::Proxy;
pub use route::{Part, Route};

/// One tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tag {
    /// Its name.
    pub name: String,
    /// `sha256:…` of its manifest.
    pub digest: String,
    /// When the tag was made.
    pub created: Timestamp,
    /// When it was last pointed at a manifest.
    pub updated: Timestamp,
}

/// Tags on their way; `None`: there is no such repository.
pub type Tags<'a> = Pin<Box<dyn Future<Output = Option<Vec<Tag>>> + Send + 'a>>;

/// Content without rights: anyone who asks gets. Emulators check rights in front of it.
pub trait Storage: Send + Sync + 'static {
    /// Answers a request for manifests, blobs and uploads as a distribution registry without authentication does. Lists
    /// of tags are the emulators' own: each pages its own way.
    fn serve<'a>(&'a self, request: &'a Request, route: &'a Route) -> Answering<'a>;

    /// All tags of a repository with their digests, sorted by name.
    fn tags<'a>(&'a self, repository: &'a str) -> Tags<'a>;

    /// How many manifests a repository holds, tagged or not, as far as that is known.
    fn manifests(&self, repository: &str) -> usize;
}

/// The distribution specification's "no such manifest".
pub fn manifest_unknown() -> Answer {
    Answer::error("manifest", 404, "MANIFEST_UNKNOWN", "manifest unknown")
}

/// The distribution specification's "no such repository".
pub fn name_unknown(kind: &'static str) -> Answer {
    Answer::error(kind, 404, "NAME_UNKNOWN", "repository name not known to registry")
}
