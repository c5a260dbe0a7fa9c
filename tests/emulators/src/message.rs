//! What comes in and what goes out.

use std::net::SocketAddr;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::header::ACCEPT;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde_json::{Value, json};
use url::form_urlencoded;

/// One request, with its whole body.
#[derive(Clone, Debug)]
pub struct Request {
    /// The `Host` header, in lower case, with a port if the client gave one.
    pub host: String,
    /// The method.
    pub method: Method,
    /// The path, still encoded as the client sent it.
    pub path: String,
    /// The query, without the question mark.
    pub query: String,
    /// All headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
    /// Where it comes from.
    pub peer: SocketAddr,
}

impl Request {
    /// A header as text; `None` when there is none or it is not ASCII.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Whether a media type is among those that it accepts. The list may be spread over several headers.
    pub fn accepts(&self, media_type: &str) -> bool {
        let lists = self
            .headers
            .get_all(ACCEPT)
            .iter()
            .filter_map(|list| list.to_str().ok());
        let mut types = lists
            .flat_map(|list| list.split(','))
            .map(|one| one.split(';').next().unwrap_or_default().trim());
        types.any(|one| one.eq_ignore_ascii_case(media_type))
    }

    /// The first value of a query parameter.
    pub fn parameter(&self, name: &str) -> Option<String> {
        value(self.query.as_bytes(), name)
    }

    /// All values of a query parameter, in their order.
    pub fn parameters(&self, name: &str) -> Vec<String> {
        values(self.query.as_bytes(), name)
    }

    /// The first value of a field of a posted form.
    pub fn field(&self, name: &str) -> Option<String> {
        value(&self.body, name)
    }

    /// All values of a field of a posted form, in their order.
    pub fn fields(&self, name: &str) -> Vec<String> {
        values(&self.body, name)
    }

    /// The token of `Authorization: Bearer`.
    pub fn bearer(&self) -> Option<&str> {
        self.authorization("bearer")
    }

    /// User name and password of `Authorization: Basic`.
    pub fn basic(&self) -> Option<(String, String)> {
        let decoded = BASE64_STANDARD.decode(self.authorization("basic")?).ok()?;
        let text = String::from_utf8(decoded).ok()?;
        let (user, password) = text.split_once(':')?;
        Some((user.to_owned(), password.to_owned()))
    }

    fn authorization(&self, wanted: &str) -> Option<&str> {
        let (scheme, rest) = self.header("authorization")?.split_once(' ')?;
        scheme.eq_ignore_ascii_case(wanted).then(|| rest.trim())
    }
}

fn value(encoded: &[u8], name: &str) -> Option<String> {
    values(encoded, name).into_iter().next()
}

fn values(encoded: &[u8], name: &str) -> Vec<String> {
    form_urlencoded::parse(encoded)
        .filter(|(key, _)| key == name)
        .map(|(_, value)| value.into_owned())
        .collect()
}

/// One answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// What kind of request this answers, for the log's counters: `"token"`, `"manifest"`, …
    pub kind: &'static str,
    /// The HTTP status.
    pub status: u16,
    /// Its headers; `Content-Length` is added where there is none.
    pub headers: HeaderMap,
    /// Its body; not sent for HEAD.
    pub body: Bytes,
}

impl Answer {
    /// A status and nothing else.
    pub fn status(kind: &'static str, status: u16) -> Answer {
        Answer {
            kind,
            status,
            headers: HeaderMap::new(),
            body: Bytes::new(),
        }
    }

    /// A JSON document.
    pub fn json(kind: &'static str, status: u16, body: &Value) -> Answer {
        let mut answer = Answer::status(kind, status).header("content-type", "application/json; charset=utf-8");
        answer.body = body.to_string().into();
        answer
    }

    /// An error as the distribution specification has it.
    pub fn error(kind: &'static str, status: u16, code: &str, message: &str) -> Answer {
        let body = json!({"errors": [{"code": code, "message": message}]});
        Answer::json(kind, status, &body)
    }

    /// The same answer with a header set.
    ///
    /// # Panics
    ///
    /// When the name or the value can't stand in a header: emulators write their own.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: &str) -> Answer {
        let value = HeaderValue::from_str(value).expect("emulators send printable values");
        self.headers.insert(HeaderName::from_static(name), value);
        self
    }

    /// The same answer with a body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Bytes>) -> Answer {
        self.body = body.into();
        self
    }

    /// The same answer counted as another kind of request.
    #[must_use]
    pub fn kind(mut self, kind: &'static str) -> Answer {
        self.kind = kind;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_accepted_may_stand_in_one_header_or_in_several() {
        let mut request = Request {
            host: String::new(),
            method: Method::HEAD,
            path: String::new(),
            query: String::new(),
            headers: HeaderMap::new(),
            body: Bytes::new(),
            peer: SocketAddr::from(([127, 0, 0, 1], 1)),
        };
        assert!(!request.accepts("application/a"));
        let mut accept = |list| request.headers.append(ACCEPT, HeaderValue::from_static(list));
        accept("application/a;q=0.5, application/b");
        accept("application/C+json");
        for accepted in ["application/a", "application/b", "application/c+json"] {
            assert!(request.accepts(accepted), "{accepted}");
        }
        assert!(!request.accepts("application/c"));
    }
}
