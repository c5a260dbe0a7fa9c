//! What an earlier leader wrote, until this one has read both sides.

use super::*;
use crate::routing::evidence::Evidence;

/// Tags 1 to 3 in sync, 4 only on the primary, and the digest `d` asked for and absent on the primary.
fn earlier() -> Evidence {
    let mut ledger = ledger_of(&policy());
    for (tag, letters) in [("1", "aa"), ("2", "bb"), ("3", "cc"), ("4", "a-")] {
        record(&mut ledger, "web", tag, letters, 0);
    }
    record(&mut ledger, "web", &digest("d"), "-d", 0);
    ledger.evidence()
}

fn restarted() -> Ledger {
    let mut ledger = ledger_of(&policy());
    ledger.seed(earlier());
    ledger
}

fn known(ledger: &Ledger, reference: &str) -> String {
    let known = words(ledger.known("web", reference));
    let evidence = ledger.evidence();
    let key = ledger.key("web", reference).unwrap();
    let read = if reference.contains(':') {
        evidence.digest(key)
    } else {
        evidence.tag(key)
    };
    assert_eq!(
        words(read.unwrap_or_default()),
        known,
        "the webhook reads what the ledger knows"
    );
    known
}

#[test]
fn tags_in_sync_stay_so_while_primary_is_unreadable() {
    let mut ledger = restarted();
    assert_eq!(known(&ledger, "1"), "PP=");
    record(&mut ledger, "web", "1", "?a", 100);
    record(&mut ledger, "web", "2", "?x", 100);
    record(&mut ledger, "web", "3", "?-", 100);
    assert_eq!(known(&ledger, "1"), "PP=");
    assert_eq!(known(&ledger, "2"), "PP", "its digest changed on the readable side");
    assert_eq!(known(&ledger, "3"), "PA");
    assert_eq!(known(&ledger, "4"), "PA");
    assert_eq!(
        ledger.verdict("web", "1"),
        Some(Verdict::Pending),
        "status shows what this process saw"
    );
}

#[test]
fn tag_gone_from_cache_is_not_known_by_the_prior() {
    let rules = Rules {
        subset: Some(Side::Fallback),
        ..RULES
    };
    let mut ledger = restarted();
    look(&mut ledger, "1", "a?", 100, &rules);
    assert_eq!(known(&ledger, "1"), "PP=");
    ledger.take_dirty_groups();
    look(&mut ledger, "1", "a-", 200, &rules);
    assert_eq!(known(&ledger, "1"), "P?");
    assert!(!ledger.take_dirty_groups().is_empty());
}

#[test]
fn tag_moved_to_another_digest_in_sync_is_not_in_sync() {
    let mut ledger = restarted();
    record(&mut ledger, "web", "1", "?b", 100);
    assert_eq!(known(&ledger, &digest("b")), "PP=", "both sides have had it");
    assert_eq!(known(&ledger, "1"), "PP", "but not under this tag");
}

#[test]
fn digests_stay_known_by_the_prior() {
    let mut ledger = restarted();
    assert_eq!(known(&ledger, &digest("a")), "PP=");
    assert_eq!(known(&ledger, &digest("d")), "AP");
    record(&mut ledger, "web", "1", "?a", 100);
    assert_eq!(known(&ledger, &digest("a")), "PP=");
    record(&mut ledger, "web", "5", "d?", 100);
    assert_eq!(known(&ledger, &digest("d")), "PP=", "a tag was found with it");
    record(&mut ledger, "web", &digest("a"), "?-", 100);
    assert_eq!(known(&ledger, &digest("a")), "PA");
}

#[test]
fn tag_gone_from_both_sides_is_not_known_by_the_prior() {
    let mut ledger = restarted();
    record(&mut ledger, "web", "1", "--", 100);
    assert_eq!(known(&ledger, "1"), "??");
    record(&mut ledger, "web", "2", "?b", 100);
    ledger.retain("web", |tag| tag != "2");
    assert_eq!(known(&ledger, "2"), "??");
    record(&mut ledger, "web", "2", "?b", 200);
    assert_eq!(known(&ledger, "2"), "?P", "it is another one since");
}

#[test]
fn prior_of_another_mapping_is_not_found() {
    let mut elsewhere = policy();
    elsewhere.sides.fallback.prefix = "team-b".to_owned();
    let mut ledger = ledger_of(&elsewhere);
    ledger.seed(earlier());
    assert_eq!(known(&ledger, "1"), "??");
    assert_eq!(known(&ledger, &digest("a")), "??");
    let mut restarted = restarted();
    restarted.set_policy(&Arc::new(elsewhere));
    assert_eq!(known(&restarted, "1"), "??");
}

#[test]
fn dropped_prior_leaves_what_this_ledger_read() {
    let mut ledger = restarted();
    record(&mut ledger, "web", "1", "aa", 100);
    record(&mut ledger, "web", "2", "?b", 100);
    ledger.take_dirty_groups();
    ledger.drop_prior();
    assert!(!ledger.take_dirty_groups().is_empty());
    assert_eq!(known(&ledger, "1"), "PP=");
    assert_eq!(known(&ledger, "2"), "?P");
    assert_eq!(known(&ledger, "3"), "??");
    ledger.take_dirty_groups();
    ledger.drop_prior();
    assert!(ledger.take_dirty_groups().is_empty(), "there is none any more");
}

#[test]
fn restart_with_nothing_changed_writes_what_is_stored() {
    let stored: Vec<_> = earlier().groups().to_vec();
    let mut ledger = restarted();
    assert_eq!(ledger.take_dirty_groups(), []);
    for (tag, letters) in [("1", "aa"), ("2", "bb"), ("3", "cc"), ("4", "a-")] {
        record(&mut ledger, "web", tag, letters, 100);
    }
    record(&mut ledger, "web", &digest("d"), "-d", 100);
    ledger.drop_prior();
    for place in ledger.take_dirty_groups() {
        let group = ledger.group(place);
        assert!(stored.iter().any(|stored| **stored == group));
    }
}

#[test]
fn many_groups_are_taken_over_as_they_are_divided() {
    let mut before = super::groups::large(6_000);
    before.take_dirty_groups();
    let stored = before.evidence();
    assert_eq!(stored.groups().len(), 4);
    let mut ledger = ledger_of(&policy());
    ledger.seed(stored.clone());
    assert_eq!(ledger.take_dirty_groups(), []);
    record(&mut ledger, "web", "v1.7", "?x", 100);
    assert_eq!(ledger.take_dirty_groups().len(), 1);
    assert_eq!(ledger.groups(), before.groups());
    assert_eq!(
        ledger.evidence().len(),
        stored.len() + 1,
        "and the digest that it has now"
    );
}

#[test]
fn prior_in_groups_of_two_sizes_is_written_in_one() {
    let mut before = super::groups::large(6_000);
    let coarse = before.evidence();
    before.take_dirty_groups();
    let fine = before.evidence();
    let both = coarse.groups().iter().chain(fine.groups()).cloned();
    let both = both.fold(Evidence::default(), |evidence, group| evidence.with(group));
    assert_eq!(both.groups().len(), 5);
    let mut ledger = ledger_of(&policy());
    ledger.seed(both);
    assert_eq!(ledger.take_dirty_groups(), ledger.groups());
    assert_eq!(ledger.groups().len(), 4);
    let written = ledger.evidence();
    for number in [0, 7, 5_999] {
        let (tag, content) = (format!("v1.{number}"), Digest::of(&u32::to_be_bytes(number)));
        assert_eq!(words(written.tag(ledger.key("web", &tag).unwrap()).unwrap()), "PP=");
        let key = ledger.key("web", &content.to_string()).unwrap();
        assert_eq!(words(written.digest(key).unwrap()), "PP=");
    }
}
