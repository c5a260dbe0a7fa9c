//! Verifies tags out of turn: what a pod asks for and no pass has seen, within a second.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use catamaran_core::policy::MirrorPolicy;
use catamaran_core::side::Sides;
use tokio::sync::mpsc;

use crate::context::Context;
use crate::memory::{MirrorMemory, RepositoryTag};
use crate::scanner::{self, Scan};

/// How long requests are gathered, so that a rollout of many pods is one look.
const GATHER: Duration = Duration::from_millis(100);

/// Verifies wanted tags until the task is ended; requests are dropped while another replica leads.
pub async fn run(context: Arc<Context>, policy: Arc<MirrorPolicy>) {
    let memory = context.memories.of(&policy.id);
    let Some(receiver) = memory.take_wanted() else { return };
    let mut loan = Loan {
        memory: &memory,
        receiver: Some(receiver),
    };
    while let Some(wanted) = loan.next().await {
        if !context.leads() {
            continue;
        }
        tokio::time::sleep(GATHER).await;
        let wanted = loan.drain(wanted);
        verify(&context, &policy, &memory, wanted).await;
        context.trigger(&policy.id);
    }
}

/// The receiver, given back to the memory when the task ends or is ended.
struct Loan<'a> {
    memory: &'a MirrorMemory,
    receiver: Option<mpsc::Receiver<RepositoryTag>>,
}

impl Loan<'_> {
    async fn next(&mut self) -> Option<RepositoryTag> {
        self.receiver.as_mut()?.recv().await
    }

    fn drain(&mut self, first: RepositoryTag) -> BTreeMap<String, BTreeSet<String>> {
        let mut wanted = BTreeMap::<String, BTreeSet<String>>::new();
        let mut add = |tag: RepositoryTag| wanted.entry(tag.repository).or_default().insert(tag.tag);
        add(first);
        while let Some(Ok(next)) = self.receiver.as_mut().map(mpsc::Receiver::try_recv) {
            add(next);
        }
        wanted
    }
}

impl Drop for Loan<'_> {
    fn drop(&mut self) {
        if let Some(receiver) = self.receiver.take() {
            self.memory.return_wanted(receiver);
        }
    }
}

async fn verify(
    context: &Context,
    policy: &MirrorPolicy,
    memory: &MirrorMemory,
    wanted: BTreeMap<String, BTreeSet<String>>,
) {
    let clients = scanner::clients(context, policy).await;
    for (repository, mut tags) in wanted {
        tags.retain(|tag| policy.selects_tag(&repository, tag));
        let scan = Scan {
            clock: context.clock,
            policy,
            memory,
            clients: &clients,
            repository: &repository,
            turns: Sides::default(),
        };
        scan.tags(tags).await;
    }
    let mut state = memory.state();
    if state.canary.is_none() {
        scanner::choose_canary(policy, &mut state);
    }
    let summary = state.ledger.summary();
    if let Some(pass) = &mut state.pass {
        pass.summary = summary;
    }
}
