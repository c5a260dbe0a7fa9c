//! One bounded HTTP request.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, LOCATION, RANGE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use reqwest::redirect::Policy;
use url::Url;

use crate::broken;
use crate::client::ClientError;
use crate::connection::Limits;
use crate::dns::{Guard, Resolver};
use crate::failure::{Class, Failure, Rung, one_line};
use crate::mask::Sent;
use crate::provider::Access;
use crate::secret::Secret;
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

/// One request.
pub(crate) struct Ask {
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) rung: Rung,
    pub(crate) accept: Option<&'static str>,
    pub(crate) authorization: Option<HeaderValue>,
    /// Ask for the first byte only.
    pub(crate) first_byte: bool,
    /// A form to post.
    pub(crate) form: Option<Secret<String>>,
    /// What it wants to do with the repository.
    pub(crate) access: Access,
    /// Further headers, for interfaces that want them.
    pub(crate) headers: HeaderMap,
    /// Content to send, its type among `headers`.
    pub(crate) body: Option<Bytes>,
    /// For the request with its answer's body, when [`Limits::total`] won't do.
    pub(crate) time: Option<Duration>,
}

impl Ask {
    pub(crate) fn new(method: Method, url: Url, rung: Rung) -> Ask {
        Ask {
            method,
            url,
            rung,
            accept: None,
            authorization: None,
            first_byte: false,
            form: None,
            access: Access::Read,
            headers: HeaderMap::new(),
            body: None,
            time: None,
        }
    }

    /// The request in words, without the query: redirects to blob storage carry signatures there.
    pub(crate) fn describe(&self) -> String {
        let mut shown = self.url.clone();
        shown.set_query(None);
        shown.set_fragment(None);
        let _ = shown.set_username("");
        let _ = shown.set_password(None);
        format!("{} {shown}", self.method)
    }
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
        let reply = Reply {
            response,
            request,
            rung: ask.rung,
            sent: Sent::with(ask),
        };
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

/// An answer whose body was not read yet.
pub(crate) struct Reply {
    response: reqwest::Response,
    pub(crate) request: String,
    pub(crate) rung: Rung,
    /// What must not be shown of the answer.
    pub(crate) sent: Sent,
}

impl Reply {
    pub(crate) fn status(&self) -> StatusCode {
        self.response.status()
    }

    pub(crate) fn headers(&self) -> &HeaderMap {
        self.response.headers()
    }

    pub(crate) fn header(&self, name: impl http::header::AsHeaderName) -> Option<&str> {
        self.headers().get(name)?.to_str().ok()
    }

    pub(crate) fn url(&self) -> &Url {
        self.response.url()
    }

    /// Where a redirect leads, resolved against the request.
    pub(crate) fn location(&self) -> Option<Url> {
        if !matches!(self.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
            return None;
        }
        self.url().join(self.header(LOCATION)?).ok()
    }

    /// Whether the answer calls itself a web page: what captive portals and proxies give.
    pub(crate) fn is_html(&self) -> bool {
        let kind = self.header(CONTENT_TYPE).unwrap_or_default().to_ascii_lowercase();
        kind.starts_with("text/html") || kind.starts_with("application/xhtml")
    }

    /// A failure of this answer; `message` names the request already.
    pub(crate) fn failure(&self, class: Class, message: String) -> Failure {
        Failure {
            rung: self.rung,
            class,
            status: Some(self.status().as_u16()),
            code: None,
            message,
        }
    }

    /// "This is not how a registry answers".
    pub(crate) fn not_a_registry(&self, why: &str) -> Failure {
        let message = format!("{}: not a registry's answer: {why}", self.request);
        self.failure(
            Class::Unavailable(catamaran_core::health::Unavailable::ServerError),
            message,
        )
    }

    /// Reads the body, at most `most` bytes; an announced length beyond that is refused before reading.
    pub(crate) async fn body(mut self, most: u64) -> Result<Bytes, Failure> {
        let encoding = self.header(CONTENT_ENCODING).unwrap_or("identity");
        if !encoding.eq_ignore_ascii_case("identity") {
            return Err(self.not_a_registry("its content is encoded, which we did not ask for"));
        }
        let announced = self.response.content_length();
        if announced.is_some_and(|length| length > most) {
            return Err(self.too_large(most));
        }
        let mut body = BytesMut::with_capacity(usize::try_from(announced.unwrap_or(0)).unwrap_or(0));
        loop {
            let chunk = self.response.chunk().await;
            match chunk.map_err(|error| broken::failure(&error, self.rung, &self.request))? {
                None => return Ok(body.freeze()),
                Some(chunk) if body.len() as u64 + chunk.len() as u64 > most => return Err(self.too_large(most)),
                Some(chunk) => body.extend_from_slice(&chunk),
            }
        }
    }

    /// The next piece of the body, as it comes from the network; the caller counts.
    pub(crate) async fn piece(&mut self) -> Result<Option<Bytes>, Failure> {
        let piece = self.response.chunk().await;
        piece.map_err(|error| broken::failure(&error, self.rung, &self.request))
    }

    /// The announced length of the body.
    pub(crate) fn length(&self) -> Option<u64> {
        self.response.content_length()
    }

    /// Reads until the first byte has come.
    pub(crate) async fn first_byte(mut self) -> Result<(), Failure> {
        loop {
            let chunk = self.response.chunk().await;
            match chunk.map_err(|error| broken::failure(&error, self.rung, &self.request))? {
                Some(chunk) if chunk.is_empty() => {}
                Some(_) => return Ok(()),
                None => return Err(self.not_a_registry("the blob is empty")),
            }
        }
    }

    fn too_large(&self, most: u64) -> Failure {
        let message = format!("{}: an answer of more than {most} bytes", self.request);
        self.failure(Class::TooLarge, message)
    }
}
