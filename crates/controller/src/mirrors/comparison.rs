//! Passes over the tags of one mirror without a cluster: for tests and benchmarks.

use std::sync::Arc;
use std::time::Duration;

use catamaran_core::mirror::in_use::InUse;
use catamaran_core::mirror::{Effect, Event, Mirror, PassResult};
use catamaran_core::policy::MirrorPolicy;
use catamaran_core::routing::evidence::Evidence;
use catamaran_core::side::Sides;
use catamaran_registry::Client;
use futures::channel::mpsc;
use futures::{SinkExt as _, StreamExt as _};
use jiff::Timestamp;
use tokio::task::JoinSet;

use super::QUEUE;
use super::reading::{self, PassReading};
use super::readings::Readings;
use super::sources::Sources;
use crate::clock::Clock;

/// The machine of a mirror that leads, with the operator's own reading of registries and nothing else: no probe is made, and no
/// status, evidence or tag is written.
pub struct Comparison {
    mirror: Mirror,
    policy: Arc<MirrorPolicy>,
    sources: Sources,
    in_use: Arc<InUse>,
    reading: PassReading,
    jobs: JoinSet<()>,
    events: (mpsc::Sender<Event>, mpsc::Receiver<Event>),
    /// Events that what is under way will end with.
    pending: usize,
    /// By how much this mirror's time is ahead: passes follow one another at once.
    ahead: Duration,
}

impl Comparison {
    /// A mirror of which nothing was read yet, with a client for each side. `in_use` is what pods are said to use.
    pub fn new(policy: MirrorPolicy, clients: Sides<Client>, in_use: InUse) -> Comparison {
        let policy = Arc::new(policy);
        let mut comparison = Comparison {
            mirror: Mirror::new(policy.id.clone()),
            sources: Sources {
                clock: Clock::start(),
                readings: Readings::default(),
                registries: Arc::new(clients),
            },
            in_use: Arc::new(in_use),
            reading: PassReading::default(),
            jobs: JoinSet::new(),
            events: mpsc::channel(QUEUE),
            pending: 0,
            ahead: Duration::ZERO,
            policy: Arc::clone(&policy),
        };
        comparison.feed(Event::Spec { policy, generation: 1 });
        comparison.feed(Event::Status(Box::default()));
        comparison.feed(Event::Prior(Evidence::default()));
        comparison
    }

    /// Runs one pass and what it asks for, as if the mirror's interval had passed since the one before. Ends when nothing is under
    /// way any more; none if no pass has ever come to its end.
    pub async fn pass(&mut self) -> Option<PassResult> {
        if self.mirror.last_pass().is_none() {
            self.feed(Event::Leading(true));
        } else {
            self.ahead = self.ahead.saturating_add(self.policy.parity.interval);
            self.feed(Event::Time);
        }
        while self.pending > 0 {
            let event = self.events.1.next().await?;
            self.pending -= 1;
            self.feed(event);
            while self.jobs.try_join_next().is_some() {}
        }
        self.mirror.last_pass().cloned()
    }

    /// What is known of the tags.
    pub fn mirror(&self) -> &Mirror {
        &self.mirror
    }

    fn feed(&mut self, event: Event) {
        let mut news = vec![event];
        while let Some(event) = news.pop() {
            let effects = self.mirror.handle(event, self.now());
            news.extend(effects.into_iter().filter_map(|effect| self.carry_out(effect)));
        }
    }

    fn now(&self) -> Timestamp {
        let now = self.sources.clock.now();
        now.checked_add(self.ahead).unwrap_or(now)
    }

    /// Begins what is to be read; the answer to what is known at once.
    fn carry_out(&mut self, effect: Effect) -> Option<Event> {
        match effect {
            Effect::ReadInUse { request, .. } => {
                let in_use = Arc::clone(&self.in_use);
                return Some(Event::InUse { request, in_use });
            }
            Effect::List { pass, repository } => {
                self.pending += 1;
                let (sources, policy, events) = (self.sources.clone(), Arc::clone(&self.policy), self.events.0.clone());
                self.at_pass(pass).list(&sources, &policy, &repository, events);
            }
            Effect::ListMore { pass, repository } => {
                self.pending += 1;
                self.at_pass(pass).more(&repository);
            }
            Effect::CloseListing { pass, repository } => {
                let clock = self.sources.clock;
                self.at_pass(pass).close(clock, &repository);
            }
            Effect::Resolve(wanted) => {
                self.pending += 1;
                let (sources, policy, mut events) =
                    (self.sources.clone(), Arc::clone(&self.policy), self.events.0.clone());
                match wanted.pass {
                    Some(pass) => self.at_pass(pass).resolve(&sources, &policy, wanted, events),
                    None => {
                        self.jobs.spawn(async move {
                            let resolved = reading::resolve(&sources, &policy, None, wanted).await;
                            // The receiver is gone with the comparison.
                            let _ = events.send(resolved).await;
                        });
                    }
                }
            }
            _ => {}
        }
        None
    }

    fn at_pass(&mut self, pass: u64) -> &mut PassReading {
        if self.reading.pass != pass {
            self.reading = PassReading::new(pass);
        }
        &mut self.reading
    }
}

impl std::fmt::Debug for Comparison {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Comparison")
            .field("mirror", self.mirror.id())
            .finish_non_exhaustive()
    }
}
