//! Decisions about whole images, by the rules and what lies around them, then what must always hold.

mod explain;
mod overlap;
mod properties;

use super::fixtures::{Evidence, apps, evidence, listing, mirror, route, table};
use super::*;
use crate::mirror::parity::Verdict;
use crate::pod::{Owner, REWRITE_LABEL};
use crate::policy::Repositories;
use crate::policy::{ControllerOwnedPods, ImageGlob, UnverifiedTags};
use crate::selector::{Operator, Requirement, Selector};
use crate::tags::TagFilter;

const DIGEST: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const OTHER_DIGEST: &str = "sha256:1123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const PLAIN: PodFacts = PodFacts {
    namespace: "default",
    labels: &[],
    owner: None,
    is_static: false,
};

/// The decision in words: `untouched`, `active`, `IMAGE (reason)` or `kept (reason)`.
fn words(decision: &ImageRoute<'_>) -> String {
    match decision {
        ImageRoute::Untouched => "untouched".to_owned(),
        ImageRoute::OnActive { .. } => "active".to_owned(),
        ImageRoute::Rewritten { image, reason, .. } => format!("{image} ({})", reason.as_str()),
        ImageRoute::Audited { image, reason, .. } => format!("{image} ({})", reason.as_audited()),
        ImageRoute::Kept { reason, .. } => format!("kept ({})", reason.as_str()),
    }
}

fn decide(table: &RouteTable, image: &str) -> String {
    words(&table.pod(&PLAIN).image(image, false))
}

fn check(table: &RouteTable, cases: &[(&str, &str)]) {
    for (image, expected) in cases {
        assert_eq!(decide(table, image), *expected, "{image}");
    }
}

/// One verdict for each tag of `web`, named after it, and a digest that is in sync.
fn all_verdicts() -> Evidence {
    evidence(&[
        ("web", "synced", Verdict::InSync),
        ("web", DIGEST, Verdict::InSync),
        ("web", "only-fallback", Verdict::MissingOnPrimary),
        ("web", "only-primary", Verdict::MissingOnFallback),
        ("web", "differs", Verdict::Mismatched),
        ("web", "pending", Verdict::Pending),
        ("web", "latest", Verdict::InSync),
    ])
}

#[test]
fn what_belongs_to_no_mirror_is_untouched() {
    let table = table(vec![route(apps(), Side::Fallback, all_verdicts())]);
    for image in [
        "",
        "web",
        "Not A Reference",
        "ghcr.io/other/web:synced",
        "ghcr.io/devopskev",
        "kracr.azurecr.io/",
        "x@ghcr.io/devopskev/web",
    ] {
        assert_eq!(decide(&table, image), "untouched", "{image}");
    }
    check(&RouteTable::empty(), &[("kracr.azurecr.io/web:synced", "untouched")]);
}

#[test]
fn image_on_active_side_stays_unless_only_the_other_has_it() {
    let fallback = table(vec![route(apps(), Side::Fallback, all_verdicts())]);
    let primary = table(vec![route(apps(), Side::Primary, all_verdicts())]);
    for tag in ["synced", "only-fallback", "differs", "pending", "unknown"] {
        let image = format!("ghcr.io/devopskev/web:{tag}");
        assert_eq!(decide(&fallback, &image), "active", "{tag}");
    }
    for tag in ["synced", "only-primary", "differs", "pending", "unknown"] {
        let image = format!("kracr.azurecr.io/web:{tag}");
        assert_eq!(decide(&primary, &image), "active", "{tag}");
    }
    check(
        &fallback,
        &[(
            "ghcr.io/devopskev/web:only-primary",
            "kracr.azurecr.io/web:only-primary (OnlyOnOther)",
        )],
    );
    check(
        &primary,
        &[(
            "kracr.azurecr.io/web:only-fallback",
            "ghcr.io/devopskev/web:only-fallback (OnlyOnOther)",
        )],
    );
}

#[test]
fn a_tag_moves_to_the_fallback_as_the_evidence_allows() {
    let table = table(vec![route(apps(), Side::Fallback, all_verdicts())]);
    check(
        &table,
        &[
            (
                "kracr.azurecr.io/web:synced",
                "ghcr.io/devopskev/web:synced (Rewritten)",
            ),
            ("kracr.azurecr.io/web", "ghcr.io/devopskev/web (Rewritten)"),
            ("kracr.azurecr.io/web:only-primary", "kept (MissingOnActive)"),
            (
                "kracr.azurecr.io/web:only-fallback",
                "ghcr.io/devopskev/web:only-fallback (Rewritten)",
            ),
            ("kracr.azurecr.io/web:differs", "kept (DigestMismatch)"),
            (
                "kracr.azurecr.io/web:pending",
                "ghcr.io/devopskev/web:pending (Unverified)",
            ),
            (
                "kracr.azurecr.io/web:unknown",
                "ghcr.io/devopskev/web:unknown (Unverified)",
            ),
            (
                "kracr.azurecr.io/api:synced",
                "ghcr.io/devopskev/api:synced (Unverified)",
            ),
            (
                "kracr.azurecr.io/team/api:1",
                "ghcr.io/devopskev/team/api:1 (Unverified)",
            ),
        ],
    );
}

#[test]
fn a_tag_moves_to_the_primary_just_the_same() {
    let table = table(vec![route(apps(), Side::Primary, all_verdicts())]);
    check(
        &table,
        &[
            (
                "ghcr.io/devopskev/web:synced",
                "kracr.azurecr.io/web:synced (Rewritten)",
            ),
            (
                "ghcr.io/devopskev/web:only-primary",
                "kracr.azurecr.io/web:only-primary (Rewritten)",
            ),
            ("ghcr.io/devopskev/web:only-fallback", "kept (MissingOnActive)"),
            ("ghcr.io/devopskev/web:differs", "kept (DigestMismatch)"),
            (
                "ghcr.io/devopskev/web:unknown",
                "kracr.azurecr.io/web:unknown (Unverified)",
            ),
        ],
    );
}

#[test]
fn a_strict_mirror_moves_only_what_is_proven_equal() {
    let mut policy = apps();
    policy.rewrite.unverified = UnverifiedTags::Keep;
    let table = table(vec![route(policy, Side::Fallback, all_verdicts())]);
    let known = format!("kracr.azurecr.io/web@{DIGEST}");
    let known_moved = format!("ghcr.io/devopskev/web@{DIGEST} (Rewritten)");
    let unknown = format!("kracr.azurecr.io/web@{OTHER_DIGEST}");
    let unknown_of_synced_tag = format!("kracr.azurecr.io/web:synced@{OTHER_DIGEST}");
    check(
        &table,
        &[
            (
                "kracr.azurecr.io/web:synced",
                "ghcr.io/devopskev/web:synced (Rewritten)",
            ),
            ("kracr.azurecr.io/web:pending", "kept (Unverified)"),
            ("kracr.azurecr.io/web:unknown", "kept (Unverified)"),
            ("kracr.azurecr.io/web:only-fallback", "kept (Unverified)"),
            ("ghcr.io/devopskev/web:only-primary", "active"),
            ("kracr.azurecr.io/web:only-primary", "kept (MissingOnActive)"),
            ("kracr.azurecr.io/web:differs", "kept (DigestMismatch)"),
            (&known, &known_moved),
            (&unknown, "kept (Unverified)"),
            (&unknown_of_synced_tag, "kept (Unverified)"),
        ],
    );
}

/// Decides about `web` with this suffix, and gives the decision without the image.
fn decide_suffix(table: &RouteTable, suffix: &str) -> String {
    let decision = decide(table, &format!("kracr.azurecr.io/web{suffix}"));
    decision.replace(&format!("ghcr.io/devopskev/web{suffix} "), "moved ")
}

#[test]
fn digest_goes_by_its_own_knowledge() {
    let missing = "sha256:2222222222222222222222222222222222222222222222222222222222222222";
    let elsewhere = "sha256:3333333333333333333333333333333333333333333333333333333333333333";
    let records = evidence(&[
        ("web", "synced", Verdict::InSync),
        ("web", DIGEST, Verdict::InSync),
        ("web", missing, Verdict::MissingOnFallback),
        ("web", elsewhere, Verdict::MissingOnPrimary),
        ("web", "only-primary", Verdict::MissingOnFallback),
        ("web", "differs", Verdict::Mismatched),
    ]);
    let table = table(vec![route(apps(), Side::Fallback, records)]);
    let cases = [
        (format!("@{DIGEST}"), "moved (Rewritten)"),
        (format!("@{OTHER_DIGEST}"), "moved (Unverified)"),
        (format!("@{elsewhere}"), "moved (Rewritten)"),
        (format!("@{missing}"), "kept (MissingOnActive)"),
        (format!(":synced@{OTHER_DIGEST}"), "moved (Unverified)"),
        (format!(":differs@{OTHER_DIGEST}"), "moved (Unverified)"),
        (format!(":unknown@{OTHER_DIGEST}"), "moved (Unverified)"),
        (format!(":synced@{missing}"), "kept (MissingOnActive)"),
        (format!(":only-primary@{OTHER_DIGEST}"), "kept (MissingOnActive)"),
        (format!(":only-primary@{DIGEST}"), "moved (Rewritten)"),
    ];
    for (suffix, expected) in cases {
        assert_eq!(decide_suffix(&table, &suffix), expected, "{suffix}");
    }
}

#[test]
fn cache_is_asked_by_digest_only_for_what_it_holds() {
    let mut policy = apps();
    policy.sides.fallback.pull_through_cache = true;
    let to_cache = table(vec![route(policy.clone(), Side::Fallback, all_verdicts())]);
    let cases = [
        (":synced".to_owned(), "moved (Rewritten)"),
        (format!("@{DIGEST}"), "moved (Rewritten)"),
        (format!(":pending@{DIGEST}"), "moved (Rewritten)"),
        (format!(":synced@{OTHER_DIGEST}"), "moved (Unverified)"),
        (format!("@{OTHER_DIGEST}"), "kept (NotCached)"),
        (format!(":pending@{OTHER_DIGEST}"), "kept (NotCached)"),
        (format!(":unknown@{OTHER_DIGEST}"), "kept (NotCached)"),
        (":pending".to_owned(), "moved (Unverified)"),
    ];
    for (suffix, expected) in cases {
        assert_eq!(decide_suffix(&to_cache, &suffix), expected, "{suffix}");
    }
    let back = table(vec![route(policy, Side::Primary, all_verdicts())]);
    let image = format!("ghcr.io/devopskev/web@{OTHER_DIGEST}");
    let moved = format!("kracr.azurecr.io/web@{OTHER_DIGEST} (Unverified)");
    check(&back, &[(&image, &moved)]);
}

#[test]
fn image_without_observed_mapping_stays() {
    let policy = listing(
        apps(),
        &[("web", "web", "devopskev/web"), ("api", "teams/api", "devopskev/api")],
    );
    let mut one_observed = route(policy, Side::Fallback, all_verdicts());
    let web = one_observed.policy.mapping("web", None);
    one_observed.observed = Arc::new(BTreeSet::from([web]));
    check(
        &table(vec![one_observed]),
        &[
            (
                "kracr.azurecr.io/web:synced",
                "ghcr.io/devopskev/web:synced (Rewritten)",
            ),
            ("kracr.azurecr.io/teams/api:1", "kept (NotObservedYet)"),
            ("ghcr.io/devopskev/api:1", "kept (NotObservedYet)"),
        ],
    );
}

#[test]
fn image_that_is_never_pulled_stays() {
    let table = table(vec![route(apps(), Side::Fallback, all_verdicts())]);
    let pod = table.pod(&PLAIN);
    assert_eq!(
        words(&pod.image("kracr.azurecr.io/web:synced", true)),
        "kept (PullPolicyNever)"
    );
}

#[test]
fn tag_that_the_mirror_does_not_select_stays() {
    let mut policy = listing(apps(), &[("web", "web", "devopskev/web")]);
    let Repositories::Listed(rules) = &mut policy.repositories else {
        unreachable!()
    };
    rules[0].tags = TagFilter::new(&["^v".to_owned()], &[]).unwrap();
    let listed = table(vec![route(policy, Side::Fallback, all_verdicts())]);
    let with_digest = format!("kracr.azurecr.io/web:pr-17@{DIGEST}");
    let moved = format!("ghcr.io/devopskev/web:pr-17@{DIGEST} (Rewritten)");
    check(
        &listed,
        &[
            ("kracr.azurecr.io/web:pr-17", "kept (NotSelected)"),
            ("kracr.azurecr.io/web", "kept (NotSelected)"),
            ("kracr.azurecr.io/web:v1", "ghcr.io/devopskev/web:v1 (Unverified)"),
            (&with_digest, &moved),
        ],
    );
    let in_use = table(vec![route(apps(), Side::Fallback, all_verdicts())]);
    let signature = format!("kracr.azurecr.io/web:sha256-{}", "0".repeat(64));
    check(&in_use, &[(&signature, "kept (NotSelected)")]);
}

#[test]
fn excluded_image_stays_by_written_and_full_name() {
    let mut policy = mirror("hub", ("docker.io", ""), ("ghcr.io", "hub"));
    policy.rewrite.exclude_images = vec![ImageGlob::new("docker.io/library/nginx:*").unwrap()];
    let table = table(vec![route(policy, Side::Fallback, Vec::new())]);
    check(
        &table,
        &[
            ("nginx", "kept (ExcludedImage)"),
            ("docker.io/nginx:1", "kept (ExcludedImage)"),
            ("redis", "ghcr.io/hub/library/redis (Unverified)"),
        ],
    );
}

#[test]
fn placeholder_of_an_injector_is_untouched() {
    let policy = mirror("hub", ("docker.io", ""), ("ghcr.io", "hub"));
    let table = table(vec![route(policy, Side::Fallback, Vec::new())]);
    check(
        &table,
        &[
            ("auto", "untouched"),
            ("auto:1", "ghcr.io/hub/library/auto:1 (Unverified)"),
        ],
    );
}

#[test]
fn audit_records_what_would_move_and_brings_no_secret() {
    let mut policy = apps();
    policy.rewrite.mode = RewriteMode::Audit;
    let table = table(vec![route(policy, Side::Fallback, all_verdicts())]);
    check(
        &table,
        &[
            (
                "kracr.azurecr.io/web:synced",
                "ghcr.io/devopskev/web:synced (Audit:Rewritten)",
            ),
            (
                "kracr.azurecr.io/web:unknown",
                "ghcr.io/devopskev/web:unknown (Audit:Unverified)",
            ),
            ("kracr.azurecr.io/web:differs", "kept (DigestMismatch)"),
            ("ghcr.io/devopskev/web:synced", "active"),
        ],
    );
    let pod = table.pod(&PLAIN);
    let images = [
        "kracr.azurecr.io/web:synced",
        "kracr.azurecr.io/web:differs",
        "ghcr.io/devopskev/web:synced",
    ];
    let images = images.map(|image| pod.image(image, false));
    assert!(pod.pull_secrets(&images).is_empty());
}

#[test]
fn spelling_of_a_registry_does_not_matter() {
    let to_fallback = table(vec![route(apps(), Side::Fallback, all_verdicts())]);
    let mut odd = mirror("odd", ("KRACR.azurecr.io:443", ""), ("ghcr.io", "devopskev"));
    odd.sides.primary.image_pull_secrets.clear();
    let oddly_configured = table(vec![route(odd, Side::Fallback, all_verdicts())]);
    for table in [&to_fallback, &oddly_configured] {
        for registry in [
            "kracr.azurecr.io",
            "KRACR.azurecr.io",
            "kracr.azurecr.io:443",
            "Kracr.AzureCR.io:443",
        ] {
            let image = format!("{registry}/web:synced");
            assert_eq!(
                decide(table, &image),
                "ghcr.io/devopskev/web:synced (Rewritten)",
                "{image}"
            );
        }
        check(
            table,
            &[
                ("GHCR.IO/devopskev/web:synced", "active"),
                ("kracr.azurecr.io:5000/web:synced", "untouched"),
                ("kracr.westeurope.data.azurecr.io/web:synced", "untouched"),
            ],
        );
    }
}

#[test]
fn a_listed_repository_moves_between_its_two_names() {
    let policy = listing(apps(), &[("web", "teams/web", "devopskev/site")]);
    let to_fallback = table(vec![route(policy.clone(), Side::Fallback, all_verdicts())]);
    check(
        &to_fallback,
        &[
            (
                "kracr.azurecr.io/teams/web:synced",
                "ghcr.io/devopskev/site:synced (Rewritten)",
            ),
            ("ghcr.io/devopskev/site:synced", "active"),
            ("kracr.azurecr.io/web:synced", "untouched"),
        ],
    );
    let to_primary = table(vec![route(policy, Side::Primary, all_verdicts())]);
    check(
        &to_primary,
        &[(
            "ghcr.io/devopskev/site:synced",
            "kracr.azurecr.io/teams/web:synced (Rewritten)",
        )],
    );
}

#[test]
fn docker_hub_moves_by_all_of_its_names_and_back_in_full() {
    let policy = mirror("hub", ("docker.io", ""), ("ghcr.io", "hub"));
    let to_fallback = table(vec![route(policy.clone(), Side::Fallback, Evidence::default())]);
    for image in [
        "nginx:1",
        "library/nginx:1",
        "docker.io/nginx:1",
        "index.docker.io/library/nginx:1",
    ] {
        assert_eq!(
            decide(&to_fallback, image),
            "ghcr.io/hub/library/nginx:1 (Unverified)",
            "{image}"
        );
    }
    let to_primary = table(vec![route(policy, Side::Primary, Evidence::default())]);
    check(
        &to_primary,
        &[
            ("nginx:1", "active"),
            ("ghcr.io/hub/library/nginx:1", "docker.io/library/nginx:1 (Unverified)"),
            ("ghcr.io/hub/grafana/grafana", "docker.io/grafana/grafana (Unverified)"),
            // Docker Hub would read library/ into it.
            ("ghcr.io/hub/nginx:1", "kept (NoCounterpart)"),
        ],
    );
}

#[test]
fn a_path_that_grows_too_long_stays() {
    let table = table(vec![route(apps(), Side::Fallback, Evidence::default())]);
    let fits = "a".repeat(245);
    let long = format!("kracr.azurecr.io/{fits}a");
    let moved = format!("ghcr.io/devopskev/{fits} (Unverified)");
    check(
        &table,
        &[
            (&format!("kracr.azurecr.io/{fits}"), &moved),
            (&long, "kept (NoCounterpart)"),
        ],
    );
}

fn check_pods(table: &RouteTable, cases: &[(&str, PodFacts, &str)]) {
    for (name, facts, expected) in cases {
        let pod = table.pod(facts);
        assert_eq!(
            words(&pod.image("kracr.azurecr.io/web:synced", false)),
            *expected,
            "{name}"
        );
        assert_eq!(words(&pod.image("nginx", false)), "untouched", "{name}");
    }
}

const REWRITTEN: &str = "ghcr.io/devopskev/web:synced (Rewritten)";

#[test]
fn each_kind_of_excluded_pod_is_kept_and_says_why() {
    let labels = |value: &str| Labels::from([(REWRITE_LABEL.to_owned(), value.to_owned())]);
    let namespaces = BTreeMap::from([
        ("off".to_owned(), labels("disabled")),
        ("on".to_owned(), labels("enabled")),
        ("default".to_owned(), Labels::new()),
    ]);
    let table = RouteTable::new(
        vec![route(apps(), Side::Fallback, all_verdicts())],
        Arc::new(namespaces),
        Arc::new(BTreeSet::from(["monitoring".to_owned()])),
    );
    let disabled: &[_] = &[(REWRITE_LABEL, "disabled")];
    let enabled: &[_] = &[(REWRITE_LABEL, "enabled")];
    let pod = |labels: &'static [(&'static str, &'static str)], namespace| PodFacts {
        namespace,
        labels,
        ..PLAIN
    };
    let by_pod = "kept (ExcludedByPodLabel)";
    let by_namespace = "kept (ExcludedByNamespaceLabel)";
    check_pods(
        &table,
        &[
            ("plain", PLAIN, REWRITTEN),
            (
                "static",
                PodFacts {
                    is_static: true,
                    ..pod(disabled, "off")
                },
                "kept (ExcludedStaticPod)",
            ),
            ("label", pod(disabled, "off"), by_pod),
            ("other value", pod(enabled, "default"), REWRITTEN),
            ("namespace", pod(&[], "off"), by_namespace),
            ("no way back in", pod(enabled, "off"), by_namespace),
            ("other namespace", pod(&[], "on"), REWRITTEN),
            (
                "excluded namespace",
                pod(enabled, "monitoring"),
                "kept (ExcludedNamespace)",
            ),
            ("kube-system", pod(&[], "kube-system"), "kept (ExcludedNamespace)"),
            (
                "operator that compares",
                pod(&[("application", "spilo")], "on"),
                "kept (ExcludedByPodSelector)",
            ),
        ],
    );
}

#[test]
fn a_mirror_may_rewrite_the_pods_of_other_controllers() {
    let mut policy = apps();
    policy.rewrite.controller_owned = ControllerOwnedPods::Rewrite;
    let hub = mirror("hub", ("docker.io", ""), ("quay.io", "hub"));
    let routes = vec![
        route(policy, Side::Fallback, all_verdicts()),
        route(hub, Side::Fallback, Evidence::default()),
    ];
    let table = table(routes);
    let owner = Some(Owner {
        api_version: "postgresql.cnpg.io/v1",
        kind: "Cluster",
    });
    let pod = table.pod(&PodFacts { owner, ..PLAIN });
    assert_eq!(
        words(&pod.image("kracr.azurecr.io/web:synced", false)),
        "ghcr.io/devopskev/web:synced (Rewritten)"
    );
    assert_eq!(words(&pod.image("nginx", false)), "kept (ExcludedControllerOwned)");
}

#[test]
fn only_pods_of_selected_namespaces_are_rewritten() {
    let mut policy = apps();
    let requirement = |key: &str, value: &str| Requirement {
        key: key.into(),
        operator: Operator::In(vec![value.into()]),
    };
    policy.namespaces = Selector {
        requirements: vec![requirement("team", "a")],
    };
    let mut by_name = mirror("by-name", ("docker.io", ""), ("quay.io", "hub"));
    by_name.namespaces = Selector {
        requirements: vec![requirement("kubernetes.io/metadata.name", "unseen")],
    };
    let labels = |team: &str| Labels::from([("team".to_owned(), team.to_owned())]);
    let namespaces = BTreeMap::from([("a".to_owned(), labels("a")), ("b".to_owned(), labels("b"))]);
    let routes = vec![
        route(policy, Side::Fallback, all_verdicts()),
        route(by_name, Side::Fallback, Evidence::default()),
    ];
    let table = RouteTable::new(routes, Arc::new(namespaces), Arc::default());
    let decide = |namespace, image| words(&table.pod(&PodFacts { namespace, ..PLAIN }).image(image, false));
    assert_eq!(
        decide("a", "kracr.azurecr.io/web:synced"),
        "ghcr.io/devopskev/web:synced (Rewritten)"
    );
    assert_eq!(decide("b", "kracr.azurecr.io/web:synced"), "untouched");
    // A namespace that was not seen yet has the one label that every namespace has. It may have opted out.
    assert_eq!(decide("unseen", "kracr.azurecr.io/web:synced"), "untouched");
    assert_eq!(decide("unseen", "nginx"), "kept (NamespaceUnknown)");
    assert_eq!(decide("a", "nginx"), "untouched");
}

#[test]
fn a_suspended_mirror_does_nothing() {
    let mut policy = apps();
    policy.suspended = true;
    let table = table(vec![route(policy, Side::Fallback, all_verdicts())]);
    check(&table, &[("kracr.azurecr.io/web:synced", "untouched")]);
    assert!(table.routes().is_empty());
}

#[test]
fn pull_secrets_of_both_sides_are_given_once_and_in_order() {
    let mut hub = mirror("hub", ("docker.io", ""), ("ghcr.io", "hub"));
    hub.sides.primary.image_pull_secrets = vec!["hub-1".into(), "hub-2".into()];
    let routes = vec![
        route(apps(), Side::Primary, all_verdicts()),
        route(hub, Side::Primary, Evidence::default()),
    ];
    let table = table(routes);
    let secrets = |facts: &PodFacts, images: &[&str]| {
        let pod = table.pod(facts);
        let images: Vec<_> = images.iter().map(|image| pod.image(image, false)).collect();
        pod.pull_secrets(&images).join(",")
    };
    let cases: &[(&str, &[&str], &str)] = &[
        ("no mirror", &["quay.io/x/y", "ghcr.io/other/x"], ""),
        (
            "already on the active side",
            &["kracr.azurecr.io/web:synced"],
            "kracr-pull,ghcr-pull",
        ),
        ("kept", &["ghcr.io/devopskev/web:differs"], "kracr-pull,ghcr-pull"),
        (
            "two mirrors",
            &["nginx", "kracr.azurecr.io/web", "nginx:2"],
            "hub-1,hub-2,ghcr-pull,kracr-pull",
        ),
    ];
    for (name, images, expected) in cases {
        assert_eq!(secrets(&PLAIN, images), *expected, "{name}");
    }
    let excluded = PodFacts {
        labels: &[(REWRITE_LABEL, "disabled")],
        ..PLAIN
    };
    assert_eq!(secrets(&excluded, &["kracr.azurecr.io/web:synced", "nginx"]), "");
}

#[test]
fn a_decision_names_its_mirror() {
    let table = table(vec![route(apps(), Side::Fallback, all_verdicts())]);
    let pod = table.pod(&PLAIN);
    let id = apps().id;
    for image in [
        "kracr.azurecr.io/web:synced",
        "kracr.azurecr.io/web:differs",
        "ghcr.io/devopskev/web:1",
    ] {
        let route = pod.image(image, false).route().unwrap();
        assert_eq!((&route.policy.id, route.epoch), (&id, 7), "{image}");
    }
    assert!(pod.image("nginx", false).route().is_none());
    assert_eq!(table.route(&id).map(|route| route.epoch), Some(7));
}
