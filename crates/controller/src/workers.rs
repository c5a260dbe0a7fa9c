//! The background tasks of each mirror: one probes each side, one scans tags, one verifies wanted tags,
//! one copies missing tags where the user wants that, and one looks after a side that is a pull-through cache.
//!
//! They run with the policy they were started with; a new generation of the spec ends them and starts new ones, which
//! find the memory of the old.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use catamaran_core::policy::{MirrorPolicy, RepairMode};
use catamaran_core::side::Side;
use tokio::task::AbortHandle;

use crate::context::Context;
use crate::{prober, pull_through, repair, scanner, verifier};

/// The running tasks, by mirror UID.
#[derive(Debug, Default)]
pub struct Workers(Mutex<HashMap<Arc<str>, Crew>>);

#[derive(Debug)]
struct Crew {
    generation: i64,
    sides: [String; 2],
    tasks: Vec<AbortHandle>,
}

impl Drop for Crew {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

impl Workers {
    /// Makes sure that the mirror's tasks run with this generation of its policy; none run while it is suspended.
    pub fn ensure(&self, context: &Arc<Context>, policy: &Arc<MirrorPolicy>, generation: i64) {
        let mut crews = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let uid = Arc::clone(&policy.id.uid);
        if policy.suspended {
            crews.remove(&uid);
            return;
        }
        let sides = Side::ALL.map(|side| format!("{}/{}", policy.sides[side].registry, policy.sides[side].prefix));
        if let Some(crew) = crews.get(&uid) {
            if crew.generation == generation {
                return;
            }
            for side in Side::ALL
                .into_iter()
                .filter(|side| crew.sides[*side as usize] != sides[*side as usize])
            {
                context.memories.of(&policy.id).forget_side(side);
            }
        }
        crews.remove(&uid);
        let mut tasks: Vec<AbortHandle> = Vec::with_capacity(6);
        for side in Side::ALL {
            let task = prober::run(Arc::clone(context), Arc::clone(policy), generation, side);
            tasks.push(tokio::spawn(task).abort_handle());
        }
        tasks.push(tokio::spawn(scanner::run(Arc::clone(context), Arc::clone(policy))).abort_handle());
        tasks.push(tokio::spawn(verifier::run(Arc::clone(context), Arc::clone(policy))).abort_handle());
        if policy.repair.mode != RepairMode::Off {
            tasks.push(tokio::spawn(repair::run(Arc::clone(context), Arc::clone(policy))).abort_handle());
        }
        if let Some(cache) = policy.cache() {
            let task = pull_through::run(Arc::clone(context), Arc::clone(policy), cache);
            tasks.push(tokio::spawn(task).abort_handle());
        }
        crews.insert(
            uid,
            Crew {
                generation,
                sides,
                tasks,
            },
        );
    }

    /// Ends the tasks of a mirror whose spec makes no sense.
    pub fn stop(&self, uid: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
    }

    /// Ends the tasks of mirrors that are gone.
    pub fn retain(&self, mut keep: impl FnMut(&str) -> bool) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|uid, _| keep(uid));
    }
}
