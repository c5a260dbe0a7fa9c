//! The background tasks of each mirror: one probes each side, one scans tags, one verifies wanted tags,
//! one copies missing tags where the user wants that, and one looks after a side that is a pull-through cache.
//!
//! They run with the policy they were started with; a new generation of the spec ends them and starts new ones, which
//! find the memory of the old.

use std::sync::Arc;

use catamaran_core::policy::{MirrorPolicy, RepairMode};
use catamaran_core::side::Side;
use tokio::task::AbortHandle;

use crate::context::Context;
use crate::{prober, pull_through, repair, scanner, verifier};

/// Makes sure that the mirror's tasks run with this generation of its policy; none run while it is suspended.
pub fn ensure(context: &Arc<Context>, policy: &Arc<MirrorPolicy>, generation: i64) {
    if policy.suspended {
        context.crews.stop(&policy.id.uid);
        return;
    }
    let sides = Side::ALL.map(|side| format!("{}/{}", policy.sides[side].registry, policy.sides[side].prefix));
    let forget = |side| context.memories.of(&policy.id).forget_side(side);
    let start = || tasks(context, policy, generation);
    context.crews.ensure(&policy.id.uid, generation, sides, forget, start);
}

fn tasks(context: &Arc<Context>, policy: &Arc<MirrorPolicy>, generation: i64) -> Vec<AbortHandle> {
    let mut tasks: Vec<AbortHandle> = Vec::with_capacity(6);
    for side in Side::ALL {
        let task = prober::run(Arc::clone(context), Arc::clone(policy), generation, side);
        tasks.push(tokio::spawn(task).abort_handle());
    }
    tasks.push(tokio::spawn(scanner::run(Arc::clone(context), Arc::clone(policy))).abort_handle());
    tasks.push(tokio::spawn(verifier::run(Arc::clone(context), Arc::clone(policy))).abort_handle());
    if policy.repair.mode != RepairMode::Off {
        tasks.push(tokio::spawn(repair::run(Arc::clone(context), Arc::clone(policy))).abort_handle());
    }
    if let Some(cache) = policy.cache() {
        let task = pull_through::run(Arc::clone(context), Arc::clone(policy), cache);
        tasks.push(tokio::spawn(task).abort_handle());
    }
    tasks
}
