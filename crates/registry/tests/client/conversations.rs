//! What a probe makes of each way in which a registry may talk. Only what a kubelet would call an outage is one.

use std::sync::Arc;
use std::time::Duration;

use catamaran_core::endpoint::Outcome;
use catamaran_registry::{ProbeReport, ProbeTarget};
use catamaran_scripted_registry::conversations::{self, CaPair, Conversation, REPOSITORY};
use tokio::task::JoinSet;

use crate::client;

/// A busy machine answers within it.
const PATIENCE: Duration = Duration::from_secs(20);
/// For what never answers.
const IMPATIENCE: Duration = Duration::from_secs(1);
/// Conversations at the same time.
const AT_ONCE: usize = 8;

async fn probe(cas: Arc<CaPair>, conversation: Conversation) -> (Conversation, ProbeReport) {
    let scene = conversation.start(&cas).await.unwrap();
    let target = ProbeTarget {
        canary: Some((REPOSITORY.to_owned(), scene.digest.clone())),
        blob: true,
        fresh_token: true,
    };
    let time = if conversation.expected == "Timeout" {
        IMPATIENCE
    } else {
        PATIENCE
    };
    let report = client(scene.connection()).probe(&target, time).await;
    (conversation, report)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn probe_calls_only_an_outage_one() {
    let cas = Arc::new(CaPair::start().await.unwrap());
    let _has_read_the_roots = client(cas.connection());
    let all = conversations::all().into_iter();
    let mut waiting = all.map(|conversation| probe(cas.clone(), conversation));
    let mut probes: JoinSet<_> = waiting.by_ref().take(AT_ONCE).collect();
    let mut wrong = Vec::new();
    let mut outages = 0;
    while let Some(ended) = probes.join_next().await {
        if let Some(next) = waiting.next() {
            probes.spawn(next);
        }
        let (conversation, report) = ended.unwrap();
        let found = report.outcome.as_str();
        outages += usize::from(matches!(report.outcome, Outcome::Unavailable(_)));
        if found != conversation.expected {
            wrong.push(format!(
                "{}: {found} instead of {}: {}",
                conversation.name, conversation.expected, report.message
            ));
        }
    }
    wrong.sort();
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
    assert!(outages > 15, "only {outages} are outages");
}
