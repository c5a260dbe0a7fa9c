//! Azure Container Registry: its own token service, `/acr/v1` with tags and digests, locks, limits and its firewall.
//!
//! Sources: Azure/acr `docs/AAD-OAuth.md` and `docs/Token-BasicAuth.md`, Azure/acr-cli (`swagger.yaml`, ABAC claim), and
//! what users report of error bodies. Not known, and chosen here: which error a garbled Entra token gets from
//! `/oauth2/exchange` (401 with the words of .NET's token validation), and that a read lock is refused like a write lock. Recorded
//! traffic of others says how long tokens live, that a good token for too little is `insufficient_scope`, that each action that is
//! missing has a detail of its own, that redirects carry HTML, and that requests of more than some 20 MB are refused.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::Method;
use serde_json::{Value, json};

use crate::clock::Clock;
use crate::jwt;
use crate::message::{Answer, Request};
use crate::server::{Answering, Service};
use crate::store::Storage;

mod content;
mod metadata;
mod rights;
mod tokens;

pub use rights::Rights;

/// The audience that an Entra token must have.
pub const AUDIENCE: &str = "https://containerregistry.azure.net";
/// The user name that stands for "the password is a refresh token".
const NULL_USER: &str = "00000000-0000-0000-0000-000000000000";

/// One registry.
pub struct Acr {
    host: String,
    storage: Arc<dyn Storage>,
    clock: Clock,
    settings: Mutex<Settings>,
}

/// What a repository or tag allows (`changeableAttributes`). At first everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "the four attributes of the service")]
pub struct Attributes {
    /// It may be deleted.
    pub delete: bool,
    /// It may be overwritten.
    pub write: bool,
    /// It may be pulled.
    pub read: bool,
    /// It is listed.
    pub list: bool,
}

impl Default for Attributes {
    fn default() -> Attributes {
        Attributes {
            delete: true,
            write: true,
            read: true,
            list: true,
        }
    }
}

struct Settings {
    tenant: String,
    /// User name to password and rights: service principals, the admin user, scope-map tokens.
    accounts: BTreeMap<String, (String, Rights)>,
    /// Object id of an Entra principal to its rights.
    principals: BTreeMap<String, Rights>,
    anonymous: Option<Rights>,
    abac: bool,
    refresh_life: Duration,
    access_life: Duration,
    /// Tokens that were issued before are worthless.
    valid_from: i64,
    /// Counts what was issued, so that no two tokens are equal.
    issued: u64,
    page_cap: usize,
    links: bool,
    data_host: Option<String>,
    firewall: Option<String>,
    locks: BTreeMap<(String, Option<String>), Attributes>,
    quarantined: Vec<(String, String)>,
    faults: Vec<Fault>,
}

struct Fault {
    kind: &'static str,
    answer: Answer,
    left: usize,
}

impl Acr {
    /// An empty registry of tenant `tenant-1`: nobody may do anything yet.
    pub fn new(host: &str, storage: Arc<dyn Storage>, clock: Clock) -> Acr {
        Acr {
            host: host.to_owned(),
            storage,
            clock,
            settings: Mutex::new(Settings {
                tenant: "tenant-1".to_owned(),
                accounts: BTreeMap::new(),
                principals: BTreeMap::new(),
                anonymous: None,
                abac: false,
                // As recorded: 11,700 and 4,500 seconds.
                refresh_life: Duration::from_mins(195),
                access_life: Duration::from_mins(75),
                valid_from: 0,
                issued: 0,
                page_cap: 1000,
                links: true,
                data_host: None,
                firewall: None,
                locks: BTreeMap::new(),
                quarantined: Vec::new(),
                faults: Vec::new(),
            }),
        }
    }

    fn settings(&self) -> MutexGuard<'_, Settings> {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its login server.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The Entra tenant whose tokens it takes.
    pub fn set_tenant(&self, tenant: &str) {
        tenant.clone_into(&mut self.settings().tenant);
    }

    /// A user with a password: a service principal, the admin user or a scope-map token.
    pub fn add_account(&self, user: &str, password: &str, rights: Rights) {
        let account = (password.to_owned(), rights);
        self.settings().accounts.insert(user.to_owned(), account);
    }

    /// Gives rights to an Entra principal, by its object id; [`Rights::none`] takes the role away but lets it exchange.
    pub fn grant(&self, object_id: &str, rights: Rights) {
        self.settings().principals.insert(object_id.to_owned(), rights);
    }

    /// Takes everything from an Entra principal: it can't even exchange its token.
    pub fn revoke(&self, object_id: &str) {
        self.settings().principals.remove(object_id);
    }

    /// `anonymousPullEnabled`: everyone may pull and list.
    pub fn set_anonymous_pull(&self, enabled: bool) {
        self.settings().anonymous = enabled.then(|| Rights::reader("*"));
    }

    /// `roleAssignmentMode: rbac-abac`: rights per repository, a claim in refresh tokens, no wildcard scopes.
    pub fn set_abac(&self, abac: bool) {
        self.settings().abac = abac;
    }

    /// How long tokens live: refresh tokens (11,700 s), access tokens (4,500 s).
    pub fn set_lives(&self, refresh: Duration, access: Duration) {
        let mut settings = self.settings();
        (settings.refresh_life, settings.access_life) = (refresh, access);
    }

    /// Makes every token that was issued in an earlier second worthless.
    pub fn revoke_tokens(&self) {
        self.settings().valid_from = self.clock.seconds();
    }

    /// The most entries of a page, whatever the client asks for. At first 1000.
    pub fn set_page_cap(&self, most: usize) {
        self.settings().page_cap = most.max(1);
    }

    /// Whether pages of `_tags` are linked. At first they are.
    pub fn set_links(&self, links: bool) {
        self.settings().links = links;
    }

    /// Sends blobs from another host, which may be this server under another name; it refuses `Authorization`.
    pub fn set_data_host(&self, host: Option<&str>) {
        self.settings().data_host = host.map(str::to_owned);
    }

    /// The firewall refuses everything and says that the client has this address; `None`: it lets everyone in.
    pub fn set_firewall(&self, client_ip: Option<&str>) {
        self.settings().firewall = client_ip.map(str::to_owned);
    }

    /// Locks a tag, or a repository.
    pub fn lock(&self, repository: &str, tag: Option<&str>, attributes: Attributes) {
        let key = (repository.to_owned(), tag.map(str::to_owned));
        self.settings().locks.insert(key, attributes);
    }

    /// Puts a manifest into quarantine, by its digest.
    pub fn quarantine(&self, repository: &str, digest: &str) {
        let key = (repository.to_owned(), digest.to_owned());
        self.settings().quarantined.push(key);
    }

    /// Answers the next `times` requests of a kind with this instead; the kind is the one that the log counts:
    /// `"challenge"`, `"exchange"`, `"token"`, `"tags"`, `"repository"`, `"manifest"`, `"blob"`, … or `"any"`.
    pub fn fail(&self, kind: &'static str, answer: Answer, times: usize) {
        let fault = Fault {
            kind,
            answer,
            left: times,
        };
        self.settings().faults.push(fault);
    }

    /// Behaves again.
    pub fn clear_faults(&self) {
        self.settings().faults.clear();
    }

    /// 429 for the next `times` requests of a kind, with any `Retry-After` at all or none.
    pub fn throttle(&self, kind: &'static str, retry_after: Option<&str>, times: usize) {
        let mut answer = Answer::error(kind, 429, "TOOMANYREQUESTS", "too many requests");
        if let Some(wait) = retry_after {
            answer = answer.header("retry-after", wait);
        }
        self.fail(kind, answer, times);
    }

    fn fault(&self, kind: &'static str) -> Option<Answer> {
        let mut settings = self.settings();
        let hit = |fault: &&mut Fault| fault.left > 0 && (fault.kind == kind || fault.kind == "any");
        let fault = settings.faults.iter_mut().find(hit)?;
        fault.left -= 1;
        Some(fault.answer.clone().kind(kind))
    }

    fn attributes(&self, repository: &str, tag: Option<&str>) -> Attributes {
        let key = (repository.to_owned(), tag.map(str::to_owned));
        self.settings().locks.get(&key).copied().unwrap_or_default()
    }

    async fn respond(&self, request: &Request) -> Answer {
        let path = request.path.as_str();
        let kind = kind(request);
        if let Some(answer) = self.fault(kind) {
            return answer;
        }
        if self.settings().data_host.as_deref() == Some(request.host.as_str()) {
            return self.data(request).await;
        }
        if let Some(ip) = self.settings().firewall.clone() {
            let message = format!(
                "client with IP '{ip}' is not allowed access. Refer https://aka.ms/acr/firewall to grant access."
            );
            return Answer::error(kind, 403, "DENIED", &message);
        }
        let answer = match path {
            "/oauth2/exchange" if request.method == Method::POST => self.exchange(request),
            "/oauth2/token" => self.token(request),
            "/v2/" | "/v2" => self.challenge(request),
            _ if path.starts_with("/acr/v1/") => self.metadata(request, kind).await,
            _ if path.starts_with("/v2/") => self.content(request, kind).await,
            _ => Answer::status("other", 404),
        };
        answer
            .kind(kind)
            .header("docker-distribution-api-version", "registry/2.0")
            .header("x-ms-correlation-request-id", "3f6c2f0e-0000-4000-8000-000000000001")
            .header("server", "openresty")
    }

    fn challenge(&self, request: &Request) -> Answer {
        let allowed = self.account(request).is_some() || self.claims(request.bearer()).is_some();
        if allowed {
            return Answer::json("challenge", 200, &json!({}));
        }
        self.unauthorized("challenge", None, None, &Value::Null)
    }

    /// 401 with the challenge; a scope is named where a resource was asked for, and an error where the token is good for too little.
    fn unauthorized(&self, kind: &'static str, scope: Option<&str>, error: Option<&str>, detail: &Value) -> Answer {
        let host = &self.host;
        let mut challenge = format!(r#"Bearer realm="https://{host}/oauth2/token",service="{host}""#);
        if let Some(scope) = scope {
            challenge += r#",scope=""#;
            challenge += scope;
            challenge.push('"');
        }
        if let Some(error) = error {
            challenge += r#",error=""#;
            challenge += error;
            challenge.push('"');
        }
        let message = "authentication required, visit https://aka.ms/acr/authorization for more information.";
        let body = json!({"errors": [{"code": "UNAUTHORIZED", "message": message, "detail": detail}]});
        Answer::json(kind, 401, &body).header("www-authenticate", &challenge)
    }

    /// The claims of a token of this registry that still counts.
    fn claims(&self, token: Option<&str>) -> Option<Value> {
        let claims = jwt::decode(token?)?;
        let settings = self.settings();
        let good = jwt::is_current(&claims, self.clock.seconds())
            && claims["aud"] == self.host.as_str()
            && claims["iat"].as_i64().is_some_and(|iat| settings.valid_from <= iat);
        good.then_some(claims)
    }
}

impl Service for Acr {
    fn answer<'a>(&'a self, request: &'a Request) -> Answering<'a> {
        Box::pin(self.respond(request))
    }
}

/// What a request is counted as.
fn kind(request: &Request) -> &'static str {
    let path = request.path.as_str();
    let reads = matches!(request.method, Method::GET | Method::HEAD);
    match path {
        "/oauth2/exchange" => "exchange",
        "/oauth2/token" => "token",
        "/v2/" | "/v2" => "challenge",
        _ if path.ends_with("/_tags") || path.ends_with("/tags/list") => "tags",
        _ if path.starts_with("/acr/v1/") && path.contains("/_tags/") => "tag",
        _ if path.starts_with("/acr/v1/") && path.contains("/_manifests") => "manifests",
        _ if path.ends_with("_catalog") => "catalog",
        _ if path.starts_with("/acr/v1/") => "repository",
        _ if path.contains("/blobs/uploads") => "upload",
        _ if path.contains("/manifests/") && reads => "manifest",
        _ if path.contains("/manifests/") => "put-manifest",
        _ if path.contains("/blobs/") => "blob",
        _ => "other",
    }
}
