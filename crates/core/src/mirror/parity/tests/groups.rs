//! How evidence is divided, and what a change costs.

use std::collections::BTreeMap;

use super::*;
use crate::routing::evidence::GroupPlace;

/// A hundred thousand tags in sync, each with a digest of its own.
pub(super) fn large(tags: u32) -> Ledger {
    let mut ledger = ledger_of(&policy());
    for number in 0..tags {
        let content = Observed::Present(Digest::of(&number.to_be_bytes()));
        let seen = Sides {
            primary: content.clone(),
            fallback: content,
        };
        ledger.record("web", &format!("v1.{number}"), seen, at(0), &RULES);
    }
    ledger
}

#[test]
fn one_changed_tag_of_many_dirties_one_small_group() {
    let mut ledger = large(100_000);
    assert_eq!(ledger.take_dirty_groups(), ledger.groups());
    assert!(ledger.groups().len() > 32);
    assert!(
        ledger
            .groups()
            .iter()
            .all(|place| ledger.group(*place).size() <= 64_000)
    );
    look(&mut ledger, "v1.5", "xx", 10, &RULES);
    let dirty = ledger.take_dirty_groups();
    assert_eq!(
        dirty,
        [GroupPlace::of(ledger.key("web", "v1.5").unwrap(), dirty[0].bits)]
    );
    assert!(ledger.take_dirty_groups().is_empty());
    look(&mut ledger, "v1.5", "xx", 20, &RULES);
    look(&mut ledger, "v1.6", "??", 20, &RULES);
    assert_eq!(ledger.take_dirty_groups(), []);
}

#[test]
fn ledger_without_entries_has_no_groups() {
    let mut ledger = after(&[(0, "aa")], &RULES);
    assert_eq!(ledger.groups().len(), 1);
    ledger.forget("web", "1");
    assert_eq!(ledger.take_dirty_groups(), [GroupPlace::default()], "to be removed");
    assert_eq!(ledger.groups(), []);
    assert!(ledger.evidence().is_empty());
}

#[test]
fn groups_are_split_and_joined_with_room_between() {
    let mut ledger = large(3_000);
    assert_eq!(ledger.take_dirty_groups().len(), 2, "66 kB");
    let sizes: Vec<u8> = [4_000, 3_000, 1_000, 800, 200]
        .into_iter()
        .map(|tags| {
            if tags > 3_000 {
                ledger = large(tags);
                ledger.take_dirty_groups();
            }
            ledger.retain("web", |tag| tag[3..].parse::<u32>().unwrap() < tags);
            ledger.take_dirty_groups();
            ledger.groups().len() as u8
        })
        .collect();
    assert_eq!(sizes, [4, 4, 2, 1, 1]);
}

#[test]
fn changed_division_makes_every_group_dirty() {
    let mut ledger = large(1_000);
    assert_eq!(ledger.take_dirty_groups().len(), 1);
    for number in 0..1_000 {
        look(&mut ledger, &format!("other-{number}"), "?-", 0, &RULES);
        look(&mut ledger, &format!("another-{number}"), "ab", 0, &RULES);
    }
    let dirty = ledger.take_dirty_groups();
    assert_eq!(dirty.len(), 2);
    assert_eq!(dirty, ledger.groups());
}

#[test]
fn evidence_has_tags_digests_and_both_sides() {
    let mut ledger = after(&[(0, "aa")], &RULES);
    look(&mut ledger, "2", "bc", 0, &RULES);
    look(&mut ledger, "3", "d?", 0, &RULES);
    let evidence = ledger.evidence();
    let tag = |tag: &str| evidence.tag(ledger.key("web", tag).unwrap()).map(words);
    let by_digest = |letter: &str| evidence.digest(ledger.key("web", &digest(letter)).unwrap()).map(words);
    assert_eq!(tag("1").as_deref(), Some("PP="));
    assert_eq!(tag("2").as_deref(), Some("PP"));
    assert_eq!(tag("3").as_deref(), Some("P?"));
    assert_eq!(tag("4"), None);
    let digests: BTreeMap<&str, Option<String>> = ["a", "b", "c", "d", "e"]
        .into_iter()
        .map(|letter| (letter, by_digest(letter)))
        .collect();
    let expected = [("a", "PP="), ("b", "P?"), ("c", "?P"), ("d", "P?")];
    for (letter, words) in expected {
        assert_eq!(digests[letter].as_deref(), Some(words), "{letter}");
    }
    assert_eq!(digests["e"], None);
}
