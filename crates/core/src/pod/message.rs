//! What the kubelet says when a pull fails.
//!
//! The kubelet passes on what the container runtime says, so the same failure has many wordings: containerd 1.7 and 2.x put
//! the reference between quotes (`failed to pull and unpack image "REF": ...`), CRI-O writes it as a URL
//! (`initializing source docker://REF: ...`) or splits it (`reading manifest TAG in REPOSITORY: ...`), and the kubelet itself
//! puts `Back-off pulling image "REF": ` in front of the last failure, or `image pull failed for REF because ...` around it.

use std::borrow::Cow;

use crate::endpoint::Unavailable;
use crate::reference::{Reference, same_registry};

/// The classes of pull failures, by what would help.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PullFailure {
    /// The registry answered that it has no such manifest or blob.
    NotFound,
    /// The registry accepts no credential that the node offered, or wants one.
    Unauthorized,
    /// The registry limits the rate of requests.
    Throttled,
    /// No connection, or one that broke or timed out.
    Connection,
    /// The registry answered with a 5xx.
    ServerError,
    /// The TLS handshake failed.
    Tls,
    /// The registry's name was not resolved.
    Dns,
    /// The node's policy does not accept the image's signature.
    SignatureInvalid,
    /// Anything else, also a failure that says nothing of its cause.
    Other,
}

/// The words that tell each class, the most telling class first: a message that names a cause on the way to the registry
/// may go on to say which request it was for.
///
/// A message repeats the image, which the author of the pod chooses. So words that make an outage have a space where
/// no name in any of the wordings has one.
const WORDS: &[(PullFailure, &[&str])] = &[
    (
        PullFailure::SignatureInvalid,
        &[
            "SignatureValidationFailed",
            "signature validation failed",
            "Source image rejected",
        ],
    ),
    (
        PullFailure::Dns,
        &[
            "no such host",
            "server misbehaving",
            "name resolution",
            "dial tcp: lookup ",
        ],
    ),
    (
        PullFailure::Connection,
        &[
            "TLS handshake timeout",
            "i/o timeout",
            "connection refused",
            "connection reset",
            "connection timed out",
            "no route to host",
            "network is unreachable",
            "deadline exceeded",
            "code = DeadlineExceeded",
            "context canceled",
            "net/http: timeout",
            "(Client.Timeout ",
            "broken pipe",
            "connection lost",
            "closed network connection",
            "unexpected EOF",
            ": EOF",
            "registry is unavailable",
        ],
    ),
    (
        PullFailure::Tls,
        &[" x509: ", " tls: ", "server gave HTTP response to HTTPS client"],
    ),
    (
        PullFailure::Throttled,
        &[
            "429 Too Many Requests",
            "toomanyrequests",
            "TOOMANYREQUESTS",
            "StatusCode: 429",
        ],
    ),
    (
        PullFailure::ServerError,
        &[
            "500 Internal Server Error",
            "502 Bad Gateway",
            "503 Service Unavailable",
            "504 Gateway Time",
            "StatusCode: 5",
        ],
    ),
    (
        PullFailure::Unauthorized,
        &[
            "401 Unauthorized",
            "403 Forbidden",
            "StatusCode: 401",
            "StatusCode: 403",
            "unauthorized",
            "UNAUTHORIZED",
            "authentication required",
            "authorization failed",
            "no basic auth credentials",
            "invalid username/password",
            "access denied",
            "access to the resource is denied",
            "insufficient_scope",
            "denied: ",
        ],
    ),
    (
        PullFailure::NotFound,
        &[
            "code = NotFound",
            "404 Not Found",
            "StatusCode: 404",
            "manifest unknown",
            "manifest_unknown",
            "MANIFEST_UNKNOWN",
            "name unknown",
            "NAME_UNKNOWN",
            "repository name not known",
            ": not found",
        ],
    ),
];

/// A pull that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FailedAttempt {
    /// How.
    pub failure: PullFailure,
    /// Whether it failed just now. Otherwise the kubelet waits before the next attempt, and the failure may be minutes old.
    pub is_new: bool,
}

impl PullFailure {
    /// What such a failure says of the registry; none where it is about the image or the credential.
    pub const fn outage(self) -> Option<Unavailable> {
        match self {
            PullFailure::Connection => Some(Unavailable::ConnectionFailed),
            PullFailure::ServerError => Some(Unavailable::ServerError),
            PullFailure::Tls => Some(Unavailable::TlsError),
            PullFailure::Dns => Some(Unavailable::DnsFailure),
            PullFailure::NotFound
            | PullFailure::Unauthorized
            | PullFailure::Throttled
            | PullFailure::SignatureInvalid
            | PullFailure::Other => None,
        }
    }

    /// The class of what a waiting container reports; none when its reason is no failed pull.
    ///
    /// A back-off is of the class of the failure that it follows, as far as the kubelet repeats it: kubelets before 1.32
    /// don't.
    pub fn of(reason: &str, message: &str) -> Option<PullFailure> {
        match reason {
            "SignatureValidationFailed" => return Some(PullFailure::SignatureInvalid),
            "ErrImagePull" | "ImagePullBackOff" | "RegistryUnavailable" => {}
            _ => return None,
        }
        // CRI-O tries what is no image once more, as an artifact, and reports both.
        let message = message
            .split_once("; artifact err: ")
            .map_or(message, |(first, _)| first);
        let says = |words: &[&str]| words.iter().any(|word| message.contains(word));
        let told = WORDS.iter().find(|(_, words)| says(words)).map(|(class, _)| *class);
        let untold = if reason == "RegistryUnavailable" {
            PullFailure::Connection
        } else {
            PullFailure::Other
        };
        Some(told.unwrap_or(untold))
    }
}

/// The image that a pull failure names first. Runtimes write names in full where the pod's spec may be short.
pub fn failed_image(message: &str) -> Option<Cow<'_, str>> {
    quoted(message)
        .or_else(|| unquoted(message))
        .or_else(|| url(message))
        .map(Cow::Borrowed)
        .or_else(|| manifest(message).map(Cow::Owned))
}

/// Whether two references mean the same image.
pub fn same_image(a: &str, b: &str) -> bool {
    if a == b {
        return true;
    }
    match (Reference::parse(a), Reference::parse(b)) {
        (Ok(a), Ok(b)) => {
            same_registry(a.registry(), b.registry())
                && a.repository() == b.repository()
                && a.digest() == b.digest()
                // A runtime drops the tag in front of a digest.
                && (a.digest().is_some() || a.effective_tag() == b.effective_tag())
        }
        _ => false,
    }
}

/// `... image "REF" ...`, whose quotes may be escaped where a message was quoted once more.
fn quoted(message: &str) -> Option<&str> {
    let (_, rest) = message
        .split_once("image \"")
        .or_else(|| message.split_once("image \\\""))?;
    let end = rest.find('"')?;
    Some(rest[..end].trim_end_matches('\\'))
}

/// `image pull failed for REF because ...`
fn unquoted(message: &str) -> Option<&str> {
    let (_, rest) = message.split_once("image pull failed for ")?;
    rest.split_once(" because ").map(|(image, _)| image)
}

/// `... docker://REF: ...`
fn url(message: &str) -> Option<&str> {
    let (_, rest) = message.split_once("docker://")?;
    let word = rest.split_ascii_whitespace().next()?;
    Some(word.trim_end_matches([':', ';', ',', '"']))
}

/// `... reading manifest TAG in REPOSITORY: ...`, or a digest in place of the tag.
fn manifest(message: &str) -> Option<String> {
    let (_, rest) = message.split_once("reading manifest ")?;
    let mut words = rest.split_ascii_whitespace();
    let (tag, repository) = (words.next()?, words.nth(1)?);
    let separator = if tag.contains(':') { '@' } else { ':' };
    Some(format!("{}{separator}{tag}", repository.trim_end_matches(':')))
}

#[cfg(test)]
mod tests;
