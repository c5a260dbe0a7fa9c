#![allow(
    clippy::field_reassign_with_default,
    clippy::inconsistent_struct_constructor,
    clippy::needless_pass_by_value,
    clippy::unwrap_in_result,
    reason = "short fixtures"
)]
use std::time::Duration;

use super::*;
use crate::digest::Digest;
use crate::endpoint::{Outcome, Probe, Reading, Unavailable, Watch};
use crate::mirror::event::{
    CopyDone, CopyEnded, Listed, ListedTag, Listing, Probed, ReadFailure, ReferenceName, RequestId, Resolved,
    WriteProblem,
};
use crate::mirror::failover::{FlipReason, Reason};
use crate::mirror::fixtures::{RULES, at, content, foreign, listed, seen, used};
use crate::mirror::parity::Canary;
use crate::mirror::proof::ProofRead;
use crate::mirror::repair::Errand;
use crate::mirror::{Resolve, Subject, View};
use crate::policy::{ActiveSide, RepairMode, SidePolicy};
use crate::routing::evidence::{Evidence, Knowledge, Presence};
use crate::routing::fixtures::{apps, listing};
use crate::side::{Side, Sides};

mod proof_pods;
mod proofs;
mod pulls;
mod replicas;
mod writes;

const UP: Outcome = Outcome::Reachable;
const DOWN: Outcome = Outcome::Unavailable(Unavailable::ConnectionFailed);

/// A mirror, and what it wants done that was not done yet.
struct Bench {
    mirror: Mirror,
    now: i64,
    wanted: Vec<Effect>,
    /// How each side is watched, and when and with what its last probe ended.
    watches: Sides<Option<Watch>>,
    probed: Sides<Option<(i64, Outcome)>>,
}

/// What a probe found that asked for the first target.
fn probed(side: Side, outcome: Outcome, now: Timestamp, watch: &Watch) -> Event {
    let reading = Reading {
        probe: Probe {
            begun: now,
            at: now,
            outcome,
            message: format!("at {now}").into(),
        },
        target: watch.targets.first().cloned(),
        client: Ok(()),
    };
    Event::Probed(Box::new(Probed {
        side,
        generation: watch.generation,
        reading: Arc::new(reading),
    }))
}

fn web() -> MirrorPolicy {
    listing(apps(), &[("web", "web", "devopskev/web")])
}

fn status(active: Side, epoch: u64) -> StatusRead {
    StatusRead {
        standing: Some(Standing {
            active,
            epoch,
            ..Standing::default()
        }),
        ..StatusRead::default()
    }
}

/// The status of a mirror that sends pods to this registry.
fn status_of(active: Side, epoch: u64, side: &SidePolicy) -> StatusRead {
    let mut status = status(active, epoch);
    if let Some(standing) = &mut status.standing {
        standing.registry = Some(side.name());
    }
    status
}

impl Bench {
    fn new() -> Bench {
        let id = apps().id;
        Bench {
            mirror: Mirror::new(id),
            now: 0,
            wanted: Vec::new(),
            watches: Sides::default(),
            probed: Sides::default(),
        }
    }

    /// A leader of this mirror, with a status that was never written.
    fn leading(policy: MirrorPolicy) -> Bench {
        Bench::leading_from(policy, StatusRead::default())
    }

    fn leading_from(policy: MirrorPolicy, status: StatusRead) -> Bench {
        let mut bench = Bench::new();
        bench.spec(policy, 1);
        bench.status(status);
        bench.feed(Event::Prior(Evidence::default()));
        bench.feed(Event::Leading(true));
        bench
    }

    fn feed(&mut self, event: Event) -> Vec<Effect> {
        let effects = self.mirror.handle(event, at(self.now));
        for effect in &effects {
            if let Effect::Watch { side, watch } = effect {
                self.watches[*side].clone_from(watch);
            }
        }
        let work = effects.iter().filter(|effect| !matches!(effect, Effect::Watch { .. }));
        self.wanted.extend(work.cloned());
        effects
    }

    fn spec(&mut self, policy: MirrorPolicy, generation: i64) -> Vec<Effect> {
        self.feed(Event::Spec {
            policy: Arc::new(policy),
            generation,
        })
    }

    fn status(&mut self, read: StatusRead) -> Vec<Effect> {
        self.feed(Event::Status(Box::new(read)))
    }

    /// Takes the first effect that matches.
    fn take<T>(&mut self, pick: impl Fn(&Effect) -> Option<T>) -> Option<T> {
        let index = self.wanted.iter().position(|effect| pick(effect).is_some())?;
        pick(&self.wanted.remove(index))
    }

    /// A probe of a side ends: two seconds after one that succeeded, a second after one that failed.
    fn probe(&mut self, side: Side, outcome: Outcome) -> Vec<Effect> {
        let watch = self.watches[side].clone().expect("the side is watched");
        if let Some((last, found)) = self.probed[side] {
            let pause = if found == UP { 2 } else { 1 };
            self.wait((last + pause - self.now).max(0));
        }
        self.probed[side] = Some((self.now, outcome));
        let event = probed(side, outcome, at(self.now), &watch);
        self.feed(event)
    }

    /// Probes both sides so often.
    fn probes(&mut self, times: usize, primary: Outcome, fallback: Outcome) {
        for _ in 0..times {
            self.probe(Side::Primary, primary);
            self.probe(Side::Fallback, fallback);
        }
    }

    /// Lets time pass, a second at a time.
    fn wait(&mut self, seconds: i64) {
        for _ in 0..seconds {
            self.now += 1;
            let due = self.mirror.wake_at(at(self.now)).is_some_and(|due| due <= at(self.now));
            if due {
                self.feed(Event::Time);
            }
        }
    }

    fn in_use(&mut self, references: &[&str]) -> Vec<Effect> {
        let request = self
            .take(|effect| match effect {
                Effect::ReadInUse { request, .. } => Some(*request),
                _ => None,
            })
            .expect("what is in use is wanted");
        self.feed(Event::InUse {
            request,
            in_use: Arc::new(used(references)),
        })
    }

    /// The listing of `web`, whole: each tag with what the two sides have.
    fn list(&mut self, tags: &[(&str, &str)], failures: Sides<Option<ReadFailure>>) -> Vec<Effect> {
        let pass = self
            .take(|effect| match effect {
                Effect::List { pass, .. } => Some(*pass),
                _ => None,
            })
            .expect("a listing is wanted");
        let tag = |(name, letters): &(&str, &str)| ListedTag {
            name: (*name).to_owned(),
            sides: Sides::from_fn(|side| match seen(letters)[side].clone() {
                crate::mirror::parity::Observed::Present(digest) => Listing::Named(Some(digest)),
                crate::mirror::parity::Observed::Absent => Listing::Unlisted,
                crate::mirror::parity::Observed::Unknown => Listing::Unread,
            }),
        };
        self.feed(Event::Listed(Box::new(Listed {
            pass,
            repository: "web".to_owned(),
            after: None,
            failures,
            unlisted: Sides::default(),
            tags: tags.iter().map(tag).collect(),
            last: true,
        })))
    }

    /// A whole pass over `web`.
    fn pass(&mut self, in_use: &[&str], tags: &[(&str, &str)]) -> Vec<Effect> {
        self.in_use(in_use);
        self.list(tags, Sides::default())
    }

    fn reading(&mut self) -> Option<Resolve> {
        self.take(|effect| match effect {
            Effect::Resolve(resolve) => Some(resolve.clone()),
            _ => None,
        })
    }

    fn resolve(&mut self, letters: &str) -> Vec<Effect> {
        let resolve = self.reading().expect("a reference is wanted");
        self.resolved(&resolve, letters)
    }

    fn resolved(&mut self, resolve: &Resolve, letters: &str) -> Vec<Effect> {
        let seen = seen(letters);
        let present = |side: Side| matches!(seen[side], crate::mirror::parity::Observed::Present(_));
        self.feed(Event::Resolved(Box::new(Resolved {
            request: resolve.request,
            name: resolve.name.clone(),
            served: Sides::from_fn(present),
            seen: seen.clone(),
            failures: Sides::default(),
        })))
    }

    /// The status write that is under way, and what it says.
    fn writing(&mut self) -> Option<(RequestId, View)> {
        let request = self.take(|effect| match effect {
            Effect::WriteStatus(request) => Some(*request),
            _ => None,
        })?;
        Some((request, self.mirror.view()?))
    }

    /// Lets the API server take in what is being written, if anything is; whether it was.
    fn write(&mut self) -> bool {
        let Some((request, view)) = self.writing() else {
            return false;
        };
        if let Some((_, Subject::Watched(seen))) = &view.in_force {
            let read = StatusRead {
                standing: Some(seen.standing()),
                observed: seen.observed.clone(),
                canary: seen.canary.clone(),
                rescued: seen.rescued,
                proof: seen
                    .proof
                    .as_ref()
                    .map(|proof| ProofRead::of(proof, &seen.policy.sides.fallback.name())),
                reconciled: seen.reconciled.clone(),
            };
            self.status(read);
        }
        let result = Ok(());
        self.feed(Event::StatusWritten { request, result });
        true
    }

    fn settle(&mut self) {
        while self.write() {}
    }

    fn active(&self) -> (Side, u64) {
        (self.mirror.status.standing.active, self.mirror.status.standing.epoch)
    }

    fn reason(&self) -> Option<Reason> {
        self.mirror.decision.as_ref().map(|decision| decision.why.reason)
    }

    fn known(&self, tag: &str) -> Knowledge {
        self.mirror.ledger.known("web", tag)
    }
}

fn wants_status(effects: &[Effect]) -> bool {
    effects.iter().any(|effect| matches!(effect, Effect::WriteStatus(_)))
}

fn failure() -> ReadFailure {
    ReadFailure {
        throttled: false,
        reason: "ConnectionFailed",
        message: "refused".to_owned(),
    }
}

fn name(tag: &str) -> ReferenceName {
    ReferenceName {
        repository: "web".to_owned(),
        reference: tag.to_owned(),
    }
}

/// A leader that knows that both sides hold tag `1`, which is in use, and whose primary has been well.
fn ready() -> Bench {
    let mut bench = Bench::leading(web());
    bench.pass(&["1"], &[("1", "xx")]);
    bench.settle();
    bench.probes(3, UP, UP);
    bench.settle();
    bench
}

/// The same after a failover.
fn failed_over() -> Bench {
    let mut bench = ready();
    while bench.active().0 == Side::Primary {
        bench.probes(1, DOWN, UP);
        bench.settle();
    }
    bench
}

#[test]
fn follower_probes_and_writes_nothing() {
    let mut bench = Bench::new();
    let effects = bench.spec(web(), 1);
    let watches = effects.iter().filter(|effect| matches!(effect, Effect::Watch { .. }));
    assert_eq!(watches.count(), 2);
    bench.status(status(Side::Primary, 1));
    bench.probes(5, DOWN, UP);
    bench.feed(Event::Wanted {
        references: vec![name("1")],
        urgent: true,
    });
    assert_eq!(bench.wanted, []);
    assert_eq!(bench.reason(), None);
}

#[test]
fn leader_that_has_not_read_the_status_waits_for_it() {
    let mut bench = Bench::new();
    bench.spec(web(), 1);
    bench.feed(Event::Prior(Evidence::default()));
    let effects = bench.feed(Event::Leading(true));
    assert!(effects.is_empty(), "{effects:?}");
    bench.probes(1, UP, UP);
    assert_eq!(
        bench.mirror.wake_at(at(bench.now)),
        None,
        "it does not wake up for nothing"
    );
    assert!(wants_status(&bench.status(status(Side::Primary, 3))));
}

#[test]
fn mirror_without_a_spec_does_nothing() {
    let mut bench = Bench::new();
    bench.status(status(Side::Primary, 1));
    bench.feed(Event::Prior(Evidence::default()));
    bench.feed(Event::Leading(true));
    bench.feed(Event::Rescued(3));
    assert!(bench.wanted.is_empty());
    assert_eq!(bench.mirror.wake_at(at(0)), None);
    assert!(bench.mirror.view().is_none());
}

#[test]
fn suspended_mirror_says_so_and_does_nothing_else() {
    let mut bench = ready();
    let mut suspended = web();
    suspended.suspended = true;
    bench.wanted.clear();
    bench.spec(suspended, 2);
    let view = bench.writing().map(|(_, view)| view).unwrap();
    assert!(matches!(view.in_force, Some((2, Subject::Suspended))));
    assert_eq!(bench.wanted, []);
    assert!(bench.known("1").same, "what is known stays known");
}

#[test]
fn invalid_spec_leaves_the_last_valid_one_in_force() {
    let mut bench = ready();
    let refuse = |bench: &mut Bench| {
        let problem = "spec.primary: the same as spec.fallback".to_owned();
        bench.feed(Event::InvalidSpec { generation: 2, problem })
    };
    assert!(wants_status(&refuse(&mut bench)));
    let (request, view) = bench.writing().unwrap();
    assert_eq!(view.generation, 2);
    assert!(view.invalid.is_some());
    assert!(matches!(view.in_force, Some((1, Subject::Watched(_)))));
    bench.feed(Event::StatusWritten {
        request,
        result: Ok(()),
    });
    // The object is read again: the valid spec of before comes with it.
    assert!(!wants_status(&bench.spec(web(), 1)));
    assert!(!wants_status(&refuse(&mut bench)));
    assert!(bench.mirror.view().unwrap().invalid.is_some());
    assert!(wants_status(&bench.spec(web(), 3)));
    assert!(bench.mirror.view().unwrap().invalid.is_none());
}

#[test]
fn spec_that_never_made_sense_is_reported() {
    let mut bench = Bench::new();
    bench.status(StatusRead::default());
    bench.feed(Event::Leading(true));
    let problem = "no".to_owned();
    assert!(wants_status(&bench.feed(Event::InvalidSpec { generation: 1, problem })));
    assert!(bench.mirror.view().unwrap().in_force.is_none());
}

#[test]
fn status_that_goes_back_under_a_leader_is_lifted_above() {
    for restored in [status(Side::Primary, 2), StatusRead::default()] {
        let mut bench = Bench::leading_from(web(), status(Side::Fallback, 5));
        bench.settle();
        for _ in 0..2 {
            // However often it is read.
            bench.status(restored.clone());
            assert_eq!(bench.active(), (Side::Fallback, 6), "{restored:?}");
        }
        bench.probes(1, UP, UP);
        bench.settle();
        assert_eq!(bench.active(), (Side::Fallback, 6));
        bench.status(status(Side::Fallback, 6));
        assert_eq!(bench.active(), (Side::Fallback, 6), "and no further");
    }
}

#[test]
fn new_leader_takes_the_side_of_a_restored_status() {
    let mut bench = Bench::new();
    bench.spec(web(), 1);
    bench.status(status(Side::Fallback, 5));
    bench.status(status(Side::Primary, 2));
    bench.feed(Event::Prior(Evidence::default()));
    bench.feed(Event::Leading(true));
    assert_eq!(bench.active(), (Side::Primary, 6));
    let mut wiped = Bench::new();
    wiped.spec(web(), 1);
    wiped.status(status(Side::Fallback, 5));
    wiped.status(StatusRead::default());
    wiped.feed(Event::Leading(true));
    assert_eq!(wiped.active(), (Side::Fallback, 6), "a wiped one names no side");
}

#[test]
fn active_registry_stays_when_the_sides_change_places() {
    let policy = web();
    let fallback = policy.sides.fallback.clone();
    let mut bench = Bench::leading_from(policy, status_of(Side::Fallback, 2, &fallback));
    bench.probes(3, DOWN, UP);
    bench.settle();
    let mut swapped = listing(apps(), &[("web", "devopskev/web", "web")]);
    std::mem::swap(&mut swapped.sides.primary, &mut swapped.sides.fallback);
    bench.spec(swapped, 2);
    assert_eq!(bench.active(), (Side::Primary, 3));
    let failures = |side: Side| bench.mirror.probes.side(side).history().failures_in_row();
    assert_eq!(
        [failures(Side::Primary), failures(Side::Fallback)],
        [0, 3],
        "what was seen of a registry stays with it"
    );
}

#[test]
fn probe_of_another_registry_does_not_count_for_the_new_one() {
    let mut bench = Bench::leading(web());
    bench.probe(Side::Primary, DOWN);
    bench.wait(1);
    let watch = bench.watches.primary.clone().unwrap();
    let mut moved = web();
    moved.sides.primary.registry = "new.example".to_owned();
    bench.spec(moved, 2);
    let late = probed(Side::Primary, DOWN, at(bench.now), &watch);
    bench.feed(late);
    assert_eq!(bench.mirror.probes.side(Side::Primary).history().latest(), None);
}

#[test]
fn canary_that_a_side_does_not_serve_is_put_aside() {
    let cases = [
        (Outcome::CanaryNotFound, "2"),
        (Outcome::CanaryBlocked, "2"),
        (Outcome::UnexpectedAnswer, "1"),
        (Outcome::Forbidden, "1"),
    ];
    for (outcome, tag) in cases {
        let mut bench = ready();
        bench
            .mirror
            .ledger
            .record("web", "2", seen("bb"), at(bench.now), &RULES);
        bench.probe(Side::Primary, outcome);
        let current = bench.mirror.canary.current().map(|canary| canary.tag.as_str());
        assert_eq!(current, Some(tag), "{outcome:?}");
    }
}

#[test]
fn edit_that_leaves_the_mapping_keeps_what_is_known() {
    let mut bench = ready();
    let canary = bench.mirror.canary.current().cloned();
    assert!(canary.is_some());
    let mut edited = web();
    edited.failover.stable = Duration::from_mins(10);
    bench.spec(edited, 2);
    assert!(bench.known("1").same);
    assert_eq!(bench.mirror.canary.current().cloned(), canary);
    assert_eq!(bench.mirror.status.observed.len(), 1);
    assert!(bench.mirror.passes.last().is_some());
}

#[test]
fn edit_of_the_mapping_drops_what_is_known() {
    let mut bench = ready();
    let errand = Errand {
        repository: "web".to_owned(),
        tag: "2".to_owned(),
        to: Side::Fallback,
        digest: Digest::of(b"2"),
        is_broken: false,
    };
    bench.mirror.copies.attempts_mut().failed(&errand, at(bench.now));
    bench.spec(listing(apps(), &[("web", "web", "team-b/web")]), 2);
    assert_eq!(
        bench.mirror.copies.attempts().len(),
        0,
        "that copy was to another place"
    );
    assert_eq!(bench.known("1"), Knowledge::NOTHING);
    assert_eq!(bench.mirror.canary.current(), None);
    assert!(bench.mirror.status.observed.is_empty());
    assert!(bench.mirror.passes.last().is_none());
}

#[test]
fn repositories_that_trade_paths_are_another_mapping() {
    let policy = |web: &str, api: &str| listing(apps(), &[("web", "web", web), ("api", "api", api)]);
    let mut bench = Bench::leading(policy("one", "two"));
    bench.in_use(&["1"]);
    let pass = bench
        .take(|effect| match effect {
            Effect::List { pass, .. } => Some(*pass),
            _ => None,
        })
        .unwrap();
    bench.spec(policy("two", "one"), 2);
    assert!(bench.wanted.contains(&Effect::AbandonPass(pass)));
    assert!(bench.mirror.passes.last().is_none());
}

#[test]
fn answer_that_was_asked_for_under_another_spec_is_not_taken_in() {
    let mut bench = ready();
    bench.feed(Event::Wanted {
        references: vec![name("2")],
        urgent: true,
    });
    let resolve = bench.reading().unwrap();
    bench.spec(listing(apps(), &[("web", "web", "team-b/web")]), 2);
    bench.resolved(&resolve, "xx");
    assert_eq!(bench.known("2"), Knowledge::NOTHING);
}

#[test]
fn reference_that_was_asked_for_under_another_mapping_is_not_taken_in() {
    let mut bench = ready();
    bench.feed(Event::Wanted {
        references: vec![name("2")],
        urgent: true,
    });
    let resolve = bench.reading().unwrap();
    bench.spec(listing(apps(), &[("web", "web", "team-b/web")]), 2);
    bench.resolved(&resolve, "xx");
    assert_eq!(bench.known("2"), Knowledge::NOTHING);
    assert!(bench.mirror.status.observed.is_empty());
}

#[test]
fn lost_lease_ends_work_and_drops_what_was_read() {
    let mut bench = ready();
    bench.feed(Event::Wanted {
        references: vec![name("2")],
        urgent: false,
    });
    let resolve = bench.reading().unwrap();
    bench.feed(Event::Leading(false));
    assert_eq!(bench.known("1"), Knowledge::NOTHING);
    assert!(
        bench.mirror.passes.last().is_none(),
        "no failback builds on a pass of before"
    );
    bench.resolved(&resolve, "xx");
    assert_eq!(bench.known("2"), Knowledge::NOTHING, "what it asked for comes too late");
    // What another leader has published meanwhile is what it goes on from.
    let policy = web();
    let key = policy.key("web", policy.rule("web"), "1");
    let mut lacking = Knowledge::NOTHING;
    lacking.presence.fallback = Presence::Absent;
    bench.feed(Event::Prior([(key, lacking)].into_iter().collect()));
    bench.feed(Event::Leading(true));
    assert_eq!(bench.known("1"), lacking);
}

#[test]
fn mapping_is_observed_when_the_active_side_serves_it() {
    let served = |active: Side, letters: &str| {
        let mut bench = Bench::leading_from(web(), status(active, 1));
        bench.feed(Event::Wanted {
            references: vec![name("1")],
            urgent: false,
        });
        bench.resolve(letters);
        !bench.mirror.status.observed.is_empty()
    };
    assert!(served(Side::Primary, "x?"));
    assert!(!served(Side::Primary, "-x"), "the other side has served it");
    assert!(served(Side::Fallback, "?x"));
    assert!(!served(Side::Fallback, "xx".replace('x', "-").as_str()));

    let mut bench = Bench::leading(web());
    bench.mirror.canary.follow(&Canary {
        repository: "web".to_owned(),
        tag: "1".to_owned(),
        digest: content('x'),
    });
    bench.feed(Event::Time);
    bench.probe(Side::Fallback, UP);
    assert!(bench.mirror.status.observed.is_empty());
    bench.probe(Side::Primary, UP);
    assert_eq!(bench.mirror.status.observed, web().mappings());
}

#[test]
fn manifest_asked_for_under_another_spec_observes_nothing() {
    let mut bench = ready();
    let watch = bench.watches.primary.clone().unwrap();
    bench.spec(listing(apps(), &[("web", "team-b/web", "devopskev/web")]), 2);
    bench.feed(probed(Side::Primary, UP, at(bench.now), &watch));
    assert!(bench.mirror.status.observed.is_empty());
}

#[test]
fn mapping_that_was_only_listed_is_read_once() {
    let mut bench = Bench::leading(web());
    bench.pass(&[], &[("1", "-x"), ("2", "xx"), ("3", "xx")]);
    let resolve = bench.reading().unwrap();
    assert_eq!(resolve.name, name("2"), "the first that the active side has");
    assert!(bench.reading().is_none());
    bench.resolved(&resolve, "xx");
    assert_eq!(bench.mirror.status.observed, web().mappings());
    bench.settle();
    bench.wait(301);
    bench.pass(&[], &[("2", "xx")]);
    assert!(bench.reading().is_none(), "it is observed");
}

#[test]
fn observed_mappings_are_those_of_the_spec_in_force() {
    let mut read = status(Side::Primary, 1);
    let other = listing(apps(), &[("web", "web", "team-b/web")]);
    read.observed = web().mappings().union(&other.mappings()).copied().collect();
    let mut bench = Bench::leading_from(web(), read.clone());
    assert_eq!(bench.mirror.status.observed, web().mappings());
    bench.spec(other.clone(), 2);
    assert!(bench.mirror.status.observed.is_empty());
    bench.status(read);
    assert_eq!(bench.mirror.status.observed, other.mappings());
}

#[test]
fn followers_probe_with_what_the_leader_probes_with() {
    let canary = |tag: &str| Canary {
        repository: "web".to_owned(),
        tag: tag.to_owned(),
        digest: content('x'),
    };
    let with = |tag: &str| StatusRead {
        canary: Some(canary(tag)),
        ..status(Side::Primary, 1)
    };
    let mut bench = Bench::new();
    bench.spec(web(), 1);
    for tag in ["1", "2"] {
        bench.status(with(tag));
        assert_eq!(bench.mirror.canary.current(), Some(&canary(tag)));
    }
    bench.feed(Event::Leading(true));
    bench.status(with("1"));
    assert_eq!(
        bench.mirror.canary.current(),
        Some(&canary("2")),
        "a leader chooses itself"
    );
}

#[test]
fn failback_waits_for_a_pass_a_list_and_the_references() {
    let mut bench = failed_over();
    bench.wanted.clear();
    bench.wait(70);
    bench.probes(180, UP, UP);
    bench.settle();
    assert_eq!(bench.reason(), Some(Reason::WaitingForParity));
    bench.pass(&["1"], &[("1", "xx")]);
    bench.settle();
    assert!(bench.reading().is_none());
    let effects = bench.in_use(&["1"]);
    assert!(!wants_status(&effects) || bench.active().0 == Side::Fallback);
    bench.settle();
    assert_eq!(bench.active(), (Side::Primary, 3), "{:?}", bench.reason());
}

#[test]
fn failback_that_is_held_up_follows_the_copy() {
    let mut bench = failed_over();
    bench.wanted.clear();
    bench.wait(70);
    bench.probes(180, UP, UP);
    bench.settle();
    bench.pass(&["1"], &[("1", "-x")]);
    bench.in_use(&["1"]);
    bench.settle();
    assert_eq!(bench.reason(), Some(Reason::WaitingForParity));
    assert_eq!(bench.mirror.failback.blockers().total, 1);
    // It was pushed to the primary, and a registry says so.
    bench.probes(3, UP, UP);
    bench.feed(Event::Wanted {
        references: vec![name("1")],
        urgent: false,
    });
    bench.resolve("xx");
    bench.in_use(&["1"]);
    bench.settle();
    assert_eq!(bench.active(), (Side::Primary, 3), "{:?}", bench.reason());
    assert_eq!(bench.mirror.failback.blockers().total, 0);
}

#[test]
fn copied_tag_is_read_again_however_lately_it_was() {
    let mut policy = web();
    policy.repair.mode = RepairMode::Copy;
    policy.parity.grace = Duration::ZERO;
    let mut observed = status(Side::Primary, 1);
    observed.observed = policy.mappings();
    let mut bench = Bench::leading_from(policy, observed);
    bench.probes(3, UP, UP);
    bench.pass(&[], &[("1", "x-")]);
    bench.settle();
    bench.wait(310);
    bench.probes(3, UP, UP);
    bench.pass(&[], &[("1", "x-")]);
    let errand = bench
        .take(|effect| match effect {
            Effect::Copy(errand) => Some(errand.clone()),
            _ => None,
        })
        .expect("a copy is wanted");
    assert_eq!((errand.tag.as_str(), errand.to), ("1", Side::Fallback));
    let ended = |errand| CopyEnded {
        errand,
        result: Ok(CopyDone {
            written: true,
            bytes: 1,
        }),
    };
    bench.feed(Event::Copied(Box::new(ended(errand.clone()))));
    bench.resolve("xx");
    assert!(bench.known("1").same);
    bench.feed(Event::Copied(Box::new(ended(errand))));
    assert!(bench.reading().is_none(), "it comes twice");
}

#[test]
fn reference_read_since_the_list_was_made_is_not_forgotten() {
    let mut bench = Bench::leading(apps());
    bench.in_use(&[]);
    bench.settle();
    bench.feed(Event::Wanted {
        references: vec![name("new")],
        urgent: false,
    });
    bench.resolve("xx");
    bench.wait(30);
    bench.mirror.passes.want();
    bench.wait(1);
    bench.in_use(&["old"]);
    assert!(bench.known("new").same, "the list may be older than the pod");
    bench.resolve("xx");
    bench.resolve("xx");
    bench.wait(60);
    bench.mirror.passes.want();
    bench.wait(1);
    bench.in_use(&["old"]);
    assert_eq!(bench.known("new"), Knowledge::NOTHING);
}

#[test]
fn unconfirmed_difference_makes_no_passes_in_an_outage() {
    let mut bench = ready();
    bench.wait(301);
    bench.in_use(&["1"]);
    bench.list(&[("1", "xx"), ("2", "x-")], Sides::default());
    bench.settle();
    bench.wait(130);
    bench.in_use(&["1"]);
    let down = Sides {
        primary: None,
        fallback: Some(failure()),
    };
    bench.list(&[("1", "x?"), ("2", "x?")], down);
    bench.settle();
    bench.wanted.clear();
    bench.wait(160);
    let passes = bench
        .wanted
        .iter()
        .filter(|effect| matches!(effect, Effect::ReadInUse { .. }));
    assert_eq!(passes.count(), 0);
}

#[test]
fn override_flips_without_a_check() {
    let mut bench = ready();
    let mut pinned = web();
    pinned.failover.active = ActiveSide::Fixed(Side::Fallback);
    bench.spec(pinned, 2);
    bench.settle();
    assert_eq!(bench.active(), (Side::Fallback, 2));
    assert_eq!(bench.reason(), Some(Reason::Overridden));
}

#[test]
fn conflicts_with_other_mirrors_are_reported_once() {
    let mut bench = ready();
    let conflict = Conflict {
        loser: apps().id,
        winner: apps().id,
        what: "kracr.azurecr.io/web".to_owned(),
    };
    assert!(wants_status(&bench.feed(Event::Conflicts(vec![conflict.clone()]))));
    bench.settle();
    assert!(!wants_status(&bench.feed(Event::Conflicts(vec![conflict]))));
}

#[test]
fn two_listed_repositories_are_both_read() {
    let mut bench = Bench::leading(listed());
    bench.in_use(&[]);
    let lists = bench
        .wanted
        .iter()
        .filter(|effect| matches!(effect, Effect::List { .. }));
    assert_eq!(lists.count(), 2);
}
