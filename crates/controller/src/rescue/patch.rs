//! The JSON Patch that re-points the containers of one pod.

use std::collections::BTreeMap;

use catamaran_api::annotations;
use catamaran_core::policy::MirrorId;
use catamaran_core::rescue::{ContainerKind, RescueAction};
use json_patch::jsonptr::PointerBuf;
use json_patch::{AddOperation, Patch, PatchOperation, ReplaceOperation, TestOperation};
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

/// The patch for these actions: it applies only to this very pod with these very images, and notes what was there.
pub fn json_patch(pod: &Pod, patches: &[RescueAction]) -> Option<Patch> {
    let test = |path: PointerBuf, value: Value| PatchOperation::Test(TestOperation { path, value });
    let mut operations = vec![test(pointer(&["metadata", "uid"]), json!(pod.metadata.uid.as_deref()?))];
    let mut noted = noted(pod);
    for action in patches {
        let RescueAction::Patch {
            kind,
            index,
            name,
            from,
            to,
            ..
        } = action
        else {
            continue;
        };
        let list = match kind {
            ContainerKind::Init => "initContainers",
            ContainerKind::App => "containers",
            ContainerKind::Ephemeral => continue,
        };
        let index = index.to_string();
        operations.push(test(pointer(&["spec", list, &index, "name"]), json!(name)));
        let path = pointer(&["spec", list, &index, "image"]);
        operations.push(test(path.clone(), json!(from)));
        operations.push(PatchOperation::Replace(ReplaceOperation { path, value: json!(to) }));
        // The first note stays: what was written at first is what matters when the way back is looked for.
        noted.entry(name.clone()).or_insert_with(|| from.clone());
    }
    operations.push(annotate(pod, &noted)?);
    Some(Patch(operations))
}

fn noted(pod: &Pod) -> BTreeMap<String, String> {
    let text = pod
        .metadata
        .annotations
        .as_ref()
        .and_then(|all| all.get(annotations::RESCUED));
    text.and_then(|text| serde_json::from_str(text).ok())
        .unwrap_or_default()
}

fn annotate(pod: &Pod, noted: &BTreeMap<String, String>) -> Option<PatchOperation> {
    let text = serde_json::to_string(noted).ok()?;
    let (path, value) = match &pod.metadata.annotations {
        Some(_) => (pointer(&["metadata", "annotations", annotations::RESCUED]), json!(text)),
        None => (
            pointer(&["metadata", "annotations"]),
            json!({ annotations::RESCUED: text }),
        ),
    };
    Some(PatchOperation::Add(AddOperation { path, value }))
}

fn pointer(tokens: &[&str]) -> PointerBuf {
    PointerBuf::from_tokens(tokens.iter().copied())
}

/// The mirror an action is for.
pub fn mirror(action: &RescueAction) -> Option<&MirrorId> {
    match action {
        RescueAction::Patch { mirror, .. } => Some(mirror),
        RescueAction::Replace { .. } | RescueAction::Report(_) => None,
    }
}

/// The actions in words, for an Event.
pub fn describe(patches: &[RescueAction]) -> String {
    let words = patches.iter().filter_map(|action| match action {
        RescueAction::Patch { name, from, to, .. } => Some(format!("container '{name}': '{from}' is now '{to}'")),
        RescueAction::Replace { .. } | RescueAction::Report(_) => None,
    });
    words.collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod() -> Pod {
        let pod = json!({
            "metadata": {"name": "web-1", "namespace": "default", "uid": "u1"},
            "spec": {"containers": [{"name": "web", "image": "kracr.azurecr.io/web:1"}],
                     "initContainers": [{"name": "init", "image": "kracr.azurecr.io/init:1"}]}
        });
        serde_json::from_value(pod).unwrap()
    }

    fn action(kind: ContainerKind, name: &str, image: &str) -> RescueAction {
        RescueAction::Patch {
            kind,
            index: 0,
            name: name.to_owned(),
            from: format!("kracr.azurecr.io/{image}"),
            to: format!("ghcr.io/devopskev/{image}"),
            mirror: MirrorId {
                name: "apps".into(),
                uid: "m1".into(),
            },
        }
    }

    #[test]
    fn the_patch_changes_the_images_and_notes_what_was_there() {
        let actions = [
            action(ContainerKind::App, "web", "web:1"),
            action(ContainerKind::Init, "init", "init:1"),
        ];
        let mut document = serde_json::to_value(pod()).unwrap();
        json_patch::patch(&mut document, &json_patch(&pod(), &actions).unwrap()).unwrap();
        assert_eq!(document["spec"]["containers"][0]["image"], "ghcr.io/devopskev/web:1");
        assert_eq!(
            document["spec"]["initContainers"][0]["image"],
            "ghcr.io/devopskev/init:1"
        );
        let noted = document["metadata"]["annotations"][annotations::RESCUED]
            .as_str()
            .unwrap();
        assert_eq!(
            noted,
            r#"{"init":"kracr.azurecr.io/init:1","web":"kracr.azurecr.io/web:1"}"#
        );
    }

    #[test]
    fn annotations_that_are_there_stay() {
        let mut annotated = pod();
        annotated.metadata.annotations = Some(BTreeMap::from([("team".to_owned(), "a".to_owned())]));
        let mut document = serde_json::to_value(&annotated).unwrap();
        let patch = json_patch(&annotated, &[action(ContainerKind::App, "web", "web:1")]).unwrap();
        json_patch::patch(&mut document, &patch).unwrap();
        assert_eq!(document["metadata"]["annotations"]["team"], "a");
    }

    #[test]
    fn the_patch_refuses_another_pod_of_the_same_name_and_an_image_that_changed() {
        let patch = json_patch(&pod(), &[action(ContainerKind::App, "web", "web:1")]).unwrap();
        let mut other = serde_json::to_value(pod()).unwrap();
        other["metadata"]["uid"] = json!("u2");
        assert!(json_patch::patch(&mut other, &patch).is_err());
        let mut changed = serde_json::to_value(pod()).unwrap();
        changed["spec"]["containers"][0]["image"] = json!("kracr.azurecr.io/web:2");
        assert!(json_patch::patch(&mut changed, &patch).is_err());
    }

    #[test]
    fn a_second_rescue_keeps_the_first_note() {
        let mut rescued = pod();
        let noted = r#"{"web":"kracr.azurecr.io/web:0"}"#.to_owned();
        rescued.metadata.annotations = Some(BTreeMap::from([(annotations::RESCUED.to_owned(), noted.clone())]));
        let mut document = serde_json::to_value(&rescued).unwrap();
        let patch = json_patch(&rescued, &[action(ContainerKind::App, "web", "web:1")]).unwrap();
        json_patch::patch(&mut document, &patch).unwrap();
        assert_eq!(document["metadata"]["annotations"][annotations::RESCUED], noted);
    }
}
