use serde_json::{Value, json};

use super::super::reader::PodObject;
use super::super::testing::{Reports, apps, table, waiting_pod};
use super::*;

const REFUSED: &str = r#"failed to pull and unpack image "kracr.azurecr.io/web:1": failed to resolve image: failed to do request: Head "https://kracr.azurecr.io/v2/web/manifests/1": dial tcp 10.98.1.2:443: connect: connection refused"#;

/// Reports of a watch over pods whose images are of the mirror `apps`.
struct Ground {
    pulls: PullReports,
    waiting: Waiting,
    table: Arc<RouteTable>,
    reports: Reports,
}

impl Ground {
    fn new() -> Ground {
        Ground {
            pulls: PullReports::default(),
            waiting: Waiting::default(),
            table: table(&apps("Patch"), Side::Primary),
            reports: Reports::default(),
        }
    }

    /// A pod is seen in this state, as its version has it.
    fn sees(&mut self, name: &str, version: &str, waiting: &Value) {
        let pod = pod(name, version, waiting);
        self.pulls.see(&pod, &self.table);
        self.waiting.put_pending(pod);
    }

    /// What is told after a second.
    fn told(&mut self) -> Vec<String> {
        self.pulls.look_again(&self.waiting, &self.table);
        self.pulls.tell(&self.reports, &self.table);
        std::mem::take(&mut self.reports.pulls.lock().unwrap())
    }
}

fn pod(name: &str, version: &str, waiting: &Value) -> PodRecord {
    let mut pod = waiting_pod("shop", name);
    pod["metadata"]["uid"] = json!(name);
    pod["metadata"]["resourceVersion"] = json!(version);
    pod["spec"]["nodeName"] = json!("n1");
    pod["status"]["containerStatuses"][0]["state"] = json!({"waiting": waiting});
    serde_json::from_value::<PodObject>(pod).unwrap().record
}

fn refused() -> Value {
    json!({"reason": "ErrImagePull", "message": REFUSED})
}

fn backs_off() -> Value {
    let message = format!(r#"Back-off pulling image "kracr.azurecr.io/web:1": ErrImagePull: {REFUSED}"#);
    json!({"reason": "ImagePullBackOff", "message": message})
}

#[test]
fn failed_pull_is_told_whenever_it_changes() {
    let mut ground = Ground::new();
    ground.sees("web-0", "1", &refused());
    assert_eq!(ground.told(), ["web-0 on n1: Connection -"]);
    assert_eq!(ground.told(), [""; 0], "nothing has changed");
    ground.sees("web-0", "2", &backs_off());
    assert_eq!(ground.told(), ["web-0 on n1: (Connection) -"]);
    ground.sees("web-0", "3", &json!({"reason": "ContainerCreating"}));
    assert_eq!(ground.told(), ["web-0 on n1: - -"]);
    ground.sees("web-0", "4", &json!({"reason": "CrashLoopBackOff"}));
    assert_eq!(ground.told(), [""; 0]);
}

#[test]
fn attempt_of_which_the_end_was_seen_stays_one() {
    let mut ground = Ground::new();
    ground.sees("web-0", "1", &refused());
    ground.sees("web-0", "2", &backs_off());
    assert_eq!(ground.told(), ["web-0 on n1: Connection -"]);
    ground.sees("web-0", "3", &refused());
    ground.sees(
        "web-0",
        "4",
        &json!({"reason": "ImagePullBackOff", "message": "Back-off pulling image \"kracr.azurecr.io/web:1\""}),
    );
    assert_eq!(ground.told(), ["web-0 on n1: Connection -"], "the cause is known, too");
}

#[test]
fn pod_that_is_gone_or_was_read_again_is_told() {
    let mut ground = Ground::new();
    ground.sees("web-0", "1", &refused());
    ground.sees("web-1", "1", &refused());
    assert_eq!(ground.told().len(), 2);
    ground.waiting.remove("web-0");
    let again = pod("web-1", "2", &backs_off());
    ground.waiting.put_pending(again);
    let mut told = ground.told();
    told.sort();
    assert_eq!(told, ["web-0 on n1: - -", "web-1 on n1: (Connection) -"]);
}

#[test]
fn pod_without_a_node_or_of_no_mirror_is_not_told() {
    let mut ground = Ground::new();
    let mut unplaced = pod("web-0", "1", &refused());
    unplaced.node = Box::default();
    ground.pulls.see(&unplaced, &ground.table);
    ground.sees(
        "web-1",
        "1",
        &json!({"reason": "InvalidImageName", "message": "connection refused"}),
    );
    let mut foreign = pod("web-2", "1", &refused());
    foreign.containers[0].image = "docker.io/library/nginx:1".into();
    ground.pulls.see(&foreign, &ground.table);
    assert_eq!(ground.told(), [""; 0]);
}

#[test]
fn mirror_that_could_not_be_told_is_told_later() {
    let mut ground = Ground::new();
    *ground.reports.deaf.lock().unwrap() = true;
    for pod in 0..1_200 {
        ground.sees(&format!("web-{pod}"), "1", &refused());
    }
    assert_eq!(ground.told(), [""; 0]);
    *ground.reports.deaf.lock().unwrap() = false;
    let told: Vec<usize> = (0..4).map(|_| ground.told().len()).collect();
    assert_eq!(told, [500, 500, 200, 0], "so many at a time");
    // Of a mirror that is gone nothing is kept.
    *ground.reports.deaf.lock().unwrap() = true;
    ground.sees("web-0", "2", &backs_off());
    ground.told();
    ground.table = Arc::default();
    *ground.reports.deaf.lock().unwrap() = false;
    assert_eq!(ground.told(), [""; 0]);
    assert!(ground.pulls.staged.is_empty());
}
