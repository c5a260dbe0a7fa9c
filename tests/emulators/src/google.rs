//! Identities at Google: the metadata server's access tokens, the Security Token Service's exchange of a projected token, and
//! tokens of service accounts by impersonation.
//!
//! Sources: Google Cloud's documentation ("About VM metadata"; "Method: v1.token" of the Security Token Service; "Method:
//! serviceAccounts.generateAccessToken"), and AIP-4117. Chosen here: access tokens are opaque and live for an hour.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::clock::Clock;
use crate::jwt;
use crate::message::{Answer, Request};
use crate::server::{Answering, Service};

/// The Security Token Service.
pub const STS: &str = "sts.googleapis.com";
/// Where service accounts are impersonated.
pub const IAM: &str = "iamcredentials.googleapis.com";
/// The name of the metadata server.
pub const METADATA: &str = "metadata.google.internal";
const TOKEN_PATH: &str = "/computeMetadata/v1/instance/service-accounts/default/token";
const SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";

/// The three services, and who holds which access token.
pub struct Google {
    clock: Clock,
    settings: Mutex<Settings>,
}

struct Settings {
    life: Duration,
    /// The service account of the machine or pod.
    account: Option<String>,
    /// Audience and subject of a projected token, to the principal that it stands for.
    federated: BTreeMap<(String, String), String>,
    /// Principals that may make tokens of a service account.
    impersonators: BTreeSet<(String, String)>,
    /// Access tokens to their principals and ends (seconds since 1970).
    issued: BTreeMap<String, (String, i64)>,
    broken: Option<Answer>,
}

impl Google {
    /// Nobody known; tokens live for an hour.
    pub fn new(clock: Clock) -> Google {
        Google {
            clock,
            settings: Mutex::new(Settings {
                life: Duration::from_hours(1),
                account: None,
                federated: BTreeMap::new(),
                impersonators: BTreeSet::new(),
                issued: BTreeMap::new(),
                broken: None,
            }),
        }
    }

    fn settings(&self) -> MutexGuard<'_, Settings> {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The service account that the metadata server gives tokens of.
    pub fn attach(&self, account: &str) {
        self.settings().account = Some(account.to_owned());
    }

    /// Has projected tokens of this subject stand for a principal, for a pool's audience.
    pub fn federate(&self, audience: &str, subject: &str, principal: &str) {
        let key = (audience.to_owned(), subject.to_owned());
        self.settings().federated.insert(key, principal.to_owned());
    }

    /// Lets a principal make tokens of a service account.
    pub fn let_impersonate(&self, principal: &str, account: &str) {
        let pair = (principal.to_owned(), account.to_owned());
        self.settings().impersonators.insert(pair);
    }

    /// How long tokens live.
    pub fn set_life(&self, life: Duration) {
        self.settings().life = life;
    }

    /// Answers everything with this; `None`: behaves again.
    pub fn set_broken(&self, answer: Option<Answer>) {
        self.settings().broken = answer;
    }

    /// Takes all access tokens back.
    pub fn revoke(&self) {
        self.settings().issued.clear();
    }

    /// Whose access token it is.
    pub fn principal(&self, token: &str) -> Option<String> {
        let now = self.clock.seconds();
        let settings = self.settings();
        let (principal, until) = settings.issued.get(token)?;
        (now < *until).then(|| principal.clone())
    }

    fn issue(&self, principal: &str) -> (String, i64) {
        let mut settings = self.settings();
        let token = format!("ya29.emulated-{}-{principal}", settings.issued.len());
        let life = i64::try_from(settings.life.as_secs()).unwrap_or(i64::MAX);
        let until = self.clock.seconds() + life;
        settings.issued.insert(token.clone(), (principal.to_owned(), until));
        (token, life)
    }

    fn respond(&self, request: &Request) -> Answer {
        let kind = match request.host.as_str() {
            STS => "exchange",
            IAM => "impersonate",
            _ => "metadata",
        };
        if let Some(answer) = self.settings().broken.clone() {
            return answer.kind(kind);
        }
        match kind {
            "exchange" => self.exchange(request),
            "impersonate" => self.impersonate(request),
            _ => self.metadata(request).header("metadata-flavor", "Google"),
        }
    }

    fn metadata(&self, request: &Request) -> Answer {
        if request.header("metadata-flavor") != Some("Google") {
            return Answer::status("metadata", 403);
        }
        let account = self.settings().account.clone();
        match account.filter(|_| request.path == TOKEN_PATH) {
            None => Answer::status("metadata", 404),
            Some(account) => {
                let (token, life) = self.issue(&account);
                let body = json!({"access_token": token, "expires_in": life, "token_type": "Bearer"});
                Answer::json("metadata", 200, &body)
            }
        }
    }

    fn exchange(&self, request: &Request) -> Answer {
        let refuse =
            |code: &str, why: &str| Answer::json("exchange", 400, &json!({"error": code, "error_description": why}));
        let field = |name: &str| request.field(name).unwrap_or_default();
        let exchanges = field("grant_type") == "urn:ietf:params:oauth:grant-type:token-exchange"
            && field("requested_token_type") == "urn:ietf:params:oauth:token-type:access_token"
            && field("subject_token_type") == "urn:ietf:params:oauth:token-type:jwt"
            && field("scope") == SCOPE;
        if request.path != "/v1/token" || !exchanges {
            return refuse("invalid_request", "Invalid request");
        }
        let subject = field("subject_token");
        let claims = jwt::decode(&subject).filter(|claims| jwt::is_current(claims, self.clock.seconds()));
        let Some(claims) = claims else {
            // It repeats what it was sent.
            return refuse("invalid_grant", &format!("ID Token {subject} is stale to sign-in."));
        };
        let key = (field("audience"), claims["sub"].as_str().unwrap_or_default().to_owned());
        let principal = self.settings().federated.get(&key).cloned();
        match principal {
            None => refuse(
                "unauthorized_client",
                "The given credential is rejected by the attribute condition.",
            ),
            Some(principal) => {
                let (token, life) = self.issue(&principal);
                let body = json!({
                    "access_token": token, "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
                    "token_type": "Bearer", "expires_in": life,
                });
                Answer::json("exchange", 200, &body)
            }
        }
    }

    fn impersonate(&self, request: &Request) -> Answer {
        let refuse = |code: u16, status: &str, message: &str| {
            let error = json!({"error": {"code": code, "message": message, "status": status}});
            Answer::json("impersonate", code, &error)
        };
        let account = request
            .path
            .strip_prefix("/v1/projects/-/serviceAccounts/")
            .and_then(|rest| rest.strip_suffix(":generateAccessToken"));
        let principal = request.bearer().and_then(|token| self.principal(token));
        let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
        let (Some(account), Some(principal)) = (account, principal) else {
            return refuse(
                401,
                "UNAUTHENTICATED",
                "Request had invalid authentication credentials.",
            );
        };
        if body["scope"] != json!([SCOPE]) {
            return refuse(400, "INVALID_ARGUMENT", "Request contains an invalid argument.");
        }
        let pair = (principal, account.to_owned());
        if !self.settings().impersonators.contains(&pair) {
            let message = "Permission 'iam.serviceAccounts.getAccessToken' denied on resource (or it may not exist).";
            return refuse(403, "PERMISSION_DENIED", message);
        }
        let (token, life) = self.issue(account);
        let expires = Timestamp::from_second(self.clock.seconds() + life).unwrap_or(Timestamp::MAX);
        let body = json!({"accessToken": token, "expireTime": expires.to_string()});
        Answer::json("impersonate", 200, &body)
    }
}

impl Service for Google {
    fn answer<'a>(&'a self, request: &'a Request) -> Answering<'a> {
        Box::pin(std::future::ready(self.respond(request)))
    }
}
