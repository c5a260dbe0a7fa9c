//! `/oauth2/exchange` and `/oauth2/token`.

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};

use super::rights::{Rights, Scope};
use super::{AUDIENCE, Acr, NULL_USER};
use crate::jwt;
use crate::message::{Answer, Request};

/// Who asks for an access token.
pub(super) struct Asker {
    subject: String,
    rights: Rights,
}

impl Acr {
    /// An Entra token for a refresh token of this registry.
    pub(super) fn exchange(&self, request: &Request) -> Answer {
        let bad = |message: &str| Answer::error("exchange", 400, "BAD_REQUEST", message);
        if request.field("grant_type").as_deref() != Some("access_token") {
            return bad("grant_type must be access_token");
        }
        if request.field("service").as_deref() != Some(&self.host) {
            return bad("service must be the registry's login server");
        }
        let refused = |message: &str| Answer::error("exchange", 401, "UNAUTHORIZED", message);
        let Some(claims) = request.field("access_token").as_deref().and_then(jwt::decode) else {
            return refused("IDX12741: JWT must have three segments (JWS) or five segments (JWE).");
        };
        if !jwt::is_current(&claims, self.clock.seconds()) {
            return refused("IDX10223: Lifetime validation failed. The token is expired.");
        }
        if claims["aud"].as_str().map(|audience| audience.trim_end_matches('/')) != Some(AUDIENCE) {
            return refused("IDX10214: Audience validation failed.");
        }
        let tenant = self.settings().tenant.clone();
        let named = request.field("tenant");
        if claims["tid"] != tenant.as_str() || named.is_some_and(|named| named != tenant) {
            return refused("IDX40001: Issuer does not match: the token is from another tenant.");
        }
        let subject = claims["oid"].as_str().unwrap_or_default().to_owned();
        if !self.settings().principals.contains_key(&subject) {
            return self.unauthorized("exchange", None, None, &Value::Null);
        }
        let life = self.settings().refresh_life;
        let abac = self.settings().abac;
        let mut more = json!({"grant_type": "refresh_token", "tenant": tenant});
        if abac {
            more["aad_identity"] = json!({"oid": subject, "tid": claims["tid"]});
        }
        let token = self.issue(&subject, life, more);
        Answer::json("exchange", 200, &json!({"refresh_token": token}))
    }

    /// A refresh token, a password or nothing for an access token.
    pub(super) fn token(&self, request: &Request) -> Answer {
        let posted = request.method == Method::POST;
        if posted && request.field("grant_type").as_deref() != Some("refresh_token") {
            // What containerd sends first for a user name and a password; it asks again with GET then.
            return Answer::error("token", 400, "BAD_REQUEST", "grant_type must be refresh_token");
        }
        let (service, scopes) = if posted {
            (request.field("service"), request.fields("scope"))
        } else {
            (request.parameter("service"), request.parameters("scope"))
        };
        if service.as_deref() != Some(&self.host) {
            return Answer::error(
                "token",
                400,
                "BAD_REQUEST",
                "service must be the registry's login server",
            );
        }
        let asker = if posted {
            self.by_refresh_token(request.field("refresh_token").as_deref())
        } else if request.header("authorization").is_some() {
            self.account(request)
        } else {
            let anonymous = self.settings().anonymous.clone();
            anonymous.map(|rights| Asker {
                subject: String::new(),
                rights,
            })
        };
        let Some(asker) = asker else {
            return self.unauthorized("token", None, None, &Value::Null);
        };
        let abac = self.settings().abac;
        let scopes = Scope::parse(&scopes);
        let mut access: Vec<Value> = scopes.iter().map(|scope| scope.granted(&asker.rights, abac)).collect();
        if !posted && asker.subject == NULL_USER {
            // A refresh token as a Basic password can't read metadata.
            for entry in &mut access {
                if let Some(actions) = entry["Actions"].as_array_mut() {
                    actions.retain(|action| action != "metadata_read");
                }
            }
        }
        let life = self.settings().access_life;
        let token = self.issue(
            &asker.subject,
            life,
            json!({"grant_type": "access_token", "access": access}),
        );
        Answer::json("token", 200, &json!({"access_token": token}))
    }

    fn by_refresh_token(&self, token: Option<&str>) -> Option<Asker> {
        let claims = self.claims(token)?;
        if claims["grant_type"] != "refresh_token" {
            return None;
        }
        let subject = claims["sub"].as_str()?.to_owned();
        let rights = self.settings().principals.get(&subject)?.clone();
        Some(Asker { subject, rights })
    }

    /// The account of a Basic credential, or the owner of the refresh token in it.
    fn asker(&self, user: &str, password: &str) -> Option<Asker> {
        if user == NULL_USER {
            let rights = self.by_refresh_token(Some(password))?.rights;
            return Some(Asker {
                subject: NULL_USER.to_owned(),
                rights,
            });
        }
        let settings = self.settings();
        let (right, rights) = settings.accounts.get(user)?;
        (right == password).then(|| Asker {
            subject: user.to_owned(),
            rights: rights.clone(),
        })
    }

    pub(super) fn account(&self, request: &Request) -> Option<Asker> {
        let (user, password) = request.basic()?;
        self.asker(&user, &password)
    }

    /// The rights of a Basic credential on the registry itself.
    pub(super) fn basic_rights(&self, request: &Request) -> Option<Rights> {
        self.account(request).map(|asker| asker.rights)
    }

    fn issue(&self, subject: &str, life: Duration, more: Value) -> String {
        let now = self.clock.seconds();
        let id = {
            let mut settings = self.settings();
            settings.issued += 1;
            settings.issued
        };
        let life = i64::try_from(life.as_secs()).unwrap_or(i64::MAX);
        let mut claims = json!({
            "jti": format!("{id:08}"),
            "sub": subject,
            "iss": "Azure Container Registry",
            "aud": self.host,
            "nbf": now,
            "iat": now,
            "exp": now.saturating_add(life),
            "version": "1.0",
        });
        if let (Some(claims), Value::Object(more)) = (claims.as_object_mut(), more) {
            claims.extend(more);
        }
        jwt::encode(&claims)
    }
}
