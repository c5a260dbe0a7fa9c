//! What the API server's answer to a write means: a status code alone does not say.

use kube::core::Status;

/// The longest part of an answer that is passed on, in characters.
const LONGEST: usize = 300;

/// What a failed JSON Patch `test` is answered with, among other things: 422, and nothing about the object.
const FAILED_TEST: &str = "the server rejected our request due to an error in our request";

/// Where an answer begins to quote what is in the object.
const QUOTES: [&str; 2] = ["Invalid value:", "Unsupported value:"];

/// Why a write did not happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The pod is gone.
    Gone,
    /// The pod has changed since it was read.
    Changed,
    /// The pod's annotations would be too large, or may not be changed.
    Annotations(String),
    /// A policy, an admission webhook, a quota or a missing right: the same will be refused again. In the API server's words.
    Refused(String),
    /// The API server, or an admission webhook, did not work: it may next time.
    Failed(String),
}

/// Reads the answer to a patch or deletion of a pod.
pub(crate) fn refusal(error: &kube::Error) -> Refusal {
    let kube::Error::Api(status) = error else {
        return Refusal::Failed(words(&error.to_string()));
    };
    match status.code {
        404 => Refusal::Gone,
        409 => Refusal::Changed,
        422 if is_failed_test(status) => Refusal::Changed,
        422 if is_about_annotations(status) => Refusal::Annotations(words(&status.message)),
        400 | 401 | 403 | 405 | 413 | 422 => Refusal::Refused(words(&status.message)),
        _ => Refusal::Failed(words(&status.message)),
    }
}

fn is_failed_test(status: &Status) -> bool {
    let details = status.details.as_ref();
    let is_about_nothing = details.is_none_or(|details| details.kind.is_empty() && details.causes.is_empty());
    is_about_nothing && status.message.contains(FAILED_TEST)
}

fn is_about_annotations(status: &Status) -> bool {
    let causes = status.details.iter().flat_map(|details| &details.causes);
    let mut fields = causes.map(|cause| cause.field.as_str());
    fields.any(|field| field.starts_with("metadata.annotations"))
}

/// The first line of an answer, without what it quotes of the object: a pod's environment is nobody else's business.
fn words(message: &str) -> String {
    let line = message.lines().next().unwrap_or_default();
    let end = QUOTES.iter().filter_map(|quote| line.find(quote)).min();
    let line = end.and_then(|end| line.get(..end)).unwrap_or(line);
    let mut words: String = line.trim_end_matches([' ', ':']).chars().take(LONGEST).collect();
    if words.is_empty() {
        "no reason was given".clone_into(&mut words);
    }
    words
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn answered(status: Value) -> Refusal {
        let status: Status = serde_json::from_value(status).unwrap();
        refusal(&kube::Error::Api(status.boxed()))
    }

    #[test]
    fn status_422_is_told_apart_by_what_it_is_about() {
        let failed_test = json!({"code": 422, "reason": "Invalid", "message": FAILED_TEST, "details": {}});
        assert_eq!(answered(failed_test), Refusal::Changed);
        let policy = "Pod \"web\" is invalid: : ValidatingAdmissionPolicy 'acr-only' with binding 'all' denied request: only kracr.azurecr.io";
        let denied = json!({"code": 422, "reason": "Invalid", "message": policy, "details": {"name": "web", "kind": "Pod",
            "causes": [{"message": "ValidatingAdmissionPolicy 'acr-only' denied request", "field": ""}]}});
        assert_eq!(answered(denied), Refusal::Refused(policy.to_owned()));
        let long = "Pod \"web\" is invalid: metadata.annotations: Too long: may not be more than 262144 bytes";
        let annotations = json!({"code": 422, "reason": "Invalid", "message": long, "details": {"name": "web", "kind": "Pod",
            "causes": [{"reason": "FieldValueTooLong", "message": "Too long", "field": "metadata.annotations"}]}});
        assert_eq!(answered(annotations), Refusal::Annotations(long.to_owned()));
        let webhook = "admission webhook \"v.example.com\" denied the request: no";
        let denied = json!({"code": 422, "message": webhook});
        assert_eq!(answered(denied), Refusal::Refused(webhook.to_owned()));
    }

    #[test]
    fn other_answers_are_told_apart_by_their_code() {
        let cases = [
            (404, Refusal::Gone),
            (409, Refusal::Changed),
            (403, Refusal::Refused("why".to_owned())),
            (400, Refusal::Refused("why".to_owned())),
            (429, Refusal::Failed("why".to_owned())),
            (500, Refusal::Failed("why".to_owned())),
            (504, Refusal::Failed("why".to_owned())),
        ];
        for (code, expected) in cases {
            assert_eq!(answered(json!({"code": code, "message": "why"})), expected, "{code}");
        }
    }

    #[test]
    fn words_are_bounded_and_quote_nothing() {
        let diff = "Pod \"web\" is invalid: spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`\n core.PodSpec{Env: hunter2}";
        assert!(!words(diff).contains("hunter2"));
        assert!(words(diff).ends_with("`spec.containers[*].image`"));
        let value = "Pod \"web\" is invalid: spec.containers[0].env: Invalid value: \"hunter2\": no";
        assert_eq!(words(value), "Pod \"web\" is invalid: spec.containers[0].env");
        assert_eq!(words(&"ä".repeat(5_000)).chars().count(), LONGEST);
        assert_eq!(words(""), "no reason was given");
    }
}
