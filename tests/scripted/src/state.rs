//! What the registry is told and what it remembers.

use std::collections::HashMap;
use std::sync::atomic::AtomicUsize;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use http::Method;

use crate::content::Content;
use crate::fault::{Fault, What};

/// How clients must authenticate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Auth {
    /// Not at all.
    Open,
    /// With the account itself.
    Basic,
    /// With a token.
    Bearer {
        /// The token endpoint that challenges name; `None`: this registry's own, `/oauth2/token` under an Azure name, else
        /// `/token`.
        realm: Option<String>,
        /// The `expires_in` of its tokens.
        expires_in: Option<i64>,
    },
}

impl Default for Auth {
    fn default() -> Auth {
        Auth::Bearer {
            realm: None,
            expires_in: None,
        }
    }
}

/// What happens below HTTP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wire {
    /// TLS, as it should be.
    #[default]
    Normal,
    /// Connections are accepted, and nothing is ever said.
    Silent,
    /// Connections are closed at once.
    Close,
    /// Connections are reset at once.
    Reset,
    /// The answer to the TLS handshake is plain HTTP.
    Plain,
    /// TLS, or HTTP without it: as the client begins.
    PlainToo,
    /// TLS 1.2 at most.
    Tls12,
    /// HTTP/2 where the client offers it, which ends each connection before an answer; HTTP/1.1 works.
    BrokenHttp2,
    /// The answer to each request is another protocol's.
    Garbage,
}

/// One request as it came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// `Host`.
    pub host: String,
    /// The method.
    pub method: Method,
    /// The path, without the query.
    pub path: String,
    /// The query.
    pub query: String,
    /// `Authorization`.
    pub authorization: Option<String>,
    /// `Accept`.
    pub accept: Option<String>,
    /// `Range`.
    pub range: Option<String>,
    /// `Content-Type`.
    pub content_type: Option<String>,
    /// Whether the client showed a certificate that was asked for.
    pub certified: bool,
    /// The body, where it is text of less than 64 KiB.
    pub body: String,
    /// Bytes of the body.
    pub length: usize,
}

#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a switch of its own that a script turns"
)]
pub(crate) struct Behaviour {
    pub(crate) auth: Auth,
    pub(crate) account: Option<(String, String)>,
    /// What stands before its repositories' names in scopes.
    pub(crate) scope_prefix: String,
    pub(crate) own_realms: bool,
    pub(crate) page_size: usize,
    pub(crate) links: bool,
    pub(crate) blob_host: Option<String>,
    pub(crate) mounts: bool,
    pub(crate) referrers: bool,
    pub(crate) locations: bool,
    pub(crate) latency: Duration,
    pub(crate) wire: Wire,
    pub(crate) faults: Vec<Fault>,
}

impl Behaviour {
    /// What a repository is called in scopes.
    pub(crate) fn name_of(&self, repository: &str) -> String {
        format!("{}{repository}", self.scope_prefix)
    }

    /// Whether a connection may have to end with a reset.
    pub(crate) fn resets(&self) -> bool {
        self.faults.iter().any(Fault::resets)
    }
}

impl Default for Behaviour {
    fn default() -> Behaviour {
        Behaviour {
            auth: Auth::default(),
            account: None,
            scope_prefix: String::new(),
            own_realms: false,
            page_size: 1000,
            links: true,
            blob_host: None,
            mounts: true,
            referrers: false,
            locations: true,
            latency: Duration::ZERO,
            wire: Wire::Normal,
            faults: Vec::new(),
        }
    }
}

#[derive(Default)]
pub(crate) struct State {
    content: Mutex<Content>,
    behaviour: Mutex<Behaviour>,
    pub(crate) requests: Mutex<Vec<Recorded>>,
    /// Tokens and the scopes they are for.
    pub(crate) tokens: Mutex<HashMap<String, Vec<String>>>,
    pub(crate) issued: AtomicUsize,
    pub(crate) connections: AtomicUsize,
}

impl State {
    pub(crate) fn content<T>(&self, act: impl FnOnce(&mut Content) -> T) -> T {
        act(&mut self.content.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn behaviour<T>(&self, act: impl FnOnce(&mut Behaviour) -> T) -> T {
        act(&mut self.behaviour.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn record(&self, request: Recorded) {
        self.requests
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(request);
    }

    pub(crate) fn fault(&self, request: &Recorded) -> Option<What> {
        self.behaviour(|behaviour| {
            behaviour
                .faults
                .iter_mut()
                .find_map(|fault| fault.meet(&request.host, &request.method, &request.path))
        })
    }
}
