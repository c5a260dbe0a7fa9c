//! The token endpoint of Microsoft Entra ID for federated credentials: a Kubernetes service account's token for an Entra
//! token (`client_credentials` with a JWT bearer assertion).

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::json;

use crate::clock::Clock;
use crate::jwt;
use crate::message::{Answer, Request};
use crate::server::{Answering, Service};

/// One authority with its applications.
pub struct Entra {
    clock: Clock,
    settings: Mutex<Settings>,
}

struct Settings {
    /// Tenant and client id to the object id and the subject that its federated credential trusts.
    applications: BTreeMap<(String, String), (String, String)>,
    life: Duration,
    broken: Option<Answer>,
    issued: u64,
}

impl Entra {
    /// No applications yet; tokens live for an hour.
    pub fn new(clock: Clock) -> Entra {
        Entra {
            clock,
            settings: Mutex::new(Settings {
                applications: BTreeMap::new(),
                life: Duration::from_hours(1),
                broken: None,
                issued: 0,
            }),
        }
    }

    fn settings(&self) -> MutexGuard<'_, Settings> {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An application (or user-assigned identity) with a federated credential for one subject,
    /// `system:serviceaccount:{namespace}:{name}`.
    pub fn federate(&self, tenant: &str, client_id: &str, object_id: &str, subject: &str) {
        let key = (tenant.to_owned(), client_id.to_owned());
        let value = (object_id.to_owned(), subject.to_owned());
        self.settings().applications.insert(key, value);
    }

    /// How long tokens live.
    pub fn set_life(&self, life: Duration) {
        self.settings().life = life;
    }

    /// Answers everything with this; `None`: behaves again.
    pub fn set_broken(&self, answer: Option<Answer>) {
        self.settings().broken = answer;
    }

    fn respond(&self, request: &Request) -> Answer {
        if let Some(answer) = self.settings().broken.clone() {
            return answer.kind("entra");
        }
        let Some(tenant) = request
            .path
            .strip_prefix('/')
            .and_then(|path| path.strip_suffix("/oauth2/v2.0/token"))
        else {
            return Answer::status("entra", 404);
        };
        let client_id = request.field("client_id").unwrap_or_default();
        let mut settings = self.settings();
        let found = settings.applications.get(&(tenant.to_owned(), client_id.clone()));
        let Some((object_id, trusted)) = found.cloned() else {
            let message =
                format!("AADSTS700016: Application with identifier '{client_id}' was not found in the directory.");
            return error("unauthorized_client", &message);
        };
        let kind = request.field("client_assertion_type");
        if kind.as_deref() != Some("urn:ietf:params:oauth:client-assertion-type:jwt-bearer") {
            return error(
                "invalid_request",
                "AADSTS900144: The request body must contain 'client_assertion_type'.",
            );
        }
        let now = self.clock.seconds();
        let assertion = request.field("client_assertion").as_deref().and_then(jwt::decode);
        let Some(assertion) = assertion else {
            return error("invalid_client", "AADSTS50027: JWT token is invalid or malformed.");
        };
        if !jwt::is_current(&assertion, now) {
            return error(
                "invalid_client",
                "AADSTS700024: Client assertion is not within its valid time range.",
            );
        }
        if assertion["sub"] != trusted.as_str() {
            let message = "AADSTS700213: No matching federated identity record found for presented assertion subject.";
            return error("invalid_client", message);
        }
        let scope = request.field("scope").unwrap_or_default();
        let audience = scope
            .split(' ')
            .next()
            .unwrap_or_default()
            .trim_end_matches("/.default");
        settings.issued += 1;
        let life = i64::try_from(settings.life.as_secs()).unwrap_or(i64::MAX);
        let token = jwt::encode(&json!({
            "aud": audience, "tid": tenant, "oid": object_id, "appid": client_id, "iat": now, "nbf": now, "exp": now + life,
            "uti": format!("entra-{}", settings.issued),
        }));
        let body = json!({"token_type": "Bearer", "expires_in": life, "ext_expires_in": life, "access_token": token});
        Answer::json("entra", 200, &body)
    }
}

impl Service for Entra {
    fn answer<'a>(&'a self, request: &'a Request) -> Answering<'a> {
        Box::pin(std::future::ready(self.respond(request)))
    }
}

fn error(code: &str, description: &str) -> Answer {
    let status = if code == "invalid_client" { 401 } else { 400 };
    let body = json!({"error": code, "error_description": description, "correlation_id": "3f6c2f0e-0000-4000-8000-000000000002"});
    Answer::json("entra", status, &body)
}
