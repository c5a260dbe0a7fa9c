//! How the registry misbehaves.

use std::time::Duration;

use http::Method;

/// A fault: which requests it meets, how many of them, and what happens to them.
#[derive(Clone, Debug)]
pub struct Fault {
    path: String,
    exact: bool,
    host: Option<String>,
    method: Option<Method>,
    times: Option<usize>,
    one_in: usize,
    met: usize,
    what: What,
}

/// What happens to a request.
#[derive(Clone, Debug)]
pub enum What {
    /// This answer instead of the right one.
    Answer {
        /// The status.
        status: u16,
        /// Headers, names and values.
        headers: Vec<(String, String)>,
        /// The body.
        body: String,
    },
    /// The right answer, with these headers besides or instead of its own; an empty value removes the header.
    Headers(Vec<(String, String)>),
    /// The right answer, so much later.
    Slow(Duration),
    /// This status for requests of a range; the right answer for others.
    NoRange(u16),
    /// No answer at all.
    Hang,
    /// The connection ends with a reset.
    Reset,
    /// The connection ends.
    Close,
    /// The right headers, then half of the body and the end of the connection.
    Truncated,
    /// The right headers, then the body, one byte in so long.
    Drip(Duration),
    /// The right answer announced as so many bytes, followed by silence.
    Announced(u64),
    /// Pages without end, each with new tags.
    EndlessPages,
    /// A second page that is the first one.
    CircularPages,
    /// Pages without end, each as large as a page may be, of long names, with a long link to the next one.
    FatPages,
    /// The right headers without a length, then a body without end.
    EndlessBody,
    /// For requests that carry a credential or a body: this status, with everything that they carried repeated in the error and in each header that a client reads:
    /// credentials as they came and decoded.
    Echo(u16),
}

impl What {
    /// A bare status.
    pub fn status(status: u16) -> What {
        What::Answer {
            status,
            headers: Vec::new(),
            body: String::new(),
        }
    }

    /// A status and the error body of the distribution specification.
    pub fn error(status: u16, code: &str, message: &str) -> What {
        let body = serde_json::json!({ "errors": [{ "code": code, "message": message }] }).to_string();
        What::Answer {
            status,
            headers: vec![("content-type".to_owned(), "application/json".to_owned())],
            body,
        }
    }

    /// A status and a page of HTML.
    pub fn html(status: u16) -> What {
        let headers = vec![("content-type".to_owned(), "text/html; charset=utf-8".to_owned())];
        What::Answer {
            status,
            headers,
            body: "<!DOCTYPE html><title>Sign in</title>".to_owned(),
        }
    }

    /// Status 200 and a JSON body.
    pub fn json(body: &str) -> What {
        let headers = vec![("content-type".to_owned(), "application/json".to_owned())];
        What::Answer {
            status: 200,
            headers,
            body: body.to_owned(),
        }
    }

    /// A redirect.
    pub fn redirect(status: u16, location: &str) -> What {
        What::Answer {
            status,
            headers: vec![("location".to_owned(), location.to_owned())],
            body: String::new(),
        }
    }

    /// 429, with a `Retry-After` if one is given.
    pub fn throttled(retry_after: Option<&str>) -> What {
        let headers = retry_after
            .map(|wait| ("retry-after".to_owned(), wait.to_owned()))
            .into_iter()
            .collect();
        What::Answer {
            status: 429,
            headers,
            body: String::new(),
        }
    }

    /// 401 with this `WWW-Authenticate`.
    pub fn challenge(value: &str) -> What {
        let headers = vec![("www-authenticate".to_owned(), value.to_owned())];
        What::Answer {
            status: 401,
            headers,
            body: String::new(),
        }
    }

    /// The right answer with another `Docker-Content-Digest`; empty: none.
    pub fn digest(value: &str) -> What {
        What::Headers(vec![("docker-content-digest".to_owned(), value.to_owned())])
    }
}

impl Fault {
    /// A fault for every request whose path has `path` in it.
    pub fn on(path: &str, what: What) -> Fault {
        Fault {
            path: path.to_owned(),
            exact: false,
            host: None,
            method: None,
            times: None,
            one_in: 1,
            met: 0,
            what,
        }
    }

    /// A fault for requests of exactly this path.
    pub fn at(path: &str, what: What) -> Fault {
        Fault {
            exact: true,
            ..Fault::on(path, what)
        }
    }

    /// Only for requests to this host.
    #[must_use]
    pub fn host(mut self, host: &str) -> Fault {
        self.host = Some(host.to_owned());
        self
    }

    /// Only for this method.
    #[must_use]
    pub fn method(mut self, method: Method) -> Fault {
        self.method = Some(method);
        self
    }

    /// Only so many times.
    #[must_use]
    pub fn times(mut self, times: usize) -> Fault {
        self.times = Some(times);
        self
    }

    /// Only for the first of every so many requests.
    #[must_use]
    pub fn one_in(mut self, requests: usize) -> Fault {
        self.one_in = requests.max(1);
        self
    }

    pub(crate) fn resets(&self) -> bool {
        matches!(self.what, What::Reset)
    }

    /// Counts a request, and says what happens to it if it is met.
    pub(crate) fn meet(&mut self, host: &str, method: &Method, path: &str) -> Option<What> {
        let named = if self.exact {
            path == self.path
        } else {
            path.contains(&self.path)
        };
        let matches = named
            && self.host.as_deref().is_none_or(|wanted| wanted == host)
            && self.method.as_ref().is_none_or(|wanted| wanted == method);
        if !matches || self.times == Some(0) {
            return None;
        }
        self.met += 1;
        if !(self.met - 1).is_multiple_of(self.one_in) {
            return None;
        }
        self.times = self.times.map(|times| times - 1);
        Some(self.what.clone())
    }
}
