//! Room for another program in a registry's place: under its names and certificate, in front of its content.

use std::path::PathBuf;

use crate::cache::binary;
use crate::command::{output, until};
use crate::kubernetes;
use crate::processes::{Anchor, Daemon};
use crate::registry::Registry;
use crate::state::State;

/// Where the registry's content is served once more, to processes in its network namespace.
const OPEN: &str = "127.0.0.1:5001";

/// What a program needs to stand in for a registry's front.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Where it must listen: at the registry's address and at that of its data host.
    pub listen: &'static str,
    /// The base of the registry's content, which is served there without any authentication.
    pub upstream: String,
    /// The certificate of the registry's host and data host, PEM.
    pub certificate: PathBuf,
    /// Its key, PEM.
    pub key: PathBuf,
}

/// Takes the front away.
pub fn vacate(state: &State, anchor: &Anchor, registry: Registry) -> anyhow::Result<Place> {
    let name = format!("open-{registry}");
    if !anchor.alive(&name) {
        anchor.spawn(&open(state, registry, &name)?)?;
    }
    let upstream = format!("http://{OPEN}/");
    until("the registry without its front", || {
        let mut curl = anchor.enter(Some(&state.registry_namespace(registry)), "/", "curl");
        output(curl.args(["-sSf", "-m", "10", "-o", "/dev/null", &format!("{upstream}v2/")]))
    })?;
    anchor.stop(&front(registry))?;
    Ok(Place {
        listen: "0.0.0.0:443",
        upstream,
        certificate: state.path(&format!("pki/{registry}.crt")),
        key: state.path(&format!("pki/{registry}.key")),
    })
}

/// The registry once more, on the same content; it asks nobody who he is, and redirects nothing.
fn open(state: &State, registry: Registry, name: &str) -> anyhow::Result<Daemon> {
    let storage = state.text(&format!("registry-{registry}"));
    let yaml = format!(
        r#"version: 0.1
log: {{level: info, accesslog: {{disabled: true}}}}
storage:
  filesystem: {{rootdirectory: "{storage}"}}
  maintenance: {{uploadpurging: {{enabled: false}}}}
http: {{addr: "{OPEN}", relativeurls: true}}
"#
    );
    let file = format!("etc/registry-{name}.yaml");
    state.write(&file, yaml)?;
    Ok(Daemon {
        name: name.to_owned(),
        namespace: Some(state.registry_namespace(registry)),
        words: vec![
            binary("registry", "registry").display().to_string(),
            "serve".to_owned(),
            state.text(&file),
        ],
        environment: vec![("OTEL_TRACES_EXPORTER".to_owned(), "none".to_owned())],
    })
}

/// Puts the front back. Whatever stood in for it must have ended.
pub fn restore(anchor: &Anchor, registry: Registry) -> anyhow::Result<()> {
    anchor.restart(&front(registry))?;
    kubernetes::asks_for_a_token(anchor, registry)
}

/// The name of a registry's front among the daemons.
pub fn front(registry: Registry) -> String {
    format!("front-{registry}")
}
