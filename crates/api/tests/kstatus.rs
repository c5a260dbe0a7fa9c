//! How tools that wait for readiness judge a mirror: kstatus, as Flux and Helm evaluate it.
//!
//! A port of the generic rules of `sigs.k8s.io/cli-utils/pkg/kstatus` (`status/generic.go`, `status/core.go`), so that a test
//! can tell what a Flux Kustomization that waits for a mirror sees.

use catamaran_api::conditions::{READY, RECONCILING, STALLED, Statement, Truth, reason, set_condition};
use catamaran_api::mirror::{RegistryMirror, RegistryMirrorSpec, RegistryMirrorStatus};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// What kstatus makes of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kstatus {
    /// It is being deleted.
    Terminating,
    /// The operator has not finished with the current generation, or pods can't get their images.
    InProgress,
    /// A person must change something.
    Failed,
    /// Done: a waiting Kustomization or Helm release goes on.
    Current,
}

/// Judges a mirror as kstatus does.
fn kstatus(mirror: &RegistryMirror) -> Kstatus {
    if mirror.metadata.deletion_timestamp.is_some() {
        return Kstatus::Terminating;
    }
    // An object without conditions counts as current: only the default of observedGeneration keeps a new mirror from it.
    let Some(status) = &mirror.status else {
        return Kstatus::Current;
    };
    if mirror
        .metadata
        .generation
        .is_some_and(|generation| generation != status.observed_generation)
    {
        return Kstatus::InProgress;
    }
    let holds = |status: &str| status == "True";
    let standard = status
        .conditions
        .iter()
        .find_map(|condition| match condition.type_.as_str() {
            RECONCILING if holds(&condition.status) => Some(Kstatus::InProgress),
            STALLED if holds(&condition.status) => Some(Kstatus::Failed),
            _ => None,
        });
    standard.unwrap_or_else(
        || match status.conditions.iter().find(|condition| condition.type_ == READY) {
            Some(ready) if !holds(&ready.status) => Kstatus::InProgress,
            _ => Kstatus::Current,
        },
    )
}

fn mirror(observed: i64, statements: &[(&'static str, Truth)]) -> RegistryMirror {
    let mut mirror = RegistryMirror::new("apps", RegistryMirrorSpec::default());
    mirror.metadata.generation = Some(3);
    let mut status = RegistryMirrorStatus {
        observed_generation: observed,
        ..Default::default()
    };
    for (kind, truth) in statements {
        let statement = Statement::new(kind, *truth, reason::OBSERVING, "");
        set_condition(&mut status.conditions, statement, observed, Timestamp::UNIX_EPOCH);
    }
    mirror.status = Some(status);
    mirror
}

#[test]
fn a_mirror_is_judged_as_flux_does() {
    use Truth::{False, True, Unknown};
    let cases = vec![
        (
            "brand-new, status as the schema defaults it",
            mirror(-1, &[]),
            Kstatus::InProgress,
        ),
        (
            "an older generation was observed",
            mirror(2, &[(READY, True)]),
            Kstatus::InProgress,
        ),
        ("ready", mirror(3, &[(READY, True)]), Kstatus::Current),
        (
            "not ready never fails a release",
            mirror(3, &[(READY, False)]),
            Kstatus::InProgress,
        ),
        ("readiness unknown", mirror(3, &[(READY, Unknown)]), Kstatus::InProgress),
        (
            "ready, still reconciling",
            mirror(3, &[(READY, True), (RECONCILING, True)]),
            Kstatus::InProgress,
        ),
        (
            "ready, no longer reconciling",
            mirror(3, &[(READY, True), (RECONCILING, False)]),
            Kstatus::Current,
        ),
        (
            "stalled",
            mirror(3, &[(READY, False), (STALLED, True)]),
            Kstatus::Failed,
        ),
        (
            "ready and stalled",
            mirror(3, &[(READY, True), (STALLED, True)]),
            Kstatus::Failed,
        ),
        (
            "stalled before an unobserved change",
            mirror(2, &[(STALLED, True)]),
            Kstatus::InProgress,
        ),
    ];
    for (name, mirror, expected) in cases {
        assert_eq!(kstatus(&mirror), expected, "{name}");
    }
}

#[test]
fn a_mirror_that_is_being_deleted_is_terminating() {
    let mut mirror = mirror(3, &[(READY, Truth::True)]);
    mirror.metadata.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH));
    assert_eq!(kstatus(&mirror), Kstatus::Terminating);
}

#[test]
fn a_status_without_conditions_counts_as_current_once_observed() {
    assert_eq!(
        kstatus(&mirror(3, &[])),
        Kstatus::Current,
        "so the first status must carry Ready"
    );
}
