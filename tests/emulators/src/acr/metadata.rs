//! `/acr/v1`: tags with digests, repositories and manifests, with their locks.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Acr, Attributes};
use crate::message::{Answer, Request};
use crate::store::{Tag, name_unknown};

/// One page of a list.
pub(super) struct Page<T> {
    pub(super) entries: Vec<T>,
    link: Option<String>,
}

impl<T> Page<T> {
    pub(super) fn linked(self, answer: Answer) -> Answer {
        match self.link {
            Some(link) => answer.header("link", &link),
            None => answer,
        }
    }
}

impl Acr {
    pub(super) async fn metadata(&self, request: &Request, kind: &'static str) -> Answer {
        let rest = request.path.strip_prefix("/acr/v1/").unwrap_or_default();
        let (repository, what) = match (rest.split_once("/_tags"), rest.split_once("/_manifests")) {
            (Some((repository, tag)), _) => (repository, Some(("tags", tag))),
            (None, Some((repository, digest))) => (repository, Some(("manifests", digest))),
            (None, None) => (rest, None),
        };
        if let Some(refused) = self.refuse(request, repository, "metadata_read", kind) {
            return refused;
        }
        match what {
            None => self.repository(repository).await,
            Some(("tags", "")) => self.tags(request, repository).await,
            Some(("tags", tag)) => self.tag(repository, tag.trim_start_matches('/')).await,
            Some((_, digest)) => self.manifest_metadata(repository, digest.trim_start_matches('/')).await,
        }
    }

    /// The tags that lists show, by name.
    pub(super) async fn listed(&self, repository: &str) -> Option<Vec<Tag>> {
        let mut tags = self.storage.tags(repository).await?;
        tags.retain(|tag| self.attributes(repository, Some(&tag.name)).list);
        Some(tags)
    }

    async fn repository(&self, repository: &str) -> Answer {
        let Some(tags) = self.storage.tags(repository).await else {
            return name_unknown("repository");
        };
        let created = tags
            .iter()
            .map(|tag| tag.created)
            .min()
            .unwrap_or(Timestamp::UNIX_EPOCH);
        let updated = tags
            .iter()
            .map(|tag| tag.updated)
            .max()
            .unwrap_or(Timestamp::UNIX_EPOCH);
        let body = json!({
            "registry": self.host,
            "imageName": repository,
            "createdTime": created.to_string(),
            "lastUpdateTime": updated.to_string(),
            "manifestCount": self.storage.manifests(repository),
            "tagCount": tags.len(),
            "changeableAttributes": attributes(self.attributes(repository, None)),
        });
        Answer::json("repository", 200, &body)
    }

    async fn tags(&self, request: &Request, repository: &str) -> Answer {
        let Some(tags) = self.listed(repository).await else {
            return name_unknown("tags");
        };
        let page = self.page(request, tags, |tag| tag.name.clone());
        let entries: Vec<Value> = page.entries.iter().map(|tag| self.entry(repository, tag)).collect();
        let body = json!({"registry": self.host, "imageName": repository, "tags": entries});
        page.linked(Answer::json("tags", 200, &body))
    }

    async fn tag(&self, repository: &str, name: &str) -> Answer {
        let tags = self.storage.tags(repository).await.unwrap_or_default();
        let Some(tag) = tags.iter().find(|tag| tag.name == name) else {
            return Answer::error("tag", 404, "TAG_UNKNOWN", "the specified tag does not exist");
        };
        let body = json!({"registry": self.host, "imageName": repository, "tag": self.entry(repository, tag)});
        Answer::json("tag", 200, &body)
    }

    fn entry(&self, repository: &str, tag: &Tag) -> Value {
        json!({
            "name": tag.name,
            "digest": tag.digest,
            "createdTime": tag.created.to_string(),
            "lastUpdateTime": tag.updated.to_string(),
            "signed": false,
            "changeableAttributes": attributes(self.attributes(repository, Some(&tag.name))),
        })
    }

    async fn manifest_metadata(&self, repository: &str, digest: &str) -> Answer {
        let tags = self.storage.tags(repository).await.unwrap_or_default();
        let names: Vec<&str> = tags
            .iter()
            .filter(|tag| tag.digest == digest)
            .map(|tag| tag.name.as_str())
            .collect();
        if names.is_empty() {
            return Answer::error("manifests", 404, "MANIFEST_UNKNOWN", "manifest is not found");
        }
        let mut changeable = attributes(Attributes::default());
        let settings = self.settings();
        if settings
            .quarantined
            .iter()
            .any(|(of, what)| of == repository && what == digest)
        {
            changeable["quarantineState"] = json!("Quarantined");
        }
        let manifest = json!({"digest": digest, "tags": names, "changeableAttributes": changeable});
        let body = json!({"registry": self.host, "imageName": repository, "manifest": manifest});
        Answer::json("manifests", 200, &body)
    }

    /// The page that a request asks for by `n` and `last`.
    pub(super) fn page<T>(&self, request: &Request, all: Vec<T>, name: impl Fn(&T) -> String) -> Page<T> {
        let cap = self.settings().page_cap;
        let links = self.settings().links;
        let wanted = request.parameter("n").and_then(|n| n.parse().ok()).unwrap_or(100);
        let size = cap.min(wanted).max(1);
        let last = request.parameter("last").unwrap_or_default();
        let mut entries: Vec<T> = all.into_iter().filter(|entry| name(entry) > last).collect();
        let more = entries.len() > size;
        entries.truncate(size);
        let last = entries.last().map(&name).unwrap_or_default();
        let link = format!("<{}?last={last}&n={size}&orderby=>; rel=\"next\"", request.path);
        Page {
            entries,
            link: (more && links).then_some(link),
        }
    }
}

fn attributes(attributes: Attributes) -> Value {
    json!({
        "deleteEnabled": attributes.delete,
        "writeEnabled": attributes.write,
        "readEnabled": attributes.read,
        "listEnabled": attributes.list,
    })
}
