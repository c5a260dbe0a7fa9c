//! The namespaces as this replica sees them.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use catamaran_core::selector::Labels;
use k8s_openapi::api::core::v1::Namespace;
use kube::ResourceExt as _;
use kube::core::PartialObjectMeta;
use kube::runtime::watcher::Event;

/// The labels of namespaces, by name.
#[derive(Debug, Default)]
pub(crate) struct Namespaces {
    labels: Arc<BTreeMap<String, Labels>>,
    /// Names that a list in progress has shown.
    listing: Option<HashSet<String>>,
    listed: bool,
}

impl Namespaces {
    /// Takes one event; whether a label has changed.
    pub fn take(&mut self, event: Event<PartialObjectMeta<Namespace>>) -> bool {
        match event {
            Event::Init => {
                self.listing = Some(HashSet::new());
                false
            }
            Event::InitApply(namespace) => {
                if let Some(listing) = &mut self.listing {
                    listing.insert(namespace.name_any());
                }
                self.apply(namespace)
            }
            Event::InitDone => {
                let listing = self.listing.take().unwrap_or_default();
                let first = !std::mem::replace(&mut self.listed, true);
                let gone = self.labels.keys().any(|name| !listing.contains(name));
                if gone {
                    Arc::make_mut(&mut self.labels).retain(|name, _| listing.contains(name));
                }
                first || gone
            }
            Event::Apply(namespace) => self.apply(namespace),
            Event::Delete(namespace) => {
                let name = namespace.name_any();
                self.labels.contains_key(&name) && Arc::make_mut(&mut self.labels).remove(&name).is_some()
            }
        }
    }

    fn apply(&mut self, namespace: PartialObjectMeta<Namespace>) -> bool {
        let name = namespace.name_any();
        let labels = namespace.metadata.labels.unwrap_or_default();
        let changed = self.labels.get(&name) != Some(&labels);
        if changed {
            Arc::make_mut(&mut self.labels).insert(name, labels);
        }
        changed
    }

    /// What was delivered.
    pub fn labels(&self) -> Arc<BTreeMap<String, Labels>> {
        Arc::clone(&self.labels)
    }

    /// Whether they were listed once.
    pub fn listed(&self) -> bool {
        self.listed
    }
}
