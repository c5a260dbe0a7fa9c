use std::time::Duration;

use catamaran_core::side::Side;
use serde_json::{Value, json};

use super::super::testing::{Cluster, apps, leader, table, waiting_pod};
use super::*;

const EVENTS: &str = "/api/v1/events";

fn event(namespace: &str, name: &str, pod: &str, message: &str) -> Value {
    json!({
        "metadata": {"namespace": namespace, "name": name},
        "involvedObject": {"kind": "Pod", "namespace": "elsewhere", "name": pod},
        "reason": "BackOff", "message": message,
    })
}

/// A pod that runs, with a container that waits for its image again.
fn suspect_pod(namespace: &str, name: &str) -> Value {
    let mut pod = waiting_pod(namespace, name);
    pod["status"]["phase"] = json!("Running");
    pod
}

/// The pods that are found within a minute.
async fn found(cluster: &Cluster) -> Vec<String> {
    let (context, _tables, _) = leader(cluster, table(&apps("Patch"), Side::Fallback));
    let scoped = watch::channel(ScopedTable::new(&context.table.borrow())).1;
    let (sender, mut news) = mpsc::channel(64);
    let waiting = Mutex::<Waiting>::default();
    let pending: PodObject = serde_json::from_value(waiting_pod("shop", "pending")).unwrap();
    waiting.lock().unwrap().put_pending(pending.record);
    let _ = tokio::time::timeout(Duration::from_mins(1), run(&context, &waiting, scoped, sender)).await;
    let mut found = Vec::new();
    while let Some(News::Suspect(pod)) = news.recv().await {
        found.push(format!("{}/{}", pod.namespace, pod.name));
    }
    found.sort();
    found.dedup();
    found
}

#[tokio::test(start_paused = true)]
async fn pod_is_found_by_its_own_status_only() {
    let cluster = Cluster::default();
    let message = "Back-off pulling image \"kracr.azurecr.io/web:1\"";
    let mut runs = suspect_pod("shop", "runs");
    runs["status"]["containerStatuses"][0]["state"] = json!({"running": {}});
    let mut foreign = suspect_pod("shop", "foreign");
    foreign["spec"]["containers"][0]["image"] = json!("nginx");
    for pod in [
        suspect_pod("shop", "waits"),
        runs,
        foreign,
        suspect_pod("elsewhere", "waits"),
    ] {
        cluster.put_pod(pod);
    }
    for pod in ["waits", "runs", "foreign", "none"] {
        cluster.put(EVENTS, event("shop", pod, pod, message));
    }
    cluster.put(
        EVENTS,
        event("shop", "crash", "crashes", "Back-off restarting failed container"),
    );
    let mut of_pending = event("shop", "pending", "pending", message);
    of_pending["involvedObject"]["uid"] = json!("shop-pending");
    cluster.put(EVENTS, of_pending);
    assert_eq!(found(&cluster).await, ["shop/waits"]);
    let read = cluster.requests("GET /api/v1/namespaces");
    assert!(
        read.iter()
            .all(|request| request.contains("/shop/") && !request.contains("crashes") && !request.contains("pending")),
        "{read:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn forged_events_of_one_namespace_do_not_keep_others_waiting() {
    let cluster = Cluster::default();
    for forged in 0..500 {
        let name = format!("forged-{forged}");
        cluster.put(EVENTS, event("greedy", &name, &name, "image"));
    }
    cluster.put_pod(suspect_pod("shop", "waits"));
    cluster.put(EVENTS, event("shop", "last", "waits", "image"));
    assert_eq!(found(&cluster).await, ["shop/waits"]);
    let read = cluster.requests("GET /api/v1/namespaces/greedy").len();
    assert!(read <= 60, "{read} pods were read");
}
