//! Whether the API server asks the webhook: what the replicas count, and what the leader sees of pods.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use catamaran_core::reviews::{ReviewWatch, Silence};
use tokio::time::Instant;

/// The reviews of all replicas.
pub struct Reviews {
    /// This replica.
    name: Arc<str>,
    own: Box<dyn Fn() -> u64 + Send + Sync>,
    begun: Instant,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    watch: ReviewWatch,
    is_silent: bool,
}

impl Reviews {
    /// Those of this replica, as far as it has counted, and of the others, as they report them.
    pub fn new(name: &str, own: impl Fn() -> u64 + Send + Sync + 'static) -> Reviews {
        Reviews {
            name: name.into(),
            own: Box::new(own),
            begun: Instant::now(),
            state: Mutex::default(),
        }
    }

    /// What this replica has counted.
    pub(crate) fn count(&self) -> u64 {
        (self.own)()
    }

    /// Another replica has reported its count; none if its version doesn't.
    pub(crate) fn heard(&self, replica: &Arc<str>, count: Option<u64>) {
        self.state().watch.counted(replica, count, self.begun.elapsed());
    }

    /// Another replica is gone.
    pub(crate) fn gone(&self, replica: &str) {
        self.state().watch.gone(replica);
    }

    /// This replica begins to lead.
    pub(crate) fn restart(&self) {
        self.state().watch.restart();
    }

    /// A pod was created that the webhook should have been asked about.
    pub(crate) fn created(&self) {
        let now = self.begun.elapsed();
        self.look(now).watch.created(now);
    }

    /// Silence, if it lasts; logged when it begins and ends.
    pub(crate) fn silence(&self) -> Option<Silence> {
        let now = self.begun.elapsed();
        let mut state = self.look(now);
        let silence = state.watch.silence(now);
        let was_silent = std::mem::replace(&mut state.is_silent, silence.is_some());
        drop(state);
        match silence {
            Some(Silence { lasts, pods }) if !was_silent => tracing::warn!(
                minutes = lasts.as_secs() / 60,
                pods,
                "no admission review has reached any replica, although pods of mirrors were created: the API server can't reach the \
                 webhook, or is told not to call it; pods keep the images that they were written with"
            ),
            None if was_silent => tracing::info!("admission reviews reach the webhook again"),
            _ => {}
        }
        silence
    }

    /// Takes this replica's own count first.
    fn look(&self, now: Duration) -> MutexGuard<'_, State> {
        let count = self.count();
        let mut state = self.state();
        state.watch.counted(&self.name, Some(count), now);
        state
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
