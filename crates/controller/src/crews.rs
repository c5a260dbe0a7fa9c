//! Which background tasks run for which mirror.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use catamaran_core::side::Side;
use tokio::task::AbortHandle;

/// The running tasks, by mirror UID.
#[derive(Debug, Default)]
pub struct Crews(Mutex<HashMap<Arc<str>, Crew>>);

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

impl Crews {
    /// Makes sure that the mirror's tasks run with this generation of its policy: those of another one end, and `start` begins
    /// new ones. `moved` is told the sides that are no longer what they were, by `sides`, before that.
    pub fn ensure(
        &self,
        uid: &Arc<str>,
        generation: i64,
        sides: [String; 2],
        moved: impl Fn(Side),
        start: impl FnOnce() -> Vec<AbortHandle>,
    ) {
        let mut crews = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(crew) = crews.get(uid) {
            if crew.generation == generation {
                return;
            }
            let other = |side: &Side| crew.sides[*side as usize] != sides[*side as usize];
            Side::ALL.into_iter().filter(other).for_each(moved);
        }
        crews.remove(uid);
        let tasks = start();
        crews.insert(
            Arc::clone(uid),
            Crew {
                generation,
                sides,
                tasks,
            },
        );
    }

    /// Ends the tasks of a mirror that is suspended, or whose spec makes no sense.
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
