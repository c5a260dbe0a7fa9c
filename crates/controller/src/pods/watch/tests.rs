use std::time::Duration;

use catamaran_core::side::Side;
use serde_json::{Value, json};

use super::super::testing::{Cluster, Reports, apps, leader, status, table, waiting_pod};
use super::*;
use crate::testbed::metric;

const MOVED: &str = "ghcr.io/devopskev/web:1";

/// A leader that works in the background.
struct Ground {
    cluster: Cluster,
    tables: watch::Sender<Arc<RouteTable>>,
    reports: Arc<Reports>,
    metrics: Arc<crate::metrics::Metrics>,
}

fn lead_on(cluster: &Cluster, active: Side) -> Ground {
    let (context, tables, reports) = leader(cluster, table(&apps("Patch"), active));
    let metrics = Arc::clone(&context.metrics);
    tokio::spawn(async move { Box::pin(lead(&context)).await });
    Ground {
        cluster: cluster.clone(),
        tables,
        reports,
        metrics,
    }
}

impl Ground {
    /// Waits until all of these pods are on the fallback; how long that took.
    async fn moved(&self, pods: &[String]) -> Duration {
        let begun = Instant::now();
        while !pods.iter().all(|pod| self.cluster.image(pod) == MOVED) {
            assert!(begun.elapsed() < Duration::from_mins(5), "pods still wait");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        begun.elapsed()
    }
}

fn keys(namespace: &str, pods: usize) -> Vec<String> {
    (0..pods).map(|pod| format!("{namespace}/web-{pod}")).collect()
}

fn put_pods(cluster: &Cluster, namespace: &str, pods: usize) -> Vec<String> {
    for pod in 0..pods {
        cluster.put_pod(waiting_pod(namespace, &format!("web-{pod}")));
    }
    keys(namespace, pods)
}

#[tokio::test(start_paused = true)]
async fn pods_that_wait_are_re_pointed_at_the_flip() {
    let cluster = Cluster::default();
    let pods = put_pods(&cluster, "shop", 100);
    let ground = lead_on(&cluster, Side::Primary);
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(cluster.requests("PATCH"), [""; 0], "before the flip");
    ground.tables.send_replace(table(&apps("Patch"), Side::Fallback));
    let took = ground.moved(&pods).await;
    assert!(took < Duration::from_secs(2), "{took:?}");
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(cluster.requests("PATCH").len(), pods.len(), "each once");
    assert_eq!(*ground.reports.rescued.lock().unwrap(), 100);
    assert_eq!(metric(&ground.metrics, "catamaran_waiting_pods"), 100);
    assert!(!ground.reports.wanted.lock().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn pod_is_re_pointed_when_it_gets_a_node() {
    let cluster = Cluster::default();
    let mut gated = waiting_pod("shop", "web-0");
    gated["spec"]["schedulingGates"] = json!([{"name": "kueue.x-k8s.io/admission"}]);
    gated["status"] = json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False"}]});
    cluster.put_pod(gated);
    let ground = lead_on(&cluster, Side::Fallback);
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(cluster.requests("PATCH"), [""; 0]);
    put_pods(&cluster, "shop", 1);
    ground.moved(&keys("shop", 1)).await;
}

#[tokio::test(start_paused = true)]
async fn refused_pods_do_not_keep_others_waiting() {
    let cluster = Cluster::default();
    put_pods(&cluster, "aaa", 600);
    let others = put_pods(&cluster, "shop", 3);
    let is_refused = |pod: &Value| pod["metadata"]["namespace"] == "aaa";
    cluster.admit(move |pod| {
        if is_refused(pod) {
            return Err(status(403, "only kracr.azurecr.io"));
        }
        Ok(pod.clone())
    });
    let ground = lead_on(&cluster, Side::Primary);
    tokio::time::sleep(Duration::from_secs(3)).await;
    ground.tables.send_replace(table(&apps("Patch"), Side::Fallback));
    let took = ground.moved(&others).await;
    assert!(took < Duration::from_secs(1), "{took:?}");
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert_eq!(cluster.requests("PATCH").len(), 603, "each once");
    // A pod that comes later is not delayed either.
    cluster.put_pod(waiting_pod("shop", "late"));
    let took = ground.moved(&["shop/late".to_owned()]).await;
    assert!(took < Duration::from_secs(2), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn pods_of_a_new_mirror_are_found() {
    let cluster = Cluster::default();
    let pods = put_pods(&cluster, "shop", 2);
    let (context, tables, _) = leader(&cluster, Arc::default());
    let metrics = Arc::clone(&context.metrics);
    tokio::spawn(async move { Box::pin(lead(&context)).await });
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(metric(&metrics, "catamaran_waiting_pods"), 0);
    tables.send_replace(table(&apps("Patch"), Side::Fallback));
    let ground = Ground {
        cluster,
        tables,
        reports: Arc::default(),
        metrics,
    };
    ground.moved(&pods).await;
}

#[tokio::test(start_paused = true)]
async fn container_of_a_running_pod_is_re_pointed() {
    let cluster = Cluster::default();
    let mut running = waiting_pod("shop", "web-0");
    running["status"]["phase"] = json!("Running");
    running["status"]["containerStatuses"][0]["restartCount"] = json!(3);
    cluster.put_pod(running);
    let event = json!({"metadata": {"namespace": "shop", "name": "e"}, "involvedObject": {"name": "web-0"},
        "message": "Back-off pulling image"});
    cluster.put("/api/v1/events", event);
    let ground = lead_on(&cluster, Side::Fallback);
    ground.moved(&keys("shop", 1)).await;
}

/// Whether the webhook counts as silent after some pods came one after the other.
async fn silent_after(pods: impl IntoIterator<Item = Value>) -> u64 {
    let cluster = Cluster::default();
    put_pods(&cluster, "old", 5);
    let ground = lead_on(&cluster, Side::Primary);
    tokio::time::sleep(Duration::from_mins(1)).await;
    for pod in pods {
        cluster.put_pod(pod);
        tokio::time::sleep(Duration::from_mins(1)).await;
    }
    tokio::time::sleep(Duration::from_mins(10)).await;
    metric(&ground.metrics, "catamaran_webhook_silent")
}

#[tokio::test(start_paused = true)]
async fn webhook_is_silent_when_new_pods_come_without_a_review() {
    let new = (0..3).map(|pod| waiting_pod("shop", &format!("new-{pod}")));
    assert_eq!(silent_after(new).await, 1);
}

#[tokio::test(start_paused = true)]
async fn pods_that_the_webhook_is_not_asked_about_are_no_silence() {
    assert_eq!(silent_after([]).await, 0, "those of the list are old");
    let again = (0..5).map(|_| waiting_pod("shop", "same"));
    assert_eq!(silent_after(again).await, 0, "one pod that changes");
    let fixed = (0..5).map(|pod| {
        let mut pod = waiting_pod("shop", &format!("static-{pod}"));
        pod["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "x"});
        pod
    });
    assert_eq!(silent_after(fixed).await, 0, "static pods");
    let excluded = (0..5).map(|pod| waiting_pod("kube-system", &format!("new-{pod}")));
    assert_eq!(silent_after(excluded).await, 0, "an excluded namespace");
}
