//! One bounded HTTP request.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use http::Method;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, RANGE};
use reqwest::redirect::Policy;
use rustls::ClientConfig;

use crate::wire::ask::{Ask, Stream};
use crate::wire::broken;
use crate::wire::dns::{Guard, Resolver};
use crate::wire::error::ClientError;
use crate::wire::failure::{Class, Failure, Stage, one_line};
use crate::wire::limits::Limits;
use crate::wire::reply::Reply;
use crate::wire::tls::{self, Progress, Reached, Trust};

/// An HTTP client that follows no redirect, decodes no content, and connects to no address that `guard` refuses. Clones
/// share its connections.
#[derive(Clone)]
pub(crate) struct Http {
    client: reqwest::Client,
    /// For hosts that are not to see the registry's client certificate; absent when there is none.
    anonymous: Option<reqwest::Client>,
    pub(crate) guard: Arc<Guard>,
    pub(crate) progress: Arc<Progress>,
    pub(crate) limits: Limits,
    /// Whether requests are repeated as containerd repeats them.
    repeats: bool,
}

/// How often containerd sends a request at most, and how long it waits when a connection was closed on it.
const ATTEMPTS: usize = 5;
const AFTER_CLOSED: Duration = Duration::from_millis(50);

impl Http {
    pub(crate) fn new(guard: Arc<Guard>, trust: &Trust, limits: Limits) -> Result<Http, ClientError> {
        Http::speaking(tls::EVERY_HTTP, guard, trust, limits)
    }

    /// The same as containerd would do it. It speaks HTTP/1.1 alone with registries: HTTP/2 that is broken breaks no pull. And it
    /// repeats requests: one error in two breaks none either.
    pub(crate) fn like_containerd(guard: Arc<Guard>, trust: &Trust, limits: Limits) -> Result<Http, ClientError> {
        let http = Http::speaking(tls::HTTP_1, guard, trust, limits)?;
        Ok(Http { repeats: true, ..http })
    }

    fn speaking(versions: &[&[u8]], guard: Arc<Guard>, trust: &Trust, limits: Limits) -> Result<Http, ClientError> {
        let progress = Arc::new(Progress::default());
        let client = |trust: &Trust| {
            client(
                &guard,
                tls::config(trust, progress.clone(), versions),
                &limits,
                &progress,
            )
        };
        let own = client(trust)?;
        let anonymous = trust.identity.as_ref().map(|_| client(&trust.without_identity()));
        Ok(Http {
            client: own,
            anonymous: anonymous.transpose()?,
            guard,
            progress,
            limits,
            repeats: false,
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
        let client = match &self.anonymous {
            Some(anonymous) if !self.guard.knows(&ask.url) => anonymous,
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
        let stream = ask.stream.as_ref();
        let stream = stream.and_then(|stream| stream.lock().unwrap_or_else(PoisonError::into_inner).take());
        if let Some(Stream { length, mut pieces }) = stream {
            let pieces = futures::stream::poll_fn(move |context| pieces.poll_recv(context));
            builder = builder
                .header(CONTENT_LENGTH, length)
                .body(reqwest::Body::wrap_stream(pieces));
        }
        builder
    }

    /// The answer, or the last one where requests are repeated: after 500, 503 or 504 until the same comes twice in a row, and after
    /// a connection that was closed before an answer. Token endpoints' statuses are taken as they are.
    async fn answer(&self, ask: &Ask) -> reqwest::Result<reqwest::Response> {
        if !self.repeats {
            return self.answer_once_more(ask).await;
        }
        let mut last = None;
        for _ in 1..ATTEMPTS {
            let answer = self.builder(ask).send().await;
            match &answer {
                Ok(response) => {
                    let status = response.status().as_u16();
                    let passing = ask.stage >= Stage::Manifest && matches!(status, 500 | 503 | 504);
                    if !passing || last.replace(status) == Some(status) {
                        return answer;
                    }
                }
                Err(error) if broken::is_closed(error) => tokio::time::sleep(AFTER_CLOSED).await,
                Err(_) => return answer,
            }
        }
        self.builder(ask).send().await
    }

    /// The answer of a second connection where the first one was gone: an idle one may be, and nobody has said so.
    async fn answer_once_more(&self, ask: &Ask) -> reqwest::Result<reqwest::Response> {
        let only_reads = matches!(ask.method, Method::GET | Method::HEAD);
        match self.builder(ask).send().await {
            Err(error) if only_reads && broken::is_dropped(&error) => self.builder(ask).send().await,
            answer => answer,
        }
    }

    /// Sends one request and reads the headers of the answer, whatever its status.
    pub(crate) async fn exchange(&self, ask: &Ask) -> Result<Reply, Failure> {
        let request = ask.describe();
        self.progress.ask(&request, ask.stage);
        if ask.url.scheme() != "https" {
            return Err(Failure::new(
                ask.stage,
                Class::Misrouted,
                format!("{request}: refused, not https"),
            ));
        }
        self.guard
            .check(&ask.url)
            .map_err(|error| broken::unresolved(&error, ask.stage, &request))?;
        let proxy = self.guard.proxy_for(&ask.url);
        if proxy.is_some() || !matches!(ask.url.host(), Some(url::Host::Domain(_))) {
            self.progress.reach(Reached::Connect);
        }
        let response = self
            .answer(ask)
            .await
            .map_err(|error| broken::failure(&error, ask.stage, &request))
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
    tls: ClientConfig,
    limits: &Limits,
    progress: &Arc<Progress>,
) -> Result<reqwest::Client, ClientError> {
    let mut builder = reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
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
