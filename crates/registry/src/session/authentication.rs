//! What a request is authenticated with: what the registry asks for, and the tokens that it gives.

use http::{HeaderValue, Method, StatusCode};
use tokio::time::Instant;
use url::Url;

use super::{About, Session};
use crate::auth::challenge;
use crate::auth::scheme::Scheme;
use crate::auth::token::{self, Token};
use crate::protocol::Protocol;
use crate::wire::ask::Ask;
use crate::wire::failure::{Failure, Stage};
use crate::wire::reply::Reply;

/// Where tokens are asked for, and what the registry wants them to be for besides.
#[derive(Clone, Copy)]
struct Endpoint<'e> {
    realm: &'e Url,
    service: Option<&'e str>,
    also: &'e [String],
}

impl Endpoint<'_> {
    /// The scopes of a token: our own, then those that the registry named.
    fn scope(&self, about: Option<About<'_>>, protocol: &dyn Protocol) -> Option<String> {
        let own = about?.scope(protocol);
        let all = [own.as_str()].into_iter().chain(self.also.iter().map(String::as_str));
        Some(all.collect::<Vec<_>>().join(" "))
    }
}

/// What a refusal said of how to authenticate.
struct Heard {
    scheme: Scheme,
    /// The token that was sent is good, and not for this.
    is_insufficient: bool,
}

impl Session {
    /// Whether a refused request is to be made once more: with what else there is, or as the registry has just asked for.
    pub(super) async fn is_to_repeat(&self, refusal: &Reply, ask: &Ask, about: About<'_>) -> Result<bool, Failure> {
        let refused = ask.authorization.as_ref();
        match refusal.status() {
            _ if ask.stream.is_some() => Ok(false),
            StatusCode::FORBIDDEN => Ok(refused.is_some_and(|denied| self.protocol.forget_denied(denied))),
            StatusCode::UNAUTHORIZED => self.renews(refusal, refused, about).await,
            _ => Ok(false),
        }
    }

    /// Whether a new token was refused that may be known in a second. Probes wait for nothing.
    pub(super) async fn is_too_new(&self, refusal: &Reply, ask: &Ask, about: About<'_>) -> bool {
        let Some(token) = ask.authorization.as_ref() else {
            return false;
        };
        if self.probes || refusal.status() != StatusCode::UNAUTHORIZED {
            return false;
        }
        if challenge::read(refusal.headers()).is_insufficient {
            return false;
        }
        let slot = self.tokens.slot(&about.scope(&*self.protocol));
        slot.lock().await.waits_for(token, Instant::now())
    }

    /// Learns from a refusal, and drops what was refused. Whether there is something else to show.
    async fn renews(&self, refusal: &Reply, refused: Option<&HeaderValue>, about: About<'_>) -> Result<bool, Failure> {
        let scope = about.scope(&*self.protocol);
        let known = self.tokens.scheme_for(&scope);
        let Some(heard) = self.heard(refusal, Some(about))? else {
            return Ok(false);
        };
        let renewable = refused.is_some_and(|refused| self.protocol.forget(refused));
        let spent = known == Scheme::Basic || !self.protocol.has_basic(&self.site);
        if heard.scheme == Scheme::Basic && spent && !renewable {
            return Ok(false);
        }
        let says_more = heard.scheme != known;
        self.tokens.learn_for(&scope, heard.scheme);
        if let Some(refused) = refused {
            let slot = self.tokens.slot(&scope);
            let mut slot = slot.lock().await;
            if heard.is_insufficient && !says_more && slot.is_new(refused, Instant::now()) {
                return Ok(false);
            }
            slot.drop_refused(refused);
        }
        Ok(true)
    }

    /// What challenges make of us; `None` when there is none that we can answer. Scopes count where they are about a repository that
    /// was asked for, and only those that we don't ask for anyway.
    fn heard(&self, reply: &Reply, about: Option<About<'_>>) -> Result<Option<Heard>, Failure> {
        let challenges = challenge::read(reply.headers());
        let scheme = self
            .protocol
            .admit_one_of(&self.site, challenges.offered, &reply.sent)?;
        let Some(scheme) = scheme else { return Ok(None) };
        let host = self.site.host();
        let is_asked = |scope: &str| {
            let mut reads = about.iter().flat_map(About::reads);
            about.is_none()
                || reads.any(|name| {
                    let rest = scope
                        .strip_prefix("repository:")
                        .and_then(|rest| rest.strip_suffix(":pull"));
                    rest.is_some_and(|named| named == name || named.strip_prefix(&format!("{host}/")) == Some(name))
                })
        };
        Ok(Some(Heard {
            scheme: scheme.without(is_asked),
            is_insufficient: challenges.is_insufficient,
        }))
    }

    /// The header for a request. Where the token endpoint that refuses is the one that was named for other repositories, the registry
    /// is asked once for the one of this repository: some have one for each.
    pub(crate) async fn authorize(&self, ask: &Ask, about: About<'_>) -> Result<Option<HeaderValue>, Failure> {
        let scope = about.scope(&*self.protocol);
        let known = self.tokens.scheme_for(&scope);
        let failure = match self.authorization(Some(about)).await {
            Err(failure) if self.is_of_another(&failure, &scope, &known) => failure,
            authorization => return authorization,
        };
        self.tokens.learn_for(&scope, known.clone());
        if !matches!(ask.method, Method::GET | Method::HEAD) {
            return Err(failure);
        }
        let mut bare = Ask::new(ask.method.clone(), ask.url.clone(), ask.stage);
        bare.accept = ask.accept;
        let Ok(refusal) = self.send(&bare).await else {
            return Err(failure);
        };
        match self.heard(&refusal, Some(about)) {
            Ok(Some(heard)) if refusal.status() == StatusCode::UNAUTHORIZED && heard.scheme != known => {
                self.tokens.learn_for(&scope, heard.scheme);
                self.authorization(Some(about)).await
            }
            _ => Err(failure),
        }
    }

    /// Whether a token was refused by an endpoint that the registry has not named for this scope, and could.
    fn is_of_another(&self, failure: &Failure, scope: &str, known: &Scheme) -> bool {
        failure.stage == Stage::Token
            && failure.status.is_some_and(|status| (400..=404).contains(&status))
            && self.tokens.said_of(scope).is_none()
            && *known != self.protocol.known_scheme(&self.site)
    }

    /// The header to send: none when the registry is open or was not asked yet.
    pub(crate) async fn authorization(&self, about: Option<About<'_>>) -> Result<Option<HeaderValue>, Failure> {
        let known = match about {
            Some(about) => self.tokens.scheme_for(&about.scope(&*self.protocol)),
            None => self.tokens.scheme(),
        };
        match known {
            Scheme::Unknown | Scheme::Open => Ok(None),
            Scheme::Basic => self.protocol.basic(&self.site).await,
            Scheme::Bearer { realm, service, also } => {
                let endpoint = Endpoint {
                    realm: &realm,
                    service: service.as_deref(),
                    also: &also,
                };
                Ok(Some(self.token(endpoint, about).await?.header))
            }
        }
    }

    /// The token for a scope. Of many who want it at once one fetches it, or finds out why there is none.
    async fn token(&self, endpoint: Endpoint<'_>, about: Option<About<'_>>) -> Result<Token, Failure> {
        let asked = Instant::now();
        let scope = about.map(|about| about.scope(&*self.protocol));
        let slot = self.tokens.slot(scope.as_deref().unwrap_or_default());
        let mut slot = slot.lock().await;
        if let Some(token) = slot.valid(Instant::now()) {
            return Ok(token.clone());
        }
        if let Some(failure) = slot.failed_since(asked) {
            return Err(failure.clone());
        }
        let mut fetched = self.fetch_token(endpoint, about).await;
        if self.repeats(&fetched) {
            fetched = self.fetch_token(endpoint, about).await;
        }
        match fetched {
            Ok(token) => {
                slot.keep(token.clone());
                Ok(token)
            }
            Err(failure) => {
                slot.fail(failure.clone());
                Err(failure)
            }
        }
    }

    async fn fetch_token(&self, endpoint: Endpoint<'_>, about: Option<About<'_>>) -> Result<Token, Failure> {
        let scope = endpoint.scope(about, &*self.protocol);
        let (ask, reply) = self.ask_for_token(endpoint, scope.as_deref()).await?;
        if !reply.status().is_success() {
            let mut failure = self.fail(reply, &ask, about.map(|about| about.repository)).await;
            let Endpoint { realm, service, .. } = endpoint;
            let retry = self
                .protocol
                .anonymous_retry(&self.site, &mut failure, realm, service, scope.as_deref());
            if let Some(retry) = retry
                && let Ok(reply) = self.send(&retry).await
            {
                self.protocol.retried_anonymously(&mut failure, reply.status());
            }
            return Err(failure);
        }
        let broken = reply.not_a_registry(if reply.is_html() {
            "a web page instead of a token"
        } else {
            "no token in it"
        });
        let body = reply.body(self.http.limits.token_bytes).await?;
        let token = token::read(&body, Instant::now()).ok_or(broken)?;
        self.succeeded();
        Ok(token)
    }

    /// Asks once more when what stands for an identity was refused and another can be had.
    async fn ask_for_token(&self, endpoint: Endpoint<'_>, scope: Option<&str>) -> Result<(Ask, Reply), Failure> {
        let send = async || {
            let Endpoint { realm, service, .. } = endpoint;
            let ask = self.protocol.token_ask(&self.site, realm, service, scope).await?;
            let reply = self.send(&ask).await?;
            Ok((ask, reply))
        };
        let (ask, reply) = send().await?;
        if reply.status() == StatusCode::UNAUTHORIZED && self.protocol.renews(&ask) {
            return send().await;
        }
        Ok((ask, reply))
    }

    /// Whether the credential is accepted, without anything to look for: a token for nothing in particular, or `/v2/` itself.
    pub(crate) async fn check_credentials(&self) -> Result<(), Failure> {
        let authorization = self.authorization(None).await?;
        if self.tokens.scheme() != Scheme::Basic {
            return Ok(());
        }
        let mut ask = Ask::new(Method::GET, self.site.url("/v2/"), Stage::Token);
        ask.authorization = authorization;
        let reply = self.send(&ask).await?;
        if reply.status().is_success() {
            Ok(())
        } else {
            Err(self.fail(reply, &ask, None).await)
        }
    }

    /// Forgets what was learnt of authenticating for a repository.
    pub(crate) async fn forget_token(&self, repository: &str) {
        let scope = About::reading(repository).scope(&*self.protocol);
        self.tokens.slot(&scope).lock().await.forget();
        self.tokens.unlearn(&scope);
    }

    /// Learns from a refusal how the registry wants to be authenticated with; where it does not say, from `/v2/`.
    pub(crate) async fn learn_from(&self, refusal: Reply, ask: &Ask, repository: &str) -> Result<(), Failure> {
        let about = About::reading(repository);
        if let Some(heard) = self.heard(&refusal, Some(about))? {
            self.tokens.learn_for(&about.scope(&*self.protocol), heard.scheme);
            return Ok(());
        }
        let failure = self.fail(refusal, ask, Some(repository)).await;
        // Kubelets don't ask there, so that its failures are no news.
        match self.challenge().await {
            Ok(()) if self.tokens.scheme() != Scheme::Open => Ok(()),
            _ => Err(failure),
        }
    }

    /// Asks `/v2/` and learns how the registry wants to be authenticated with.
    pub(crate) async fn challenge(&self) -> Result<(), Failure> {
        let ask = Ask::new(Method::GET, self.site.url("/v2/"), Stage::Challenge);
        let reply = self.send(&ask).await?;
        match reply.status() {
            StatusCode::OK if reply.is_html() => Err(reply.not_a_registry("a web page")),
            StatusCode::OK => {
                self.tokens.learn(Scheme::Open);
                Ok(())
            }
            StatusCode::UNAUTHORIZED => {
                if let Some(heard) = self.heard(&reply, None)? {
                    self.tokens.learn(heard.scheme);
                    return Ok(());
                }
                let mut failure = self.fail(reply, &ask, None).await;
                failure.message.push_str(": no challenge that can be answered");
                Err(failure)
            }
            _ => Err(self.fail(reply, &ask, None).await),
        }
    }
}
