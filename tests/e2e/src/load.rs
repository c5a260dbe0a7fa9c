//! Admissions without end, and what came of each: pods that are created for show, by a client that keeps its connections.
//!
//! `kubectl` is far too slow for that, and a cluster's network is its own. So the program that drives the test starts itself
//! again in the cluster's namespaces, with [`ARGUMENT`]: there it creates pods (server-side dry run: everything but the storing)
//! until its standard input is closed, prints how many it has had from
//! time to time, and a [`Tally`] at the end.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use catamaran_cluster::Cluster;
use reqwest::{Certificate, Client, Identity, Response};
use serde_json::{Value, json};

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

/// What came of them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Tally {
    /// Pods that the API server was asked to create.
    pub admissions: u64,
    /// Those that it did not answer with a pod.
    pub failed: u64,
    /// Those that were admitted with another image than the expected one.
    pub unrewritten: u64,
    /// From the first request to the last answer.
    pub took: Duration,
    /// Half were answered sooner.
    pub median: Duration,
    /// 99 of a hundred were answered sooner.
    pub p99: Duration,
    /// All were answered as soon.
    pub slowest: Duration,
    /// The first bad ones: when, and what was wrong.
    pub bad: Vec<String>,
}

impl Tally {
    /// One line for people.
    pub fn line(&self) -> String {
        let rate = self.admissions as f64 / self.took.as_secs_f64().max(0.001);
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        format!(
            "{} admissions in {:.1} s ({rate:.0}/s): {} failed, {} unrewritten; median {:.1} ms, p99 {:.1} ms, slowest {:.0} ms",
            self.admissions,
            self.took.as_secs_f64(),
            self.failed,
            self.unrewritten,
            ms(self.median),
            ms(self.p99),
            ms(self.slowest)
        )
    }

    fn read(text: &str) -> anyhow::Result<Self> {
        let value: Value = serde_json::from_str(text).context("failed to read the tally of the admissions")?;
        let number = |key: &str| value[key].as_u64().with_context(|| format!("no {key} in the tally"));
        let time = |key: &str| number(key).map(Duration::from_micros);
        let bad = value["bad"].as_array().map(Vec::as_slice).unwrap_or_default();
        Ok(Self {
            admissions: number("admissions")?,
            failed: number("failed")?,
            unrewritten: number("unrewritten")?,
            took: time("took")?,
            median: time("median")?,
            p99: time("p99")?,
            slowest: time("slowest")?,
            bad: bad.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        })
    }

    fn print(&self) {
        let value = json!({
            "admissions": self.admissions, "failed": self.failed, "unrewritten": self.unrewritten,
            "took": micros(self.took), "median": micros(self.median), "p99": micros(self.p99),
            "slowest": micros(self.slowest), "bad": self.bad,
        });
        println!("{value}");
    }
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
        let access = cluster.access();
        let order = json!({
            "url": access.url, "authority": access.authority, "certificate": access.certificate, "key": access.key,
            "namespace": order.namespace, "image": order.image, "expected": order.expected,
            "connections": order.connections, "every": micros(order.every),
        });
        let program = std::env::current_exe().context("failed to find this program")?;
        let program = program
            .to_str()
            .context("failed to name this program: its path is not UTF-8")?;
        let mut child = cluster
            .command(program)
            .args([ARGUMENT, &order.to_string()])
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
    (arguments.next()? == ARGUMENT).then(|| {
        let order = arguments.next().context("failed to find what to admit")?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()?;
        let tally = runtime.block_on(admit(&serde_json::from_str(&order)?))?;
        tally.print();
        Ok(())
    })
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
    let word = |key: &str| order[key].as_str().with_context(|| format!("no {key} in the order"));
    let job = Arc::new(Job {
        url: format!(
            "{}/api/v1/namespaces/{}/pods?dryRun=All",
            word("url")?,
            word("namespace")?
        ),
        body: pod(word("image")?).to_string(),
        // As the API server prints it; the annotations of a rewritten pod hold the old one, too.
        expected: format!("\"image\":\"{}\"", word("expected")?),
        every: Duration::from_micros(order["every"].as_u64().context("no pause in the order")?),
        stop: AtomicBool::new(false),
        answered: AtomicU64::new(0),
        begun: Instant::now(),
    });
    let (certificate, key) = (fs::read(word("certificate")?)?, fs::read(word("key")?)?);
    let identity = [certificate, key].concat();
    let authority = Certificate::from_pem(&fs::read(word("authority")?)?)?;
    let mut workers = Vec::new();
    for _ in 0..order["connections"].as_u64().context("no connections in the order")? {
        // Each its own: a client of HTTP/1.1 that is shared would open more connections than it has askers.
        let client = Client::builder()
            .identity(Identity::from_pem(&identity)?)
            .tls_certs_only([authority.clone()])
            .http1_only()
            .no_proxy()
            .timeout(PATIENCE)
            .build()?;
        workers.push(tokio::spawn(ask(client, Arc::clone(&job))));
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
            Err(Problem::Unrewritten) => {
                count.unrewritten += 1;
                "unrewritten".to_owned()
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
    Unrewritten,
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
        Err(Problem::Unrewritten)
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
            times: vec![ms(2), ms(40)],
            bad: vec![(ms(100), "unrewritten".to_owned())],
            ..Count::default()
        };
        let tally = sum(vec![one, two], Duration::from_secs(2));
        assert_eq!((tally.admissions, tally.failed, tally.unrewritten), (4, 1, 2));
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
