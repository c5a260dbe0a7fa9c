//! Admission policies that are against what rescue does.

use std::time::{Duration, Instant};

use anyhow::ensure;
use catamaran_cluster::{Fault, Registry};
use catamaran_e2e::ground::PATIENCE;
use catamaran_e2e::manifests::pod;
use catamaran_e2e::view::{image, number};
use catamaran_e2e::{Case, replica};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{REPOINTED, patches};

/// What the validating policy answers.
const WORDS: &str = "images come from kracr.azurecr.io alone";

/// How long patches are counted.
const COUNTED: Duration = Duration::from_secs(25);

/// Patches of one pod in that time: a few a minute.
const A_FEW: usize = 3;

/// Two policies, which are gone when this is dropped.
struct Policies<'c>(&'c Case<'c>);

impl<'c> Policies<'c> {
    fn apply(case: &'c Case<'c>) -> anyhow::Result<Self> {
        let (refuses, sets_back) = (format!("{}-refuses", case.name), format!("{}-sets-back", case.name));
        let old_image = r#"[JSONPatch{op: "replace", path: "/spec/containers/0/image", value: oldObject.spec.containers[0].image}]"#;
        let validating = json!({
            "failurePolicy": "Fail",
            "matchConstraints": constraints(case, "refused"),
            "validations": [{
                "expression": "object.spec.containers.all(c, !c.image.startsWith('ghcr.io/'))", "message": WORDS,
            }],
        });
        let mutating = json!({
            "failurePolicy": "Fail", "reinvocationPolicy": "Never",
            "matchConstraints": constraints(case, "set-back"),
            "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": old_image}}],
        });
        let objects = [
            ("ValidatingAdmissionPolicy", &refuses, validating),
            (
                "ValidatingAdmissionPolicyBinding",
                &refuses,
                json!({"policyName": refuses, "validationActions": ["Deny"]}),
            ),
            ("MutatingAdmissionPolicy", &sets_back, mutating),
            (
                "MutatingAdmissionPolicyBinding",
                &sets_back,
                json!({"policyName": sets_back}),
            ),
        ];
        let policies = Self(case);
        for (kind, name, spec) in objects {
            let version = "admissionregistration.k8s.io/v1";
            let object = json!({"apiVersion": version, "kind": kind, "metadata": {"name": name}, "spec": spec});
            case.ground.apply("default", &object)?;
        }
        Ok(policies)
    }
}

impl Drop for Policies<'_> {
    fn drop(&mut self) {
        for (kind, name) in [("validating", "refuses"), ("mutating", "sets-back")] {
            for object in ["binding", ""] {
                let kind = format!("{kind}admissionpolicy{object}");
                let name = format!("{}-{name}", self.0.name);
                if let Err(error) = self.0.ground.cluster.kubectl(&["delete", &kind, &name]) {
                    self.0.note(format!("failed to delete {kind} {name}: {error:#}"));
                }
            }
        }
    }
}

/// Updates of this scenario's pods with this label.
fn constraints(case: &Case<'_>, label: &str) -> Value {
    json!({
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": case.name}},
        "objectSelector": {"matchLabels": {"example.com/policy": label}},
        "resourceRules": [{
            "apiGroups": [""], "apiVersions": ["v1"], "operations": ["UPDATE"], "resources": ["pods"],
        }],
    })
}

fn labelled(name: &str, image: &str, label: &str) -> Value {
    let mut pod = pod(name, image);
    pod["metadata"]["labels"] = json!({"example.com/policy": label});
    pod
}

pub fn patches_that_policies_refuse_or_undo(case: &Case<'_>) -> anyhow::Result<()> {
    case.push(&["v1"])?;
    case.mirror(|_| {})?;
    let written = case.image(Registry::Acr, "v1");
    let _policies = Policies::apply(case)?;
    are_in_force(case)?;
    let begun = Timestamp::now();
    let since = case.ground.fault(Registry::Acr, Fault::Refused)?;
    let pods = [
        labelled("refused", &written, "refused"),
        labelled("set-back", &written, "set-back"),
        pod("ordinary", &written),
    ];
    case.apply(&json!({"apiVersion": "v1", "kind": "List", "items": pods}))?;
    let flipped = case.active("Fallback", since, PATIENCE)?;
    let repointed = case.pod("ordinary", "re-pointed", since, PATIENCE, |pod| {
        image(pod, "app") == case.image(Registry::Ghcr, "v1")
    })?;
    case.bar(
        "flip -> the pod beside refused ones re-pointed",
        repointed.at.saturating_duration_since(flipped),
        REPOINTED,
    )?;
    for (pod, words) in [("refused", WORDS), ("set-back", "policy set the image back")] {
        is_reported_once(case, pod, words)?;
    }
    std::thread::sleep(COUNTED.saturating_sub(flipped.elapsed()));
    for (pod, words) in [("refused", WORDS), ("set-back", "policy set the image back")] {
        let sent = patches(case, pod, begun)?;
        case.note(format!("{pod}: {sent} patches in {} s", COUNTED.as_secs()));
        ensure!((1..=A_FEW).contains(&sent), "{sent} patches were sent for {pod}");
        is_reported_once(case, pod, words)?;
        let latest = case.ground.get(&case.name, &format!("pod/{pod}"))?;
        ensure!(image(&latest, "app") == written, "{pod} has {}", image(&latest, "app"));
        let rescued = case.events(pod, "is now")?;
        ensure!(rescued.is_empty(), "{pod} is said to have been re-pointed: {rescued:?}");
    }
    are_counted_as_failed(case)
}

/// Policies take effect within seconds of their creation. The pods that show it wait for no image and have opted out, so that only the
/// policies have a say in them.
fn are_in_force(case: &Case<'_>) -> anyhow::Result<()> {
    let fallback = case.image(Registry::Ghcr, "v1");
    let change = json!([{"op": "replace", "path": "/spec/containers/0/image", "value": fallback}]).to_string();
    for label in ["refused", "set-back"] {
        let name = format!("shows-{label}");
        let mut shows = labelled(&name, &case.image(Registry::Acr, "v1"), label);
        shows["metadata"]["labels"]["catamaran.dev/rewrite"] = json!("disabled");
        shows["spec"]["schedulingGates"] = json!([{"name": "example.com/never"}]);
        case.apply(&shows)?;
        let patch = [
            "-n",
            &case.name,
            "patch",
            "pod",
            &name,
            "--type=json",
            "--dry-run=server",
            "-o",
            "json",
        ];
        let end = Instant::now() + PATIENCE;
        loop {
            let in_force = match case.ground.cluster.kubectl(&[&patch[..], &["-p", &change]].concat()) {
                Ok(patched) => label == "set-back" && image(&serde_json::from_str(&patched)?, "app") != fallback,
                Err(error) => {
                    let refusal = error.to_string();
                    ensure!(refusal.contains(WORDS), "refused in other words: {refusal}");
                    label == "refused"
                }
            };
            if in_force {
                break;
            }
            ensure!(Instant::now() < end, "the policy for {label} is not in force");
            std::thread::sleep(Duration::from_millis(200));
        }
    }
    Ok(())
}

/// Waits for the one Event that says why a pod is not re-pointed.
fn is_reported_once(case: &Case<'_>, pod: &str, words: &str) -> anyhow::Result<()> {
    let end = Instant::now() + PATIENCE;
    let events = loop {
        let events = case.events(pod, words)?;
        if !events.is_empty() {
            break events;
        }
        ensure!(Instant::now() < end, "no Event of {pod} says {words}");
        std::thread::sleep(Duration::from_millis(200));
    };
    let times: i64 = events.iter().map(|(_, times)| times).sum();
    ensure!(times == 1, "there are {times} Events of {pod}: {events:?}");
    case.note(format!("{pod}: {}", events[0].0));
    Ok(())
}

fn are_counted_as_failed(case: &Case<'_>) -> anyhow::Result<()> {
    let mirror = format!("mirror=\"{}\"", case.name);
    let labels = [r#"kind="failed""#, mirror.as_str()];
    let failed = replica::counted_by_now(&case.ground.cluster, "catamaran_rescues_total", &labels)?;
    ensure!(failed >= 2.0, "{failed} patches are counted as failed");
    let end = Instant::now() + PATIENCE;
    loop {
        let rescued = number(&case.latest()?, "/status/pods/rescued");
        ensure!(rescued <= 1, "{rescued} pods are counted as rescued");
        if rescued == 1 {
            return Ok(());
        }
        ensure!(Instant::now() < end, "the pod that was rescued is not counted");
        std::thread::sleep(Duration::from_millis(200));
    }
}
