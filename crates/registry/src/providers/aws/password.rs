//! The registry's password as `GetAuthorizationToken` tells it, and for how long it is good.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::header::DATE;
use http::{HeaderMap, HeaderValue};
use jiff::Timestamp;
use jiff::fmt::rfc2822;
use serde::Deserialize;
use tokio::time::Instant;

use crate::wire::failure::Failure;
use crate::wire::secret::secret_header;

/// When an answer does not say.
const USUAL_LIFE: Duration = Duration::from_hours(1);
/// The most that is believed.
const LONGEST_LIFE: Duration = Duration::from_hours(12);
/// A password is not used so long before its end.
const MARGIN: Duration = Duration::from_mins(1);

#[derive(Debug, Default)]
pub(super) struct Login {
    state: Mutex<State>,
    /// The holder fetches.
    pub(super) turn: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) password: Option<Password>,
    pub(super) failed: Option<(Instant, Failure)>,
}

#[derive(Clone, Debug)]
pub(super) struct Password {
    pub(super) header: HeaderValue,
    /// When it was fetched.
    pub(super) since: Instant,
    pub(super) renew: Instant,
    pub(super) until: Instant,
    /// The end, by the issuer's clock.
    pub(super) expires: Timestamp,
}

impl Login {
    pub(super) fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn valid(&self, now: Instant) -> Option<Password> {
        self.with(|state| state.password.clone().filter(|password| now < password.until))
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
pub(super) fn read(headers: &HeaderMap, body: &[u8], now: Instant) -> Option<Password> {
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
        since: now,
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
