//! Where an identity's keys are: the environment, a web identity (IRSA), a container's credentials endpoint (Pod Identity, ECS)
//! or the instance's metadata (`IMDSv2`), the first that is there.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqsign_aws_v4::{
    AssumeRoleWithWebIdentityCredentialProvider, Credential, ECSCredentialProvider, EnvCredentialProvider,
    IMDSv2CredentialProvider,
};
use reqsign_core::{Context, Error, FileRead, HttpSend, ProvideCredential, Result};
use reqwest::redirect::Policy;
use url::{Host, Url};

use super::identity::AwsIdentity;
use crate::auth::services::mounted;
use crate::wire::ask::Ask;
use crate::wire::error::ClientError;
use crate::wire::failure::Stage;
use crate::wire::tls::{self, Trust};
use crate::wire::transport::Http;

/// The most that an identity endpoint may answer.
const MOST: u64 = 64 << 10;
/// Where credentials are served in plain HTTP, on the machine itself: the container endpoints and instance metadata.
const LOCAL: [&str; 5] = [
    "169.254.169.254",
    "169.254.170.2",
    "169.254.170.23",
    "fd00:ec2::23",
    "fd00:ec2::254",
];

/// Where requests of an identity go, and what they may read.
pub(super) fn context(
    identity: &AwsIdentity,
    http: Arc<Http>,
    trust: &Trust,
) -> std::result::Result<Context, ClientError> {
    Ok(Context::new()
        .with_env(identity.clone())
        .with_file_read(TokenFile)
        .with_http_send(Sender {
            http,
            local: local(trust)?,
        }))
}

/// The first source that is configured. One that is configured and fails is the failure to tell: falling through to the
/// next would be another identity, or hide the mistake.
#[derive(Debug)]
pub(super) struct Chain {
    web: AssumeRoleWithWebIdentityCredentialProvider,
    container: ECSCredentialProvider,
    instance: IMDSv2CredentialProvider,
}

impl Chain {
    pub(super) fn new(region: &str) -> Chain {
        Chain {
            web: AssumeRoleWithWebIdentityCredentialProvider::new()
                .with_region(region.to_owned())
                .with_regional_sts_endpoint()
                .with_role_session_name("catamaran".to_owned()),
            container: ECSCredentialProvider::new(),
            instance: IMDSv2CredentialProvider::new(),
        }
    }
}

impl ProvideCredential for Chain {
    type Credential = Credential;

    async fn provide_credential(&self, context: &Context) -> Result<Option<Credential>> {
        if let Some(credential) = EnvCredentialProvider::new().provide_credential(context).await? {
            return Ok(Some(credential));
        }
        if let Some(credential) = self.web.provide_credential(context).await? {
            return Ok(Some(credential));
        }
        if let Some(credential) = self.container.provide_credential(context).await? {
            return Ok(Some(credential));
        }
        self.instance.provide_credential(context).await
    }
}

/// Reads tokens that the platform mounts.
#[derive(Debug)]
struct TokenFile;

impl FileRead for TokenFile {
    async fn file_read(&self, path: &str) -> Result<Vec<u8>> {
        mounted(path.into())
            .await
            .map_err(|error| Error::config_invalid(error.to_string()))
    }
}

/// Sends to Amazon as to registries, and in plain HTTP to the machine's own endpoints only.
struct Sender {
    http: Arc<Http>,
    local: reqwest::Client,
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").finish_non_exhaustive()
    }
}

fn local(trust: &Trust) -> std::result::Result<reqwest::Client, ClientError> {
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls::config(&trust.without_identity(), Arc::default(), tls::EVERY_HTTP))
        .redirect(Policy::none())
        .no_proxy()
        .connect_timeout(Duration::from_secs(1))
        .timeout(Duration::from_secs(5))
        .build()
        .map_err(|error| ClientError::Http(crate::wire::broken::root_cause(&error)))
}

impl HttpSend for Sender {
    async fn http_send(&self, request: http::Request<Bytes>) -> Result<http::Response<Bytes>> {
        let url: Url = request
            .uri()
            .to_string()
            .parse()
            .map_err(|_| Error::config_invalid("the endpoint is not a URL"))?;
        let (status, body) = if url.scheme() == "https" {
            self.remote(url, request).await?
        } else if is_local(&url) {
            self.nearby(url, request).await?
        } else {
            return Err(Error::config_invalid(
                "an identity endpoint must be https, or on this machine",
            ));
        };
        let mut response = http::Response::new(body);
        *response.status_mut() = status;
        Ok(response)
    }
}

impl Sender {
    async fn remote(&self, url: Url, request: http::Request<Bytes>) -> Result<(http::StatusCode, Bytes)> {
        let (parts, body) = request.into_parts();
        let mut ask = Ask::new(parts.method, url, Stage::Token);
        (ask.headers, ask.body) = (parts.headers, Some(body));
        let failed = |failure: crate::wire::failure::Failure| Error::unexpected(failure.message);
        let reply = self.http.exchange(&ask).await.map_err(failed)?;
        let status = reply.status();
        Ok((status, reply.body(MOST).await.map_err(failed)?))
    }

    async fn nearby(&self, url: Url, request: http::Request<Bytes>) -> Result<(http::StatusCode, Bytes)> {
        let (parts, body) = request.into_parts();
        let failed = |error: reqwest::Error| Error::unexpected(crate::wire::broken::root_cause(&error));
        let request = self.local.request(parts.method, url).headers(parts.headers).body(body);
        let mut response = request.send().await.map_err(failed)?;
        let mut content = BytesMut::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            if (content.len() + chunk.len()) as u64 > MOST {
                return Err(Error::unexpected(format!("an answer of more than {MOST} bytes")));
            }
            content.extend_from_slice(&chunk);
        }
        Ok((response.status(), content.freeze()))
    }
}

fn is_local(url: &Url) -> bool {
    let address: Option<IpAddr> = match url.host() {
        Some(Host::Ipv4(address)) => Some(address.into()),
        Some(Host::Ipv6(address)) => Some(address.into()),
        _ => None,
    };
    url.scheme() == "http"
        && address.is_some_and(|address| address.is_loopback() || LOCAL.contains(&address.to_string().as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_goes_to_the_machines_own_endpoints_only() {
        let cases = [
            ("http://169.254.169.254/latest/api/token", true),
            ("http://169.254.170.23/v1/credentials", true),
            ("http://[fd00:ec2::23]/v1/credentials", true),
            ("http://127.0.0.1:1234/x", true),
            ("http://localhost/x", false),
            ("http://169.254.169.253/x", false),
            ("http://10.0.0.1/x", false),
            ("http://evil.test/169.254.169.254", false),
            ("ftp://127.0.0.1/x", false),
        ];
        for (url, expected) in cases {
            assert_eq!(is_local(&url.parse().unwrap()), expected, "{url}");
        }
    }
}
