//! For the tests of other modules: mirrors' tasks that do nothing but note what they are asked to read.

use std::sync::Arc;

use catamaran_core::mirror::{Event, ReferenceName};
use catamaran_core::policy::MirrorId;
use futures::channel::mpsc;
use tokio::sync::watch;

use super::object::Object;
use super::{Handle, Hanging, MirrorTasks, QUEUE};

/// What a mirror is asked to read.
pub(crate) struct WantedReferences(mpsc::Receiver<Event>);

impl WantedReferences {
    /// The conflicts that it heard of since the last time, each as the winner's name.
    pub(crate) fn conflicts(&mut self) -> Vec<Vec<String>> {
        let events = std::iter::from_fn(|| self.0.try_recv().ok());
        let winners = events.filter_map(|event| match event {
            Event::Conflicts(all) => Some(all.iter().map(|one| one.winner.name.to_string()).collect()),
            _ => None,
        });
        winners.collect()
    }

    /// What it was asked since the last time.
    pub(crate) fn take(&mut self) -> Vec<ReferenceName> {
        let events = std::iter::from_fn(|| self.0.try_recv().ok());
        let references = events.filter_map(|event| match event {
            Event::Wanted { references, .. } => Some(references),
            _ => None,
        });
        references.flatten().collect()
    }
}

impl MirrorTasks {
    /// The tasks of one mirror.
    pub(crate) fn with_mirror(mirror: &MirrorId) -> (MirrorTasks, WantedReferences) {
        let tasks = MirrorTasks::default();
        let wanted = tasks.add(mirror);
        (tasks, wanted)
    }

    /// Adds the task of a mirror.
    pub(crate) fn add(&self, mirror: &MirrorId) -> WantedReferences {
        let (events, queue) = mpsc::channel(QUEUE);
        let invalid = kube::core::error_boundary::InvalidObject {
            error: "not read".to_owned(),
            metadata: kube::api::ObjectMeta::default(),
        };
        let object = Object::Unreadable {
            invalid: Arc::new(invalid),
            last_valid: None,
        };
        let handle = Handle {
            name: Arc::clone(&mirror.name),
            object: watch::channel(object).0,
            events,
            hanging: Hanging::default(),
            task: tokio::spawn(std::future::pending::<()>()).abort_handle(),
        };
        self.begin(&mut self.tasks(), Arc::clone(&mirror.uid), handle);
        WantedReferences(queue)
    }
}
