//! What it costs to verify tags: requests, seconds and peak memory, against scripted registries in a process of their own.
//!
//! `cargo bench -p catamaran-controller`. The plain comparer beside it asks for every digest on both sides, one HEAD each,
//! eight at a time, and remembers nothing: what a script would do.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use catamaran_api::mirror::RegistryMirror;
use catamaran_api::policy::policy;
use catamaran_controller::mirrors::Comparison;
use catamaran_core::mirror::in_use::InUse;
use catamaran_core::policy::{MirrorPolicy, Provider};
use catamaran_core::side::{Side, Sides};
use catamaran_registry::{Budget, Client, Connection, Limits};
use catamaran_scripted_registry::Registry;
use futures::stream::{self, StreamExt as _};
use serde_json::json;

const HOSTS: Sides<&str> = Sides {
    primary: "kracr.azurecr.io",
    fallback: "ghcr.io",
};
const TAGS_PER_REPOSITORY: usize = 100;
/// Requests per minute that nothing here reaches.
const UNLIMITED: u32 = 100_000_000;
const SERVER: &str = "--serve-registries";
const WORKER: &str = "--worker";
const PLAIN: &str = "plain comparer";

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime starts");
    if let Some(place) = arguments.iter().position(|argument| argument == SERVER) {
        let count = arguments[place + 1].parse().expect("a number of tags");
        let latency = Duration::from_millis(arguments[place + 2].parse().expect("milliseconds"));
        runtime.block_on(serve(count, latency));
        return;
    }
    if let Some(place) = arguments.iter().position(|argument| argument == WORKER) {
        let tags = arguments[place + 2].parse().expect("a number of tags");
        let latency = arguments[place + 3].parse().expect("milliseconds");
        runtime.block_on(measure(&arguments[place + 1], tags, latency));
        return;
    }
    println!(
        "verification against scripted registries, generic listing (tags/list and one HEAD for each digest), no budget"
    );
    println!(
        "{:>7} {:>7}  {:<34} {:>9} {:>9} {:>10}",
        "tags", "latency", "what", "requests", "seconds", "peak RSS"
    );
    for (tags, latency) in [(1_000, 0), (1_000, 40), (10_000, 0)] {
        // A process each, so that the peak of one is not the other's.
        for what in ["passes", PLAIN] {
            let me = std::env::current_exe().expect("this program has a path");
            let status = Command::new(me)
                .args([WORKER, what, &tags.to_string(), &latency.to_string()])
                .status();
            assert!(
                status.is_ok_and(|status| status.success()),
                "the measurement of '{what}' failed"
            );
        }
    }
}

/// The registries: prints where they are, then answers each line with the requests counted since the last one.
async fn serve(tags: usize, latency: Duration) {
    let mut registries = Vec::new();
    for side in Side::ALL {
        let registry = Registry::start().await.expect("a registry starts");
        for tag in 0..tags {
            let path = path(side, tag / TAGS_PER_REPOSITORY);
            registry.push(&path, &format!("{tag:07x}"), &format!("content {tag}"));
        }
        registry.set_latency(latency);
        println!(
            "{}",
            json!({"address": registry.address(), "ca": String::from_utf8_lossy(&registry.ca_pem())})
        );
        registries.push(registry);
    }
    let (lines, mut asked) = tokio::sync::mpsc::unbounded_channel();
    std::thread::spawn(move || {
        std::io::stdin()
            .lock()
            .lines()
            .map_while(Result::ok)
            .for_each(|line| drop(lines.send(line)));
    });
    while asked.recv().await.is_some() {
        let requests: usize = registries.iter().map(|registry| registry.requests().len()).sum();
        registries.iter().for_each(Registry::forget_requests);
        println!("{requests}");
    }
}

fn path(side: Side, repository: usize) -> String {
    match side {
        Side::Primary => format!("team/app-{repository:03}"),
        Side::Fallback => format!("devopskev/team/app-{repository:03}"),
    }
}

/// The registries' process, seen from the one that measures.
struct Registries {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    clients: Sides<Client>,
}

impl Registries {
    fn start(tags: usize, latency: u64) -> Registries {
        let me = std::env::current_exe().expect("this program has a path");
        let mut child = Command::new(me)
            .args([SERVER, &tags.to_string(), &latency.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the registries start");
        let input = child.stdin.take().expect("it was piped");
        let mut output = BufReader::new(child.stdout.take().expect("it was piped"));
        let clients = Sides::from_fn(|side| {
            let mut line = String::new();
            output.read_line(&mut line).expect("the registry says where it is");
            let told: serde_json::Value = serde_json::from_str(&line).expect("it does so in JSON");
            let address: SocketAddr = told["address"]
                .as_str()
                .and_then(|text| text.parse().ok())
                .expect("an address");
            let connection = Connection {
                registry: HOSTS[side].to_owned(),
                provider: Provider::Generic,
                extra_ca: told["ca"].as_str().map(|pem| pem.as_bytes().to_vec()),
                allow_loopback: true,
                resolve: vec![(HOSTS[side].to_owned(), address)],
                ..Connection::default()
            };
            // The default budget would be all that is measured.
            let budget = Arc::new(Budget::per_minute(UNLIMITED));
            Client::with_budget(connection, Limits::default(), budget).expect("a client is set up")
        });
        Registries {
            child,
            input,
            output,
            clients,
        }
    }

    fn requests(&mut self) -> usize {
        writeln!(self.input, "count").expect("the registries listen");
        let mut line = String::new();
        self.output.read_line(&mut line).expect("the registries answer");
        line.trim().parse().expect("with a number")
    }
}

impl Drop for Registries {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn measure(what: &str, tags: usize, latency: u64) {
    let mut registries = Registries::start(tags, latency);
    let print = |what: &str, requests: usize, begun: Instant| {
        let seconds = begun.elapsed().as_secs_f64();
        println!(
            "{tags:>7} {latency:>4} ms  {what:<34} {requests:>9} {seconds:>9.2} {:>6.1} MiB",
            peak_mib()
        );
    };
    if what == PLAIN {
        let begun = Instant::now();
        let same = compare_plainly(&registries.clients, tags).await;
        assert_eq!(same, tags);
        return print(what, registries.requests(), begun);
    }
    let mut comparison = Comparison::new(mirror(tags), registries.clients.clone(), InUse::default());
    for what in ["first pass", "second pass: tags settle", "unchanged pass"] {
        let begun = Instant::now();
        let pass = comparison.pass().await.expect("the pass comes to its end");
        assert!(pass.is_complete(), "{pass:?}");
        assert_eq!(comparison.mirror().summary().in_sync, tags);
        print(what, registries.requests(), begun);
    }
}

fn mirror(tags: usize) -> MirrorPolicy {
    let names: Vec<_> = (0..tags.div_ceil(TAGS_PER_REPOSITORY))
        .map(|repository| path(Side::Primary, repository))
        .collect();
    let repositories: Vec<_> = names.iter().map(|name| json!({ "name": name })).collect();
    let mirror = json!({
        "apiVersion": "catamaran.dev/v1alpha1", "kind": "RegistryMirror",
        "metadata": {"name": "bench", "uid": "u1", "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {
            "primary": {"registry": HOSTS.primary},
            "fallback": {"registry": HOSTS.fallback, "prefix": "devopskev"},
            "repositories": repositories,
        },
    });
    let mirror: RegistryMirror = serde_json::from_value(mirror).expect("the mirror is one");
    policy(&mirror).expect("its policy makes sense")
}

async fn compare_plainly(clients: &Sides<Client>, tags: usize) -> usize {
    let same = stream::iter(0..tags).map(|tag| async move {
        let name = format!("{tag:07x}");
        let ask = async |side: Side| {
            let resolved = clients[side]
                .resolve(&path(side, tag / TAGS_PER_REPOSITORY), &name)
                .await
                .ok()?;
            Some(resolved.digest)
        };
        let (primary, fallback) = tokio::join!(ask(Side::Primary), ask(Side::Fallback));
        usize::from(primary.is_some() && primary == fallback)
    });
    same.buffer_unordered(8)
        .fold(0, |sum, one| async move { sum + one })
        .await
}

fn peak_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmHWM:"))
        .unwrap_or_default();
    let kib: f64 = line
        .split_whitespace()
        .nth(1)
        .and_then(|number| number.parse().ok())
        .unwrap_or_default();
    kib / 1024.0
}
