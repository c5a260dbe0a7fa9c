//! One call of the account's interface: JSON 1.1, signed (AWS Signature Version 4).

use std::sync::Arc;

use bytes::Bytes;
use catamaran_core::endpoint::Unavailable;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Method, Request};
use reqsign_aws_v4::{Credential, RequestSigner};
use reqsign_core::Signer;
use reqsign_core::hash::hex_sha256;
use serde::Deserialize;
use serde_json::Value;
use url::Url;

use super::chain::{self, Chain};
use super::identity::AwsIdentity;
use super::password::Login;
use super::place::Place;
use crate::budget::{Budget, Budgets};
use crate::wire::ask::Ask;
use crate::wire::error::ClientError;
use crate::wire::failure::{Class, Failure, Stage, one_line};
use crate::wire::reply::Reply;
use crate::wire::tls::Trust;
use crate::wire::transport::Http;
use crate::wire::wait;

/// Far below what is throttled: Amazon publishes no number for listing images.
const PER_MINUTE: u32 = 300;

/// An account's registry interface, and who we are to it.
pub(super) struct Ecr {
    pub(super) place: Place,
    pub(super) http: Arc<Http>,
    pub(super) login: Login,
    budget: Arc<Budget>,
    url: Url,
    signer: Signer<Credential>,
}

impl Ecr {
    pub(super) fn new(
        place: Place,
        identity: &AwsIdentity,
        http: Http,
        trust: &Trust,
        budgets: &Budgets,
    ) -> Result<Ecr, ClientError> {
        let http = Arc::new(http);
        let url = Url::parse(&format!("https://{}/", place.api)).map_err(|_| ClientError::BadRegistry {
            registry: place.api.clone(),
        })?;
        let context = chain::context(identity, http.clone(), trust)?;
        let signer = Signer::new(
            context,
            Chain::new(&place.region),
            RequestSigner::new("ecr", &place.region),
        );
        Ok(Ecr {
            budget: budgets.for_api(&place.api, || Budget::per_minute(PER_MINUTE)),
            login: Login::default(),
            place,
            http,
            url,
            signer,
        })
    }

    /// Calls within the budget.
    pub(super) async fn call(&self, action: &str, input: Value, stage: Stage) -> Result<(HeaderMap, Bytes), Failure> {
        self.budget.acquire().await;
        self.call_now(action, input, stage).await
    }

    /// Calls at once: what a probe needs does not wait for scans.
    pub(super) async fn call_now(
        &self,
        action: &str,
        mut input: Value,
        stage: Stage,
    ) -> Result<(HeaderMap, Bytes), Failure> {
        if action != "GetAuthorizationToken" {
            input["registryId"] = self.place.account.clone().into();
        }
        let ask = self.signed(action, &input, stage).await?;
        let reply = self.http.exchange(&ask).await?;
        if reply.status().is_success() {
            self.budget.succeeded();
            let headers = reply.headers().clone();
            return Ok((headers, reply.body(self.http.limits.page_bytes).await?));
        }
        let failure = failure(reply, action, self.http.limits.error_bytes).await;
        if let Class::Throttled { retry_after } = failure.class {
            self.budget.throttled(retry_after);
        }
        Err(failure)
    }

    async fn signed(&self, action: &str, input: &Value, stage: Stage) -> Result<Ask, Failure> {
        let body = Bytes::from(input.to_string());
        let no_identity = |why: &str| {
            let message = format!(
                "{action} of {}: no identity at Amazon: {}",
                self.place.api,
                one_line(why)
            );
            Failure::new(stage, Class::CredentialsUnavailable, message)
        };
        let request = Request::post(self.url.as_str())
            .header(CONTENT_TYPE, "application/x-amz-json-1.1")
            .header("x-amz-target", format!("AmazonEC2ContainerRegistry_V20150921.{action}"))
            .header("x-amz-content-sha256", hex_sha256(&body))
            .body(());
        let (mut parts, ()) = request.map_err(|error| no_identity(&error.to_string()))?.into_parts();
        let signed = self.signer.sign(&mut parts, None).await;
        signed.map_err(|error| no_identity(&explain(&error)))?;
        let mut ask = Ask::new(Method::POST, self.url.clone(), stage);
        // The connection names the host by itself.
        parts.headers.remove(http::header::HOST);
        ask.authorization = parts.headers.remove(http::header::AUTHORIZATION).map(sensitive);
        (ask.headers, ask.body) = (parts.headers, Some(body));
        Ok(ask)
    }
}

fn sensitive(mut value: HeaderValue) -> HeaderValue {
    value.set_sensitive(true);
    value
}

/// The outer and the inner reason: "failed to load..." alone helps nobody.
fn explain(error: &reqsign_core::Error) -> String {
    let cause = std::error::Error::source(error).map(|source| format!(": {source}"));
    format!("{error}{}", cause.unwrap_or_default())
}

#[derive(Default, Deserialize)]
struct Said {
    #[serde(default, rename = "__type")]
    kind: String,
    #[serde(default, alias = "Message")]
    message: String,
}

async fn failure(reply: Reply, action: &str, most: u64) -> Failure {
    let (status, stage, headers) = (reply.status(), reply.stage, reply.headers().clone());
    let sent = reply.sent.clone();
    let host = reply.url().host_str().unwrap_or_default().to_owned();
    let body = reply.body(most).await.unwrap_or_default();
    let said: Said = serde_json::from_slice(&body).unwrap_or_default();
    let header = headers.get("x-amzn-errortype").and_then(|value| value.to_str().ok());
    let kind = Some(said.kind.as_str())
        .filter(|kind| !kind.is_empty())
        .or(header)
        .unwrap_or_default();
    // `com.amazonaws.ecr#Name` and `Name:http://...` are both in use.
    let kind = kind.rsplit('#').next().unwrap_or_default();
    let kind = one_line(&sent.hide(kind.split(':').next().unwrap_or_default()));
    let class = class(status.as_u16(), &kind, || wait::asked_for(&headers, ""));
    let mut message = format!("{action} of {host}: {}", status.as_u16());
    for part in [kind.as_str(), &one_line(&sent.hide(&said.message))] {
        if !part.is_empty() {
            message.push_str(": ");
            message.push_str(part);
        }
    }
    if class == Class::Forbidden {
        message.push_str(": the identity lacks ecr:");
        message.push_str(action);
    }
    Failure {
        stage,
        class,
        status: Some(status.as_u16()),
        code: Some(kind).filter(|kind| !kind.is_empty()),
        message,
    }
}

/// Amazon answers 400 to nearly everything; the name of the error decides.
fn class(status: u16, kind: &str, retry_after: impl FnOnce() -> Option<std::time::Duration>) -> Class {
    match kind {
        "RepositoryNotFoundException" | "ImageNotFoundException" | "RegistryPolicyNotFoundException" => Class::Absent,
        "ThrottlingException"
        | "Throttling"
        | "TooManyRequestsException"
        | "RequestLimitExceeded"
        | "LimitExceededException" => Class::Throttled {
            retry_after: retry_after(),
        },
        "AccessDeniedException" | "AccessDenied" | "NotAuthorized" => Class::Forbidden,
        "UnrecognizedClientException"
        | "InvalidSignatureException"
        | "ExpiredTokenException"
        | "IncompleteSignature"
        | "InvalidClientTokenId"
        | "MissingAuthenticationTokenException"
        | "MissingAuthenticationToken" => Class::Unauthorized,
        "ServerException" | "InternalFailure" | "ServiceUnavailable" | "InternalServerError" => {
            Class::Unavailable(Unavailable::ServerError)
        }
        _ => match status {
            401 => Class::Unauthorized,
            403 => Class::Forbidden,
            429 => Class::Throttled {
                retry_after: retry_after(),
            },
            500.. => Class::Unavailable(Unavailable::ServerError),
            _ => Class::Unexpected,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_an_error_decides_what_it_is() {
        let throttled = Class::Throttled { retry_after: None };
        let server_error = Class::Unavailable(Unavailable::ServerError);
        let cases = [
            (400, "RepositoryNotFoundException", Class::Absent),
            (400, "ImageNotFoundException", Class::Absent),
            (400, "ThrottlingException", throttled.clone()),
            (429, "", throttled),
            (400, "AccessDeniedException", Class::Forbidden),
            (400, "UnrecognizedClientException", Class::Unauthorized),
            (400, "ExpiredTokenException", Class::Unauthorized),
            (403, "InvalidSignatureException", Class::Unauthorized),
            (403, "", Class::Forbidden),
            (500, "ServerException", server_error.clone()),
            (503, "", server_error),
            (400, "InvalidParameterException", Class::Unexpected),
        ];
        for (status, kind, expected) in cases {
            assert_eq!(class(status, kind, || None), expected, "{status} {kind}");
        }
    }
}
