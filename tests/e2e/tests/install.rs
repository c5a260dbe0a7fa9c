//! The README and the installation pages, followed as a new user would: every block of shell is copied from the page and run.
//!
//! Blocks that open with three backquotes and `sh` are run, in order; a `text` block after one holds lines that its output must
//! contain, with `…` for what differs. `yaml NAME` is written to a file of that name. `sh cloud` needs an account at a cloud, K3s
//! or Flux' command line, `sh by-hand` would take from other scenarios what they use: those are not run, and counted.

mod fleet;
mod page;

use std::path::Path;

use anyhow::{Context as _, ensure};
use catamaran_cluster::Registry;
use catamaran_e2e::manifests::{CA_SECRET, ORGANISATION};
use catamaran_e2e::runner::Scenario;
use catamaran_e2e::{Case, operator};

use self::page::{Substitution, blocks};
use crate::release::{remove_shared, restore};

pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "the-readme-can-be-followed",
        run: the_readme_can_be_followed,
    },
    Scenario {
        name: "the-helm-page-can-be-followed",
        run: the_helm_page_can_be_followed,
    },
    Scenario {
        name: "the-k3s-page-can-be-followed",
        run: the_k3s_page_can_be_followed,
    },
];

/// Later than the others: what it runs is built while they run.
pub const WITH_FLUX: &[Scenario] = &[Scenario {
    name: "the-flux-page-can-be-followed",
    run: the_flux_page_can_be_followed,
}];

/// The registries are those of the cluster. Everything else is used as it stands: the chart comes from the
/// cluster's own ghcr.io, where `make chart-push` has put it, and its image, under the name that the chart has, is on the node.
fn substitutions() -> Vec<Substitution> {
    vec![Substitution {
        why: "the cluster's registries have a certificate authority of their own",
        page: "    provider: github\n",
        here: format!("    provider: github\n    certSecretRef:\n      name: {CA_SECRET}\n"),
    }]
}

/// The cluster's first registry, read anonymously and with its authority.
fn first_registry() -> String {
    let host = Registry::Acr.host();
    format!("    registry: {host}\n    certSecretRef:\n      name: {CA_SECRET}\n")
}

/// The installation pages name an organisation and a registry that nobody has.
fn examples() -> [Substitution; 2] {
    [
        Substitution {
            why: "the organisation at the cluster's ghcr.io",
            page: "example-org",
            here: ORGANISATION.to_owned(),
        },
        Substitution {
            why: "the name of the cluster's first registry, in what is printed, too",
            page: "example.azurecr.io",
            here: Registry::Acr.host().to_owned(),
        },
    ]
}

fn the_readme_can_be_followed(case: &Case<'_>) -> anyhow::Result<()> {
    let mut here = substitutions();
    here.push(Substitution {
        why: "the cluster's first registry is read anonymously, and not by Azure's own protocol",
        page: "    registry: kracr.azurecr.io\n    provider: azure\n",
        here: first_registry(),
    });
    let chart = catamaran_e2e::chart::folder()?.display().to_string();
    here.push(Substitution {
        why: "the page is followed in a folder of its own, not in the tree",
        page: "charts/catamaran --namespace",
        here: format!("{chart} --namespace"),
    });
    follow(case, "README.md", &here, |_| Ok(()), || Ok(()))
}

fn the_helm_page_can_be_followed(case: &Case<'_>) -> anyhow::Result<()> {
    let mut here = substitutions();
    here.push(Substitution {
        why: "the name of the cluster's first registry, with its authority",
        page: "    registry: example.azurecr.io\n",
        here: first_registry(),
    });
    here.extend(examples());
    follow(case, "docs/install-helm.md", &here, |_| Ok(()), || Ok(()))
}

fn the_k3s_page_can_be_followed(case: &Case<'_>) -> anyhow::Result<()> {
    let mut here = substitutions();
    here.push(Substitution {
        why: "no cloud, so no managed identity: the cluster's first registry is read anonymously",
        page: "    registry: example.azurecr.io\n    provider: azure\n    identity:\n      kind: Managed\n",
        here: first_registry(),
    });
    here.extend(examples());
    let kubeconfig = case.ground.cluster.kubeconfig().display().to_string();
    here.push(Substitution {
        why: "where K3s keeps the administrator's kubeconfig",
        page: "/etc/rancher/k3s/k3s.yaml",
        here: kubeconfig,
    });
    follow(case, "docs/install-k3s.md", &here, |_| Ok(()), || Ok(()))
}

fn the_flux_page_can_be_followed(case: &Case<'_>) -> anyhow::Result<()> {
    let mut here = substitutions();
    here.extend(fleet::substitutions(case)?);
    here.push(Substitution {
        why: "no cloud, so no managed identity: the cluster's first registry is read anonymously",
        page: "    registry: example.azurecr.io\n    provider: azure\n",
        here: first_registry(),
    });
    here.extend(examples());
    let before = |folder: &Path| fleet::bootstrap(case, folder);
    follow(case, "docs/install-aks-flux.md", &here, before, || fleet::retire(case))
}

/// Follows a page in a new folder, which `before` makes what the page expects; `after` takes away what the page leaves.
fn follow(
    case: &Case<'_>,
    page: &str,
    here: &[Substitution],
    before: impl FnOnce(&Path) -> anyhow::Result<()>,
    after: impl FnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let text =
        std::fs::read_to_string(operator::tree().join(page)).with_context(|| format!("failed to read {page}"))?;
    for Substitution { why, page: there, .. } in here {
        ensure!(text.contains(there), "{page} no longer has {there:?} ({why})");
    }
    let blocks = blocks(&text)?;
    for repository in ["web", "kevinryan-io"] {
        case.ground.push(&Registry::ALL, repository, "v1")?;
    }
    publish_chart(case)?;
    let folder = tempfile::tempdir()?;
    let followed = remove_shared(case)
        .and_then(|()| before(folder.path()))
        .and_then(|()| page::run(case, &blocks, here, folder.path()));
    // What a page has given to Flux goes first: Flux would take away the release that comes back.
    let followed = followed.and(after());
    restore(case, followed)
}

/// As a release does: `make chart-push`, to the cluster's ghcr.io.
fn publish_chart(case: &Case<'_>) -> anyhow::Result<()> {
    let (user, password) = case.ground.cluster.credentials();
    let login = [
        "registry",
        "login",
        Registry::Ghcr.host(),
        "--username",
        &user,
        "--password",
        &password,
    ];
    case.ground.cluster.helm(&login)?;
    let tree = operator::tree().canonicalize()?;
    let mut make = case.ground.cluster.command("make");
    make.args(["chart-push", "REGISTRY=oci://ghcr.io/catamaran-dev/charts", "-C"])
        .arg(&tree);
    let output = make.output().context("failed to run make")?;
    ensure!(
        output.status.success(),
        "make chart-push failed: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    // Pulled as a new user does: without a credential.
    case.ground
        .cluster
        .helm(&["registry", "logout", Registry::Ghcr.host()])
        .map(drop)
}
