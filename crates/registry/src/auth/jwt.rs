//! What a JSON Web Token says about itself. Nothing here is verified: it decides how long a token is kept, and what a
//! message says.

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde::Deserialize;
use serde::de::IgnoredAny;

/// The claims that matter to us; those that are missing or of another type are absent.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Claims {
    iat: Option<i64>,
    exp: Option<i64>,
    /// The tenant of Microsoft Entra ID.
    pub(crate) tid: Option<String>,
    /// Who a service account's token is for.
    pub(crate) sub: Option<String>,
    /// Registries that grant by repository put it into their refresh tokens.
    aad_identity: Option<IgnoredAny>,
}

/// The claims of a token, a JSON object; `None` for what is none.
pub(crate) fn payload(token: &str) -> Option<Vec<u8>> {
    let payload = BASE64_URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    (payload.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{')).then_some(payload)
}

impl Claims {
    /// Reads a token; `None` for what is none.
    pub(crate) fn of(token: &str) -> Option<Claims> {
        serde_json::from_slice(&payload(token)?).ok()
    }

    /// `exp` - `iat` in seconds.
    pub(crate) fn seconds(&self) -> Option<i64> {
        self.exp?.checked_sub(self.iat?)
    }

    /// The same as a duration; `None` when it is negative.
    pub(crate) fn life(&self) -> Option<Duration> {
        self.seconds()
            .and_then(|seconds| u64::try_from(seconds).ok())
            .map(Duration::from_secs)
    }

    /// When the token ends.
    pub(crate) fn end(&self) -> Option<Timestamp> {
        Timestamp::from_second(self.exp?).ok()
    }

    /// Whether an Azure registry grants by repository (ABAC).
    pub(crate) fn is_abac(&self) -> bool {
        self.aad_identity.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(claims: &str) -> String {
        format!("e30.{}.sig", BASE64_URL_SAFE_NO_PAD.encode(claims))
    }

    #[test]
    fn the_lifetime_of_a_json_web_token_is_read() {
        let seconds = |claims: &str| Claims::of(&token(claims)).and_then(|claims| claims.seconds());
        assert_eq!(seconds(r#"{"iat":1000,"exp":5500}"#), Some(4500));
        assert_eq!(seconds(r#"{"exp":5500}"#), None);
        assert_eq!(
            seconds(r#"{"iat":-9223372036854775808,"exp":9223372036854775807}"#),
            None
        );
        assert_eq!(Claims::of(&token(r#"{"iat":9,"exp":1}"#)).unwrap().life(), None);
        for other in ["opaque", "a.!!.c", "", "a.b", &token("[1,2]")] {
            assert!(Claims::of(other).is_none(), "{other}");
        }
    }

    #[test]
    fn an_abac_registry_is_known_by_its_claim() {
        let is_abac = |claims: &str| Claims::of(&token(claims)).unwrap().is_abac();
        assert!(is_abac(r#"{"aad_identity":{"oid":"x"}}"#));
        assert!(is_abac(r#"{"aad_identity":"x"}"#));
        assert!(!is_abac(r#"{"oid":"x"}"#));
    }
}
