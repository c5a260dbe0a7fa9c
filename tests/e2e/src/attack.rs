//! What a pod can do to the operator's ports without any right: everything at once, until it is told to end.
//!
//! As in [`crate::load`], the program that drives the test starts itself again, here in the network of a pod, with [`ARGUMENT`].

mod hold;
mod pods;
mod tls;

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use catamaran_cluster::Cluster;
use serde_json::{Value, json};

use crate::load;

/// The first argument of a program that is to attack.
pub const ARGUMENT: &str = "--attack";

/// The environment variable that a pod is found by whose network is attacked from.
pub const MARK: &str = "ATTACKS_FOR";

/// The ports of a replica, and whether they speak TLS.
const PORTS: [(u16, bool); 4] = [(9443, true), (8080, false), (8081, false), (8082, false)];

/// An attacker at work.
#[derive(Debug)]
pub struct Attack {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl Attack {
    /// Starts one in the network of the pod with this mark, against replicas at these addresses; pods without end are created in
    /// the namespace. Returns when everything has begun.
    pub fn start(cluster: &Cluster, mark: &str, namespace: &str, replicas: &[String]) -> anyhow::Result<Self> {
        let mut order = load::access(cluster);
        order["namespace"] = json!(namespace);
        order["replicas"] = json!(replicas);
        let program = std::env::current_exe().context("failed to find this program")?;
        let script = format!(
            r#"ulimit -n "$(ulimit -H -n)"
            for folder in /proc/[0-9]*; do
                tr '\0' '\n' <"$folder/environ" 2>/dev/null | grep -qx "{MARK}=$1" || continue
                exec nsenter --net="$folder/ns/net" -- "$2" {ARGUMENT} "$3"
            done
            echo "no process has {MARK}=$1" >&2; exit 1"#
        );
        let mut child = cluster
            .command("sh")
            .args(["-c", &script, "sh", mark])
            .arg(program)
            .arg(order.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("failed to start the attacker")?;
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().context("failed to read from the attacker")?;
        let mut stdout = BufReader::new(stdout);
        let mut line = String::new();
        stdout.read_line(&mut line)?;
        ensure!(line.trim() == "begun", "the attacker has not begun: {line:?}");
        Ok(Self { child, stdin, stdout })
    }

    /// Ends it: how often it did what.
    pub fn stop(mut self) -> anyhow::Result<BTreeMap<String, u64>> {
        drop(self.stdin.take());
        let mut text = String::new();
        self.stdout.read_to_string(&mut text)?;
        let status = self.child.wait()?;
        ensure!(status.success(), "the attacker failed: {status}");
        serde_json::from_str(text.trim()).with_context(|| format!("failed to read what the attacker did: {text:?}"))
    }
}

impl Drop for Attack {
    fn drop(&mut self) {
        drop(self.stdin.take());
        let _ = self.child.wait();
    }
}

/// Is the attacker, if this program was started as one; `None` if not.
pub fn attacker() -> Option<anyhow::Result<()>> {
    let mut arguments = std::env::args().skip(1);
    arguments.next().filter(|word| word == ARGUMENT)?;
    Some(work(arguments.next()))
}

fn work(order: Option<String>) -> anyhow::Result<()> {
    let order: Value = serde_json::from_str(&order.context("failed to find what to attack")?)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let done = runtime.block_on(attack(&order))?;
    println!("{}", serde_json::to_string(&done)?);
    runtime.shutdown_background();
    Ok(())
}

/// How often something was done.
#[derive(Debug, Default)]
struct Done {
    counts: Vec<(&'static str, Arc<AtomicU64>)>,
}

impl Done {
    fn of(&mut self, what: &'static str) -> Arc<AtomicU64> {
        let count = Arc::<AtomicU64>::default();
        self.counts.push((what, Arc::clone(&count)));
        count
    }

    fn sums(&self) -> BTreeMap<&'static str, u64> {
        let mut sums = BTreeMap::new();
        for (what, count) in &self.counts {
            *sums.entry(*what).or_default() += count.load(Ordering::Relaxed);
        }
        sums
    }
}

async fn attack(order: &Value) -> anyhow::Result<BTreeMap<&'static str, u64>> {
    let mut done = Done::default();
    let replicas = order["replicas"].as_array().context("no replicas in the order")?;
    for replica in replicas {
        let replica = replica.as_str().context("a replica without an address")?;
        for (port, encrypted) in PORTS {
            hold::port(&format!("{replica}:{port}"), encrypted, &mut done)?;
        }
    }
    pods::create(order, done.of("pods with 16,384 images"))?;
    // Long enough for each kind to have had its first connections.
    tokio::time::sleep(Duration::from_secs(4)).await;
    println!("begun");
    let ended = Arc::<AtomicBool>::default();
    let waiter = Arc::clone(&ended);
    std::thread::spawn(move || {
        // It ends when the other side closes it or dies, and either is the end.
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        waiter.store(true, Ordering::Relaxed);
    });
    while !ended.load(Ordering::Relaxed) {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(done.sums())
}
