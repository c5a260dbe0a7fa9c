//! What names a reference and a mapping.

use sha2::{Digest as _, Sha256};

use super::*;

fn policy(primary: (&str, &str), fallback: (&str, &str)) -> MirrorPolicy {
    let side = |(registry, prefix): (&str, &str)| SidePolicy {
        registry: registry.to_owned(),
        prefix: prefix.to_owned(),
        ..SidePolicy::default()
    };
    let id = MirrorId {
        name: "apps".into(),
        uid: "uid".into(),
    };
    let sides = Sides {
        primary: side(primary),
        fallback: side(fallback),
    };
    MirrorPolicy::new(id, Timestamp::UNIX_EPOCH, sides)
}

fn apps() -> MirrorPolicy {
    policy(("a.example", "team"), ("b.example", ""))
}

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

#[test]
fn key_is_a_hash_of_both_places_and_the_reference() {
    let hash = Sha256::digest(b"a.example\0team/web\0b.example\0web\0v1");
    let expected = hash.iter().take(8).fold(0, |key, byte| key << 8 | u64::from(*byte));
    assert_eq!(apps().key("web", None, "v1"), Key(expected));
    let listed = rule("anything", "team/web", "web");
    assert_eq!(
        apps().key("anything", Some(&listed), "v1"),
        Key(expected),
        "the name is no part of it"
    );
}

#[test]
fn key_differs_with_everything_that_it_is_made_of() {
    let key = |policy: MirrorPolicy| policy.key("web", None, "v1");
    let keys = [
        key(apps()),
        apps().key("web", None, "v2"),
        apps().key("we", None, "bv1"),
        apps().key("team/web", None, "v1"),
        key(policy(("b.example", ""), ("a.example", "team"))),
        key(policy(("a.example", ""), ("b.example", "team"))),
        key(policy(("a.example", "team"), ("c.example", ""))),
        key(policy(("a.example", "other"), ("b.example", ""))),
        key(policy(("a.example", "team"), ("b.example", "x"))),
        key(policy(("a.example", "team"), ("b.example", "y"))),
        apps().key("web", Some(&rule("web", "team/web", "other")), "v1"),
    ];
    let different: std::collections::BTreeSet<Key> = keys.into_iter().collect();
    assert_eq!(different.len(), keys.len());
}

#[test]
fn mapping_of_repositories_below_the_prefixes_is_one() {
    let in_use = apps().mapping("web", None);
    assert_eq!(apps().mapping("db", None), in_use);
    assert_eq!(apps().mapping("web", Some(&rule("web", "team/web", "web"))), in_use);
    assert_eq!(apps().mappings(), [in_use].into());
    let other_paths = [
        rule("web", "team/web", "w"),
        rule("web", "teamweb", "web"),
        rule("web", "web", "web"),
    ];
    for rule in &other_paths {
        assert_ne!(apps().mapping("web", Some(rule)), in_use, "{rule:?}");
    }
    assert_ne!(
        policy(("a.example", "team"), ("b.example", "x")).mapping("web", None),
        in_use
    );
    assert_eq!(
        policy(("b.example", ""), ("a.example", "team")).mapping("web", None),
        in_use
    );
}

#[test]
fn mappings_are_those_of_all_listed_repositories() {
    let mut listed = apps();
    let rules = vec![
        rule("web", "team/web", "web"),
        rule("db", "team/db", "db"),
        rule("x", "y", "z"),
    ];
    let expected = [listed.mapping("any", None), listed.mapping("x", Some(&rules[2]))];
    listed.repositories = Repositories::Listed(rules);
    assert_eq!(listed.mappings(), expected.into());
    listed.repositories = Repositories::Listed(Vec::new());
    assert!(listed.mappings().is_empty());
}

#[test]
fn mapping_of_prefixes_is_not_that_of_the_same_paths() {
    let explicit = rule("x", "team", "");
    assert_ne!(apps().mapping("x", Some(&explicit)), apps().mapping("x", None));
}

#[test]
fn mapping_is_written_as_sixteen_digits_and_read_again() {
    let mapping = apps().mapping("web", None);
    let text = mapping.to_string();
    assert_eq!(text.len(), 16);
    assert_eq!(text.parse(), Ok(mapping));
    assert_eq!(
        "00000000000000ff".parse::<MappingId>().unwrap().to_string(),
        "00000000000000ff"
    );
    for broken in [
        "",
        "ff",
        "+0000000000000ff",
        "00000000000000FF",
        "00000000000000fff",
        "000000000000000g",
    ] {
        assert_eq!(broken.parse::<MappingId>(), Err(MappingIdError), "{broken}");
    }
}
