//! A mirror's machine between registries and an API server that answer at once.

use catamaran_api::mirror::RegistryMirrorSpec;
use catamaran_core::endpoint::{Probe, Reading, Vantage, Vantages, Watch};
use catamaran_core::mirror::in_use::{InUse, Use, WorkloadsRead};
use catamaran_core::mirror::proof::ProofPod;
use catamaran_core::mirror::proof::reading::Outcome as ProofOutcome;
use catamaran_core::mirror::pulls::{FailedAttempt, PodPulls};
use catamaran_core::mirror::{
    CopyDone, CopyEnded, Effect, Event, Finding, FlawedPart, Inspected, Listed, ListedTag, Listing, Mirror, Probed,
    ProofEnded, ReadFailure, Resolve, Resolved,
};
use catamaran_core::pod::message::PullFailure;
use catamaran_core::routing::evidence::Evidence;

use super::*;

pub(super) struct World {
    pub(super) mirror: RegistryMirror,
    machine: Mirror,
    pub(super) now: Timestamp,
    /// What probes find; none does not answer.
    pub(super) answers: Sides<Option<Outcome>>,
    pub(super) clients: Sides<Result<(), Option<ClientProblem>>>,
    watches: Sides<Option<Watch>>,
    /// When each side was probed last, and what that found.
    last: Sides<Option<(Timestamp, Outcome)>>,
    /// Whether every failing probe has an error text of its own.
    pub(super) texts: bool,
    probed: usize,
    /// Tags of `web`; no listing is answered while there is nothing.
    tags: Option<BTreeMap<String, Sides<Observed>>>,
    unreadable: Sides<Option<ReadFailure>>,
    /// What each side lacks of the content of every digest.
    pub(super) flawed: Sides<Option<FlawedPart>>,
    pub(super) in_use: InUse,
    pub(super) rule: Option<Result<Option<&'static str>, &'static str>>,
    /// How each proof pod ends; none does not.
    pub(super) proved: Option<fn(&ProofPod) -> ProofOutcome>,
    pub(super) copies: Result<(), CopyFailure>,
    pub(super) stored: Result<(), String>,
    /// Statuses that were written.
    pub(super) writes: usize,
    pub(super) events: Vec<Announcement>,
}

pub(super) fn digest(content: &str) -> Observed {
    Observed::Present(Digest::of(content.as_bytes()))
}

fn mirror(extra: &Value) -> RegistryMirror {
    let mut spec = json!({
        "primary": {"registry": "kracr.azurecr.io"},
        "fallback": {"registry": "ghcr.io", "prefix": "devopskev"},
        "repositories": [{"name": "web"}],
    });
    let fields = extra.as_object().unwrap().clone();
    spec.as_object_mut().unwrap().extend(fields);
    let object = json!({
        "apiVersion": "catamaran.dev/v1alpha1", "kind": "RegistryMirror",
        "metadata": {"name": "apps", "uid": "u1", "generation": 3, "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": spec,
    });
    serde_json::from_value(object).unwrap()
}

impl World {
    /// Both sides answer and hold one tag.
    pub(super) fn new() -> World {
        World::with(&json!({}))
    }

    /// Nothing answers.
    pub(super) fn silent() -> World {
        let mut world = World::new();
        world.answers = Sides::default();
        world.tags = None;
        world
    }

    /// The same as new with other fields in the spec.
    pub(super) fn with(extra: &Value) -> World {
        let same = Sides::from_fn(|_| digest("a"));
        World {
            mirror: mirror(extra),
            machine: Mirror::new(MirrorId {
                name: "apps".into(),
                uid: "u1".into(),
            }),
            now: "2026-11-01T12:00:00Z".parse().unwrap(),
            answers: Sides::from_fn(|_| Some(UP)),
            clients: Sides::from_fn(|_| Ok(())),
            watches: Sides::default(),
            last: Sides::default(),
            texts: false,
            probed: 0,
            tags: Some(BTreeMap::from([("1".to_owned(), same)])),
            unreadable: Sides::default(),
            flawed: Sides::default(),
            in_use: InUse {
                workloads: WorkloadsRead::Read,
                ..InUse::default()
            },
            rule: None,
            proved: None,
            copies: Ok(()),
            stored: Ok(()),
            writes: 0,
            events: Vec::new(),
        }
    }

    pub(super) fn probes(&mut self, primary: Outcome, fallback: Outcome) -> &mut World {
        self.answers = Sides {
            primary: Some(primary),
            fallback: Some(fallback),
        };
        self
    }

    pub(super) fn tag(&mut self, tag: &str, primary: &Observed, fallback: &Observed) -> &mut World {
        let seen = Sides {
            primary: primary.clone(),
            fallback: fallback.clone(),
        };
        self.tags.get_or_insert_default().insert(tag.to_owned(), seen);
        self
    }

    /// Pods use a tag of `web`.
    pub(super) fn uses(&mut self, tag: &str) -> &mut World {
        let used = Use {
            started: true,
            template: false,
            needed_on: Sides::from_fn(|_| true),
        };
        let tags = self.in_use.references.entry("web".to_owned()).or_default();
        tags.insert(tag.to_owned(), used);
        self
    }

    pub(super) fn unreadable(&mut self, side: Side, throttled: bool) -> &mut World {
        self.unreadable[side] = Some(ReadFailure {
            throttled,
            reason: if throttled { "RateLimited" } else { "ConnectionFailed" },
            message: "GET tags: why".to_owned(),
        });
        self
    }

    /// Three pods on two nodes fail to pull from a side.
    pub(super) fn pulls_fail(&mut self, side: Side, failure: PullFailure) -> &mut World {
        let pod = |pod: usize| {
            let mut failed = Sides::default();
            failed[side] = Some(FailedAttempt { failure, is_new: true });
            PodPulls {
                pod: format!("pod-{pod}").into(),
                node: format!("node-{}", pod % 2).into(),
                failed,
            }
        };
        self.feed(Event::Pulls((0..3).map(pod).collect()));
        self
    }

    pub(super) fn overlap(&mut self) -> &mut World {
        let conflict = Conflict {
            loser: self.machine.id().clone(),
            winner: MirrorId {
                name: "older".into(),
                uid: "u0".into(),
            },
            what: "kracr.azurecr.io/web".to_owned(),
        };
        self.feed(Event::Conflicts(vec![conflict]));
        self
    }

    pub(super) fn edit(&mut self, edit: impl FnOnce(&mut RegistryMirrorSpec)) -> &mut World {
        self.begin();
        edit(&mut self.mirror.spec);
        *self.mirror.metadata.generation.as_mut().unwrap() += 1;
        self.feed(spec(&self.mirror));
        self
    }

    /// Reads the object and leads, if it does not yet.
    fn begin(&mut self) {
        if self.machine.view().is_some() {
            return;
        }
        self.feed(spec(&self.mirror));
        self.feed(Event::Status(Box::new(read_status(&self.before()))));
        self.feed(Event::Prior(Evidence::default()));
        self.feed(Event::Leading(true));
    }

    /// This replica leads again, and knows what the status says.
    pub(super) fn lead_anew(&mut self) {
        self.feed(Event::Leading(false));
        self.feed(Event::Prior(Evidence::default()));
        self.feed(Event::Leading(true));
    }

    /// Other replicas say from their nodes whether a side fails; this one is on `own`.
    pub(super) fn seen_from(&mut self, side: Side, own: &str, others: &[(&str, bool)]) -> &mut World {
        self.begin();
        let vantage = |(node, fails): &(&str, bool)| Vantage {
            node: (*node).into(),
            at: self.now,
            fails: *fails,
            down: *fails,
        };
        let vantages = Vantages {
            own: own.into(),
            others: others.iter().map(vantage).collect(),
        };
        self.feed(Event::Vantages(side, std::sync::Arc::new(vantages)));
        self
    }

    /// Lets so many seconds pass.
    pub(super) fn run(&mut self, seconds: u64) -> &mut World {
        self.begin();
        let end = self.now.checked_add(Duration::from_secs(seconds)).unwrap();
        while self.now < end {
            let soonest = self.now.checked_add(Duration::from_millis(100)).unwrap();
            let wake = self.machine.wake_at(self.now);
            let due = Side::ALL.into_iter().filter_map(|side| self.due(side));
            let next = due.chain(wake).min().unwrap_or(end);
            self.now = next.max(soonest).min(end);
            for side in Side::ALL {
                if self.due(side).is_some_and(|due| due <= self.now)
                    && let Some(event) = self.probe(side)
                {
                    self.feed(event);
                }
            }
            self.feed(Event::Time);
        }
        self
    }

    fn feed(&mut self, event: Event) {
        let mut news = std::collections::VecDeque::from([event]);
        let mut handled = 0;
        while let Some(event) = news.pop_front() {
            handled += 1;
            assert!(handled < 10_000, "the machine never comes to rest");
            for effect in self.machine.handle(event, self.now) {
                news.extend(self.carry_out(effect));
            }
        }
    }

    fn carry_out(&mut self, effect: Effect) -> Vec<Event> {
        let answer = match effect {
            Effect::Watch { side, watch } => {
                self.watches[side] = watch;
                return self.probe(side).into_iter().collect();
            }
            Effect::ProbeNow { side, .. } => return self.probe(side).into_iter().collect(),
            Effect::ReadInUse { request, .. } => Event::InUse {
                request,
                in_use: std::sync::Arc::new(self.in_use.clone()),
            },
            Effect::List { pass, repository } => match self.listing(pass, repository) {
                Some(listed) => Event::Listed(Box::new(listed)),
                None => return Vec::new(),
            },
            Effect::Resolve(wanted) => Event::Resolved(Box::new(self.resolve(wanted))),
            Effect::Inspect(wanted) => Event::Inspected(Box::new(Inspected {
                request: wanted.request,
                sides: Sides::from_fn(|side| match &self.flawed[side] {
                    _ if !wanted.held.on[side] => Finding::Unknown,
                    Some(part) => Finding::Flawed(part.clone()),
                    None => Finding::Sound,
                }),
            })),
            Effect::Copy(errand) => {
                let done = CopyDone {
                    written: true,
                    bytes: 1,
                };
                let result = self.copies.clone().map(|()| done);
                Event::Copied(Box::new(CopyEnded { errand, result }))
            }
            Effect::ReadRule { request, side } => match self.read_rule(side) {
                Some(rule) => Event::Rule {
                    request,
                    rule: Box::new(rule),
                },
                None => return Vec::new(),
            },
            Effect::WriteStatus(request) => {
                self.write();
                let read = Event::Status(Box::new(read_status(&self.before())));
                return vec![
                    read,
                    Event::StatusWritten {
                        request,
                        result: Ok(()),
                    },
                ];
            }
            Effect::Prove(pod) => match self.proved {
                Some(end) => Event::Proved(Box::new(ProofEnded {
                    request: pod.request,
                    outcome: end(&pod),
                })),
                None => return Vec::new(),
            },
            Effect::WriteEvidence(_) => Event::EvidenceStored(self.stored.clone()),
            _ => return Vec::new(),
        };
        vec![answer]
    }

    /// What a probe of a side finds now.
    fn probe(&mut self, side: Side) -> Option<Event> {
        let watch = self.watches[side].as_ref()?;
        let outcome = self.answers[side]?;
        self.last[side] = Some((self.now, outcome));
        self.probed += 1;
        let attempt = if self.texts { self.probed } else { 0 };
        let registry = match side {
            Side::Primary => &self.mirror.spec.primary.registry,
            Side::Fallback => &self.mirror.spec.fallback.registry,
        };
        let reading = Reading {
            probe: Probe {
                begun: self.now,
                at: self.now,
                outcome,
                message: format!("GET https://{registry}/v2/: attempt {attempt}").into(),
            },
            target: watch.targets.first().cloned(),
            client: self.clients[side].clone(),
        };
        Some(Event::Probed(Box::new(Probed {
            side,
            generation: watch.generation,
            reading: std::sync::Arc::new(reading),
        })))
    }

    /// When a side is probed next, about as an endpoint does it.
    fn due(&self, side: Side) -> Option<Timestamp> {
        self.watches[side].as_ref()?;
        self.answers[side]?;
        let Some((last, outcome)) = self.last[side] else {
            return Some(self.now);
        };
        let pause = match outcome {
            UP => 2_000,
            Outcome::Throttled { .. } => 4_000,
            _ => 1_000,
        };
        last.checked_add(Duration::from_millis(pause)).ok()
    }

    fn read_rule(&self, side: Side) -> Option<CacheRule> {
        let policy = policy(&self.mirror).unwrap();
        Some(match self.rule? {
            Err(message) => CacheRule::Unknown {
                message: message.to_owned(),
            },
            Ok(prefix) => CacheRule::Read {
                prefix: prefix.map(str::to_owned),
                placement: placement(&policy, side, prefix),
            },
        })
    }

    /// Keeps the status as the API server would.
    fn write(&mut self) {
        let Some(view) = self.machine.view() else { return };
        let report = report(&self.before(), &view, self.now);
        self.writes += usize::from(report.changed);
        let stored = serde_json::to_value(&report.status).unwrap();
        self.mirror.status = Some(serde_json::from_value(stored).unwrap());
        let flip = report.flip.map(|flipped| flipped.announcement);
        self.events.extend(flip.into_iter().chain(report.announcements));
    }

    fn listing(&self, pass: u64, repository: String) -> Option<Listed> {
        let tags = self.tags.as_ref()?;
        let tag = |(name, seen): (&String, &Sides<Observed>)| ListedTag {
            name: name.clone(),
            sides: Sides::from_fn(|side| match (&self.unreadable[side], &seen[side]) {
                (Some(_), _) => Listing::Unread,
                (None, Observed::Present(digest)) => Listing::Named(Some(digest.clone())),
                (None, _) => Listing::Unlisted,
            }),
        };
        Some(Listed {
            pass,
            repository,
            after: None,
            failures: self.unreadable.clone(),
            unlisted: Sides::default(),
            tags: tags.iter().map(tag).collect(),
            last: true,
        })
    }

    fn resolve(&self, wanted: Resolve) -> Resolved {
        let tags = self.tags.as_ref();
        let found = tags.and_then(|tags| tags.get(&wanted.name.reference)).cloned();
        let found = found.unwrap_or_else(|| Sides::from_fn(|_| Observed::Absent));
        let asked = |side: Side| wanted.ask[side].is_some() && self.unreadable[side].is_none();
        Resolved {
            request: wanted.request,
            served: Sides::from_fn(|side| asked(side) && matches!(found[side], Observed::Present(_))),
            failures: Sides::from_fn(|side| self.unreadable[side].clone().filter(|_| wanted.ask[side].is_some())),
            seen: Sides::from_fn(|side| {
                if asked(side) {
                    found[side].clone()
                } else {
                    wanted.seen[side].clone()
                }
            }),
            name: wanted.name,
        }
    }

    /// The status as it is; an empty one before the first write.
    fn before(&self) -> RegistryMirrorStatus {
        self.mirror.status.clone().unwrap_or_default()
    }

    pub(super) fn status(&self) -> RegistryMirrorStatus {
        self.mirror.status.clone().unwrap()
    }

    pub(super) fn says(&self, kind: &str) -> (String, String) {
        let status = self.status();
        let condition = conditions::find_condition(&status.conditions, kind);
        condition.map_or_else(Default::default, |found| (found.status.clone(), found.reason.clone()))
    }

    pub(super) fn message(&self, kind: &str) -> String {
        let status = self.status();
        conditions::find_condition(&status.conditions, kind)
            .unwrap()
            .message
            .clone()
    }

    /// The note of the one Event of a kind.
    #[track_caller]
    pub(super) fn announced(&self, kind: &'static events::Kind) -> String {
        let mut notes = self.events.iter().filter(|announcement| announcement.event == kind);
        let note = notes.next().expect("it was announced").note.clone();
        assert!(notes.next().is_none(), "{} was announced again", kind.reason);
        note
    }

    #[track_caller]
    pub(super) fn expect(&mut self, kind: &str, status: &str, reason: &str) -> &mut World {
        assert_eq!(self.says(kind), (status.to_owned(), reason.to_owned()), "{kind}");
        self
    }
}

fn spec(mirror: &RegistryMirror) -> Event {
    let generation = mirror.metadata.generation.unwrap();
    match policy(mirror) {
        Ok(policy) => Event::Spec {
            policy: std::sync::Arc::new(policy),
            generation,
        },
        Err(error) => Event::InvalidSpec {
            generation,
            problem: error.to_string(),
        },
    }
}
