//! The installation pages, followed as a new user would: every block of shell is copied from the page and run.
//!
//! Blocks that open with three backquotes and `sh` are run, in order; a `text` block after one holds lines that its output must
//! contain, with `…` for what differs. `sh cloud` needs an account at a cloud or K3s, `sh by-hand` would take from other
//! scenarios what they use: those are not run, and counted.

use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use catamaran_cluster::Registry;
use catamaran_e2e::manifests::{CA_SECRET, ORGANISATION};
use catamaran_e2e::runner::Scenario;
use catamaran_e2e::{Case, operator};

pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "the-helm-page-can-be-followed",
        run: the_helm_page_can_be_followed,
    },
    Scenario {
        name: "the-k3s-page-can-be-followed",
        run: the_k3s_page_can_be_followed,
    },
];

/// What stands on a page, and what stands for it here, and why.
struct Substitution {
    why: &'static str,
    page: &'static str,
    here: String,
}

/// The registries of the pages are those of the cluster. Everything else is used as it stands: the chart comes from the
/// cluster's own ghcr.io, where `make chart-push` has put it, and its image, under the name that the chart has, is on the node.
fn substitutions() -> Vec<Substitution> {
    vec![
        Substitution {
            why: "the organisation at the cluster's ghcr.io",
            page: "example-org",
            here: ORGANISATION.to_owned(),
        },
        Substitution {
            why: "the cluster's registries have a certificate authority of their own",
            page: "    provider: github\n",
            here: format!("    provider: github\n    certSecretRef:\n      name: {CA_SECRET}\n"),
        },
    ]
}

/// The cluster's first registry, read anonymously and with its authority.
fn first_registry() -> String {
    let host = Registry::Acr.host();
    format!("    registry: {host}\n    certSecretRef:\n      name: {CA_SECRET}\n")
}

fn printed() -> Substitution {
    Substitution {
        why: "the same in what is printed",
        page: "example.azurecr.io",
        here: Registry::Acr.host().to_owned(),
    }
}

fn the_helm_page_can_be_followed(case: &Case<'_>) -> anyhow::Result<()> {
    let mut here = substitutions();
    here.push(Substitution {
        why: "the name of the cluster's first registry, with its authority",
        page: "    registry: example.azurecr.io\n",
        here: first_registry(),
    });
    here.push(printed());
    follow(case, "docs/install-helm.md", &here)
}

fn the_k3s_page_can_be_followed(case: &Case<'_>) -> anyhow::Result<()> {
    let mut here = substitutions();
    here.push(Substitution {
        why: "no cloud, so no managed identity: the cluster's first registry is read anonymously",
        page: "    registry: example.azurecr.io\n    provider: azure\n    identity:\n      kind: Managed\n",
        here: first_registry(),
    });
    here.push(printed());
    let kubeconfig = case.ground.cluster.kubeconfig().display().to_string();
    here.push(Substitution {
        why: "where K3s keeps the administrator's kubeconfig",
        page: "/etc/rancher/k3s/k3s.yaml",
        here: kubeconfig,
    });
    follow(case, "docs/install-k3s.md", &here)
}

fn follow(case: &Case<'_>, page: &str, here: &[Substitution]) -> anyhow::Result<()> {
    let text =
        std::fs::read_to_string(operator::tree().join(page)).with_context(|| format!("failed to read {page}"))?;
    for Substitution { why, page: there, .. } in here {
        ensure!(text.contains(there), "{page} no longer has {there:?} ({why})");
    }
    let blocks = blocks(&text)?;
    case.ground.push(&Registry::ALL, "web", "v1")?;
    publish_chart(case)?;
    let folder = tempfile::tempdir()?;
    let values = folder.path().join("before.json");
    let before = case.ground.cluster.helm(&[
        "get",
        "values",
        operator::RELEASE,
        "-n",
        operator::NAMESPACE,
        "-o",
        "json",
    ])?;
    std::fs::write(&values, before)?;
    case.ground
        .cluster
        .helm(&["uninstall", operator::RELEASE, "-n", operator::NAMESPACE, "--wait"])?;
    let followed = run_blocks(case, &blocks, here, folder.path());
    // The other scenarios go on with the release as it was.
    let chart = catamaran_e2e::chart::folder()?;
    let restored = case.ground.cluster.helm(&[
        "upgrade",
        "--install",
        operator::RELEASE,
        chart.to_str().context("the path is not UTF-8")?,
        "--namespace",
        operator::NAMESPACE,
        "--reset-values",
        "--values",
        values.to_str().context("the path is not UTF-8")?,
        "--wait",
        "--timeout",
        "90s",
    ]);
    followed.and(restored.map(drop))
}

/// A fenced block of a page.
struct Block {
    kind: String,
    text: String,
    line: usize,
}

fn blocks(page: &str) -> anyhow::Result<Vec<Block>> {
    let mut all: Vec<Block> = Vec::new();
    let mut open = false;
    for (number, line) in page.lines().enumerate() {
        match line.strip_prefix("```") {
            Some(_) if open => open = false,
            Some(kind) => {
                open = true;
                all.push(Block {
                    kind: kind.to_owned(),
                    text: String::new(),
                    line: number + 1,
                });
            }
            None => {
                if let Some(block) = all.last_mut().filter(|_| open) {
                    block.text.push_str(line);
                    block.text.push('\n');
                }
            }
        }
    }
    ensure!(!open, "the last block does not end");
    Ok(all)
}

fn run_blocks(case: &Case<'_>, blocks: &[Block], here: &[Substitution], folder: &Path) -> anyhow::Result<()> {
    let apply = |text: &str| {
        here.iter()
            .fold(text.to_owned(), |text, one| text.replace(one.page, &one.here))
    };
    let mut printed = None;
    let (mut run, mut checked, mut left) = (0, 0, 0);
    for block in blocks {
        let text = apply(&block.text);
        match block.kind.as_str() {
            "sh" => {
                let script = format!("exec 2>&1\ncd '{}'\n{text}", folder.display());
                let output = case
                    .ground
                    .cluster
                    .command("bash")
                    .args(["-euo", "pipefail", "-c", &script])
                    .output()?;
                let said = String::from_utf8_lossy(&output.stdout).into_owned();
                ensure!(
                    output.status.success(),
                    "line {}: {text}\nended with {}: {said}",
                    block.line,
                    output.status
                );
                run += 1;
                printed = Some(said);
            }
            "text" => {
                let said = printed.as_deref().context("a text block that follows no command")?;
                for line in text.lines() {
                    ensure!(
                        is_in(line, said),
                        "line {}: {line:?} is not in what was printed: {said}",
                        block.line
                    );
                }
                checked += 1;
            }
            "sh cloud" | "sh by-hand" | "yaml" => left += 1,
            other => bail!("line {}: a block of kind {other:?}", block.line),
        }
    }
    ensure!(
        run > 3 && checked > 1,
        "only {run} blocks were run and {checked} outputs compared"
    );
    case.note(format!(
        "{run} blocks run, {checked} outputs compared, {left} blocks not for here"
    ));
    Ok(())
}

/// Whether some line of `said` has the parts of `line` in order, whatever the white space.
fn is_in(line: &str, said: &str) -> bool {
    let dense = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    said.lines().map(dense).any(|candidate| {
        let mut rest = candidate.as_str();
        line.split('…').map(dense).all(|part| match rest.find(&part) {
            Some(at) => {
                rest = &rest[at + part.len()..];
                true
            }
            None => false,
        })
    })
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
