//! Authenticated requests to one registry.

use std::sync::Arc;

use async_trait::async_trait;
use catamaran_core::endpoint::Unavailable;
use http::{HeaderValue, Method, StatusCode};
use tokio::time::Instant;
use url::Url;

use crate::auth::challenge;
use crate::auth::scheme::Scheme;
use crate::auth::token::{self, Token, Tokens};
use crate::budget::Budget;
use crate::protocol::site::Site;
use crate::protocol::{Protocol, Provider, Requests};
use crate::wire::answer;
use crate::wire::ask::{Access, Ask};
use crate::wire::failure::{Class, Failure, Rung};
use crate::wire::reply::Reply;
use crate::wire::transport::Http;

/// A registry, a way to reach it, and what was learned about authenticating with it.
pub(crate) struct Session {
    pub(crate) site: Arc<Site>,
    pub(crate) http: Http,
    pub(crate) tokens: Arc<Tokens>,
    pub(crate) provider: &'static dyn Provider,
    pub(crate) protocol: Arc<dyn Protocol>,
    /// Absent for probes: they never wait.
    pub(crate) budget: Option<Arc<Budget>>,
    /// For requests that write, where they are counted apart.
    pub(crate) writes: Option<Arc<Budget>>,
    /// What requests that only read ask for: a registry that is written wants one token for both, and GHCR gives none for
    /// reading a package that does not exist yet.
    pub(crate) access: Access,
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

    fn scope(&self, protocol: &dyn Protocol) -> String {
        protocol.scope_for(self.repository, self.access)
    }
}

impl Session {
    /// A session of the same credential that has learnt nothing of the registry yet and waits for no budget.
    pub(crate) fn afresh(&self, http: Http) -> Session {
        Session {
            site: self.site.clone(),
            http,
            tokens: Arc::new(Tokens::new(Scheme::Unknown)),
            provider: self.provider,
            protocol: self.protocol.clone(),
            budget: None,
            writes: None,
            access: Access::Read,
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
        let is_denied = reply.status() == StatusCode::FORBIDDEN && ask.stream.is_none();
        let denied = ask.authorization.as_ref().filter(|_| is_denied);
        if denied.is_some_and(|denied| self.protocol.forget_denied(denied)) {
            ask.authorization = self.authorization(Some(about)).await?;
            let reply = self.send(&ask).await?;
            return self.settle(reply, &ask, repository).await;
        }
        if reply.status() != StatusCode::UNAUTHORIZED || ask.stream.is_some() {
            return self.settle(reply, &ask, repository).await;
        }
        let refused = ask.authorization.take();
        let known = self.tokens.scheme();
        let Some(scheme) = self.scheme_of(&reply)? else {
            return Err(self.fail(reply, &ask, Some(repository)).await);
        };
        let renewable = refused.as_ref().is_some_and(|refused| self.protocol.forget(refused));
        let spent = known == Scheme::Basic || !self.protocol.has_basic(&self.site);
        if scheme == Scheme::Basic && spent && !renewable {
            return Err(self.fail(reply, &ask, Some(repository)).await);
        }
        self.tokens.learn(scheme);
        if let Some(refused) = refused {
            self.tokens
                .slot(&about.scope(&*self.protocol))
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
            .map(|challenge| self.protocol.admit(&self.site, challenge, &reply.sent))
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
        self.protocol.explain(&self.site, failure, repository);
    }

    /// The header to send: none when the registry is open or was not asked yet.
    pub(crate) async fn authorization(&self, about: Option<About<'_>>) -> Result<Option<HeaderValue>, Failure> {
        match self.tokens.scheme() {
            Scheme::Unknown | Scheme::Open => Ok(None),
            Scheme::Basic => self.protocol.basic(&self.site).await,
            Scheme::Bearer { realm, service } => {
                let token = self.token(&realm, service.as_deref(), about).await?;
                Ok(Some(token.header))
            }
        }
    }

    /// The token for a scope. Of many who want it at once one fetches it, or finds out why there is none.
    async fn token(&self, realm: &Url, service: Option<&str>, about: Option<About<'_>>) -> Result<Token, Failure> {
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
            let scope = about.map(|about| about.scope(&*self.protocol));
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
    async fn ask_for_token(
        &self,
        realm: &Url,
        service: Option<&str>,
        about: Option<About<'_>>,
    ) -> Result<(Ask, Reply), Failure> {
        let scope = about.map(|about| about.scope(&*self.protocol));
        let send = async || {
            let ask = self
                .protocol
                .token_ask(&self.site, realm, service, scope.as_deref())
                .await?;
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
        let mut ask = Ask::new(Method::GET, self.site.url("/v2/"), Rung::Token);
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
        let about = About::reading(repository);
        let slot = self.tokens.slot(&about.scope(&*self.protocol));
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
            self.protocol.let_in(repository);
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

#[async_trait]
impl Requests for Session {
    fn site(&self) -> &Site {
        &self.site
    }

    fn http(&self) -> &Http {
        &self.http
    }

    async fn get(&self, ask: Ask, repository: &str) -> Result<Reply, Failure> {
        Session::get(self, ask, repository).await
    }
}
