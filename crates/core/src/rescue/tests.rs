use super::*;
use crate::evidence::Evidence;
use crate::health::UnknownReason;
use crate::policy::{MirrorPolicy, UnverifiedTags};
use crate::routes::Owner;
use crate::routes::fixtures::{apps, evidence, route, table};

const UP: Availability = Availability::Available;
const REFUSED: Availability = Availability::Unavailable(Unavailable::ConnectionFailed);
const HANGS: Availability = Availability::Unavailable(Unavailable::Timeout);
const UNCLEAR: Availability = Availability::Unknown(UnknownReason::RateLimited);
const DIGEST: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const NOT_STARTED: ContainerState = ContainerState::NotStarted;
const PRIMARY: &str = "kracr.azurecr.io/web:synced";
const FALLBACK: &str = "ghcr.io/devopskev/web:synced";

fn records() -> Evidence {
    evidence(&[
        ("web", "synced", Verdict::InSync),
        ("web", DIGEST, Verdict::InSync),
        ("web", "only-primary", Verdict::MissingOnFallback),
        ("web", "only-fallback", Verdict::MissingOnPrimary),
        ("web", "differs", Verdict::Mismatched),
    ])
}

fn snapshot(policy: MirrorPolicy, active: Side) -> RouteTable {
    table(vec![route(policy, active, records())])
}

fn waiting<'a>(reason: &'a str, message: &'a str) -> ContainerState<'a> {
    ContainerState::Waiting { reason, message }
}

fn container<'a>(image: &'a str, state: ContainerState<'a>) -> WaitingContainer<'a> {
    WaitingContainer {
        kind: ContainerKind::App,
        index: 0,
        name: "app",
        image,
        pull_policy_never: false,
        state,
        started_before: false,
    }
}

/// A pod of a ReplicaSet that has all pull secrets.
fn pod<'a>(containers: &[WaitingContainer<'a>]) -> WaitingPod<'a> {
    let owner_kind = Some(Owner {
        api_version: "apps/v1",
        kind: "ReplicaSet",
    });
    WaitingPod {
        facts: PodFacts {
            namespace: "default",
            owner_kind,
            ..PodFacts::default()
        },
        containers: containers.to_vec(),
        image_volumes: Vec::new(),
        pull_secrets: vec!["kracr-pull", "ghcr-pull"],
        owner_is_replica_set: true,
    }
}

/// The plan in words, one line for each action.
fn planned(pod: &WaitingPod<'_>, table: &RouteTable, primary: Availability, fallback: Availability) -> Vec<String> {
    let words = |action: &RescueAction| match action {
        RescueAction::Patch {
            kind,
            index,
            name,
            from,
            to,
            mirror,
        } => {
            format!("{mirror}: {kind:?} {index} {name}: {from} -> {to}")
        }
        RescueAction::Replace { reason } => format!("replace: {reason}"),
        RescueAction::Report(report) => format!("{report:?}"),
    };
    plan(pod, table, &|_| Some(Sides { primary, fallback }))
        .iter()
        .map(words)
        .collect()
}

/// Where the one container of a pod is sent, if anywhere.
fn sent(image: &str, table: &RouteTable, primary: Availability, fallback: Availability) -> Option<String> {
    let pod = pod(&[container(image, waiting("ImagePullBackOff", ""))]);
    match plan(&pod, table, &|_| Some(Sides { primary, fallback })).as_slice() {
        [] => None,
        [RescueAction::Patch { from, to, .. }] if from == image => Some(to.clone()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_image_is_sent_from_a_side_that_is_down_to_one_that_works() {
    use Side::{Fallback, Primary};
    let cases = [
        ("failed over", Fallback, REFUSED, UP, true),
        ("failed over, the fallback unclear", Fallback, REFUSED, UNCLEAR, true),
        ("not yet flipped", Primary, REFUSED, UP, true),
        (
            "not yet flipped, the fallback unclear",
            Primary,
            REFUSED,
            UNCLEAR,
            false,
        ),
        ("both down", Fallback, REFUSED, REFUSED, false),
        ("both down, not flipped", Primary, REFUSED, HANGS, false),
        ("recovered", Fallback, UP, UP, false),
        ("unclear", Fallback, UNCLEAR, UP, false),
        ("all is well", Primary, UP, UP, false),
    ];
    for (name, active, primary, fallback, expected) in cases {
        let table = snapshot(apps(), active);
        let to = sent(PRIMARY, &table, primary, fallback);
        assert_eq!(to.as_deref(), expected.then_some(FALLBACK), "{name}");
    }
    let table = snapshot(apps(), Primary);
    assert_eq!(
        sent(FALLBACK, &table, UP, REFUSED).as_deref(),
        Some(PRIMARY),
        "the other way round"
    );
}

#[test]
fn an_image_is_sent_only_where_it_is_and_equal() {
    let table = snapshot(apps(), Side::Fallback);
    let digest = format!("kracr.azurecr.io/web@{DIGEST}");
    let digest_moved = format!("ghcr.io/devopskev/web@{DIGEST}");
    let cases = [
        (PRIMARY, Some(FALLBACK)),
        ("kracr.azurecr.io/web:unknown", Some("ghcr.io/devopskev/web:unknown")),
        (
            "kracr.azurecr.io/web:only-fallback",
            Some("ghcr.io/devopskev/web:only-fallback"),
        ),
        ("kracr.azurecr.io/web:only-primary", None),
        ("kracr.azurecr.io/web:differs", None),
        (&digest, Some(&digest_moved)),
        ("nginx", None),
        ("not a reference", None),
    ];
    for (image, expected) in cases {
        assert_eq!(sent(image, &table, REFUSED, UP).as_deref(), expected, "{image}");
    }
}

#[test]
fn a_strict_mirror_rescues_only_what_is_proven_equal() {
    let mut policy = apps();
    policy.rewrite.unverified = UnverifiedTags::Keep;
    let table = snapshot(policy, Side::Fallback);
    assert_eq!(sent(PRIMARY, &table, REFUSED, UP).as_deref(), Some(FALLBACK));
    assert_eq!(sent("kracr.azurecr.io/web:unknown", &table, REFUSED, UP), None);
}

#[test]
fn a_tag_that_its_side_is_known_to_lack_is_sent_to_the_other() {
    let lacking = "kracr.azurecr.io/web:only-fallback";
    let moved = Some("ghcr.io/devopskev/web:only-fallback");
    let cases = [
        ("the other side answers", Side::Primary, UP, UP, moved),
        ("the other side is active", Side::Fallback, UP, UNCLEAR, moved),
        ("the other side is unclear", Side::Primary, UP, UNCLEAR, None),
        ("the other side is down", Side::Fallback, UP, REFUSED, None),
    ];
    for (name, active, primary, fallback, expected) in cases {
        let table = snapshot(apps(), active);
        assert_eq!(sent(lacking, &table, primary, fallback).as_deref(), expected, "{name}");
    }
    let table = snapshot(apps(), Side::Primary);
    // The digest says that both sides have the content, whatever became of the tag.
    assert_eq!(sent(&format!("{lacking}@{DIGEST}"), &table, UP, UP), None);
    let nothing_known = |_: &MirrorId| None;
    let pod = pod(&[container(lacking, NOT_STARTED)]);
    assert_eq!(plan(&pod, &table, &nothing_known), []);
    assert_eq!(plan(&pod, &snapshot(apps(), Side::Fallback), &nothing_known).len(), 1);
}

#[test]
fn only_containers_that_wait_for_an_image_are_patched() {
    let table = snapshot(apps(), Side::Fallback);
    let cases = [
        (NOT_STARTED, true),
        (waiting("", ""), true),
        (waiting("ContainerCreating", ""), true),
        (waiting("PodInitializing", ""), true),
        (waiting("ErrImagePull", ""), true),
        (waiting("ImagePullBackOff", "Back-off"), true),
        (waiting("CrashLoopBackOff", ""), false),
        (waiting("CreateContainerConfigError", ""), false),
        (waiting("ErrImageNeverPull", ""), false),
        (ContainerState::Running, false),
        (ContainerState::Terminated, false),
    ];
    for (state, patched) in cases {
        let plan = planned(&pod(&[container(PRIMARY, state)]), &table, REFUSED, UP);
        assert_eq!(plan.len(), usize::from(patched), "{state:?}: {plan:?}");
    }
    let never = WaitingContainer {
        pull_policy_never: true,
        ..container(PRIMARY, NOT_STARTED)
    };
    assert_eq!(planned(&pod(&[never]), &table, REFUSED, UP), [""; 0]);
    let crashed = WaitingContainer {
        started_before: true,
        ..container(PRIMARY, waiting("ErrImagePull", ""))
    };
    assert_eq!(planned(&pod(&[crashed]), &table, REFUSED, UP).len(), 1);
}

#[test]
fn every_waiting_container_of_a_pod_is_patched_in_its_own_list() {
    let init = WaitingContainer {
        kind: ContainerKind::Init,
        index: 1,
        name: "migrate",
        ..container("kracr.azurecr.io/tools:1", waiting("ErrImagePull", ""))
    };
    let app = container(PRIMARY, waiting("PodInitializing", ""));
    let elsewhere = WaitingContainer {
        index: 1,
        name: "proxy",
        ..container("nginx", waiting("PodInitializing", ""))
    };
    let there = WaitingContainer {
        index: 2,
        name: "there",
        ..container(FALLBACK, waiting("PodInitializing", ""))
    };
    let plan = planned(
        &pod(&[init, app, elsewhere, there]),
        &snapshot(apps(), Side::Fallback),
        REFUSED,
        UP,
    );
    assert_eq!(
        plan,
        [
            "apps: Init 1 migrate: kracr.azurecr.io/tools:1 -> ghcr.io/devopskev/tools:1",
            "apps: App 0 app: kracr.azurecr.io/web:synced -> ghcr.io/devopskev/web:synced",
        ]
    );
}

#[test]
fn excluded_pods_and_mirrors_without_rescue_are_left_alone() {
    let table = snapshot(apps(), Side::Fallback);
    let plain = pod(&[container(PRIMARY, NOT_STARTED)]);
    let with = |facts: PodFacts<'static>| WaitingPod { facts, ..plain.clone() };
    let database = Owner {
        api_version: "postgresql.cnpg.io/v1",
        kind: "Cluster",
    };
    let excluded = [
        PodFacts {
            is_static: true,
            ..plain.facts
        },
        PodFacts {
            rewrite_label: Some("disabled"),
            ..plain.facts
        },
        PodFacts {
            owner_kind: Some(database),
            ..plain.facts
        },
    ];
    assert_eq!(planned(&plain, &table, REFUSED, UP).len(), 1);
    for facts in excluded {
        assert_eq!(planned(&with(facts), &table, REFUSED, UP), [""; 0], "{facts:?}");
    }
    let mut off = apps();
    off.rescue = RescueMode::Off;
    assert_eq!(planned(&plain, &snapshot(off, Side::Fallback), REFUSED, UP), [""; 0]);
}

#[test]
fn a_rescued_pod_needs_no_second_rescue() {
    for active in Side::ALL {
        for (primary, fallback) in [
            (REFUSED, UP),
            (UP, REFUSED),
            (UP, UP),
            (HANGS, UNCLEAR),
            (UNCLEAR, HANGS),
        ] {
            let table = snapshot(apps(), active);
            for tag in ["synced", "unknown", "only-primary", "only-fallback", "differs"] {
                for repository in ["kracr.azurecr.io/web", "ghcr.io/devopskev/web"] {
                    let image = format!("{repository}:{tag}");
                    let Some(moved) = sent(&image, &table, primary, fallback) else {
                        continue;
                    };
                    assert_eq!(
                        sent(&moved, &table, primary, fallback),
                        None,
                        "{image} {active} {primary:?} {fallback:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn a_missing_pull_secret_is_reported_once_beside_the_patches() {
    let second = WaitingContainer {
        index: 1,
        name: "second",
        ..container(PRIMARY, NOT_STARTED)
    };
    let mut pod = pod(&[container(PRIMARY, NOT_STARTED), second]);
    pod.pull_secrets = vec!["kracr-pull"];
    let plan = planned(&pod, &snapshot(apps(), Side::Fallback), REFUSED, UP);
    assert_eq!(plan.len(), 3, "{plan:?}");
    assert_eq!(plan[2], r#"MissingPullSecret { name: "ghcr-pull" }"#);
}

#[test]
fn an_ephemeral_container_is_reported() {
    let debug = WaitingContainer {
        kind: ContainerKind::Ephemeral,
        name: "debug",
        ..container(PRIMARY, waiting("ErrImagePull", ""))
    };
    let plan = planned(&pod(&[debug]), &snapshot(apps(), Side::Fallback), REFUSED, UP);
    assert_eq!(
        plan,
        [r#"EphemeralContainerStuck { name: "debug", reference: "kracr.azurecr.io/web:synced" }"#]
    );
}

/// What containerd 2 and the kubelet say for a volume whose registry refuses connections.
const VOLUME_FAILED: &str = r#"Back-off pulling image "kracr.azurecr.io/data:1": ErrImagePull: failed to pull and unpack image "kracr.azurecr.io/data:1": failed to resolve image: failed to do request: Head "https://kracr.azurecr.io/v2/data/manifests/1": dial tcp 10.98.1.2:443: connect: connection refused"#;

#[test]
fn a_container_is_not_patched_for_the_failure_of_an_image_volume() {
    let table = snapshot(apps(), Side::Fallback);
    let mut with_volume = pod(&[container(PRIMARY, waiting("ImagePullBackOff", VOLUME_FAILED))]);
    with_volume.image_volumes = vec!["kracr.azurecr.io/data:1"];
    let stuck = r#"ImageVolumeStuck { reference: "kracr.azurecr.io/data:1" }"#;
    assert_eq!(planned(&with_volume, &table, REFUSED, UP), [stuck]);
    // An old message about a former image of the container itself does not stop a rescue.
    let former = pod(&[container(PRIMARY, waiting("ImagePullBackOff", VOLUME_FAILED))]);
    assert_eq!(planned(&former, &table, REFUSED, UP).len(), 1);
    // The container's own image under the name that runtimes write.
    let own = r#"Back-off pulling image "kracr.azurecr.io/web:synced""#;
    with_volume.containers = vec![container(PRIMARY, waiting("ImagePullBackOff", own))];
    let plan = planned(&with_volume, &table, REFUSED, UP);
    assert_eq!(plan.len(), 2, "{plan:?}");
    assert_eq!(plan[1], stuck);
}

#[test]
fn an_image_volume_is_stuck_only_while_something_waits_for_it() {
    let table = snapshot(apps(), Side::Fallback);
    let elsewhere = "nginx";
    let running = WaitingContainer {
        started_before: true,
        ..container(elsewhere, ContainerState::Running)
    };
    let crashed = WaitingContainer {
        started_before: true,
        ..container(elsewhere, waiting("ErrImagePull", VOLUME_FAILED))
    };
    let cases = [
        (
            "creating",
            container(elsewhere, waiting("ContainerCreating", "")),
            "kracr.azurecr.io/data:1",
            REFUSED,
            1,
        ),
        ("named", crashed, "kracr.azurecr.io/data:1", REFUSED, 1),
        ("running", running, "kracr.azurecr.io/data:1", REFUSED, 0),
        (
            "on the side that works",
            container(elsewhere, NOT_STARTED),
            "ghcr.io/devopskev/data:1",
            REFUSED,
            0,
        ),
        (
            "all is well",
            container(elsewhere, NOT_STARTED),
            "kracr.azurecr.io/data:1",
            UP,
            0,
        ),
    ];
    for (name, container, volume, primary, reports) in cases {
        let mut pod = pod(&[container]);
        pod.image_volumes = vec![volume];
        let plan = planned(&pod, &table, primary, UP);
        assert_eq!(plan.len(), reports, "{name}: {plan:?}");
    }
}

#[test]
fn a_container_that_runs_shows_that_the_image_volumes_are_there() {
    let running = container("nginx", ContainerState::Running);
    let creating = WaitingContainer {
        index: 1,
        name: "second",
        ..container("nginx", waiting("ContainerCreating", ""))
    };
    let mut pod = pod(&[running, creating]);
    pod.image_volumes = vec!["kracr.azurecr.io/data:1"];
    assert_eq!(planned(&pod, &snapshot(apps(), Side::Fallback), REFUSED, UP), [""; 0]);
}

fn replacing() -> MirrorPolicy {
    MirrorPolicy {
        rescue: RescueMode::PatchOrReplace,
        repair: crate::policy::RepairPolicy::default(),
        ..apps()
    }
}

/// `replace`, `patch` or `report` for each action.
fn kinds(pod: &WaitingPod<'_>, table: &RouteTable, primary: Availability) -> Vec<&'static str> {
    let kind = |action: &RescueAction| match action {
        RescueAction::Patch { .. } => "patch",
        RescueAction::Replace { .. } => "replace",
        RescueAction::Report(_) => "report",
    };
    plan(pod, table, &|_| Some(Sides { primary, fallback: UP }))
        .iter()
        .map(kind)
        .collect()
}

#[test]
fn a_pod_whose_pull_hangs_is_replaced_where_that_is_allowed_and_helps() {
    let creating = container(PRIMARY, waiting("ContainerCreating", ""));
    let second = |state| WaitingContainer {
        index: 1,
        name: "second",
        ..container("nginx", state)
    };
    let init = |image, state| WaitingContainer {
        kind: ContainerKind::Init,
        ..container(image, state)
    };
    let plain = pod(&[creating]);
    let orphan = WaitingPod {
        owner_is_replica_set: false,
        ..plain.clone()
    };
    let restarted = pod(&[WaitingContainer {
        started_before: true,
        ..creating
    }]);
    let half_running = pod(&[creating, second(ContainerState::Running)]);
    let initialized = pod(&[init("nginx", ContainerState::Terminated), creating]);
    let not_its_turn = pod(&[
        init("nginx", waiting("ContainerCreating", "")),
        container(PRIMARY, waiting("PodInitializing", "")),
    ]);
    let init_hangs = pod(&[init(PRIMARY, waiting("PodInitializing", ""))]);
    let unscheduled = pod(&[container(PRIMARY, NOT_STARTED)]);
    let cases = [
        ("hangs", &plain, HANGS, "replace"),
        ("an init container hangs", &init_hangs, HANGS, "replace"),
        ("fails at once", &plain, REFUSED, "patch"),
        ("no ReplicaSet", &orphan, HANGS, "patch"),
        ("started before", &restarted, HANGS, "patch"),
        ("another container runs", &half_running, HANGS, "patch"),
        ("an init container has run", &initialized, HANGS, "patch"),
        ("not pulled yet", &not_its_turn, HANGS, "patch"),
        ("no kubelet has seen it", &unscheduled, HANGS, "patch"),
    ];
    let table = snapshot(replacing(), Side::Fallback);
    for (name, pod, primary, expected) in cases {
        assert_eq!(kinds(pod, &table, primary), [expected], "{name}");
    }
    assert_eq!(
        kinds(&plain, &snapshot(apps(), Side::Fallback), HANGS),
        ["patch"],
        "not allowed"
    );
    let reason = planned(&plain, &table, HANGS, UP);
    assert_eq!(reason, ["replace: kracr.azurecr.io is unavailable: Timeout"]);
}

#[test]
fn a_hanging_pod_that_may_be_replaced_waits_for_the_flip_that_is_due() {
    let plain = pod(&[container(PRIMARY, waiting("ContainerCreating", ""))]);
    // A new pod would be sent to the dead side again, and a patch would leave this one with its hanging pull: the flip that
    // is due comes first.
    let nothing: [&str; 0] = [];
    assert_eq!(
        kinds(&plain, &snapshot(replacing(), Side::Primary), HANGS),
        nothing,
        "not flipped"
    );
    let mut held = replacing();
    held.failover.active = Tiller::Fixed(Side::Primary);
    assert_eq!(
        kinds(&plain, &snapshot(held, Side::Primary), HANGS),
        ["patch"],
        "no flip is due"
    );
}

#[test]
fn a_pod_with_a_stuck_image_volume_is_replaced_where_that_is_allowed() {
    let mut pod = pod(&[container("nginx", waiting("ErrImagePull", VOLUME_FAILED))]);
    pod.image_volumes = vec!["kracr.azurecr.io/data:1"];
    assert_eq!(
        kinds(&pod, &snapshot(replacing(), Side::Fallback), REFUSED),
        ["replace"]
    );
    let nothing: [&str; 0] = [];
    assert_eq!(kinds(&pod, &snapshot(replacing(), Side::Primary), REFUSED), nothing);
    assert_eq!(kinds(&pod, &snapshot(apps(), Side::Fallback), REFUSED), ["report"]);
}

#[test]
fn the_image_that_a_pull_failure_names_is_found() {
    let containerd = r#"rpc error: code = NotFound desc = failed to pull and unpack image "docker.io/library/x:latest": docker.io/library/x:latest: not found"#;
    let cases = [
        (VOLUME_FAILED, Some("kracr.azurecr.io/data:1")),
        (containerd, Some("docker.io/library/x:latest")),
        (r#"Failed to pull image "a/b": EOF"#, Some("a/b")),
        (r#"Back-off pulling image "cut"#, None),
        ("pull QPS exceeded", None),
        ("", None),
    ];
    for (message, image) in cases {
        assert_eq!(message::named_image(message), image, "{message}");
    }
}

#[test]
fn one_image_is_recognized_by_all_of_its_names() {
    let digest = format!("x:1@{DIGEST}");
    let without_tag = format!("docker.io/library/x@{DIGEST}");
    let cases = [
        ("x", "docker.io/library/x:latest", true),
        ("x:1", "index.docker.io/x:1", true),
        (&digest, &without_tag, true),
        ("x:1", "x:2", false),
        ("x:1", &without_tag, false),
        ("ghcr.io/x", "x", false),
        ("not a reference", "not a reference", true),
        ("not a reference", "x", false),
    ];
    for (a, b, same) in cases {
        assert_eq!(message::same_image(a, b), same, "{a} and {b}");
    }
}
