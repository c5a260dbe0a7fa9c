use super::*;
use crate::mirror::parity::Verdict;
use crate::pod::Owner;
use crate::policy::{MirrorPolicy, RewriteMode};
use crate::routing::Route;
use crate::routing::fixtures::{apps, evidence, route, table};
use crate::selector::{Operator, Requirement, Selector};

const DIGEST: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const PRIMARY: &str = "kracr.azurecr.io/web:synced";
const FALLBACK: &str = "ghcr.io/devopskev/web:synced";

fn apps_route(policy: MirrorPolicy) -> Route {
    let records = evidence(&[
        ("web", "synced", Verdict::InSync),
        ("web", "differs", Verdict::Mismatched),
        ("web", "only-fallback", Verdict::MissingOnPrimary),
        ("web", "only-primary", Verdict::MissingOnFallback),
    ]);
    route(policy, Side::Fallback, records)
}

fn facts() -> PodFacts<'static> {
    PodFacts {
        namespace: "default",
        ..PodFacts::default()
    }
}

fn running(image: &str) -> UsedImage<'_> {
    UsedImage {
        image,
        started: true,
        ..UsedImage::default()
    }
}

fn pod<'a>(images: &[UsedImage<'a>]) -> UsedImages<'a> {
    UsedImages {
        facts: facts(),
        is_template: false,
        images: images.to_vec(),
        ..UsedImages::default()
    }
}

/// What is in use of the mirror `apps` by these pods and templates.
fn count(policy: MirrorPolicy, used: &[UsedImages<'_>]) -> InUse {
    let table = table(vec![apps_route(policy)]);
    let mut count = UsageCount::new(&table);
    for used in used {
        count.add(used);
    }
    let found = count.finish(WorkloadsRead::Read);
    found.into_values().next().unwrap()
}

/// The references, as `repository reference`.
fn names(in_use: &InUse) -> Vec<String> {
    let names = in_use.references.iter();
    names
        .flat_map(|(repository, names)| names.keys().map(move |name| format!("{repository} {name}")))
        .collect()
}

fn only(in_use: &InUse) -> Use {
    let mut found = in_use.references.values().flat_map(|names| names.values());
    let only = *found.next().unwrap();
    assert_eq!(found.next(), None);
    only
}

#[test]
fn image_of_either_side_counts_for_its_repository() {
    let by_digest = format!("kracr.azurecr.io/api@{DIGEST}");
    let both = format!("ghcr.io/devopskev/tools:2@{DIGEST}");
    let in_use = count(
        apps(),
        &[
            pod(&[running(PRIMARY), running("nginx"), running("auto")]),
            pod(&[running(FALLBACK), running(&by_digest), running(&both)]),
            pod(&[running("ghcr.io/devopskev/web"), running("ghcr.io/devopskev/web:3")]),
        ],
    );
    let digest = |repository| format!("{repository} {DIGEST}");
    let expected = ["web 3", "web latest", "web synced"].map(str::to_owned);
    let mut expected = [
        vec![digest("api"), "tools 2".to_owned(), digest("tools")],
        expected.to_vec(),
    ]
    .concat();
    expected.sort();
    assert_eq!(names(&in_use), expected);
    assert_eq!(in_use.pods_on_fallback, 2);
    assert_eq!(in_use.workloads, WorkloadsRead::Read);
    // Beside a digest the tag is not what is asked for.
    assert_eq!(in_use.references["tools"]["2"].needed_on, Sides::default());
    assert!(in_use.references["tools"][DIGEST].needed_on.fallback);
}

#[test]
fn pod_that_its_mirror_leaves_alone_does_not_count() {
    let mut policy = apps();
    policy.namespaces = Selector {
        requirements: vec![Requirement {
            key: "kubernetes.io/metadata.name".to_owned(),
            operator: Operator::NotIn(vec!["foreign".to_owned()]),
        }],
    };
    let cluster = Owner {
        api_version: "postgresql.cnpg.io/v1",
        kind: "Cluster",
    };
    let left_alone = [
        PodFacts {
            namespace: "foreign",
            ..facts()
        },
        PodFacts {
            namespace: "kube-system",
            ..facts()
        },
        PodFacts {
            labels: &[("catamaran.dev/rewrite", "disabled")],
            ..facts()
        },
        PodFacts {
            owner: Some(cluster),
            ..facts()
        },
        PodFacts {
            is_static: true,
            ..facts()
        },
    ];
    for facts in left_alone {
        let used = UsedImages {
            facts,
            ..pod(&[running(FALLBACK)])
        };
        let in_use = count(policy.clone(), &[used]);
        assert_eq!((names(&in_use).len(), in_use.pods_on_fallback), (0, 0), "{facts:?}");
    }
    let never = UsedImage {
        pull_policy_never: true,
        ..running(FALLBACK)
    };
    assert_eq!(names(&count(policy.clone(), &[pod(&[never])])), [""; 0]);
    assert_eq!(names(&count(policy, &[pod(&[running(FALLBACK)])])), ["web synced"]);
}

#[test]
fn mirror_that_audits_or_was_not_observed_counts_all_the_same() {
    let mut audits = apps();
    audits.rewrite.mode = RewriteMode::Audit;
    assert_eq!(names(&count(audits, &[pod(&[running(PRIMARY)])])), ["web synced"]);
    let unobserved = Route {
        observed: std::sync::Arc::default(),
        ..apps_route(apps())
    };
    let mut count = UsageCount::new(&table(vec![unobserved]));
    count.add(&pod(&[running(PRIMARY)]));
    let labels = &[("catamaran.dev/rewrite", "disabled")];
    count.add(&UsedImages {
        facts: PodFacts { labels, ..facts() },
        ..pod(&[running("kracr.azurecr.io/web:2")])
    });
    let found = count.finish(WorkloadsRead::Disabled);
    assert_eq!(names(found.values().next().unwrap()), ["web synced"]);
}

#[test]
fn reference_is_needed_where_it_was_written_or_is_moved() {
    let sides = |primary, fallback| Sides { primary, fallback };
    let cases = [
        ("kracr.azurecr.io/web:synced", sides(true, true)),
        ("ghcr.io/devopskev/web:synced", sides(true, true)),
        // It stays where it was written.
        ("kracr.azurecr.io/web:differs", sides(true, false)),
        ("ghcr.io/devopskev/web:differs", sides(false, true)),
        ("kracr.azurecr.io/web:only-primary", sides(true, false)),
        // The primary lacks it, and that pods would be sent elsewhere does not make it less of a gap.
        ("kracr.azurecr.io/web:only-fallback", sides(true, true)),
        ("ghcr.io/devopskev/web:only-fallback", sides(false, true)),
        ("ghcr.io/devopskev/web:unknown", sides(true, true)),
    ];
    for (image, expected) in cases {
        assert_eq!(
            only(&count(apps(), &[pod(&[running(image)])])).needed_on,
            expected,
            "{image}"
        );
    }
}

#[test]
fn original_counts_only_if_routing_leads_from_it() {
    let differs = "ghcr.io/devopskev/web:differs";
    let cases = [
        // Rewritten at admission: the template names the primary.
        (Some("kracr.azurecr.io/web:differs"), true),
        (Some("kracr.azurecr.io/web:none"), false),
        (Some("kracr.azurecr.io/api:differs"), false),
        (Some("quay.io/web:differs"), false),
        (Some("no reference"), false),
        (None, false),
    ];
    for (original, needed_on_primary) in cases {
        let image = UsedImage {
            original,
            ..running(differs)
        };
        let in_use = count(apps(), &[pod(&[image])]);
        assert_eq!(names(&in_use), ["web differs"], "{original:?}");
        assert_eq!(only(&in_use).needed_on.primary, needed_on_primary, "{original:?}");
    }
}

#[test]
fn reference_counts_as_started_or_named_by_template() {
    let waiting = UsedImage {
        started: false,
        ..running(PRIMARY)
    };
    let template = UsedImages {
        is_template: true,
        ..pod(&[waiting])
    };
    let cases = [
        (vec![pod(&[waiting])], (false, false)),
        (vec![pod(&[waiting]), pod(&[running(FALLBACK)])], (true, false)),
        (vec![pod(&[waiting]), template.clone()], (false, true)),
    ];
    for (used, expected) in cases {
        let in_use = count(apps(), &used);
        let found = only(&in_use);
        assert_eq!((found.started, found.template), expected, "{used:?}");
    }
    let in_use = count(apps(), &[template]);
    assert!(only(&in_use).template);
    assert_eq!(in_use.pods_on_fallback, 0, "a template is no pod");
}

#[test]
fn namespace_with_too_many_references_leaves_room_for_others() {
    let images: Vec<String> = (0..6_000).map(|tag| format!("kracr.azurecr.io/web:{tag}")).collect();
    let greedy: Vec<_> = images.iter().map(|image| running(image)).collect();
    let other = UsedImages {
        facts: PodFacts {
            namespace: "other",
            ..PodFacts::default()
        },
        ..pod(&[running(PRIMARY)])
    };
    let in_use = count(apps(), &[pod(&greedy), other]);
    assert_eq!(in_use.references["web"].len(), 5_001);
    assert_eq!(in_use.left_out, 1_000);
    assert!(in_use.references["web"].contains_key("synced"));
}

#[test]
fn every_mirror_of_the_table_is_answered() {
    let empty = UsageCount::new(&table(vec![apps_route(apps())])).finish(WorkloadsRead::Forbidden);
    let expected = InUse {
        workloads: WorkloadsRead::Forbidden,
        ..InUse::default()
    };
    assert_eq!(empty.into_values().collect::<Vec<_>>(), [expected]);
}

fn proving() -> MirrorPolicy {
    let mut policy = apps();
    policy.proof.mode = ProofMode::Pull;
    policy.sides.fallback.image_pull_secrets = vec!["ghcr-pull".to_owned()];
    policy
}

/// What is to be proven, where proof pods may be made in `default` alone.
fn provable(policy: MirrorPolicy, used: &[UsedImages<'_>]) -> ProofUse {
    let mut count =
        UsageCount::new(&table(vec![apps_route(policy)])).proving_in(Arc::new(BTreeSet::from(["default".to_owned()])));
    count.note_node("node-1");
    for used in used {
        count.add(used);
    }
    let in_use = count.finish(WorkloadsRead::Read).into_values().next().unwrap();
    ProofUse::clone(&in_use.proof)
}

fn with_secrets<'a>(service_account: &'a str, pull_secrets: &[&'a str], image: &'a str) -> UsedImages<'a> {
    UsedImages {
        service_account,
        pull_secrets: pull_secrets.to_vec(),
        ..pod(&[running(image)])
    }
}

#[test]
fn proof_pulls_fallback_names_once_for_each_set_of_credentials() {
    let used = [
        with_secrets("", &[], PRIMARY),
        with_secrets("default", &["ghcr-pull"], "kracr.azurecr.io/web:newer"),
        with_secrets("builder", &["own"], FALLBACK),
        with_secrets("builder", &["own"], "nginx"),
    ];
    let found = provable(proving(), &used);
    let places: Vec<_> = found
        .places
        .iter()
        .map(|(place, images)| {
            let images: Vec<_> = images.values().map(String::as_str).collect();
            (
                place.service_account.as_str(),
                place.pull_secrets.join(","),
                images.join(","),
            )
        })
        .collect();
    let newer = "ghcr.io/devopskev/web:newer".to_owned();
    let expected = [
        ("builder", "own".to_owned(), FALLBACK.to_owned()),
        ("default", String::new(), newer),
    ];
    assert_eq!(
        places, expected,
        "admission adds the mirror's own secrets to each pod; one image of a repository is enough"
    );
    assert_eq!(*found.nodes, BTreeSet::from(["node-1".to_owned()]));
}

#[test]
fn template_is_proven_with_the_credentials_of_its_pods() {
    let template = |service_account, image| UsedImages {
        is_template: true,
        ..with_secrets(service_account, &[], image)
    };
    let used = [
        with_secrets("default", &["of-the-account"], PRIMARY),
        template("default", "kracr.azurecr.io/api:1"),
        template("nightly", "kracr.azurecr.io/api:1"),
    ];
    let found = provable(proving(), &used);
    let places: Vec<_> = found
        .places
        .iter()
        .map(|(place, images)| (place.service_account.as_str(), place.pull_secrets.len(), images.len()))
        .collect();
    assert_eq!(places, [("default", 1, 2), ("nightly", 0, 1)]);
}

#[test]
fn namespace_without_rights_is_counted_and_not_proven() {
    let elsewhere = UsedImages {
        facts: PodFacts {
            namespace: "elsewhere",
            ..PodFacts::default()
        },
        ..pod(&[running(PRIMARY)])
    };
    let found = provable(proving(), &[elsewhere.clone(), elsewhere]);
    assert_eq!((found.places.len(), found.unlisted), (0, 1));
    let off = provable(apps(), &[pod(&[running(PRIMARY)])]);
    assert_eq!(
        off,
        ProofUse::default(),
        "nothing is counted for a mirror that proves nothing"
    );
}

#[test]
fn proof_pod_is_neither_in_use_nor_moved() {
    let mirror = Owner {
        api_version: "catamaran.dev/v1alpha1",
        kind: "RegistryMirror",
    };
    let mut policy = apps();
    policy.rewrite.controller_owned = crate::policy::ControllerOwnedPods::Rewrite;
    let proof = UsedImages {
        facts: PodFacts {
            owner: Some(mirror),
            ..facts()
        },
        ..pod(&[running(FALLBACK)])
    };
    let in_use = count(policy, &[proof]);
    assert!(in_use.references.is_empty());
    assert_eq!(in_use.pods_on_fallback, 0);
}
