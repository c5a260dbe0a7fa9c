use std::sync::atomic::{AtomicUsize, Ordering};

use catamaran_core::side::Side;
use serde_json::{Value, json};

use super::super::testing::{Cluster, PODS, apps, status, table, waiting_pod};
use super::*;

fn apps_id() -> MirrorId {
    MirrorId {
        name: "apps".into(),
        uid: "m1".into(),
    }
}

fn started(cluster: &Cluster, reads_workloads: bool) -> Census {
    let table = watch::channel(table(&apps("Patch"), Side::Primary)).1;
    let (census, task) = census(cluster.client(), table, reads_workloads, Arc::default());
    tokio::spawn(task.run());
    census
}

async fn names(census: &Census) -> Vec<String> {
    let in_use = census.in_use(&apps_id(), Duration::ZERO).await.unwrap();
    let names = in_use.references.iter();
    names
        .flat_map(|(repository, names)| names.keys().map(move |name| format!("{repository}:{name}")))
        .collect()
}

fn lists(cluster: &Cluster) -> usize {
    let requests = cluster.requests("GET /api/v1/pods?");
    requests.iter().filter(|request| !request.contains("continue=")).count()
}

fn workload(name: &str, spec: &Value) -> Value {
    json!({"metadata": {"name": name, "namespace": "shop"}, "spec": spec})
}

fn template(image: &str) -> Value {
    json!({"metadata": {"labels": {"app": "x"}}, "spec": {"containers": [{"name": "web", "image": image}]}})
}

#[tokio::test(start_paused = true)]
async fn templates_count_also_without_pods() {
    let cluster = Cluster::default();
    let image = |name: &str| format!("kracr.azurecr.io/{name}:1");
    let scaled = json!({"replicas": 0, "template": template(&image("deployment"))});
    cluster.put("/apis/apps/v1/deployments", workload("a", &scaled));
    cluster.put(
        "/apis/apps/v1/statefulsets",
        workload("a", &json!({"template": template(&image("stateful"))})),
    );
    cluster.put(
        "/apis/apps/v1/daemonsets",
        workload("a", &json!({"template": template(&image("daemon"))})),
    );
    let suspended = json!({"suspend": true, "jobTemplate": {"spec": {"template": template(&image("cron"))}}});
    cluster.put("/apis/batch/v1/cronjobs", workload("a", &suspended));
    cluster.put(
        "/apis/batch/v1/jobs",
        workload("a", &json!({"template": template(&image("job"))})),
    );
    let mut ended = workload("b", &json!({"template": template(&image("ended"))}));
    ended["status"] = json!({"conditions": [{"type": "Complete", "status": "True"}]});
    cluster.put("/apis/batch/v1/jobs", ended);
    let mut opted_out = template(&image("opted-out"));
    opted_out["metadata"]["labels"] = json!({"catamaran.dev/rewrite": "disabled"});
    cluster.put(
        "/apis/apps/v1/deployments",
        workload("c", &json!({"template": opted_out})),
    );
    let census = started(&cluster, true);
    let expected = ["cron:1", "daemon:1", "deployment:1", "job:1", "stateful:1"];
    assert_eq!(names(&census).await, expected);
    let in_use = census.in_use(&apps_id(), Duration::from_mins(1)).await.unwrap();
    assert_eq!(in_use.workloads, WorkloadsRead::Read);
    assert!(in_use.references["cron"]["1"].template && !in_use.references["cron"]["1"].started);
}

#[tokio::test(start_paused = true)]
async fn without_rights_pods_alone_count() {
    let cluster = Cluster::default();
    cluster.put_pod(waiting_pod("shop", "web-1"));
    cluster.put(
        "/apis/apps/v1/deployments",
        workload("a", &json!({"template": template("kracr.azurecr.io/api:1")})),
    );
    let disabled = started(&cluster, false);
    assert_eq!(names(&disabled).await, ["web:1"]);
    assert_eq!(cluster.requests("GET /apis/"), [""; 0]);
    cluster.trouble(|path, _| path.starts_with("/apis/apps").then(|| status(403, "forbidden")));
    let forbidden = started(&cluster, true);
    let in_use = forbidden.in_use(&apps_id(), Duration::ZERO).await.unwrap();
    assert_eq!(in_use.workloads, WorkloadsRead::Forbidden);
    assert_eq!(in_use.references.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn one_list_answers_all_who_ask_meanwhile() {
    let cluster = Cluster::default();
    cluster.put_pod(waiting_pod("shop", "web-1"));
    let census = started(&cluster, false);
    let asked = (0..30).map(|_| {
        let census = census.clone();
        tokio::spawn(async move { names(&census).await })
    });
    for answered in futures::future::join_all(asked).await {
        assert_eq!(answered.unwrap(), ["web:1"]);
    }
    assert_eq!(lists(&cluster), 1);
    // Who is content with an older list gets it, and who is not gets a new one.
    tokio::time::advance(Duration::from_secs(30)).await;
    census.in_use(&apps_id(), Duration::from_mins(1)).await.unwrap();
    assert_eq!(lists(&cluster), 0);
    census.in_use(&apps_id(), Duration::from_secs(10)).await.unwrap();
    assert_eq!(lists(&cluster), 1);
}

#[tokio::test(start_paused = true)]
async fn list_that_expires_is_begun_again() {
    let cluster = Cluster::default();
    for pod in 0..600 {
        cluster.put_pod(waiting_pod("shop", &format!("web-{pod}")));
    }
    let failed = AtomicUsize::new(0);
    cluster.trouble(move |path, query| {
        let is_second_page = path == PODS && query.contains("continue=");
        (is_second_page && failed.fetch_add(1, Ordering::Relaxed) == 0).then(|| status(410, "expired"))
    });
    let census = started(&cluster, false);
    let begun = Instant::now();
    let in_use = census.in_use(&apps_id(), Duration::ZERO).await.unwrap();
    assert_eq!(in_use.references["web"].len(), 1);
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    assert_eq!(lists(&cluster), 2);
}

#[tokio::test(start_paused = true)]
async fn list_that_keeps_failing_is_reported_and_tried_again() {
    let cluster = Cluster::default();
    cluster.put_pod(waiting_pod("shop", "web-1"));
    cluster.trouble(|_, _| Some(status(503, "unavailable")));
    let census = started(&cluster, false);
    let begun = Instant::now();
    let error = census.in_use(&apps_id(), Duration::ZERO).await.unwrap_err();
    assert!(error.to_string().contains("unavailable"), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    cluster.trouble(|_, _| None);
    assert_eq!(names(&census).await, ["web:1"]);
}

#[tokio::test(start_paused = true)]
async fn mirror_without_a_route_is_told_so() {
    let cluster = Cluster::default();
    let other = MirrorId {
        name: "other".into(),
        uid: "m2".into(),
    };
    let answer = started(&cluster, false).in_use(&other, Duration::ZERO).await;
    assert!(matches!(answer, Err(CensusError::NotRouted)), "{answer:?}");
}

#[tokio::test(start_paused = true)]
async fn pods_on_the_fallback_are_counted() {
    let cluster = Cluster::default();
    for (name, image) in [
        ("a", "ghcr.io/devopskev/web:1"),
        ("b", "kracr.azurecr.io/web:1"),
        ("c", "nginx"),
    ] {
        let mut pod = waiting_pod("shop", name);
        pod["spec"]["containers"][0]["image"] = json!(image);
        cluster.put_pod(pod);
    }
    let census = started(&cluster, false);
    assert_eq!(names(&census).await, ["web:1"]);
    let in_use = census.in_use(&apps_id(), Duration::from_mins(1)).await.unwrap();
    assert_eq!(in_use.pods_on_fallback, 1);
    assert!(!in_use.references["web"]["1"].started);
}
