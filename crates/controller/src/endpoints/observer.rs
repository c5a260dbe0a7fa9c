//! The loop of one endpoint.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use catamaran_core::endpoint::{Ended, Endpoint, Input, Output, Pace, Report, Send, Watch, Watcher};
use catamaran_core::mirror::{Event, Probed};
use catamaran_core::policy::MirrorPolicy;
use futures::channel::mpsc;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::key::EndpointKey;
use super::probe;
use crate::clock::{Clock, sleep};
use crate::context::Context;

/// Where a watcher's readings go.
#[derive(Debug)]
pub(super) struct Sink {
    pub(super) policy: Arc<MirrorPolicy>,
    pub(super) generation: i64,
    pub(super) readings: mpsc::Sender<Event>,
}

/// One endpoint's machine, and who is told.
#[derive(Debug)]
pub(super) struct Observer {
    state: Mutex<State>,
    /// There is something to do.
    changed: Notify,
    /// What other replicas are to be told has changed.
    news: Arc<Notify>,
    clock: Clock,
    key: EndpointKey,
    id: String,
}

#[derive(Debug)]
struct State {
    endpoint: Endpoint,
    sinks: BTreeMap<Watcher, Sink>,
    /// Probes that are to be made.
    probes: Vec<Send>,
    pace: Pace,
    /// What other replicas were told last.
    told: Option<Report>,
}

impl Observer {
    pub(super) fn new(key: EndpointKey, node: &str, clock: Clock, news: Arc<Notify>) -> Arc<Observer> {
        let state = State {
            endpoint: Endpoint::new(key.timeout, key.side.counts_pulls()).on_node(node),
            sinks: BTreeMap::new(),
            probes: Vec::new(),
            pace: Pace::default(),
            told: None,
        };
        Arc::new(Observer {
            state: Mutex::new(state),
            changed: Notify::new(),
            news,
            clock,
            id: key.id(),
            key,
        })
    }

    /// A side of a mirror is watched from here on, or in another way.
    pub(super) fn join(&self, watcher: Watcher, watch: Watch, sink: Sink) {
        self.state().sinks.insert(watcher.clone(), sink);
        self.feed(Input::Watched(watcher, watch));
    }

    pub(super) fn leave(&self, watcher: &Watcher) {
        self.state().sinks.remove(watcher);
        self.feed(Input::Left(watcher.clone()));
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// What this replica sees.
    pub(super) fn report(&self) -> Option<Report> {
        self.state().endpoint.report()
    }

    /// Another replica says what it sees.
    pub(super) fn hear(&self, replica: &Arc<str>, node: &Arc<str>, report: Report) {
        self.feed(Input::Report {
            replica: Arc::clone(replica),
            node: Arc::clone(node),
            report,
        });
    }

    pub(super) fn is_idle(&self) -> bool {
        self.state().endpoint.is_idle()
    }

    pub(super) fn set_share(&self, share: u32) {
        self.set_pace(|pace| Pace { share, ..pace });
    }

    /// Replicas are out of step: the leader in one half of an interval, the others in the other.
    fn set_leading(&self, leading: bool) {
        let own = self.key.phase();
        let phase = if leading { own } else { (own + 500) % 1_000 };
        self.set_pace(|pace| Pace { phase, ..pace });
    }

    fn set_pace(&self, change: impl FnOnce(Pace) -> Pace) {
        let mut state = self.state();
        let pace = change(state.pace);
        state.pace = pace;
        drop(state);
        self.feed(Input::Pace(pace));
    }

    /// Hands an input to the machine; readings are told at once, probes are made by the loop.
    pub(super) fn feed(&self, input: Input) {
        let now = self.clock.now();
        let mut state = self.state();
        for output in state.endpoint.handle(input, now) {
            match output {
                Output::Probe(send) => state.probes.push(send),
                Output::Reading(watchers, reading) => {
                    for watcher in watchers {
                        let side = watcher.side;
                        state.tell(&watcher, |generation| {
                            Event::Probed(Box::new(Probed {
                                side,
                                generation,
                                reading: Arc::clone(&reading),
                            }))
                        });
                    }
                }
                Output::Vantages(watchers, vantages) => {
                    for watcher in watchers {
                        state.tell(&watcher, |_| Event::Vantages(watcher.side, Arc::clone(&vantages)));
                    }
                }
                Output::Suspected(watchers) => {
                    for watcher in watchers {
                        state.tell(&watcher, |_| Event::Suspected(watcher.side));
                    }
                }
            }
        }
        let says = state.endpoint.report();
        let answers = state.endpoint.take_answer();
        let same = match (&state.told, &says) {
            (Some(told), Some(says)) => told.says_the_same(says),
            (told, says) => told.is_none() == says.is_none(),
        };
        if answers || !same {
            state.told = says;
            self.news.notify_one();
        }
        drop(state);
        self.changed.notify_one();
    }

    /// Runs until nobody watches any more; `end` is asked then.
    pub(super) async fn run(self: Arc<Self>, context: Arc<Context>, end: impl Fn(&Observer) -> bool) {
        let mut probes = JoinSet::<Ended>::new();
        let mut leadership = context.leadership.clone();
        let mut lasts = true;
        self.set_leading(context.leads());
        loop {
            let wake = {
                let mut state = self.state();
                let asking = state.sinks.iter().next();
                let asking = asking.map(|(watcher, sink)| (Arc::clone(&sink.policy), watcher.side));
                let sends = std::mem::take(&mut state.probes);
                if let Some((policy, side)) = asking {
                    for send in sends {
                        let (context, policy) = (Arc::clone(&context), Arc::clone(&policy));
                        probes.spawn(async move { probe::probe(&context, &policy, side, send).await });
                    }
                }
                let now = self.clock.now();
                state.endpoint.wake_at(now).map(|at| self.clock.until(at))
            };
            if self.is_idle() && end(&self) {
                return;
            }
            tokio::select! {
                () = self.changed.notified() => {}
                Some(ended) = probes.join_next() => if let Ok(ended) = ended {
                    let took = ended.probe.at.duration_since(ended.probe.begun).unsigned_abs();
                    context.metrics.probe_took(&self.key.side.registry, took);
                    self.feed(Input::Ended(Box::new(ended)));
                },
                () = sleep(wake) => self.feed(Input::Time),
                changed = leadership.changed(), if lasts => {
                    lasts = changed.is_ok();
                    self.set_leading(context.leads());
                }
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// A mirror whose queue is full hears of the next one.
    fn tell(&mut self, watcher: &Watcher, event: impl FnOnce(i64) -> Event) {
        if let Some(sink) = self.sinks.get_mut(watcher) {
            let _ = sink.readings.try_send(event(sink.generation));
        }
    }
}
