//! Pushing to the registries, and making them fail.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;

use anyhow::{Context as _, ensure};

use crate::cache::binary;
use crate::command::{PATIENCE, output};
use crate::fault::Fault;
use crate::images::{Image, blobs};
use crate::network::{self, PODS};
use crate::node::Traffic;
use crate::processes::Anchor;
use crate::registry::Registry;
use crate::standin;
use crate::state::State;

/// Puts an image into a registry past its front: faults do not stop it.
pub fn push(
    state: &State,
    anchor: &Anchor,
    registry: Registry,
    image: &Image,
    repository: &str,
    tag: &str,
) -> anyhow::Result<()> {
    let mut tool = tool(state, anchor, registry);
    tool.arg("push")
        .arg(configuration(state, registry))
        .arg(blobs(state))
        .args([image.digest(), repository, tag]);
    output(&mut tool).map(drop)
}

/// Removes a tag, or by its digest a manifest with all of its tags. Without its tag a manifest stays, under its digest.
pub fn remove(
    state: &State,
    anchor: &Anchor,
    registry: Registry,
    repository: &str,
    reference: &str,
) -> anyhow::Result<()> {
    let mut tool = tool(state, anchor, registry);
    output(
        tool.arg("remove")
            .arg(configuration(state, registry))
            .args([repository, reference]),
    )
    .map(drop)
}

/// Deletes the config, or the last layer, of an image that goes on naming it; its digest.
pub fn clean_up(
    state: &State,
    anchor: &Anchor,
    registry: Registry,
    repository: &str,
    (reference, part): (&str, &str),
) -> anyhow::Result<String> {
    let mut tool = tool(state, anchor, registry);
    let told = output(
        tool.arg("clean-up")
            .arg(configuration(state, registry))
            .args([repository, reference, part]),
    )?;
    Ok(told.trim().to_owned())
}

fn tool(state: &State, anchor: &Anchor, registry: Registry) -> std::process::Command {
    let program = binary("tool", "tool").display().to_string();
    anchor.enter(Some(&state.registry_namespace(registry)), "/", &program)
}

fn configuration(state: &State, registry: Registry) -> String {
    state.text(&format!("etc/front-{registry}.json"))
}

/// Replaces the registry's fault, or ends it. While something stands in for the front, only the network can be made to fail; and
/// only there one can fail for a part of the traffic. None is named for a fault that all meet.
pub fn fault(
    state: &State,
    anchor: &Anchor,
    registry: Registry,
    fault: Option<&Fault>,
    traffic: &[Traffic],
) -> anyhow::Result<()> {
    let of_network = matches!(
        fault,
        None | Some(Fault::BlackHole | Fault::Refused | Fault::NodeRefused | Fault::BlobHostDead)
    );
    let fronted = anchor.alive(&standin::front(registry));
    ensure!(
        fronted || of_network,
        "failed to set a fault on {registry}: it is the front's to show, and the front has made room"
    );
    ensure!(
        traffic.is_empty() || of_network,
        "failed to set a fault on {registry} for some nodes: the registry's front shows it, which does not tell nodes apart"
    );
    let data = registry.data_address();
    let rule = match fault {
        Some(Fault::BlackHole) => Some("drop".to_owned()),
        Some(Fault::Refused) => Some("tcp dport 443 reject with tcp reset".to_owned()),
        // Pods come with their own addresses.
        Some(Fault::NodeRefused) => Some(format!("ip saddr != {PODS} tcp dport 443 reject with tcp reset")),
        Some(Fault::BlobHostDead) => Some(format!("ip daddr {data} tcp dport 443 reject with tcp reset")),
        _ => None,
    };
    network::filter(state, registry, rule.as_deref(), traffic)?;
    if fronted {
        let line = fault.map_or_else(|| r#"{"kind": "none"}"#.to_owned(), Fault::front_line);
        tell_front(state, registry, &line)?;
    }
    let mut text = fault.map(Fault::to_string).unwrap_or_default();
    if !traffic.is_empty() {
        let traffic: Vec<_> = traffic.iter().map(Traffic::to_string).collect();
        text = format!("{text} for {}", traffic.join(", "));
    }
    state.write(&format!("fault-{registry}"), text)
}

/// The fault that is set, as the command line says it; empty if there is none.
pub fn current_fault(state: &State, registry: Registry) -> String {
    // Never set, there is no file.
    state.read(&format!("fault-{registry}")).unwrap_or_default()
}

fn tell_front(state: &State, registry: Registry, line: &str) -> anyhow::Result<()> {
    let path = state.path(&format!("front-{registry}.sock"));
    let mut front = UnixStream::connect(&path).with_context(|| format!("failed to reach the front of {registry}"))?;
    front.set_read_timeout(Some(PATIENCE))?;
    writeln!(front, "{line}")?;
    let mut answer = String::new();
    front.read_to_string(&mut answer)?;
    ensure!(
        answer == "ok\n",
        "failed to set a fault on {registry}: {}",
        answer.trim()
    );
    Ok(())
}
