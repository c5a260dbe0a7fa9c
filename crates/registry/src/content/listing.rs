//! Lists of tags, and what is locked about them.

use crate::session::Session;
use crate::tags::{ListedTag, Lock};
use crate::wire::failure::Failure;
use crate::wire::path;

impl Session {
    /// All tags of a repository, sorted by name, each once.
    pub(crate) async fn list_tags(&self, repository: &str) -> Result<Vec<ListedTag>, Failure> {
        path::check_repository(repository)?;
        self.protocol.tags(self, repository).await
    }

    /// What is locked about a tag; `None` when nothing is, or the registry does not tell.
    pub(crate) async fn lock_of(&self, repository: &str, tag: &str) -> Result<Option<Lock>, Failure> {
        path::check_repository(repository)?;
        if !path::is_tag(tag) {
            return Ok(None);
        }
        self.protocol.lock_of(self, repository, tag).await
    }
}
