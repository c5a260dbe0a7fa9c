use serde_json::json;

use super::super::reader::PodObject;
use super::super::testing::waiting_pod;
use super::*;

/// The same pod under another UID.
fn twin(pod: &PodRecord, uid: usize) -> PodRecord {
    let mut twin = pod.clone();
    twin.uid = uid.to_string().into();
    twin
}

fn record(namespace: &str, name: &str) -> PodRecord {
    let pod: PodObject = serde_json::from_value(waiting_pod(namespace, name)).unwrap();
    pod.record
}

#[test]
fn pods_that_a_new_list_does_not_show_are_gone() {
    let now = Instant::now();
    let mut waiting = Waiting::default();
    waiting.begin_listing();
    for name in ["a", "b"] {
        waiting.put_pending(record("shop", name));
    }
    waiting.end_listing();
    waiting.put_suspect(record("shop", "suspect"), now);
    waiting.begin_listing();
    waiting.put_pending(record("shop", "b"));
    assert!(waiting.get("shop-a").is_some(), "not before it is whole");
    waiting.end_listing();
    let mut names: Vec<_> = waiting.all().map(|pod| pod.name.to_string()).collect();
    names.sort();
    assert_eq!(names, ["b", "suspect"]);
    for uid in ["shop-b", "shop-suspect", "none"] {
        waiting.remove(uid);
    }
    assert_eq!(
        (waiting.len(), waiting.bytes, waiting.suspects, waiting.namespaces.len()),
        (0, 0, 0, 0)
    );
}

#[test]
fn number_of_pods_is_bounded_and_shared() {
    let mut waiting = Waiting::default();
    let greedy = record("greedy", "web");
    for pod in 0..MOST_PODS + 100 {
        waiting.put_pending(twin(&greedy, pod));
    }
    assert_eq!(waiting.len(), MOST_PODS);
    assert_eq!(waiting.take_left_out(), 100);
    assert!(
        waiting.put_pending(record("shop", "web-1")),
        "another namespace has room"
    );
    assert_eq!((waiting.len(), waiting.take_left_out()), (MOST_PODS, 1));
    assert!(waiting.get("shop-web-1").is_some());
    // A newer record of a kept pod takes the place of the older one.
    assert!(waiting.put_pending(record("shop", "web-1")));
    assert_eq!((waiting.len(), waiting.take_left_out()), (MOST_PODS, 0));
}

#[test]
fn bytes_of_records_are_bounded() {
    let containers: Vec<_> = (0..100)
        .map(|at| json!({"name": at.to_string(), "image": format!("kracr.azurecr.io/{}:1", "x".repeat(200))}))
        .collect();
    let mut large = waiting_pod("greedy", "large");
    large["spec"]["containers"] = json!(containers);
    let large = serde_json::from_value::<PodObject>(large).unwrap().record;
    let mut waiting = Waiting::default();
    for pod in 0..1_000 {
        waiting.put_pending(twin(&large, pod));
    }
    assert!(waiting.bytes <= MOST_BYTES);
    assert!(waiting.take_left_out() > 0);
    assert!(waiting.put_pending(record("shop", "web-1")));
    let mut huge = waiting_pod("shop", "huge");
    huge["spec"]["containers"] = json!([&containers[..], &containers[..]].concat());
    let huge = serde_json::from_value::<PodObject>(huge).unwrap().record;
    assert!(!waiting.put_pending(huge), "one pod can't take it all");
}

#[test]
fn suspects_are_bounded_and_read_again_in_turn() {
    let begun = Instant::now();
    let mut waiting = Waiting::default();
    let suspect = record("shop", "web");
    for pod in 0..=MOST_SUSPECTS {
        waiting.put_suspect(twin(&suspect, pod), begun);
    }
    assert_eq!((waiting.len(), waiting.take_left_out()), (MOST_SUSPECTS, 1));
    assert!(waiting.outdated_suspects(begun + Duration::from_secs(29)).is_empty());
    let later = begun + BELIEVED;
    let outdated = waiting.outdated_suspects(later);
    assert_eq!(outdated.len(), REFRESHED);
    for pod in &outdated {
        waiting.update((**pod).clone(), later);
    }
    let next = waiting.outdated_suspects(later);
    assert!(next.iter().all(|pod| !outdated.contains(pod)));
    // A pod that was seen pending stays so.
    waiting.put_pending(record("blog", "web-1"));
    waiting.put_suspect(record("blog", "web-1"), begun);
    assert_eq!(waiting.suspects, MOST_SUSPECTS);
}
