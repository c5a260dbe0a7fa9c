//! The registry's password: fetched by `GetAuthorizationToken`, good for twelve hours, renewed at half its life. While that
//! fails the old one is used.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::header::DATE;
use http::{HeaderMap, HeaderValue};
use jiff::Timestamp;
use jiff::fmt::rfc2822;
use serde::Deserialize;
use serde_json::json;
use tokio::time::Instant;

use super::call::Ecr;
use crate::failure::{Class, Failure, Rung};
use crate::provider::secret_header;
use crate::pull::PullCredential;
use crate::secret::Secret;

/// When an answer does not say.
const USUAL_LIFE: Duration = Duration::from_hours(1);
/// The most that is believed.
const LONGEST_LIFE: Duration = Duration::from_hours(12);
/// After a failed renewal.
const RETRY: Duration = Duration::from_mins(1);
/// A password is not used so long before its end.
const MARGIN: Duration = Duration::from_mins(1);

#[derive(Debug, Default)]
pub(super) struct Login {
    state: Mutex<State>,
    turn: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct State {
    password: Option<Password>,
    failed: Option<(Instant, Failure)>,
}

#[derive(Clone, Debug)]
struct Password {
    header: HeaderValue,
    renew: Instant,
    until: Instant,
    /// The end, by the clock of whoever issued it.
    expires: Timestamp,
}

impl Login {
    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn valid(&self, now: Instant) -> Option<Password> {
        self.with(|state| state.password.clone().filter(|password| now < password.until))
    }
}

impl Ecr {
    /// The `Authorization` header for the registry. Only the first is waited for; later ones are fetched beside.
    pub(crate) async fn authorization(self: &Arc<Self>) -> Result<HeaderValue, Failure> {
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
    pub(crate) async fn password(self: &Arc<Self>) -> Result<PullCredential, Failure> {
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
            Failure::new(Rung::Token, Class::CredentialsUnavailable, message)
        })
    }

    /// Forgets a password that the registry refused. Whether another one can be had.
    pub(crate) fn forget(&self, refused: &HeaderValue) -> bool {
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
        let fetched = self.call_now("GetAuthorizationToken", json!({}), Rung::Token).await;
        let read = fetched.and_then(|(headers, body)| {
            read(&headers, &body, Instant::now()).ok_or_else(|| {
                let message = format!("GetAuthorizationToken of {}: no password in the answer", self.place.api);
                Failure::new(Rung::Token, Class::CredentialsUnavailable, message)
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

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    authorization_data: Vec<Data>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Data {
    authorization_token: String,
    #[serde(default)]
    expires_at: Option<f64>,
}

/// Reads an answer; its life is taken by its own `Date`, so that our clock need not be right.
fn read(headers: &HeaderMap, body: &[u8], now: Instant) -> Option<Password> {
    let answer: Answer = serde_json::from_slice(body).ok()?;
    let data = answer.authorization_data.into_iter().next()?;
    let pair = BASE64_STANDARD.decode(&data.authorization_token).ok()?;
    if !pair.contains(&b':') {
        return None;
    }
    let said = headers.get(DATE).and_then(|value| value.to_str().ok());
    let said = said.and_then(|text| {
        rfc2822::DateTimeParser::new()
            .relaxed_weekday(true)
            .parse_timestamp(text)
            .ok()
    });
    let answered = said.unwrap_or_else(Timestamp::now);
    let life = data
        .expires_at
        .map(|at| (at - answered.as_second() as f64).clamp(0.0, LONGEST_LIFE.as_secs_f64()));
    let life = life
        .and_then(|life| Duration::try_from_secs_f64(life).ok())
        .unwrap_or(USUAL_LIFE);
    let life = life.max(2 * MARGIN);
    Some(Password {
        header: secret_header("Basic", &data.authorization_token)?,
        renew: now + life / 2,
        until: now + life - MARGIN,
        expires: answered + life,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn answered() -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(DATE, HeaderValue::from_static("Fri, 20 Nov 2026 12:00:00 GMT"));
        headers
    }

    #[test]
    fn a_password_lives_as_long_as_is_said_within_reason() {
        let now = Instant::now();
        let token = BASE64_STANDARD.encode("AWS:hunter2");
        let lives = |expires: &str| {
            let body = format!(r#"{{"authorizationData":[{{"authorizationToken":"{token}"{expires}}}]}}"#);
            let password = read(&answered(), body.as_bytes(), now).unwrap();
            assert!(!format!("{password:?}").contains(&token));
            (password.until + MARGIN - now).as_secs()
        };
        let cases = [
            (r#","expiresAt":1.7952192E9"#, 43_200),
            (r#","expiresAt":1795176600.5"#, 600),
            (r#","expiresAt":1e300"#, 43_200),
            (r#","expiresAt":0"#, 120),
            (r#","expiresAt":-5"#, 120),
            (r#","expiresAt":null"#, 3600),
            ("", 3600),
        ];
        for (expires, expected) in cases {
            assert_eq!(lives(expires), expected, "{expires}");
        }
    }

    #[test]
    fn an_answer_without_a_password_is_none() {
        for body in [
            "",
            "{}",
            "[]",
            r#"{"authorizationData":[]}"#,
            r#"{"authorizationData":[{}]}"#,
            r#"{"authorizationData":[{"authorizationToken":"!"}]}"#,
            r#"{"authorizationData":[{"authorizationToken":"bm8gY29sb24="}]}"#,
        ] {
            assert!(read(&answered(), body.as_bytes(), Instant::now()).is_none(), "{body}");
        }
    }

    proptest! {
        #[test]
        fn no_answer_makes_the_reader_fail(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = read(&HeaderMap::new(), &bytes, Instant::now());
        }
    }
}
