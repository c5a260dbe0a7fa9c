//! How `azure_identity` reaches identity services.

use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use azure_core::Error;
use azure_core::error::ErrorKind;
use azure_core::http::headers::Headers;
use azure_core::http::{AsyncRawResponse, Body, HttpClient, Method, Request};
use http::{HeaderMap, HeaderName, HeaderValue};
use url::Url;

use crate::auth::identity::Surroundings;
use crate::auth::services::Services;
use crate::wire::broken;
use crate::wire::error::ClientError;

/// The fixed address of instance metadata.
const METADATA: &str = "169.254.169.254";

/// A client for identity services.
#[derive(Debug)]
pub(super) struct Transport {
    services: Services,
    last_failure: Mutex<Option<String>>,
}

impl Transport {
    /// `proxied`: whether proxies of the environment are used; instance metadata is never behind one.
    pub(super) fn new(surroundings: &Surroundings, proxied: bool) -> Result<Transport, ClientError> {
        Ok(Transport {
            services: Services::new(surroundings, proxied)?,
            last_failure: Mutex::default(),
        })
    }

    /// What the last request that got no answer failed with.
    pub(super) fn last_failure(&self) -> Option<String> {
        self.last_failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn target(&self, url: &Url) -> Url {
        match url.host_str() {
            Some(METADATA) => self.services.at_metadata(url.clone()),
            _ => url.clone(),
        }
    }

    async fn send(&self, request: &Request) -> Result<AsyncRawResponse, reqwest::Error> {
        let method = match request.method() {
            Method::Post => http::Method::POST,
            _ => http::Method::GET,
        };
        let mut asked = HeaderMap::new();
        for (name, value) in request.headers().iter() {
            let name = HeaderName::from_bytes(name.as_str().as_bytes());
            if let (Ok(name), Ok(value)) = (name, HeaderValue::from_str(value.as_str())) {
                asked.append(name, value);
            }
        }
        let body = match request.body() {
            Body::Bytes(bytes) => Some(bytes.clone()),
            Body::SeekableStream(_) => None,
        };
        let answered = self
            .services
            .send(method, self.target(request.url()), asked, body)
            .await?;
        let mut headers = Headers::new();
        for (name, value) in &answered.headers {
            if let Ok(value) = value.to_str() {
                headers.insert(name.as_str().to_owned(), value.to_owned());
            }
        }
        let status = answered.status.as_u16().into();
        Ok(AsyncRawResponse::from_bytes(status, headers, answered.body))
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
