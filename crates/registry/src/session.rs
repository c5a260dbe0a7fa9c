//! Authenticated requests to one registry.

use std::sync::Arc;

use catamaran_core::endpoint::Unavailable;
use http::{HeaderValue, Method, StatusCode};
use tokio::time::Instant;
use url::Url;

use crate::answer;
use crate::ask::{Access, Ask};
use crate::budget::Budget;
use crate::challenge;
use crate::exchange::Exchange;
use crate::failure::{Class, Failure, Rung};
use crate::provider::apis::Apis;
use crate::provider::site::{Context, Scheme, Site};
use crate::reply::Reply;
use crate::secret::{Secret, secret_header};
use crate::token::{self, Token, Tokens};
use crate::transport::Http;

/// A registry, a way to reach it, and what was learned about authenticating with it.
pub(crate) struct Session {
    pub(crate) site: Arc<Site>,
    pub(crate) http: Http,
    pub(crate) tokens: Arc<Tokens>,
    /// Where the credential is an identity.
    pub(crate) exchange: Option<Exchange>,
    /// Absent for probes: they never wait.
    pub(crate) budget: Option<Arc<Budget>>,
    /// For requests that write, where they are counted apart.
    pub(crate) writes: Option<Arc<Budget>>,
    /// What requests that only read ask for: a registry that is written wants one token for both, and GHCR gives none for
    /// reading a package that does not exist yet.
    pub(crate) access: Access,
    /// What the provider has besides the registry.
    pub(crate) apis: Apis,
    /// Whether it asks as a kubelet does.
    pub(crate) probes: bool,
    /// Where requests that don't wait are counted.
    pub(crate) spends: Option<Arc<Budget>>,
}

/// What a request is about, and what it wants to do there.
#[derive(Clone, Copy)]
pub(crate) struct About<'a> {
    pub(crate) repository: &'a str,
    pub(crate) access: &'a Access,
}

impl About<'_> {
    /// To look at a repository.
    pub(crate) fn reading(repository: &str) -> About<'_> {
        About {
            repository,
            access: &Access::Read,
        }
    }

    fn scope(&self, site: &Site) -> String {
        site.scope_for(self.repository, self.access)
    }
}

impl Session {
    /// A session of the same credential that has learnt nothing of the registry yet and waits for no budget.
    pub(crate) fn afresh(&self, http: Http) -> Session {
        Session {
            site: self.site.clone(),
            http,
            tokens: Arc::new(Tokens::new(Scheme::Unknown)),
            exchange: self.exchange.clone(),
            budget: None,
            writes: None,
            access: Access::Read,
            apis: self.apis.clone(),
            probes: false,
            spends: None,
        }
    }

    /// The same, asking as a kubelet does, with tokens that other probes have got. Its requests count in the budget.
    pub(crate) fn probing(&self, http: Http, tokens: Arc<Tokens>) -> Session {
        Session {
            probes: true,
            tokens,
            spends: self.budget.clone(),
            ..self.afresh(http)
        }
    }

    /// One request within the budget, without authentication of its own. The answer may have any status.
    pub(crate) async fn send(&self, ask: &Ask) -> Result<Reply, Failure> {
        if let Some(budget) = self.budget_for(ask) {
            budget.acquire().await;
        }
        if let Some(budget) = &self.spends {
            budget.spend();
        }
        self.http.exchange(ask).await
    }

    fn budget_for(&self, ask: &Ask) -> Option<&Arc<Budget>> {
        let writes = ask.access != Access::Read && !matches!(ask.method, Method::GET | Method::HEAD);
        self.writes.as_ref().filter(|_| writes).or(self.budget.as_ref())
    }

    /// One authenticated request to the registry about `repository`. A refused token is dropped and the request made once more
    /// with a new one. The answer is a success or a redirect.
    pub(crate) async fn ask(&self, mut ask: Ask, repository: &str) -> Result<Reply, Failure> {
        debug_assert!(self.site.owns(&ask.url), "credentials are for the registry only");
        let access = if ask.access == Access::Read {
            &self.access
        } else {
            &ask.access
        }
        .clone();
        let about = About {
            repository,
            access: &access,
        };
        ask.authorization = self.authorization(Some(about)).await?;
        let reply = self.send(&ask).await?;
        if reply.status() != StatusCode::UNAUTHORIZED {
            return self.settle(reply, &ask, repository).await;
        }
        let refused = ask.authorization.take();
        let known = self.tokens.scheme();
        let Some(scheme) = self.scheme_of(&reply)? else {
            return Err(self.fail(reply, &ask, Some(repository)).await);
        };
        let renewable = refused.as_ref().is_some_and(|refused| self.forget(refused));
        let spent = known == Scheme::Basic || !self.site.credentials.are_basic();
        if scheme == Scheme::Basic && spent && !renewable {
            return Err(self.fail(reply, &ask, Some(repository)).await);
        }
        self.tokens.learn(scheme);
        if let Some(refused) = refused {
            self.tokens
                .slot(&about.scope(&self.site))
                .lock()
                .await
                .drop_refused(&refused);
        }
        ask.authorization = self.authorization(Some(about)).await?;
        let reply = self.send(&ask).await?;
        self.settle(reply, &ask, repository).await
    }

    /// The same, but only a success will do.
    pub(crate) async fn get(&self, ask: Ask, repository: &str) -> Result<Reply, Failure> {
        let method = ask.method.clone();
        let reply = self.ask(ask, repository).await?;
        if reply.status().is_success() {
            return Ok(reply);
        }
        Err(answer::failure(reply, &method, true, self.http.limits.error_bytes).await)
    }

    /// What a challenge makes of us; `None` when there is none that we can answer.
    pub(crate) fn scheme_of(&self, reply: &Reply) -> Result<Option<Scheme>, Failure> {
        challenge::read(reply.headers())
            .map(|challenge| self.site.admit(challenge, &reply.sent))
            .transpose()
    }

    /// Reads a refusal of a request about `repository`, says what would mend it, and tells the budget when it is about the
    /// number of requests.
    pub(crate) async fn fail(&self, reply: Reply, ask: &Ask, repository: Option<&str>) -> Failure {
        let own = self.site.owns(reply.url());
        let mut failure = answer::failure(reply, &ask.method, own, self.http.limits.error_bytes).await;
        failure.message = self.site.credentials.scrub(failure.message);
        if own {
            self.explain(&mut failure, repository);
        }
        if let (Class::Throttled { retry_after }, Some(budget)) = (&failure.class, self.budget_for(ask)) {
            budget.throttled(*retry_after);
        }
        failure
    }

    fn explain(&self, failure: &mut Failure, repository: Option<&str>) {
        self.http.add_address(failure);
        let exchange = self.exchange.as_ref();
        let token = exchange.and_then(|exchange| exchange.membership.token.current());
        let context = Context {
            repository,
            identity: exchange.map(|exchange| exchange.identity.name()),
            abac: token.is_some_and(|token| token.abac),
            proven: exchange.is_none_or(|exchange| exchange.membership.is_proven(repository)),
        };
        self.site.explain(failure, &context);
        if let (Class::WaitingForAuthorization, Some(exchange)) = (&failure.class, exchange) {
            // Should a refresh token know only what was granted before it.
            exchange.membership.token.hasten();
        }
    }

    /// The header to send: none when the registry is open or was not asked yet.
    pub(crate) async fn authorization(&self, about: Option<About<'_>>) -> Result<Option<HeaderValue>, Failure> {
        match self.tokens.scheme() {
            Scheme::Unknown | Scheme::Open => Ok(None),
            Scheme::Basic => self.basic().await,
            Scheme::Bearer { realm, service } => {
                let token = self.token(&realm, service.as_deref(), about).await?;
                Ok(Some(token.header))
            }
        }
    }

    /// The credential itself; one that stands for an identity is fetched.
    async fn basic(&self) -> Result<Option<HeaderValue>, Failure> {
        #[cfg(feature = "aws")]
        if let Some(ecr) = &self.apis.ecr {
            return ecr.authorization().await.map(Some);
        }
        let basic = self.site.credentials.basic();
        Ok(basic.and_then(|basic| secret_header("Basic", basic.expose())))
    }

    /// Forgets a credential that stood for an identity and was refused. Whether another can be had.
    #[cfg_attr(
        not(feature = "aws"),
        expect(unused_variables, clippy::unused_self, reason = "only Amazon's is fetched")
    )]
    fn forget(&self, refused: &HeaderValue) -> bool {
        #[cfg(feature = "aws")]
        if let Some(ecr) = &self.apis.ecr {
            return ecr.forget(refused);
        }
        false
    }

    /// The token for a scope. Of many who want it at once one fetches it, or finds out why there is none.
    async fn token(&self, realm: &Url, service: Option<&str>, about: Option<About<'_>>) -> Result<Token, Failure> {
        let asked = Instant::now();
        let scope = about.map(|about| about.scope(&self.site));
        let slot = self.tokens.slot(scope.as_deref().unwrap_or_default());
        let mut slot = slot.lock().await;
        if let Some(token) = slot.valid(Instant::now()) {
            return Ok(token.clone());
        }
        if let Some(failure) = slot.failed_since(asked) {
            return Err(failure.clone());
        }
        let mut fetched = self.fetch_token(realm, service, about).await;
        if self.repeats(&fetched) {
            fetched = self.fetch_token(realm, service, about).await;
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

    async fn fetch_token(
        &self,
        realm: &Url,
        service: Option<&str>,
        about: Option<About<'_>>,
    ) -> Result<Token, Failure> {
        let (ask, reply) = self.ask_for_token(realm, service, about).await?;
        if !reply.status().is_success() {
            let mut failure = self.fail(reply, &ask, about.map(|about| about.repository)).await;
            let scope = about.map(|about| about.scope(&self.site));
            let retry = self
                .site
                .anonymous_retry(&mut failure, realm, service, scope.as_deref());
            if let Some(retry) = retry
                && let Ok(reply) = self.send(&retry).await
            {
                self.site.retried_anonymously(&mut failure, reply.status());
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

    /// A refresh token that is refused is replaced once, unless it is new.
    async fn ask_for_token(
        &self,
        realm: &Url,
        service: Option<&str>,
        about: Option<About<'_>>,
    ) -> Result<(Ask, Reply), Failure> {
        let scope = about.map(|about| about.scope(&self.site));
        let send = async |refresh_token: Option<&Secret<String>>| {
            let ask = self.site.token_ask(realm, service, scope.as_deref(), refresh_token);
            let reply = self.send(&ask).await?;
            Ok((ask, reply))
        };
        let Some(exchange) = &self.exchange else {
            return send(None).await;
        };
        let token = exchange.refresh_token(realm, service).await?;
        let (ask, reply) = send(Some(&token.token)).await?;
        if reply.status() != StatusCode::UNAUTHORIZED || !exchange.membership.token.distrust(&token) {
            return Ok((ask, reply));
        }
        let token = exchange.refresh_token(realm, service).await?;
        send(Some(&token.token)).await
    }

    /// Whether the credential is accepted, without anything to look for: a token for nothing in particular, or `/v2/` itself.
    pub(crate) async fn check_credentials(&self) -> Result<(), Failure> {
        let authorization = self.authorization(None).await?;
        if self.tokens.scheme() != Scheme::Basic {
            return Ok(());
        }
        let mut ask = Ask::new(Method::GET, self.site.url("/v2/"), Rung::Token);
        ask.authorization = authorization;
        let reply = self.send(&ask).await?;
        if reply.status().is_success() {
            Ok(())
        } else {
            Err(self.fail(reply, &ask, None).await)
        }
    }

    /// The registry's refresh token for our identity, which pods can pull with, too.
    pub(crate) async fn identity_token(&self) -> Result<Secret<String>, Failure> {
        let (Some(exchange), Scheme::Bearer { realm, service }) = (&self.exchange, self.site.scheme()) else {
            let message = format!("{}: there is no identity to get a token for", self.site.base);
            return Err(Failure::new(Rung::Exchange, Class::CredentialsUnavailable, message));
        };
        let token = exchange.refresh_token(&realm, service.as_deref()).await?;
        Ok(token.token)
    }

    /// Forgets what was learnt of authenticating for a repository.
    pub(crate) async fn forget_token(&self, repository: &str) {
        let about = About::reading(repository);
        let slot = self.tokens.slot(&about.scope(&self.site));
        slot.lock().await.forget();
        self.tokens.learn(Scheme::Unknown);
    }

    /// Whether what broke off is to be read once more: a probe does so, as containerd does.
    pub(crate) fn repeats<T>(&self, read: &Result<T, Failure>) -> bool {
        let broken = Class::Unavailable(Unavailable::ConnectionFailed);
        self.probes && read.as_ref().is_err_and(|failure| failure.class == broken)
    }

    /// Learns from a refusal how the registry wants to be authenticated with; where it does not say, from `/v2/`.
    pub(crate) async fn learn_from(&self, refusal: Reply, ask: &Ask, repository: &str) -> Result<(), Failure> {
        if let Some(scheme) = self.scheme_of(&refusal)? {
            self.tokens.learn(scheme);
            return Ok(());
        }
        let failure = self.fail(refusal, ask, Some(repository)).await;
        // Kubelets don't ask there, so that its failures are no news.
        match self.challenge().await {
            Ok(()) if self.tokens.scheme() != Scheme::Open => Ok(()),
            _ => Err(failure),
        }
    }

    pub(crate) async fn settle(&self, reply: Reply, ask: &Ask, repository: &str) -> Result<Reply, Failure> {
        if reply.status().is_success() || reply.status().is_redirection() {
            self.succeeded();
            if let Some(exchange) = &self.exchange {
                exchange.membership.prove(repository);
            }
            return Ok(reply);
        }
        Err(self.fail(reply, ask, Some(repository)).await)
    }

    fn succeeded(&self) {
        if let Some(budget) = &self.budget {
            budget.succeeded();
        }
    }

    /// Asks `/v2/` and learns how the registry wants to be authenticated with.
    pub(crate) async fn challenge(&self) -> Result<(), Failure> {
        let ask = Ask::new(Method::GET, self.site.url("/v2/"), Rung::Challenge);
        let reply = self.send(&ask).await?;
        match reply.status() {
            StatusCode::OK if reply.is_html() => Err(reply.not_a_registry("a web page")),
            StatusCode::OK => {
                self.tokens.learn(Scheme::Open);
                Ok(())
            }
            StatusCode::UNAUTHORIZED => {
                if let Some(scheme) = self.scheme_of(&reply)? {
                    self.tokens.learn(scheme);
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
