//! One bounded HTTP request.

use std::sync::Arc;

use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, RANGE};
use reqwest::redirect::Policy;

use crate::ask::Ask;
use crate::broken;
use crate::dns::{Guard, Resolver};
use crate::error::ClientError;
use crate::failure::{Class, Failure, one_line};
use crate::limits::Limits;
use crate::reply::Reply;
use crate::tls::{self, Progress, Stage, Trust};

/// An HTTP client that follows no redirect, decodes no content, and connects to no address that `guard` refuses. Clones
/// share its connections.
#[derive(Clone)]
pub(crate) struct Http {
    client: reqwest::Client,
    /// For hosts that are not to see the registry's client certificate; absent when there is none.
    stranger: Option<reqwest::Client>,
    pub(crate) guard: Arc<Guard>,
    pub(crate) progress: Arc<Progress>,
    pub(crate) limits: Limits,
}

impl Http {
    pub(crate) fn new(guard: Arc<Guard>, trust: &Trust, limits: Limits) -> Result<Http, ClientError> {
        let progress = Arc::new(Progress::default());
        let own = client(&guard, trust, &limits, &progress)?;
        let stranger = trust.identity.as_ref().map(|_| {
            let trust = trust.without_identity();
            client(&guard, &trust, &limits, &progress)
        });
        Ok(Http {
            client: own,
            stranger: stranger.transpose()?,
            guard,
            progress,
            limits,
        })
    }

    /// Says where the registry's name leads, when its firewall refuses us: whether a private endpoint is used is the first
    /// question then.
    pub(crate) fn add_address(&self, failure: &mut Failure) {
        if failure.class == Class::NetworkDenied
            && let Some(seen) = self.guard.describe_own()
        {
            failure.message.push_str(": ");
            failure.message.push_str(&seen);
        }
    }

    /// The request, on the client that its host may see.
    fn builder(&self, ask: &Ask) -> reqwest::RequestBuilder {
        let client = match &self.stranger {
            Some(stranger) if !self.guard.knows(&ask.url) => stranger,
            _ => &self.client,
        };
        let mut builder = client
            .request(ask.method.clone(), ask.url.clone())
            .headers(ask.headers.clone());
        if let Some(accept) = ask.accept {
            builder = builder.header(ACCEPT, accept);
        }
        if let Some(authorization) = &ask.authorization {
            builder = builder.header(AUTHORIZATION, authorization);
        }
        if ask.first_byte {
            builder = builder.header(RANGE, "bytes=0-0");
        }
        if let Some(time) = ask.time {
            builder = builder.timeout(time);
        }
        if let Some(form) = &ask.form {
            builder = builder
                .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
                .body(form.expose().clone());
        }
        if let Some(body) = &ask.body {
            builder = builder.body(body.clone());
        }
        builder
    }

    /// Sends one request and reads the headers of the answer, whatever its status.
    pub(crate) async fn exchange(&self, ask: &Ask) -> Result<Reply, Failure> {
        let request = ask.describe();
        self.progress.ask(&request);
        if ask.url.scheme() != "https" {
            return Err(Failure::new(
                ask.rung,
                Class::Misrouted,
                format!("{request}: refused, not https"),
            ));
        }
        self.guard
            .check(&ask.url)
            .map_err(|error| broken::unresolved(&error, ask.rung, &request))?;
        let proxy = self.guard.proxy_for(&ask.url);
        if proxy.is_some() || !matches!(ask.url.host(), Some(url::Host::Domain(_))) {
            self.progress.reach(Stage::Connect);
        }
        let builder = self.builder(ask);
        let response = builder
            .send()
            .await
            .map_err(|error| broken::failure(&error, ask.rung, &request))
            .map_err(|failure| through(proxy.as_deref(), failure))?;
        let reply = Reply::new(response, ask, request);
        let size: usize = reply
            .headers()
            .iter()
            .map(|(name, value)| name.as_str().len() + value.len() + 4)
            .sum();
        if size > self.limits.header_bytes {
            let message = format!(
                "{}: headers of {size} bytes, more than {}",
                reply.request, self.limits.header_bytes
            );
            return Err(reply.failure(Class::TooLarge, message));
        }
        tracing::debug!(request = %reply.request, status = reply.status().as_u16(), "registry answered");
        Ok(reply)
    }
}

/// Says through whom there was no connection.
fn through(proxy: Option<&str>, mut failure: Failure) -> Failure {
    if let Some(proxy) = proxy.filter(|_| failure.status.is_none()) {
        failure.message.push_str(" (through the proxy ");
        failure.message.push_str(&one_line(proxy));
        failure.message.push(')');
    }
    failure
}

fn client(
    guard: &Arc<Guard>,
    trust: &Trust,
    limits: &Limits,
    progress: &Arc<Progress>,
) -> Result<reqwest::Client, ClientError> {
    let mut builder = reqwest::Client::builder()
        .tls_backend_preconfigured(tls::config(trust, progress.clone()))
        .dns_resolver(Resolver {
            guard: guard.clone(),
            progress: progress.clone(),
        })
        .redirect(Policy::none())
        .referer(false)
        .https_only(true)
        .connect_timeout(limits.connect)
        .read_timeout(limits.read)
        .timeout(limits.total)
        .user_agent(concat!("catamaran/", env!("CARGO_PKG_VERSION")));
    if guard.pins() {
        builder = builder.no_proxy();
    }
    builder
        .build()
        .map_err(|error| ClientError::Http(broken::root_cause(&error)))
}
