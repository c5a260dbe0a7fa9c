//! From a cloud's token to a registry's: once for each registry and identity, for every client and probe of the process.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::{Method, StatusCode};
use serde::Deserialize;
use url::Url;
use url::form_urlencoded::{self, Serializer};

use super::entra::EntraIdentity;
use super::{Context, explain};
use crate::auth::jwt::Claims;
use crate::auth::renewed::{Fetched, Fresh, Renewed};
use crate::protocol::site::Site;
use crate::wire::answer;
use crate::wire::ask::Ask;
use crate::wire::failure::{Class, Failure, Stage};
use crate::wire::reply::Reply;
use crate::wire::secret::Secret;
use crate::wire::transport::Http;

/// How long a refresh token is kept that does not say how long it lives; the service documents three hours.
const UNSAID_LIFE: std::time::Duration = std::time::Duration::from_hours(1);
/// Longer refresh tokens don't fit a form that a registry would read.
const LONGEST_TOKEN: usize = 16 * 1024;

/// Repositories that are remembered as readable.
const MOST_PROVEN: usize = 4096;

/// What one registry gave to an identity. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Membership {
    token: Renewed<RefreshToken>,
    proven: Arc<Mutex<HashSet<String>>>,
}

/// A registry's long-lived token, good only for getting others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RefreshToken {
    pub(super) token: Secret<String>,
    /// Whether the registry grants by repository.
    abac: bool,
}

impl Membership {
    fn proven(&self) -> MutexGuard<'_, HashSet<String>> {
        self.proven.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers that the identity may read a repository.
    pub(super) fn prove(&self, repository: &str) {
        let mut proven = self.proven();
        if !proven.contains(repository) && proven.len() < MOST_PROVEN {
            proven.insert(repository.to_owned());
        }
    }

    /// Whether the identity was ever let in: to the repository, or to the registry when none is named.
    fn is_proven(&self, repository: Option<&str>) -> bool {
        match repository {
            Some(repository) => self.proven().contains(repository),
            None => self.token.succeeded(),
        }
    }
}

/// One identity at one registry.
#[derive(Clone)]
pub(super) struct Exchange {
    identity: Arc<EntraIdentity>,
    pub(super) membership: Membership,
    site: Arc<Site>,
    http: Http,
}

#[derive(Deserialize)]
struct Answer {
    refresh_token: String,
}

impl Exchange {
    /// `None` where the credential is no identity of Azure's.
    pub(super) fn new(site: &Arc<Site>, http: &Http) -> Option<Exchange> {
        let identity = site.credentials.identity()?.of::<EntraIdentity>()?;
        Some(Exchange {
            membership: identity.membership(&site.host()),
            identity,
            site: site.clone(),
            http: http.clone(),
        })
    }

    /// What messages call the identity.
    pub(super) fn name(&self) -> &str {
        self.identity.tokens.name()
    }

    /// Whether nothing needs to be asked to have a refresh token.
    pub(super) fn is_ready(&self) -> bool {
        self.membership.token.current().is_some()
    }

    /// The token of Microsoft Entra ID.
    pub(super) async fn cloud_token(&self) -> Result<Secret<String>, Failure> {
        self.identity.tokens.token().await
    }

    /// Drops the refresh token in a form that the registry refused. Whether another one can be had.
    pub(super) fn distrust(&self, form: &Secret<String>) -> bool {
        let mut fields = form_urlencoded::parse(form.expose().as_bytes());
        let sent = fields.find(|(name, _)| name == "refresh_token");
        let current = self.membership.token.current();
        let same = |token: &RefreshToken| sent.as_ref().is_some_and(|(_, sent)| token.token.expose() == sent);
        match current.filter(same) {
            Some(refused) => self.membership.token.distrust(&refused),
            // It was replaced already, or has expired meanwhile.
            None => true,
        }
    }

    /// The registry's refresh token; `realm` is the admitted token endpoint.
    pub(super) async fn refresh_token(&self, realm: &Url, service: Option<&str>) -> Result<RefreshToken, Failure> {
        let fetch = || {
            let (exchange, realm, service) = (self.clone(), realm.clone(), service.map(str::to_owned));
            let fetched = async move { exchange.fetch(&realm, service.as_deref()).await };
            Box::pin(fetched) as std::pin::Pin<Box<_>>
        };
        self.membership.token.get(fetch).await
    }

    async fn fetch(&self, realm: &Url, service: Option<&str>) -> Fetched<RefreshToken> {
        let token = self.cloud_token().await?;
        let ask = ask(realm, service, &token);
        let reply = self.http.exchange(&ask).await?;
        if reply.status() != StatusCode::OK {
            let mut failure = answer::failure(reply, &ask.method, true, self.http.limits.error_bytes).await;
            self.http.add_address(&mut failure);
            self.explain(&mut failure, None, false);
            if failure.class == Class::CredentialsUnavailable {
                self.identity.tokens.distrust(&token);
            }
            tracing::warn!(identity = %self.name(), %failure, "failed to exchange a token");
            return Err(failure);
        }
        let broken = reply.not_a_registry("no refresh token in it");
        read(reply, self.http.limits.token_bytes).await?.ok_or(broken)
    }

    fn explain(&self, failure: &mut Failure, repository: Option<&str>, abac: bool) {
        let context = Context {
            repository,
            identity: Some(self.name()),
            abac,
            proven: self.membership.is_proven(repository),
        };
        explain(&self.site, failure, &context);
    }

    /// Says what a refusal of the registry means for the identity.
    pub(super) fn explain_refusal(&self, failure: &mut Failure, repository: Option<&str>) {
        let token = self.membership.token.current();
        self.explain(failure, repository, token.is_some_and(|token| token.abac));
        if failure.class == Class::WaitingForAuthorization {
            // Should a refresh token know only what was granted before it.
            self.membership.token.hasten();
        }
    }
}

/// The request, in words.
pub(super) fn describe(realm: &Url) -> String {
    format!("POST {}", url(realm))
}

/// Where tokens are exchanged, beside the admitted token endpoint.
fn url(realm: &Url) -> Url {
    let mut url = realm.clone();
    url.set_path("/oauth2/exchange");
    url.set_query(None);
    url
}

/// Microsoft Entra ID's token for a refresh token of the registry.
fn ask(realm: &Url, service: Option<&str>, token: &Secret<String>) -> Ask {
    let mut form = Serializer::new(String::new());
    form.append_pair("grant_type", "access_token");
    if let Some(service) = service {
        form.append_pair("service", service);
    }
    if let Some(tenant) = Claims::of(token.expose()).and_then(|claims| claims.tid) {
        form.append_pair("tenant", &tenant);
    }
    form.append_pair("access_token", token.expose());
    let mut ask = Ask::new(Method::POST, url(realm), Stage::Exchange);
    ask.form = Some(Secret::new(form.finish()));
    ask
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
