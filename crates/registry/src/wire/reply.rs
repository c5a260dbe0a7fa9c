//! One answer, whose body is read within bounds.

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, LOCATION};
use http::{HeaderMap, StatusCode};
use url::Url;

use crate::wire::ask::Ask;
use crate::wire::broken;
use crate::wire::failure::{Class, Failure, Stage};
use crate::wire::mask::Sent;

/// An answer whose body was not read yet.
pub(crate) struct Reply {
    response: reqwest::Response,
    pub(crate) request: String,
    pub(crate) stage: Stage,
    /// What must not be shown of the answer.
    pub(crate) sent: Sent,
}

impl Reply {
    /// The answer to a request, which `request` tells in words.
    pub(crate) fn new(response: reqwest::Response, ask: &Ask, request: String) -> Reply {
        Reply {
            response,
            request,
            stage: ask.stage,
            sent: Sent::with(ask),
        }
    }

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
            stage: self.stage,
            class,
            status: Some(self.status().as_u16()),
            code: None,
            message,
        }
    }

    /// "This is not how a registry answers".
    pub(crate) fn not_a_registry(&self, why: &str) -> Failure {
        let message = format!("{}: not a registry's answer: {why}", self.request);
        self.failure(Class::Unexpected, message)
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
            match chunk.map_err(|error| broken::failure(&error, self.stage, &self.request))? {
                None => return Ok(body.freeze()),
                Some(chunk) if body.len() as u64 + chunk.len() as u64 > most => return Err(self.too_large(most)),
                Some(chunk) => body.extend_from_slice(&chunk),
            }
        }
    }

    /// The next piece of the body, as it comes from the network; the caller counts.
    pub(crate) async fn piece(&mut self) -> Result<Option<Bytes>, Failure> {
        let piece = self.response.chunk().await;
        piece.map_err(|error| broken::failure(&error, self.stage, &self.request))
    }

    /// The announced length of the body.
    pub(crate) fn length(&self) -> Option<u64> {
        self.response.content_length()
    }

    /// Reads until the first byte has come.
    pub(crate) async fn first_byte(mut self) -> Result<(), Failure> {
        loop {
            let chunk = self.response.chunk().await;
            match chunk.map_err(|error| broken::failure(&error, self.stage, &self.request))? {
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
