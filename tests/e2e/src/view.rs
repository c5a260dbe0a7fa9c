//! Reading what the API server tells, without types of the product.

use serde_json::Value;

/// A condition as `kubectl get` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Condition {
    /// `True`, `False`, `Unknown`; empty if there is no such condition.
    pub status: String,
    /// Its reason.
    pub reason: String,
    /// Its message.
    pub message: String,
}

/// The text at a JSON pointer; empty if there is none.
pub fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// The number at a JSON pointer; 0 if there is none.
pub fn number(object: &Value, pointer: &str) -> i64 {
    object.pointer(pointer).and_then(Value::as_i64).unwrap_or_default()
}

/// An object's name.
pub fn name(object: &Value) -> &str {
    text(object, "/metadata/name")
}

/// An object's namespace.
pub fn namespace(object: &Value) -> &str {
    text(object, "/metadata/namespace")
}

/// An annotation; empty if there is none.
pub fn annotation<'a>(object: &'a Value, key: &str) -> &'a str {
    object["metadata"]["annotations"][key].as_str().unwrap_or_default()
}

/// A condition of any object.
pub fn condition(object: &Value, kind: &str) -> Condition {
    let conditions = object.pointer("/status/conditions").and_then(Value::as_array);
    let found = conditions
        .into_iter()
        .flatten()
        .find(|condition| condition["type"] == kind);
    found.map_or_else(Condition::default, |found| Condition {
        status: text(found, "/status").to_owned(),
        reason: text(found, "/reason").to_owned(),
        message: text(found, "/message").to_owned(),
    })
}

/// Whether a condition has this status and reason.
pub fn says(object: &Value, kind: &str, status: &str, reason: &str) -> bool {
    let condition = condition(object, kind);
    condition.status == status && condition.reason == reason
}

/// Whether a pod is Ready.
pub fn is_ready(pod: &Value) -> bool {
    condition(pod, "Ready").status == "True"
}

/// The image of a container in a pod's spec, of whatever kind it is; empty if there is none of that name.
pub fn image<'a>(pod: &'a Value, container: &str) -> &'a str {
    let lists = ["containers", "initContainers", "ephemeralContainers"];
    let mut all = lists
        .into_iter()
        .flat_map(|list| pod["spec"][list].as_array().into_iter().flatten());
    all.find(|candidate| candidate["name"] == container)
        .map_or("", |found| text(found, "/image"))
}

/// The status of a container, of whatever kind it is.
pub fn container_status<'a>(pod: &'a Value, container: &str) -> Option<&'a Value> {
    let lists = [
        "containerStatuses",
        "initContainerStatuses",
        "ephemeralContainerStatuses",
    ];
    let mut all = lists
        .into_iter()
        .flat_map(|list| pod["status"][list].as_array().into_iter().flatten());
    all.find(|candidate| candidate["name"] == container)
}

/// Why a container waits; empty if it does not.
pub fn waiting<'a>(pod: &'a Value, container: &str) -> &'a str {
    container_status(pod, container).map_or("", |status| text(status, "/state/waiting/reason"))
}

/// The names of a pod's pull secrets.
pub fn pull_secrets(pod: &Value) -> Vec<&str> {
    let secrets = pod.pointer("/spec/imagePullSecrets").and_then(Value::as_array);
    secrets
        .into_iter()
        .flatten()
        .map(|secret| text(secret, "/name"))
        .collect()
}

/// The objects of a list.
pub fn items(list: &Value) -> Vec<Value> {
    list["items"].as_array().cloned().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_not_there_reads_as_nothing() {
        let empty = json!({});
        assert_eq!(text(&empty, "/status/active"), "");
        assert_eq!(condition(&empty, "Ready"), Condition::default());
        assert!(!is_ready(&empty));
        assert_eq!(image(&empty, "app"), "");
        assert_eq!(waiting(&empty, "app"), "");
        assert!(pull_secrets(&empty).is_empty());
    }

    #[test]
    fn containers_of_every_kind_are_found_by_name() {
        let pod = json!({
            "spec": {"containers": [{"name": "a", "image": "x"}], "initContainers": [{"name": "b", "image": "y"}],
                     "ephemeralContainers": [{"name": "c", "image": "z"}]},
            "status": {"initContainerStatuses": [{"name": "b", "state": {"waiting": {"reason": "ErrImagePull"}}}]},
        });
        assert_eq!(["a", "b", "c"].map(|name| image(&pod, name)), ["x", "y", "z"]);
        assert_eq!(waiting(&pod, "b"), "ErrImagePull");
    }
}
