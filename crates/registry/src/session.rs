//! Authenticated requests to one registry.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use catamaran_core::endpoint::Unavailable;
use http::Method;

use crate::auth::scheme::Scheme;
use crate::auth::token::Tokens;
use crate::budget::Budget;
use crate::protocol::site::Site;
use crate::protocol::{Protocol, Provider, Requests};
use crate::wire::answer;
use crate::wire::ask::{Access, Ask};
use crate::wire::failure::{Class, Failure};
use crate::wire::reply::Reply;
use crate::wire::transport::Http;

mod authentication;

/// How long a token takes to be known everywhere in a registry that has just given it.
const UNTIL_KNOWN: Duration = Duration::from_secs(1);

/// A registry, a way to reach it, and what was learned about authenticating with it.
pub(crate) struct Session {
    pub(crate) site: Arc<Site>,
    pub(crate) http: Arc<Http>,
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

    /// The repositories that its scope reads.
    fn reads(&self) -> impl Iterator<Item = &str> {
        let other = match self.access {
            Access::Mount { from } => Some(from.as_str()),
            Access::Read | Access::Write => None,
        };
        other.into_iter().chain([self.repository])
    }
}

impl Session {
    /// A session of the same credential that has learnt nothing of the registry yet and waits for no budget.
    pub(crate) fn afresh(&self, http: Arc<Http>) -> Session {
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
    pub(crate) fn probing(&self, http: Arc<Http>, tokens: Arc<Tokens>) -> Session {
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
    pub(crate) async fn ask(&self, ask: Ask, repository: &str) -> Result<Reply, Failure> {
        // Boxed, because it is part of everything that waits for a registry.
        Box::pin(self.ask_as_told(ask, repository)).await
    }

    async fn ask_as_told(&self, mut ask: Ask, repository: &str) -> Result<Reply, Failure> {
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
        ask.authorization = self.authorize(&ask, about).await?;
        let reply = self.send(&ask).await?;
        if !self.is_to_repeat(&reply, &ask, about).await? {
            return self.settle(reply, &ask, repository).await;
        }
        ask.authorization = self.authorization(Some(about)).await?;
        let mut reply = self.send(&ask).await?;
        if self.is_too_new(&reply, &ask, about).await {
            tokio::time::sleep(UNTIL_KNOWN).await;
            reply = self.send(&ask).await?;
        }
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

    /// Reads a refusal of a request about `repository`, says what would fix it, and tells the budget when it is about the
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

    /// Whether what broke off is to be read once more: a probe does so, as containerd does.
    pub(crate) fn repeats<T>(&self, read: &Result<T, Failure>) -> bool {
        let broken = Class::Unavailable(Unavailable::ConnectionFailed);
        self.probes && read.as_ref().is_err_and(|failure| failure.class == broken)
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
