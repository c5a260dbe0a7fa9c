//! What a proof pod looks like.

use std::collections::BTreeMap;

use catamaran_api::annotations::{MANAGED_BY, MANAGER, PROOF, WRITTEN_BY};
use catamaran_core::mirror::proof::ProofPod;
use catamaran_core::mirror::proof::reading::LIMIT;
use catamaran_core::policy::MirrorId;
use k8s_openapi::api::core::v1::{
    Capabilities, Container, LocalObjectReference, Pod, PodSecurityContext, PodSpec, ResourceRequirements,
    SeccompProfile, SecurityContext, Toleration,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use crate::publish::owned_by;

/// What no image has: a container that is started ends at once with an error, and its image has been pulled by then.
const NO_COMMAND: &str = "/catamaran-proof/never-runs";

/// The label and the annotation that keep service meshes from adding a sidecar: it would have to be pulled and would not end, and the
/// chart's admission policy refuses proof pods in which anything could run.
const NO_ISTIO: (&str, &str) = ("sidecar.istio.io/inject", "false");
const NO_LINKERD: (&str, &str) = ("linkerd.io/inject", "disabled");

/// Nobody.
const USER: i64 = 65_534;

/// Makes proof pods of one process.
pub(super) struct Maker {
    /// The process.
    pub(super) identity: String,
}

impl Maker {
    pub(super) fn new(identity: String) -> Maker {
        Maker { identity }
    }

    pub(super) fn pod(&self, mirror: &MirrorId, wanted: &ProofPod) -> Pod {
        Pod {
            metadata: self.metadata(mirror, wanted),
            spec: Some(spec(wanted)),
            status: None,
        }
    }

    fn metadata(&self, mirror: &MirrorId, wanted: &ProofPod) -> ObjectMeta {
        let labels = [(MANAGED_BY, MANAGER), (PROOF, &*mirror.name), NO_ISTIO];
        let annotations = [(WRITTEN_BY, self.identity.as_str()), NO_LINKERD];
        let pairs = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            pairs
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect()
        };
        ObjectMeta {
            generate_name: Some(format!("catamaran-proof-{}-", mirror.name)),
            namespace: Some(wanted.place.namespace.clone()),
            labels: Some(pairs(&labels)),
            annotations: Some(pairs(&annotations)),
            // With its mirror the pod goes, whether an operator runs or not.
            owner_references: Some(vec![OwnerReference {
                controller: Some(true),
                ..owned_by(mirror)
            }]),
            ..ObjectMeta::default()
        }
    }
}

fn spec(wanted: &ProofPod) -> PodSpec {
    let secrets = wanted.place.pull_secrets.iter();
    let secrets: Vec<_> = secrets
        .map(|name| LocalObjectReference { name: name.clone() })
        .collect();
    PodSpec {
        // No scheduler: it is this node that is to pull, whatever its taints.
        node_name: Some(wanted.node.clone()),
        tolerations: Some(vec![Toleration {
            operator: Some("Exists".to_owned()),
            ..Toleration::default()
        }]),
        // A kubelet of another system refuses it, and that node does not count.
        node_selector: Some(BTreeMap::from([("kubernetes.io/os".to_owned(), "linux".to_owned())])),
        // Without any, admission gives the pod those of its service account.
        image_pull_secrets: Some(secrets).filter(|secrets| !secrets.is_empty()),
        service_account_name: Some(wanted.place.service_account.clone()),
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        restart_policy: Some("Never".to_owned()),
        active_deadline_seconds: Some(i64::try_from(LIMIT.as_secs()).unwrap_or(i64::MAX)),
        termination_grace_period_seconds: Some(0),
        security_context: Some(PodSecurityContext {
            run_as_non_root: Some(true),
            run_as_user: Some(USER),
            run_as_group: Some(USER),
            seccomp_profile: Some(SeccompProfile {
                type_: "RuntimeDefault".to_owned(),
                localhost_profile: None,
            }),
            ..PodSecurityContext::default()
        }),
        containers: wanted
            .images
            .iter()
            .enumerate()
            .map(|(index, image)| container(index, image))
            .collect(),
        ..PodSpec::default()
    }
}

fn container(index: usize, image: &str) -> Container {
    let little = BTreeMap::from([
        ("cpu".to_owned(), Quantity("10m".to_owned())),
        ("memory".to_owned(), Quantity("16Mi".to_owned())),
    ]);
    Container {
        name: name(index),
        image: Some(image.to_owned()),
        // The registry is asked also where the node has the image.
        image_pull_policy: Some("Always".to_owned()),
        command: Some(vec![NO_COMMAND.to_owned()]),
        resources: Some(ResourceRequirements {
            requests: Some(little.clone()),
            limits: Some(little),
            claims: None,
        }),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            read_only_root_filesystem: Some(true),
            capabilities: Some(Capabilities {
                add: None,
                drop: Some(vec!["ALL".to_owned()]),
            }),
            ..SecurityContext::default()
        }),
        ..Container::default()
    }
}

/// The name of the container with the image at this place.
pub(super) fn name(index: usize) -> String {
    format!("image-{index}")
}
