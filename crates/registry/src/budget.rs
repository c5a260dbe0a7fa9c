//! How many requests a registry gets from us, over all mirrors.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// So much of a minute's requests may go out at once.
const BURST: f64 = 1.0 / 6.0;
/// The rate never falls below this part of the limit.
const FLOOR: f64 = 1.0 / 16.0;
/// Each step back up is this part of the limit.
const STEP: f64 = 1.0 / 16.0;
/// The time between two steps.
const STEP_EVERY: Duration = Duration::from_secs(30);
/// Answers of requests that were under way together count as one.
const HALVE_EVERY: Duration = Duration::from_secs(1);

/// Requests per minute for one API host, shared by everyone who talks to it.
///
/// A token bucket: up to a sixth of a minute's requests at once, then evenly. "Too many requests" halves the rate (at most
/// once a second, down to a sixteenth) and pauses everyone for as long as the registry asks; success restores it, a
/// sixteenth every 30 s. Waiters go in order. Probes don't ask.
#[derive(Debug)]
pub struct Budget {
    state: Mutex<State>,
    queue: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct State {
    limit: f64,
    /// The part of a minute's requests that may go out at once.
    burst: f64,
    rate: f64,
    tokens: f64,
    refilled: Instant,
    paused_until: Instant,
    changed: Instant,
    halved: Option<Instant>,
}

impl Budget {
    /// A budget of so many requests a minute, at least 1.
    pub fn per_minute(limit: u32) -> Budget {
        Budget::bursting(f64::from(limit.max(1)), BURST)
    }

    /// A budget of so many requests an hour, at least 4; a quarter of them may go out at once, for limits that are counted by
    /// the hour.
    pub fn per_hour(limit: u32) -> Budget {
        Budget::bursting(f64::from(limit.max(4)) / 60.0, 15.0)
    }

    fn bursting(limit: f64, burst: f64) -> Budget {
        let now = Instant::now();
        let state = State {
            limit,
            burst,
            rate: limit,
            tokens: (limit * burst).max(1.0),
            refilled: now,
            paused_until: now,
            changed: now,
            halved: None,
        };
        Budget {
            state: Mutex::new(state),
            queue: tokio::sync::Mutex::default(),
        }
    }

    /// Waits until one request may go out. Dropping the future gives up the place in the queue and costs nothing.
    pub async fn acquire(&self) {
        let _turn = self.queue.lock().await;
        loop {
            let wait = self.with(|state| state.take(Instant::now()));
            let Some(wait) = wait else { return };
            tokio::time::sleep(wait).await;
        }
    }

    /// Takes one request if it may go out now. For requests that save others: those who would have to wait do without.
    pub fn try_acquire(&self) -> bool {
        self.queue.try_lock().is_ok() && self.with(|state| state.take(Instant::now()).is_none())
    }

    /// Counts a request that could not wait: those that can, wait for it.
    pub fn spend(&self) {
        self.with(|state| state.spend(Instant::now()));
    }

    /// The registry said "too many requests".
    pub fn throttled(&self, retry_after: Option<Duration>) {
        self.with(|state| state.throttled(Instant::now(), retry_after));
    }

    /// The registry answered.
    pub fn succeeded(&self) {
        self.with(|state| state.succeeded(Instant::now()));
    }

    /// The present rate, requests per minute.
    pub fn rate(&self) -> f64 {
        self.with(|state| state.rate)
    }

    fn set_limit(&self, limit: u32) {
        self.with(|state| {
            let limit = f64::from(limit.max(1));
            state.rate = state.rate / state.limit * limit;
            state.limit = limit;
        });
    }

    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl State {
    /// Takes one request, or says how long to wait for it.
    fn take(&mut self, now: Instant) -> Option<Duration> {
        let per_second = self.rate / 60.0;
        let most = (self.rate * self.burst).max(1.0);
        let elapsed = now.saturating_duration_since(self.refilled).as_secs_f64();
        self.tokens = (self.tokens + elapsed * per_second).min(most);
        self.refilled = now;
        if now < self.paused_until {
            return Some(self.paused_until - now);
        }
        if self.tokens >= 1.0 {
            self.tokens -= 1.0;
            return None;
        }
        Some(Duration::from_secs_f64((1.0 - self.tokens) / per_second).max(Duration::from_millis(1)))
    }

    /// At most a burst is owed.
    fn spend(&mut self, now: Instant) {
        if self.take(now).is_some() {
            self.tokens -= 1.0;
        }
        let most = (self.rate * self.burst).max(1.0);
        self.tokens = self.tokens.max(-most);
    }

    fn throttled(&mut self, now: Instant, retry_after: Option<Duration>) {
        if self
            .halved
            .is_none_or(|at| now.saturating_duration_since(at) >= HALVE_EVERY)
        {
            self.rate = (self.rate / 2.0).max(self.limit * FLOOR);
            self.tokens = 0.0;
            self.refilled = now;
            self.halved = Some(now);
        }
        self.changed = now;
        let pause = retry_after.unwrap_or_default().min(crate::wire::wait::LONGEST_WAIT);
        self.paused_until = self.paused_until.max(now + pause);
    }

    fn succeeded(&mut self, now: Instant) {
        if self.rate < self.limit && now.saturating_duration_since(self.changed) >= STEP_EVERY {
            self.rate = (self.rate + self.limit * STEP).min(self.limit);
            self.changed = now;
        }
    }
}

/// What copying may ask of one registry.
#[derive(Clone, Debug)]
pub struct CopyBudget {
    /// For requests that read.
    pub reads: Arc<Budget>,
    /// For requests that write.
    pub writes: Arc<Budget>,
}

/// The budgets of a process, one per API host.
#[derive(Debug, Default)]
pub struct Budgets {
    reads: Mutex<HashMap<String, Shared>>,
    copies: Mutex<HashMap<String, CopyBudget>>,
    apis: Mutex<HashMap<String, Arc<Budget>>>,
}

/// One host's budget, and what those who share it want it to be.
#[derive(Debug)]
struct Shared {
    budget: Arc<Budget>,
    default: u32,
    wishes: HashMap<Arc<str>, u32>,
}

impl Shared {
    fn new(default: u32) -> Shared {
        Shared {
            budget: Arc::new(Budget::per_minute(default)),
            default,
            wishes: HashMap::new(),
        }
    }

    /// The smallest wish counts: it comes from the one who knows of another user of the registry.
    fn settle(&self) {
        self.budget
            .set_limit(self.wishes.values().copied().min().unwrap_or(self.default));
    }
}

impl Budgets {
    /// No budgets yet.
    pub fn new() -> Budgets {
        Budgets::default()
    }

    /// The budget of a registry (`host[:port]`); made with this default when there is none.
    pub(crate) fn reads_of(&self, registry: &str, default: u32) -> Arc<Budget> {
        let mut budgets = self.reads.lock().unwrap_or_else(PoisonError::into_inner);
        let make = || Shared::new(default);
        let shared = budgets.entry(registry.to_ascii_lowercase()).or_insert_with(make);
        Arc::clone(&shared.budget)
    }

    /// The same for someone who has a wish, or none, for the limit (requests per minute) until [`Budgets::retain`] lets go
    /// of it. Of several wishes the smallest counts; without any, the default.
    pub(crate) fn wished(&self, registry: &str, default: u32, who: &Arc<str>, per_minute: Option<u32>) -> Arc<Budget> {
        let mut budgets = self.reads.lock().unwrap_or_else(PoisonError::into_inner);
        let make = || Shared::new(default);
        let shared = budgets.entry(registry.to_ascii_lowercase()).or_insert_with(make);
        match per_minute {
            Some(limit) => drop(shared.wishes.insert(Arc::clone(who), limit)),
            None => drop(shared.wishes.remove(who)),
        }
        shared.settle();
        Arc::clone(&shared.budget)
    }

    /// Drops the wishes of those that are gone.
    pub fn retain(&self, mut keep: impl FnMut(&str) -> bool) {
        let mut budgets = self.reads.lock().unwrap_or_else(PoisonError::into_inner);
        for shared in budgets.values_mut() {
            shared.wishes.retain(|who, _| keep(who));
            shared.settle();
        }
    }

    /// The budget of an interface besides the registries' own, made so when there is none. Wishes for a registry do not
    /// concern it: its limits are its own.
    pub(crate) fn for_api(&self, host: &str, make: impl FnOnce() -> Budget) -> Arc<Budget> {
        let mut apis = self.apis.lock().unwrap_or_else(PoisonError::into_inner);
        apis.entry(host.to_owned()).or_insert_with(|| Arc::new(make())).clone()
    }

    /// Sets a registry's limit, requests per minute, in place of the provider's default; its users follow.
    pub fn set_limit(&self, registry: &str, per_minute: u32) {
        let mut budgets = self.reads.lock().unwrap_or_else(PoisonError::into_inner);
        let shared = budgets
            .entry(registry.to_ascii_lowercase())
            .or_insert_with(|| Shared::new(per_minute));
        shared.default = per_minute;
        shared.settle();
    }
}

impl Budgets {
    /// What copying may ask of a registry, apart from everything else: however much there is to copy, scans never wait for it.
    pub(crate) fn copies_of(&self, registry: &str, reads: u32, writes: u32) -> CopyBudget {
        let mut copies = self.copies.lock().unwrap_or_else(PoisonError::into_inner);
        let make = || CopyBudget {
            reads: Arc::new(Budget::per_minute(reads)),
            writes: Arc::new(Budget::per_minute(writes)),
        };
        copies.entry(registry.to_ascii_lowercase()).or_insert_with(make).clone()
    }
}

#[cfg(test)]
mod tests;
