//! A mirror of many tags, which both registries have.

use std::collections::BTreeMap;

use catamaran_api::mirror::RegistryMirror;
use catamaran_api::policy::policy;
use catamaran_core::digest::Digest;
use catamaran_core::policy::MirrorPolicy;
use catamaran_core::side::Side;
use serde_json::{Value, json};

/// Repositories of a mirror at most, and tags of a repository where there are fewer.
const REPOSITORIES: u32 = 100;
const TAGS_PER_REPOSITORY: u32 = 1_000;

/// One of the mirrors of a cluster.
#[derive(Clone, Copy, Debug)]
pub struct MirrorOf {
    pub number: u32,
    pub tags: u32,
}

impl MirrorOf {
    pub fn name(self) -> String {
        format!("apps-{}", self.number)
    }

    fn per_repository(self) -> u32 {
        TAGS_PER_REPOSITORY.max(self.tags.div_ceil(REPOSITORIES))
    }

    fn repository(self, tag: u32) -> String {
        format!("team-{}/service-{}", self.number, tag / self.per_repository())
    }

    /// Repository and tag: half of the tags are commits, half are versions.
    pub fn names(self, tag: u32) -> (String, String) {
        let name = if tag.is_multiple_of(2) {
            format!("v1.{}.{tag}", tag % 10)
        } else {
            content("commit", &tag.to_string(), 0).to_string()["sha256:".len()..][..40].to_owned()
        };
        (self.repository(tag), name)
    }

    /// The names of all tags by repository, in their order.
    pub fn tags(self) -> BTreeMap<String, Vec<String>> {
        let mut tags = BTreeMap::<String, Vec<String>>::new();
        for number in 0..self.tags {
            let (repository, tag) = self.names(number);
            tags.entry(repository).or_default().push(tag);
        }
        for names in tags.values_mut() {
            names.sort_unstable();
        }
        tags
    }

    /// The resource, after `flips`; all of its mappings were observed.
    pub fn object(self, flips: u32) -> Value {
        let repositories: Vec<Value> = (0..self.tags)
            .step_by(self.per_repository() as usize)
            .map(|tag| json!({ "name": self.repository(tag) }))
            .collect();
        let name = self.name();
        let active = if flips.is_multiple_of(2) {
            Side::Primary
        } else {
            Side::Fallback
        };
        let mut object = json!({
            "apiVersion": "catamaran.dev/v1alpha1", "kind": "RegistryMirror",
            "metadata": {"name": name, "uid": format!("uid-{name}"), "generation": 1,
                         "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {
                "primary": {"registry": "kracr.azurecr.io"},
                "fallback": {"registry": "ghcr.io", "prefix": "devopskev"},
                "repositories": repositories,
            },
            "status": {"active": active, "epoch": flips + 1},
        });
        let observed = policy_of(&object).mappings();
        let observed: Vec<String> = observed.iter().map(ToString::to_string).collect();
        object["status"]["observedMappings"] = json!(observed);
        object
    }
}

pub fn namespace(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
}

pub fn resource(object: &Value) -> RegistryMirror {
    serde_json::from_value(object.clone()).expect("the mirror is one")
}

pub fn policy_of(object: &Value) -> MirrorPolicy {
    policy(&resource(object)).expect("its policy makes sense")
}

pub fn content(repository: &str, tag: &str, version: u32) -> Digest {
    Digest::of(format!("{repository}:{tag} {version}").as_bytes())
}
