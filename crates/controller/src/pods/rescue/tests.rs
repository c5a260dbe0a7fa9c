use catamaran_api::annotations;
use serde_json::{Value, json};

use super::super::testing::{Cluster, Reports, apps, leader, status, table, waiting_pod};
use super::*;
use crate::testbed::metric;

const MOVED: &str = "ghcr.io/devopskev/web:1";
const FAILED: &str = r#"catamaran_rescues_total{mirror="apps",kind="failed"}"#;
const PATCHED: &str = r#"catamaran_rescues_total{mirror="apps",kind="patched"}"#;

/// A leader that has left its primary, and the pods that it knows of.
struct Ground {
    cluster: Cluster,
    context: PodsContext,
    reports: Arc<Reports>,
    waiting: Mutex<Waiting>,
    table: watch::Receiver<ScopedTable>,
}

impl Ground {
    fn new(mode: &str) -> Ground {
        let cluster = Cluster::default();
        let (context, _, reports) = leader(&cluster, table(&apps(mode), Side::Fallback));
        let scoped = ScopedTable::new(&context.table.borrow());
        Ground {
            cluster,
            context,
            reports,
            waiting: Mutex::default(),
            table: watch::channel(scoped).1,
        }
    }

    fn rescuer(&self) -> (Rescuer<'_>, Publisher) {
        Rescuer::new(&self.context, &self.waiting, self.table.clone())
    }

    /// Adds a pod to the cluster, and has it seen.
    fn add(&self, pod: Value) {
        let key = format!("{}/{}", text(&pod, "namespace"), text(&pod, "name"));
        self.cluster.put_pod(pod);
        self.see(&key);
    }

    fn see(&self, key: &str) {
        let pod: PodObject = serde_json::from_value(self.cluster.pod(key).unwrap()).unwrap();
        let record = pod.record.keep(&self.table.borrow().scope).unwrap();
        self.waiting.lock().unwrap().put_pending(record);
    }

    fn metric(&self, line: &str) -> u64 {
        metric(&self.context.metrics, line)
    }

    /// Publishes what is left to be, and returns all Events.
    async fn events(&self, rescuer: Rescuer<'_>, publisher: Publisher) -> Vec<String> {
        drop(rescuer);
        publisher.publish(&self.context.recorder).await;
        self.cluster.events()
    }
}

fn text(pod: &Value, field: &str) -> String {
    pod["metadata"][field].as_str().unwrap().to_owned()
}

/// The answer of a `ValidatingAdmissionPolicy`.
fn denied(words: &str) -> Value {
    let mut status = status(422, words);
    status["details"] = json!({"name": "web-1", "kind": "Pod", "causes": [{"message": words}]});
    status
}

#[tokio::test(start_paused = true)]
async fn waiting_pod_is_patched_noted_and_told() {
    let ground = Ground::new("Patch");
    ground.add(waiting_pod("shop", "web-1"));
    let (rescuer, publisher) = ground.rescuer();
    rescuer.rescue("shop-web-1").await;
    let pod = ground.cluster.pod("shop/web-1").unwrap();
    assert_eq!(ground.cluster.image("shop/web-1"), MOVED);
    let noted = &pod["metadata"]["annotations"];
    assert_eq!(noted[annotations::RESCUED], r#"{"web":"kracr.azurecr.io/web:1"}"#);
    assert_eq!(noted[annotations::RESCUED_EPOCH], r#"{"web":"apps@2"}"#);
    assert_eq!(ground.metric(PATCHED), 1);
    rescuer.report();
    assert_eq!(*ground.reports.rescued.lock().unwrap(), 1);
    // It knows what it did.
    rescuer.rescue("shop-web-1").await;
    assert_eq!(ground.cluster.requests("PATCH").len(), 1);
    let events = ground.events(rescuer, publisher).await;
    let note = "container 'web': 'kracr.azurecr.io/web:1' is now 'ghcr.io/devopskev/web:1', because kracr.azurecr.io is unavailable";
    assert_eq!(events, [format!("web-1 ImageRescued {note}")]);
}

#[tokio::test(start_paused = true)]
async fn pod_of_excluded_namespace_is_left_alone() {
    let ground = Ground::new("Patch");
    let (rescuer, _publisher) = ground.rescuer();
    for namespace in ["kube-system", "catamaran-system", "legacy", "kube-public"] {
        ground.add(waiting_pod(namespace, "web-1"));
        rescuer.rescue(&format!("{namespace}-web-1")).await;
        let patches = ground.cluster.requests("PATCH").len();
        assert_eq!(patches, usize::from(namespace == "kube-public"), "{namespace}");
    }
}

#[tokio::test(start_paused = true)]
async fn pod_that_started_meanwhile_is_not_restarted() {
    let ground = Ground::new("Patch");
    ground.add(waiting_pod("shop", "web-1"));
    let mut started = waiting_pod("shop", "web-1");
    started["status"] = json!({"phase": "Running", "containerStatuses": [
        {"name": "web", "restartCount": 0, "state": {"running": {}}}]});
    ground.cluster.put_pod(started);
    let (rescuer, _publisher) = ground.rescuer();
    rescuer.rescue("shop-web-1").await;
    assert_eq!(ground.cluster.image("shop/web-1"), "kracr.azurecr.io/web:1");
    assert_eq!((ground.metric(PATCHED), ground.metric(FAILED)), (0, 0));
    assert_eq!(ground.cluster.requests("PATCH").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn pod_that_changed_meanwhile_is_looked_at_again_at_once() {
    let ground = Ground::new("Patch");
    ground.add(waiting_pod("shop", "web-1"));
    let mut changed = waiting_pod("shop", "web-1");
    changed["metadata"]["labels"] = json!({"team": "a"});
    ground.cluster.put_pod(changed);
    let (rescuer, _publisher) = ground.rescuer();
    rescuer.rescue("shop-web-1").await;
    assert_eq!(ground.cluster.image("shop/web-1"), MOVED);
    assert_eq!(
        ground.cluster.requests("").len(),
        3,
        "a patch that failed, a read, a patch"
    );
    assert_eq!((ground.metric(PATCHED), ground.metric(FAILED)), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn another_pod_of_the_same_name_is_left_alone() {
    let ground = Ground::new("Patch");
    ground.add(waiting_pod("shop", "web-1"));
    let mut other = waiting_pod("shop", "web-1");
    other["metadata"]["uid"] = json!("another");
    ground.cluster.put_pod(other);
    let (rescuer, _publisher) = ground.rescuer();
    rescuer.rescue("shop-web-1").await;
    assert_eq!(ground.cluster.image("shop/web-1"), "kracr.azurecr.io/web:1");
    ground.cluster.remove_pod("shop/web-1");
    rescuer.rescue("shop-web-1").await;
}

#[tokio::test(start_paused = true)]
async fn refused_patch_is_told_once_and_not_repeated() {
    let words =
        "Pod \"web-1\" is invalid: : ValidatingAdmissionPolicy 'acr-only' denied request: only kracr.azurecr.io";
    for (code, answer) in [(422, denied(words)), (403, status(403, words))] {
        let ground = Ground::new("Patch");
        ground.add(waiting_pod("shop", "web-1"));
        ground.cluster.admit(move |_| Err(answer.clone()));
        let (rescuer, publisher) = ground.rescuer();
        for _ in 0..60 {
            rescuer.rescue("shop-web-1").await;
            tokio::time::advance(Duration::from_secs(5)).await;
        }
        assert_eq!(ground.cluster.requests("PATCH").len(), 1, "{code}");
        assert_eq!(ground.metric(FAILED), 1, "{code}");
        rescuer.report();
        assert_eq!(*ground.reports.rescued.lock().unwrap(), 0);
        // Another image is another attempt.
        let mut changed = waiting_pod("shop", "web-1");
        changed["spec"]["containers"][0]["image"] = json!("kracr.azurecr.io/web:2");
        ground.add(changed);
        rescuer.rescue("shop-web-1").await;
        assert_eq!(ground.cluster.requests("PATCH").len(), 1, "{code}");
        let events = ground.events(rescuer, publisher).await;
        assert_eq!(events.len(), 2, "{events:?}");
        let note = format!("failed to re-point 'web' to '{MOVED}'; the API server answers: {words}");
        assert_eq!(events[0], format!("web-1 ImageNotRescued {note}"));
    }
}

#[tokio::test(start_paused = true)]
async fn refused_pod_is_tried_again_when_the_policy_may_have_changed() {
    let ground = Ground::new("Patch");
    ground.add(waiting_pod("shop", "web-1"));
    ground.cluster.admit(|_| Err(status(403, "no")));
    let (rescuer, _publisher) = ground.rescuer();
    rescuer.rescue("shop-web-1").await;
    ground.cluster.admit(|pod| Ok(pod.clone()));
    tokio::time::advance(Duration::from_mins(11)).await;
    rescuer.rescue("shop-web-1").await;
    assert_eq!(ground.cluster.image("shop/web-1"), MOVED);
}

#[tokio::test(start_paused = true)]
async fn failure_that_may_pass_is_tried_again() {
    let ground = Ground::new("Patch");
    ground.add(waiting_pod("shop", "web-1"));
    ground.cluster.admit(|_| Err(status(500, "failed calling webhook")));
    let (rescuer, publisher) = ground.rescuer();
    rescuer.rescue("shop-web-1").await;
    rescuer.rescue("shop-web-1").await;
    assert_eq!(ground.cluster.requests("PATCH").len(), 1, "not at once");
    ground.cluster.admit(|pod| Ok(pod.clone()));
    tokio::time::advance(Duration::from_secs(5)).await;
    rescuer.rescue("shop-web-1").await;
    assert_eq!(ground.cluster.image("shop/web-1"), MOVED);
    assert_eq!((ground.metric(PATCHED), ground.metric(FAILED)), (1, 1));
    let events = ground.events(rescuer, publisher).await;
    assert_eq!(events.len(), 1, "only of the rescue: {events:?}");
}

#[tokio::test(start_paused = true)]
async fn note_is_left_out_where_annotations_have_no_room() {
    let ground = Ground::new("Patch");
    ground.add(waiting_pod("shop", "web-1"));
    ground.cluster.admit(|pod| {
        if pod["metadata"]["annotations"].is_null() {
            return Ok(pod.clone());
        }
        let words = "Pod \"web-1\" is invalid: metadata.annotations: Too long: may not be more than 262144 bytes";
        let mut status = status(422, words);
        status["details"] = json!({"kind": "Pod", "causes": [
            {"reason": "FieldValueTooLong", "field": "metadata.annotations", "message": "Too long"}]});
        Err(status)
    });
    let (rescuer, publisher) = ground.rescuer();
    rescuer.rescue("shop-web-1").await;
    assert_eq!(ground.cluster.image("shop/web-1"), MOVED);
    assert_eq!((ground.metric(PATCHED), ground.metric(FAILED)), (1, 0));
    let noted = rescuer.memory().unnoted("shop-web-1");
    assert_eq!(
        noted.get("web").map(|at| (at.mirror.to_owned(), at.epoch)),
        Some(("apps".to_owned(), 2))
    );
    assert_eq!(ground.events(rescuer, publisher).await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn image_that_a_policy_sets_back_counts_as_failed() {
    let ground = Ground::new("Patch");
    ground.add(waiting_pod("shop", "web-1"));
    ground.cluster.admit(|pod| {
        let mut pod = pod.clone();
        pod["spec"]["containers"][0]["image"] = json!("kracr.azurecr.io/web:1");
        Ok(pod)
    });
    let (rescuer, publisher) = ground.rescuer();
    for _ in 0..3 {
        rescuer.rescue("shop-web-1").await;
    }
    assert_eq!(ground.cluster.requests("PATCH").len(), 1);
    assert_eq!((ground.metric(PATCHED), ground.metric(FAILED)), (0, 1));
    let events = ground.events(rescuer, publisher).await;
    let note = "failed to re-point 'web': another admission webhook or policy set the image back";
    assert_eq!(events, [format!("web-1 ImageNotRescued {note}")]);
}

#[tokio::test(start_paused = true)]
async fn patch_that_does_not_apply_to_an_unchanged_pod_is_refused() {
    let ground = Ground::new("Patch");
    ground.add(waiting_pod("shop", "web-1"));
    ground.cluster.admit(|_| {
        Err(status(
            422,
            "the server rejected our request due to an error in our request",
        ))
    });
    let (rescuer, publisher) = ground.rescuer();
    for _ in 0..10 {
        rescuer.rescue("shop-web-1").await;
    }
    assert_eq!(ground.cluster.requests("PATCH").len(), 1);
    assert_eq!(ground.metric(FAILED), 1);
    assert_eq!(ground.events(rescuer, publisher).await.len(), 1);
}

/// A pod whose pull hangs.
fn hanging_pod(name: &str) -> Value {
    let mut pod = waiting_pod("shop", name);
    pod["status"]["containerStatuses"][0]["state"]["waiting"] = json!({"reason": "ContainerCreating"});
    pod
}

fn replacing() -> Ground {
    let ground = Ground::new("PatchOrReplace");
    *ground.reports.hanging.lock().unwrap() = Some(Side::Primary);
    ground
}

#[tokio::test(start_paused = true)]
async fn hanging_pod_is_deleted_in_the_version_that_was_seen() {
    let ground = replacing();
    ground.add(hanging_pod("web-1"));
    let mut started = waiting_pod("shop", "web-1");
    started["status"] = json!({"phase": "Running", "containerStatuses": [
        {"name": "web", "restartCount": 0, "state": {"running": {}}}]});
    ground.cluster.put_pod(started);
    let (rescuer, _publisher) = ground.rescuer();
    rescuer.rescue("shop-web-1").await;
    assert!(ground.cluster.pod("shop/web-1").is_some(), "it runs");
    ground.add(hanging_pod("web-2"));
    rescuer.rescue("shop-web-2").await;
    assert!(ground.cluster.pod("shop/web-2").is_none());
    assert_eq!(
        ground.metric(r#"catamaran_rescues_total{mirror="apps",kind="replaced"}"#),
        1
    );
}

#[tokio::test(start_paused = true)]
async fn pods_of_a_replica_set_are_replaced_once_and_then_patched() {
    let ground = replacing();
    let (rescuer, _publisher) = ground.rescuer();
    for name in ["web-1", "web-2"] {
        ground.add(hanging_pod(name));
        rescuer.rescue(&format!("shop-{name}")).await;
        assert!(ground.cluster.pod(&format!("shop/{name}")).is_none(), "{name}");
    }
    tokio::time::advance(Duration::from_secs(10)).await;
    ground.add(hanging_pod("web-3"));
    rescuer.rescue("shop-web-3").await;
    assert_eq!(ground.cluster.image("shop/web-3"), MOVED);
    tokio::time::advance(Duration::from_mins(5)).await;
    ground.add(hanging_pod("web-4"));
    rescuer.rescue("shop-web-4").await;
    assert!(ground.cluster.pod("shop/web-4").is_none());
}

#[tokio::test(start_paused = true)]
async fn pod_that_can_not_be_deleted_is_patched() {
    let ground = replacing();
    ground.add(hanging_pod("web-1"));
    ground.cluster.admit(|pod| match pod.get("deleted") {
        Some(_) => Err(status(403, "pods \"web-1\" is forbidden")),
        None => Ok(pod.clone()),
    });
    let (rescuer, publisher) = ground.rescuer();
    rescuer.rescue("shop-web-1").await;
    assert_eq!(ground.cluster.image("shop/web-1"), MOVED);
    assert_eq!(ground.cluster.requests("DELETE").len(), 1);
    let events = ground.events(rescuer, publisher).await;
    assert_eq!(events.len(), 2, "{events:?}");
    assert!(events[0].contains("pods \"web-1\" is forbidden"), "{events:?}");
}

#[tokio::test(start_paused = true)]
async fn record_of_another_scope_is_read_again_before_a_write() {
    let ground = Ground::new("Patch");
    let mut opted_out = waiting_pod("shop", "web-1");
    opted_out["metadata"]["labels"] = json!({"application": "spilo"});
    ground.cluster.put_pod(opted_out);
    // Kept when no mirror asked for this label.
    let pod: PodObject = serde_json::from_value(ground.cluster.pod("shop/web-1").unwrap()).unwrap();
    let mut unasking = (*apps("Patch")).clone();
    unasking.rewrite.exclude_pods = Arc::default();
    let before = ScopedTable::new(&table(&Arc::new(unasking), Side::Fallback));
    let record = pod.record.keep(&before.scope).unwrap();
    ground.waiting.lock().unwrap().put_pending(record);
    let (rescuer, _publisher) = ground.rescuer();
    rescuer.rescue("shop-web-1").await;
    assert_eq!(ground.cluster.image("shop/web-1"), "kracr.azurecr.io/web:1");
    assert_eq!(ground.cluster.requests("GET").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn replica_that_does_not_lead_writes_nothing() {
    let mut ground = Ground::new("Patch");
    ground.context.leadership = catamaran_lease::channel().1;
    ground.add(waiting_pod("shop", "web-1"));
    let (rescuer, _publisher) = ground.rescuer();
    rescuer.rescue("shop-web-1").await;
    assert_eq!(ground.cluster.requests(""), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn unknown_references_are_asked_for() {
    let ground = Ground::new("Patch");
    let mut absent = waiting_pod("shop", "web-1");
    let message =
        "Back-off pulling image \"kracr.azurecr.io/web:1\": ErrImagePull: rpc error: code = NotFound desc = not found";
    absent["status"]["containerStatuses"][0]["state"]["waiting"]["message"] = json!(message);
    ground.add(absent);
    ground.add(waiting_pod("blog", "web-1"));
    let (rescuer, _publisher) = ground.rescuer();
    for _ in 0..3 {
        rescuer.rescue("shop-web-1").await;
        rescuer.rescue("blog-web-1").await;
        rescuer.report();
    }
    let mut wanted = std::mem::take(&mut *ground.reports.wanted.lock().unwrap());
    wanted.sort();
    assert_eq!(wanted, ["web:1", "web:1!"]);
}
