//! What proof pods pull, and where: which images the pods of a namespace would ask the fallback for, and with which credentials.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Nodes that are proven at most.
const MOST_NODES: usize = 1000;

/// Places of one mirror at most.
const MOST_PLACES: usize = 256;

/// Repositories that the pods of one place prove at most, with an image of each.
pub const MOST_IMAGES: usize = 8;

/// Pods are alike where they pull with the same credentials.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The namespace.
    pub namespace: String,
    /// The service account, which may bring pull secrets.
    pub service_account: String,
    /// The pull secrets that the pods name themselves: those of the mirror are added at admission, like to any pod.
    pub pull_secrets: Vec<String>,
}

/// An image of each repository, by its name on the fallback.
pub type Images = BTreeMap<String, String>;

/// What the proof pods of one mirror pull, and where.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProofUse {
    /// Nodes that pods run on.
    pub nodes: Arc<BTreeSet<String>>,
    /// What the pods of each place would ask the fallback for.
    pub places: BTreeMap<Place, Images>,
    /// Namespaces with pods of the mirror that no proof pod may be made in.
    pub unlisted: usize,
    /// Places and images that were left out, because there are too many.
    pub left_out: usize,
}

/// Gathers [`ProofUse`] of one mirror.
#[derive(Clone, Debug, Default)]
pub(in crate::mirror) struct ProofCount {
    by_pods: BTreeMap<Place, Images>,
    by_templates: BTreeMap<Place, Images>,
    unlisted: BTreeSet<String>,
    left_out: usize,
}

impl ProofCount {
    /// An image of a pod or template in a namespace where proof pods may be made.
    pub(in crate::mirror) fn add(&mut self, place: &Place, is_template: bool, repository: &str, image: &str) {
        let places = if is_template {
            &mut self.by_templates
        } else {
            &mut self.by_pods
        };
        if !places.contains_key(place) && places.len() >= MOST_PLACES {
            self.left_out += 1;
            return;
        }
        let images = places.entry(place.clone()).or_default();
        self.left_out += usize::from(!insert(images, repository, image));
    }

    /// A namespace where none may be made.
    pub(in crate::mirror) fn add_unlisted(&mut self, namespace: &str) {
        if self.unlisted.len() < MOST_PLACES && !self.unlisted.contains(namespace) {
            self.unlisted.insert(namespace.to_owned());
        }
    }

    /// The images of a template are pulled as its pods would: where there are pods of its service account, with their credentials,
    /// which admission has completed.
    pub(in crate::mirror) fn finish(self, nodes: Arc<BTreeSet<String>>) -> ProofUse {
        let ProofCount {
            by_pods: mut places,
            by_templates,
            unlisted,
            mut left_out,
        } = self;
        for (place, images) in by_templates {
            let alike =
                |other: &&Place| other.namespace == place.namespace && other.service_account == place.service_account;
            let there = places.keys().find(alike).cloned().unwrap_or(place);
            if !places.contains_key(&there) && places.len() >= MOST_PLACES {
                left_out += 1;
                continue;
            }
            let known = places.entry(there).or_default();
            for (repository, image) in images {
                left_out += usize::from(!insert(known, &repository, &image));
            }
        }
        ProofUse {
            nodes,
            places,
            unlisted: unlisted.len(),
            left_out,
        }
    }
}

/// Whether there was room. Of several images of a repository the first by name stays, so that the choice stays the same.
fn insert(images: &mut Images, repository: &str, image: &str) -> bool {
    let Some(known) = images.get_mut(repository) else {
        if images.len() >= MOST_IMAGES {
            return false;
        }
        images.insert(repository.to_owned(), image.to_owned());
        return true;
    };
    if image < known.as_str() {
        image.clone_into(known);
    }
    true
}

/// Notes a node that a pod runs on; beyond the first thousand none is.
pub(in crate::mirror) fn note_node(nodes: &mut BTreeSet<String>, node: &str) {
    if nodes.len() < MOST_NODES && !nodes.contains(node) {
        nodes.insert(node.to_owned());
    }
}
