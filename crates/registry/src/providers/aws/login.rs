//! The registry's password: fetched by `GetAuthorizationToken`, good for twelve hours, renewed at half its life. While that
//! fails the old one is used.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::HeaderValue;
use serde_json::json;
use tokio::time::Instant;

use super::call::Ecr;
use super::password;
use crate::auth::pull::PullCredential;
use crate::wire::failure::{Class, Failure, Stage};
use crate::wire::secret::Secret;

/// After a failed renewal.
const RETRY: Duration = Duration::from_mins(1);

impl Ecr {
    /// The `Authorization` header for the registry. Only the first is waited for; later ones are fetched beside.
    pub(super) async fn authorization(self: &Arc<Self>) -> Result<HeaderValue, Failure> {
        let asked = Instant::now();
        if let Some(password) = self.login.valid(asked) {
            if asked >= password.renew {
                let ecr = Arc::clone(self);
                tokio::spawn(async move { ecr.renew().await });
            }
            return Ok(password.header);
        }
        let _turn = self.login.turn.lock().await;
        if let Some(password) = self.login.valid(Instant::now()) {
            return Ok(password.header);
        }
        // A failure that came while we waited: asking again at once would only add to the trouble.
        let failed = self
            .login
            .with(|state| state.failed.clone())
            .filter(|(at, _)| *at >= asked);
        if let Some((_, failure)) = failed {
            return Err(failure);
        }
        self.fetch().await
    }

    /// The password with its user name and its end, for those who log in elsewhere with it.
    pub(super) async fn password(self: &Arc<Self>) -> Result<PullCredential, Failure> {
        let header = self.authorization().await?;
        let current = self.login.with(|state| state.password.clone());
        let read = current
            .filter(|password| password.header == header)
            .and_then(|password| {
                let pair = header.to_str().ok()?.strip_prefix("Basic ")?;
                let pair = String::from_utf8(BASE64_STANDARD.decode(pair).ok()?).ok()?;
                let (username, secret) = pair.split_once(':')?;
                Some(PullCredential {
                    username: username.to_owned(),
                    password: Secret::new(secret.to_owned()),
                    expires: password.expires,
                })
            });
        read.ok_or_else(|| {
            let message = format!(
                "GetAuthorizationToken of {}: no password that can be passed on",
                self.place.api
            );
            Failure::new(Stage::Token, Class::CredentialsUnavailable, message)
        })
    }

    /// Forgets a password that the registry refused. Whether another one can be had.
    pub(super) fn forget(&self, refused: &HeaderValue) -> bool {
        self.login.with(|state| {
            let known = state
                .password
                .as_ref()
                .is_some_and(|password| password.header == *refused);
            if known {
                state.password = None;
            }
            known
        })
    }

    /// Forgets a password that a 403 may be about: the registry says so of one that has expired, too. Whether another one can be had. One that
    /// is new is not what is wrong.
    pub(super) fn forget_if_old(&self, refused: &HeaderValue) -> bool {
        let is_old = self.login.with(|state| {
            let password = state.password.as_ref();
            password.is_some_and(|password| password.since.elapsed() >= RETRY)
        });
        is_old && self.forget(refused)
    }

    /// Renews beside, one at a time; a failure is tried again in a minute.
    async fn renew(&self) {
        let Ok(_turn) = self.login.turn.try_lock() else {
            return;
        };
        let due = self.login.with(|state| {
            let password = state
                .password
                .as_mut()
                .filter(|password| Instant::now() >= password.renew);
            password
                .map(|password| password.renew = Instant::now() + RETRY)
                .is_some()
        });
        if !due {
            return;
        }
        if let Err(failure) = self.fetch().await {
            tracing::warn!(%failure, "failed to renew the registry password; the old one is used on");
        }
    }

    async fn fetch(&self) -> Result<HeaderValue, Failure> {
        let fetched = self.call_now("GetAuthorizationToken", json!({}), Stage::Token).await;
        let read = fetched.and_then(|(headers, body)| {
            password::read(&headers, &body, Instant::now()).ok_or_else(|| {
                let message = format!("GetAuthorizationToken of {}: no password in the answer", self.place.api);
                Failure::new(Stage::Token, Class::CredentialsUnavailable, message)
            })
        });
        match read {
            Ok(password) => {
                let header = password.header.clone();
                self.login
                    .with(|state| (state.password, state.failed) = (Some(password), None));
                Ok(header)
            }
            Err(mut failure) => {
                // The interface being down says nothing about the registry: kubelets bring passwords of their own.
                if !matches!(
                    failure.class,
                    Class::Unauthorized | Class::Forbidden | Class::Throttled { .. }
                ) {
                    failure.class = Class::CredentialsUnavailable;
                }
                self.login
                    .with(|state| state.failed = Some((Instant::now(), failure.clone())));
                Err(failure)
            }
        }
    }
}
