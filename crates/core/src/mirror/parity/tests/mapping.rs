//! What stays known when the mirror's spec changes.

use super::*;
use crate::policy::{Repositories, RepositoryRule};
use crate::tags::TagFilter;

fn rule(name: &str, primary: &str, fallback: &str) -> RepositoryRule {
    RepositoryRule {
        name: name.to_owned(),
        paths: Sides {
            primary: primary.to_owned(),
            fallback: fallback.to_owned(),
        },
        tags: TagFilter::default(),
    }
}

fn listing(rules: &[RepositoryRule]) -> MirrorPolicy {
    MirrorPolicy {
        repositories: Repositories::Listed(rules.to_vec()),
        ..policy()
    }
}

fn in_sync(policy: &MirrorPolicy) -> Ledger {
    let mut ledger = ledger_of(policy);
    for repository in ["web", "team-a/app"] {
        record(&mut ledger, repository, "1", "aa", 0);
        record(&mut ledger, repository, &digest("b"), "bb", 0);
    }
    ledger
}

fn known(ledger: &Ledger) -> [String; 2] {
    ["web", "team-a/app"].map(|repository| words(ledger.known(repository, "1")))
}

#[test]
fn edits_that_leave_the_mapping_leave_the_entries() {
    let before = policy();
    let mut ledger = in_sync(&before);
    ledger.take_dirty_groups();
    let mut after = before.clone();
    after.parity.interval = Duration::from_hours(1);
    after.sides.fallback.credentials_secret = Some("other".to_owned());
    ledger.set_policy(&Arc::new(after));
    assert_eq!(known(&ledger), ["PP=", "PP="]);
    // Listed at the same paths, it is the same mapping.
    let listed = listing(&[
        rule("web", "team/web", "web"),
        rule("team-a/app", "team/team-a/app", "team-a/app"),
    ]);
    ledger.set_policy(&Arc::new(listed));
    assert_eq!(known(&ledger), ["PP=", "PP="]);
    assert!(ledger.take_dirty_groups().is_empty());
}

type Edit = fn(&mut MirrorPolicy);

fn swap(policy: &mut MirrorPolicy) {
    std::mem::swap(&mut policy.sides.primary, &mut policy.sides.fallback);
}

#[test]
fn edits_of_the_mapping_drop_all_entries() {
    let edits: [(&str, Edit); 4] = [
        ("sides", swap),
        ("prefix", |policy| policy.sides.fallback.prefix = "team-b".to_owned()),
        ("registry", |policy| {
            policy.sides.primary.registry = "c.example".to_owned();
        }),
        ("selection", |policy| {
            policy.repositories = Repositories::Listed(Vec::new());
        }),
    ];
    for (name, edit) in edits {
        let before = policy();
        let mut ledger = in_sync(&before);
        let evidence = ledger.evidence();
        let mut after = before.clone();
        edit(&mut after);
        ledger.set_policy(&Arc::new(after.clone()));
        assert_eq!(known(&ledger), ["??", "??"], "{name}");
        assert_eq!(ledger.summary(), Ledger::new().summary(), "{name}");
        assert_eq!(ledger.groups(), [], "{name}");
        for reference in ["1", &digest("a"), &digest("b")] {
            let (old, new) = (before.key("web", None, reference), after.key("web", None, reference));
            assert!(evidence.digest(old).is_some(), "{name}");
            assert_eq!(evidence.digest(new).is_some(), name == "selection", "{name}");
        }
    }
}

#[test]
fn edit_of_one_repository_drops_its_entries_alone() {
    let app = |fallback: &str| rule("team-a/app", "team-a/app", fallback);
    let before = listing(&[rule("web", "web", "web"), app("team-a/app")]);
    let mut ledger = in_sync(&before);
    ledger.set_policy(&Arc::new(listing(&[rule("web", "web", "web"), app("team-b/app")])));
    assert_eq!(known(&ledger), ["PP=", "??"]);
    let app_key = ledger.key("team-a/app", "1").unwrap();
    assert_eq!(
        in_sync(&before).evidence().tag(app_key),
        None,
        "not found by the new policy"
    );
    record(&mut ledger, "team-a/app", "1", "ab", 10);
    ledger.set_policy(&Arc::new(listing(&[app("team-b/app")])));
    assert_eq!(known(&ledger), ["??", "PP"]);
    assert_eq!(ledger.summary().tags, 1);
}

#[test]
fn repository_that_is_not_selected_is_not_recorded() {
    let mut ledger = ledger_of(&listing(&[rule("web", "web", "web")]));
    record(&mut ledger, "web", "1", "aa", 0);
    record(&mut ledger, "other", "1", "aa", 0);
    assert_eq!(ledger.summary().tags, 1);
    assert_eq!(words(ledger.known("other", "1")), "??");
}

#[test]
fn ledger_keys_are_those_of_the_policy() {
    let policy = listing(&[rule("web", "x/web", "y/web")]);
    let ledger = ledger_of(&policy);
    let Repositories::Listed(rules) = &policy.repositories else {
        unreachable!()
    };
    assert_eq!(ledger.key("web", "1"), Some(policy.key("web", Some(&rules[0]), "1")));
    let in_use = self::policy();
    assert_eq!(ledger_of(&in_use).key("web", "1"), Some(in_use.key("web", None, "1")));
}
