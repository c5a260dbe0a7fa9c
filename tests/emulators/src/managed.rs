//! Managed identities: the endpoint of App Service (`IDENTITY_ENDPOINT`, 2019-08-01) and that of instance metadata.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::json;

use crate::clock::Clock;
use crate::jwt;
use crate::message::{Answer, Request};
use crate::server::{Answering, Service};

/// Both kinds of endpoint for the identities of one machine. Served over plain HTTP, as the real ones are.
pub struct Managed {
    clock: Clock,
    header: String,
    settings: Mutex<Settings>,
}

struct Settings {
    tenant: String,
    life: Duration,
    system: Option<String>,
    /// Client, object or resource id to the object id.
    assigned: BTreeMap<String, String>,
    broken: Option<Answer>,
    issued: u64,
}

impl Managed {
    /// Identities of tenant `tenant-1`, whose tokens live for 24 h; App Service's secret header has this value.
    pub fn new(header: &str, clock: Clock) -> Managed {
        Managed {
            clock,
            header: header.to_owned(),
            settings: Mutex::new(Settings {
                tenant: "tenant-1".to_owned(),
                life: Duration::from_hours(24),
                system: None,
                assigned: BTreeMap::new(),
                broken: None,
                issued: 0,
            }),
        }
    }

    fn settings(&self) -> MutexGuard<'_, Settings> {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The machine's own identity, by its object id.
    pub fn set_system(&self, object_id: &str) {
        self.settings().system = Some(object_id.to_owned());
    }

    /// An identity that was assigned to the machine: any of its ids finds it.
    pub fn assign(&self, client_id: &str, object_id: &str, resource_id: &str) {
        let mut settings = self.settings();
        for id in [client_id, object_id, resource_id] {
            settings.assigned.insert(id.to_owned(), object_id.to_owned());
        }
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
            return answer.kind("identity");
        }
        let metadata = request.path == "/metadata/identity/oauth2/token";
        let known = if metadata {
            request.header("metadata") == Some("true")
        } else {
            request.header("x-identity-header") == Some(&self.header)
        };
        let invalid = |message: &str| {
            let body = json!({"error": "invalid_request", "error_description": message, "statusCode": 400, "message": message});
            Answer::json("identity", 400, &body)
        };
        if !known {
            return invalid("Required metadata header not specified");
        }
        let Some(resource) = request.parameter("resource") else {
            return invalid("Required query variable 'resource' is missing");
        };
        let wanted = ["client_id", "object_id", "principal_id", "msi_res_id", "mi_res_id"]
            .into_iter()
            .find_map(|name| request.parameter(name));
        let mut settings = self.settings();
        let found = match &wanted {
            None => settings.system.clone(),
            Some(id) => settings.assigned.get(id).cloned(),
        };
        let Some(object_id) = found else {
            return invalid("Identity not found");
        };
        settings.issued += 1;
        let now = self.clock.seconds();
        let life = i64::try_from(settings.life.as_secs()).unwrap_or(i64::MAX);
        let token = jwt::encode(&json!({
            "aud": resource, "tid": settings.tenant, "oid": object_id, "iat": now, "nbf": now, "exp": now + life,
            "uti": format!("managed-{}", settings.issued),
        }));
        let body = json!({
            "access_token": token,
            "expires_in": life.to_string(),
            "expires_on": (now + life).to_string(),
            "not_before": now.to_string(),
            "resource": resource,
            "token_type": "Bearer",
        });
        Answer::json("identity", 200, &body)
    }
}

impl Service for Managed {
    fn answer<'a>(&'a self, request: &'a Request) -> Answering<'a> {
        Box::pin(std::future::ready(self.respond(request)))
    }
}
