use super::*;
use crate::mirror::parity::Verdict;
use crate::pod::PodFacts;
use crate::policy::{ActiveSide, ImageGlob, MirrorPolicy, RewriteMode, UnverifiedTags};
use crate::routing::Route;
use crate::routing::fixtures::{apps, evidence, listing, route, table};
use crate::side::Sides;
use crate::tags::TagFilter;

const DIGEST: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const PRIMARY: &str = "kracr.azurecr.io/web:synced";
const FALLBACK: &str = "ghcr.io/devopskev/web:synced";
const VOLUME: &str = "kracr.azurecr.io/data:synced";
const CREATING: ContainerState = ContainerState::Creating;
const NOTHING: [String; 0] = [];

const BOTH_UP: Sides<bool> = Sides {
    primary: false,
    fallback: false,
};
const PRIMARY_DOWN: Sides<bool> = Sides {
    primary: true,
    fallback: false,
};
const FALLBACK_DOWN: Sides<bool> = Sides {
    primary: false,
    fallback: true,
};
const BOTH_DOWN: Sides<bool> = Sides {
    primary: true,
    fallback: true,
};

fn mirror(policy: MirrorPolicy, active: Side, unavailable: Sides<bool>) -> Route {
    let records = evidence(&[
        ("web", "synced", Verdict::InSync),
        ("web", DIGEST, Verdict::InSync),
        ("data", "synced", Verdict::InSync),
        ("web", "only-primary", Verdict::MissingOnFallback),
        ("web", "only-fallback", Verdict::MissingOnPrimary),
        ("web", "differs", Verdict::Mismatched),
    ]);
    Route {
        unavailable,
        ..route(policy, active, records)
    }
}

fn snapshot(policy: MirrorPolicy, active: Side, unavailable: Sides<bool>) -> RouteTable {
    table(vec![mirror(policy, active, unavailable)])
}

/// The primary is down, and pods are sent to the fallback.
fn outage() -> RouteTable {
    snapshot(apps(), Side::Fallback, PRIMARY_DOWN)
}

/// The state of a container whose pull of `image` failed with what containerd says of it.
fn failed(image: &str, cause: &str) -> ContainerState {
    let message = format!(
        r#"Back-off pulling image "{image}": ErrImagePull: failed to pull and unpack image "{image}": {cause}"#
    );
    ContainerState::waiting("ImagePullBackOff", &message, image, [])
}

fn unauthorized(image: &str) -> ContainerState {
    failed(image, "unexpected status from HEAD request: 401 Unauthorized")
}

fn refused(image: &str) -> ContainerState {
    failed(image, "dial tcp 10.98.1.2:443: connect: connection refused")
}

fn not_found(image: &str) -> ContainerState {
    failed(image, "failed to resolve reference: not found")
}

fn container(image: &str, state: ContainerState) -> WaitingContainer<'_> {
    WaitingContainer {
        kind: ContainerKind::App,
        index: 0,
        name: "app",
        image,
        pull_policy_never: false,
        state,
        started_before: false,
        repointed: None,
    }
}

const REPLICA_SET: Owner<'_> = Owner {
    api_version: "apps/v1",
    kind: "ReplicaSet",
};

/// A pod of a ReplicaSet on a node, with all pull secrets.
fn pod<'a>(containers: &[WaitingContainer<'a>]) -> WaitingPod<'a> {
    WaitingPod {
        facts: PodFacts {
            namespace: "default",
            owner: Some(REPLICA_SET),
            ..PodFacts::default()
        },
        is_placed: true,
        is_controlled: true,
        containers: containers.to_vec(),
        image_volumes: Vec::new(),
        pull_secrets: vec!["kracr-pull", "ghcr-pull"],
        replacement: Replacement::Possible,
    }
}

fn volume(reference: &str) -> ImageVolume<'_> {
    ImageVolume {
        reference,
        pull_policy_never: false,
    }
}

/// The plan in words, one line for each action.
fn planned(pod: &WaitingPod<'_>, table: &RouteTable) -> Vec<String> {
    planned_with(pod, table, &|_, _| false)
}

fn planned_with(pod: &WaitingPod<'_>, table: &RouteTable, hangs: Hangs<'_>) -> Vec<String> {
    let words = |action: &RescueAction| match action {
        RescueAction::Patch(patch) => {
            let ImagePatch {
                kind, index, name, to, ..
            } = patch;
            format!("{kind:?} {index} {name} -> {to}")
        }
        RescueAction::Replace { mirror, reason } => format!("replace for {mirror}: {reason}"),
        RescueAction::Report(report) => format!("{report:?}"),
    };
    plan(pod, table, hangs).iter().map(words).collect()
}

/// Where the one container of a pod is sent, if anywhere.
fn sent(container: WaitingContainer<'_>, table: &RouteTable) -> Option<String> {
    match plan(&pod(&[container]), table, &|_, _| false).as_slice() {
        [] => None,
        [RescueAction::Patch(patch)] if patch.from == container.image => Some(patch.to.clone()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn image_of_unavailable_side_follows_the_table() {
    use Side::{Fallback, Primary};
    let cases = [
        ("failed over", Fallback, PRIMARY_DOWN, true),
        ("both unavailable", Fallback, BOTH_DOWN, true),
        ("not flipped", Primary, PRIMARY_DOWN, false),
        ("not flipped, both unavailable", Primary, BOTH_DOWN, false),
        ("recovered", Fallback, BOTH_UP, false),
        ("healthy", Primary, BOTH_UP, false),
    ];
    for (name, active, unavailable, expected) in cases {
        let table = snapshot(apps(), active, unavailable);
        for state in [ContainerState::NotStarted, CREATING] {
            let to = sent(container(PRIMARY, state), &table);
            assert_eq!(to.as_deref(), expected.then_some(FALLBACK), "{name}");
        }
    }
    let home = snapshot(apps(), Primary, FALLBACK_DOWN);
    assert_eq!(sent(container(FALLBACK, CREATING), &home).as_deref(), Some(PRIMARY));
}

#[test]
fn image_is_sent_only_where_routing_sends_it() {
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
        ("auto", None),
        ("not a reference", None),
    ];
    for (image, expected) in cases {
        for state in [CREATING, refused(image)] {
            assert_eq!(sent(container(image, state), &outage()).as_deref(), expected, "{image}");
        }
    }
}

#[test]
fn image_that_routing_keeps_is_not_rescued() {
    let mut strict = apps();
    strict.rewrite.unverified = UnverifiedTags::Keep;
    let mut audited = apps();
    audited.rewrite.mode = RewriteMode::Audit;
    let mut excluding = apps();
    excluding.rewrite.exclude_images = vec![ImageGlob::new("kracr.azurecr.io/*").unwrap()];
    let mut filtered = listing(apps(), &[("web", "web", "devopskev/web")]);
    if let crate::policy::Repositories::Listed(rules) = &mut filtered.repositories {
        rules[0].tags = TagFilter::new(&["^v".to_owned()], &[]).unwrap();
    }
    let mut off = apps();
    off.rescue = RescueMode::Off;
    let unknown = "kracr.azurecr.io/web:unknown";
    let cases = [
        ("unverified", strict, unknown),
        ("audit", audited, PRIMARY),
        ("excluded image", excluding, PRIMARY),
        ("tag not selected", filtered, PRIMARY),
        ("rescue is off", off, PRIMARY),
    ];
    for (name, policy, image) in cases {
        let table = snapshot(policy, Side::Fallback, PRIMARY_DOWN);
        assert_eq!(sent(container(image, refused(image)), &table), None, "{name}");
    }
    let unobserved = Route {
        observed: std::sync::Arc::default(),
        ..mirror(apps(), Side::Fallback, PRIMARY_DOWN)
    };
    assert_eq!(
        sent(container(PRIMARY, refused(PRIMARY)), &table(vec![unobserved])),
        None
    );
}

#[test]
fn image_with_pull_policy_never_is_not_rescued() {
    let never = WaitingContainer {
        pull_policy_never: true,
        ..container(PRIMARY, CREATING)
    };
    assert_eq!(sent(never, &outage()), None);
    // Neither is a pod deleted for a volume of that kind.
    let mut with_volume = pod(&[container("nginx", CREATING)]);
    let never = ImageVolume {
        pull_policy_never: true,
        ..volume(VOLUME)
    };
    let table = snapshot(replacing(), Side::Fallback, PRIMARY_DOWN);
    with_volume.image_volumes = vec![never];
    assert_eq!(planned(&with_volume, &table), NOTHING);
    with_volume.image_volumes = vec![volume(VOLUME)];
    assert_eq!(planned(&with_volume, &table).len(), 1);
}

#[test]
fn pinned_side_binds_rescue() {
    let pinned = |side, active| {
        let mut policy = apps();
        policy.failover.active = ActiveSide::Fixed(side);
        snapshot(policy, active, PRIMARY_DOWN)
    };
    let primary = pinned(Side::Primary, Side::Primary);
    assert_eq!(sent(container(PRIMARY, refused(PRIMARY)), &primary), None);
    let lacking = "kracr.azurecr.io/web:only-fallback";
    assert_eq!(sent(container(lacking, not_found(lacking)), &primary), None);
    // Towards the pinned side, whatever its health.
    assert_eq!(
        sent(container(FALLBACK, unauthorized(FALLBACK)), &primary).as_deref(),
        Some(PRIMARY)
    );
    let fallback = pinned(Side::Fallback, Side::Fallback);
    assert_eq!(
        sent(container(PRIMARY, refused(PRIMARY)), &fallback).as_deref(),
        Some(FALLBACK)
    );
}

#[test]
fn tag_that_its_side_lacks_is_sent_to_the_other() {
    let lacking = "kracr.azurecr.io/web:only-fallback";
    let moved = Some("ghcr.io/devopskev/web:only-fallback");
    let cases = [
        ("the other side answers", Side::Primary, BOTH_UP, moved),
        ("the other side is active", Side::Fallback, BOTH_UP, moved),
        ("the other side is down", Side::Primary, FALLBACK_DOWN, None),
    ];
    for (name, active, unavailable, expected) in cases {
        let table = snapshot(apps(), active, unavailable);
        for state in [ContainerState::NotStarted, not_found(lacking)] {
            assert_eq!(sent(container(lacking, state), &table).as_deref(), expected, "{name}");
        }
    }
    // The digest says that both sides have the content, whatever became of the tag.
    let content = format!("{lacking}@{DIGEST}");
    let healthy = snapshot(apps(), Side::Primary, BOTH_UP);
    assert_eq!(sent(container(&content, CREATING), &healthy), None);
}

#[test]
fn pull_failure_on_inactive_side_leads_home_once_an_epoch() {
    let home = snapshot(apps(), Side::Primary, BOTH_UP);
    let failing = container(FALLBACK, unauthorized(FALLBACK));
    assert_eq!(sent(failing, &home).as_deref(), Some(PRIMARY));
    let repointed = |mirror, epoch| WaitingContainer {
        repointed: Some(Repointed { mirror, epoch }),
        ..failing
    };
    assert_eq!(sent(repointed("apps", 7), &home), None, "in this epoch");
    assert_eq!(
        sent(repointed("apps", 6), &home).as_deref(),
        Some(PRIMARY),
        "in an earlier one"
    );
    assert_eq!(
        sent(repointed("base", 7), &home).as_deref(),
        Some(PRIMARY),
        "by another mirror"
    );
    // What is known weighs more than the number of attempts.
    let down = snapshot(apps(), Side::Primary, FALLBACK_DOWN);
    assert_eq!(sent(repointed("apps", 7), &down).as_deref(), Some(PRIMARY));
}

#[test]
fn pull_that_has_not_failed_on_working_side_is_left_alone() {
    let home = snapshot(apps(), Side::Primary, BOTH_UP);
    let former = r#"Back-off pulling image "kracr.azurecr.io/web:synced""#;
    let states = [
        ContainerState::NotStarted,
        CREATING,
        // The message is about the image that it had before it was re-pointed.
        ContainerState::waiting("ImagePullBackOff", former, FALLBACK, []),
    ];
    for state in states {
        assert_eq!(sent(container(FALLBACK, state), &home), None, "{state:?}");
    }
}

#[test]
fn refused_signature_is_not_evaded() {
    let state = ContainerState::waiting("SignatureValidationFailed", "no signature exists", PRIMARY, []);
    assert_eq!(sent(container(PRIMARY, state), &outage()), None);
    let mut with_volume = pod(&[container(
        "nginx",
        failed_for_volume("Source image rejected: no signature"),
    )]);
    with_volume.image_volumes = vec![volume(VOLUME)];
    assert_eq!(planned(&with_volume, &outage()), NOTHING);
}

#[test]
fn only_containers_that_wait_for_an_image_are_patched() {
    let waiting = |reason| ContainerState::waiting(reason, "", PRIMARY, []);
    let cases = [
        (ContainerState::NotStarted, true),
        (waiting(""), true),
        (waiting("ContainerCreating"), true),
        (waiting("PodInitializing"), true),
        (waiting("ErrImagePull"), true),
        (waiting("ImagePullBackOff"), true),
        (waiting("RegistryUnavailable"), true),
        (waiting("CrashLoopBackOff"), false),
        (waiting("CreateContainerConfigError"), false),
        (waiting("ErrImageNeverPull"), false),
        (ContainerState::Running, false),
        (ContainerState::Terminated, false),
    ];
    for (state, patched) in cases {
        let plan = planned(&pod(&[container(PRIMARY, state)]), &outage());
        assert_eq!(plan.len(), usize::from(patched), "{state:?}: {plan:?}");
    }
    let crashed = WaitingContainer {
        started_before: true,
        ..container(PRIMARY, refused(PRIMARY))
    };
    assert_eq!(sent(crashed, &outage()).as_deref(), Some(FALLBACK));
}

#[test]
fn pod_without_a_node_waits_for_no_image() {
    let gated = WaitingPod {
        is_placed: false,
        ..pod(&[container(PRIMARY, ContainerState::NotStarted)])
    };
    assert_eq!(planned(&gated, &outage()), NOTHING);
    assert_eq!(
        planned(&gated, &snapshot(replacing(), Side::Fallback, PRIMARY_DOWN)),
        NOTHING
    );
}

#[test]
fn every_waiting_container_is_patched_in_its_own_list() {
    let tools = "kracr.azurecr.io/tools:1";
    let init = WaitingContainer {
        kind: ContainerKind::Init,
        index: 1,
        name: "migrate",
        ..container(tools, refused(tools))
    };
    let app = container(PRIMARY, CREATING);
    let elsewhere = WaitingContainer {
        index: 1,
        name: "proxy",
        ..container("nginx", CREATING)
    };
    let there = WaitingContainer {
        index: 2,
        name: "there",
        ..container(FALLBACK, CREATING)
    };
    assert_eq!(
        planned(&pod(&[init, app, elsewhere, there]), &outage()),
        [
            "Init 1 migrate -> ghcr.io/devopskev/tools:1",
            "App 0 app -> ghcr.io/devopskev/web:synced",
        ]
    );
}

#[test]
fn pod_that_admission_leaves_alone_is_left_alone() {
    let owner = |api_version, kind| PodFacts {
        owner: Some(Owner { api_version, kind }),
        ..PodFacts::default()
    };
    let cases = [
        ("database", owner("postgresql.cnpg.io/v1", "Cluster")),
        ("virtual cluster", owner("v1", "Service")),
        (
            "static",
            PodFacts {
                is_static: true,
                ..PodFacts::default()
            },
        ),
        (
            "opted out",
            PodFacts {
                labels: &[("catamaran.dev/rewrite", "disabled")],
                ..PodFacts::default()
            },
        ),
        (
            "system",
            PodFacts {
                namespace: "kube-system",
                ..PodFacts::default()
            },
        ),
    ];
    for (name, facts) in cases {
        let pod = WaitingPod {
            facts,
            ..pod(&[container(PRIMARY, refused(PRIMARY))])
        };
        assert_eq!(planned(&pod, &outage()), NOTHING, "{name}");
        assert_eq!(wanted(&pod, &outage()), [], "{name}");
    }
}

#[test]
fn rescued_pod_needs_no_second_rescue() {
    for active in Side::ALL {
        for unavailable in [BOTH_UP, PRIMARY_DOWN, FALLBACK_DOWN, BOTH_DOWN] {
            let table = snapshot(apps(), active, unavailable);
            for tag in ["synced", "unknown", "only-primary", "only-fallback", "differs"] {
                for repository in ["kracr.azurecr.io/web", "ghcr.io/devopskev/web"] {
                    let image = format!("{repository}:{tag}");
                    let Some(moved) = sent(container(&image, unauthorized(&image)), &table) else {
                        continue;
                    };
                    let again = container(&moved, unauthorized(&moved));
                    assert_eq!(sent(again, &table), None, "{image} {active} {unavailable:?}");
                }
            }
        }
    }
}

#[test]
fn missing_pull_secret_is_reported_once_beside_the_patches() {
    let second = WaitingContainer {
        index: 1,
        name: "second",
        ..container(PRIMARY, CREATING)
    };
    let mut pod = pod(&[container(PRIMARY, CREATING), second]);
    pod.pull_secrets = vec!["kracr-pull"];
    let plan = planned(&pod, &outage());
    assert_eq!(plan.len(), 3, "{plan:?}");
    assert_eq!(plan[2], r#"MissingPullSecret { name: "ghcr-pull" }"#);
}

#[test]
fn ephemeral_container_is_reported() {
    let debug = WaitingContainer {
        kind: ContainerKind::Ephemeral,
        name: "debug",
        ..container(PRIMARY, refused(PRIMARY))
    };
    assert_eq!(
        planned(&pod(&[debug]), &outage()),
        [r#"EphemeralContainerStuck { name: "debug", reference: "kracr.azurecr.io/web:synced" }"#]
    );
}

/// The state of a container that runs `nginx` and mounts an image volume which could not be pulled.
fn failed_for_volume(cause: &str) -> ContainerState {
    let message = format!(
        r#"Back-off pulling image "{VOLUME}": ErrImagePull: failed to pull and unpack image "{VOLUME}": {cause}"#
    );
    ContainerState::waiting("ImagePullBackOff", &message, "nginx", [VOLUME])
}

const STUCK: &str = r#"ImageVolumeStuck { reference: "kracr.azurecr.io/data:synced" }"#;

#[test]
fn message_tells_failed_volume_from_failed_image() {
    let of_volume = failed_for_volume("connection refused");
    let mut with_volume = pod(&[container(PRIMARY, of_volume)]);
    with_volume.image_volumes = vec![volume(VOLUME)];
    assert_eq!(planned(&with_volume, &outage()), [STUCK]);
    // The kubelet has pulled the volume before the container's image.
    with_volume.containers = vec![container(PRIMARY, refused(PRIMARY))];
    assert_eq!(
        planned(&with_volume, &outage()),
        ["App 0 app -> ghcr.io/devopskev/web:synced"]
    );
    let of_another_registry = failed("quay.io/app:1", "connection refused");
    with_volume.containers = vec![container("quay.io/app:1", of_another_registry)];
    assert_eq!(planned(&with_volume, &outage()), NOTHING);
    let replacing = snapshot(replacing(), Side::Fallback, PRIMARY_DOWN);
    assert_eq!(planned(&with_volume, &replacing), NOTHING);
    // CRI-O writes no quotes.
    let message = format!("initializing source docker://{VOLUME}: pinging container registry: connection refused");
    let state = ContainerState::waiting("ErrImagePull", &message, "nginx", [VOLUME]);
    with_volume.containers = vec![container("nginx", state)];
    assert_eq!(planned(&with_volume, &outage()), [STUCK]);
}

#[test]
fn image_volume_is_stuck_only_while_something_waits_for_it() {
    let running = WaitingContainer {
        started_before: true,
        ..container("nginx", ContainerState::Running)
    };
    let second = WaitingContainer {
        index: 1,
        name: "second",
        ..container("nginx", CREATING)
    };
    let crashed = WaitingContainer {
        started_before: true,
        ..container("nginx", failed_for_volume("connection refused"))
    };
    let moved = "ghcr.io/devopskev/data:synced";
    let cases = [
        ("creating", vec![container("nginx", CREATING)], VOLUME, outage(), 1),
        ("named", vec![crashed], VOLUME, outage(), 1),
        ("running", vec![running], VOLUME, outage(), 0),
        ("one container runs", vec![running, second], VOLUME, outage(), 0),
        (
            "on the active side",
            vec![container("nginx", CREATING)],
            moved,
            outage(),
            0,
        ),
        (
            "both sides work",
            vec![container("nginx", CREATING)],
            VOLUME,
            snapshot(apps(), Side::Fallback, BOTH_UP),
            0,
        ),
    ];
    for (name, containers, reference, table, reports) in cases {
        let mut pod = pod(&containers);
        pod.image_volumes = vec![volume(reference)];
        let plan = planned(&pod, &table);
        assert_eq!(plan.len(), reports, "{name}: {plan:?}");
    }
}

fn replacing() -> MirrorPolicy {
    MirrorPolicy {
        rescue: RescueMode::PatchOrReplace,
        ..apps()
    }
}

/// `replace`, `patch` or `report` for the first action.
fn kind(pod: &WaitingPod<'_>, table: &RouteTable, hanging: bool) -> &'static str {
    let hangs = |_: &MirrorId, side| hanging && side == Side::Primary;
    match plan(pod, table, &hangs).first() {
        Some(RescueAction::Patch(_)) => "patch",
        Some(RescueAction::Replace { .. }) => "replace",
        Some(RescueAction::Report(_)) => "report",
        None => "nothing",
    }
}

#[test]
fn hanging_pod_is_replaced_where_that_is_allowed_and_helps() {
    let creating = container(PRIMARY, CREATING);
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
    let with = |replacement| WaitingPod {
        replacement,
        ..plain.clone()
    };
    let restarted = pod(&[WaitingContainer {
        started_before: true,
        ..creating
    }]);
    let initialized = pod(&[init("nginx", ContainerState::Terminated), creating]);
    let initializing = pod(&[init("nginx", CREATING), container(PRIMARY, CREATING)]);
    let cases = [
        ("hangs", plain.clone(), true, "replace"),
        (
            "an init container hangs",
            pod(&[init(PRIMARY, CREATING)]),
            true,
            "replace",
        ),
        ("fails at once", plain.clone(), false, "patch"),
        ("replaced of late", with(Replacement::ReplacedOfLate), true, "patch"),
        ("deleting is refused", with(Replacement::Refused), true, "patch"),
        ("started before", restarted, true, "patch"),
        (
            "another runs",
            pod(&[creating, second(ContainerState::Running)]),
            true,
            "patch",
        ),
        ("an init container has run", initialized, true, "patch"),
        ("not pulled yet", initializing, true, "patch"),
        (
            "no kubelet has seen it",
            pod(&[container(PRIMARY, ContainerState::NotStarted)]),
            true,
            "patch",
        ),
    ];
    let table = snapshot(replacing(), Side::Fallback, PRIMARY_DOWN);
    for (name, pod, hangs, expected) in cases {
        assert_eq!(kind(&pod, &table, hangs), expected, "{name}");
    }
    assert_eq!(kind(&plain, &outage(), true), "patch", "not allowed");
    let reason = planned_with(&plain, &table, &|_, _| true);
    assert_eq!(reason, ["replace for apps: kracr.azurecr.io is unavailable"]);
}

#[test]
fn pod_is_replaced_only_if_a_replica_set_of_apps_controls_it() {
    let plain = pod(&[container(PRIMARY, CREATING)]);
    let owned = |api_version, kind| WaitingPod {
        facts: PodFacts {
            owner: Some(Owner { api_version, kind }),
            ..plain.facts
        },
        ..plain.clone()
    };
    let not_controlled = WaitingPod {
        is_controlled: false,
        ..plain.clone()
    };
    let orphan = WaitingPod {
        facts: PodFacts {
            owner: None,
            ..plain.facts
        },
        ..plain.clone()
    };
    let mut policy = replacing();
    policy.rewrite.controller_owned = crate::policy::ControllerOwnedPods::Rewrite;
    let table = snapshot(policy, Side::Fallback, PRIMARY_DOWN);
    let cases = [
        ("ReplicaSet", plain.clone(), "replace"),
        ("another group", owned("example.com/v1", "ReplicaSet"), "patch"),
        ("StatefulSet", owned("apps/v1", "StatefulSet"), "patch"),
        ("owned, not controlled", not_controlled, "patch"),
        ("no owner", orphan, "patch"),
    ];
    for (name, pod, expected) in cases {
        assert_eq!(kind(&pod, &table, true), expected, "{name}");
    }
}

#[test]
fn hanging_pod_waits_for_the_flip() {
    let plain = pod(&[container(PRIMARY, CREATING)]);
    let table = snapshot(replacing(), Side::Primary, PRIMARY_DOWN);
    assert_eq!(kind(&plain, &table, true), "nothing");
}

#[test]
fn pod_with_stuck_image_volume_is_replaced_where_that_is_allowed() {
    let mut pod = pod(&[container("nginx", failed_for_volume("connection refused"))]);
    pod.image_volumes = vec![volume(VOLUME)];
    let replacing = |active| snapshot(replacing(), active, PRIMARY_DOWN);
    assert_eq!(kind(&pod, &replacing(Side::Fallback), false), "replace");
    assert_eq!(kind(&pod, &replacing(Side::Primary), false), "nothing");
    assert_eq!(kind(&pod, &outage(), false), "report");
}

/// What is wanted, as `repository reference`, with a mark if it is urgent.
fn wants(pod: &WaitingPod<'_>, table: &RouteTable) -> Vec<String> {
    let words = |wanted: Wanted| {
        let mark = if wanted.is_urgent { "!" } else { "" };
        format!("{} {}{mark}", wanted.repository, wanted.reference)
    };
    wanted(pod, table).into_iter().map(words).collect()
}

#[test]
fn unknown_reference_of_waiting_pod_is_wanted() {
    let unknown = "kracr.azurecr.io/web:unknown";
    let by_digest = format!("kracr.azurecr.io/api:1@{DIGEST}");
    let healthy = snapshot(apps(), Side::Primary, BOTH_UP);
    let cases = [
        (container(unknown, CREATING), vec!["web unknown"]),
        (container(unknown, unauthorized(unknown)), vec!["web unknown"]),
        (container(unknown, not_found(unknown)), vec!["web unknown!"]),
        (
            container(&by_digest, CREATING),
            vec!["api sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"],
        ),
        (container(PRIMARY, CREATING), vec![]),
        // The kubelet knows better.
        (container(PRIMARY, not_found(PRIMARY)), vec!["web synced!"]),
        (container(unknown, ContainerState::Running), vec![]),
        (container("nginx", CREATING), vec![]),
    ];
    for (container, expected) in cases {
        assert_eq!(wants(&pod(&[container]), &healthy), expected, "{container:?}");
    }
    // Both sides were asked already.
    let lacking = "kracr.azurecr.io/web:only-fallback";
    assert_eq!(
        wants(&pod(&[container(lacking, not_found(lacking))]), &healthy),
        NOTHING
    );
    // A gated pod will need it later.
    let gated = WaitingPod {
        is_placed: false,
        ..pod(&[container(unknown, ContainerState::NotStarted)])
    };
    assert_eq!(wants(&gated, &healthy), ["web unknown"]);
}

#[test]
fn unknown_reference_of_image_volume_is_wanted() {
    let mut with_volume = pod(&[container("nginx", CREATING)]);
    with_volume.image_volumes = vec![volume("kracr.azurecr.io/data:2")];
    let healthy = snapshot(apps(), Side::Primary, BOTH_UP);
    assert_eq!(wants(&with_volume, &healthy), ["data 2"]);
    let message = r#"Failed to pull image "kracr.azurecr.io/data:2": rpc error: code = NotFound"#;
    let state = ContainerState::waiting("ErrImagePull", message, "nginx", ["kracr.azurecr.io/data:2"]);
    with_volume.containers = vec![container("nginx", state)];
    assert_eq!(wants(&with_volume, &healthy), ["data 2!"]);
}
