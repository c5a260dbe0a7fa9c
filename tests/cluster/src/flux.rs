//! Flux beside the cluster: its real controllers, as processes of the node with the administrator's kubeconfig.
//!
//! That is the right that Flux' own installation gives them (`cluster-admin` for those that apply what others wrote). Their
//! definitions come from the pinned modules. Artifacts are pulled from the cluster's registries, under their real names.

use anyhow::Context as _;
use serde_json::json;

use crate::cache::binary;
use crate::cluster::Cluster;
use crate::command::{output, until};
use crate::components;
use crate::network::NODE;
use crate::processes::Daemon;

/// The namespace of Flux' own objects.
pub const NAMESPACE: &str = "flux-system";

/// The name in the harness, the program, and where it tells whether it is ready.
const CONTROLLERS: [(&str, &str, &str); 3] = [
    ("flux-source", "source-controller", "127.0.0.1:9441"),
    ("flux-kustomize", "kustomize-controller", "127.0.0.1:9442"),
    ("flux-helm", "helm-controller", "127.0.0.1:9443"),
];

impl Cluster {
    /// Builds Flux if need be, applies its definitions and starts its controllers; those that run are left alone.
    pub fn start_flux(&self) -> anyhow::Result<()> {
        components::build(&["flux"])?;
        let definitions = components::definitions("flux")?;
        let apply = ["apply", "--server-side", "-f", "-"];
        self.kubectl_stdin(&apply, &definitions)?;
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}});
        self.kubectl_stdin(&apply, &namespace.to_string())?;
        self.served(&["crd", "--all"])?;
        let storage = self.state().path("flux");
        std::fs::create_dir_all(&storage).with_context(|| format!("failed to create \"{}\"", storage.display()))?;
        for (name, program, health) in CONTROLLERS {
            if !self.anchor().alive(name) {
                self.anchor().spawn(&self.controller(name, program, health))?;
            }
        }
        for (name, _, health) in CONTROLLERS {
            until(&format!("{name} to be ready"), || {
                output(
                    self.command("curl")
                        .args(["-sf", "-m", "10", &format!("http://{health}/readyz")]),
                )
            })?;
        }
        Ok(())
    }

    fn controller(&self, name: &str, program: &str, health: &str) -> Daemon {
        let mut words = vec![
            binary("flux", program).display().to_string(),
            "--watch-all-namespaces".to_owned(),
            format!("--health-addr={health}"),
            // Nobody reads them, and the node's ports are everybody's.
            "--metrics-addr=0".to_owned(),
            "--events-addr=".to_owned(),
        ];
        if program == "source-controller" {
            let storage = self.state().path("flux");
            words.push(format!("--storage-path={}", storage.display()));
            words.push(format!("--storage-addr={NODE}:9790"));
            // The others fetch from here; by default it is the name of a Service.
            words.push(format!("--storage-adv-addr={NODE}:9790"));
        } else {
            // 30 s by default, which a test would spend waiting.
            words.push("--requeue-dependency=2s".to_owned());
        }
        let environment = [
            ("KUBECONFIG", self.kubeconfig().display().to_string()),
            ("RUNTIME_NAMESPACE", NAMESPACE.to_owned()),
        ];
        Daemon {
            name: name.to_owned(),
            namespace: None,
            words,
            environment: environment.map(|(key, value)| (key.to_owned(), value)).into(),
        }
    }
}
