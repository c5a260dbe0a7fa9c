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
    fn pass(&mut self, find: impl Fn(&str) -> Sides<Result<Option<Missing>, ReadFailure>>) -> (Vec<String>, bool) {
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
                let Effect::Inspect(Inspect { request, held }) = effect else {
                    panic!("{effect:?} is no inspection");
                };
                let sides = find(&held.reference);
                let ended = Inspected { request, sides };
                news |= self.contents.ended(&ended, &mut self.ledger, at(self.now));
                assert!(
                    !self.contents.ended(&ended, &mut self.ledger, at(self.now)),
                    "the same again"
                );
                inspected.push(held.reference);
            }
        }
    }
}

fn whole(_: &str) -> Sides<Result<Option<Missing>, ReadFailure>> {
    Sides::from_fn(|_| Ok(None))
}

fn layer() -> Missing {
    Missing {
        part: Part::Layer,
        digest: digest("layer"),
        platform: Some("linux/arm64".to_owned()),
    }
}

fn lacks_a_layer(side: Side) -> Sides<Result<Option<Missing>, ReadFailure>> {
    Sides::from_fn(|which| Ok((which == side).then(layer)))
}

fn unreadable() -> ReadFailure {
    ReadFailure {
        throttled: true,
        reason: "Throttled",
        message: "try again later".to_owned(),
    }
}

#[test]
fn what_is_in_use_is_inspected_first_and_again_when_it_is_due() {
    let names: Vec<String> = (0..20).map(|number| format!("v{number:02}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut bench = Bench::new(&names, &["v17", "v18"]);
    let (first, news) = bench.pass(whole);
    assert_eq!(first, ["v17", "v18", "v00", "v01", "v02", "v03"]);
    assert!(!news);
    let (second, _) = bench.pass(whole);
    assert_eq!(second, ["v04", "v05", "v06", "v07"]);
    bench.now += 86_400;
    let (later, _) = bench.pass(whole);
    assert_eq!(later[..2], ["v17", "v18"]);
}

#[test]
fn what_is_broken_is_known_shown_and_inspected_until_it_is_repaired() {
    for side in Side::ALL {
        let mut bench = Bench::new(&["v1"], &["v1"]);
        let (_, news) = bench.pass(|_| lacks_a_layer(side));
        assert!(news);
        let broken: Vec<_> = bench.contents.broken().cloned().collect();
        assert_eq!(broken.len(), 1);
        assert_eq!((broken[0].held.reference.as_str(), broken[0].since), ("v1", at(300)));
        assert_eq!(broken[0].missing[side], Some(layer()));
        assert_eq!(broken[0].missing[side.other()], None);
        assert!(bench.ledger.known("app", "v1").broken[side]);
        let (again, news) = bench.pass(|_| lacks_a_layer(side));
        assert_eq!((again, news), (vec!["v1".to_owned()], false));
        let (_, news) = bench.pass(whole);
        assert!(news);
        assert_eq!(bench.contents.broken().count(), 0);
        assert_eq!(bench.ledger.known("app", "v1").broken, Sides::default());
    }
}

#[test]
fn side_that_cannot_be_read_changes_nothing() {
    let mut bench = Bench::new(&["v1"], &["v1"]);
    let (_, news) = bench.pass(|_| Sides::from_fn(|_| Err(unreadable())));
    assert!(!news);
    let (again, news) = bench.pass(|_| lacks_a_layer(Side::Fallback));
    assert_eq!((again.len(), news), (1, true), "it was not inspected yet");
    let (_, news) = bench.pass(|_| Sides {
        primary: Ok(None),
        fallback: Err(unreadable()),
    });
    assert!(!news);
    assert_eq!(bench.contents.broken().count(), 1);
    assert!(bench.ledger.known("app", "v1").broken.fallback);
}

#[test]
fn tags_that_differ_are_not_inspected_and_caches_never() {
    let mut bench = Bench::new(&["v1"], &["v1", "v2"]);
    bench.record(
        "v2",
        Sides {
            primary: Observed::Present(digest("one")),
            fallback: Observed::Present(digest("other")),
        },
    );
    let (inspected, _) = bench.pass(whole);
    assert_eq!(inspected, ["v1"]);
    let mut bench = Bench::new(&["v1"], &["v1"]);
    bench.policy.sides.fallback.pull_through_cache = true;
    assert_eq!(bench.pass(whole).0, Vec::<String>::new());
}

#[test]
fn broken_tag_that_has_moved_on_is_shown_no_more() {
    let mut bench = Bench::new(&["v1"], &["v1"]);
    bench.pass(|_| lacks_a_layer(Side::Primary));
    bench.record("v1", Sides::from_fn(|_| Observed::Present(digest("new"))));
    let (inspected, _) = bench.pass(whole);
    assert_eq!(inspected, ["v1"]);
    assert_eq!(bench.contents.broken().count(), 0);
}
