//! What the page for Flux expects: Flux in the cluster, and the Git repository that it was bootstrapped from.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, ensure};
use catamaran_cluster::flux::NAMESPACE;
use catamaran_e2e::manifests::CA_SECRET;
use catamaran_e2e::{Case, operator};

use super::page::Substitution;
use crate::flux::team;

/// Where the page keeps what Flux applies first.
const CLUSTER: &str = "clusters/example";

/// What only a machine without Azure and GitHub needs.
pub fn substitutions(case: &Case<'_>) -> anyhow::Result<Vec<Substitution>> {
    let (user, password) = case.ground.cluster.credentials();
    let tree = operator::tree().canonicalize()?;
    let authority = format!(
        "patches:\n  - target:\n      kind: OCIRepository\n    patch: |\n      - op: add\n        path: /spec/certSecretRef\n        \
         value:\n          name: {CA_SECRET}\n"
    );
    Ok(vec![
        Substitution {
            why: "this tree",
            page: "CATAMARAN/",
            here: format!("{}/", tree.display()),
        },
        Substitution {
            why: "who may read at the cluster's registries",
            page: "GITHUB_USER",
            here: user,
        },
        Substitution {
            why: "and by which password",
            page: "GITHUB_TOKEN",
            here: password,
        },
        Substitution {
            why: "Flux pulls the chart from a registry with an authority of its own",
            page: "patches:\n",
            here: authority,
        },
        Substitution {
            why: "and so does the operator",
            page: "[ghcr-read]",
            here: format!("[ghcr-read, {CA_SECRET}]"),
        },
    ])
}

/// Makes of `folder` the clone of a repository, and has Flux read that, as `flux bootstrap --path=clusters/example` does.
pub fn bootstrap(case: &Case<'_>, folder: &Path) -> anyhow::Result<()> {
    team::prepare(case)?;
    let url = case.ground.cluster.git_repository("fleet")?;
    let sync = format!(
        "apiVersion: source.toolkit.fluxcd.io/v1\nkind: GitRepository\nmetadata:\n  name: flux-system\n  namespace: {NAMESPACE}\n\
         spec:\n  interval: 5s\n  url: {url}\n  ref:\n    branch: main\n---\n\
         apiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\nmetadata:\n  name: flux-system\n  namespace: {NAMESPACE}\n\
         spec:\n  interval: 10m\n  path: ./{CLUSTER}\n  prune: true\n  sourceRef:\n    kind: GitRepository\n    name: flux-system\n"
    );
    let place = folder.join(CLUSTER).join("flux-system");
    std::fs::create_dir_all(&place)?;
    std::fs::write(place.join("gotk-sync.yaml"), &sync)?;
    let script = format!(
        "git init --quiet --initial-branch=main .
         git config user.name 'a team'
         git config user.email team@example.com
         git remote add origin {url}
         git add .
         git commit --quiet --message 'Add Flux'
         git push --quiet --set-upstream origin main"
    );
    let mut shell = case.ground.cluster.command("bash");
    run(shell.args([
        "-euo",
        "pipefail",
        "-c",
        &format!("cd '{}'\n{script}", folder.display()),
    ]))?;
    case.ground
        .cluster
        .kubectl_stdin(&["apply", "-f", "-"], &sync)
        .map(drop)
}

fn run(command: &mut Command) -> anyhow::Result<()> {
    let output = command.output().context("failed to run bash")?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "failed to make the repository: {complaint}");
    Ok(())
}

/// Takes away what is Flux's, and the Secrets of the page.
pub fn retire(case: &Case<'_>) -> anyhow::Result<()> {
    team::retire(case)?;
    for (namespace, secret) in [(operator::NAMESPACE, "ghcr-read"), ("default", "ghcr-pull")] {
        let delete = ["-n", namespace, "delete", "secret", secret, "--ignore-not-found"];
        case.ground.cluster.kubectl(&delete)?;
    }
    Ok(())
}
