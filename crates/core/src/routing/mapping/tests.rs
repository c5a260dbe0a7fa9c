use super::*;
use crate::routing::fixtures::{apps, listing, mirror};

/// Side and name, or nothing.
fn locate(policy: &MirrorPolicy, image: &str) -> Option<(Side, String)> {
    let reference = Reference::parse(image).unwrap();
    policy
        .locate(&reference)
        .map(|location| (location.side, location.repository.into_owned()))
}

fn check(policy: &MirrorPolicy, cases: &[(&str, Option<(Side, &str)>)]) {
    for (image, expected) in cases {
        let expected = expected.map(|(side, repository)| (side, repository.to_owned()));
        assert_eq!(locate(policy, image), expected, "{image}");
    }
}

#[test]
fn reference_is_located_by_whole_registry_and_whole_words() {
    use Side::{Fallback, Primary};
    check(
        &apps(),
        &[
            ("kracr.azurecr.io/web:1", Some((Primary, "web"))),
            ("kracr.azurecr.io/team/web", Some((Primary, "team/web"))),
            ("ghcr.io/devopskev/web", Some((Fallback, "web"))),
            ("ghcr.io/devopskev/team/web", Some((Fallback, "team/web"))),
            ("ghcr.io/devopskev", None),
            ("ghcr.io/devopskevin/web", None),
            ("ghcr.io/other/web", None),
            ("GHCR.IO/devopskev/web", Some((Fallback, "web"))),
            ("ghcr.io:443/devopskev/web", Some((Fallback, "web"))),
            ("ghcr.io:5000/devopskev/web", None),
            ("kracr.azurecr.io.evil.com/web", None),
            ("evil.com/kracr.azurecr.io/web", None),
            ("web", None),
        ],
    );
}

#[test]
fn docker_hub_is_one_registry_by_all_of_its_names() {
    let policy = mirror("hub", ("docker.io", ""), ("ghcr.io", "hub"));
    for image in [
        "nginx",
        "library/nginx:1",
        "docker.io/nginx",
        "index.docker.io/library/nginx",
    ] {
        assert_eq!(
            locate(&policy, image),
            Some((Side::Primary, "library/nginx".to_owned())),
            "{image}"
        );
    }
}

#[test]
fn a_listing_mirror_has_only_what_it_lists() {
    use Side::{Fallback, Primary};
    let policy = listing(
        apps(),
        &[("web", "teams/web", "devopskev/site"), ("api", "api", "devopskev/api")],
    );
    check(
        &policy,
        &[
            ("kracr.azurecr.io/teams/web", Some((Primary, "web"))),
            ("ghcr.io/devopskev/site", Some((Fallback, "web"))),
            ("ghcr.io/devopskev/api", Some((Fallback, "api"))),
            ("ghcr.io/devopskev/web", None),
            ("kracr.azurecr.io/web", None),
            ("ghcr.io/devopskev/api/more", None),
        ],
    );
    assert_eq!(policy.path(Primary, "web"), "teams/web");
    assert_eq!(policy.path(Fallback, "web"), "devopskev/site");
    let reference = Reference::parse("ghcr.io/devopskev/site").unwrap();
    assert_eq!(policy.locate(&reference).unwrap().rule.unwrap().name, "web");
}

#[test]
fn sides_in_one_registry_are_told_apart_by_the_longer_prefix_then_the_primary_wins() {
    use Side::{Fallback, Primary};
    let nested = mirror("nested", ("reg.example", ""), ("reg.example", "copy"));
    check(
        &nested,
        &[
            ("reg.example/web", Some((Primary, "web"))),
            ("reg.example/copy/web", Some((Fallback, "web"))),
            ("reg.example/copy", Some((Primary, "copy"))),
        ],
    );
    let same = mirror("same", ("reg.example", "a"), ("reg.example", "a"));
    check(&same, &[("reg.example/a/web", Some((Primary, "web")))]);
    let crossed = listing(
        mirror("crossed", ("reg.example", ""), ("reg.example", "")),
        &[("x", "x", "y"), ("y", "y", "x")],
    );
    check(
        &crossed,
        &[
            ("reg.example/x", Some((Primary, "x"))),
            ("reg.example/y", Some((Primary, "y"))),
        ],
    );
}

#[test]
fn the_path_of_what_was_located_is_where_it_was_found() {
    let policies = [
        apps(),
        mirror("hub", ("docker.io", ""), ("ghcr.io", "hub")),
        listing(apps(), &[("web", "teams/web", "devopskev/site")]),
    ];
    let images = [
        "kracr.azurecr.io/a/b",
        "ghcr.io/devopskev/a",
        "nginx",
        "ghcr.io/hub/library/nginx",
        "ghcr.io/devopskev/site",
    ];
    let mut found = 0;
    for policy in &policies {
        for image in images {
            let reference = Reference::parse(image).unwrap();
            let Some(location) = policy.locate(&reference) else {
                continue;
            };
            assert_eq!(
                policy.path(location.side, &location.repository),
                reference.repository(),
                "{image}"
            );
            found += 1;
        }
    }
    assert_eq!(found, 6, "images that belong to one of the mirrors");
}

#[test]
fn tags_are_selected_by_the_rule_of_their_repository() {
    let mut policy = listing(
        apps(),
        &[("web", "web", "devopskev/web"), ("api", "api", "devopskev/api")],
    );
    if let Repositories::Listed(rules) = &mut policy.repositories {
        rules[0].tags = TagFilter::new(&["^v".to_owned()], &[]).unwrap();
    }
    let cases = [
        ("web", "v1", true),
        ("web", "latest", false),
        ("api", "latest", true),
        ("other", "latest", false),
    ];
    for (repository, tag, selected) in cases {
        assert_eq!(policy.selects_tag(repository, tag), selected, "{repository}:{tag}");
    }
    let referrer = format!("sha256-{}", "0".repeat(64));
    assert!(apps().selects_tag("anything", "latest"));
    assert!(!apps().selects_tag("anything", &referrer));
}
