//! What availability is called in conditions. The words of each kind are always the same.

use catamaran_core::endpoint::{Unavailable, UnknownReason};

/// Stable words for how a registry fails: the varying text of each failure goes to Events and logs.
pub(super) fn unavailable(how: Unavailable) -> &'static str {
    match how {
        Unavailable::DnsFailure => "is unavailable: its name does not resolve",
        Unavailable::ConnectionFailed => "is unavailable: the connection fails",
        Unavailable::TlsError => "is unavailable: the TLS handshake fails, or its certificate is not valid",
        Unavailable::Timeout => "is unavailable: it does not answer in time",
        Unavailable::ServerError => "is unavailable: it answers with server errors",
        Unavailable::Unauthorized => {
            "does not accept the operator's credential (401), which healthCheck.triggers counts as unavailable"
        }
        Unavailable::Forbidden => {
            "forbids the operator to pull (403), which healthCheck.triggers counts as unavailable"
        }
        Unavailable::NetworkDenied => {
            "denies this network (its firewall), which healthCheck.triggers counts as unavailable"
        }
        Unavailable::RateLimited => {
            "limits the operator's requests (429), which healthCheck.triggers counts as unavailable"
        }
    }
}

/// Likewise for how pulls fail on nodes.
pub(super) fn pulls_fail(how: Unavailable) -> &'static str {
    match how {
        Unavailable::DnsFailure => "its name does not resolve",
        Unavailable::TlsError => "the TLS handshake fails",
        Unavailable::ServerError => "it answers with server errors",
        _ => "the connection fails",
    }
}

/// Likewise for why nothing can be said about it.
pub(super) fn unknown(why: UnknownReason) -> &'static str {
    match why {
        UnknownReason::Unauthorized => {
            "does not accept the operator's credential (401). Not an outage. Fix the Secret or the identity"
        }
        UnknownReason::Forbidden => {
            "forbids the operator to pull (403). Not an outage. Grant the identity the right to pull"
        }
        UnknownReason::NetworkDenied => {
            "denies this network (its firewall). Not an outage. Allow the cluster's egress IP"
        }
        UnknownReason::RateLimited => "limits the operator's requests (429). Not an outage. Probes are slowed down",
        UnknownReason::CanaryNotFound => {
            "answers, but lacks the image that probes ask for. Another image is chosen by the next comparison"
        }
        UnknownReason::CanaryBlocked => {
            "answers, but does not serve the image that probes ask for. Another image is chosen where there is one"
        }
        UnknownReason::UnexpectedAnswer => {
            "gives an answer that is not understood. Not an outage. Nodes may be able to pull"
        }
        UnknownReason::RefusedByOperator => {
            "leads to a place that the operator refuses to contact. Not an outage. Nodes may go there"
        }
        UnknownReason::CertificateNotTrusted => {
            "shows a certificate whose CA the operator does not trust. Not an outage. Name a Secret with the CA in certSecretRef"
        }
        UnknownReason::CredentialsUnavailable => {
            "can't be probed: the operator's credential for it can't be read or obtained"
        }
        UnknownReason::WaitingForAuthorization => {
            "has not let the operator's identity in yet: a role may take minutes to be effective, or is missing"
        }
        UnknownReason::NotYetObserved => "has not been probed yet",
    }
}
