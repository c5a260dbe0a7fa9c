//! The table of contents: what happens to a mirror, step by step.

use std::sync::Arc;
use std::time::Duration;

use catamaran_lease::Leadership;
use futures::StreamExt as _;
use kube::runtime::controller::{Action, Config, Controller};
use kube::runtime::reflector::ObjectRef;
use kube::runtime::watcher;
use kube::{Api, ResourceExt as _};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tokio_util::sync::CancellationToken;

use crate::apply::{self, ApplyError};
use crate::assess::assess;
use crate::contact::WATCH_SECONDS;
use crate::context::{Context, Mirror};
use crate::report::report;

/// Mirrors reconciled at a time.
const AT_A_TIME: u16 = 8;

/// How long a mirror whose status could not be written waits for its next turn.
const RETRY: Duration = Duration::from_secs(1);

/// Reconciles one mirror: gather and decide, say what to tell, write it.
pub async fn reconcile(mirror: Arc<Mirror>, context: Arc<Context>) -> Result<Action, ApplyError> {
    let mirror = match &mirror.0 {
        Ok(mirror) => mirror,
        Err(invalid) => return apply::refuse(&context, invalid).await, // client required
    };
    let now = context.clock.now();
    let outlook = assess(mirror, &context, now); // no client: reads memory
    if !context.leads() {
        return Ok(Action::await_change());
    }
    let report = report(mirror, &outlook, now); // no client: pure
    apply::apply(&context, mirror, &report).await?; // client required: the only writes
    Ok(report.action)
}

/// Runs the controller until `shutdown`.
pub async fn run(
    context: Arc<Context>,
    triggers: mpsc::UnboundedReceiver<ObjectRef<Mirror>>,
    shutdown: CancellationToken,
) {
    let api: Api<Mirror> = Api::all(context.client.clone());
    let config = watcher::Config::default().timeout(WATCH_SECONDS).any_semantic();
    Controller::new(api, config)
        .with_config(Config::default().concurrency(AT_A_TIME))
        .reconcile_on(UnboundedReceiverStream::new(triggers))
        .reconcile_all_on(terms(context.leadership.clone()))
        .graceful_shutdown_on(async move { shutdown.cancelled().await })
        .run(reconcile, retry, Arc::clone(&context))
        .for_each(|result| async {
            if let Err(error) = result {
                tracing::debug!(%error, "reconcile did not finish");
            }
        })
        .await;
}

/// One item for each time this replica begins to lead: everything is looked at with a leader's eyes then.
fn terms(leadership: watch::Receiver<Leadership>) -> impl futures::Stream<Item = ()> + Send + 'static {
    futures::stream::unfold((leadership, false), |(mut leadership, led)| async move {
        if led {
            catamaran_lease::lost(&mut leadership).await;
        }
        catamaran_lease::gained(&mut leadership).await;
        Some(((), (leadership, true)))
    })
}

/// A write that failed is tried again soon; the next probe or watch event may come sooner.
#[expect(clippy::needless_pass_by_value, reason = "the signature is the controller runtime's")]
fn retry(mirror: Arc<Mirror>, error: &ApplyError, context: Arc<Context>) -> Action {
    context.metrics.reconcile_failed(error.category());
    if error.is_conflict() {
        tracing::debug!(mirror = mirror.name_any(), "the mirror has changed meanwhile");
    } else {
        tracing::warn!(mirror = mirror.name_any(), %error, "failed to apply what was decided");
    }
    Action::requeue(RETRY)
}
