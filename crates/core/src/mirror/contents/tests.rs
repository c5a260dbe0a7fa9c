use super::*;
use crate::mirror::fixtures::{RULES, at};
use crate::mirror::in_use::Use;
use crate::mirror::parity::Observed;
use crate::routing::fixtures::apps;

fn digest(tag: &str) -> Digest {
    Digest::of(tag.as_bytes())
}

/// A mirror whose tags are all in sync, some of them in use.
struct Bench {
    policy: MirrorPolicy,
    contents: Contents,
    ledger: Ledger,
    in_use: InUse,
    requests: Requests,
    now: i64,
}

impl Bench {
    fn new(tags: &[&str], in_use: &[&str]) -> Bench {
        let mut bench = Bench {
            policy: apps(),
            contents: Contents::default(),
            ledger: Ledger::new(),
            in_use: InUse::default(),
            requests: Requests::default(),
            now: 0,
        };
        for tag in tags {
            bench.record(tag, Sides::from_fn(|_| Observed::Present(digest(tag))));
        }
        let references = in_use.iter().map(|tag| ((*tag).to_owned(), Use::default())).collect();
        bench.in_use.references.insert("app".to_owned(), references);
        bench
    }

    fn record(&mut self, tag: &str, seen: Sides<Observed>) {
        self.ledger.record("app", tag, seen, at(self.now), &RULES);
    }

    /// A pass ends, and each inspection ends with what `find` says of a tag; the tags that were inspected, and whether there was news.
    fn pass(&mut self, find: impl Fn(&str) -> Sides<Finding>) -> (Vec<String>, bool) {
        let (inspected, news) = self.pass_with(|inspect| {
            let found = find(&inspect.held.reference);
            let on = inspect.held.on;
            Sides::from_fn(|side| {
                if on[side] {
                    found[side].clone()
                } else {
                    Finding::Unknown
                }
            })
        });
        let content = inspected.into_iter().filter(|(.., depth)| *depth == Depth::Content);
        (content.map(|(name, ..)| name).collect(), news)
    }

    /// The same with everything that was looked at: the tag, on which sides, and how far.
    fn pass_with(&mut self, find: impl Fn(&Inspect) -> Sides<Finding>) -> (Vec<(String, Sides<bool>, Depth)>, bool) {
        self.now += 300;
        self.contents
            .plan(&self.policy, &mut self.ledger, &self.in_use, at(self.now));
        let (mut inspected, mut news) = (Vec::new(), false);
        loop {
            let effects = self.contents.begin(&mut self.requests, at(self.now));
            assert!(effects.len() <= AT_A_TIME);
            if effects.is_empty() {
                return (inspected, news);
            }
            for effect in effects {
                let Effect::Inspect(inspect) = effect else {
                    panic!("{effect:?} is no inspection");
                };
                let ended = Inspected {
                    request: inspect.request,
                    sides: find(&inspect),
                };
                news |= self.contents.ended(&ended, &mut self.ledger, at(self.now));
                assert!(
                    !self.contents.ended(&ended, &mut self.ledger, at(self.now)),
                    "the same again"
                );
                inspected.push((inspect.held.reference, inspect.held.on, inspect.depth));
            }
        }
    }
}

fn sound(_: &str) -> Sides<Finding> {
    Sides::from_fn(|_| Finding::Sound)
}

fn layer() -> FlawedPart {
    FlawedPart {
        flaw: Flaw::Broken,
        part: Part::Layer,
        digest: digest("layer"),
        platform: Some("linux/arm64".to_owned()),
    }
}

/// The manifest of a tag is served with other bytes.
fn forged(tag: &str) -> FlawedPart {
    FlawedPart {
        flaw: Flaw::Untrusted,
        part: Part::Manifest,
        digest: digest(tag),
        platform: None,
    }
}

fn flawed_on(side: Side, part: &FlawedPart) -> Sides<Finding> {
    Sides::from_fn(|which| {
        if which == side {
            Finding::Flawed(part.clone())
        } else {
            Finding::Sound
        }
    })
}

fn both() -> Sides<bool> {
    Sides::from_fn(|_| true)
}

fn only(side: Side) -> Sides<bool> {
    Sides::from_fn(|which| which == side)
}

#[test]
fn what_is_in_use_is_inspected_first_and_again_when_it_is_due() {
    let names: Vec<String> = (0..20).map(|number| format!("v{number:02}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut bench = Bench::new(&names, &["v17", "v18"]);
    let (first, news) = bench.pass(sound);
    assert_eq!(first, ["v17", "v18", "v00", "v01", "v02", "v03"]);
    assert!(!news);
    let (second, _) = bench.pass(sound);
    assert_eq!(second, ["v04", "v05", "v06", "v07"]);
    bench.now += 86_400;
    let (later, _) = bench.pass(sound);
    assert_eq!(later[..2], ["v17", "v18"]);
}

#[test]
fn what_is_broken_is_known_shown_and_inspected_until_it_is_repaired() {
    for side in Side::ALL {
        let mut bench = Bench::new(&["v1"], &["v1"]);
        let (_, news) = bench.pass(|_| flawed_on(side, &layer()));
        assert!(news);
        let broken: Vec<_> = bench.contents.flawed().cloned().collect();
        assert_eq!(broken.len(), 1);
        assert_eq!((broken[0].held.reference.as_str(), broken[0].since), ("v1", at(300)));
        assert_eq!(broken[0].parts[side], Some(layer()));
        assert_eq!(broken[0].parts[side.other()], None);
        assert_eq!(bench.ledger.known("app", "v1").flaws[side], Some(Flaw::Broken));
        let (again, news) = bench.pass(|_| flawed_on(side, &layer()));
        assert_eq!((again, news), (vec!["v1".to_owned()], false));
        let (_, news) = bench.pass(sound);
        assert!(news);
        assert_eq!(bench.contents.flawed().count(), 0);
        assert_eq!(bench.ledger.known("app", "v1").flaws, Sides::default());
    }
}

#[test]
fn side_that_cannot_be_read_changes_nothing() {
    let mut bench = Bench::new(&["v1"], &["v1"]);
    let (_, news) = bench.pass(|_| Sides::default());
    assert!(!news);
    let (again, news) = bench.pass(|_| flawed_on(Side::Fallback, &layer()));
    assert_eq!((again.len(), news), (1, true), "it was not inspected yet");
    let (_, news) = bench.pass(|_| Sides {
        primary: Finding::Sound,
        fallback: Finding::Unknown,
    });
    assert!(!news);
    assert_eq!(bench.contents.flawed().count(), 1);
    assert_eq!(bench.ledger.known("app", "v1").flaws.fallback, Some(Flaw::Broken));
}

#[test]
fn tags_not_in_sync_are_hashed_on_each_side_and_caches_never() {
    let mut bench = Bench::new(&["v1"], &["v1", "v2"]);
    bench.record(
        "v2",
        Sides {
            primary: Observed::Present(digest("one")),
            fallback: Observed::Present(digest("other")),
        },
    );
    let (inspected, _) = bench.pass_with(|inspect| sound(&inspect.held.reference));
    let expected = [
        ("v1", both(), Depth::Content),
        ("v2", only(Side::Primary), Depth::Manifest),
        ("v2", only(Side::Fallback), Depth::Manifest),
    ];
    assert_eq!(inspected, expected.map(|(tag, on, depth)| (tag.to_owned(), on, depth)));
    let mut bench = Bench::new(&["v1"], &["v1"]);
    bench.policy.sides.fallback.pull_through_cache = true;
    let (inspected, _) = bench.pass_with(|inspect| sound(&inspect.held.reference));
    assert_eq!(inspected, [("v1".to_owned(), only(Side::Primary), Depth::Manifest)]);
}

#[test]
fn flaw_of_a_side_that_becomes_a_cache_is_forgotten() {
    let mut bench = Bench::new(&["v1"], &["v1"]);
    bench.pass(|_| flawed_on(Side::Fallback, &layer()));
    assert_eq!(bench.ledger.summary().broken, 1);
    bench.policy.sides.fallback.pull_through_cache = true;
    bench.pass(|_| sound(""));
    assert_eq!(bench.ledger.summary().broken, 0);
    bench.pass(|_| sound(""));
    assert_eq!(bench.contents.flawed().count(), 0);
}

#[test]
fn manifests_are_hashed_in_turn_beside_what_is_inspected() {
    let names: Vec<String> = (0..30).map(|number| format!("v{number:02}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut bench = Bench::new(&names, &[]);
    let mut hashed = Vec::new();
    for _ in 0..4 {
        let (inspected, _) = bench.pass_with(|inspect| sound(&inspect.held.reference));
        assert!(inspected.len() <= IN_TURN + HASHED_IN_TURN);
        hashed.extend(inspected.into_iter().map(|(name, ..)| name));
    }
    hashed.sort();
    hashed.dedup();
    assert_eq!(hashed.len(), 30, "a few in each pass, and all of them");
    let mut hub = Bench::new(&names, &["v03"]);
    hub.policy.sides.fallback.registry = "docker.io".to_owned();
    let (inspected, _) = hub.pass_with(|inspect| sound(&inspect.held.reference));
    assert_eq!(
        inspected,
        [("v03".to_owned(), both(), Depth::Content)],
        "each would count as a pull"
    );
}

#[test]
fn content_without_its_digest_is_untrusted_until_it_has_it_again() {
    for side in Side::ALL {
        let mut bench = Bench::new(&["v1"], &["v1"]);
        bench.pass(|tag| flawed_on(side, &forged(tag)));
        assert_eq!(bench.ledger.known("app", "v1").flaws[side], Some(Flaw::Untrusted));
        assert_eq!(bench.ledger.known("app", "v1").flaws[side.other()], None);
        assert_eq!(
            (bench.ledger.summary().broken, bench.ledger.summary().untrusted),
            (0, 1)
        );
        let (again, news) = bench.pass(|tag| flawed_on(side, &forged(tag)));
        assert_eq!((again.len(), news), (1, false));
        let (_, news) = bench.pass(|_| Sides::default());
        assert!(!news, "a side that can't be read changes nothing");
        assert_eq!(bench.ledger.summary().untrusted, 1);
        let (_, news) = bench.pass(sound);
        assert!(news);
        assert_eq!(bench.ledger.summary().untrusted, 0);
    }
}

#[test]
fn untrusted_manifest_of_one_side_is_hashed_in_every_pass() {
    let mut bench = Bench::new(&[], &["v1"]);
    let one_sided = Sides {
        primary: Observed::Present(digest("v1")),
        fallback: Observed::Absent,
    };
    bench.record("v1", one_sided);
    let find = |_: &Inspect| flawed_on(Side::Primary, &forged("v1"));
    for depth in [Depth::Manifest, Depth::Content, Depth::Content] {
        let (inspected, _) = bench.pass_with(find);
        assert_eq!(inspected, [("v1".to_owned(), only(Side::Primary), depth)]);
        assert_eq!(bench.ledger.known("app", "v1").flaws.primary, Some(Flaw::Untrusted));
    }
    let (_, news) = bench.pass_with(|_| sound(""));
    assert!(news);
    assert_eq!(bench.ledger.summary().untrusted, 0);
}

#[test]
fn sound_manifest_says_nothing_of_what_is_broken_below_it() {
    let mut bench = Bench::new(&["v1"], &["v1"]);
    bench.pass(|_| flawed_on(Side::Fallback, &layer()));
    // The fallback's tag has moved on; another tag stands there for what was broken.
    bench.record(
        "v1",
        Sides {
            primary: Observed::Present(digest("v1")),
            fallback: Observed::Present(digest("new")),
        },
    );
    bench.record(
        "old",
        Sides {
            primary: Observed::Absent,
            fallback: Observed::Present(digest("v1")),
        },
    );
    bench.pass_with(|inspect| match inspect.depth {
        Depth::Manifest => sound(""),
        Depth::Content => Sides::default(),
    });
    assert_eq!(bench.ledger.known("app", "old").flaws.fallback, Some(Flaw::Broken));
    bench.pass_with(|_| sound(""));
    assert_eq!(bench.ledger.known("app", "old").flaws.fallback, None);
}

#[test]
fn broken_tag_that_has_moved_on_is_shown_no_more() {
    let mut bench = Bench::new(&["v1"], &["v1"]);
    bench.pass(|_| flawed_on(Side::Primary, &layer()));
    bench.record("v1", Sides::from_fn(|_| Observed::Present(digest("new"))));
    let (inspected, _) = bench.pass(sound);
    assert_eq!(inspected, ["v1"]);
    assert_eq!(bench.contents.flawed().count(), 0);
}
