//! The work of a leader for one mirror: its machine, with registries that answer from memory, and the controller's own way from
//! what the machine decides to the evidence of all replicas.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use catamaran_controller::mirrors::{EvidenceOut, Groups};
use catamaran_controller::publish::{EvidenceStore, EvidenceWriteError, LocalEvidence, MirrorObject, Written};
use catamaran_core::endpoint::{Outcome, Probe, Reading};
use catamaran_core::mirror::in_use::InUse;
use catamaran_core::mirror::parity::Observed;
use catamaran_core::mirror::{
    Effect, Event, LARGEST_PIECE, Listed, ListedTag, Listing, Mirror, Probed, ReferenceName, Resolve, Resolved,
};
use catamaran_core::policy::MirrorPolicy;
use catamaran_core::routing::evidence::{Evidence, Group};
use catamaran_core::side::Sides;
use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::mirror::{MirrorOf, content, policy_of, resource};

/// How long a registry takes for a piece of a listing: 50 ms for a page of 1,000 tags.
const LATENCY: Duration = Duration::from_millis(3);

/// What a leader is asked to do.
pub enum Command {
    /// Reads all tags; answered when the pass is over and all evidence is stored.
    Pass(oneshot::Sender<()>),
    /// A tag has changed, and is asked for.
    Change(u32),
}

pub struct Leader {
    of: MirrorOf,
    mirror: Mirror,
    policy: Arc<MirrorPolicy>,
    object: Arc<MirrorObject>,
    tags: BTreeMap<String, Vec<String>>,
    listed: BTreeMap<String, usize>,
    versions: BTreeMap<ReferenceName, u32>,
    out: EvidenceOut,
    local: LocalEvidence,
    store: Arc<EvidenceStore>,
    ready: VecDeque<Event>,
    pieces: VecDeque<(Instant, Event)>,
    writes: JoinSet<(Result<Written, EvidenceWriteError>, Groups)>,
    waiting: Vec<oneshot::Sender<()>>,
    /// By how much this mirror's time is ahead: passes follow one another at once.
    ahead: Duration,
}

impl Leader {
    pub fn new(of: MirrorOf, local: LocalEvidence, store: Arc<EvidenceStore>) -> Leader {
        let object = of.object(0);
        let policy = Arc::new(policy_of(&object));
        let mut leader = Leader {
            of,
            mirror: Mirror::new(policy.id.clone()),
            policy: Arc::clone(&policy),
            object: Arc::new(MirrorObject::of(&resource(&object)).expect("a status is JSON")),
            tags: of.tags(),
            listed: BTreeMap::new(),
            versions: BTreeMap::new(),
            out: EvidenceOut::default(),
            local,
            store,
            ready: VecDeque::new(),
            pieces: VecDeque::new(),
            writes: JoinSet::new(),
            waiting: Vec::new(),
            ahead: Duration::ZERO,
        };
        leader.ready.extend([
            Event::Spec { policy, generation: 1 },
            Event::Status(Box::default()),
            Event::Prior(Evidence::default()),
        ]);
        leader
    }

    /// Works until nobody can ask for anything any more.
    pub async fn run(mut self, mut commands: mpsc::UnboundedReceiver<Command>) {
        loop {
            while let Some(event) = self.ready.pop_front() {
                self.feed(event);
            }
            self.publish();
            let piece = self.pieces.front().map(|(due, _)| *due);
            let evidence = self.out.wake_at();
            if piece.is_none() && evidence.is_none() && self.writes.is_empty() {
                for waiting in self.waiting.drain(..) {
                    // The one who asked may be gone.
                    let _ = waiting.send(());
                }
            }
            tokio::select! {
                command = commands.recv() => match command {
                    Some(command) => self.take(command),
                    None => return,
                },
                Some(Ok((written, groups))) = self.writes.join_next() => {
                    let result = self.out.ended(written, groups);
                    self.ready.extend(result.map(Event::EvidenceStored));
                }
                () = until(piece) => self.ready.extend(self.pieces.pop_front().map(|(_, event)| event)),
                () = until(evidence) => {}
            }
        }
    }

    /// Hands what has changed to this replica's webhook, and has it stored for the others, as the mirror's task does.
    fn publish(&mut self) {
        if let Some(evidence) = self.out.update(&self.mirror) {
            self.local.set(&self.mirror.id().uid, Arc::new(evidence));
        }
        if let Some((groups, all)) = self.out.begin() {
            let (store, object) = (Arc::clone(&self.store), Arc::clone(&self.object));
            self.writes.spawn(async move {
                let pairs: Vec<_> = groups
                    .iter()
                    .map(|(place, group)| (*place, Group::clone(group)))
                    .collect();
                (store.write(&object, &pairs, &all).await, groups)
            });
        }
    }

    fn take(&mut self, command: Command) {
        match command {
            Command::Pass(answer) => {
                let first = self.mirror.last_pass().is_none();
                self.ahead = self.ahead.saturating_add(self.policy.parity.interval);
                self.waiting.push(answer);
                self.ready
                    .push_back(if first { Event::Leading(true) } else { Event::Time });
            }
            Command::Change(tag) => {
                // What a pass has just read is not read again.
                self.ahead = self.ahead.saturating_add(Duration::from_secs(2));
                let (repository, reference) = self.of.names(tag);
                let name = ReferenceName { repository, reference };
                *self.versions.entry(name.clone()).or_default() += 1;
                self.ready.push_back(Event::Wanted {
                    references: vec![name],
                    urgent: true,
                });
            }
        }
    }

    fn feed(&mut self, event: Event) {
        let now = self.now();
        for effect in self.mirror.handle(event, now) {
            self.carry_out(effect, now);
        }
    }

    fn now(&self) -> Timestamp {
        let now = Timestamp::now();
        now.checked_add(self.ahead).unwrap_or(now)
    }

    fn carry_out(&mut self, effect: Effect, now: Timestamp) {
        match effect {
            Effect::WriteEvidence(places) => self.out.touch(&places),
            Effect::WriteStatus(request) => {
                std::hint::black_box(self.mirror.view());
                self.ready.push_back(Event::Status(Box::default()));
                self.ready.push_back(Event::StatusWritten {
                    request,
                    result: Ok(()),
                });
            }
            Effect::ReadInUse { request, .. } => {
                let in_use = Arc::new(InUse::default());
                self.ready.push_back(Event::InUse { request, in_use });
            }
            Effect::List { pass, repository } => self.list(pass, repository, 0),
            Effect::ListMore { pass, repository } => {
                let from = self.listed.get(&repository).copied().unwrap_or_default();
                self.list(pass, repository, from);
            }
            Effect::Resolve(resolve) => self.resolve(resolve),
            Effect::Watch {
                side,
                watch: Some(watch),
            } => {
                let reading = Reading {
                    probe: Probe {
                        begun: now,
                        at: now,
                        outcome: Outcome::Reachable,
                        message: Arc::default(),
                    },
                    target: watch.targets.first().cloned(),
                    client: Ok(()),
                };
                self.ready.push_back(Event::Probed(Box::new(Probed {
                    side,
                    generation: watch.generation,
                    reading: Arc::new(reading),
                })));
            }
            _ => {}
        }
    }

    fn list(&mut self, pass: u64, repository: String, from: usize) {
        let tags = &self.tags[&repository];
        let to = tags.len().min(from + LARGEST_PIECE);
        let listed = |tag: &String| {
            let digest = self.content(&repository, tag);
            ListedTag {
                name: tag.clone(),
                sides: Sides::from_fn(|_| Listing::Named(Some(digest.clone()))),
            }
        };
        let piece = Listed {
            pass,
            after: from.checked_sub(1).map(|last| tags[last].clone()),
            failures: Sides::default(),
            unlisted: Sides::default(),
            tags: tags[from..to].iter().map(listed).collect(),
            last: to == tags.len(),
            repository: repository.clone(),
        };
        self.listed.insert(repository, to);
        self.pieces
            .push_back((Instant::now() + LATENCY, Event::Listed(Box::new(piece))));
    }

    fn resolve(&mut self, resolve: Resolve) {
        let digest = self.content(&resolve.name.repository, &resolve.name.reference);
        self.ready.push_back(Event::Resolved(Box::new(Resolved {
            request: resolve.request,
            name: resolve.name,
            seen: Sides::from_fn(|_| Observed::Present(digest.clone())),
            served: Sides::from_fn(|_| true),
            failures: Sides::default(),
        })));
    }

    fn content(&self, repository: &str, tag: &str) -> catamaran_core::digest::Digest {
        let name = ReferenceName {
            repository: repository.to_owned(),
            reference: tag.to_owned(),
        };
        content(repository, tag, self.versions.get(&name).copied().unwrap_or_default())
    }
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}
