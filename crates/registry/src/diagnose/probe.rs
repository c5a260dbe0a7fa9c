//! The probe: what a kubelet would do, stage by stage, on fresh connections.
//!
//! containerd's resolver is the measure: it asks for the manifest without a credential, answers the challenge of that very request,
//! follows redirects, and speaks HTTP/1.1. `tests/e2e/tests/pulling.rs` plays the same conversations to both.

use std::sync::Arc;
use std::time::Duration;

use catamaran_core::digest::Digest;
use catamaran_core::endpoint::{Outcome, Unavailable};
use http::{Method, StatusCode};
use tokio::time::Instant;

use crate::auth::credentials::Credentials;
use crate::auth::scheme::Scheme;
use crate::client::Client;
use crate::content::blob::Blobs;
use crate::content::manifest::manifest_ask;
use crate::session::Session;
use crate::wire::failure::{Class, Failure, Stage};
use crate::wire::limits::Limits;
use crate::wire::reply::Reply;
use crate::wire::tls::Reached;
use crate::wire::transport::Http;

/// What to probe with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProbeTarget {
    /// A repository's full path and the digest of a manifest in it. Without one `/v2/` and the token stand for it.
    pub canary: Option<(String, Digest)>,
    /// Whether to read the first byte of one of the canary's blobs: instead of the manifest, once it is known which.
    pub blob: bool,
    /// Whether to authenticate from the beginning, as a kubelet does; else with the token of an earlier probe, if there is one.
    pub fresh_token: bool,
}

/// What a probe found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeReport {
    /// The outcome for the probe history.
    pub outcome: Outcome,
    /// The first stage that failed; of a success, the last one.
    pub stage: Stage,
    /// One line for people: the request and what came of it.
    pub message: String,
    /// How long it took.
    pub elapsed: Duration,
}

impl Client {
    /// Asks once for what a kubelet asks for: the canary's manifest by digest, with a token where one is wanted, or the first byte
    /// of a blob. Neither connections nor TLS sessions are reused. Counts in the budget, and never waits for it.
    ///
    /// `timeout` is for all of it. The report names the first stage that failed.
    pub async fn probe(&self, target: &ProbeTarget, timeout: Duration) -> ProbeReport {
        let start = Instant::now();
        let session = match self.fresh(target, timeout) {
            Ok(session) => session,
            Err(failure) => return report(failure.outcome(), failure.stage, failure.message, start),
        };
        let blobs = &self.shared().probe_blobs;
        match tokio::time::timeout(timeout, ask(&session, target, blobs)).await {
            Ok(Ok((stage, message))) => report(Outcome::Reachable, stage, message, start),
            Ok(Err(failure)) => {
                let left = timeout.saturating_sub(start.elapsed());
                let failure = in_words(&session, target, failure, left).await;
                let (stage, message) = place(&session, &failure);
                report(failure.outcome(), stage, message, start)
            }
            Err(_) => {
                let (stage, what) = hung(&session);
                let message = format!("{}: {what} within {timeout:?}", asked(&session));
                let outcome = match stage {
                    // Who vouches for us is not the registry: its silence says nothing about that.
                    Stage::Identity => Outcome::CredentialsUnavailable,
                    // The canary was refused without a challenge, and `/v2/` has none either. Kubelets don't ask there.
                    Stage::Challenge if target.canary.is_some() => Outcome::Unauthorized,
                    _ => Outcome::Unavailable(Unavailable::Timeout),
                };
                report(outcome, stage, message, start)
            }
        }
    }

    fn fresh(&self, target: &ProbeTarget, timeout: Duration) -> Result<Session, Failure> {
        let shared = self.shared();
        // The probe's own time limit is the one that counts: it knows the stage.
        let generous = timeout.saturating_add(Duration::from_secs(1));
        let limits = Limits {
            connect: generous,
            read: generous,
            total: generous,
            ..shared.session.http.limits.clone()
        };
        let http = Http::like_containerd(shared.guard.clone(), &shared.trust, limits).map_err(|error| {
            // Nothing was asked.
            Failure::new(Stage::Tls, Class::CredentialsUnavailable, error.to_string())
        })?;
        let canary = target.canary.as_ref().map(|(repository, _)| repository.as_str());
        let session = self.session(canary.unwrap_or_default());
        Ok(session.probing(Arc::new(http), shared.probe_tokens.clone()))
    }
}

/// The last stage, and what came of it.
async fn ask(session: &Session, target: &ProbeTarget, blobs: &Blobs) -> Result<(Stage, String), Failure> {
    let Some((repository, digest)) = &target.canary else {
        return ask_without_canary(session).await;
    };
    if target.fresh_token {
        session.forget_token(repository).await;
    }
    let known = blobs.get(digest).filter(|_| target.blob && !target.fresh_token);
    if let Some(blob) = known {
        identify(session).await?;
        let read = session.first_blob_byte(repository, &blob).await?;
        return Ok((Stage::Blob, format!("{read}: first byte read")));
    }
    let reference = digest.to_string();
    let head = ask_for_canary(session, repository, &reference).await;
    session.resolve_by_head(head, repository, &reference).await?;
    if !target.blob {
        return Ok((Stage::Manifest, format!("{}: {}", asked(session), StatusCode::OK)));
    }
    let blob = session.blob_of(repository, digest).await?;
    blobs.keep(digest, &blob);
    let read = session.first_blob_byte(repository, &blob).await?;
    Ok((Stage::Blob, format!("{read}: first byte read")))
}

/// Asks for the words of a 403: the answer to HEAD has none, and only they tell a firewall or a rate limit from a missing right.
async fn in_words(session: &Session, target: &ProbeTarget, failure: Failure, time: Duration) -> Failure {
    let Some((repository, digest)) = &target.canary else {
        return failure;
    };
    if (failure.status, failure.stage) != (Some(403), Stage::Manifest) {
        return failure;
    }
    let reference = digest.to_string();
    match tokio::time::timeout(time, session.manifest(repository, &reference)).await {
        Ok(Err(said)) if said.status == Some(403) => said,
        _ => failure,
    }
}

/// Asks without a credential at first, and with one where the registry wants it; with the token of an earlier probe at once.
async fn ask_for_canary(session: &Session, repository: &str, reference: &str) -> Result<Reply, Failure> {
    let ask = manifest_ask(session, Method::HEAD, repository, reference)?;
    if matches!(session.tokens.scheme(), Scheme::Basic | Scheme::Bearer { .. }) {
        identify(session).await?;
        let reply = session.ask(ask, repository).await?;
        return session.follow_manifest(reply, &Method::HEAD, repository).await;
    }
    let mut reply = session.send(&ask).await?;
    if reply.status() == StatusCode::UNAUTHORIZED {
        session.learn_from(reply, &ask, repository).await?;
        identify(session).await?;
        reply = session.ask(ask, repository).await?;
    } else {
        session.tokens.learn(Scheme::Open);
        reply = session.settle(reply, &ask, repository).await?;
    }
    session.follow_manifest(reply, &Method::HEAD, repository).await
}

/// With nothing to pull, `/v2/` and the credential stand for it.
async fn ask_without_canary(session: &Session) -> Result<(Stage, String), Failure> {
    session.challenge().await?;
    let mut stage = Stage::Challenge;
    if session.site.credentials != Credentials::Anonymous && session.tokens.scheme() != Scheme::Open {
        identify(session).await?;
        session.check_credentials().await?;
        stage = Stage::Token;
    }
    Ok((
        stage,
        format!("{}: answered; no canary to look for yet", asked(session)),
    ))
}

/// With an identity, has the cloud's token and the registry's exchange, unless that was done lately.
async fn identify(session: &Session) -> Result<(), Failure> {
    let scheme = session.tokens.scheme();
    session.protocol.identify(&scheme, &session.http.progress).await
}

/// The latest request, in words.
fn asked(session: &Session) -> String {
    session
        .http
        .progress
        .asked()
        .map_or_else(|| session.site.base.to_string(), |(request, _)| request)
}

/// The stage of a failure. What the first connection reached is known better than an error can tell.
pub(crate) fn place(session: &Session, failure: &Failure) -> (Stage, String) {
    let stage = match session.http.progress.stage() {
        _ if failure.status.is_some() || failure.stage > Stage::Challenge => failure.stage,
        Reached::Dns => Stage::Dns,
        Reached::Connect => Stage::Connect,
        Reached::Tls => Stage::Tls,
        Reached::Established => Stage::Challenge,
    };
    (stage, failure.message.clone())
}

/// Where a probe hangs when its time is over.
fn hung(session: &Session) -> (Stage, &'static str) {
    let progress = &session.http.progress;
    match progress.stage() {
        Reached::Dns => (Stage::Dns, "no answer from DNS"),
        Reached::Connect => (Stage::Connect, "no TCP connection"),
        Reached::Tls => (Stage::Tls, "no TLS handshake"),
        Reached::Established => {
            let stage = progress.asked().map_or(Stage::Challenge, |(_, stage)| stage);
            (stage, "no answer")
        }
    }
}

fn report(outcome: Outcome, stage: Stage, message: String, start: Instant) -> ProbeReport {
    ProbeReport {
        outcome,
        stage,
        message,
        elapsed: start.elapsed(),
    }
}

#[cfg(test)]
mod tests;
