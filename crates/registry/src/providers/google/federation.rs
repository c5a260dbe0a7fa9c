//! Access tokens by workload identity federation: a token that the platform projects is exchanged at Google's Security Token
//! Service, and what comes of it for a token of a service account, where the configuration names one (AIP-4117, "External Account
//! Credentials"; RFC 8693).
//!
//! The configuration says where to go. It is an administrator's, but a token is only ever sent to hosts of Google's.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method};
use jiff::Timestamp;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use url::Url;
use url::form_urlencoded::Serializer;

use super::identity::{SCOPE, token};
use crate::auth::identity::{CloudToken, CloudTokens, IdentityError, TokenSource};
use crate::auth::services::{Services, mounted};
use crate::wire::broken;
use crate::wire::failure::one_line;
use crate::wire::mask;
use crate::wire::secret::{Secret, secret_header};

const GRANT: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
/// How long an impersonated token is asked for, in seconds: the longest without a policy of the organisation.
const LIFE: u32 = 3600;

#[derive(Clone)]
pub(super) struct Federation {
    file: PathBuf,
    services: Arc<Services>,
}

/// A credential configuration, as `gcloud iam workload-identity-pools create-cred-config` writes it.
#[derive(Deserialize)]
struct Configuration {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    audience: String,
    #[serde(default)]
    subject_token_type: String,
    #[serde(default)]
    token_url: String,
    #[serde(default)]
    service_account_impersonation_url: Option<String>,
    #[serde(default)]
    credential_source: Source,
}

#[derive(Default, Deserialize)]
struct Source {
    #[serde(default)]
    file: Option<PathBuf>,
    #[serde(default)]
    format: Format,
}

/// How the token stands in its file.
#[derive(Default, Deserialize)]
struct Format {
    /// `text`, the default, or `json`.
    #[serde(default, rename = "type")]
    kind: Option<String>,
    #[serde(default)]
    subject_token_field_name: Option<String>,
}

#[derive(Deserialize)]
struct Exchanged {
    access_token: String,
    expires_in: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Impersonated {
    access_token: String,
    /// RFC 3339.
    expire_time: String,
}

/// What either service says of a refusal.
#[derive(Default, Deserialize)]
struct Said {
    #[serde(default)]
    error: serde_json::Value,
    #[serde(default)]
    error_description: String,
}

fn refused(why: impl Into<String>) -> IdentityError {
    IdentityError(why.into())
}

impl Federation {
    /// By the configuration in this file, which is read for each token: it may be mounted anew.
    pub(super) fn new(file: PathBuf, services: Services) -> Federation {
        Federation {
            file,
            services: Arc::new(services),
        }
    }

    async fn token(&self) -> Result<CloudToken, IdentityError> {
        let configuration = self.configuration().await?;
        let subject = subject(&configuration.credential_source).await?;
        let exchanged = self.exchange(&configuration, &subject).await?;
        match &configuration.service_account_impersonation_url {
            None => token(exchanged.access_token, exchanged.expires_in),
            Some(url) => self.impersonate(url, &Secret::new(exchanged.access_token)).await,
        }
    }

    async fn configuration(&self) -> Result<Configuration, IdentityError> {
        let shown = self.file.display();
        let read = mounted(self.file.clone()).await;
        let read = read.map_err(|error| refused(format!("failed to read {shown}: {error}")))?;
        let configuration: Configuration = serde_json::from_slice(&read).map_err(|_| {
            refused(format!(
                "{shown} is no credential configuration: not JSON with a \"type\""
            ))
        })?;
        match configuration.kind.as_str() {
            "external_account" => Ok(configuration),
            "service_account" => Err(refused(format!(
                "{shown} is the key of a service account: use workload identity federation, or put the key into a Secret for \
                 secretRef as the password of _json_key_base64"
            ))),
            other => Err(refused(format!(
                "{shown} is of type {:?}, not external_account",
                one_line(other)
            ))),
        }
    }

    async fn exchange(
        &self,
        configuration: &Configuration,
        subject: &Secret<String>,
    ) -> Result<Exchanged, IdentityError> {
        let url = googles("token_url", &configuration.token_url)?;
        let form = Serializer::new(String::new())
            .append_pair("grant_type", GRANT)
            .append_pair("audience", &configuration.audience)
            .append_pair("scope", SCOPE)
            .append_pair("requested_token_type", ACCESS_TOKEN)
            .append_pair("subject_token_type", &configuration.subject_token_type)
            .append_pair("subject_token", subject.expose())
            .finish();
        let kind = HeaderValue::from_static("application/x-www-form-urlencoded");
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, kind)]);
        self.ask(url, headers, form.into(), subject).await
    }

    /// A token of the service account, by the right to make some for it (`roles/iam.workloadIdentityUser`).
    async fn impersonate(&self, url: &str, federated: &Secret<String>) -> Result<CloudToken, IdentityError> {
        let url = googles("service_account_impersonation_url", url)?;
        let authorization = secret_header("Bearer", federated.expose());
        let authorization = authorization.ok_or_else(|| refused("the exchanged token can't stand in a request"))?;
        let headers = HeaderMap::from_iter([
            (CONTENT_TYPE, HeaderValue::from_static("application/json")),
            (AUTHORIZATION, authorization),
        ]);
        let body = json!({ "scope": [SCOPE], "lifetime": format!("{LIFE}s") }).to_string();
        let answer: Impersonated = self.ask(url, headers, body.into(), federated).await?;
        let expires: Option<Timestamp> = answer.expire_time.parse().ok();
        let left = expires.map_or(0, |expires| expires.as_second() - Timestamp::now().as_second());
        let left = u64::try_from(left).unwrap_or(0).min(LIFE.into());
        token(answer.access_token, left)
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        url: Url,
        headers: HeaderMap,
        body: Bytes,
        sent: &Secret<String>,
    ) -> Result<T, IdentityError> {
        let host = url.host_str().unwrap_or_default().to_owned();
        let answered = self.services.send(Method::POST, url, headers, Some(body)).await;
        let answered = answered.map_err(|error| refused(format!("{host}: {}", broken::root_cause(&error))))?;
        if answered.status.is_success() {
            return serde_json::from_slice(&answered.body)
                .map_err(|_| refused(format!("{host} answered with something that is no token")));
        }
        let said: Said = serde_json::from_slice(&answered.body).unwrap_or_default();
        // One service answers as OAuth has it, the other as Google's APIs do.
        let words = match &said.error {
            serde_json::Value::String(code) => format!("{code}: {}", said.error_description),
            error => error["message"].as_str().unwrap_or_default().to_owned(),
        };
        let words = one_line(&mask::hide(&words, std::slice::from_ref(sent)));
        let status = answered.status.as_u16();
        Err(refused(format!("{host}: {status}: {words}{}", advice(status, &host))))
    }
}

impl TokenSource for Federation {
    fn fetch(&self) -> CloudTokens {
        let source = self.clone();
        Box::pin(async move { source.token().await })
    }
}

/// What would fix a refusal.
fn advice(status: u16, host: &str) -> &'static str {
    match (status, host.starts_with("iamcredentials.")) {
        (403, true) => {
            ": grant the federated identity the role 'roles/iam.workloadIdentityUser' on the service account"
        }
        (400 | 401, false) => {
            ": the pool's provider must trust the issuer of the projected token, with its audience and subject"
        }
        _ => "",
    }
}

/// The token that the platform projects.
async fn subject(source: &Source) -> Result<Secret<String>, IdentityError> {
    let file = source.file.clone().ok_or_else(|| {
        refused("its credential_source names no file: other sources of a token than a projected file are not supported")
    })?;
    let shown = file.display().to_string();
    let read = mounted(file).await;
    let read = read.map_err(|error| refused(format!("failed to read the projected token {shown}: {error}")))?;
    let text = String::from_utf8(read).map_err(|_| refused(format!("{shown} holds no token")))?;
    let text = match source.format.kind.as_deref() {
        None | Some("text") => text,
        Some("json") => {
            let field = source.format.subject_token_field_name.as_deref().unwrap_or_default();
            let value: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
            let found = value[field].as_str();
            found
                .ok_or_else(|| refused(format!("{shown} has no text in the field {field:?}")))?
                .to_owned()
        }
        Some(other) => {
            return Err(refused(format!(
                "its credential_source has the unknown format {other:?}"
            )));
        }
    };
    let text = text.trim();
    if text.is_empty() {
        return Err(refused(format!("{shown} is empty")));
    }
    Ok(Secret::new(text.to_owned()))
}

/// An endpoint of Google's: tokens go nowhere else.
fn googles(field: &str, text: &str) -> Result<Url, IdentityError> {
    let url = Url::parse(text).ok().filter(|url| {
        let host = url.host_str().unwrap_or_default();
        url.scheme() == "https"
            && host.ends_with(".googleapis.com")
            && url.port().is_none()
            && url.username().is_empty()
            && url.password().is_none()
    });
    url.ok_or_else(|| refused(format!("its {field} is not https://….googleapis.com/…")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_go_to_google_only() {
        for good in [
            "https://sts.googleapis.com/v1/token",
            "https://sts.us-east1.rep.googleapis.com/v1/token",
            "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/a@b.iam.gserviceaccount.com:generateAccessToken",
        ] {
            assert!(googles("token_url", good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "http://sts.googleapis.com/v1/token",
            "https://sts.googleapis.com.evil.test/v1/token",
            "https://evilgoogleapis.com/v1/token",
            "https://sts.googleapis.com:8443/v1/token",
            "https://sts.googleapis.com@evil.test/v1/token",
            "https://user@sts.googleapis.com/v1/token",
        ] {
            let error = googles("token_url", bad).unwrap_err();
            assert!(error.0.contains("token_url"), "{bad}");
        }
    }
}
