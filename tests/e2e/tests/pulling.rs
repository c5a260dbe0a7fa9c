//! Whatever containerd can pull is no outage: its own resolver hears the same conversations as the probe.

#![expect(clippy::unwrap_used, reason = "the helpers of a test fail as the test does")]

use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use catamaran_core::endpoint::Outcome;
use catamaran_registry::{Client, Limits, ProbeTarget};
use catamaran_scripted_registry::conversations::{self, CaPair, Conversation, HOST, REPOSITORY, Scene};
use tokio::process::Command;
use tokio::task::JoinSet;

/// A busy machine answers within it.
const PATIENCE: Duration = Duration::from_secs(20);
/// For what never answers.
const IMPATIENCE: Duration = Duration::from_secs(1);
/// Conversations at the same time.
const AT_ONCE: usize = 8;

/// What both made of one conversation.
struct Verdicts {
    name: &'static str,
    probe: Outcome,
    /// `ok`, or the class of the error and the error.
    containerd: String,
}

impl Verdicts {
    fn is_pulled(&self) -> bool {
        self.containerd == "ok"
    }

    fn is_outage(&self) -> bool {
        matches!(self.probe, Outcome::Unavailable(_))
    }
}

async fn probe(scene: &Scene, time: Duration) -> Outcome {
    let target = ProbeTarget {
        canary: Some((REPOSITORY.to_owned(), scene.digest.clone())),
        blob: true,
        fresh_token: true,
    };
    let client = Client::new(scene.connection(), Limits::default()).unwrap();
    client.probe(&target, time).await.outcome
}

async fn pull(scene: &Scene, time: Duration) -> String {
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.crt");
    std::fs::write(&ca, &scene.node_trusts).unwrap();
    let mut pull = Command::new(catamaran_cluster::components::program("containerd", "pull"));
    pull.arg("-ca").arg(ca).arg("-time").arg(format!("{}s", time.as_secs()));
    for (name, address) in scene.names() {
        pull.arg("-resolve").arg(format!("{name}={address}"));
    }
    if let Some((username, password)) = &scene.account {
        pull.arg("-account").arg(format!("{username}:{password}"));
    }
    let pull = pull
        .arg(format!("{HOST}/{REPOSITORY}@{}", scene.digest))
        .env("TMPDIR", folder.path())
        .kill_on_drop(true);
    let output = pull.output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let line = said.lines().next().unwrap_or_default().to_owned();
    assert!(output.status.success() && !line.is_empty(), "{output:?}");
    line
}

async fn play(cas: Arc<CaPair>, conversation: Conversation) -> Verdicts {
    let time = if conversation.expected == "Timeout" {
        IMPATIENCE
    } else {
        PATIENCE
    };
    // Faults that happen once happen to each.
    let scene = conversation.start(&cas).await.unwrap();
    let probe = probe(&scene, time).await;
    let scene = conversation.start(&cas).await.unwrap();
    let containerd = pull(&scene, time).await;
    Verdicts {
        name: conversation.name,
        probe,
        containerd,
    }
}

fn table(all: &[Verdicts]) -> String {
    let mut table = format!("{:48} {:24} containerd\n", "conversation", "probe");
    for verdicts in all {
        let short: String = verdicts.containerd.chars().take(100).collect();
        let _ = writeln!(table, "{:48} {:24} {short}", verdicts.name, verdicts.probe.as_str());
    }
    let count = |is: &dyn Fn(&Verdicts) -> bool| all.iter().filter(|verdicts| is(verdicts)).count();
    let reachable = |verdicts: &Verdicts| verdicts.probe == Outcome::Reachable;
    let _ = writeln!(
        table,
        "{} conversations: containerd pulls {}, of which {} are Reachable, {} Unknown and {} Unavailable; it can't pull {}, of which \
         {} are Unavailable, {} Unknown and {} Reachable",
        all.len(),
        count(&Verdicts::is_pulled),
        count(&|verdicts| verdicts.is_pulled() && reachable(verdicts)),
        count(&|verdicts| verdicts.is_pulled() && !reachable(verdicts) && !verdicts.is_outage()),
        count(&|verdicts| verdicts.is_pulled() && verdicts.is_outage()),
        count(&|verdicts| !verdicts.is_pulled()),
        count(&|verdicts| !verdicts.is_pulled() && verdicts.is_outage()),
        count(&|verdicts| !verdicts.is_pulled() && !reachable(verdicts) && !verdicts.is_outage()),
        count(&|verdicts| !verdicts.is_pulled() && reachable(verdicts)),
    );
    table
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn probe_never_calls_unavailable_what_containerd_pulls() {
    let cas = Arc::new(CaPair::start().await.unwrap());
    let _has_read_the_roots = Client::new(cas.connection(), Limits::default()).unwrap();
    let mut waiting = conversations::all()
        .into_iter()
        .enumerate()
        .map(|(place, conversation)| {
            let played = play(cas.clone(), conversation);
            async move { (place, played.await) }
        });
    let mut playing: JoinSet<_> = waiting.by_ref().take(AT_ONCE).collect();
    let mut all = Vec::new();
    while let Some(played) = playing.join_next().await {
        if let Some(next) = waiting.next() {
            playing.spawn(next);
        }
        all.push(played.unwrap());
    }
    all.sort_by_key(|(place, _)| *place);
    let all: Vec<_> = all.into_iter().map(|(_, verdicts)| verdicts).collect();
    let table = table(&all);
    // Shown also where all is well.
    let _ = std::io::stderr().write_all(table.as_bytes());

    let pulled = all.iter().filter(|verdicts| verdicts.is_pulled());
    assert!(
        all.len() >= 40 && pulled.clone().count() >= 35,
        "too little was tried:\n{table}"
    );
    let wrong: Vec<_> = pulled
        .filter(|verdicts| verdicts.is_outage())
        .map(|verdicts| verdicts.name)
        .collect();
    assert!(wrong.is_empty(), "containerd pulls in {wrong:?}:\n{table}");
}
