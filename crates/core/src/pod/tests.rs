use super::*;
use crate::policy::{ControllerOwnedPods, OwnerKind};
use crate::selector::{Operator, Requirement, Selector};

const PLAIN: PodFacts = PodFacts {
    namespace: "default",
    labels: &[],
    owner: None,
    is_static: false,
};

fn owner<'a>(api_version: &'a str, kind: &'a str) -> Owner<'a> {
    Owner { api_version, kind }
}

fn labels(value: &str) -> Labels {
    Labels::from([(REWRITE_LABEL.to_owned(), value.to_owned())])
}

fn checked(pod: &PodFacts<'_>, labels: &Labels, excluded: bool, rewrite: &RewritePolicy) -> Option<Exclusion> {
    eligibility(pod, &NamespaceFacts { labels, excluded }, rewrite)
}

#[test]
fn eligibility_asks_persons_before_owners() {
    let disabled: &[(&str, &str)] = &[("app", "web"), (REWRITE_LABEL, REWRITE_DISABLED)];
    let enabled: &[(&str, &str)] = &[(REWRITE_LABEL, "enabled")];
    let spilo: &[(&str, &str)] = &[("application", "spilo")];
    let foreign = Some(owner("postgresql.cnpg.io/v1", "Cluster"));
    let pod = |labels, owner, is_static| PodFacts {
        labels,
        owner,
        is_static,
        ..PLAIN
    };
    let (off, on) = (labels(REWRITE_DISABLED), labels("enabled"));
    let cases = [
        (pod(disabled, foreign, true), &off, true, Some(Exclusion::StaticPod)),
        (pod(disabled, foreign, false), &off, true, Some(Exclusion::Namespace)),
        (pod(disabled, foreign, false), &off, false, Some(Exclusion::PodLabel)),
        (pod(spilo, foreign, false), &off, false, Some(Exclusion::NamespaceLabel)),
        (pod(enabled, None, false), &off, false, Some(Exclusion::NamespaceLabel)),
        (pod(spilo, foreign, false), &on, false, Some(Exclusion::PodSelector)),
        (
            pod(enabled, foreign, false),
            &on,
            false,
            Some(Exclusion::ControllerOwned),
        ),
        (pod(enabled, None, false), &on, false, None),
        (PLAIN, &Labels::new(), false, None),
    ];
    for (facts, namespace, excluded, expected) in cases {
        let found = checked(&facts, namespace, excluded, &RewritePolicy::default());
        assert_eq!(found, expected, "{facts:?}");
    }
}

#[test]
fn eligibility_knows_built_in_owners_by_group_and_kind() {
    let built_in = [
        owner("apps/v1", "ReplicaSet"),
        owner("apps/v1", "StatefulSet"),
        owner("apps/v1", "DaemonSet"),
        owner("batch/v1", "Job"),
        owner("v1", "ReplicationController"),
    ];
    let others = [
        owner("apps.kruise.io/v1beta1", "StatefulSet"),
        owner("v1", "ReplicaSet"),
        owner("v1", "Node"),
        owner("v1", "Service"),
        owner("", ""),
    ];
    let rewritable = |owner| {
        let pod = PodFacts {
            owner: Some(owner),
            ..PLAIN
        };
        checked(&pod, &Labels::new(), false, &RewritePolicy::default()).is_none()
    };
    assert!(built_in.into_iter().all(rewritable));
    assert!(!others.into_iter().any(rewritable));
}

#[test]
fn eligibility_follows_the_mirror_for_owners_and_selectors() {
    let pod = PodFacts {
        labels: &[("tier", "batch")],
        owner: Some(owner("tekton.dev/v1", "TaskRun")),
        ..PLAIN
    };
    let found = |rewrite: &RewritePolicy| checked(&pod, &Labels::new(), false, rewrite);
    let mut rewrite = RewritePolicy::default();
    assert_eq!(found(&rewrite), Some(Exclusion::ControllerOwned));
    rewrite.owner_kinds = vec![OwnerKind {
        api_group: "tekton.dev".to_owned(),
        kind: "TaskRun".to_owned(),
    }];
    assert_eq!(found(&rewrite), None);
    rewrite.owner_kinds.clear();
    rewrite.controller_owned = ControllerOwnedPods::Rewrite;
    assert_eq!(found(&rewrite), None);
    rewrite.exclude_pods = vec![Selector {
        requirements: vec![Requirement {
            key: "tier".to_owned(),
            operator: Operator::In(vec!["batch".to_owned()]),
        }],
    }]
    .into();
    assert_eq!(found(&rewrite), Some(Exclusion::PodSelector));
}

#[test]
fn deciding_owner_is_controller_else_the_first() {
    let (service, job, set) = (
        owner("v1", "Service"),
        owner("batch/v1", "Job"),
        owner("apps/v1", "ReplicaSet"),
    );
    let deciding = |owners: &[(Owner<'static>, bool)]| deciding_owner(owners.iter().copied());
    assert_eq!(deciding(&[]), None);
    assert_eq!(deciding(&[(service, false), (job, false)]), Some(service));
    assert_eq!(deciding(&[(service, false), (set, true), (job, true)]), Some(set));
}

#[test]
fn excluded_namespaces_always_hold_kube_system() {
    let listed = BTreeSet::from(["catamaran".to_owned()]);
    for (namespace, expected) in [
        ("kube-system", true),
        ("catamaran", true),
        ("default", false),
        ("", false),
    ] {
        assert_eq!(is_excluded_namespace(namespace, &listed), expected, "{namespace}");
    }
}

#[test]
fn image_reference_is_none_for_placeholders_and_noise() {
    for image in ["auto", "", "Not A Reference"] {
        assert_eq!(image_reference(image), None, "{image}");
    }
    for image in ["auto:1", "library/auto", "docker.io/library/auto", "automatic", "nginx"] {
        assert!(image_reference(image).is_some(), "{image}");
    }
}

#[test]
fn labels_are_found_by_name() {
    let pod = PodFacts {
        labels: &[("a", "1"), ("b", "2")],
        ..PLAIN
    };
    assert_eq!((pod.label("b"), pod.label("c")), (Some("2"), None));
}
