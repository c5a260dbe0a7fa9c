//! The I/O: carries the election out against the API server.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use kube::api::PostParams;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::election::{Election, Step};
use crate::leadership::Leadership;
use crate::settings::LeaseSettings;

/// A process that shuts down doesn't wait long for the API server.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(2);
const FIELD_MANAGER: &str = "catamaran-lease";

/// Takes part in the election until `shutdown`, publishes on `publish`, and releases the lease at the end. Needs the
/// rights `get`, `create` and `update` on the Lease. `clock` is only for the times written into the record.
///
/// Cancel `shutdown` when the leader's work has stopped: the next leader may begin at once.
pub async fn run(
    client: kube::Client,
    settings: LeaseSettings,
    publish: watch::Sender<Leadership>,
    clock: impl Fn() -> Timestamp,
    shutdown: CancellationToken,
) {
    let mut candidate = LeaseCandidate {
        api: Api::namespaced(client, &settings.namespace),
        name: settings.name.clone(),
        // Two attempts must fit between a renewal and its deadline, even if the first one hangs.
        request_timeout: settings.timing.renew_deadline() / 2,
        election: Election::new(settings),
        publish,
        clock,
        zero: Instant::now(),
        led: false,
    };
    loop {
        // A request in flight is abandoned at shutdown; its result is unknown, so `release` reads first.
        let ended = tokio::select! {
            () = shutdown.cancelled() => true,
            () = async { candidate.round().await; sleep(candidate.pause()).await } => false,
        };
        if ended {
            break candidate.release().await;
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum RoundError {
    #[error("failed to {verb} the lease: {source}")]
    Api {
        verb: &'static str,
        source: Box<kube::Error>,
    },
    #[error("failed to {verb} the lease: no answer within {after:?}")]
    Timeout { verb: &'static str, after: Duration },
}

struct LeaseCandidate<C> {
    api: Api<Lease>,
    name: String,
    request_timeout: Duration,
    election: Election,
    publish: watch::Sender<Leadership>,
    clock: C,
    /// Where the election's monotonic time begins.
    zero: Instant,
    /// What was logged last.
    led: bool,
}

impl<C: Fn() -> Timestamp> LeaseCandidate<C> {
    /// Reads the lease if necessary and, if this process may take or renew it, writes it.
    async fn round(&mut self) {
        if let Err(error) = self.attempt().await {
            if self.led {
                warn!(%error, "failed to renew the lease");
            } else {
                debug!(%error, "failed to acquire the lease");
            }
        }
        self.publish_leadership();
    }

    fn pause(&self) -> Duration {
        self.election.pause(self.zero.elapsed())
    }

    async fn attempt(&mut self) -> Result<(), RoundError> {
        if self.election.must_read(self.zero.elapsed()) {
            let read = self.bounded("read", self.api.get_opt(&self.name)).await?;
            self.election.observe(read, self.zero.elapsed());
            // Published before the write below, which may hang.
            self.publish_leadership();
        }
        // Time runs from before the request: the API server may have accepted it at its very beginning.
        let begun = self.zero.elapsed();
        let options = PostParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PostParams::default()
        };
        let written = match self.election.decide(begun, (self.clock)()) {
            Step::Wait => return Ok(()),
            Step::Create(lease) => {
                // Unknown until answered, also when this future is dropped half-way.
                self.election.refused();
                self.bounded("create", self.api.create(&options, &lease)).await?
            }
            Step::Replace(lease) => {
                self.election.refused();
                self.bounded("replace", self.api.replace(&self.name, &options, &lease))
                    .await?
            }
        };
        self.election.written(written, begun);
        Ok(())
    }

    async fn bounded<T>(
        &self,
        verb: &'static str,
        request: impl Future<Output = kube::Result<T>>,
    ) -> Result<T, RoundError> {
        match timeout(self.request_timeout, request).await {
            Ok(answer) => answer.map_err(|source| RoundError::Api {
                verb,
                source: Box::new(source),
            }),
            Err(_) => Err(RoundError::Timeout {
                verb,
                after: self.request_timeout,
            }),
        }
    }

    /// Publishes what the election says, if that has changed.
    fn publish_leadership(&mut self) {
        let granted = self.election.leading_until().map(|until| self.zero + until);
        let granted = granted.map_or(Leadership::NONE, Leadership::until);
        self.publish
            .send_if_modified(|current| std::mem::replace(current, granted) != granted);
        let leads = granted.is_leading_now();
        if leads != self.led {
            info!(
                lease = self.name,
                leads,
                holder = self.election.holder(),
                "leadership changed"
            );
        }
        self.led = leads;
    }

    async fn release(&mut self) {
        // First stop acting, then let others take the lease.
        self.publish.send_replace(Leadership::NONE);
        self.request_timeout = self.request_timeout.min(RELEASE_TIMEOUT);
        for _ in 0..2 {
            if !self.election.may_hold() {
                return;
            }
            match self.release_record().await {
                Ok(()) => return,
                Err(error) => warn!(%error, "failed to release the lease; it expires by itself"),
            }
        }
    }

    /// Empties the record if this process holds it. A second call reads first: the object may have been edited.
    async fn release_record(&mut self) -> Result<(), RoundError> {
        if self.election.must_read(self.zero.elapsed()) {
            let read = self.bounded("read", self.api.get_opt(&self.name)).await?;
            self.election.observe(read, self.zero.elapsed());
        }
        let Some(lease) = self.election.release((self.clock)()) else {
            return Ok(());
        };
        self.election.refused();
        let options = PostParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PostParams::default()
        };
        self.bounded("release", self.api.replace(&self.name, &options, &lease))
            .await?;
        info!(lease = self.name, "released the lease");
        Ok(())
    }
}
