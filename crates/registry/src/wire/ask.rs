//! One request, before it is sent.

use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method};
use url::Url;

use crate::wire::failure::Stage;
use crate::wire::secret::Secret;

/// What a request wants to do with its repository.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Access {
    /// Read it.
    #[default]
    Read,
    /// Write it.
    Write,
    /// Write it with a blob of another repository of the same registry.
    Mount {
        /// The other repository.
        from: String,
    },
}

/// Content that comes in pieces. An error among them breaks the request off.
pub(crate) struct Stream {
    /// Bytes of all pieces together.
    pub(crate) length: u64,
    pub(crate) pieces: tokio::sync::mpsc::Receiver<Result<Bytes, std::io::Error>>,
}

/// One request.
pub(crate) struct Ask {
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) stage: Stage,
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
    /// Content that comes while it is sent. The sender of the request takes it, so that such a request is never repeated.
    pub(crate) stream: Option<Mutex<Option<Stream>>>,
    /// For the request with its answer's body, when [`crate::Limits::total`] won't do.
    pub(crate) time: Option<Duration>,
}

impl Ask {
    pub(crate) fn new(method: Method, url: Url, stage: Stage) -> Ask {
        Ask {
            method,
            url,
            stage,
            accept: None,
            authorization: None,
            first_byte: false,
            form: None,
            access: Access::Read,
            headers: HeaderMap::new(),
            body: None,
            stream: None,
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
