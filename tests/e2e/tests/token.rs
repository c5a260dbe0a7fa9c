//! What the operator's token allows: what the operator does, and nothing else.
//!
//! The chart's admission policies are rendered for an account of their own, which RBAC allows everything here, so that it is these
//! policies that refuse. What the operator itself writes passes those of the shared installation in every other scenario.

mod attempt;
mod cases;
mod objects;

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use catamaran_cluster::Registry;
use catamaran_e2e::ground::PATIENCE;
use catamaran_e2e::manifests::{deployment, pod};
use catamaran_e2e::runner::Scenario;
use catamaran_e2e::{Case, chart};
use serde_json::{Value, json};

use attempt::Attempt;
use cases::{allowed, forbidden};
use objects::{config_map, minted, proof_pod, pull_secret, webhook_configuration};

pub const SCENARIOS: &[Scenario] = &[Scenario {
    name: "the-operators-token-can-do-no-more-than-the-operator-does",
    run: token_can_do_no_more,
}];

/// The name of the objects that the chart renders here.
const NAME: &str = "limited-catamaran";
/// The namespace that stands for the operator's.
const HOME: &str = "default";
/// An image that nothing serves.
const MISSING: &str = "registry.invalid/team/web:v1";

fn token_can_do_no_more(case: &Case<'_>) -> anyhow::Result<()> {
    case.push(&["v1"])?;
    make_what_is_there(case)?;
    let policies = Policies::apply(case)?;
    policies.have_no_warnings()?;
    for (what, attempt, words) in forbidden(case) {
        let message = attempt.until_refused(case, words).with_context(|| what.to_owned())?;
        case.note(format!("refused: {what}: {message}"));
    }
    for (what, attempt) in allowed(case) {
        attempt.run(case).with_context(|| format!("it was refused: {what}"))?;
        case.note(format!("allowed: {what}"));
    }
    let pods = ["-n", &case.name, "get", "pods", "-l", "app=replaced", "-o", "name"];
    let replaced = case.ground.cluster.kubectl(&pods)?;
    Attempt::delete(replaced.trim()).run(case)?;
    case.note("allowed: a pod deleted that its ReplicaSet replaces");
    let label = json!({"metadata": {"labels": {"app": "other"}}});
    let others = Attempt::patch("pod/waits", &label);
    others.run_as(case, "--as=carol")?;
    Ok(())
}

/// The policies of the chart, and a webhook configuration of the name that they are about; all are of the cluster.
struct Policies<'c> {
    case: &'c Case<'c>,
    rendered: String,
}

impl<'c> Policies<'c> {
    fn apply(case: &'c Case<'c>) -> anyhow::Result<Self> {
        let folder = chart::folder()?;
        let folder = folder.to_str().context("the path is not UTF-8")?;
        let lists = format!("pullSecrets.namespaces={{{0}}},proof.namespaces={{{0}}}", case.name);
        let values = format!("{lists},pullSecrets.names={{acr-pull,ghcr-pull,new-pull}},rescue.allowReplace=true");
        let template = ["template", "limited", folder, "--namespace", HOME, "--set", &values];
        let one = ["--show-only", "templates/admissionpolicy.yaml"];
        let rendered = case.ground.cluster.helm(&[&template[..], &one].concat())?;
        let policies = Self { case, rendered };
        policies.kubectl(&["apply", "-f", "-"])?;
        case.ground.apply(HOME, &webhook_configuration())?;
        Ok(policies)
    }

    fn kubectl(&self, arguments: &[&str]) -> anyhow::Result<String> {
        self.case.ground.cluster.kubectl_stdin(arguments, &self.rendered)
    }

    /// The API server's own check of the expressions.
    fn have_no_warnings(&self) -> anyhow::Result<()> {
        let end = Instant::now() + PATIENCE;
        for name in ["secrets", "pods", "configmaps", "leases", "webhooks"] {
            let object = format!("validatingadmissionpolicy/{NAME}-{name}");
            let policy = loop {
                let policy = self.case.ground.get("default", &object)?;
                if policy["status"].get("observedGeneration").is_some() {
                    break policy;
                }
                ensure!(Instant::now() < end, "nobody has checked {object}");
                std::thread::sleep(Duration::from_millis(200));
            };
            let warnings = &policy["status"]["typeChecking"]["expressionWarnings"];
            ensure!(warnings.is_null(), "{object}: {warnings:#}");
        }
        Ok(())
    }
}

impl Drop for Policies<'_> {
    fn drop(&mut self) {
        let configuration = ["delete", "--ignore-not-found", "mutatingwebhookconfiguration", NAME];
        let delete = ["-n", HOME, "delete", "--ignore-not-found", "-f", "-"];
        let at_home = json!({"apiVersion": "v1", "kind": "List", "items": at_home(self.case)}).to_string();
        for gone in [
            self.kubectl(&["delete", "--ignore-not-found", "-f", "-"]),
            self.case.ground.cluster.kubectl(&configuration),
            self.case.ground.cluster.kubectl_stdin(&delete, &at_home),
        ] {
            if let Err(error) = gone {
                eprintln!("failed to remove the policies: {error:#}");
            }
        }
    }
}

/// What the attempts change or delete.
fn make_what_is_there(case: &Case<'_>) -> anyhow::Result<()> {
    let gated = {
        let mut pod = proof_pod(case);
        pod["metadata"] = json!({"name": "proof", "labels": pod["metadata"]["labels"]});
        pod["spec"]["schedulingGates"] = json!([{"name": "example.com/never"}]);
        pod
    };
    for object in [
        minted("acr-pull"),
        pull_secret("ghcr-pull"),
        pod("waits", MISSING),
        pod("runs", &case.image(Registry::Acr, "v1")),
        deployment("replaced", MISSING, 1),
        gated,
    ] {
        case.apply(&object)?;
    }
    for object in at_home(case) {
        case.ground.apply(HOME, &object)?;
    }
    until_state(case, "pod/runs", "running")?;
    until_state(case, "pod/waits", "waiting")?;
    Ok(())
}

fn at_home(case: &Case<'_>) -> [Value; 3] {
    [
        config_map("catamaran-evidence-apps-0"),
        config_map("settings"),
        pod(&case.name, MISSING),
    ]
}

fn until_state(case: &Case<'_>, object: &str, state: &str) -> anyhow::Result<()> {
    let end = Instant::now() + PATIENCE;
    loop {
        let pod = case.ground.get(&case.name, object)?;
        if pod["status"]["containerStatuses"][0]["state"].get(state).is_some() {
            return Ok(());
        }
        ensure!(Instant::now() < end, "{object} is not {state}: {}", pod["status"]);
        std::thread::sleep(Duration::from_millis(200));
    }
}
