//! Admissions without end, and what came of each: pods that are created for show, by a client that keeps its connections.
//!
//! `kubectl` is far too slow for that, and a cluster's network is its own. So the program that drives the test starts itself
//! again in the cluster's namespaces, with [`ARGUMENT`]: there it creates pods (server-side dry run: everything but the storing)
//! until its standard input is closed, prints how many it has had from
//! time to time, and a [`Tally`] at the end.

mod create;
mod tally;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use catamaran_cluster::Cluster;
use reqwest::{Certificate, Client, Identity, Response};
use serde_json::{Value, json};

use crate::view::image;

pub use create::create;
pub use tally::Tally;

/// The first argument of a program that is to be the client.
pub const ARGUMENT: &str = "--admit";

/// How long one admission may take: as long as the API server gives a request.
const PATIENCE: Duration = Duration::from_mins(1);

/// From one line with the number of admissions to the next.
const PROGRESS: Duration = Duration::from_millis(200);

/// Bad admissions that are told one by one.
const TOLD: usize = 5;

/// Which pods are created, and what admission is to make of them.
#[derive(Debug, Clone)]
pub struct Order {
    /// The namespace.
    pub namespace: String,
    /// The image that they name.
    pub image: String,
    /// The image that they are to get.
    pub expected: String,
    /// Connections that are kept; each waits for its answer before it asks again.
    pub connections: usize,
    /// The least from one question of a connection to its next; zero: it never rests.
    pub every: Duration,
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// A client at work.
#[derive(Debug)]
pub struct Load {
    child: Child,
    stdin: Option<ChildStdin>,
    admitted: Arc<AtomicU64>,
    /// Ends with the last line that the client has printed.
    reader: Option<JoinHandle<String>>,
}

impl Load {
    /// Starts one.
    pub fn start(cluster: &Cluster, order: &Order) -> anyhow::Result<Self> {
        let mut words = access(cluster);
        words["namespace"] = json!(order.namespace);
        words["image"] = json!(order.image);
        words["expected"] = json!(order.expected);
        words["connections"] = json!(order.connections);
        words["every"] = json!(micros(order.every));
        let mut child = program(cluster, ARGUMENT, &words)?
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("failed to start the client in the cluster")?;
        let stdin = child.stdin.take();
        let admitted = Arc::<AtomicU64>::default();
        let reader = child.stdout.take().map(|stdout| {
            let admitted = Arc::clone(&admitted);
            std::thread::spawn(move || follow(stdout, &admitted))
        });
        Ok(Self {
            child,
            stdin,
            admitted,
            reader,
        })
    }

    /// How many there were so far, a fraction of a second ago.
    pub fn admitted(&self) -> u64 {
        self.admitted.load(Ordering::Relaxed)
    }

    /// Waits until there were so many.
    pub fn reaches(&self, wanted: u64, patience: Duration) -> anyhow::Result<()> {
        let end = Instant::now() + patience;
        while self.admitted() < wanted {
            let admitted = self.admitted();
            ensure!(
                !self.reader.as_ref().is_none_or(JoinHandle::is_finished),
                "the client in the cluster has ended after {admitted} admissions"
            );
            ensure!(
                Instant::now() < end,
                "{admitted} of {wanted} admissions within {} s",
                patience.as_secs()
            );
            std::thread::sleep(PROGRESS);
        }
        Ok(())
    }

    /// Has it answer for what is under way, and counts.
    pub fn stop(mut self) -> anyhow::Result<Tally> {
        drop(self.stdin.take());
        // A reader that panicked has read nothing.
        let text = self
            .reader
            .take()
            .and_then(|reader| reader.join().ok())
            .unwrap_or_default();
        let status = self.child.wait()?;
        ensure!(status.success(), "the client in the cluster failed: {status}");
        Tally::read(text.trim())
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        // The same end as in `stop`; one that has ended already has nothing to say.
        drop(self.stdin.take());
        let _ = self.child.wait();
    }
}

/// This program once more, in the cluster's namespaces.
fn program(cluster: &Cluster, argument: &str, order: &Value) -> anyhow::Result<Command> {
    let program = std::env::current_exe().context("failed to find this program")?;
    let program = program
        .to_str()
        .context("failed to name this program: its path is not UTF-8")?;
    let mut command = cluster.command(program);
    command.args([argument, &order.to_string()]);
    Ok(command)
}

/// Reads the numbers that a client prints until it ends; the last line, which is none.
fn follow(stdout: ChildStdout, admitted: &AtomicU64) -> String {
    let mut last = String::new();
    for line in BufReader::new(stdout).lines().map_while(Result::ok) {
        match line.parse() {
            Ok(number) => admitted.store(number, Ordering::Relaxed),
            Err(_) => last = line,
        }
    }
    last
}

/// Is the client, if this program was started as one; `None` if not.
pub fn client() -> Option<anyhow::Result<()>> {
    let mut arguments = std::env::args().skip(1);
    let word = arguments
        .next()
        .filter(|word| word == ARGUMENT || word == create::ARGUMENT)?;
    Some(work(&word, arguments.next()))
}

fn work(word: &str, order: Option<String>) -> anyhow::Result<()> {
    let order = serde_json::from_str(&order.context("failed to find what to admit")?)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    if word == ARGUMENT {
        runtime.block_on(admit(&order))?.print();
        return Ok(());
    }
    runtime.block_on(create::work(order))
}

/// Where the API server is, and how to prove oneself: the beginning of each order.
pub(crate) fn access(cluster: &Cluster) -> Value {
    let access = cluster.access();
    json!({"url": access.url, "authority": access.authority, "certificate": access.certificate, "key": access.key})
}

/// A connection of its own: a client of HTTP/1.1 that is shared would open more connections than it has askers.
pub(crate) fn connection(order: &Value) -> anyhow::Result<Client> {
    let file = |key: &str| -> anyhow::Result<Vec<u8>> { Ok(fs::read(word(order, key)?)?) };
    let identity = [file("certificate")?, file("key")?].concat();
    let client = Client::builder()
        .identity(Identity::from_pem(&identity)?)
        .tls_certs_only([Certificate::from_pem(&file("authority")?)?])
        .http1_only()
        .no_proxy()
        .timeout(PATIENCE);
    Ok(client.build()?)
}

/// Where pods are created for show.
pub(crate) fn pods_url(order: &Value) -> anyhow::Result<String> {
    let (url, namespace) = (word(order, "url")?, word(order, "namespace")?);
    Ok(format!("{url}/api/v1/namespaces/{namespace}/pods?dryRun=All"))
}

fn word<'o>(order: &'o Value, key: &str) -> anyhow::Result<&'o str> {
    order[key].as_str().with_context(|| format!("no {key} in the order"))
}

struct Job {
    url: String,
    body: String,
    expected: String,
    every: Duration,
    stop: AtomicBool,
    answered: AtomicU64,
    begun: Instant,
}

async fn admit(order: &Value) -> anyhow::Result<Tally> {
    let job = Arc::new(Job {
        url: pods_url(order)?,
        body: pod(word(order, "image")?).to_string(),
        // As the API server prints it; the annotations of a rewritten pod hold the old one, too.
        expected: format!("\"image\":\"{}\"", word(order, "expected")?),
        every: Duration::from_micros(order["every"].as_u64().context("no pause in the order")?),
        stop: AtomicBool::new(false),
        answered: AtomicU64::new(0),
        begun: Instant::now(),
    });
    let mut workers = Vec::new();
    for _ in 0..order["connections"].as_u64().context("no connections in the order")? {
        workers.push(tokio::spawn(ask(connection(order)?, Arc::clone(&job))));
    }
    let waiter = Arc::clone(&job);
    std::thread::spawn(move || {
        let mut rest = Vec::new();
        // It ends when the other side closes it or dies, and either is the end.
        let _ = std::io::stdin().read_to_end(&mut rest);
        waiter.stop.store(true, Ordering::Relaxed);
    });
    let teller = tokio::spawn(tell(Arc::clone(&job)));
    let mut counts = Vec::new();
    for worker in workers {
        counts.push(worker.await?);
    }
    teller.await?;
    Ok(sum(counts, job.begun.elapsed()))
}

async fn tell(job: Arc<Job>) {
    while !job.stop.load(Ordering::Relaxed) {
        println!("{}", job.answered.load(Ordering::Relaxed));
        tokio::time::sleep(PROGRESS).await;
    }
}

#[derive(Default)]
struct Count {
    failed: u64,
    unrewritten: u64,
    others: BTreeMap<String, u64>,
    times: Vec<Duration>,
    bad: Vec<(Duration, String)>,
}

async fn ask(client: Client, job: Arc<Job>) -> Count {
    let mut count = Count::default();
    let mut due = tokio::time::Instant::now();
    while !job.stop.load(Ordering::Relaxed) {
        tokio::time::sleep_until(due).await;
        due = tokio::time::Instant::now() + job.every;
        let begun = Instant::now();
        let answer = client
            .post(&job.url)
            .header("content-type", "application/json")
            .body(job.body.clone())
            .send()
            .await;
        let verdict = judge(answer, &job.expected).await;
        count.times.push(begun.elapsed());
        job.answered.fetch_add(1, Ordering::Relaxed);
        let problem = match verdict {
            Ok(()) => continue,
            Err(Problem::Failed(problem)) => {
                count.failed += 1;
                problem
            }
            Err(Problem::Unrewritten(image)) => {
                count.unrewritten += 1;
                let problem = format!("unrewritten: {image}");
                *count.others.entry(image).or_default() += 1;
                problem
            }
        };
        if count.bad.len() < TOLD {
            count.bad.push((begun.duration_since(job.begun), problem));
        }
    }
    count
}

enum Problem {
    Failed(String),
    /// With this image.
    Unrewritten(String),
}

async fn judge(answer: reqwest::Result<Response>, expected: &str) -> Result<(), Problem> {
    let broken = |error: reqwest::Error| Problem::Failed(format!("{error:?}"));
    let answer = answer.map_err(broken)?;
    let status = answer.status();
    let body = answer.text().await.map_err(broken)?;
    if status.as_u16() != 201 {
        Err(Problem::Failed(format!("{status}: {body}")))
    } else if body.contains(expected) {
        Ok(())
    } else {
        let pod: Value = serde_json::from_str(&body).map_err(|error| Problem::Failed(error.to_string()))?;
        Err(Problem::Unrewritten(image(&pod, "app").to_owned()))
    }
}

fn sum(counts: Vec<Count>, took: Duration) -> Tally {
    let mut tally = Tally {
        took,
        ..Tally::default()
    };
    let mut times = Vec::new();
    let mut bad = Vec::new();
    for count in counts {
        tally.failed += count.failed;
        tally.unrewritten += count.unrewritten;
        for (image, times) in count.others {
            *tally.others.entry(image).or_default() += times;
        }
        times.extend(count.times);
        bad.extend(count.bad);
    }
    times.sort_unstable();
    bad.sort();
    let at = |permille: usize| {
        let index = (times.len() * permille / 1000).min(times.len().saturating_sub(1));
        times.get(index).copied().unwrap_or_default()
    };
    (tally.median, tally.p99, tally.slowest) = (at(500), at(990), at(1000));
    tally.admissions = times.len() as u64;
    let line = |(when, what): (Duration, String)| format!("{:.2} s: {what}", when.as_secs_f64());
    tally.bad = bad.into_iter().take(TOLD).map(line).collect();
    tally
}

fn pod(image: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"generateName": "admitted-", "labels": {"app": "admitted"}},
        "spec": {"containers": [{"name": "app", "image": image}]},
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tally_counts_every_worker_and_survives_the_pipe() {
        let ms = Duration::from_millis;
        let one = Count {
            failed: 1,
            times: vec![ms(3), ms(1)],
            bad: vec![(ms(900), "refused".to_owned())],
            ..Count::default()
        };
        let two = Count {
            unrewritten: 2,
            others: BTreeMap::from([("ghcr.io/a:1".to_owned(), 2)]),
            times: vec![ms(2), ms(40)],
            bad: vec![(ms(100), "unrewritten".to_owned())],
            ..Count::default()
        };
        let tally = sum(vec![one, two], Duration::from_secs(2));
        assert_eq!((tally.admissions, tally.failed, tally.unrewritten), (4, 1, 2));
        assert_eq!(tally.others, BTreeMap::from([("ghcr.io/a:1".to_owned(), 2)]));
        assert_eq!((tally.median, tally.slowest), (ms(3), ms(40)));
        assert_eq!(tally.bad, ["0.10 s: unrewritten", "0.90 s: refused"]);
        let line = tally.line();
        assert!(
            line.starts_with("4 admissions in 2.0 s (2/s): 1 failed, 2 unrewritten; median 3.0 ms"),
            "{line}"
        );
        assert!(Tally::read("{}").is_err(), "no tally is no zero");
    }
}
