//! Two registries, pods and an API server, as far as a mirror's machine notices them: each effect is answered by an event.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use catamaran_core::digest::Digest;
use catamaran_core::endpoint::{Outcome, Probe, Reading, Unavailable, Watch};
use catamaran_core::mirror::failover::Standing;
use catamaran_core::mirror::in_use::{InUse, Use};
use catamaran_core::mirror::parity::Observed;
use catamaran_core::mirror::{
    Effect, Event, LARGEST_PIECE, Listed, ListedTag, Listing, Mirror, Observation, Probed, ReferenceName, RequestId,
    Resolve, Resolved, StatusRead, Subject,
};
use catamaran_core::policy::{MirrorPolicy, RepairMode, Repositories, RepositoryRule};
use catamaran_core::side::{Side, Sides};
use catamaran_core::tags::TagFilter;
use jiff::Timestamp;

use crate::record::Record;
use crate::support::{TAGS_PER_REPOSITORY, at, busy, names, policy};

/// Of so many tags one is in use.
const IN_USE: usize = 100;

/// Of 256 tags so many are missing on the fallback, where it has been in use for long.
pub const FEW: u16 = 3;
/// The same where nothing was copied yet.
pub const ALL: u16 = 256;

pub struct World {
    mirror: Mirror,
    policy: Arc<MirrorPolicy>,
    /// The tags of each repository, by name.
    tags: BTreeMap<String, Vec<String>>,
    /// How often the content of a tag has changed.
    versions: BTreeMap<ReferenceName, u32>,
    in_use: Arc<InUse>,
    status: StatusRead,
    queue: VecDeque<Event>,
    /// How each side is watched.
    watches: Sides<Option<Watch>>,
    /// Of 256 tags so many are missing on the fallback.
    missing: u16,
    /// How many tags of each repository the pass has been given.
    listed: BTreeMap<String, usize>,
    /// Whether listings bring digests.
    pub digests: bool,
    pub down: Option<Side>,
    /// What steps are called besides their kind.
    pub outage: &'static str,
    pub now: Timestamp,
    pub record: Record,
}

impl World {
    pub fn new(count: u32, missing: u16) -> World {
        let mut tags = BTreeMap::<String, Vec<String>>::new();
        for number in 0..count {
            let (repository, tag) = names(number);
            tags.entry(repository).or_default().push(tag);
        }
        for names in tags.values_mut() {
            names.sort_unstable();
        }
        let policy = Arc::new(mirror_of(count));
        let mut world = World {
            mirror: Mirror::new(policy.id.clone()),
            policy,
            tags,
            versions: BTreeMap::new(),
            in_use: Arc::default(),
            status: StatusRead::default(),
            queue: VecDeque::new(),
            watches: Sides::default(),
            missing,
            listed: BTreeMap::new(),
            digests: false,
            down: None,
            outage: "probe ended",
            now: at(0),
            record: Record::default(),
        };
        world.use_tags(|_| true);
        world
    }

    /// Begins to lead, which begins the first pass.
    pub fn begin(&mut self) {
        let policy = Arc::clone(&self.policy);
        self.feed(Event::Spec { policy, generation: 1 });
        self.feed(Event::Status(Box::default()));
        self.feed(Event::Prior(catamaran_core::routing::evidence::Evidence::default()));
        self.feed(Event::Leading(true));
    }

    /// Lets time pass, and everything happen that follows; both sides are probed at its end.
    pub fn wait(&mut self, time: Duration) {
        self.now = self.now.checked_add(time).expect("a time of this century");
        for side in Side::ALL {
            self.probe(side);
        }
        self.feed(Event::Time);
    }

    /// A probe of a side ends at once, if it is watched.
    fn probe(&mut self, side: Side) {
        let Some(watch) = &self.watches[side] else { return };
        let outcome = if self.down == Some(side) {
            Outcome::Unavailable(Unavailable::ConnectionFailed)
        } else {
            Outcome::Reachable
        };
        let reading = Reading {
            probe: Probe {
                begun: self.now,
                at: self.now,
                outcome,
                message: Arc::default(),
            },
            target: watch.targets.first().cloned(),
            client: Ok(()),
        };
        self.queue.push_back(Event::Probed(Box::new(Probed {
            side,
            generation: watch.generation,
            reading: Arc::new(reading),
        })));
    }

    /// The next pass.
    pub fn pass(&mut self) {
        self.wait(self.policy.parity.interval);
    }

    /// One tag has other content now, and is asked for.
    pub fn change(&mut self, number: u32) {
        let (repository, reference) = names(number);
        let name = ReferenceName { repository, reference };
        *self.versions.entry(name.clone()).or_default() += 1;
        self.feed(Event::Wanted {
            references: vec![name],
            urgent: true,
        });
    }

    /// One tag in so many is gone from both sides.
    pub fn remove_one_of(&mut self, many: usize) {
        for tags in self.tags.values_mut() {
            let mut index = 0;
            tags.retain(|_| {
                index += 1;
                index % many != 0
            });
        }
    }

    /// Pods use a hundredth of the tags, those that the fallback has, and some digests, or those that it lacks.
    pub fn use_tags(&mut self, on_fallback: impl Fn(bool) -> bool) {
        let used = Use {
            started: true,
            template: true,
            needed_on: Sides::from_fn(|_| true),
        };
        let mut in_use = InUse::default();
        let all = self.tags.values().map(Vec::len).sum::<usize>();
        let mut left = all / IN_USE;
        for (repository, tags) in &self.tags {
            let share = (tags.len() / IN_USE).max(1);
            let missing = self.missing;
            let there = |tag: &&String| on_fallback(!is_missing(&content(repository, tag, 0), missing));
            for tag in tags.iter().filter(there).take(share.min(left)) {
                left -= 1;
                let references = in_use.references.entry(repository.clone()).or_default();
                if left.is_multiple_of(10) && on_fallback(true) {
                    references.insert(content(repository, tag, 0).to_string(), used);
                }
                references.insert(tag.clone(), used);
            }
        }
        self.in_use = Arc::new(in_use);
    }

    /// What the status would show.
    pub fn observation(&self) -> Option<Box<Observation>> {
        match self.mirror.view()?.in_force? {
            (_, Subject::Watched(observation)) => Some(observation),
            (_, Subject::Suspended) => None,
        }
    }

    pub fn active(&self) -> Side {
        self.observation().map_or(Side::Primary, |seen| seen.decision.active)
    }

    fn feed(&mut self, event: Event) {
        self.queue.push_back(event);
        while let Some(event) = self.queue.pop_front() {
            let kind = self.kind(&event);
            let begun = busy();
            let effects = self.mirror.handle(event, self.now);
            self.record.add(kind, busy().saturating_sub(begun));
            for effect in effects {
                self.answer(effect);
            }
        }
    }

    fn kind(&self, event: &Event) -> &'static str {
        match event {
            Event::Listed(_) if self.missing == ALL => "a piece of a listing, an empty fallback",
            Event::Resolved(_) if self.missing == ALL => "a reference is read, an empty fallback",
            _ if self.missing == ALL => "anything else, an empty fallback",
            Event::Listed(_) if self.digests => "a piece of a listing with digests",
            Event::Listed(_) => "a piece of a listing of names",
            Event::Resolved(_) => "a reference is read",
            Event::InUse { .. } => "what is in use is read",
            Event::Wanted { .. } => "a reference is wanted",
            Event::Probed(_) => self.outage,
            Event::Status(_) => "the status is read",
            Event::StatusWritten { .. } => "the status is written",
            Event::Time => "time passes",
            _ => "anything else",
        }
    }

    fn answer(&mut self, effect: Effect) {
        match effect {
            Effect::ReadInUse { request, .. } => {
                let in_use = Arc::clone(&self.in_use);
                self.queue.push_back(Event::InUse { request, in_use });
            }
            Effect::List { pass, repository } => self.list(pass, repository, 0),
            Effect::ListMore { pass, repository } => {
                let listed = self.listed.get(&repository).copied().unwrap_or_default();
                self.list(pass, repository, listed);
            }
            Effect::Resolve(resolve) => self.resolve(resolve),
            Effect::Watch { side, watch } => {
                self.watches[side] = watch;
                self.probe(side);
            }
            Effect::ProbeNow { side, after } if after <= self.now => self.probe(side),
            Effect::WriteStatus(request) => self.write_status(request),
            _ => {}
        }
    }

    fn list(&mut self, pass: u64, repository: String, from: usize) {
        let tags = &self.tags[&repository];
        let to = tags.len().min(from + LARGEST_PIECE);
        let piece = tags[from..to].iter().map(|tag| self.listed_tag(&repository, tag));
        let listed = Listed {
            pass,
            after: from.checked_sub(1).map(|last| tags[last].clone()),
            failures: Sides::default(),
            unlisted: Sides {
                primary: 0,
                fallback: tags.len() * usize::from(self.missing) / 256,
            },
            tags: piece.collect(),
            last: to == tags.len(),
            repository: repository.clone(),
        };
        self.listed.insert(repository, to);
        self.queue.push_back(Event::Listed(Box::new(listed)));
    }

    fn listed_tag(&self, repository: &str, tag: &str) -> ListedTag {
        let digest = self.content(repository, tag);
        let missing = is_missing(&content(repository, tag, 0), self.missing);
        ListedTag {
            name: tag.to_owned(),
            sides: Sides::from_fn(|side| match side {
                Side::Fallback if missing => Listing::Unlisted,
                _ => Listing::Named(self.digests.then(|| digest.clone())),
            }),
        }
    }

    fn resolve(&mut self, resolve: Resolve) {
        let ReferenceName { repository, reference } = &resolve.name;
        let there = match reference.parse::<Digest>() {
            Ok(digest) => digest,
            Err(_) => self.content(repository, reference),
        };
        let is_tag = !reference.contains(':');
        let missing = is_tag && is_missing(&content(repository, reference, 0), self.missing);
        let gone = is_tag && self.tags[repository].binary_search(reference).is_err();
        let seen = Sides::from_fn(|side| match (&resolve.ask[side], side) {
            (None, _) => resolve.seen[side].clone(),
            (Some(_), _) if gone => Observed::Absent,
            (Some(_), Side::Fallback) if missing => Observed::Absent,
            (Some(_), _) => Observed::Present(there.clone()),
        });
        self.queue.push_back(Event::Resolved(Box::new(Resolved {
            request: resolve.request,
            served: Sides::from_fn(|side| matches!(seen[side], Observed::Present(_))),
            name: resolve.name,
            seen,
            failures: Sides::default(),
        })));
    }

    fn write_status(&mut self, request: RequestId) {
        let begun = busy();
        let view = black_box(self.mirror.view());
        self.record.add("the view for the status", busy().saturating_sub(begun));
        if let Some((_, Subject::Watched(seen))) = view.and_then(|view| view.in_force) {
            self.status = StatusRead {
                standing: Some(Standing {
                    active: seen.decision.active,
                    registry: None,
                    epoch: seen.decision.epoch,
                    last_flip: seen.last_flip,
                    failovers: seen.decision.failovers,
                }),
                observed: seen.observed,
                canary: seen.canary,
                rescued: seen.rescued,
                proof: None,
                reconciled: seen.reconciled,
            };
        }
        self.queue.push_back(Event::Status(Box::new(self.status.clone())));
        let result = Ok(());
        self.queue.push_back(Event::StatusWritten { request, result });
    }

    fn content(&self, repository: &str, tag: &str) -> Digest {
        let name = ReferenceName {
            repository: repository.to_owned(),
            reference: tag.to_owned(),
        };
        content(repository, tag, self.versions.get(&name).copied().unwrap_or_default())
    }
}

/// A mirror that lists its repositories, and reports what it would copy.
fn mirror_of(tags: u32) -> MirrorPolicy {
    let repositories: BTreeSet<String> = (0..tags)
        .step_by(TAGS_PER_REPOSITORY as usize)
        .map(|number| names(number).0)
        .collect();
    let rules = repositories.into_iter().map(|name| RepositoryRule {
        paths: Sides {
            primary: name.clone(),
            fallback: format!("devopskev/{name}"),
        },
        name,
        tags: TagFilter::default(),
    });
    let mut policy = policy();
    policy.repositories = Repositories::Listed(rules.collect());
    policy.repair.mode = RepairMode::DryRun;
    policy
}

fn content(repository: &str, tag: &str, version: u32) -> Digest {
    Digest::of(format!("{repository}:{tag} {version}").as_bytes())
}

/// Whether the fallback lacks the tag with this content, where it lacks so many of 256.
fn is_missing(digest: &Digest, missing: u16) -> bool {
    let text = digest.to_string();
    u8::from_str_radix(&text[text.len() - 2..], 16).is_ok_and(|last| u16::from(last) < missing)
}
