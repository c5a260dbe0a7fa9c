use std::collections::BTreeMap;

use super::*;
use crate::mirror::event::Requests;
use crate::mirror::fixtures::{RULES, at, foreign, ledger_of, listed, seen, used};
use crate::mirror::in_use::Use;

fn digest() -> String {
    Digest::of(b"x").to_string()
}

fn name(reference: &str) -> ReferenceName {
    ReferenceName {
        repository: "web".to_owned(),
        reference: reference.to_owned(),
    }
}

#[test]
fn each_pair_of_answers_holds_a_failback_up_or_not() {
    use BlockReason::{DigestMismatch, MissingOnPrimary, NotRead};
    // By tag, by digest, and by tag where mismatches are no obstacle.
    let cases = [
        ("xx", None, None, None),
        ("xy", Some(DigestMismatch), None, None),
        ("x-", None, None, None),
        ("x?", Some(NotRead), None, None),
        (
            "-x",
            Some(MissingOnPrimary),
            Some(MissingOnPrimary),
            Some(MissingOnPrimary),
        ),
        ("--", None, None, None),
        ("-?", Some(NotRead), Some(NotRead), Some(NotRead)),
        ("?x", Some(NotRead), Some(NotRead), Some(NotRead)),
        ("?-", None, None, None),
        ("??", Some(NotRead), Some(NotRead), Some(NotRead)),
    ];
    let mut proceeding = listed();
    proceeding.failover.on_mismatch = OnMismatch::Proceed;
    for (letters, by_tag, by_digest, proceeds) in cases {
        let seen = seen(letters);
        assert_eq!(judge(&listed(), false, &seen), by_tag, "{letters} by tag");
        assert_eq!(judge(&listed(), true, &seen), by_digest, "{letters} by digest");
        assert_eq!(judge(&proceeding, false, &seen), proceeds, "{letters} with Proceed");
    }
}

#[test]
fn flaw_of_the_primary_alone_holds_a_failback_up() {
    let flaw = |primary: Option<Flaw>, fallback: Option<Flaw>| {
        let mut ledger = ledger_of(&listed(), &[("a", "xx")]);
        let digest = ledger.digest("web", "a").unwrap();
        ledger.set_flaws("web", &digest, Sides { primary, fallback });
        let nowhere = BTreeSet::new();
        let known = Known {
            ledger: &ledger,
            read: Timestamp::MIN..=Timestamp::MAX,
            nowhere: &nowhere,
        };
        let blockers = blockers(&listed(), &used(&["a"]), &known);
        blockers.sample.first().map(|blocker| blocker.reason)
    };
    let (broken, untrusted) = (Some(Flaw::Broken), Some(Flaw::Untrusted));
    assert_eq!(flaw(None, None), None);
    assert_eq!(flaw(broken, None), Some(BlockReason::BrokenOnPrimary));
    assert_eq!(flaw(untrusted, None), Some(BlockReason::UntrustedOnPrimary));
    assert_eq!(flaw(untrusted, untrusted), None, "pods can't get it where they are now");
    assert_eq!(flaw(None, untrusted), None);
}

#[test]
fn primary_that_is_a_cache_fills_itself_by_tag_only() {
    let mut cached = listed();
    cached.sides.primary.pull_through_cache = true;
    assert_eq!(judge(&cached, false, &seen("-x")), None);
    assert_eq!(judge(&cached, true, &seen("-x")), Some(BlockReason::MissingOnPrimary));
}

#[test]
fn references_count_if_started_or_named_and_needed() {
    let usage = |started, template, needed| Use {
        started,
        template,
        needed_on: Sides {
            primary: needed,
            fallback: true,
        },
    };
    let referrer = format!("sha256-{}", "a".repeat(64));
    let digest = digest();
    let cases = [
        ("started", usage(true, false, true), true),
        ("template", usage(false, true, true), true),
        ("waiting", usage(false, false, true), false),
        ("elsewhere", usage(true, true, false), false),
        (referrer.as_str(), usage(true, true, true), false),
        (digest.as_str(), usage(true, false, true), true),
    ];
    let policy = listed();
    for (reference, usage, counts) in cases {
        let in_use = InUse {
            references: BTreeMap::from([("web".to_owned(), BTreeMap::from([(reference.to_owned(), usage)]))]),
            ..InUse::default()
        };
        assert_eq!(needed(&policy, &in_use).count() == 1, counts, "{reference}");
    }
}

#[test]
fn blockers_are_counted_and_the_first_ten_named() {
    let tags: Vec<String> = (0..15).map(|number| format!("t{number:02}")).collect();
    let tags: Vec<&str> = tags.iter().map(String::as_str).collect();
    let mut looks: Vec<(&str, &str)> = tags.iter().map(|tag| (*tag, "-x")).collect();
    looks[3] = (tags[3], "xx");
    let policy = listed();
    let ledger = ledger_of(&policy, &looks);
    let nowhere = BTreeSet::new();
    let known = Known {
        ledger: &ledger,
        read: at(0)..=at(0),
        nowhere: &nowhere,
    };
    let blockers = blockers(&policy, &used(&tags), &known);
    assert_eq!((blockers.total, blockers.checked), (14, 15));
    let named: Vec<&str> = blockers.sample.iter().map(|one| one.reference.as_str()).collect();
    assert_eq!(named.len(), MAX_BLOCKERS);
    assert_eq!(named[..4], ["t00", "t01", "t02", "t04"]);
    let first = &blockers.sample[0];
    assert_eq!(
        (first.digests.primary.is_some(), first.digests.fallback.is_some()),
        (false, true)
    );
}

#[test]
fn what_was_read_before_the_check_does_not_count() {
    let policy = listed();
    let ledger = ledger_of(&policy, &[("a", "xx")]);
    let reason = |oldest: i64, latest: i64, nowhere: &BTreeSet<ReferenceName>| {
        let known = Known {
            ledger: &ledger,
            read: at(oldest)..=at(latest),
            nowhere,
        };
        let blockers = blockers(&policy, &used(&["a"]), &known);
        blockers.sample.first().map(|blocker| blocker.reason)
    };
    assert_eq!(reason(0, 5, &BTreeSet::new()), None);
    assert_eq!(reason(1, 5, &BTreeSet::new()), Some(BlockReason::NotRead));
    assert_eq!(
        reason(-5, -1, &BTreeSet::new()),
        Some(BlockReason::NotRead),
        "the clock was set back"
    );
    assert_eq!(reason(1, 5, &BTreeSet::from([name("a")])), None, "neither side has it");
}

/// A check of what `web` uses, with a ledger of its own.
struct Bench {
    policy: MirrorPolicy,
    ledger: Ledger,
    in_use: InUse,
    check: FailbackCheck,
    requests: Requests,
}

impl Bench {
    fn new(looks: &[(&str, &str)], references: &[&str]) -> Bench {
        let policy = listed();
        Bench {
            ledger: ledger_of(&policy, looks),
            in_use: used(references),
            policy,
            check: FailbackCheck::default(),
            requests: Requests::default(),
        }
    }

    /// Begins a check and hands it what is in use; the references to be read.
    fn begin(&mut self, now: i64) -> Vec<String> {
        let request = self.check.begin(&mut self.requests, at(now)).unwrap();
        assert!(self.check.asked_with(request));
        let names = self
            .check
            .in_use_read(&self.policy, &self.in_use, &self.ledger, at(-100), at(now));
        self.check.wait_for(names.clone().into_iter());
        names.into_iter().map(|name| name.reference).collect()
    }

    fn read(&mut self, reference: &str, letters: &str, now: i64) {
        self.ledger.record("web", reference, seen(letters), at(now), &RULES);
        self.check.read(&name(reference), &seen(letters));
    }

    /// Whether the check has passed, if it has ended.
    fn end(&mut self, now: i64) -> Option<bool> {
        self.check
            .end_if_read(&self.policy, &self.in_use, &self.ledger, at(now));
        let ended = self.check.result().filter(|result| result.ended == at(now));
        ended.map(|result| result.passed)
    }
}

#[test]
fn check_reads_what_is_old_and_passes_when_all_is_there() {
    let mut bench = Bench::new(&[("old", "xx")], &["fresh", "old", "new"]);
    bench.ledger.record("web", "fresh", seen("yy"), at(90), &RULES);
    assert_eq!(bench.begin(100), ["new", "old"]);
    assert!(
        bench.check.begin(&mut bench.requests, at(100)).is_none(),
        "one at a time"
    );
    assert_eq!(bench.end(100), None, "it waits for what is being read");
    bench.read("old", "xx", 101);
    bench.read("new", "zz", 102);
    assert_eq!(bench.end(102), Some(true));
    let result = bench.check.result().unwrap();
    assert_eq!(
        (result.begun, result.detail.as_str()),
        (at(100), "all 3 references in use are there")
    );
}

#[test]
fn check_with_nothing_to_read_ends_at_once() {
    let mut bench = Bench::new(&[("fresh", "xx")], &["fresh"]);
    assert!(bench.begin(30).is_empty());
    assert_eq!(bench.end(30), Some(true));
    let mut empty = Bench::new(&[], &[]);
    empty.begin(0);
    assert_eq!(empty.end(0), Some(true));
}

#[test]
fn check_that_is_held_up_is_made_again_in_a_minute_or_with_news() {
    let mut bench = Bench::new(&[], &["gone"]);
    bench.begin(0);
    bench.read("gone", "-x", 1);
    assert_eq!(bench.end(1), Some(false));
    assert_eq!(
        bench.check.result().unwrap().detail,
        "1 of 1 references in use hold it up, the first is 'web:gone' (MissingOnPrimary)"
    );
    assert_eq!(bench.check.blockers().total, 1);
    assert_eq!(bench.check.wake_at(), Some(at(61)));
    assert!(bench.check.begin(&mut bench.requests, at(60)).is_none());
    bench.read("other", "xx", 2);
    assert!(
        bench.check.begin(&mut bench.requests, at(60)).is_none(),
        "no news of it"
    );
    bench.read("gone", "xx", 3);
    bench.begin(4);
    assert_eq!(bench.end(4), Some(true));
    assert_eq!(
        bench.check.blockers(),
        &Blockers {
            checked: 1,
            ..Blockers::default()
        }
    );
}

#[test]
fn reference_on_neither_side_does_not_hold_it_up() {
    let mut bench = Bench::new(&[], &["typo"]);
    assert_eq!(bench.begin(0), ["typo"]);
    bench.read("typo", "--", 1);
    assert_eq!(bench.end(1), Some(true));
}

#[test]
fn reference_that_could_not_be_read_holds_it_up() {
    let mut bench = Bench::new(&[("a", "xx")], &["a"]);
    bench.begin(100);
    bench.check.not_read(&name("a"));
    assert_eq!(
        bench.end(100),
        Some(false),
        "what was known before the outage does not count"
    );
    let mut bench = Bench::new(&[("a", "xx")], &["a"]);
    bench.begin(100);
    bench.read("a", "?x", 101);
    assert_eq!(bench.end(101), Some(false));
}

#[test]
fn list_of_what_is_in_use_may_fail_or_never_come() {
    let mut bench = Bench::new(&[], &[]);
    let request = bench.check.begin(&mut bench.requests, at(0)).unwrap();
    assert!(!bench.check.in_use_failed(foreign(), at(0)), "another one failed");
    assert!(bench.check.in_use_failed(request, at(0)));
    assert!(bench.check.begin(&mut bench.requests, at(59)).is_none());
    let request = bench.check.begin(&mut bench.requests, at(60)).unwrap();
    assert_eq!(bench.check.wake_at(), Some(at(360)));
    bench.check.give_up(at(359));
    assert!(bench.check.asked_with(request));
    bench.check.give_up(at(360));
    assert!(!bench.check.asked_with(request));
    assert!(bench.check.begin(&mut bench.requests, at(360)).is_some());
}

#[test]
fn beyond_five_hundred_references_the_pass_has_to_do() {
    let tags: Vec<String> = (0..502).map(|number| format!("t{number:03}")).collect();
    let tags: Vec<&str> = tags.iter().map(String::as_str).collect();
    let looks: Vec<(&str, &str)> = tags.iter().map(|tag| (*tag, "xx")).collect();
    let mut bench = Bench::new(&looks, &tags);
    let read = bench.begin(100);
    assert_eq!(read.len(), 500);
    for reference in &read {
        bench.read(reference, "xx", 101);
    }
    assert_eq!(bench.end(101), Some(true), "the pass at -100 read the others at 0");
}

#[test]
fn checks_go_on_with_what_was_not_read_yet() {
    let tags: Vec<String> = (0..1_100).map(|number| format!("t{number:04}")).collect();
    let tags: Vec<&str> = tags.iter().map(String::as_str).collect();
    let mut bench = Bench::new(&[], &tags);
    let mut passed = Vec::new();
    for now in [100, 200, 300] {
        for reference in &bench.begin(now) {
            bench.read(reference, "xx", now);
        }
        passed.push(bench.end(now));
    }
    assert_eq!(passed, [Some(false), Some(false), Some(true)]);
}

#[test]
fn forgotten_check_says_whether_something_held_it_up() {
    let mut bench = Bench::new(&[], &["gone"]);
    assert!(!bench.check.forget());
    bench.begin(0);
    bench.read("gone", "-x", 1);
    bench.end(1);
    assert!(bench.check.forget());
    assert!(bench.check.result().is_none());
}
