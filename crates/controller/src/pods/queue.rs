//! In which order pods are looked at.
//!
//! Namespaces take it in turn, and in a namespace the owners do: thousands of pods of one owner, which may all be refused by
//! a policy, do not keep the few of another waiting.

use std::collections::{HashMap, HashSet, VecDeque};

/// UIDs of pods, each at most once.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    /// Namespaces with pods, the next one first.
    namespaces: VecDeque<Box<str>>,
    pods: HashMap<Box<str>, Owners>,
    queued: HashSet<Box<str>>,
}

/// The pods of one namespace, by owner.
#[derive(Debug, Default)]
struct Owners {
    /// Owners with pods, the next one first.
    order: VecDeque<Box<str>>,
    pods: HashMap<Box<str>, VecDeque<Box<str>>>,
}

impl Queue {
    /// Adds a pod, unless it is queued already.
    pub(crate) fn push(&mut self, namespace: &str, owner: &str, uid: &str) {
        if !self.queued.insert(uid.into()) {
            return;
        }
        if !self.pods.contains_key(namespace) {
            self.namespaces.push_back(namespace.into());
        }
        self.pods.entry(namespace.into()).or_default().push(owner, uid);
    }

    /// Takes the next pod.
    pub(crate) fn pop(&mut self) -> Option<Box<str>> {
        let namespace = self.namespaces.pop_front()?;
        let owners = self.pods.get_mut(&namespace)?;
        let uid = owners.pop()?;
        if owners.order.is_empty() {
            self.pods.remove(&namespace);
        } else {
            self.namespaces.push_back(namespace);
        }
        self.queued.remove(&uid);
        Some(uid)
    }
}

impl Owners {
    fn push(&mut self, owner: &str, uid: &str) {
        if !self.pods.contains_key(owner) {
            self.order.push_back(owner.into());
        }
        self.pods.entry(owner.into()).or_default().push_back(uid.into());
    }

    fn pop(&mut self) -> Option<Box<str>> {
        let owner = self.order.pop_front()?;
        let pods = self.pods.get_mut(&owner)?;
        let uid = pods.pop_front();
        if pods.is_empty() {
            self.pods.remove(&owner);
        } else {
            self.order.push_back(owner);
        }
        uid
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(queue: &mut Queue) -> Vec<String> {
        std::iter::from_fn(|| queue.pop()).map(String::from).collect()
    }

    #[test]
    fn owners_and_namespaces_take_it_in_turn() {
        let mut queue = Queue::default();
        for pod in ["a1", "a2", "a3"] {
            queue.push("shop", "a", pod);
        }
        queue.push("shop", "b", "b1");
        queue.push("blog", "c", "c1");
        queue.push("blog", "c", "c2");
        assert_eq!(drain(&mut queue), ["a1", "c1", "b1", "c2", "a2", "a3"]);
    }

    #[test]
    fn pod_is_queued_once_until_it_is_taken() {
        let mut queue = Queue::default();
        queue.push("shop", "a", "a1");
        queue.push("shop", "a", "a1");
        assert_eq!(drain(&mut queue), ["a1"]);
        queue.push("shop", "a", "a1");
        assert_eq!(drain(&mut queue), ["a1"]);
    }
}
