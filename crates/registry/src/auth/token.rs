//! Tokens: one per repository and set of actions, fetched once for everyone who waits for it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::HeaderValue;
use serde::Deserialize;
use tokio::time::Instant;

use crate::auth::jwt::Claims;
use crate::auth::scheme::Scheme;
use crate::wire::failure::Failure;
use crate::wire::json;
use crate::wire::secret::secret_header;

/// How long a token lives when nothing is said, and the least that is believed (token flow of the distribution project).
const SHORTEST_LIFE: Duration = Duration::from_mins(1);
/// The most that is believed.
const LONGEST_LIFE: Duration = Duration::from_hours(1);
/// A token is renewed so long before its end.
const MARGIN: Duration = Duration::from_secs(10);
/// When more scopes are cached than this, those without a valid token are forgotten.
const MOST_SCOPES: usize = 4096;

/// A token that can be sent.
#[derive(Clone, Debug)]
pub(crate) struct Token {
    pub(crate) header: HeaderValue,
    until: Instant,
    since: Instant,
}

/// What is known about one scope. The holder may fetch; the others wait for what comes of it.
#[derive(Debug, Default)]
pub(crate) struct Slot {
    token: Option<Token>,
    failed: Option<(Instant, Failure)>,
    /// When it was waited for a new token to be known.
    waited: Option<Instant>,
}

/// What is known about one scope, apart from its token.
#[derive(Debug, Default)]
struct Known {
    /// How the registry wants to be authenticated with there; `None`: it did not say, so as everywhere.
    scheme: Option<Scheme>,
    slot: Arc<tokio::sync::Mutex<Slot>>,
}

/// Everything that was learned about authenticating with one registry. Some have a token endpoint for each repository.
#[derive(Debug)]
pub(crate) struct Tokens {
    /// What it said last, of whatever repository.
    scheme: Mutex<Scheme>,
    known: Mutex<HashMap<String, Known>>,
}

impl Tokens {
    pub(crate) fn new(scheme: Scheme) -> Tokens {
        Tokens {
            scheme: Mutex::new(scheme),
            known: Mutex::default(),
        }
    }

    pub(crate) fn scheme(&self) -> Scheme {
        self.scheme.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn learn(&self, scheme: Scheme) {
        *self.scheme.lock().unwrap_or_else(PoisonError::into_inner) = scheme;
    }

    /// What the registry said of a scope.
    pub(crate) fn said_of(&self, scope: &str) -> Option<Scheme> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(scope)?.scheme.clone()
    }

    /// How to authenticate for a scope.
    pub(crate) fn scheme_for(&self, scope: &str) -> Scheme {
        self.said_of(scope).unwrap_or_else(|| self.scheme())
    }

    /// Keeps what the registry said of a scope; for others it holds until it says otherwise of them.
    pub(crate) fn learn_for(&self, scope: &str, scheme: Scheme) {
        self.learn(scheme.in_general());
        self.with(scope, |known| known.scheme = Some(scheme));
    }

    /// Forgets what the registry said, of this scope and in general. Its token stays.
    pub(crate) fn unlearn(&self, scope: &str) {
        self.learn(Scheme::Unknown);
        self.with(scope, |known| known.scheme = None);
    }

    pub(crate) fn slot(&self, scope: &str) -> Arc<tokio::sync::Mutex<Slot>> {
        self.with(scope, |known| known.slot.clone())
    }

    fn with<T>(&self, scope: &str, then: impl FnOnce(&mut Known) -> T) -> T {
        let mut all = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= MOST_SCOPES && !all.contains_key(scope) {
            let now = Instant::now();
            let valid = |known: &Known| known.slot.try_lock().map_or(true, |slot| slot.valid(now).is_some());
            all.retain(|_, known| valid(known));
            if all.len() >= MOST_SCOPES {
                all.clear();
            }
        }
        then(all.entry(scope.to_owned()).or_default())
    }
}

impl Slot {
    /// A token that is good for a while.
    pub(crate) fn valid(&self, now: Instant) -> Option<&Token> {
        self.token.as_ref().filter(|token| now < token.until)
    }

    /// A failure that came while we waited: asking again at once would only add to the trouble.
    pub(crate) fn failed_since(&self, asked: Instant) -> Option<&Failure> {
        self.failed
            .as_ref()
            .filter(|(at, _)| *at >= asked)
            .map(|(_, failure)| failure)
    }

    pub(crate) fn keep(&mut self, token: Token) {
        (self.token, self.failed) = (Some(token), None);
    }

    pub(crate) fn fail(&mut self, failure: Failure) {
        (self.token, self.failed) = (None, Some((Instant::now(), failure)));
    }

    /// Forgets the token.
    pub(crate) fn forget(&mut self) {
        self.token = None;
    }

    /// Whether it is this token, and new: another would be good for no more.
    pub(crate) fn is_new(&self, token: &HeaderValue, now: Instant) -> bool {
        self.token
            .as_ref()
            .is_some_and(|kept| kept.header == *token && now.duration_since(kept.since) < SHORTEST_LIFE)
    }

    /// Whether to wait for a token that is refused because it is too new; once in a while, because most refusals are about rights.
    pub(crate) fn waits_for(&mut self, token: &HeaderValue, now: Instant) -> bool {
        let waited_lately = self.waited.is_some_and(|at| now.duration_since(at) < SHORTEST_LIFE);
        let waits = !waited_lately && self.is_new(token, now);
        if waits {
            self.waited = Some(now);
        }
        waits
    }

    /// Forgets the token that was refused, unless it has been replaced already.
    pub(crate) fn drop_refused(&mut self, refused: &HeaderValue) {
        if self.token.as_ref().is_some_and(|token| token.header == *refused) {
            self.token = None;
        }
    }
}

#[derive(Deserialize)]
struct Answer {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<serde_json::Value>,
}

/// Reads a token endpoint's answer; `None` when there is no token in it.
pub(crate) fn read(body: &[u8], now: Instant) -> Option<Token> {
    let answer: Answer = json::object(body, json::FEW_VALUES)?;
    let token = answer
        .token
        .into_iter()
        .chain(answer.access_token)
        .find(|token| !token.is_empty())?;
    if token.bytes().any(|byte| !byte.is_ascii_graphic()) {
        return None;
    }
    let seconds = match answer.expires_in {
        Some(value) => value.as_f64(),
        None => Claims::of(&token)
            .and_then(|claims| claims.seconds())
            .map(|seconds| seconds as f64),
    };
    let header = secret_header("Bearer", &token)?;
    Some(Token {
        header,
        until: now + life(seconds) - MARGIN,
        since: now,
    })
}

fn life(seconds: Option<f64>) -> Duration {
    let said = seconds.map(|seconds| Duration::try_from_secs_f64(seconds.clamp(0.0, LONGEST_LIFE.as_secs_f64())));
    said.and_then(Result::ok)
        .unwrap_or(SHORTEST_LIFE)
        .clamp(SHORTEST_LIFE, LONGEST_LIFE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn life_of(body: &str) -> Option<u64> {
        let now = Instant::now();
        read(body.as_bytes(), now).map(|token| (token.until + MARGIN - now).as_secs())
    }

    #[test]
    fn the_life_of_a_token_is_what_is_said_within_reason() {
        let cases = [
            (r#"{"token":"t"}"#, Some(60)),
            (r#"{"access_token":"t","expires_in":300}"#, Some(300)),
            (r#"{"token":"","access_token":"t"}"#, Some(60)),
            (r#"{"token":"t","expires_in":-1}"#, Some(60)),
            (r#"{"token":"t","expires_in":0}"#, Some(60)),
            (r#"{"token":"t","expires_in":1000000000}"#, Some(3600)),
            (r#"{"token":"t","expires_in":1e300}"#, Some(3600)),
            (r#"{"token":"t","expires_in":299.9}"#, Some(299)),
            (r#"{"token":"t","expires_in":"300"}"#, Some(60)),
            (r#"{"token":"t","expires_in":null}"#, Some(60)),
            (r#"{"token":"a.eyJpYXQiOjEwMDAsImV4cCI6MTkwMH0.c"}"#, Some(900)),
            (
                r#"{"token":"a.eyJpYXQiOjEwMDAsImV4cCI6MTkwMH0.c","expires_in":120}"#,
                Some(120),
            ),
            (r"{}", None),
            (r#"{"token":""}"#, None),
            (r#"{"token":"two\nlines"}"#, None),
            (r#"{"token":"a b"}"#, None),
            (r#"{"token":7}"#, None),
            (r#"["t"]"#, None),
            (r#""t""#, None),
            ("<html>", None),
            ("", None),
        ];
        for (body, expected) in cases {
            assert_eq!(life_of(body), expected, "{body}");
        }
    }

    #[test]
    fn no_debug_output_holds_a_token() {
        let token = read(br#"{"token":"hunter2"}"#, Instant::now()).unwrap();
        assert!(!format!("{token:?}").contains("hunter2"));
    }

    #[test]
    fn only_the_refused_token_is_dropped() {
        let now = Instant::now();
        let old = read(br#"{"token":"old"}"#, now).unwrap();
        let mut slot = Slot::default();
        slot.keep(read(br#"{"token":"new"}"#, now).unwrap());
        slot.drop_refused(&old.header);
        assert!(slot.valid(now).is_some());
        slot.keep(old.clone());
        slot.drop_refused(&old.header);
        assert!(slot.valid(now).is_none());
    }

    #[test]
    fn the_number_of_cached_scopes_is_bounded() {
        let tokens = Tokens::new(Scheme::Open);
        for n in 0..3 * MOST_SCOPES {
            tokens.slot(&n.to_string());
        }
        assert!(tokens.known.lock().unwrap().len() <= MOST_SCOPES);
    }

    #[test]
    fn fuzzed_token_answers_give_a_header_that_is_never_shown_or_none() {
        use proptest::prelude::*;

        let samples = [
            r#"{"token":"canary-token","access_token":"canary-token","expires_in":300,"issued_at":"2026-11-20T00:00:00Z"}"#,
            r#"{"access_token":"a.eyJpYXQiOjEwMDAsImV4cCI6MTkwMH0.c","scope":"x"}"#,
            r#"{"details":"incorrect username or password"}"#,
        ];
        let property = |input: Vec<u8>| {
            let now = Instant::now();
            if let Some(token) = read(&input, now) {
                prop_assert!(token.header.is_sensitive());
                prop_assert!(token.header.as_bytes().iter().all(|byte| (b' '..=b'~').contains(byte)));
                prop_assert!(token.until + MARGIN >= now + SHORTEST_LIFE && token.until <= now + LONGEST_LIFE);
                let shown = format!("{token:?}");
                prop_assert!(!shown.contains("canary"));
            }
            Ok(())
        };
        catamaran_fuzz::run(file!(), "tokens", &catamaran_fuzz::mutated(&samples), property);
    }
}
