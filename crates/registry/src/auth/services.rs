//! How the identity services of clouds are reached: bounded, without redirects, with our TLS. They are no registries: some are
//! spoken to in plain HTTP at an address of the machine itself, so nothing of a registry's guard is for them.

use std::io::{self, Read as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, StatusCode};
use reqwest::redirect::Policy;
use url::Url;

use crate::auth::identity::Surroundings;
use crate::wire::broken;
use crate::wire::error::ClientError;
use crate::wire::tls::{self, Progress, Trust};

/// Bytes of an answer; a token with many claims has some thousand.
const LARGEST: usize = 1 << 20;
/// Bytes of a file that the platform mounts.
const LARGEST_FILE: u64 = 64 << 10;
/// One request.
const LONGEST: Duration = Duration::from_secs(10);

/// A client for identity services.
#[derive(Debug)]
pub(crate) struct Services {
    client: reqwest::Client,
    metadata: Option<SocketAddr>,
}

/// What a service answered.
pub(crate) struct Answered {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Services {
    /// `proxied`: whether proxies of the environment are used; instance metadata is never behind one.
    pub(crate) fn new(surroundings: &Surroundings, proxied: bool) -> Result<Services, ClientError> {
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
        Ok(Services {
            client: builder
                .build()
                .map_err(|error| ClientError::Http(broken::root_cause(&error)))?,
            metadata: surroundings.metadata,
        })
    }

    /// One request to where instance metadata is served, if that is not at its usual address.
    pub(crate) fn at_metadata(&self, mut url: Url) -> Url {
        if let Some(at) = self.metadata {
            // An address and a port always fit into a URL that has a host.
            let _ = url.set_ip_host(at.ip());
            let _ = url.set_port(Some(at.port()));
        }
        url
    }

    /// One request and its answer, cut off where it is too long: then it is no JSON any more, and refused as that.
    pub(crate) async fn send(
        &self,
        method: Method,
        url: Url,
        headers: HeaderMap,
        body: Option<Bytes>,
    ) -> Result<Answered, reqwest::Error> {
        let mut ask = self.client.request(method, url).headers(headers);
        if let Some(body) = body {
            ask = ask.body(body);
        }
        let mut reply = ask.send().await?;
        let (status, headers) = (reply.status(), reply.headers().clone());
        let mut body = BytesMut::new();
        while let Some(chunk) = reply.chunk().await? {
            body.extend_from_slice(&chunk);
            if body.len() > LARGEST {
                break;
            }
        }
        Ok(Answered {
            status,
            headers,
            body: body.freeze(),
        })
    }
}

/// Reads a file that the platform mounts: a token, or where to get one.
pub(crate) async fn mounted(path: PathBuf) -> io::Result<Vec<u8>> {
    let read = move || {
        let mut content = Vec::new();
        std::fs::File::open(path)?
            .take(LARGEST_FILE)
            .read_to_end(&mut content)?;
        Ok(content)
    };
    tokio::task::spawn_blocking(read).await.map_err(io::Error::other)?
}
