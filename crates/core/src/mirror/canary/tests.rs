use std::collections::BTreeMap;

use super::*;
use crate::mirror::fixtures::{RULES, at, content, ledger_of, listed, seen};
use crate::mirror::in_use::Use;
use crate::mirror::parity::Ledger;
use crate::tags::TagFilter;

fn canary(tag: &str, letter: char) -> Canary {
    Canary {
        repository: "web".to_owned(),
        tag: tag.to_owned(),
        digest: content(letter),
    }
}

/// `old` came in sync first, `new` last; `differs` never did.
fn ledger() -> Ledger {
    let mut ledger = ledger_of(&listed(), &[("old", "aa"), ("differs", "ab")]);
    ledger.record("web", "new", seen("cc"), at(10), &RULES);
    ledger
}

fn chosen(choice: &mut CanaryChoice, policy: &MirrorPolicy, ledger: &Ledger) -> Option<String> {
    choice.choose(policy, ledger, &InUse::default(), true);
    choice.current().map(|canary| canary.tag.clone())
}

fn refuse(choice: &mut CanaryChoice, canary: &Canary, side: Side, ledger: &Ledger) -> bool {
    choice.refuse(canary, side, &listed(), ledger, &InUse::default())
}

fn using(references: &[&str]) -> InUse {
    let references = references.iter().map(|name| ((*name).to_owned(), Use::default()));
    InUse {
        references: BTreeMap::from([("web".to_owned(), references.collect())]),
        ..InUse::default()
    }
}

#[test]
fn canary_is_in_use_where_one_in_sync_is() {
    let digest = content('c').to_string();
    let cases: [(&[&str], &str); 5] = [
        (&[], "new"),
        (&["old"], "old"),
        (&["differs", "old"], "old"),
        (&["differs", "unknown", &digest], "new"),
        (&["new", "old"], "new"),
    ];
    for (references, tag) in cases {
        let mut choice = CanaryChoice::default();
        choice.choose(&listed(), &ledger(), &using(references), true);
        assert_eq!(
            choice.current().map(|canary| canary.tag.as_str()),
            Some(tag),
            "{references:?}"
        );
    }
    let mut choice = CanaryChoice::default();
    choice.choose(&listed(), &ledger(), &InUse::default(), true);
    choice.choose(&listed(), &ledger(), &using(&["old"]), true);
    assert_eq!(choice.current(), Some(&canary("old", 'a')), "as soon as one is");
    choice.choose(&listed(), &ledger(), &using(&["new", "old"]), true);
    assert_eq!(
        choice.current(),
        Some(&canary("old", 'a')),
        "one is as good as the other"
    );
    let both = using(&["new", "old"]);
    assert!(choice.refuse(&canary("old", 'a'), Side::Primary, &listed(), &ledger(), &both));
    assert_eq!(choice.current(), Some(&canary("new", 'c')), "and is put aside for it");
}

#[test]
fn search_among_many_in_use_goes_on_after_the_next_pass() {
    let mut references: Vec<String> = (0..MOST_LOOKED_AT).map(|number| format!("a{number}")).collect();
    references.push("old".to_owned());
    let references: Vec<&str> = references.iter().map(String::as_str).collect();
    let mut choice = CanaryChoice::default();
    let mut chosen = || {
        choice.choose(&listed(), &ledger(), &using(&references), true);
        choice.current().map(|canary| canary.tag.clone())
    };
    assert_eq!(chosen().as_deref(), Some("new"));
    assert_eq!(chosen().as_deref(), Some("old"));
}

#[test]
fn canary_is_the_tag_that_came_in_sync_last() {
    let mut choice = CanaryChoice::default();
    let empty = ledger_of(&listed(), &[("differs", "ab")]);
    assert_eq!(chosen(&mut choice, &listed(), &empty), None);
    assert_eq!(chosen(&mut choice, &listed(), &ledger()).as_deref(), Some("new"));
}

#[test]
fn canary_stays_while_it_is_in_sync() {
    let mut choice = CanaryChoice::default();
    choice.follow(&canary("old", 'a'));
    assert_eq!(chosen(&mut choice, &listed(), &ledger()).as_deref(), Some("old"));
    let mut moved = ledger();
    moved.record("web", "old", seen("dd"), at(20), &RULES);
    moved.record("web", "later", seen("ee"), at(30), &RULES);
    assert_eq!(
        chosen(&mut choice, &listed(), &moved).as_deref(),
        Some("later"),
        "what it asked for is gone"
    );
}

#[test]
fn canary_stays_when_nothing_is_in_sync() {
    let mut choice = CanaryChoice::default();
    choice.follow(&canary("gone", 'a'));
    let nothing = ledger_of(&listed(), &[("gone", "-a")]);
    assert_eq!(chosen(&mut choice, &listed(), &nothing).as_deref(), Some("gone"));
    let unknown = ledger_of(&listed(), &[("differs", "ab")]);
    choice.choose(&listed(), &unknown, &InUse::default(), false);
    assert!(choice.current().is_some(), "a side could not be read");
    assert_eq!(
        chosen(&mut choice, &listed(), &unknown),
        None,
        "it is not verified any more"
    );
    for letters in ["bb", "ab", "ba", "b-"] {
        choice.follow(&canary("moved", 'a'));
        let mut moved = ledger_of(&listed(), &[("moved", letters)]);
        moved.record("web", "moved", seen("??"), at(300), &RULES);
        let kept = chosen(&mut choice, &listed(), &moved);
        assert_ne!(choice.current(), Some(&canary("moved", 'a')), "{letters}: {kept:?}");
    }
}

#[test]
fn canary_of_the_spec_wins_while_it_is_in_sync() {
    let mut policy = listed();
    policy.health.canary = Some(("web".to_owned(), "old".to_owned()));
    let mut choice = CanaryChoice::default();
    assert_eq!(chosen(&mut choice, &policy, &ledger()).as_deref(), Some("old"));
    policy.health.canary = Some(("web".to_owned(), "differs".to_owned()));
    assert_eq!(
        chosen(&mut CanaryChoice::default(), &policy, &ledger()).as_deref(),
        Some("new")
    );
}

#[test]
fn refused_canary_is_put_aside_for_another() {
    let ledger = ledger();
    let mut choice = CanaryChoice::default();
    choice.choose(&listed(), &ledger, &InUse::default(), true);
    assert!(
        !refuse(&mut choice, &canary("other", 'x'), Side::Primary, &ledger),
        "not probed with"
    );
    assert!(refuse(&mut choice, &canary("new", 'c'), Side::Primary, &ledger));
    assert_eq!(choice.current(), Some(&canary("old", 'a')));
    assert_eq!(
        chosen(&mut choice, &listed(), &ledger).as_deref(),
        Some("old"),
        "the next pass does not take it back"
    );
    assert!(
        !refuse(&mut choice, &canary("old", 'a'), Side::Primary, &ledger),
        "there is no third"
    );
    assert_eq!(choice.current(), Some(&canary("old", 'a')));
    // The pass forgets what was put aside, so that a canary that is there again can be probed with.
    assert_eq!(chosen(&mut choice, &listed(), &ledger).as_deref(), Some("new"));
}

#[test]
fn canary_that_neither_side_has_is_dropped() {
    let nothing = ledger_of(&listed(), &[]);
    let gone = canary("gone", 'a');
    let mut choice = CanaryChoice::default();
    choice.follow(&gone);
    assert!(!refuse(&mut choice, &gone, Side::Primary, &nothing));
    choice.found(&gone, Side::Primary);
    assert!(
        !refuse(&mut choice, &gone, Side::Fallback, &nothing),
        "the primary has it"
    );
    assert!(refuse(&mut choice, &gone, Side::Primary, &nothing));
    assert_eq!(choice.current(), None);
}

#[test]
fn canary_that_is_not_verified_any_more_is_not_kept() {
    let mut choice = CanaryChoice::default();
    choice.follow(&canary("old", 'a'));
    choice.keep(|canary| canary.tag == "old");
    assert!(choice.current().is_some());
    choice.keep(|_| false);
    assert_eq!(choice.current(), None);
    choice.keep(|_| false);

    let mut policy = listed();
    choice.follow(&canary("gone", 'a'));
    if let crate::policy::Repositories::Listed(rules) = &mut policy.repositories {
        rules[0].tags = TagFilter::new(&["^v".to_owned()], &[]).unwrap();
    }
    assert_eq!(chosen(&mut choice, &policy, &ledger_of(&policy, &[])), None);
}
