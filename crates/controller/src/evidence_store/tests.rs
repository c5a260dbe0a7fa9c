//! Writes against an API server that holds the shards, with another leader at work in between.

use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};

use super::*;
use crate::testbed;

const PATH: &str = "/api/v1/namespaces/catamaran-system/configmaps";

#[derive(Default)]
struct Server {
    objects: BTreeMap<String, Value>,
    version: u64,
    writes: Vec<String>,
    /// What another leader does once this one has looked.
    meanwhile: Option<fn(&mut Server)>,
}

type Shared = Arc<Mutex<Server>>;

fn failure(code: u16, reason: &str) -> (u16, Value) {
    let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                        "reason": reason, "message": reason, "code": code});
    (code, status)
}

impl Server {
    fn keep(&mut self, name: &str, mut object: Value) -> (u16, Value) {
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.objects.insert(name.to_owned(), object.clone());
        (200, object)
    }

    fn list(&mut self, query: &str) -> (u16, Value) {
        let items: Vec<Value> = self
            .objects
            .iter()
            .filter(|(name, object)| {
                let labelled = object["metadata"]["labels"][annotations::EVIDENCE] == "apps";
                // Either all with the label, or the one of that name without it.
                if query.contains("fieldSelector") { !labelled && query.contains(name.as_str()) } else { labelled }
            })
            .map(|(_, object)| json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"]}))
            .collect();
        if let Some(meanwhile) = self.meanwhile.take() {
            meanwhile(self);
        }
        (
            200,
            json!({"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": {}, "items": items}),
        )
    }

    fn answer(&mut self, method: &str, path: &str, query: &str, body: &[u8]) -> (u16, Value) {
        if method == "GET" {
            return self.list(query);
        }
        let sent: Value = serde_json::from_slice(body).unwrap();
        let name = sent["metadata"]["name"].as_str().map(str::to_owned);
        let name = name.unwrap_or_else(|| path.trim_start_matches(PATH).trim_start_matches('/').to_owned());
        let version = self
            .objects
            .get(&name)
            .map(|object| object["metadata"]["resourceVersion"].clone());
        let asked = match method {
            "DELETE" => &sent["preconditions"]["resourceVersion"],
            _ => &sent["metadata"]["resourceVersion"],
        };
        let allowed = match method {
            "POST" => version.is_none(),
            _ => version.as_ref() == Some(asked),
        };
        if !allowed {
            return failure(409, "Conflict");
        }
        self.writes.push(format!("{method} {name}"));
        if method == "DELETE" {
            return (200, self.objects.remove(&name).unwrap());
        }
        self.keep(&name, sent)
    }

    fn data(&self, name: &str) -> Option<Vec<u8>> {
        let data: ByteString = serde_json::from_value(self.objects.get(name)?["binaryData"][KEY].clone()).unwrap();
        Some(data.0)
    }
}

fn client(server: &Shared) -> kube::Client {
    let server = Arc::clone(server);
    testbed::api_server(move |method, uri, body| {
        let query = uri.query().unwrap_or_default();
        let mut server = server.lock().unwrap_or_else(PoisonError::into_inner);
        let (code, value) = server.answer(method, uri.path(), query, body);
        (code, serde_json::to_vec(&value).unwrap())
    })
}

fn mirror() -> RegistryMirror {
    serde_json::from_value(json!({
        "apiVersion": "catamaran.dev/v1alpha1", "kind": "RegistryMirror",
        "metadata": {"name": "apps", "uid": "u1"},
        "spec": {
            "primary": {"registry": "kracr.azurecr.io"},
            "fallback": {"registry": "ghcr.io", "prefix": "devopskev"},
            "repositories": [{"name": "web"}],
        },
    }))
    .unwrap()
}

async fn store_shards(server: &Shared, leads: bool, shards: &[&str]) -> Result<(), ApplyError> {
    let context = testbed::replica(client(server), Arc::default(), leads);
    let shards: Vec<Vec<u8>> = shards.iter().map(|shard| shard.as_bytes().to_vec()).collect();
    write(&context, &mirror(), &shards).await
}

fn first() -> String {
    shard_name("apps", 0)
}

/// What the leader that came after has to say.
fn newer(server: &mut Server) {
    let labels = json!({annotations::EVIDENCE: "apps"});
    let data = json!({KEY: ByteString(b"newer".to_vec())});
    server.keep(
        &first(),
        json!({"metadata": {"name": first(), "labels": labels}, "binaryData": data}),
    );
}

#[tokio::test]
async fn shards_are_created_replaced_and_removed_as_the_evidence_grows_and_shrinks() {
    let server = Shared::default();
    for (shards, writes) in [
        (
            &["a", "b"][..],
            vec!["POST catamaran-evidence-apps-0", "POST catamaran-evidence-apps-1"],
        ),
        (
            &["c"],
            vec!["PATCH catamaran-evidence-apps-0", "DELETE catamaran-evidence-apps-1"],
        ),
    ] {
        store_shards(&server, true, shards).await.unwrap();
        let mut server = server.lock().unwrap();
        assert_eq!(std::mem::take(&mut server.writes), writes);
        assert_eq!(server.data(&first()).unwrap(), shards[0].as_bytes());
    }
    let server = server.lock().unwrap();
    let metadata = &server.objects[&first()]["metadata"];
    assert_eq!(metadata["annotations"][annotations::WRITTEN_BY], "catamaran-0");
    assert_eq!(metadata["ownerReferences"][0]["uid"], "u1");
}

#[tokio::test]
async fn what_a_leader_of_the_past_writes_late_loses() {
    type Meanwhile = fn(&mut Server);
    let gone: Meanwhile = |server| drop(server.objects.remove(&first()));
    for (case, before, meanwhile) in [
        ("the next leader replaced the shard", true, newer as Meanwhile),
        ("the next leader created the shard", false, newer),
        ("the shard was removed", true, gone),
    ] {
        let server = Shared::default();
        if before {
            store_shards(&server, true, &["old"]).await.unwrap();
        }
        server.lock().unwrap().meanwhile = Some(meanwhile);
        let late = store_shards(&server, true, &["late"]).await.unwrap_err();
        assert!(late.is_conflict(), "{case}: {late}");
        let data = server.lock().unwrap().data(&first());
        assert_ne!(data.as_deref(), Some(&b"late"[..]), "{case}");
    }
    // A shard too many, which the next leader has filled again.
    let server = Shared::default();
    store_shards(&server, true, &["old"]).await.unwrap();
    server.lock().unwrap().meanwhile = Some(newer);
    assert!(store_shards(&server, true, &[]).await.unwrap_err().is_conflict());
    assert_eq!(server.lock().unwrap().data(&first()).unwrap(), b"newer");
}

#[tokio::test]
async fn who_has_ceased_to_lead_sends_nothing() {
    let server = Shared::default();
    for shards in [&["late"][..], &[]] {
        newer(&mut server.lock().unwrap());
        let refused = store_shards(&server, false, shards).await.unwrap_err();
        assert!(matches!(refused, ApplyError::NotLeading), "{refused}");
        assert!(server.lock().unwrap().writes.is_empty());
    }
}

#[tokio::test]
async fn a_shard_whose_label_was_taken_away_gets_it_back() {
    let server = Shared::default();
    store_shards(&server, true, &["a"]).await.unwrap();
    server.lock().unwrap().objects.get_mut(&first()).unwrap()["metadata"]["labels"] = json!({});
    store_shards(&server, true, &["b"]).await.unwrap();
    let server = server.lock().unwrap();
    assert_eq!(server.data(&first()).unwrap(), b"b");
    assert_eq!(
        server.objects[&first()]["metadata"]["labels"][annotations::EVIDENCE],
        "apps"
    );
}
