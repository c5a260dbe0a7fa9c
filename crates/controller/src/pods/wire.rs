//! The fields of pods and pod templates that are read, and nothing else of what the API server sends.
//!
//! Whatever is not named here is skipped while it is decoded, so that neither the annotations nor the environment of other
//! people's pods are ever in memory as more than the bytes of one object. Every field may be absent or null.

use std::fmt;

use catamaran_api::annotations;
use catamaran_core::pod::STATIC_POD;
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct WirePod {
    pub(super) metadata: WireMeta,
    pub(super) spec: Option<WireSpec>,
    pub(super) status: Option<WireStatus>,
}

/// A workload: a Deployment, StatefulSet, DaemonSet or Job, or a `CronJob`, which has the template one level deeper.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct WireWorkload {
    pub(super) metadata: WireMeta,
    pub(super) spec: Option<WireWorkloadSpec>,
    pub(super) status: Option<WireWorkloadStatus>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct WireWorkloadSpec {
    pub(super) replicas: Option<i64>,
    pub(super) suspend: Option<bool>,
    pub(super) template: Option<WireTemplate>,
    pub(super) job_template: Option<WireJobTemplate>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct WireJobTemplate {
    pub(super) spec: WireJobSpec,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct WireJobSpec {
    pub(super) template: Option<WireTemplate>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct WireTemplate {
    pub(super) metadata: WireMeta,
    pub(super) spec: Option<WireSpec>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct WireWorkloadStatus {
    pub(super) conditions: Option<Vec<WireCondition>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct WireMeta {
    pub(super) name: Option<Box<str>>,
    pub(super) namespace: Option<Box<str>>,
    pub(super) uid: Option<Box<str>>,
    pub(super) resource_version: Option<Box<str>>,
    pub(super) deletion_timestamp: Option<Box<str>>,
    #[serde(deserialize_with = "pairs")]
    pub(super) labels: Pairs,
    pub(super) owner_references: Option<Vec<WireOwner>>,
    #[serde(deserialize_with = "own_annotations")]
    pub(super) annotations: Annotations,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct WireOwner {
    pub(super) api_version: Box<str>,
    pub(super) kind: Box<str>,
    pub(super) uid: Box<str>,
    pub(super) controller: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct WireSpec {
    pub(super) node_name: Option<Box<str>>,
    pub(super) scheduling_gates: Option<Vec<IgnoredAny>>,
    pub(super) containers: Option<Vec<WireContainer>>,
    pub(super) init_containers: Option<Vec<WireContainer>>,
    pub(super) ephemeral_containers: Option<Vec<WireContainer>>,
    pub(super) volumes: Option<Vec<WireVolume>>,
    pub(super) image_pull_secrets: Option<Vec<WireName>>,
    pub(super) service_account_name: Option<Box<str>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct WireContainer {
    pub(super) name: Box<str>,
    pub(super) image: Option<Box<str>>,
    pub(super) image_pull_policy: Option<Box<str>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct WireVolume {
    pub(super) name: Box<str>,
    pub(super) image: Option<WireImageVolume>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct WireImageVolume {
    pub(super) reference: Option<Box<str>>,
    pub(super) pull_policy: Option<Box<str>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct WireName {
    pub(super) name: Option<Box<str>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct WireStatus {
    pub(super) phase: Option<Box<str>>,
    pub(super) conditions: Option<Vec<WireCondition>>,
    pub(super) container_statuses: Option<Vec<WireContainerStatus>>,
    pub(super) init_container_statuses: Option<Vec<WireContainerStatus>>,
    pub(super) ephemeral_container_statuses: Option<Vec<WireContainerStatus>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct WireCondition {
    #[serde(rename = "type")]
    pub(super) kind: Box<str>,
    pub(super) status: Box<str>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct WireContainerStatus {
    pub(super) name: Box<str>,
    pub(super) restart_count: i64,
    pub(super) state: Option<WireState>,
    pub(super) last_state: Option<WireState>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct WireState {
    pub(super) running: Option<IgnoredAny>,
    pub(super) terminated: Option<IgnoredAny>,
    pub(super) waiting: Option<WireWaiting>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct WireWaiting {
    pub(super) reason: Option<Box<str>>,
    pub(super) message: Option<Box<str>>,
}

/// What of an object's annotations is read.
#[derive(Debug, Default)]
pub(super) struct Annotations {
    /// There is a map of annotations, of whatever kind.
    pub(super) exist: bool,
    /// The kubelet's mark of a static pod.
    pub(super) is_static: bool,
    /// The images of containers at admission.
    pub(super) original_images: Option<String>,
    /// The images of containers before they were re-pointed.
    pub(super) rescued_images: Option<String>,
    /// The mirrors and epochs in which they were.
    pub(super) rescued_epochs: Option<String>,
}

/// Names and values of labels.
type Pairs = Vec<(Box<str>, Box<str>)>;

/// Labels in their order; what is no string is skipped.
fn pairs<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Pairs, D::Error> {
    let map = Option::<std::collections::BTreeMap<Box<str>, Option<Box<str>>>>::deserialize(deserializer)?;
    let pairs = map.into_iter().flatten();
    Ok(pairs.filter_map(|(key, value)| Some((key, value?))).collect())
}

fn own_annotations<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Annotations, D::Error> {
    struct Own;
    impl<'de> Visitor<'de> for Own {
        type Value = Annotations;

        fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str("annotations")
        }

        fn visit_unit<E>(self) -> Result<Annotations, E> {
            Ok(Annotations::default())
        }

        fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Annotations, M::Error> {
            let mut own = Annotations {
                exist: true,
                ..Annotations::default()
            };
            while let Some(key) = map.next_key::<Box<str>>()? {
                match &*key {
                    STATIC_POD => {
                        own.is_static = true;
                        map.next_value::<IgnoredAny>()?;
                    }
                    annotations::ORIGINAL_IMAGES => own.original_images = map.next_value()?,
                    annotations::RESCUED => own.rescued_images = map.next_value()?,
                    annotations::RESCUED_EPOCH => own.rescued_epochs = map.next_value()?,
                    _ => {
                        map.next_value::<IgnoredAny>()?;
                    }
                }
            }
            Ok(own)
        }
    }
    deserializer.deserialize_any(Own)
}
