//! How `azure_identity` reaches identity services: bounded, without redirects, with our TLS.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use azure_core::Error;
use azure_core::error::ErrorKind;
use azure_core::http::headers::Headers;
use azure_core::http::{AsyncRawResponse, Body, HttpClient, Method, Request};
use bytes::BytesMut;
use reqwest::redirect::Policy;
use url::Url;

use crate::auth::identity::Surroundings;
use crate::wire::broken;
use crate::wire::error::ClientError;
use crate::wire::tls::{self, Progress, Trust};

/// The fixed address of instance metadata.
const METADATA: &str = "169.254.169.254";
/// Bytes of an answer; a token with many claims has some thousand.
const LARGEST: usize = 1 << 20;
/// One request.
const LONGEST: Duration = Duration::from_secs(10);

/// A client for identity services.
#[derive(Debug)]
pub(super) struct Transport {
    client: reqwest::Client,
    metadata: Option<std::net::SocketAddr>,
    last_failure: Mutex<Option<String>>,
}

impl Transport {
    /// `proxied`: whether proxies of the environment are used; instance metadata is never behind one.
    pub(super) fn new(surroundings: &Surroundings, proxied: bool) -> Result<Transport, ClientError> {
        let trust = Trust::in_roots(surroundings.extra_ca.as_deref())?;
        let mut builder = reqwest::Client::builder()
            .tls_backend_preconfigured(tls::config(&trust, Arc::new(Progress::default()), tls::EVERY_HTTP))
            .redirect(Policy::none())
            .referer(false)
            .connect_timeout(Duration::from_secs(5))
            .timeout(LONGEST)
            .user_agent(concat!("catamaran/", env!("CARGO_PKG_VERSION")));
        if !proxied || !surroundings.resolve.is_empty() {
            builder = builder.no_proxy();
        }
        for (host, address) in &surroundings.resolve {
            builder = builder.resolve(host, *address);
        }
        Ok(Transport {
            client: builder
                .build()
                .map_err(|error| ClientError::Http(broken::root_cause(&error)))?,
            metadata: surroundings.metadata,
            last_failure: Mutex::default(),
        })
    }

    /// What the last request that got no answer failed with.
    pub(super) fn last_failure(&self) -> Option<String> {
        self.last_failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn target(&self, url: &Url) -> Url {
        let mut url = url.clone();
        if let (Some(METADATA), Some(at)) = (url.host_str(), self.metadata) {
            // An address and a port always fit into a URL that had both.
            let _ = url.set_ip_host(at.ip());
            let _ = url.set_port(Some(at.port()));
        }
        url
    }

    async fn send(&self, request: &Request) -> Result<AsyncRawResponse, reqwest::Error> {
        let method = match request.method() {
            Method::Post => reqwest::Method::POST,
            _ => reqwest::Method::GET,
        };
        let mut ask = self.client.request(method, self.target(request.url()));
        for (name, value) in request.headers().iter() {
            ask = ask.header(name.as_str(), value.as_str());
        }
        if let Body::Bytes(bytes) = request.body() {
            ask = ask.body(bytes.clone());
        }
        let mut reply = ask.send().await?;
        let status = reply.status().as_u16();
        let mut headers = Headers::new();
        for (name, value) in reply.headers() {
            if let Ok(value) = value.to_str() {
                headers.insert(name.as_str().to_owned(), value.to_owned());
            }
        }
        let mut body = BytesMut::new();
        while let Some(chunk) = reply.chunk().await? {
            body.extend_from_slice(&chunk);
            if body.len() > LARGEST {
                // What is cut off is no JSON any more, and refused as that.
                break;
            }
        }
        Ok(AsyncRawResponse::from_bytes(status.into(), headers, body.freeze()))
    }
}

#[async_trait]
impl HttpClient for Transport {
    async fn execute_request(&self, request: &Request) -> azure_core::Result<AsyncRawResponse> {
        self.send(request).await.map_err(|error| {
            let host = request.url().host_str().unwrap_or_default();
            let cause = format!("{host}: {}", broken::root_cause(&error));
            *self.last_failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(cause.clone());
            Error::with_message(ErrorKind::Io, cause)
        })
    }
}
