//! Access tokens of the metadata server: the service account of the machine, or on GKE of the pod (Google Cloud documentation, "About VM
//! metadata" and "Authenticate to Google Cloud APIs from GKE workloads").

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Method, StatusCode};
use serde::Deserialize;
use url::Url;

use super::identity::token;
use crate::auth::identity::{CloudToken, CloudTokens, IdentityError, TokenSource};
use crate::auth::services::Services;
use crate::wire::broken;

const HOST: &str = "metadata.google.internal";
const PATH: &str = "computeMetadata/v1/instance/service-accounts/default/token";
/// Asked with, and answered with: a server that does not answer so is not the metadata server.
const FLAVOR: (&str, HeaderValue) = ("metadata-flavor", HeaderValue::from_static("Google"));

#[derive(Clone)]
pub(super) struct Metadata {
    host: String,
    services: Arc<Services>,
}

#[derive(Deserialize)]
struct Answer {
    access_token: String,
    expires_in: u64,
}

impl Metadata {
    /// `host`: `GCE_METADATA_HOST`, which Google's libraries take in place of the usual name.
    pub(super) fn new(host: Option<String>, services: Services) -> Metadata {
        Metadata {
            host: host.unwrap_or_else(|| HOST.to_owned()),
            services: Arc::new(services),
        }
    }

    async fn token(&self) -> Result<CloudToken, IdentityError> {
        let url = Url::parse(&format!("http://{}/{PATH}", self.host));
        let url = url.map_err(|_| IdentityError("GCE_METADATA_HOST is not host or host:port".to_owned()))?;
        let headers = HeaderMap::from_iter([(http::HeaderName::from_static(FLAVOR.0), FLAVOR.1)]);
        let url = self.services.at_metadata(url);
        let answered = self.services.send(Method::GET, url, headers, None).await;
        let answered = answered.map_err(|error| {
            IdentityError(format!(
                "the metadata server {} does not answer: {}. Outside of Google Cloud set GOOGLE_APPLICATION_CREDENTIALS to a \
                 credential configuration of workload identity federation, or give the side a secretRef",
                self.host,
                broken::root_cause(&error)
            ))
        })?;
        if answered.headers.get(FLAVOR.0) != Some(&FLAVOR.1) {
            return Err(IdentityError(format!("{} is not Google's metadata server", self.host)));
        }
        if answered.status != StatusCode::OK {
            return Err(IdentityError(format!(
                "the metadata server answered {}: attach a Google service account to the machine, or link one to the operator's \
                 Kubernetes service account (iam.gke.io/gcp-service-account)",
                answered.status.as_u16()
            )));
        }
        let answer: Answer = serde_json::from_slice(&answered.body)
            .map_err(|_| IdentityError("the metadata server answered with something that is no token".to_owned()))?;
        token(answer.access_token, answer.expires_in)
    }
}

impl TokenSource for Metadata {
    fn fetch(&self) -> CloudTokens {
        let source = self.clone();
        Box::pin(async move { source.token().await })
    }
}
