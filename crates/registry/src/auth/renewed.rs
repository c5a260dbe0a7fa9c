//! A value that expires: fetched once for everyone, renewed at half of its life, used to its end while renewing fails.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use catamaran_core::endpoint::Unavailable;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::wire::failure::{Class, Failure, Stage};

/// The least that a value is said to live: shorter ones would be fetched without end.
const SHORTEST_LIFE: Duration = Duration::from_mins(1);
/// A value is not used so shortly before its end: it has a way to go.
const MARGIN: Duration = Duration::from_secs(10);
/// A value that was refused sooner than this after it came is not the problem.
const YOUNG: Duration = Duration::from_secs(30);
/// The pause after a refusal: rights that were just granted arrive within minutes.
const AFTER_REFUSAL: Duration = Duration::from_secs(10);
/// The pause after no answer, when nothing else is left to use.
const AFTER_OUTAGE: Duration = Duration::from_secs(1);
/// The pause after "too many requests" that names none.
const AFTER_THROTTLING: Duration = Duration::from_secs(30);
/// The pause between two attempts while the old value is still good.
const WHILE_GOOD: Duration = Duration::from_secs(30);

/// What came of fetching.
pub(crate) type Fetched<T> = Result<Fresh<T>, Failure>;
/// A value on its way. It outlives its caller: a probe that gives up must not end it for the next one.
pub(crate) type Fetching<T> = Pin<Box<dyn Future<Output = Fetched<T>> + Send>>;

/// A value that was just fetched.
#[derive(Clone, Debug)]
pub(crate) struct Fresh<T> {
    pub(crate) value: T,
    /// How long it is good for; at least a minute is believed.
    pub(crate) life: Duration,
}

/// The value and what is known about getting the next one. Clones share it.
#[derive(Debug)]
pub(crate) struct Renewed<T> {
    state: Arc<Mutex<State<T>>>,
}

#[derive(Debug)]
struct State<T> {
    held: Option<Held<T>>,
    /// Why there is no newer value, and when to try again.
    failed: Option<(Instant, Failure)>,
    flight: Option<watch::Receiver<Option<Result<T, Failure>>>>,
    succeeded: bool,
}

#[derive(Debug)]
struct Held<T> {
    value: T,
    since: Instant,
    renew: Instant,
    until: Instant,
}

impl<T> Clone for Renewed<T> {
    fn clone(&self) -> Renewed<T> {
        let state = self.state.clone();
        Renewed { state }
    }
}

impl<T> Default for Renewed<T> {
    fn default() -> Renewed<T> {
        let state = State {
            held: None,
            failed: None,
            flight: None,
            succeeded: false,
        };
        Renewed {
            state: Arc::new(Mutex::new(state)),
        }
    }
}

impl<T: Clone + PartialEq + Send + Sync + 'static> Renewed<T> {
    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The value, if it is good now.
    pub(crate) fn current(&self) -> Option<T> {
        let now = Instant::now();
        let state = self.state();
        state
            .held
            .as_ref()
            .filter(|held| now < held.until)
            .map(|held| held.value.clone())
    }

    /// Whether there was ever a value.
    pub(crate) fn succeeded(&self) -> bool {
        self.state().succeeded
    }

    /// The value. A good one is given at once, and renewed in the background from half of its life on; otherwise everyone
    /// waits for one fetch. What failed is not tried again at once: see the pauses above.
    pub(crate) async fn get(&self, fetch: impl FnOnce() -> Fetching<T>) -> Result<T, Failure> {
        let mut flight = {
            let mut state = self.state();
            let now = Instant::now();
            let waits = state.failed.as_ref().is_some_and(|(again, _)| now < *again);
            if let Some(held) = state.held.as_ref().filter(|held| now < held.until) {
                let (value, due) = (held.value.clone(), held.renew <= now);
                if due && !waits && state.flight.is_none() {
                    state.flight = Some(self.launch(fetch()));
                }
                return Ok(value);
            }
            match (&state.flight, &state.failed) {
                (Some(flight), _) => flight.clone(),
                (None, Some((_, failure))) if waits => return Err(failure.clone()),
                (None, _) => state.flight.insert(self.launch(fetch())).clone(),
            }
        };
        let landed = flight.wait_for(Option::is_some).await;
        match landed {
            Ok(result) => result.clone().unwrap_or_else(|| Err(lost())),
            Err(_) => Err(lost()),
        }
    }

    /// Drops a value that was refused, unless it has been replaced already or is so young that another one would be
    /// refused too. Whether it was dropped.
    pub(crate) fn distrust(&self, refused: &T) -> bool {
        let mut state = self.state();
        let old = state
            .held
            .take_if(|held| held.value == *refused && held.since.elapsed() >= YOUNG)
            .is_some();
        let replaced = state.held.as_ref().is_some_and(|held| held.value != *refused);
        old || replaced
    }

    /// Has the value renewed by the next caller, in the background: it is good, and may not know of what was just granted.
    pub(crate) fn hasten(&self) {
        let mut state = self.state();
        let now = Instant::now();
        if let Some(held) = state.held.as_mut().filter(|held| held.since + SHORTEST_LIFE <= now) {
            held.renew = held.renew.min(now);
        }
    }

    fn launch(&self, fetching: Fetching<T>) -> watch::Receiver<Option<Result<T, Failure>>> {
        let (sender, receiver) = watch::channel(None);
        let landing = Landing {
            cell: self.clone(),
            sender,
        };
        tokio::spawn(async move {
            let fetched = fetching.await;
            landing.land(fetched);
        });
        receiver
    }

    fn settle(&self, fetched: Fetched<T>) -> Result<T, Failure> {
        let mut state = self.state();
        let now = Instant::now();
        state.flight = None;
        match fetched {
            Ok(Fresh { value, life }) => {
                let life = life.max(SHORTEST_LIFE);
                state.held = Some(Held {
                    value: value.clone(),
                    since: now,
                    renew: now + life / 2,
                    until: now + life - MARGIN,
                });
                state.failed = None;
                state.succeeded = true;
                Ok(value)
            }
            Err(failure) => {
                let good = state.held.as_ref().is_some_and(|held| now < held.until);
                let pause = pause_after(&failure.class).max(if good { WHILE_GOOD } else { Duration::ZERO });
                state.failed = Some((now + pause, failure.clone()));
                Err(failure)
            }
        }
    }
}

/// Tells everyone who waits, even when the fetch ends by a panic or with its runtime.
struct Landing<T: Clone + PartialEq + Send + Sync + 'static> {
    cell: Renewed<T>,
    sender: watch::Sender<Option<Result<T, Failure>>>,
}

impl<T: Clone + PartialEq + Send + Sync + 'static> Landing<T> {
    fn land(self, fetched: Fetched<T>) {
        let result = self.cell.settle(fetched);
        self.sender.send_replace(Some(result));
    }
}

impl<T: Clone + PartialEq + Send + Sync + 'static> Drop for Landing<T> {
    fn drop(&mut self) {
        if self.sender.borrow().is_none() {
            let _ = self.cell.settle(Err(lost()));
        }
    }
}

fn pause_after(class: &Class) -> Duration {
    match class {
        Class::Throttled { retry_after } => retry_after.unwrap_or(AFTER_THROTTLING).max(AFTER_OUTAGE),
        Class::Unavailable(_) => AFTER_OUTAGE,
        _ => AFTER_REFUSAL,
    }
}

fn lost() -> Failure {
    let class = Class::Unavailable(Unavailable::ConnectionFailed);
    Failure::new(
        Stage::Token,
        class,
        "failed to fetch a token: the attempt was ended".to_owned(),
    )
}

#[cfg(test)]
mod tests;
