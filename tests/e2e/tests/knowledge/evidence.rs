//! Evidence that others delete, spoil or refuse.

use std::time::{Duration, Instant};

use anyhow::ensure;
use catamaran_cluster::{Fault, Registry};
use catamaran_e2e::ground::PATIENCE;
use catamaran_e2e::manifests::pod;
use catamaran_e2e::runner::Scenario;
use catamaran_e2e::view::{condition, image, number};
use catamaran_e2e::{Case, operator};
use serde_json::{Value, json};

use crate::flips::QUICK;

pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "evidence-that-is-deleted-or-spoiled-comes-back",
        run: lost_evidence_comes_back,
    },
    Scenario {
        name: "a-quota-on-evidence-delays-no-flip",
        run: a_quota_delays_no_flip,
    },
];

/// Within one pass: ten seconds, and the time that it takes.
const WITHIN_A_PASS: Duration = Duration::from_secs(15);

fn lost_evidence_comes_back(case: &Case<'_>) -> anyhow::Result<()> {
    case.push(&["v1", "v2"])?;
    case.mirror(|spec| spec["rewrite"] = json!({"unverifiedTags": "Keep"}))?;
    let since = Instant::now();
    // The evidence is written after the status, and a tag that a pod asks for may be in it before the others.
    for tag in ["v2", "v1"] {
        let (asked, wanted) = (asks(case, tag), case.image(Registry::Acr, tag));
        case.admitted_as(&asked, "proven", since, PATIENCE, |pod| image(pod, "app") == wanted)?;
    }
    let evidence = case.ground.evidence(&case.name)?;
    ensure!(!evidence.is_empty(), "there is no evidence");
    case.ground.delete_evidence(&case.name)?;
    let took = case.ground.evidence_is(&case.name, &evidence)?;
    case.bar("evidence deleted -> there again", took, WITHIN_A_PASS)?;
    for (name, content) in &evidence {
        // Text that is no evidence, under each key that there was.
        let mut spoiled = json!({"binaryData": {}});
        for key in content["binaryData"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(key, _)| key)
        {
            spoiled["binaryData"][key] = json!("c3BvaWxlZA==");
        }
        ensure!(spoiled["binaryData"] != json!({}), "there is nothing in {name}");
        case.ground
            .patch(operator::NAMESPACE, &format!("configmap/{name}"), &spoiled)?;
    }
    let took = case.ground.evidence_is(&case.name, &evidence)?;
    case.bar("evidence spoiled -> there again", took, WITHIN_A_PASS)?;
    let since = Instant::now();
    let (asked, wanted) = (asks(case, "v1"), case.image(Registry::Acr, "v1"));
    case.admitted_as(&asked, "proven again", since, PATIENCE, |pod| {
        image(pod, "app") == wanted
    })
    .map(drop)
}

/// A pod that names the side which is not active: it is moved as soon as its tag is proven.
fn asks(case: &Case<'_>, tag: &str) -> Value {
    pod("asks", &case.image(Registry::Ghcr, tag))
}

/// A quota that no further `ConfigMap` fits into, until it is dropped.
struct Quota<'c>(&'c Case<'c>);

impl<'c> Quota<'c> {
    fn set(case: &'c Case<'c>) -> anyhow::Result<Self> {
        let quota = json!({
            "apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": case.name},
            "spec": {"hard": {"count/configmaps": "0"}},
        });
        case.ground.apply(operator::NAMESPACE, &quota)?;
        let set = Self(case);
        // It counts once what there is was counted.
        let object = format!("resourcequota/{}", case.name);
        let end = Instant::now() + PATIENCE;
        while case.ground.get(operator::NAMESPACE, &object)?["status"]["used"]["count/configmaps"].is_null() {
            ensure!(Instant::now() < end, "the quota is not in force");
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(set)
    }
}

impl Drop for Quota<'_> {
    fn drop(&mut self) {
        let delete = ["-n", operator::NAMESPACE, "delete", "resourcequota", &self.0.name];
        if let Err(error) = self.0.ground.cluster.kubectl(&delete) {
            self.0.note(format!("failed to delete the quota: {error:#}"));
        }
    }
}

fn a_quota_delays_no_flip(case: &Case<'_>) -> anyhow::Result<()> {
    case.push(&["v1"])?;
    case.mirror(|_| {})?;
    let quota = Quota::set(case)?;
    let since = Instant::now();
    case.ground.delete_evidence(&case.name)?;
    let key = ("EvidenceStored", "False", "WriteFailed");
    let seen = case.ground.condition(&case.name, key, since, PATIENCE)?;
    let message = condition(&seen.object, "EvidenceStored").message;
    ensure!(message.contains("quota"), "the cause is not named: {message}");
    case.note(message);
    let since = case.ground.fault(Registry::Acr, Fault::Refused)?;
    let flipped = case.active("Fallback", since, PATIENCE)?;
    case.bar(
        "ACR refuses, and evidence can't be stored -> flipped",
        flipped - since,
        QUICK,
    )?;
    let (asked, wanted) = (
        pod("asks", &case.image(Registry::Acr, "v1")),
        case.image(Registry::Ghcr, "v1"),
    );
    case.admitted_as(&asked, "sent to the fallback", since, PATIENCE, |pod| {
        image(pod, "app") == wanted
    })?;
    let since = Instant::now();
    drop(quota);
    let what = "evidence that is stored again";
    let stored = |mirror: &Value| condition(mirror, "EvidenceStored").status.is_empty();
    let seen = case
        .ground
        .mirrors
        .until(what, PATIENCE, ("", &case.name), since, |mirror| {
            stored(mirror) && number(mirror, "/status/epoch") == 2
        })?;
    case.note(format!(
        "quota lifted -> evidence stored: {:.1} s",
        (seen.at - since).as_secs_f64()
    ));
    ensure!(
        !case.ground.evidence(&case.name)?.is_empty(),
        "the condition has gone, and there is no evidence"
    );
    Ok(())
}
