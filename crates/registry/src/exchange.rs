//! From a cloud's token to a registry's: once for each registry and identity, for every client and probe of the process.

use std::sync::Arc;

use http::StatusCode;
use serde::Deserialize;
use url::Url;

use crate::answer;
use crate::failure::{Class, Failure, Rung};
use crate::identity::{Identity, Membership, RefreshToken};
use crate::jwt::Claims;
use crate::provider::site::{Context, Site};
use crate::renewed::{Fetched, Fresh};
use crate::reply::Reply;
use crate::secret::Secret;
use crate::transport::Http;

/// How long a refresh token is kept that does not say how long it lives; the service documents three hours.
const UNSAID_LIFE: std::time::Duration = std::time::Duration::from_hours(1);
/// Longer refresh tokens don't fit a form that a registry would read.
const LONGEST_TOKEN: usize = 16 * 1024;

/// One identity at one registry.
#[derive(Clone)]
pub(crate) struct Exchange {
    pub(crate) identity: Identity,
    pub(crate) membership: Membership,
    site: Arc<Site>,
    http: Http,
}

#[derive(Deserialize)]
struct Answer {
    refresh_token: String,
}

impl Exchange {
    /// `None` where the credential is no identity.
    pub(crate) fn new(site: &Arc<Site>, http: &Http) -> Option<Exchange> {
        let identity = site.credentials.identity()?.clone();
        Some(Exchange {
            membership: identity.membership(&site.host()),
            identity,
            site: site.clone(),
            http: http.clone(),
        })
    }

    /// Whether nothing needs to be asked to have a refresh token.
    pub(crate) fn is_ready(&self) -> bool {
        self.membership.token.current().is_some()
    }

    /// The request, in words.
    pub(crate) fn describe(&self, realm: &Url) -> String {
        let url = self.site.exchange_url(realm);
        url.map_or_else(|| "the exchange of a token".to_owned(), |url| format!("POST {url}"))
    }

    /// The registry's refresh token; `realm` is the admitted token endpoint.
    pub(crate) async fn refresh_token(&self, realm: &Url, service: Option<&str>) -> Result<RefreshToken, Failure> {
        let fetch = || {
            let (exchange, realm, service) = (self.clone(), realm.clone(), service.map(str::to_owned));
            let fetched = async move { exchange.fetch(&realm, service.as_deref()).await };
            Box::pin(fetched) as std::pin::Pin<Box<_>>
        };
        self.membership.token.get(fetch).await
    }

    async fn fetch(&self, realm: &Url, service: Option<&str>) -> Fetched<RefreshToken> {
        let token = self.identity.token().await?;
        let Some(ask) = self.site.exchange_ask(realm, service, &token) else {
            let message = format!(
                "{}: this registry's provider takes no such identity",
                self.identity.name()
            );
            return Err(Failure::new(Rung::Exchange, Class::CredentialsUnavailable, message));
        };
        let reply = self.http.exchange(&ask).await?;
        if reply.status() != StatusCode::OK {
            let mut failure = answer::failure(reply, &ask.method, true, self.http.limits.error_bytes).await;
            self.explain(&mut failure);
            if failure.class == Class::CredentialsUnavailable {
                self.identity.distrust(&token);
            }
            tracing::warn!(identity = %self.identity.name(), %failure, "failed to exchange a token");
            return Err(failure);
        }
        let broken = reply.not_a_registry("no refresh token in it");
        read(reply, self.http.limits.token_bytes).await?.ok_or(broken)
    }

    fn explain(&self, failure: &mut Failure) {
        self.http.add_address(failure);
        let context = Context {
            repository: None,
            identity: Some(self.identity.name()),
            abac: false,
            proven: self.membership.is_proven(None),
        };
        self.site.explain(failure, &context);
    }
}

async fn read(reply: Reply, most: u64) -> Result<Option<Fresh<RefreshToken>>, Failure> {
    if reply.is_html() {
        return Err(reply.not_a_registry("a web page instead of a token"));
    }
    let body = reply.body(most).await?;
    Ok(parse(&body))
}

/// Reads the answer; `None` when there is no token in it.
fn parse(body: &[u8]) -> Option<Fresh<RefreshToken>> {
    if body.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'{') {
        return None;
    }
    let Answer { refresh_token } = serde_json::from_slice(body).ok()?;
    let plain =
        (1..=LONGEST_TOKEN).contains(&refresh_token.len()) && refresh_token.bytes().all(|byte| byte.is_ascii_graphic());
    if !plain {
        return None;
    }
    let claims = Claims::of(&refresh_token).unwrap_or_default();
    Some(Fresh {
        life: claims.life().unwrap_or(UNSAID_LIFE),
        value: RefreshToken {
            token: Secret::new(refresh_token),
            abac: claims.is_abac(),
        },
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_refresh_token_lives_as_long_as_it_says() {
        use base64::Engine as _;
        let token = |claims: &str| format!("e30.{}.s", base64::prelude::BASE64_URL_SAFE_NO_PAD.encode(claims));
        let cases = [
            (token(r#"{"iat":1000,"exp":11800}"#), Some((10800, false))),
            (
                token(r#"{"iat":1000,"exp":11800,"aad_identity":{}}"#),
                Some((10800, true)),
            ),
            (token(r#"{"iat":1000,"exp":1}"#), Some((3600, false))),
            ("opaque".to_owned(), Some((3600, false))),
            (String::new(), None),
            ("a b".to_owned(), None),
            ("x".repeat(LONGEST_TOKEN + 1), None),
        ];
        for (token, expected) in cases {
            let body = serde_json::json!({"refresh_token": token}).to_string();
            let found = parse(body.as_bytes()).map(|fresh| (fresh.life.as_secs(), fresh.value.abac));
            assert_eq!(found, expected, "{token:.60}");
        }
        for body in [
            "",
            "{}",
            "[]",
            r#"["x"]"#,
            r#"{"refresh_token":7}"#,
            r#"{"refresh_token":null}"#,
            "<html>",
        ] {
            assert!(parse(body.as_bytes()).is_none(), "{body}");
        }
    }

    proptest! {
        #[test]
        fn no_answer_makes_the_reader_fail(body in prop::collection::vec(any::<u8>(), 0..400)) {
            parse(&body);
        }

        #[test]
        fn no_token_makes_the_reader_fail(payload in "[ -~]{0,200}", iat in any::<i64>(), exp in any::<i64>()) {
            use base64::Engine as _;
            let encode = |text: &str| base64::prelude::BASE64_URL_SAFE_NO_PAD.encode(text);
            for payload in [encode(&payload), payload, encode(&format!(r#"{{"iat":{iat},"exp":{exp}}}"#))] {
                let body = serde_json::json!({"refresh_token": format!("h.{payload}.s")}).to_string();
                if let Some(fresh) = parse(body.as_bytes()) {
                    let shown = format!("{:?}", fresh.value);
                    prop_assert!(!shown.contains("h."), "{}", shown);
                }
            }
        }
    }
}
