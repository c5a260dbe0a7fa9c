//! The JSON Patch that re-points the containers of one pod.

use std::collections::BTreeMap;

use catamaran_api::annotations;
use catamaran_core::rescue::{ContainerKind, ImagePatch};
use json_patch::jsonptr::PointerBuf;
use json_patch::{AddOperation, Patch, PatchOperation, ReplaceOperation, TestOperation};
use serde_json::{Value, json};

use super::record::PodRecord;

/// The patch for these images: it applies only to this very version of this very pod and, if `noted`, notes in annotations
/// what was there and when it was changed.
pub(crate) fn json_patch(pod: &PodRecord, patches: &[ImagePatch], noted: bool) -> Patch {
    let test = |path: PointerBuf, value: Value| PatchOperation::Test(TestOperation { path, value });
    let mut operations = vec![
        test(pointer(&["metadata", "uid"]), json!(pod.uid)),
        test(pointer(&["metadata", "resourceVersion"]), json!(pod.resource_version)),
    ];
    for patch in patches {
        let Some(list) = list(patch.kind) else { continue };
        let index = patch.index.to_string();
        operations.push(test(pointer(&["spec", list, &index, "name"]), json!(patch.name)));
        let path = pointer(&["spec", list, &index, "image"]);
        operations.push(test(path.clone(), json!(patch.from)));
        operations.push(PatchOperation::Replace(ReplaceOperation {
            path,
            value: json!(patch.to),
        }));
    }
    if noted {
        operations.extend(annotate(pod, patches));
    }
    Patch(operations)
}

/// The list of the pod's spec whose images can be patched.
fn list(kind: ContainerKind) -> Option<&'static str> {
    match kind {
        ContainerKind::Init => Some("initContainers"),
        ContainerKind::App => Some("containers"),
        ContainerKind::Ephemeral => None,
    }
}

/// Adds the notes of these patches to those that the pod has.
fn annotate(pod: &PodRecord, patches: &[ImagePatch]) -> Vec<PatchOperation> {
    let mut images = BTreeMap::new();
    let mut epochs = BTreeMap::new();
    for container in &pod.containers {
        let name = container.name.to_string();
        images.extend(
            container
                .rescued_from
                .as_ref()
                .map(|image| (name.clone(), image.to_string())),
        );
        epochs.extend(container.rescued_in.as_ref().map(|epoch| (name, epoch.to_string())));
    }
    for patch in patches {
        // The first note stays: what was written at first is what people look for.
        images.entry(patch.name.clone()).or_insert_with(|| patch.from.clone());
        epochs.insert(patch.name.clone(), epoch(patch));
    }
    let notes = [
        (annotations::RESCUED, json!(images).to_string()),
        (annotations::RESCUED_EPOCH, json!(epochs).to_string()),
    ];
    let add = |path, value| PatchOperation::Add(AddOperation { path, value });
    if pod.has_annotations {
        let note = |(key, text): (&str, String)| add(pointer(&["metadata", "annotations", key]), json!(text));
        return notes.map(note).into();
    }
    let all: BTreeMap<_, _> = notes.into();
    vec![add(pointer(&["metadata", "annotations"]), json!(all))]
}

/// The mirror and epoch of a patch, as it is noted on the pod.
pub(crate) fn epoch(patch: &ImagePatch) -> String {
    format!("{}@{}", patch.mirror, patch.epoch)
}

fn pointer(tokens: &[&str]) -> PointerBuf {
    PointerBuf::from_tokens(tokens.iter().copied())
}

/// The patches in words, for an Event.
pub(crate) fn describe(patches: &[ImagePatch]) -> String {
    let words = patches.iter().map(|patch| {
        let ImagePatch {
            name, from, to, reason, ..
        } = patch;
        format!("container '{name}': '{from}' is now '{to}', because {reason}")
    });
    words.collect::<Vec<_>>().join("; ")
}

/// The containers whose image is what it was, though the API server has accepted the patch: something set it back.
pub(crate) fn set_back<'p>(after: &PodRecord, patches: &'p [ImagePatch]) -> Vec<&'p ImagePatch> {
    let is_back = |patch: &&ImagePatch| {
        let mut containers = after.containers.iter();
        let container = containers.find(|container| container.kind == patch.kind && *container.name == *patch.name);
        container.is_none_or(|container| *container.image == *patch.from)
    };
    patches.iter().filter(is_back).collect()
}

#[cfg(test)]
mod tests {
    use catamaran_core::policy::MirrorId;

    use super::super::reader::PodObject;
    use super::*;

    fn pod() -> Value {
        json!({
            "metadata": {"name": "web-1", "namespace": "default", "uid": "u1", "resourceVersion": "5"},
            "spec": {"containers": [{"name": "web", "image": "kracr.azurecr.io/web:1"}],
                     "initContainers": [{"name": "init", "image": "kracr.azurecr.io/init:1"}]}
        })
    }

    fn record(pod: &Value) -> PodRecord {
        serde_json::from_value::<PodObject>(pod.clone()).unwrap().record
    }

    fn patch(kind: ContainerKind, name: &str, image: &str) -> ImagePatch {
        ImagePatch {
            kind,
            index: 0,
            name: name.to_owned(),
            from: format!("kracr.azurecr.io/{image}"),
            to: format!("ghcr.io/devopskev/{image}"),
            mirror: MirrorId {
                name: "apps".into(),
                uid: "m1".into(),
            },
            epoch: 7,
            reason: "kracr.azurecr.io is unavailable".to_owned(),
        }
    }

    fn web() -> ImagePatch {
        patch(ContainerKind::App, "web", "web:1")
    }

    fn patched(mut document: Value, patches: &[ImagePatch]) -> Value {
        let patch = json_patch(&record(&document), patches, true);
        json_patch::patch(&mut document, &patch).unwrap();
        document
    }

    #[test]
    fn patch_changes_images_and_notes_what_was_there() {
        let patched = patched(pod(), &[web(), patch(ContainerKind::Init, "init", "init:1")]);
        assert_eq!(patched["spec"]["containers"][0]["image"], "ghcr.io/devopskev/web:1");
        assert_eq!(
            patched["spec"]["initContainers"][0]["image"],
            "ghcr.io/devopskev/init:1"
        );
        let noted = &patched["metadata"]["annotations"];
        let images = r#"{"init":"kracr.azurecr.io/init:1","web":"kracr.azurecr.io/web:1"}"#;
        assert_eq!(noted[annotations::RESCUED], images);
        assert_eq!(noted[annotations::RESCUED_EPOCH], r#"{"init":"apps@7","web":"apps@7"}"#);
    }

    #[test]
    fn patch_keeps_annotations_and_the_first_note() {
        let mut annotated = pod();
        annotated["metadata"]["annotations"] = json!({
            "team": "a",
            annotations::RESCUED: r#"{"web":"kracr.azurecr.io/web:0","other":"x"}"#,
            annotations::RESCUED_EPOCH: r#"{"web":"apps@6"}"#,
        });
        let patched = patched(annotated, &[web()]);
        let noted = &patched["metadata"]["annotations"];
        assert_eq!(noted["team"], "a");
        assert_eq!(noted[annotations::RESCUED], r#"{"web":"kracr.azurecr.io/web:0"}"#);
        assert_eq!(noted[annotations::RESCUED_EPOCH], r#"{"web":"apps@7"}"#);
    }

    #[test]
    fn patch_applies_to_this_version_of_this_pod_only() {
        let patch = json_patch(&record(&pod()), &[web()], true);
        let differing = [
            ("/metadata/uid", "u2"),
            ("/metadata/resourceVersion", "6"),
            ("/spec/containers/0/image", "kracr.azurecr.io/web:2"),
            ("/spec/containers/0/name", "other"),
        ];
        for (path, value) in differing {
            let mut other = pod();
            *other.pointer_mut(path).unwrap() = json!(value);
            assert!(json_patch::patch(&mut other, &patch).is_err(), "{path}");
        }
        assert!(json_patch::patch(&mut pod(), &patch).is_ok());
    }

    #[test]
    fn patch_without_note_leaves_annotations_alone() {
        let mut document = pod();
        json_patch::patch(&mut document, &json_patch(&record(&pod()), &[web()], false)).unwrap();
        assert_eq!(document["metadata"]["annotations"], Value::Null);
        assert_eq!(document["spec"]["containers"][0]["image"], "ghcr.io/devopskev/web:1");
    }

    #[test]
    fn image_that_was_set_back_is_noticed() {
        assert_eq!(set_back(&record(&pod()), &[web()]), [&web()]);
        assert!(set_back(&record(&patched(pod(), &[web()])), &[web()]).is_empty());
        // Another webhook may add a digest.
        let mut pinned = pod();
        pinned["spec"]["containers"][0]["image"] = json!("ghcr.io/devopskev/web:1@sha256:0123");
        assert!(set_back(&record(&pinned), &[web()]).is_empty());
    }
}
