//! The reasons of conditions, each with what it means: docs/reference/conditions.md is made of these words.

// Shown as plain text in docs/reference.
#![allow(clippy::doc_markdown)]

use crate::words::words;

words! {
    /// Every reason with what it means.
    ALL:

    /// The primary is active and nothing speaks against it.
    SERVING_FROM_PRIMARY = "ServingFromPrimary";
    /// The fallback is active and nothing speaks against it. The message says what failback waits for.
    SERVING_FROM_FALLBACK = "ServingFromFallback";
    /// Neither side is available. Pods stay with the side they were sent to.
    BOTH_UNAVAILABLE = "BothUnavailable";
    /// The active side is unavailable and the other one has not answered as it should, or spec.active keeps pods where they are.
    ACTIVE_UNAVAILABLE = "ActiveUnavailable";
    /// Nothing has been observed yet.
    NOT_YET_OBSERVED = "NotYetObserved";
    /// spec.suspend is set: nothing is looked at, and pods keep the images they have.
    SUSPENDED = "Suspended";

    /// It answers up to the manifest and the blob that are probed for.
    REACHABLE = "Reachable";
    /// The connection was refused or reset.
    CONNECTION_FAILED = "ConnectionFailed";
    /// The TLS handshake failed, or the certificate is not trusted.
    TLS_ERROR = "TLSError";
    /// The registry's name does not resolve.
    DNS_FAILURE = "DNSFailure";
    /// There was no answer in time.
    TIMEOUT = "Timeout";
    /// It answered with a server error (5xx), or its blobs can't be read.
    SERVER_ERROR = "ServerError";
    /// The credentials are not accepted (401). It is no outage: mend the Secret or the identity.
    UNAUTHORIZED = "Unauthorized";
    /// The credentials are accepted and lack a right (403). It is an outage only where healthCheck.triggers says so.
    FORBIDDEN = "Forbidden";
    /// The registry's firewall refuses this network; the message has the addresses that it saw.
    NETWORK_DENIED = "NetworkDenied";
    /// The registry answers "too many requests" (429). It is asked less until it stops.
    RATE_LIMITED = "RateLimited";
    /// The registry answers and does not have the image that is probed for. Another one is chosen.
    CANARY_NOT_FOUND = "CanaryNotFound";
    /// The operator's credentials can't be read, or the identity service gives no token for them.
    CREDENTIALS_UNAVAILABLE = "CredentialsUnavailable";
    /// The operator's identity has no role at the registry yet. A role that was granted takes effect within minutes.
    WAITING_FOR_AUTHORIZATION = "WaitingForAuthorization";

    /// Every verified tag has the same digest on both sides.
    TAGS_MATCH = "TagsMatch";
    /// Tags are missing on one side or differ: see status.divergences.
    TAGS_DIFFER = "TagsDiffer";
    /// The first comparison is not complete.
    VERIFYING = "Verifying";
    /// The primary's tags can't be read.
    PRIMARY_UNREACHABLE = "PrimaryUnreachable";
    /// The fallback's tags can't be read.
    FALLBACK_UNREACHABLE = "FallbackUnreachable";

    /// The sides never changed.
    NEVER_FAILED_OVER = "NeverFailedOver";
    /// The last change: the primary failed.
    PRIMARY_UNAVAILABLE = "PrimaryUnavailable";
    /// The last change: the fallback failed while it was active.
    FALLBACK_UNAVAILABLE = "FallbackUnavailable";
    /// The last change: the primary was back and verified.
    PRIMARY_RECOVERED = "PrimaryRecovered";
    /// The last change: spec.active said so.
    REQUESTED = "Requested";

    /// The mirror's paths are those of the cloud's rule.
    RULE_FITS = "RuleFits";
    /// The cloud caches the other side elsewhere; the message says which prefix to set.
    PREFIX_DIFFERS = "PrefixDiffers";
    /// The cloud does not cache the other side.
    NO_RULE = "NoRule";
    /// The cloud's rules could not be read.
    RULE_UNKNOWN = "RuleUnknown";

    /// Both registries are being looked at for the first time, or for the first time since the spec changed.
    OBSERVING = "Observing";

    /// The spec makes no sense; the message names the field.
    INVALID_SPEC = "InvalidSpec";
    /// A Secret that the spec names does not exist.
    SECRET_NOT_FOUND = "SecretNotFound";
    /// A Secret that the spec names is of the wrong type or lacks a key.
    SECRET_INVALID = "SecretInvalid";
    /// The provider does not take a credential of this kind; the message says which to create.
    UNSUPPORTED_CREDENTIALS = "UnsupportedCredentials";
    /// Another mirror, older or more specific, claims the same repositories.
    OVERLAPPING = "Overlapping";
}
