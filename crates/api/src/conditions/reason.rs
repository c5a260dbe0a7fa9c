//! The reasons of conditions, each with what it means: docs/reference/conditions.md is made of these words.
//!
//! A reason that a decision already has a word for is that word: nothing here spells it again.

// Shown as plain text in docs/reference.
#![allow(clippy::doc_markdown)]

use catamaran_core::endpoint::{Availability, Unavailable, UnknownReason};
use catamaran_core::mirror::failover::{FlipReason, Reason};

use crate::words::words;

words! {
    /// Every reason with what it means.
    ALL:

    /// The primary is active. No problems detected.
    SERVING_FROM_PRIMARY = "ServingFromPrimary";
    /// The fallback is active. No problems detected with it; the message says what failback waits for.
    SERVING_FROM_FALLBACK = "ServingFromFallback";
    /// Neither side is available. Pods stay with the side they were sent to.
    BOTH_UNAVAILABLE = Reason::BothUnavailable.as_str();
    /// The active side is unavailable. The other one is not known to be available, or spec.active keeps the side.
    ACTIVE_UNAVAILABLE = "ActiveUnavailable";
    /// Pods on several nodes can't pull from the active side, and the other side is no place to go, or healthCheck.onPullsFailing is
    /// Report. Of a change of the active side: this was the reason.
    PULLS_FAILING = FlipReason::PullsFailing.as_str();
    /// No pulls from the active side that failed, or too few of them: fewer than three pods, or on one node of several.
    NO_PULL_FAILURES = "NoPullFailures";
    /// Probes of the active side say nothing about it: see its own condition for what they find. Pods stay with it.
    ACTIVE_UNKNOWN = "ActiveUnknown";
    /// Nothing has been observed yet.
    NOT_YET_OBSERVED = UnknownReason::NotYetObserved.as_str();
    /// spec.suspend is set: nothing is probed or verified, and pods keep the images they have.
    SUSPENDED = "Suspended";

    /// The registry serves the manifest and the blob that are probed for.
    REACHABLE = Availability::Available.as_str();
    /// The registry is reachable from the nodes of some of the operator's replicas and not from others: the network of a node, or
    /// what the registry's firewall lets in. Not an outage of the registry; nothing flips because of it.
    PARTIALLY_REACHABLE = Reason::PartiallyReachable.as_str();
    /// The connection was refused or reset.
    CONNECTION_FAILED = Unavailable::ConnectionFailed.as_str();
    /// The TLS handshake failed, or the certificate has expired or is not valid for the name.
    TLS_ERROR = Unavailable::TlsError.as_str();
    /// The registry's name does not resolve.
    DNS_FAILURE = Unavailable::DnsFailure.as_str();
    /// The registry did not answer before the timeout.
    TIMEOUT = Unavailable::Timeout.as_str();
    /// The registry, its token endpoint or its blob host answered with a server error (5xx).
    SERVER_ERROR = Unavailable::ServerError.as_str();
    /// The credentials are not accepted (401). Not an outage unless healthCheck.triggers lists Unauthorized. Fix the Secret or the
    /// identity.
    UNAUTHORIZED = UnknownReason::Unauthorized.as_str();
    /// Access is denied (403): a right is missing. Of FallbackProven: the operator may not make pods. For a registry, not an outage unless healthCheck.triggers lists Forbidden.
    FORBIDDEN = UnknownReason::Forbidden.as_str();
    /// The registry's firewall refuses this network (403). The message has the addresses that it saw. Not an outage unless
    /// healthCheck.triggers lists Forbidden.
    NETWORK_DENIED = UnknownReason::NetworkDenied.as_str();
    /// The registry throttles requests (429). Fewer are sent until it stops. Not an outage unless healthCheck.triggers lists Throttled.
    RATE_LIMITED = UnknownReason::RateLimited.as_str();
    /// The registry answers and does not have the image that is probed for. Another one is chosen.
    CANARY_NOT_FOUND = UnknownReason::CanaryNotFound.as_str();
    /// The registry answers and does not serve the image that is probed for: a policy or a lock forbids it, or its content is not what
    /// its digest says. Another one is chosen.
    CANARY_BLOCKED = UnknownReason::CanaryBlocked.as_str();
    /// The registry's answer is neither a success nor a server error and is not understood: a web page, a token endpoint without a
    /// token, a redirect that leads nowhere. Not an outage: nodes may be able to pull.
    UNEXPECTED_ANSWER = UnknownReason::UnexpectedAnswer.as_str();
    /// The registry leads to a place that the operator refuses to contact: plain HTTP, an address on this machine or a private one, a
    /// token endpoint that is not admitted, or redirects without end. Not an outage: nodes may go there.
    REFUSED_BY_OPERATOR = UnknownReason::RefusedByOperator.as_str();
    /// A certificate's CA is not trusted by the operator. Not an outage: nodes may trust it. Put the CA into the Secret that
    /// certSecretRef names.
    CERTIFICATE_NOT_TRUSTED = UnknownReason::CertificateNotTrusted.as_str();
    /// The operator's credentials can't be read, or the identity service issues no token for them.
    CREDENTIALS_UNAVAILABLE = UnknownReason::CredentialsUnavailable.as_str();
    /// The operator's identity has no role at the registry yet. A role that was granted takes effect within minutes.
    WAITING_FOR_AUTHORIZATION = UnknownReason::WaitingForAuthorization.as_str();

    /// Every verified tag has the same digest on both sides.
    TAGS_MATCH = "TagsMatch";
    /// Tags are missing on one side or differ: see status.divergences.
    TAGS_DIFFER = "TagsDiffer";
    /// A manifest, a config or a layer of a tag is missing on a side, so that it can't be pulled from there: see status.broken.
    BROKEN = "Broken";
    /// A registry serves a manifest that does not have the digest it was asked for by: see status.untrusted.
    UNTRUSTED = "Untrusted";
    /// The first comparison is not complete.
    VERIFYING = "Verifying";
    /// The primary's tags can't be read.
    PRIMARY_UNREACHABLE = "PrimaryUnreachable";
    /// The fallback's tags can't be read.
    FALLBACK_UNREACHABLE = "FallbackUnreachable";

    /// The active side never changed.
    NEVER_FAILED_OVER = "NeverFailedOver";
    /// The last change: the primary failed.
    PRIMARY_UNAVAILABLE = FlipReason::PrimaryUnavailable.as_str();
    /// The last change: the fallback failed while it was active.
    FALLBACK_UNAVAILABLE = FlipReason::FallbackUnavailable.as_str();
    /// The last change: the primary recovered and was verified.
    PRIMARY_RECOVERED = FlipReason::PrimaryRecovered.as_str();
    /// The last change: spec.active requested it.
    REQUESTED = FlipReason::Requested.as_str();

    /// On each node a proof pod could pull from the fallback, with the credentials of each namespace.
    PROVEN = "Proven";
    /// Proof pods can't pull from the fallback: the message and status.proof have namespaces, nodes and causes.
    PULLS_FAIL = "PullsFail";
    /// A policy of the cluster refuses pods with the fallback's images; the message has its words. Real pods would be refused, too.
    POD_REFUSED = "PodRefused";
    /// Not all proof pods have ended for the first time.
    NOT_PROVEN_YET = "NotProvenYet";
    /// Some proof pods were not run: no room on the node, a node that is down. No pull is known to fail.
    PODS_NOT_RUN = "PodsNotRun";
    /// No namespace of the chart's proof.namespaces has pods of the mirror.
    NOTHING_TO_PROVE = "NothingToProve";

    /// The mirror's paths are those of the cloud's rule.
    RULE_FITS = "RuleFits";
    /// The cloud caches the other side elsewhere; the message says which prefix to set.
    PREFIX_DIFFERS = "PrefixDiffers";
    /// The cloud does not cache the other side.
    NO_RULE = "NoRule";
    /// The cloud's rules could not be read.
    RULE_UNKNOWN = "RuleUnknown";

    /// The evidence could not be written to the cluster. Webhooks of other replicas route by what they read before; the message has the
    /// API server's error.
    WRITE_FAILED = "WriteFailed";
    /// Reading workloads is disabled in the chart. Images that only templates name, such as those of suspended CronJobs, do not count as
    /// in use.
    DISABLED = "Disabled";

    /// Both registries are checked for the first time, or for the first time since the spec changed.
    OBSERVING = "Observing";

    /// The spec is invalid; the message names the field. The last valid spec stays in force, and the message has its generation. Without
    /// one nothing is rewritten for this mirror.
    INVALID_SPEC = "InvalidSpec";
    /// A Secret that the spec names does not exist.
    SECRET_NOT_FOUND = "SecretNotFound";
    /// A Secret that the spec names is of the wrong type or lacks a key.
    SECRET_INVALID = "SecretInvalid";
    /// The provider does not accept a credential of this kind; the message says which to create.
    UNSUPPORTED_CREDENTIALS = "UnsupportedCredentials";
    /// Another mirror, older or more specific, claims the same repositories.
    OVERLAPPING = "Overlapping";
}
