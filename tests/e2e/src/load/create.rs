//! Many pods in little time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, ensure};
use catamaran_cluster::Cluster;
use serde_json::{Value, json};

use super::{access, connection, program, word};

/// The first argument of a program that is to create them.
pub(super) const ARGUMENT: &str = "--create";

/// Requests under way at a time.
const CONNECTIONS: usize = 8;

/// Creates so many pods like this one, each with a number behind its name.
pub fn create(cluster: &Cluster, namespace: &str, pod: &Value, count: u64) -> anyhow::Result<()> {
    let mut words = access(cluster);
    words["namespace"] = json!(namespace);
    words["pod"] = pod.clone();
    words["count"] = json!(count);
    let status = program(cluster, ARGUMENT, &words)?.status()?;
    ensure!(status.success(), "failed to create {count} pods: {status}");
    Ok(())
}

struct Job {
    url: String,
    pod: Value,
    name: String,
    count: u64,
    next: AtomicU64,
}

pub(super) async fn work(order: Value) -> anyhow::Result<()> {
    let job = Arc::new(Job {
        url: format!(
            "{}/api/v1/namespaces/{}/pods",
            word(&order, "url")?,
            word(&order, "namespace")?
        ),
        name: word(&order["pod"]["metadata"], "name")?.to_owned(),
        pod: order["pod"].clone(),
        count: order["count"].as_u64().context("no count in the order")?,
        next: AtomicU64::new(0),
    });
    let mut workers = Vec::new();
    for _ in 0..CONNECTIONS {
        let (client, job) = (connection(&order)?, Arc::clone(&job));
        workers.push(tokio::spawn(async move { some(&client, &job).await }));
    }
    for worker in workers {
        worker.await??;
    }
    Ok(())
}

/// Creates pods until there are enough.
async fn some(client: &reqwest::Client, job: &Job) -> anyhow::Result<()> {
    let mut pod = job.pod.clone();
    loop {
        let number = job.next.fetch_add(1, Ordering::Relaxed);
        if number >= job.count {
            return Ok(());
        }
        pod["metadata"]["name"] = json!(format!("{}-{number}", job.name));
        let request = client.post(&job.url).header("content-type", "application/json");
        let answer = request.body(pod.to_string()).send().await?;
        let status = answer.status();
        let body = answer.text().await?;
        ensure!(status.as_u16() == 201, "{status}: {body}");
    }
}
