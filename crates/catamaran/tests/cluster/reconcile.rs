//! `catamaran reconcile`.

use std::sync::Mutex;

use serde_json::{Value, json};

use crate::apiserver::{ApiServer, Asked};
use crate::objects::{IN_SYNC, MIRRORS, World, condition, mirror};

const REQUESTED_AT: &str = "/metadata/annotations/catamaran.dev~1reconcile-requested-at";

/// A cluster whose operator repeats what is asked for, with these conditions; none: it does not.
fn cluster(mirror: Value, found: Option<Vec<Value>>) -> ApiServer {
    let object = Mutex::new(mirror);
    ApiServer::start(move |asked| {
        let mut object = object.lock().unwrap();
        if asked.path != format!("{MIRRORS}/apps") {
            return World::new(&object, &[("web", "1", IN_SYNC)]).get(asked);
        }
        if asked.method == "PATCH" {
            object["metadata"]["annotations"] = asked.body["metadata"]["annotations"].clone();
            let answer = object.clone();
            if let Some(found) = &found {
                object["status"]["lastHandledReconcileAt"] = object.pointer(REQUESTED_AT).unwrap().clone();
                object["status"]["conditions"] = json!(found);
            }
            return (200, answer);
        }
        (200, object.clone())
    })
}

fn said(kind: &str, status: &str, message: &str) -> Value {
    let mut said = condition(kind, status);
    said["message"] = json!(message);
    said
}

fn patches(server: &ApiServer) -> Vec<Asked> {
    let asked = server.asked().into_iter();
    asked.filter(|asked| asked.method == "PATCH").collect()
}

#[test]
fn reconcile_annotates_the_mirror_waits_and_says_what_was_found() {
    let found = vec![
        said("Ready", "True", "pods are sent to kracr.azurecr.io"),
        said("InSync", "True", "1 tag is the same on both sides"),
        said("FallbackProven", "False", "node \"node-2\": the connection fails"),
    ];
    let server = cluster(mirror("apps", "Primary"), Some(found.clone()));
    let ran = server.run(&["reconcile", "apps"]);
    let expected = "mirror 'apps' was verified\n\
        Ready=True: pods are sent to kracr.azurecr.io\n\
        InSync=True: 1 tag is the same on both sides\n\
        FallbackProven=False: node \"node-2\": the connection fails\n";
    assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (1, expected, ""));
    let patches = patches(&server);
    assert_eq!(patches.len(), 1);
    let fields: Vec<&String> = patches[0].body.as_object().unwrap().keys().collect();
    assert_eq!(fields, ["metadata"], "{patches:?}");
    let server = cluster(mirror("apps", "Primary"), Some(found[..2].to_vec()));
    let ran = server.run(&["reconcile", "apps", "-o", "json"]);
    let document: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!((ran.code, &document["followed"]), (0, &json!(true)), "{ran:?}");
    assert_eq!(document["conditions"][1]["type"], "InSync");
}

#[test]
fn reconcile_without_an_operator_ends_with_its_timeout() {
    let server = cluster(mirror("apps", "Primary"), None);
    let ran = server.run(&["reconcile", "apps", "--timeout", "1s"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.out.contains("has not verified mirror 'apps' within 1s"), "{ran:?}");
    let ran = server.run(&["reconcile", "apps", "--timeout", "0s"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.out.contains("not waiting for it"), "{ran:?}");
}

#[test]
fn reconcile_of_a_suspended_mirror_says_what_to_do() {
    let mut suspended = mirror("apps", "Primary");
    suspended["spec"]["suspend"] = json!(true);
    let server = cluster(suspended, None);
    let ran = server.run(&["reconcile", "apps"]);
    assert_eq!((ran.code, patches(&server).len()), (2, 0), "{ran:?}");
    assert!(ran.err.contains("set spec.suspend to false"), "{ran:?}");
}
