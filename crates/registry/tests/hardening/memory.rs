//! No answer makes a process larger than it may be, or keeps it longer than it may: measured, in a process of its own.

use std::sync::Arc;
use std::time::{Duration, Instant};

use catamaran_core::policy::Provider;
use catamaran_registry::{Budgets, Client, Connection, DiagnosisTarget, Limits};
use catamaran_scripted_registry::{Fault, Registry, What};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::child;

const HOST: &str = "registry.test";
const AZURE: &str = "kracr.azurecr.io";
/// Growth that a hostile registry may cause, in KiB.
const MOST: u64 = 64 * 1024;

fn repeated(first: &str, piece: &str, last: &str, size: usize) -> String {
    let times = (size - first.len() - last.len()) / piece.len();
    format!("{first}{}{last}", piece.repeat(times))
}

fn header(value: String) -> What {
    What::Headers(vec![("x-large".to_owned(), value)])
}

/// Each is larger than it looks, or has no end. The client asks for manifests, tags and tokens of all of them.
fn hostile() -> Vec<(&'static str, &'static str, What)> {
    const PAGE: usize = (4 << 20) - 64;
    let nested = "[".repeat(100) + &"]".repeat(100) + ",";
    vec![
        ("a body without end", "/", What::EndlessBody),
        ("pages without end", "/tags/list", What::EndlessPages),
        ("the largest pages without end", "/tags/list", What::FatPages),
        ("the largest pages of Azure", "/_tags", What::FatPages),
        (
            "a million short tags",
            "/tags/list",
            What::json(&repeated(r#"{"tags":["#, r#""1","#, r#""1"]}"#, PAGE)),
        ),
        (
            "a million of Azure's attributes",
            "/_tags",
            What::json(&repeated(
                r#"{"tags":[{"name":"1","changeableAttributes":["#,
                "0,",
                "0]}]}",
                PAGE,
            )),
        ),
        (
            "a hundred thousand of Azure's tags",
            "/_tags",
            What::json(&repeated(r#"{"tags":["#, r#"{"name":"1"},"#, r#"{"name":"1"}]}"#, PAGE)),
        ),
        (
            "deep lists in a token",
            "/token",
            What::json(&repeated(r#"{"token":"t","expires_in":["#, &nested, "0]}", 1 << 20)),
        ),
        (
            "layers without end",
            "/manifests/",
            What::json(&repeated(
                r#"{"layers":["#,
                r#"{"digest":""},"#,
                r#"{"digest":""}]}"#,
                PAGE,
            )),
        ),
        ("5 GB announced", "/", What::Announced(5_000_000_000)),
        ("1 MB of headers", "/", header("x".repeat(1 << 20))),
        ("a link in a circle", "/tags/list", What::CircularPages),
        ("an error without end", "/token", What::EndlessBody),
        ("1 byte in 50 ms", "/", What::Drip(Duration::from_millis(50))),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn no_hostile_answer_grows_a_process_beyond_64_mib_or_holds_it() {
    // Each is measured in a process of its own, which mostly waits for its limits.
    let at_a_time = Arc::new(Semaphore::new(3));
    let mut measured = JoinSet::new();
    for (name, path, what) in hostile() {
        let at_a_time = at_a_time.clone();
        measured.spawn(async move {
            let _turn = at_a_time.acquire().await.unwrap();
            (name, grown(path, what).await)
        });
    }
    while let Some(done) = measured.join_next().await {
        let (name, (grown, out)) = done.unwrap();
        let grown = grown.unwrap_or_else(|| panic!("{name}: {out}"));
        println!("{name}: {grown} KiB");
        assert!(grown < MOST, "{name}: {grown} KiB\n{out}");
    }
}

/// By how many KiB a process has grown that asked a registry with this fault; and what it printed.
async fn grown(path: &str, what: What) -> (Option<u64>, String) {
    let registry = Registry::start().await.unwrap();
    registry.push("krateo/web", "1.0", "first");
    let ca = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(ca.path(), registry.ca_pem()).unwrap();
    registry.fault(Fault::on(path, what));
    let variables = vec![
        ("CATAMARAN_TEST_ADDRESS", registry.address().to_string()),
        ("CATAMARAN_TEST_CA", ca.path().display().to_string()),
    ];
    let out = child::run("memory::asks_a_hostile_registry", variables).await;
    let grown = out
        .lines()
        .find_map(|line| line.split_once("grown by ")?.1.split(' ').next())
        .and_then(|kib| kib.parse().ok());
    (grown, out)
}

#[tokio::test]
async fn a_registry_that_holds_every_request_holds_up_nobody_else() {
    let budgets = Budgets::new();
    let (hostile, good) = (Registry::start().await.unwrap(), Registry::start().await.unwrap());
    good.push("krateo/web", "1.0", "first");
    hostile.fault(Fault::on("/", What::Hang));
    let client = |registry: &Registry, host: &str| {
        let connection = registry.connection(host, Provider::Generic);
        Client::with_budgets(connection, crate::limits(), &budgets).unwrap()
    };
    let (held, free) = (client(&hostile, "hostile.test"), client(&good, HOST));
    let holding = tokio::spawn(async move {
        let mut asking = JoinSet::new();
        for _ in 0..50 {
            let held = held.clone();
            asking.spawn(async move { held.list_tags("krateo/web").await });
        }
        while asking.join_next().await.is_some() {}
    });
    while hostile.requests().is_empty() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let start = Instant::now();
    for _ in 0..20 {
        assert_eq!(free.list_tags("krateo/web").await.unwrap().len(), 1);
        free.resolve("krateo/web", "1.0").await.unwrap();
    }
    assert!(
        !holding.is_finished() && start.elapsed() < crate::limits().total,
        "{:?}",
        start.elapsed()
    );
    holding.abort();
}

fn clients() -> Vec<Client> {
    let address = child::told("CATAMARAN_TEST_ADDRESS").parse().unwrap();
    let ca = std::fs::read(child::told("CATAMARAN_TEST_CA")).unwrap();
    let limits = Limits {
        connect: Duration::from_secs(10),
        read: Duration::from_secs(2),
        total: Duration::from_secs(4),
        listing: Duration::from_secs(20),
        ..Limits::default()
    };
    let client = |(registry, provider): (&str, Provider)| {
        let connection = Connection {
            registry: registry.to_owned(),
            provider,
            extra_ca: Some(ca.clone()),
            resolve: vec![(registry.to_owned(), address)],
            ..Connection::default()
        };
        Client::new(connection, limits.clone()).unwrap()
    };
    [(HOST, Provider::Generic), (AZURE, Provider::Azure)].map(client).into()
}

/// The largest size since the last call, in KiB.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let size = line.trim().trim_end_matches(" kB").parse().unwrap();
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    size
}

#[tokio::test]
#[ignore = "run by no_hostile_answer_grows_a_process_beyond_64_mib_or_holds_it, in a process of its own"]
async fn asks_a_hostile_registry() {
    let clients = clients();
    // What a first request needs (buffers, tables of the TLS library) is not the registry's doing.
    let _ = clients[0].resolve("krateo/web", "2.0").await;
    peak();
    let before = peak();
    let start = Instant::now();
    for client in &clients {
        let target = DiagnosisTarget {
            repository: Some("krateo/web".to_owned()),
            tag: Some("1.0".to_owned()),
        };
        // One after the other, as a mirror does; what comes of it is told elsewhere.
        let _ = client.list_tags("krateo/web").await;
        let _ = client.resolve_verified("krateo/web", "1.0").await;
        client.diagnose(&target, |_| {}).await;
    }
    println!(
        "grown by {} KiB in {:?}",
        peak().saturating_sub(before),
        start.elapsed()
    );
    assert!(start.elapsed() < Duration::from_mins(3), "{:?}", start.elapsed());
}
