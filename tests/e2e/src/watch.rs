//! What the API server tells, each with the moment at which it was heard.
//!
//! One `kubectl get --watch` for the whole run: asking again and again would cost the machine more than what is measured,
//! and be less exact.

use std::collections::BTreeMap;
use std::io::BufReader;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use catamaran_cluster::Cluster;
use serde_json::{Deserializer, Value};

use crate::view::{image, is_ready, name, namespace};

/// How long something may take that is not itself measured: what comes late on a busy machine has come, and what never comes is
/// known soon enough.
pub const PATIENCE: Duration = Duration::from_mins(3);

/// One object at one moment.
#[derive(Debug, Clone)]
pub struct Seen {
    /// When it was heard of.
    pub at: Instant,
    /// As it was; the last state if it is gone.
    pub object: Value,
    /// It was deleted.
    pub gone: bool,
}

impl Seen {
    /// Whether this is the object of that namespace (empty: cluster-scoped) and name.
    pub fn is(&self, in_namespace: &str, named: &str) -> bool {
        name(&self.object) == named && namespace(&self.object) == in_namespace
    }
}

#[derive(Debug, Default)]
struct Shared {
    seen: Mutex<Vec<Seen>>,
    news: Condvar,
    ended: AtomicBool,
    /// How often kubectl was started: the API server hangs up on one that reads too slowly.
    starts: AtomicU32,
    /// The process group of the running kubectl; 0 if there is none.
    group: Mutex<u32>,
}

impl Shared {
    fn seen(&self) -> MutexGuard<'_, Vec<Seen>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn group(&self) -> MutexGuard<'_, u32> {
        self.group.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A watch that runs until it is dropped.
#[derive(Debug)]
pub struct Watch {
    shared: Arc<Shared>,
    reader: Option<JoinHandle<()>>,
}

impl Watch {
    /// Starts `kubectl get ARGUMENTS --watch`.
    pub fn start(cluster: &Cluster, arguments: &[&str]) -> anyhow::Result<Self> {
        let shared = Arc::<Shared>::default();
        let mut command = cluster.command("kubectl");
        command
            .arg("get")
            .args(arguments)
            // In chunks, kubectl lists more than 500 and then refuses to watch them.
            .args(["--watch", "--output-watch-events", "-o", "json", "--chunk-size=0"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            // nsenter forks: the group is what ends both.
            .process_group(0);
        let child = spawn(&mut command, &shared)?;
        let reader = std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || follow(child, &mut command, &shared)
        });
        Ok(Self {
            shared,
            reader: Some(reader),
        })
    }

    /// Forgets what was seen of objects that are gone, and all but the last state of the others.
    pub fn forget(&self) {
        let mut seen = self.shared.seen();
        let mut kept: Vec<Seen> = Vec::new();
        for item in seen.drain(..) {
            kept.retain(|other| !other.is(namespace(&item.object), name(&item.object)));
            kept.push(item);
        }
        kept.retain(|item| !item.gone);
        *seen = kept;
    }

    /// Waits until `find` finds something in all that was seen so far, oldest first.
    pub fn wait<T>(
        &self,
        what: &str,
        patience: Duration,
        mut find: impl FnMut(&[Seen]) -> Option<T>,
    ) -> anyhow::Result<T> {
        let end = Instant::now() + patience;
        let mut seen = self.shared.seen();
        loop {
            if let Some(found) = find(&seen) {
                return Ok(found);
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                bail!(
                    "failed to see {what} within {} s; kubectl watches for the {}. time and told something {:.1} s ago",
                    patience.as_secs(),
                    self.shared.starts.load(Ordering::SeqCst),
                    seen.last()
                        .map_or(f64::INFINITY, |last| last.at.elapsed().as_secs_f64()),
                );
            }
            drop(
                self.shared
                    .news
                    .wait_timeout(seen, left.min(Duration::from_millis(500)))
                    .unwrap_or_else(PoisonError::into_inner),
            );
            // News come in bursts; what is measured is when each was heard, not when it is looked at.
            std::thread::sleep(Duration::from_millis(20));
            seen = self.shared.seen();
        }
    }

    /// Waits until one object is as `holds` says; the first time after `since` at which it was, and its state then.
    pub fn until(
        &self,
        what: &str,
        patience: Duration,
        (in_namespace, named): (&str, &str),
        since: Instant,
        holds: impl Fn(&Value) -> bool,
    ) -> anyhow::Result<Seen> {
        let found = self.wait(what, patience, |seen| {
            let candidates = seen.iter().filter(|item| item.is(in_namespace, named) && !item.gone);
            // The state that already held at `since` counts, too.
            let before = candidates.clone().rev().find(|item| item.at < since);
            let mut all = before.into_iter().chain(candidates.filter(|item| item.at >= since));
            all.find(|item| holds(&item.object)).cloned()
        });
        found.with_context(|| match self.latest(in_namespace, named) {
            Some(latest) => format!("{named} was last seen as {}", brief(&latest)),
            None => format!("{named} was never seen"),
        })
    }

    /// The last state of an object that is there.
    pub fn latest(&self, in_namespace: &str, named: &str) -> Option<Value> {
        let seen = self.shared.seen();
        let last = seen.iter().rev().find(|item| item.is(in_namespace, named))?;
        (!last.gone).then(|| last.object.clone())
    }

    /// Everything seen of one object.
    pub fn history(&self, in_namespace: &str, named: &str) -> Vec<Seen> {
        let seen = self.shared.seen();
        seen.iter()
            .filter(|item| item.is(in_namespace, named))
            .cloned()
            .collect()
    }

    /// The last state of every object of a namespace that is there.
    pub fn all_in(&self, in_namespace: &str) -> Vec<Value> {
        let seen = self.shared.seen();
        present(&seen, in_namespace)
            .into_iter()
            .map(|item| item.object.clone())
            .collect()
    }
}

/// The last state of every object of a namespace that is there.
pub fn present<'s>(seen: &'s [Seen], in_namespace: &str) -> Vec<&'s Seen> {
    let mut last: BTreeMap<&str, &Seen> = BTreeMap::new();
    for item in seen.iter().filter(|item| namespace(&item.object) == in_namespace) {
        last.insert(name(&item.object), item);
    }
    last.into_values().filter(|item| !item.gone).collect()
}

/// When the last pod of a namespace whose container `app` had waited for an image of `host` got another image; none if one
/// still waits.
pub fn repointed(seen: &[Seen], in_namespace: &str, host: &str) -> Option<Instant> {
    // By pod: whether it waits there, and when it first had left.
    let mut pods: BTreeMap<&str, (bool, Option<Instant>)> = BTreeMap::new();
    for item in seen.iter().filter(|item| namespace(&item.object) == in_namespace) {
        let pod = name(&item.object);
        let there = image(&item.object, "app").starts_with(host);
        if item.gone {
            pods.remove(pod);
        } else if there {
            pods.insert(pod, (!is_ready(&item.object), None));
        } else if let Some((waits, left)) = pods.get_mut(pod) {
            *waits = false;
            left.get_or_insert(item.at);
        }
    }
    let still_waits = pods.values().any(|(waits, _)| *waits);
    let last = pods.into_values().filter_map(|(_, left)| left).max();
    last.filter(|_| !still_waits)
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        kill(*self.shared.group());
        if let Some(reader) = self.reader.take() {
            // A reader that panicked has nothing left to end.
            let _ = reader.join();
        }
    }
}

fn spawn(command: &mut Command, shared: &Shared) -> anyhow::Result<Child> {
    let mut group = shared.group();
    let child = command.spawn().context("failed to start `kubectl get --watch`")?;
    *group = child.id();
    shared.starts.fetch_add(1, Ordering::SeqCst);
    Ok(child)
}

fn kill(group: u32) {
    if group != 0 {
        // It may have ended by itself.
        let _ = Command::new("kill")
            .args(["-KILL", "--", &format!("-{group}")])
            .stderr(Stdio::null())
            .status();
    }
}

/// Reads until the watch is dropped; a kubectl that ends is started again.
fn follow(mut child: Child, command: &mut Command, shared: &Shared) {
    loop {
        if let Some(output) = child.stdout.take() {
            for event in Deserializer::from_reader(BufReader::new(output)).into_iter::<Value>() {
                let Ok(mut event) = event else { break };
                let object = event["object"].take();
                if object["kind"] != "Status" {
                    let gone = event["type"] == "DELETED";
                    let at = Instant::now();
                    shared.seen().push(Seen { at, object, gone });
                    shared.news.notify_all();
                }
            }
        }
        // Nothing more can come from it.
        let _ = child.wait();
        if shared.ended.load(Ordering::SeqCst) {
            return;
        }
        std::thread::sleep(Duration::from_millis(200));
        match spawn(command, shared) {
            Ok(started) => child = started,
            Err(_) => return,
        }
        if shared.ended.load(Ordering::SeqCst) {
            kill(*shared.group());
        }
    }
}

/// What a reader of a failed wait needs to know of an object.
fn brief(object: &Value) -> String {
    let mut object = object.clone();
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.retain(|key, _| matches!(key.as_str(), "name" | "namespace" | "annotations" | "generation"));
    }
    if object["kind"] == "Pod" {
        let images: Vec<_> = object["spec"]["containers"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|container| container["image"].clone())
            .collect();
        let status = &object["status"];
        return format!(
            "images {}, phase {}, containers {}",
            Value::from(images),
            status["phase"],
            status["containerStatuses"]
        );
    }
    format!("{}", object["status"])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn seen(at: Instant, pod: &str, image: &str, ready: &str, gone: bool) -> Seen {
        let object = json!({
            "metadata": {"namespace": "a", "name": pod}, "spec": {"containers": [{"name": "app", "image": image}]},
            "status": {"conditions": [{"type": "Ready", "status": ready}]},
        });
        Seen { at, object, gone }
    }

    #[test]
    fn the_last_pod_that_left_tells_when_all_had() {
        let at = |seconds| Instant::now() + Duration::from_secs(seconds);
        let (first, second) = (at(1), at(2));
        let mut history = vec![
            seen(at(0), "runs", "here/x", "True", false),
            seen(at(0), "one", "here/x", "False", false),
            seen(at(0), "two", "here/x", "False", false),
            seen(at(0), "new", "there/x", "False", false),
            seen(at(0), "deleted", "here/x", "False", false),
            seen(at(0), "deleted", "here/x", "False", true),
            seen(first, "one", "there/x", "False", false),
        ];
        assert_eq!(repointed(&history, "a", "here"), None, "two still waits");
        history.push(seen(second, "two", "there/x", "False", false));
        history.push(seen(at(3), "two", "there/x", "True", false));
        assert_eq!(repointed(&history, "a", "here"), Some(second));
        assert_eq!(repointed(&history, "b", "here"), None);
    }
}
