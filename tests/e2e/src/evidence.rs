//! What the operator has written down of a mirror's tags, as people find it: each ConfigMap of it in the operator's namespace.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::ensure;
use serde_json::{Value, json};

use crate::ground::{Ground, PATIENCE};
use crate::operator::NAMESPACE;
use crate::view::{items, name};

/// The content of each ConfigMap, by its name.
pub type Evidence = BTreeMap<String, Value>;

impl Ground {
    /// The evidence of a mirror; empty if there is none.
    pub fn evidence(&self, mirror: &str) -> anyhow::Result<Evidence> {
        let selector = selector(mirror);
        let list = ["-n", NAMESPACE, "get", "configmaps", "-l", &selector, "-o", "json"];
        let list = items(&serde_json::from_str(&self.cluster.kubectl(&list)?)?);
        let content = |map: &Value| json!({"binaryData": map["binaryData"], "data": map["data"]});
        Ok(list.iter().map(|map| (name(map).to_owned(), content(map))).collect())
    }

    /// Deletes the evidence of a mirror.
    pub fn delete_evidence(&self, mirror: &str) -> anyhow::Result<()> {
        let delete = ["-n", NAMESPACE, "delete", "configmaps", "-l", &selector(mirror)];
        self.cluster.kubectl(&delete).map(drop)
    }

    /// Waits until the evidence of a mirror is this; how long that took.
    pub fn evidence_is(&self, mirror: &str, wanted: &Evidence) -> anyhow::Result<Duration> {
        let since = Instant::now();
        loop {
            let evidence = self.evidence(mirror)?;
            if evidence == *wanted {
                return Ok(since.elapsed());
            }
            ensure!(
                since.elapsed() < PATIENCE,
                "the evidence of {mirror} is {evidence:?} instead of {wanted:?}"
            );
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

fn selector(mirror: &str) -> String {
    format!("catamaran.dev/evidence={mirror}")
}
