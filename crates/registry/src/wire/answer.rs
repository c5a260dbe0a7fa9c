//! What an answer that is not a success means.

use bytes::Bytes;
use catamaran_core::endpoint::Unavailable;
use http::{Method, StatusCode};
use serde::Deserialize;

use crate::wire::failure::{Class, Failure, Stage, one_line};
use crate::wire::reply::Reply;
use crate::wire::wait;

/// Of the errors of one body so many are read.
const MOST_ERRORS: usize = 4;
/// Of their details so many.
const MOST_DETAILS: usize = 8;

/// What the body of an error says.
#[derive(Default)]
struct Said {
    code: Option<String>,
    message: String,
    /// Azure names the permission that is missing.
    lacks: Option<String>,
}

#[derive(Deserialize)]
struct Errors {
    errors: Vec<OneError>,
}

#[derive(Deserialize)]
struct OneError {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
    #[serde(default)]
    detail: serde_json::Value,
}

/// Reads an answer that is not a success into a failure. What the request carried is taken out of what the registry says.
///
/// `own`: whether the registry itself gave it; only then may it say that something does not exist.
pub(crate) async fn failure(reply: Reply, method: &Method, own: bool, most: u64) -> Failure {
    let (status, stage, request) = (reply.status(), reply.stage, reply.request.clone());
    let sent = reply.sent.clone();
    let headers = reply.headers().clone();
    let redirect = reply.location();
    // Without its body an error is still an error.
    let body = if *method == Method::HEAD {
        Bytes::new()
    } else {
        reply.body(most).await.unwrap_or_default()
    };
    let said = read(&body);
    let class = match status.as_u16() {
        300..=399 if redirect.is_some() => Class::Misrouted,
        code => class(code, &said, stage, own, || {
            wait::asked_for(&headers, &text_of(&said, &body))
        }),
    };
    let mut message = format!("{request}: {}", words(status));
    if let Some(target) = redirect {
        message.push_str(": redirects to another place (");
        message.push_str(&sent.hide(target.host_str().unwrap_or("?")));
        message.push_str("), which is not followed here");
    }
    for part in [said.code.as_deref(), Some(said.message.as_str()), said.lacks.as_deref()]
        .into_iter()
        .flatten()
    {
        if !part.is_empty() {
            message.push_str(": ");
            message.push_str(&one_line(&sent.hide(part)));
        }
    }
    Failure {
        stage,
        class,
        status: Some(status.as_u16()),
        code: said.code.map(|code| one_line(&sent.hide(&code))),
        message,
    }
}

fn words(status: StatusCode) -> String {
    match status.canonical_reason() {
        Some(reason) => format!("{} {reason}", status.as_u16()),
        None => status.as_u16().to_string(),
    }
}

fn class(
    status: u16,
    said: &Said,
    stage: Stage,
    own: bool,
    retry_after: impl FnOnce() -> Option<std::time::Duration>,
) -> Class {
    let message = said.message.to_ascii_lowercase();
    match status {
        401 => Class::Unauthorized,
        403 if message.contains("client with ip") => Class::NetworkDenied,
        400 | 403 if is_throttled(said, &message) => Class::Throttled {
            retry_after: retry_after(),
        },
        403 => Class::Forbidden,
        404 if !matches!(stage, Stage::Tags | Stage::Manifest | Stage::Blob) => Class::Unexpected,
        404 if own && is_unknown(said, stage, &message) => Class::Absent,
        404 => Class::NotFound,
        _ if is_locked(said, &message) => Class::Locked,
        410 | 412 | 423 | 451 if matches!(stage, Stage::Manifest | Stage::Blob) => Class::Blocked,
        429 => Class::Throttled {
            retry_after: retry_after(),
        },
        500..=599 => Class::Unavailable(Unavailable::ServerError),
        _ => Class::Unexpected,
    }
}

/// Whether it is about the number of requests, whatever the status.
fn is_throttled(said: &Said, message: &str) -> bool {
    let codes = [
        "TOOMANYREQUESTS",
        "ThrottlingException",
        "Throttling",
        "RequestLimitExceeded",
    ];
    let words = ["rate limit", "rate exceeded", "too many requests", "toomanyrequests"];
    let code = said.code.as_deref().unwrap_or_default();
    codes.iter().any(|known| code.eq_ignore_ascii_case(known)) || words.iter().any(|known| message.contains(known))
}

/// Azure's locks answer 405; so does a manifest in quarantine, with other words.
fn is_locked(said: &Said, message: &str) -> bool {
    said.code.as_deref() == Some("REGISTRY_DISALLOWED_OPERATION") || message.contains("operation is disallowed")
}

/// Whether the registry's own 404 says that what was asked for does not exist. Products have codes of their own for that: `NOT_FOUND`
/// (Harbor), `TAG_EXPIRED` (Quay). GHCR says `MANIFEST_UNKNOWN` also for a media type that the request did not accept, and some say
/// `UNKNOWN` of a right that is missing: those are not "absent". Neither is a manifest whose blob is unknown.
fn is_unknown(said: &Said, stage: Stage, message: &str) -> bool {
    let Some(code) = said.code.as_deref() else {
        return false;
    };
    let is_of_blob = code.contains("BLOB");
    let says_other = matches!(
        code,
        "UNKNOWN" | "UNSUPPORTED" | "DENIED" | "UNAUTHORIZED" | "TOOMANYREQUESTS"
    );
    (!is_of_blob || stage == Stage::Blob) && !says_other && !message.contains("accept header")
}

/// The text to look for a wait in: the registry's message, else whatever came.
fn text_of(said: &Said, body: &Bytes) -> String {
    if said.message.is_empty() {
        String::from_utf8_lossy(body).into_owned()
    } else {
        said.message.clone()
    }
}

/// The first error of a body as the distribution specification has it; of other bodies only plain text is kept.
fn read(body: &[u8]) -> Said {
    let Ok(Errors { errors }) = serde_json::from_slice::<Errors>(body) else {
        let text = std::str::from_utf8(body).unwrap_or_default().trim();
        let plain = !text.starts_with(['<', '{', '[']);
        return Said {
            message: if plain { text.to_owned() } else { hint(text).to_owned() },
            ..Said::default()
        };
    };
    let lacks = lacking(&errors);
    let mut errors = errors.into_iter();
    let Some(first) = errors.next() else {
        return Said::default();
    };
    let mut message = first.message;
    for other in errors.take(MOST_ERRORS - 1) {
        for part in [&other.code, &other.message] {
            if !part.is_empty() && !message.contains(part.as_str()) {
                message.push_str("; ");
                message.push_str(part);
            }
        }
    }
    Said {
        code: Some(first.code).filter(|code| !code.trim().is_empty()),
        message,
        lacks,
    }
}

/// The permissions that Azure says are missing: as many details as actions.
fn lacking(errors: &[OneError]) -> Option<String> {
    let details = errors.iter().filter_map(|error| error.detail.as_array()).flatten();
    let text = |detail: &serde_json::Value, key: &str, small: &str| {
        let value = detail.get(key).or_else(|| detail.get(small))?;
        value.as_str().map(str::to_owned)
    };
    let mut actions: Vec<String> = Vec::new();
    let mut name = None;
    for detail in details.take(MOST_DETAILS) {
        let Some(action) = text(detail, "Action", "action") else {
            continue;
        };
        name = name.or_else(|| text(detail, "Name", "name"));
        if !actions.contains(&action) {
            actions.push(action);
        }
    }
    let name = name.as_deref().unwrap_or("the registry");
    (!actions.is_empty()).then(|| format!("the client lacks {} on {name}", actions.join(", ")))
}

/// Of a page only what changes the class is kept.
fn hint(text: &str) -> &'static str {
    if text.contains("secondary rate limit") {
        "secondary rate limit"
    } else if text.contains("API rate limit exceeded") {
        "API rate limit exceeded"
    } else {
        ""
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const MANIFEST_UNKNOWN: &str = r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#;
    const ACCEPT: &str = r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"OCI index found, but Accept header does not support OCI indexes"}]}"#;
    const NAME_UNKNOWN: &str = r#"{"errors":[{"code":"NAME_UNKNOWN","message":"repository name not known"}]}"#;
    const BLOB_UNKNOWN: &str = r#"{"errors":[{"code":"BLOB_UNKNOWN","message":"blob unknown to registry"}]}"#;
    const FIREWALL: &str = r#"{"errors":[{"code":"DENIED","message":"client with IP '172.214.169.102' is not allowed access. Refer https://aka.ms/acr/firewall to grant access."}]}"#;
    const LOCKED: &str = r#"{"errors":[{"code":"REGISTRY_DISALLOWED_OPERATION","detail":{},"message":"The operation is disallowed on this registry, repository or image."}]}"#;
    const QUARANTINED: &str = r#"{"errors":[{"code":"UNKNOWN","message":"The operation is disallowed."}]}"#;
    const POLICY: &str = r#"{"errors":[{"code":"PROJECTPOLICYVIOLATION","message":"current image can't be pulled due to configured policy in 'Prevent images with vulnerability severity of "Critical" or higher from running.'"}]}"#;
    const DENIED: &str = r#"{"errors":[{"code":"DENIED","message":"denied"}]}"#;

    #[test]
    #[expect(clippy::too_many_lines, reason = "one table")]
    fn each_product_has_a_word_for_what_is_absent() {
        let cases = [
            // goharbor/harbor, quay/quay, GitLab, Artifactory, Nexus.
            (
                "NOT_FOUND",
                "artifact web:1.0 not found",
                Stage::Manifest,
                Class::Absent,
            ),
            (
                "TAG_EXPIRED",
                "Tag 1.0 was deleted or has expired",
                Stage::Manifest,
                Class::Absent,
            ),
            (
                "NAME_UNKNOWN",
                "repository name not known to registry",
                Stage::Tags,
                Class::Absent,
            ),
            (
                "MANIFEST_UNKNOWN",
                "The named manifest is not known to the registry.",
                Stage::Manifest,
                Class::Absent,
            ),
            (
                "NAME_UNKNOWN",
                "repository name not known to registry",
                Stage::Blob,
                Class::Absent,
            ),
            ("BLOB_UNKNOWN", "blob unknown to registry", Stage::Blob, Class::Absent),
            // Not of the thing itself, or of a right.
            (
                "MANIFEST_BLOB_UNKNOWN",
                "blob unknown",
                Stage::Manifest,
                Class::NotFound,
            ),
            ("UNKNOWN", "unknown error", Stage::Manifest, Class::NotFound),
            (
                "DENIED",
                "requested access to the resource is denied",
                Stage::Manifest,
                Class::NotFound,
            ),
            (
                "UNSUPPORTED",
                "the operation is unsupported",
                Stage::Tags,
                Class::NotFound,
            ),
        ];
        for (code, message, stage, expected) in cases {
            let body = format!(r#"{{"errors":[{{"code":"{code}","message":"{message}"}}]}}"#);
            assert_eq!(
                class(404, &read(body.as_bytes()), stage, true, || None),
                expected,
                "{code} at {stage}"
            );
            let proxy = class(404, &read(body.as_bytes()), stage, false, || None);
            assert_eq!(proxy, Class::NotFound, "{code} at {stage}, of another host");
        }
    }

    #[test]
    #[expect(clippy::too_many_lines, reason = "one table")]
    fn each_status_has_its_class() {
        let server_error = Class::Unavailable(Unavailable::ServerError);
        let throttled = Class::Throttled {
            retry_after: Some(Duration::from_secs(9)),
        };
        let cases = [
            (401, "", Stage::Token, true, Class::Unauthorized),
            (401, "", Stage::Manifest, true, Class::Unauthorized),
            (403, DENIED, Stage::Token, true, Class::Forbidden),
            (403, FIREWALL, Stage::Challenge, true, Class::NetworkDenied),
            (
                403,
                "You have exceeded a secondary rate limit",
                Stage::Token,
                true,
                throttled.clone(),
            ),
            (
                403,
                "<html>secondary rate limit</html>",
                Stage::Token,
                true,
                throttled.clone(),
            ),
            (
                403,
                r#"{"message":"API rate limit exceeded for user ID 1.","documentation_url":"https://docs.github.com"}"#,
                Stage::Tags,
                false,
                throttled.clone(),
            ),
            (429, "", Stage::Tags, true, throttled.clone()),
            (
                400,
                r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"slow down"}]}"#,
                Stage::Manifest,
                true,
                throttled.clone(),
            ),
            (
                403,
                r#"{"errors":[{"code":"toomanyrequests"}]}"#,
                Stage::Blob,
                true,
                throttled.clone(),
            ),
            (
                403,
                r#"{"errors":[{"code":"DENIED","message":"Rate exceeded"}]}"#,
                Stage::Manifest,
                true,
                throttled.clone(),
            ),
            (
                400,
                r#"{"errors":[{"code":"ThrottlingException","message":""}]}"#,
                Stage::Tags,
                true,
                throttled,
            ),
            (404, MANIFEST_UNKNOWN, Stage::Manifest, true, Class::Absent),
            (404, NAME_UNKNOWN, Stage::Tags, true, Class::Absent),
            (404, BLOB_UNKNOWN, Stage::Blob, true, Class::Absent),
            (404, MANIFEST_UNKNOWN, Stage::Manifest, false, Class::NotFound),
            (404, ACCEPT, Stage::Manifest, true, Class::NotFound),
            (404, "<html>", Stage::Manifest, true, Class::NotFound),
            (404, r#"{"errors":[]}"#, Stage::Manifest, true, Class::NotFound),
            (404, "", Stage::Challenge, true, Class::Unexpected),
            (404, "", Stage::Token, true, Class::Unexpected),
            (408, "", Stage::Manifest, true, Class::Unexpected),
            (410, "", Stage::Manifest, true, Class::Blocked),
            (412, POLICY, Stage::Manifest, true, Class::Blocked),
            (423, "", Stage::Blob, false, Class::Blocked),
            (412, "", Stage::Token, true, Class::Unexpected),
            (304, "", Stage::Manifest, true, Class::Unexpected),
            (500, "", Stage::Token, true, server_error.clone()),
            (599, "", Stage::Blob, false, server_error),
            (600, "", Stage::Blob, false, Class::Unexpected),
            (400, "", Stage::Tags, true, Class::Unexpected),
            (405, "", Stage::Manifest, true, Class::Unexpected),
            (405, LOCKED, Stage::Manifest, true, Class::Locked),
            (405, QUARANTINED, Stage::Manifest, true, Class::Locked),
        ];
        for (status, body, stage, own, expected) in cases {
            let found = class(status, &read(body.as_bytes()), stage, own, || {
                Some(Duration::from_secs(9))
            });
            assert_eq!(found, expected, "{status} {body} at {stage}");
        }
    }

    #[test]
    fn azure_names_every_missing_permission() {
        let old = r#"{"errors":[{"code":"UNAUTHORIZED","message":"authentication required","detail":[{"Type":"repository","Name":"my-image","Action":"metadata_read"}]}]}"#;
        let new = r#"{"errors":[{"code":"UNAUTHORIZED","message":"authentication required","detail":[{"type":"repository","name":"web","action":"pull"},{"type":"repository","name":"web","action":"metadata_read"}]}]}"#;
        let lacks = |body: &str| read(body.as_bytes()).lacks;
        assert_eq!(
            lacks(old).as_deref(),
            Some("the client lacks metadata_read on my-image")
        );
        assert_eq!(
            lacks(new).as_deref(),
            Some("the client lacks pull, metadata_read on web")
        );
    }

    #[test]
    fn every_error_of_a_body_is_told() {
        let body = r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest invalid"},{"code":"MANIFEST_BLOB_UNKNOWN","message":"blob unknown to registry"},{"code":"","message":"manifest invalid"}]}"#;
        let said = read(body.as_bytes());
        assert_eq!(said.code.as_deref(), Some("MANIFEST_UNKNOWN"));
        assert_eq!(
            said.message,
            "manifest invalid; MANIFEST_BLOB_UNKNOWN; blob unknown to registry"
        );
    }

    #[test]
    fn strange_error_bodies_say_nothing() {
        let deep = "[".repeat(10_000);
        for body in [
            "",
            "[]",
            "{}",
            "<html>x</html>",
            r#"{"errors":{}}"#,
            r#"{"errors":[1]}"#,
            &deep,
        ] {
            let said = read(body.as_bytes());
            assert_eq!((said.code, said.message.as_str()), (None, ""), "{body:.40}");
        }
    }

    #[test]
    fn fuzzed_error_bodies_become_one_short_line() {
        use proptest::prelude::*;

        let samples = [
            MANIFEST_UNKNOWN,
            ACCEPT,
            FIREWALL,
            LOCKED,
            DENIED,
            "<html>secondary rate limit</html>",
            r#"{"errors":[{"code":"UNAUTHORIZED","message":"x","detail":[{"Type":"repository","Name":"web","Action":"pull"}]}]}"#,
            "retry-after: 1.16676ms, allowed: 44000/minute",
        ];
        let property = |input: Vec<u8>| {
            let said = read(&input);
            for part in [said.code.as_deref(), Some(said.message.as_str()), said.lacks.as_deref()] {
                let shown = one_line(part.unwrap_or_default());
                prop_assert!(shown.chars().count() <= 301);
                prop_assert!(!shown.chars().any(char::is_control), "{:?}", shown);
            }
            for status in [400, 401, 403, 404, 405, 429, 500] {
                class(status, &said, Stage::Manifest, true, || None);
            }
            Ok(())
        };
        catamaran_fuzz::run(file!(), "errors", &catamaran_fuzz::mutated(&samples), property);
    }
}
