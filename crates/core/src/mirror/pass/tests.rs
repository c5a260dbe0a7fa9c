#![allow(
    clippy::field_reassign_with_default,
    clippy::inconsistent_struct_constructor,
    clippy::needless_pass_by_value,
    clippy::unwrap_in_result,
    reason = "short fixtures"
)]
use std::collections::BTreeMap;

use super::*;
use crate::mirror::effect::{Expected, Resolve};
use crate::mirror::event::{ListedTag, Listing, ReferenceName};
use crate::mirror::fixtures::{RULES, at, content, foreign, ledger_of, listed, seen, used};
use crate::mirror::parity::{Observed, Verdict};
use crate::policy::Provider;
use crate::routing::fixtures::{apps, listing};
use crate::tags::TagFilter;

/// A mirror whose passes are made by hand.
struct Bench {
    policy: MirrorPolicy,
    ledger: Ledger,
    in_use: InUse,
    passes: Passes,
    requests: Requests,
    under_way: Vec<Resolve>,
}

impl Bench {
    fn new(policy: MirrorPolicy, looks: &[(&str, &str)], in_use: InUse) -> Bench {
        Bench {
            ledger: ledger_of(&policy, looks),
            policy,
            in_use,
            passes: Passes::default(),
            requests: Requests::default(),
            under_way: Vec::new(),
        }
    }

    fn with(&mut self, now: i64, work: impl FnOnce(&mut Passes, &mut Reading<'_>) -> Vec<Effect>) -> Vec<String> {
        let mut reading = Reading {
            policy: &self.policy,
            ledger: &mut self.ledger,
            requests: &mut self.requests,
            rules: RULES,
            in_use: &self.in_use,
            now: at(now),
        };
        let effects = work(&mut self.passes, &mut reading);
        self.note(effects)
    }

    /// Effects in short, in order; what is to be read is kept.
    fn note(&mut self, effects: Vec<Effect>) -> Vec<String> {
        let short = |effect: Effect| match effect {
            Effect::List { repository, .. } => format!("list {repository}"),
            Effect::ListMore { repository, .. } => format!("more of {repository}"),
            Effect::CloseListing { repository, .. } => format!("close {repository}"),
            Effect::AbandonPass(_) => "abandon".to_owned(),
            Effect::Resolve(resolve) => {
                let asked = |side: Side| match resolve.ask[side] {
                    Some(Expected::Present) => "?",
                    Some(Expected::Absent) => "-",
                    None => ".",
                };
                let name = &resolve.name;
                let said = format!(
                    "read {}:{} {}{}",
                    name.repository,
                    name.reference,
                    asked(Side::Primary),
                    asked(Side::Fallback)
                );
                self.under_way.push(resolve);
                said
            }
            other => panic!("{other:?}"),
        };
        effects.into_iter().map(short).collect()
    }

    fn begin(&mut self, now: i64) -> Option<RequestId> {
        self.passes
            .begin_if_due(&self.policy, &self.ledger, &mut self.requests, at(now))
    }

    /// Begins a pass that knows what is in use.
    fn open(&mut self, now: i64) -> Vec<String> {
        let request = self.begin(now).unwrap();
        assert!(self.passes.asked_with(request));
        self.with(now, Passes::in_use_read)
    }

    /// A piece of the listing of a repository.
    fn piece(&self, repository: &str, after: Option<&str>, tags: &[(&str, Listing, Listing)], last: bool) -> Listed {
        let tag = |(name, primary, fallback): &(&str, Listing, Listing)| ListedTag {
            name: (*name).to_owned(),
            sides: Sides {
                primary: primary.clone(),
                fallback: fallback.clone(),
            },
        };
        Listed {
            pass: self.passes.number,
            repository: repository.to_owned(),
            after: after.map(str::to_owned),
            failures: Sides::default(),
            unlisted: Sides::default(),
            tags: tags.iter().map(tag).collect(),
            last,
        }
    }

    fn listed(&mut self, listed: &Listed, now: i64) -> Vec<String> {
        self.with(now, |passes, reading| passes.listed(listed, reading))
    }

    /// Answers the oldest read, as the machine does.
    fn resolve(&mut self, letters: &str, now: i64) -> Vec<String> {
        let resolve = self.under_way.remove(0);
        self.answer(&resolve, letters, Sides::default(), now)
    }

    fn answer(
        &mut self,
        resolve: &Resolve,
        letters: &str,
        failures: Sides<Option<ReadFailure>>,
        now: i64,
    ) -> Vec<String> {
        let ReferenceName { repository, reference } = &resolve.name;
        assert!(self.passes.ended(resolve.request, repository));
        self.ledger
            .record(repository, reference, seen(letters), at(now), &RULES);
        let resolved = Resolved {
            request: resolve.request,
            name: resolve.name.clone(),
            seen: seen(letters),
            served: Sides::default(),
            failures,
        };
        self.with(now, |passes, reading| passes.resolved(&resolved, reading))
    }

    /// Whether the pass is over, and complete.
    fn end(&mut self, now: i64) -> Option<bool> {
        self.passes.end_if_over(at(now)).map(PassResult::is_complete)
    }

    fn due(&self, now: i64) -> Option<i64> {
        let due = self.passes.due(&self.policy, &self.ledger, at(now))?;
        Some(due.as_second() - at(0).as_second())
    }

    fn verdict(&self, tag: &str) -> Option<Verdict> {
        self.ledger.verdict("web", tag)
    }

    fn seen(&self, tag: &str) -> (Option<Observed>, Option<Observed>) {
        let seen = |side: Side| self.ledger.observation("web", tag, side).map(|(seen, _)| seen);
        (seen(Side::Primary), seen(Side::Fallback))
    }
}

fn named(letter: char) -> Listing {
    Listing::Named(Some(content(letter)))
}

fn only_web() -> MirrorPolicy {
    listing(apps(), &[("web", "web", "devopskev/web")])
}

fn failure() -> ReadFailure {
    ReadFailure {
        throttled: false,
        reason: "ConnectionFailed",
        message: "refused".to_owned(),
    }
}

/// One whole pass over `web` with one piece.
fn pass_over(bench: &mut Bench, tags: &[(&str, Listing, Listing)], now: i64) -> Vec<String> {
    bench.open(now);
    let piece = bench.piece("web", None, tags, true);
    bench.listed(&piece, now)
}

#[test]
fn listed_repositories_are_listed_and_digests_in_use_read() {
    let digest = content('x').to_string();
    let mut bench = Bench::new(listed(), &[], used(&["1", &digest]));
    assert_eq!(
        bench.open(0),
        ["list api", &format!("read web:{digest} ??"), "list web"],
        "tags come with the listing"
    );
}

#[test]
fn references_in_use_are_read_where_nothing_is_listed() {
    let referrer = format!("sha256-{}", "a".repeat(64));
    let mut bench = Bench::new(apps(), &[], used(&["1", "2", &referrer]));
    assert_eq!(bench.open(0), ["read web:1 ??", "read web:2 ??"]);
    bench.resolve("xx", 1);
    assert_eq!(bench.end(1), None);
    assert_eq!(bench.resolve("xy", 1), ["close web"]);
    assert_eq!(bench.end(2), Some(true));
    assert_eq!(bench.verdict("1"), Some(Verdict::InSync));
    let mut idle = Bench::new(apps(), &[], InUse::default());
    assert!(idle.open(0).is_empty());
    assert_eq!(idle.end(0), Some(true));
}

#[test]
fn few_repositories_and_references_are_read_at_a_time() {
    let names: Vec<String> = (0..6).map(|number| format!("r{number}")).collect();
    let rules: Vec<(&str, &str, &str)> = names.iter().map(|name| (&**name, &**name, &**name)).collect();
    let mut bench = Bench::new(listing(apps(), &rules), &[], InUse::default());
    assert_eq!(bench.open(0), ["list r0", "list r1", "list r2", "list r3"]);
    let piece = bench.piece("r1", None, &[], true);
    assert_eq!(bench.listed(&piece, 0), ["close r1", "list r4"]);

    let tags: Vec<String> = (0..10).map(|number| format!("t{number}")).collect();
    let tags: Vec<&str> = tags.iter().map(String::as_str).collect();
    let mut bench = Bench::new(apps(), &[], used(&tags));
    assert_eq!(bench.open(0).len(), 8);
    assert_eq!(bench.resolve("xx", 0), ["read web:t8 ??"]);
}

#[test]
fn each_pair_of_listings_is_recorded_or_read() {
    let withheld = || Listing::Withheld;
    let bare = || Listing::Named(None);
    let gone = || Listing::Unlisted;
    let unread = || Listing::Unread;
    let x = || Some(Observed::Present(content('x')));
    let absent = || Some(Observed::Absent);
    // What the two listings say, what is read beyond that, and what is known at once.
    let cases = [
        ("both tell", named('x'), named('x'), None, (x(), x())),
        ("one lacks it", named('x'), gone(), None, (x(), absent())),
        ("one tells, one names", named('x'), bare(), Some(".?"), (None, None)),
        ("both name", bare(), bare(), Some("??"), (None, None)),
        ("one names", bare(), gone(), Some("?."), (None, None)),
        ("one is locked", named('x'), withheld(), None, (x(), None)),
        ("one could not be read", named('x'), unread(), None, (x(), None)),
        ("the other names", bare(), unread(), Some("?."), (None, None)),
    ];
    for (name, primary, fallback, read, known) in cases {
        let mut bench = Bench::new(only_web(), &[], InUse::default());
        let said = pass_over(&mut bench, &[("1", primary, fallback)], 0);
        let expected = read.map_or("close web".to_owned(), |read| format!("read web:1 {read}"));
        assert_eq!(said, [expected], "{name}");
        assert_eq!(bench.seen("1"), known, "{name}");
    }
}

#[test]
fn settled_tag_is_not_read_unless_the_listing_contradicts() {
    let bare = || Listing::Named(None);
    let looks = [("1", "xx"), ("1", "xx")];
    let read = |primary: Listing, fallback: Listing| {
        let mut bench = Bench::new(only_web(), &looks, InUse::default());
        pass_over(&mut bench, &[("1", primary, fallback)], 60)
    };
    assert_eq!(read(bare(), bare()), ["close web"]);
    assert_eq!(read(named('x'), bare()), ["close web"]);
    assert_eq!(read(named('y'), bare()), ["read web:1 .?"]);
    assert_eq!(read(bare(), Listing::Unlisted), ["read web:1 ?."]);
}

#[test]
fn side_that_could_not_be_listed_changes_nothing() {
    for side in Side::ALL {
        let mut bench = Bench::new(only_web(), &[("1", "xx"), ("2", "xy"), ("3", "xx")], used(&["1"]));
        let before = ["1", "2", "3"].map(|tag| bench.seen(tag));
        bench.open(60);
        let mut piece = bench.piece("web", None, &[("1", Listing::Unread, Listing::Unread)], true);
        piece.failures[side] = Some(failure());
        piece.tags[0].sides[side.other()] = named('x');
        bench.listed(&piece, 60);
        assert_eq!(bench.end(60), Some(false));
        for (tag, before) in ["1", "2", "3"].into_iter().zip(before) {
            let pick = |seen: (Option<Observed>, Option<Observed>)| match side {
                Side::Primary => seen.0,
                Side::Fallback => seen.1,
            };
            assert_eq!(pick(bench.seen(tag)), pick(before), "{tag} on {side}");
        }
        let last = bench.passes.last().unwrap();
        assert!(last.unreadable[side].is_some() && last.unreadable[side.other()].is_none());
    }
}

#[test]
fn repository_that_no_side_could_list_keeps_its_tags() {
    let mut bench = Bench::new(only_web(), &[("1", "xx")], InUse::default());
    bench.open(60);
    let mut piece = bench.piece("web", None, &[], true);
    piece.failures = Sides::from_fn(|_| Some(failure()));
    assert_eq!(bench.listed(&piece, 60), ["close web"]);
    assert_eq!(bench.verdict("1"), Some(Verdict::InSync));
}

#[test]
fn tags_that_neither_side_lists_any_more_are_forgotten() {
    let mut bench = Bench::new(only_web(), &[("a", "xx"), ("m", "xx"), ("z", "xx")], InUse::default());
    bench.open(60);
    let first = bench.piece("web", None, &[("c", named('y'), named('y'))], false);
    assert_eq!(bench.listed(&first, 60), ["more of web"]);
    let known = ["a", "c", "m", "z"].map(|tag| bench.verdict(tag).is_some());
    assert_eq!(known, [false, true, true, true], "the piece ends at c");
    let second = bench.piece("web", Some("c"), &[("z", named('x'), named('x'))], true);
    assert_eq!(bench.listed(&second, 60), ["close web"]);
    assert_eq!(bench.verdict("m"), None);
    assert_eq!(bench.verdict("z"), Some(Verdict::InSync));
}

#[test]
fn tag_in_use_that_no_listing_names_is_known_to_be_absent() {
    let mut bench = Bench::new(only_web(), &[], used(&["1"]));
    bench.open(0);
    let mut piece = bench.piece("web", None, &[], true);
    piece.failures.primary = Some(failure());
    bench.listed(&piece, 0);
    assert_eq!(bench.seen("1"), (None, Some(Observed::Absent)));
}

#[test]
fn tags_that_are_not_selected_any_more_are_forgotten() {
    let mut policy = only_web();
    if let Repositories::Listed(rules) = &mut policy.repositories {
        rules[0].tags = TagFilter::new(&["^v".to_owned()], &[]).unwrap();
    }
    let mut bench = Bench::new(policy, &[("v1", "xx"), ("old", "xy")], InUse::default());
    let tags = [("old", named('x'), named('y')), ("v1", named('x'), named('x'))];
    pass_over(&mut bench, &tags, 60);
    assert_eq!(
        (bench.verdict("old"), bench.verdict("v1")),
        (None, Some(Verdict::InSync))
    );
}

#[test]
fn what_is_not_used_any_more_is_forgotten() {
    let digest = content('x').to_string();
    let looks = [("1", "xx"), ("2", "xx"), (digest.as_str(), "xx")];
    let mut by_use = Bench::new(apps(), &looks, used(&["1"]));
    by_use.open(60);
    assert_eq!(
        [by_use.verdict("1").is_some(), by_use.verdict("2").is_some()],
        [true, false]
    );
    assert_eq!(by_use.verdict(&digest), None);

    let mut by_list = Bench::new(only_web(), &looks, used(&["1"]));
    by_list.open(60);
    assert!(by_list.verdict("2").is_some(), "the listing tells");
    assert_eq!(by_list.verdict(&digest), None);

    let mut elsewhere = Bench::new(apps(), &looks, InUse::default());
    elsewhere.open(60);
    assert_eq!(elsewhere.verdict("1"), None);
}

#[test]
fn azure_is_asked_for_what_it_does_not_list() {
    let azure = |unlisted: usize, cache: bool| {
        let mut policy = only_web();
        policy.sides.primary.provider = Provider::Azure;
        policy.sides.primary.pull_through_cache = cache;
        let mut bench = Bench::new(policy, &[], InUse::default());
        bench.open(0);
        let mut piece = bench.piece("web", None, &[("1", Listing::Unlisted, named('x'))], true);
        piece.unlisted.primary = unlisted;
        bench.listed(&piece, 0)
    };
    assert_eq!(azure(50, false), ["read web:1 -."]);
    assert_eq!(azure(51, false), ["close web"], "so many are not locked one by one");
    assert_eq!(azure(1, true), ["close web"], "asking could fill a cache");
}

#[test]
fn pieces_come_in_order_and_each_once() {
    let mut bench = Bench::new(only_web(), &[], InUse::default());
    bench.open(0);
    let bare = || Listing::Named(None);
    let first = bench.piece("web", None, &[("a", bare(), bare())], false);
    let second = bench.piece("web", Some("a"), &[("b", named('x'), named('x'))], false);
    assert!(bench.listed(&second, 0).is_empty(), "not asked for yet");
    assert_eq!(bench.listed(&first, 0), ["read web:a ??"]);
    assert!(bench.listed(&first, 0).is_empty(), "it comes twice");
    assert!(bench.listed(&second, 0).is_empty(), "the first is not read yet");
    assert_eq!(bench.resolve("xx", 0), ["more of web"]);
    assert!(bench.listed(&first, 0).is_empty(), "it comes late");
    assert_eq!(bench.listed(&second, 0), ["more of web"]);
    let mut other = bench.piece("web", Some("b"), &[], true);
    other.pass = 7;
    assert!(bench.listed(&other, 0).is_empty(), "of another pass");
    let last = bench.piece("web", Some("b"), &[], true);
    assert_eq!(bench.listed(&last, 0), ["close web"]);
    assert_eq!(bench.end(0), Some(true));
}

#[test]
fn read_that_the_pass_did_not_ask_for_does_not_count() {
    let mut bench = Bench::new(apps(), &[], used(&["1", "2"]));
    bench.open(0);
    assert!(!bench.passes.ended(foreign(), "web"));
    let request = bench.under_way[0].request;
    assert!(!bench.passes.ended(request, "api"), "of another repository");
    bench.resolve("xx", 0);
    assert!(!bench.passes.ended(request, "web"), "it comes twice");
    assert_eq!(bench.end(0), None);
}

#[test]
fn failure_of_one_read_makes_the_pass_incomplete() {
    let mut bench = Bench::new(apps(), &[], used(&["1", "2"]));
    bench.open(0);
    bench.resolve("xx", 0);
    let resolve = bench.under_way.remove(0);
    let failures = Sides {
        primary: None,
        fallback: Some(failure()),
    };
    bench.answer(&resolve, "x?", failures, 0);
    assert_eq!(bench.end(1), Some(false));
    let last = bench.passes.last().unwrap();
    assert_eq!(
        last.unreadable.fallback.as_ref().map(|failure| failure.reason),
        Some("ConnectionFailed")
    );
}

/// A pass of nothing, from second 0 to 1.
fn after_a_pass(policy: MirrorPolicy, failures: Sides<Option<ReadFailure>>) -> Bench {
    let mut bench = Bench::new(policy, &[], InUse::default());
    bench.open(0);
    let mut piece = bench.piece("web", None, &[], true);
    piece.failures = failures;
    bench.listed(&piece, 1);
    bench.end(1);
    bench
}

#[test]
fn passes_are_due_by_interval_by_wish_and_by_confirmation() {
    let mut bench = Bench::new(only_web(), &[], InUse::default());
    assert_eq!(bench.due(7), Some(7), "the first at once");
    bench.open(0);
    assert_eq!(bench.due(7), None, "one is under way");
    let mut bench = after_a_pass(only_web(), Sides::default());
    assert_eq!(bench.due(10), Some(300));
    bench.passes.want();
    assert_eq!(bench.due(10), Some(2), "a second after the last one at the earliest");
    assert!(bench.begin(10).is_some());

    let mut bench = after_a_pass(only_web(), Sides::default());
    bench.ledger.record("web", "1", seen("xy"), at(1), &RULES);
    assert_eq!(bench.due(10), Some(121), "its grace period ends then");
    assert_eq!(bench.due(200), Some(200), "it can be confirmed now");
}

#[test]
fn passes_rest_while_a_side_can_not_be_read() {
    let failures = Sides {
        primary: Some(failure()),
        fallback: None,
    };
    let mut bench = after_a_pass(only_web(), failures);
    bench.ledger.record("web", "1", seen("xy"), at(1), &RULES);
    assert_eq!(bench.due(200), Some(300), "a pass could not confirm it");
    bench.passes.want();
    assert_eq!(bench.due(10), Some(31));
}

#[test]
fn pass_that_is_under_way_since_then_will_do() {
    let mut bench = Bench::new(only_web(), &[], InUse::default());
    bench.open(100);
    bench.passes.want_since(at(100));
    let piece = bench.piece("web", None, &[], true);
    bench.listed(&piece, 101);
    bench.end(101);
    assert_eq!(bench.due(101), Some(400));
    bench.passes.want_since(at(101));
    assert_eq!(bench.due(101), Some(102));
}

#[test]
fn pass_that_can_not_learn_what_is_in_use_is_begun_again() {
    let mut bench = Bench::new(only_web(), &[], InUse::default());
    let mut now = 0;
    for pause in [2, 4, 8, 16, 32, 60, 60] {
        let request = bench.begin(now).unwrap();
        bench.passes.in_use_failed(foreign(), at(now));
        assert_eq!(bench.due(now), None, "another one failed");
        bench.passes.in_use_failed(request, at(now));
        assert_eq!(bench.due(now), Some(now + pause));
        now += pause;
    }
    bench.open(now);
    let piece = bench.piece("web", None, &[], true);
    bench.listed(&piece, now);
    bench.end(now);
    let request = bench.begin(now + 300).unwrap();
    bench.passes.in_use_failed(request, at(now + 300));
    assert_eq!(bench.due(now + 300), Some(now + 302), "a success ends the doubling");
}

#[test]
fn pass_that_nothing_is_heard_of_is_begun_anew() {
    let mut bench = Bench::new(apps(), &[], used(&["1", "2"]));
    bench.open(0);
    bench.resolve("xx", 600);
    assert!(bench.passes.give_up(at(1_499)).is_none(), "something was heard at 600");
    let wake = bench.passes.wake_at(&bench.policy, &bench.ledger, at(600));
    assert_eq!(wake, Some(at(1_500)));
    let abandoned = bench.passes.give_up(at(1_500));
    assert_eq!(bench.note(abandoned.into_iter().collect()), ["abandon"]);
    assert!(bench.begin(1_500).is_some());
}

#[test]
fn abandoned_pass_takes_nothing_in() {
    let mut bench = Bench::new(only_web(), &[], InUse::default());
    bench.open(0);
    let piece = bench.piece("web", None, &[("1", named('x'), named('x'))], true);
    assert!(bench.passes.abandon().is_some());
    assert!(bench.passes.abandon().is_none());
    assert!(bench.listed(&piece, 0).is_empty());
    assert_eq!(bench.verdict("1"), None);
    assert_eq!(bench.end(0), None);
}

#[test]
fn clock_that_is_set_back_does_not_hold_passes_up() {
    let mut bench = Bench::new(only_web(), &[], InUse::default());
    bench.open(10_000);
    let piece = bench.piece("web", None, &[], true);
    bench.listed(&piece, 10_001);
    bench.end(10_001);
    assert_eq!(bench.due(9_900), Some(10_300));
    assert_eq!(bench.due(0), Some(0));
}

#[test]
fn repositories_in_use_are_those_that_pods_name() {
    let usage = used(&["1"]).references["web"].clone();
    let in_use = InUse {
        references: BTreeMap::from([("api".to_owned(), usage.clone()), ("web".to_owned(), usage)]),
        ..InUse::default()
    };
    let mut bench = Bench::new(apps(), &[], in_use);
    assert_eq!(bench.open(0), ["read api:1 ??", "read web:1 ??"]);
}
