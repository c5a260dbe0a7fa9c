//! Pods as large as the API server takes them, with as many images as fit: it refuses them, but only after admission.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use catamaran_cluster::Registry;
use serde_json::{Value, json};

use crate::load;

/// So many in each list.
const EACH: usize = 4096;
/// What a request to the API server may have, and a little less.
const SIZE: usize = 3_000_000;
/// The API server works on each for far longer than the webhook: this is about the webhook.
const PAUSE: Duration = Duration::from_secs(1);

/// Creates them, one after the other.
pub fn create(order: &Value, done: Arc<AtomicU64>) -> anyhow::Result<()> {
    let client = load::connection(order)?;
    let url = load::pods_url(order)?;
    let body = pod().to_string();
    tokio::spawn(async move {
        loop {
            let request = client.post(&url).header("content-type", "application/json");
            if request.body(body.clone()).send().await.is_ok() {
                done.fetch_add(1, Ordering::Relaxed);
            }
            tokio::time::sleep(PAUSE).await;
        }
    });
    Ok(())
}

fn pod() -> Value {
    let image = |index: usize| format!("{}/a:{index}", Registry::Acr.host());
    let containers = |kind: &str| -> Value {
        let one = |index: usize| json!({"name": format!("{kind}{index}"), "image": image(index)});
        (0..EACH).map(one).collect()
    };
    let volume = |index: usize| json!({"name": format!("v{index}"), "image": {"reference": image(index)}});
    let volumes: Value = (0..EACH).map(volume).collect();
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"generateName": "huge-", "annotations": {"filled": ""}},
        "spec": {
            "containers": containers("c"), "initContainers": containers("i"), "ephemeralContainers": containers("e"),
            "volumes": volumes,
        },
    });
    let rest = SIZE.saturating_sub(pod.to_string().len());
    pod["metadata"]["annotations"]["filled"] = json!("x".repeat(rest));
    pod
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn huge_pod_has_the_size_that_a_request_may_have() {
        let size = pod().to_string().len();
        assert!((SIZE - 100..3 << 20).contains(&size), "{size} bytes");
    }
}
