//! Which of the missing tags are named, where there are many.

use super::*;
use crate::mirror::in_use::{InUse, Use};

fn named<'l>(ledger: &'l Ledger, in_use: &InUse, most: usize) -> Vec<&'l str> {
    let some = ledger.missing_or(in_use, most, 0);
    some.iter().map(|one| one.tag).collect()
}

fn using(references: &[&str]) -> InUse {
    let references = references.iter().map(|name| ((*name).to_owned(), Use::default()));
    InUse {
        references: BTreeMap::from([("web".to_owned(), references.collect())]),
        ..InUse::default()
    }
}

/// Five missing tags, the newest `e`; a tag whose content differs, one in sync, and a digest that the fallback lacks.
fn ledger() -> Ledger {
    let mut ledger = ledger_of(&policy());
    let untagged = digest("u");
    let looks = [
        ("a", "1-", 0),
        ("b", "2-", 10),
        ("c", "-3", 20),
        ("d", "4-", 30),
        ("e", "5-", 40),
        ("differs", "67", 50),
        ("in-sync", "88", 60),
        (&untagged, "u-", 70),
    ];
    for (tag, letters, since) in looks {
        look(&mut ledger, tag, letters, since, &RULES);
        look(&mut ledger, tag, letters, since + 300, &RULES);
    }
    ledger
}

#[test]
fn missing_tags_are_counted_by_the_side_that_lacks_them() {
    let expected = Sides {
        primary: 1,
        fallback: 4,
    };
    assert_eq!(ledger().missing(), expected);
}

#[test]
fn few_missing_tags_are_named_with_everything_that_diverges() {
    let ledger = ledger();
    let all = named(&ledger, &InUse::default(), 5);
    assert_eq!(all[1..], ["differs", "e", "d", "c", "b", "a"]);
}

#[test]
fn of_many_missing_tags_those_in_use_come_before_the_newest() {
    let ledger = ledger();
    let two = |references: &[&str]| named(&ledger, &using(references), 2);
    assert_eq!(two(&[]), ["e", "d"]);
    assert_eq!(two(&["b", "a", "in-sync", "differs", "gone"]), ["b", "a", "e", "d"]);
    assert_eq!(two(&["d"]), ["d", "e", "c"]);
    assert_eq!(two(&[&digest("1"), &digest("8"), &digest("u")]), ["a", "e", "d"]);
}
