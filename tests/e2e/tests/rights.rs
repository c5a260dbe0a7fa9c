//! Looks back at a whole run: whether the operator has exactly the rights that it used, and whether only leaders led.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::ensure;
use catamaran_cluster::Cluster;
use catamaran_e2e::audit::{self, Excuse, Request, Rights};
use catamaran_e2e::manifests::pod;
use catamaran_e2e::runner::Scenario;
use catamaran_e2e::{Case, operator};
use serde_json::json;

pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "the-operator-has-the-rights-that-it-uses-and-no-others",
        run: the_operator_has_the_rights_that_it_uses,
    },
    Scenario {
        name: "no-condition-of-the-webhook-or-a-policy-fails",
        run: no_condition_fails,
    },
    Scenario {
        name: "nobody-but-the-holder-of-the-lease-did-a-leaders-work",
        run: nobody_but_the_leader_led,
    },
];

/// Every scenario was chosen, so what was never used is not needed.
pub static WHOLE_RUN: AtomicBool = AtomicBool::new(false);

/// What the chart grants although no scenario uses it.
const UNUSED: &[Excuse] = &[
    Excuse {
        verb: "update",
        resource: "registrymirrors/finalizers",
        reason: "the API server asks for it only with the admission plugin OwnerReferencesPermissionEnforcement, which some \
                 distributions switch on: the evidence is owned by its mirror",
    },
    Excuse {
        verb: "patch",
        resource: "registrymirrors/status",
        reason: "tells the author of a mirror that this version can't decode; today's definition lets none of them in",
    },
    Excuse {
        verb: "patch",
        resource: "events",
        reason: "counts up an Event that is told again within six minutes; whether a run has one depends on its pace",
    },
    Excuse {
        verb: "delete",
        resource: "configmaps",
        reason: "removes a shard when the evidence shrinks below it, which takes some 25,000 tags",
    },
];

/// What every authenticated account may, whatever the chart grants.
const EVERYBODYS: &[Excuse] = &[Excuse {
    verb: "create",
    resource: "selfsubjectreviews",
    reason: "system:basic-user: the operator asks for its own name, so that it never rewrites its own requests",
}];

fn requests(case: &Case<'_>) -> anyhow::Result<Vec<Request>> {
    Request::read(&case.ground.cluster.logs(Cluster::AUDIT)?)
}

fn the_operator_has_the_rights_that_it_uses(case: &Case<'_>) -> anyhow::Result<()> {
    let kubectl = |arguments: &[&str]| case.ground.cluster.kubectl(arguments);
    let roles = kubectl(&[
        "get",
        "clusterroles,roles",
        "--all-namespaces",
        "-l",
        operator::LABEL,
        "-o",
        "json",
    ])?;
    let rights = Rights::of(&serde_json::from_str(&roles)?)?;
    let requests = requests(case)?;
    ensure!(!requests.is_empty(), "the API server has written nothing down");
    let lines = |items: Vec<String>| items.join("\n    ");
    case.note(format!(
        "{} requests held against {} rights",
        requests.len(),
        rights.len()
    ));
    for (what, count) in audit::census(&requests) {
        case.note(format!("{count:>8} {what}"));
    }

    let missing = rights.missing(&requests, EVERYBODYS);
    let missing: Vec<_> = missing.iter().take(20).map(ToString::to_string).collect();
    ensure!(missing.is_empty(), "not granted by the chart:\n    {}", lines(missing));
    let showing: Vec<_> = rights.showing_secrets().iter().map(ToString::to_string).collect();
    ensure!(
        showing.is_empty(),
        "Secrets may be read without their names:\n    {}",
        lines(showing)
    );
    let unused: Vec<_> = rights
        .unused(&requests, UNUSED)
        .iter()
        .map(ToString::to_string)
        .collect();
    if WHOLE_RUN.load(Ordering::Relaxed) {
        ensure!(
            unused.is_empty(),
            "granted, and used by no scenario:\n    {}",
            lines(unused)
        );
    } else {
        case.note(format!(
            "granted, and not used by the scenarios that were chosen: {}",
            unused.join("; ")
        ));
    }
    for excuse in UNUSED {
        case.note(format!(
            "need not be used: {} {} ({})",
            excuse.verb, excuse.resource, excuse.reason
        ));
    }
    Ok(())
}

/// A condition that fails to evaluate leaves the webhook out (`failurePolicy: Ignore`), and makes a policy deny.
fn no_condition_fails(case: &Case<'_>) -> anyhow::Result<()> {
    case.create_pod(&pod("labelled", "registry.invalid/web:v1"))?;
    let label = json!({"metadata": {"labels": {"app": "other"}}});
    case.ground.patch(&case.name, "pod/labelled", &label)?;
    let metrics = case.ground.cluster.kubectl(&["get", "--raw", "/metrics"])?;
    let is_ours = |line: &&str| line.contains("name=\"pods.catamaran.dev\"") || line.contains("name=\"catamaran-");
    let of = |name: &str| -> Vec<&str> {
        let lines = metrics.lines().filter(|line| line.starts_with(name));
        lines.filter(is_ours).collect()
    };
    let evaluated = of("apiserver_admission_match_condition_exclusions_total");
    ensure!(!evaluated.is_empty(), "no condition was ever evaluated");
    let failed = of("apiserver_admission_match_condition_evaluation_errors_total");
    ensure!(failed.is_empty(), "conditions failed: {}", failed.join("\n    "));
    Ok(())
}

fn nobody_but_the_leader_led(case: &Case<'_>) -> anyhow::Result<()> {
    let requests = requests(case)?;
    let terms = requests
        .iter()
        .filter(|request| request.resource == "leases" && request.holder.is_some())
        .count();
    ensure!(terms > 0, "nobody has ever led");
    let lost = requests.iter().filter(|request| request.code == 409).count();
    case.note(format!(
        "{} requests, {terms} writes of the lease, {lost} writes that lost to another",
        requests.len()
    ));
    let intruders = audit::intruders(&requests, operator::RELEASE);
    let told: Vec<_> = intruders
        .iter()
        .take(20)
        .map(|(write, holder)| format!("{write}, while '{holder}' led"))
        .collect();
    ensure!(
        told.is_empty(),
        "{} writes by others than the leader:\n    {}",
        intruders.len(),
        told.join("\n    ")
    );
    Ok(())
}
