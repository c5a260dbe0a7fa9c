//! Everything that can go wrong between us and a registry, as one type.

use std::fmt;
use std::time::Duration;

use catamaran_core::endpoint::{Outcome, Unavailable};

/// How far a request came: the stages of a pull, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// The registry's name is resolved.
    Dns,
    /// TCP connects.
    Connect,
    /// The TLS handshake succeeds.
    Tls,
    /// `/v2/` answers like a registry.
    Challenge,
    /// The cloud gives a token for the identity.
    Identity,
    /// The registry takes it for one of its own.
    Exchange,
    /// The token endpoint issues a token.
    Token,
    /// A page of tags arrives.
    Tags,
    /// A manifest is found.
    Manifest,
    /// The first byte of a blob arrives, through its redirect.
    Blob,
}

impl Stage {
    /// The stage in words, for metrics and messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Stage::Dns => "dns",
            Stage::Connect => "connect",
            Stage::Tls => "tls",
            Stage::Challenge => "challenge",
            Stage::Identity => "identity",
            Stage::Exchange => "exchange",
            Stage::Token => "token",
            Stage::Tags => "tags",
            Stage::Manifest => "manifest",
            Stage::Blob => "blob",
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What kind of failure it is; each kind wants another reaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Class {
    /// What a kubelet calls an outage: no answer, a broken transport, or 5xx.
    Unavailable(Unavailable),
    /// 401: the credential is not accepted, or none is and one is needed.
    Unauthorized,
    /// 403: the identity lacks a right.
    Forbidden,
    /// 401 or 403 for an identity that was never let in: its role is missing, or was granted moments ago.
    WaitingForAuthorization,
    /// There is no credential to ask with: the identity service gives no token, or one that the registry can't read.
    CredentialsUnavailable,
    /// The content is there and locked: nobody may read it, or write it.
    Locked,
    /// The content is there and may not be had: 410, 412, 423 or 451, as for an image that a policy blocks.
    Blocked,
    /// The registry's firewall refuses this network (Azure: `DENIED`, `client with IP ...`).
    NetworkDenied,
    /// 429, or GitHub's 403 for its secondary rate limit.
    Throttled {
        /// How long the registry asks us to wait, at most 5 minutes; `None` when it does not say.
        retry_after: Option<Duration>,
    },
    /// The registry itself says that the manifest or repository does not exist (`MANIFEST_UNKNOWN`, `NAME_UNKNOWN`).
    Absent,
    /// 404 without a registry's word that the thing does not exist.
    NotFound,
    /// The digest that was announced is not the digest of the content.
    LyingDigest,
    /// Asked for by digest, the registry gives out a manifest that has another one.
    UntrustedContent,
    /// A redirect where none may be followed, or more of them than may be.
    Misrouted,
    /// We refuse: a token endpoint that is not admitted for this registry.
    ForeignRealm,
    /// We refuse: an address that no registry may lead us to (loopback, link-local, metadata service, private).
    RefusedAddress,
    /// We refuse: the caller's repository or reference is not one.
    BadReference,
    /// We refuse: a certificate whose CA is not trusted here.
    UntrustedCertificate,
    /// The answer is larger than its cap.
    TooLarge,
    /// Any other answer: 400 or 405, a web page, what is no HTTP.
    Unexpected,
}

/// A request that failed.
///
/// The message is one line, names the request and the cause, and holds no secret: no query strings (redirects to blob
/// storage are signed there), no tokens, no passwords.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// How far the request came.
    pub stage: Stage,
    /// What kind of failure.
    pub class: Class,
    /// The HTTP status, when there was an answer.
    pub status: Option<u16>,
    /// The registry's error code, such as `MANIFEST_UNKNOWN`, when it gave one.
    pub code: Option<String>,
    /// For people: `HEAD https://kracr.azurecr.io/v2/web/manifests/3f2a91c: 503 Service Unavailable`.
    pub message: String,
}

impl Failure {
    pub(crate) fn new(stage: Stage, class: Class, message: String) -> Failure {
        Failure {
            stage,
            class,
            status: None,
            code: None,
            message,
        }
    }

    /// Whether the registry itself said that the manifest or repository does not exist. Every other 404 (a proxy's, a blob
    /// host's, one for a media type we did not ask for) means "unknown".
    pub fn is_absent(&self) -> bool {
        self.class == Class::Absent
    }

    /// What the failure means for the health of the registry.
    ///
    /// What is not understood, and what we ourselves refuse, is no outage: kubelets may well understand it, and go there.
    pub fn outcome(&self) -> Outcome {
        match &self.class {
            Class::Unavailable(why) => Outcome::Unavailable(*why),
            Class::Unauthorized => Outcome::Unauthorized,
            Class::Forbidden => Outcome::Forbidden,
            Class::WaitingForAuthorization => Outcome::WaitingForAuthorization,
            Class::NetworkDenied => Outcome::NetworkDenied,
            Class::Throttled { retry_after } => Outcome::Throttled {
                retry_after: *retry_after,
            },
            Class::Absent | Class::NotFound | Class::BadReference => Outcome::CanaryNotFound,
            Class::Locked | Class::Blocked | Class::LyingDigest | Class::UntrustedContent => Outcome::CanaryBlocked,
            Class::CredentialsUnavailable => Outcome::CredentialsUnavailable,
            Class::ForeignRealm | Class::RefusedAddress | Class::Misrouted => Outcome::RefusedByOperator,
            Class::UntrustedCertificate => Outcome::CertificateNotTrusted,
            Class::TooLarge | Class::Unexpected => Outcome::UnexpectedAnswer,
        }
    }
}

/// Makes foreign text fit for one line of a message: no control, direction or zero-width characters, at most 300 of them.
pub(crate) fn one_line(text: &str) -> String {
    const LONGEST: usize = 300;
    let mut line = String::with_capacity(text.len().min(LONGEST));
    for (taken, character) in text.trim().chars().enumerate() {
        if taken == LONGEST {
            line.push('…');
            break;
        }
        match character {
            '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}' => {}
            other if other.is_control() || other.is_whitespace() => {
                if !line.ends_with(' ') {
                    line.push(' ');
                }
            }
            other => line.push(other),
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_becomes_one_bounded_line() {
        let cases = [
            ("plain", "plain"),
            (" two\r\n\tlines ", "two lines"),
            ("\u{1b}[31mred", " [31mred"),
            ("a\u{202e}b\u{200b}c", "abc"),
        ];
        for (text, line) in cases {
            assert_eq!(one_line(text), line);
        }
        assert_eq!(one_line(&"x".repeat(5000)).chars().count(), 301);
    }

    #[test]
    fn failure_is_an_outage_only_where_nobody_answers() {
        for class in [
            Class::Unauthorized,
            Class::Forbidden,
            Class::WaitingForAuthorization,
            Class::CredentialsUnavailable,
            Class::Locked,
            Class::Blocked,
            Class::NetworkDenied,
            Class::Throttled { retry_after: None },
            Class::Absent,
            Class::NotFound,
            Class::LyingDigest,
            Class::UntrustedContent,
            Class::Misrouted,
            Class::ForeignRealm,
            Class::RefusedAddress,
            Class::BadReference,
            Class::UntrustedCertificate,
            Class::TooLarge,
            Class::Unexpected,
        ] {
            let failure = Failure::new(Stage::Blob, class, String::new());
            assert!(
                !matches!(failure.outcome(), Outcome::Unavailable(_) | Outcome::Reachable),
                "{failure:?}"
            );
        }
    }
}
