//! The probe: what a kubelet would do, rung by rung, on fresh connections.

use std::time::Duration;

use catamaran_core::digest::Digest;
use catamaran_core::endpoint::{Outcome, Unavailable};
use http::StatusCode;
use tokio::time::Instant;

use crate::client::Client;
use crate::credentials::Credentials;
use crate::failure::{Class, Failure, Rung};
use crate::limits::Limits;
use crate::provider::site::Scheme;
use crate::session::{About, Session};
use crate::tls::Stage;
use crate::transport::Http;

/// What to probe with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProbeTarget {
    /// A repository's full path and the digest of a manifest in it. Without one the ladder ends at the token.
    pub canary: Option<(String, Digest)>,
    /// Whether to read the first byte of one of the canary's blobs as well.
    pub blob: bool,
}

/// What a probe found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeReport {
    /// The outcome for the probe history.
    pub outcome: Outcome,
    /// The first rung that failed; of a success, the last that was climbed.
    pub rung: Rung,
    /// One line for people: the request and what came of it.
    pub message: String,
    /// How long it took.
    pub elapsed: Duration,
}

impl Client {
    /// Climbs the ladder once: DNS, TCP, TLS, the `/v2/` challenge, a token, HEAD of the canary by digest, the first byte of a
    /// blob. Nothing is reused: not connections, not tokens, not TLS sessions. Never waits for the budget.
    ///
    /// `timeout` is for all of it. The report names the first rung that failed.
    pub async fn probe(&self, target: &ProbeTarget, timeout: Duration) -> ProbeReport {
        let start = Instant::now();
        let session = match self.fresh(timeout) {
            Ok(session) => session,
            Err(failure) => return report(failure.outcome(), failure.rung, failure.message, start),
        };
        let mut rung = Rung::Challenge;
        match tokio::time::timeout(timeout, climb(&session, target, &mut rung)).await {
            Ok(Ok(message)) => report(Outcome::Reachable, rung, message, start),
            Ok(Err(failure)) => {
                let (rung, message) = place(&session, &failure);
                report(failure.outcome(), rung, message, start)
            }
            Err(_) => {
                let (rung, what) = hung(&session, rung);
                let message = format!("{}: {what} within {timeout:?}", session.http.progress.asked());
                // Who vouches for us is not the registry: its silence says nothing about that.
                let outcome = match rung {
                    Rung::Identity => Outcome::CredentialsUnavailable,
                    _ => Outcome::Unavailable(Unavailable::Timeout),
                };
                report(outcome, rung, message, start)
            }
        }
    }

    fn fresh(&self, timeout: Duration) -> Result<Session, Failure> {
        let shared = self.shared();
        // The probe's own time limit is the one that counts: it knows the rung.
        let generous = timeout.saturating_add(Duration::from_secs(1));
        let limits = Limits {
            connect: generous,
            read: generous,
            total: generous,
            ..shared.session.http.limits.clone()
        };
        let http = Http::new(shared.guard.clone(), &shared.trust, limits).map_err(|error| {
            let class = Class::Unavailable(Unavailable::TlsError);
            Failure::new(Rung::Tls, class, error.to_string())
        })?;
        Ok(shared.session.afresh(http))
    }
}

async fn climb(session: &Session, target: &ProbeTarget, rung: &mut Rung) -> Result<String, Failure> {
    session.challenge().await?;
    let Some((repository, digest)) = &target.canary else {
        if session.site.credentials != Credentials::Anonymous && session.tokens.scheme() != Scheme::Open {
            identify(session, rung).await?;
            session.check_credentials().await?;
        }
        return Ok(format!(
            "{}: answered; no canary to look for yet",
            session.http.progress.asked()
        ));
    };
    let basic = session.site.credentials.are_basic() && session.tokens.scheme() == Scheme::Basic;
    if basic || matches!(session.tokens.scheme(), Scheme::Bearer { .. }) {
        identify(session, rung).await?;
        session.authorization(Some(About::reading(repository))).await?;
    }
    *rung = Rung::Manifest;
    session.resolve(repository, &digest.to_string()).await?;
    if !target.blob {
        return Ok(format!("{}: {}", session.http.progress.asked(), StatusCode::OK));
    }
    *rung = Rung::Blob;
    let asked = session.first_blob_byte(repository, digest).await?;
    Ok(format!("{asked}: first byte read"))
}

/// Climbs to the token: with an identity, by the cloud's token and the registry's exchange, unless that was done lately.
async fn identify(session: &Session, rung: &mut Rung) -> Result<(), Failure> {
    if let (Some(exchange), Scheme::Bearer { realm, service }) = (&session.exchange, session.tokens.scheme())
        && !exchange.is_ready()
    {
        *rung = Rung::Identity;
        session.http.progress.ask(exchange.identity.name());
        exchange.identity.token().await?;
        *rung = Rung::Exchange;
        session.http.progress.ask(&exchange.describe(&realm));
        exchange.refresh_token(&realm, service.as_deref()).await?;
    }
    *rung = Rung::Token;
    Ok(())
}

/// The rung of a failure. What the first connection reached is known better than an error can tell.
pub(crate) fn place(session: &Session, failure: &Failure) -> (Rung, String) {
    let rung = match session.http.progress.stage() {
        _ if failure.status.is_some() || failure.rung > Rung::Challenge => failure.rung,
        Stage::Dns => Rung::Dns,
        Stage::Connect => Rung::Connect,
        Stage::Tls => Rung::Tls,
        Stage::Established => Rung::Challenge,
    };
    (rung, failure.message.clone())
}

/// Where a probe hangs when its time is over.
fn hung(session: &Session, rung: Rung) -> (Rung, &'static str) {
    if rung != Rung::Challenge {
        return (rung, "no answer");
    }
    match session.http.progress.stage() {
        Stage::Dns => (Rung::Dns, "no answer from DNS"),
        Stage::Connect => (Rung::Connect, "no TCP connection"),
        Stage::Tls => (Rung::Tls, "no TLS handshake"),
        Stage::Established => (Rung::Challenge, "no answer"),
    }
}

fn report(outcome: Outcome, rung: Rung, message: String, start: Instant) -> ProbeReport {
    ProbeReport {
        outcome,
        rung,
        message,
        elapsed: start.elapsed(),
    }
}

#[cfg(test)]
mod tests;
