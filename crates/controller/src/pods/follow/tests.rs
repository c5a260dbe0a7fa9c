use std::sync::atomic::{AtomicBool, Ordering};

use super::super::reader::PodObject;
use super::super::testing::{Cluster, status, waiting_pod};
use super::*;

fn words(change: Change<PodObject>) -> String {
    match change {
        Change::Listing => "listing".to_owned(),
        Change::Seen(pod) => format!("seen {}", pod.record.name),
        Change::Listed => "listed".to_owned(),
        Change::Gone(pod) => format!("gone {}", pod.record.name),
    }
}

/// What is seen of a cluster until as many changes as `count`.
async fn seen(receiver: &mut mpsc::Receiver<String>, count: usize) -> Vec<String> {
    let mut seen = Vec::new();
    for _ in 0..count {
        let change = tokio::time::timeout(Duration::from_mins(2), receiver.recv()).await;
        seen.push(change.expect("nothing more is seen").unwrap());
    }
    seen
}

fn followed(cluster: &Cluster) -> mpsc::Receiver<String> {
    followed_until(cluster, watch::channel(0).1)
}

fn followed_until(cluster: &Cluster, restarts: watch::Receiver<u64>) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel(8);
    let client = cluster.client();
    tokio::spawn(async move {
        follow::<PodObject, _>(&client, restarts, "status.phase=Pending", &sender, |change| {
            Some(words(change))
        })
        .await;
    });
    receiver
}

#[tokio::test(start_paused = true)]
async fn list_is_followed_by_what_happens_after_it() {
    let cluster = Cluster::default();
    cluster.put_pod(waiting_pod("shop", "a"));
    let mut receiver = followed(&cluster);
    assert_eq!(seen(&mut receiver, 3).await, ["listing", "seen a", "listed"]);
    cluster.put_pod(waiting_pod("shop", "b"));
    assert_eq!(seen(&mut receiver, 1).await, ["seen b"]);
    cluster.remove_pod("shop/a");
    assert_eq!(seen(&mut receiver, 1).await, ["gone a"]);
    let requests = cluster.requests("GET /api/v1/pods");
    let lists = requests.iter().filter(|request| !request.contains("watch=true"));
    assert_eq!(lists.count(), 1, "{requests:?}");
}

#[tokio::test(start_paused = true)]
async fn expired_version_leads_to_another_list() {
    let cluster = Cluster::default();
    cluster.put_pod(waiting_pod("shop", "a"));
    let expired = AtomicBool::new(true);
    cluster.trouble(move |_, query| {
        (query.contains("watch=true") && expired.swap(false, Ordering::Relaxed)).then(|| status(410, "expired"))
    });
    let mut receiver = followed(&cluster);
    assert_eq!(
        seen(&mut receiver, 5).await,
        ["listing", "seen a", "listed", "listing", "seen a"]
    );
}

#[tokio::test(start_paused = true)]
async fn restart_begins_with_a_list() {
    let cluster = Cluster::default();
    cluster.put_pod(waiting_pod("shop", "a"));
    let (restart, restarts) = watch::channel(0);
    let mut receiver = followed_until(&cluster, restarts);
    assert_eq!(seen(&mut receiver, 3).await, ["listing", "seen a", "listed"]);
    restart.send_replace(1);
    assert_eq!(seen(&mut receiver, 3).await, ["listing", "seen a", "listed"]);
    drop(restart);
    cluster.put_pod(waiting_pod("shop", "b"));
    assert_eq!(seen(&mut receiver, 1).await, ["seen b"]);
}

#[tokio::test(start_paused = true)]
async fn list_that_fails_is_begun_again_after_a_pause() {
    let cluster = Cluster::default();
    cluster.trouble(|_, _| Some(status(503, "no")));
    let mut receiver = followed(&cluster);
    assert_eq!(seen(&mut receiver, 3).await, ["listing"; 3]);
    cluster.trouble(|_, _| None);
    assert_eq!(seen(&mut receiver, 2).await, ["listing", "listed"]);
}

#[test]
fn pause_grows_to_half_a_minute() {
    let pauses: Vec<u128> = [0, 1, 2, 5, 6, 40].map(|failures| pause(failures).as_millis()).into();
    assert_eq!(pauses, [500, 1_000, 2_000, 16_000, 30_000, 30_000]);
}
