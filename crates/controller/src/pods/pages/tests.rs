use serde_json::{Value, json};

use super::super::reader::PodObject;
use super::super::testing::{Cluster, PODS, status, waiting_pod};
use super::*;

/// A list with everything that could be taken for something else.
fn list() -> String {
    let item = json!({
        "metadata": {"name": "a", "annotations": {"x": "\\\"}]{[ \u{e4} \\", "items": "[{}]"}},
        "items": [{"metadata": {}}], "nested": [[{"deep": "\\u007b"}]], "empty": {}, "number": -1.5e3, "none": null
    });
    let list = json!({
        "kind": "items", "apiVersion": "v1", "metadata": {"resourceVersion": "7", "continue": "next", "remainingItemCount": 3},
        "items": [item, {}, {"metadata": {"name": "}"}}],
    });
    list.to_string()
}

fn split(bytes: &[u8], chunk: usize) -> Result<(ListMeta, Vec<Value>), &'static str> {
    let mut splitter = Splitter::default();
    let mut items = Vec::new();
    for bytes in bytes.chunks(chunk) {
        splitter.feed(bytes, &mut |item| items.push(serde_json::from_slice(item).unwrap()))?;
    }
    Ok((splitter.finish()?, items))
}

#[test]
fn list_is_cut_into_its_items_however_it_arrives() {
    let text = list();
    let whole: Value = serde_json::from_str(&text).unwrap();
    for chunk in 1..text.len() {
        let (metadata, items) = split(text.as_bytes(), chunk).unwrap();
        assert_eq!(json!(items), whole["items"], "chunks of {chunk}");
        assert_eq!(metadata.resource_version.as_deref(), Some("7"));
        assert_eq!(metadata.continue_.as_deref(), Some("next"));
    }
    let spaced = serde_json::to_string_pretty(&whole).unwrap();
    assert_eq!(json!(split(spaced.as_bytes(), 7).unwrap().1), whole["items"]);
    assert_eq!(
        split(br#"{"items":null,"metadata":{}}"#, 3).unwrap().1,
        [Value::Null; 0]
    );
}

#[test]
fn list_that_broke_off_or_is_too_large_is_refused() {
    let text = list();
    for end in 0..text.len() {
        assert!(split(&text.as_bytes()[..end], 16).is_err(), "{end} bytes");
    }
    assert!(split(b"}", 1).is_err());
    let huge = format!(r#"{{"items":[{{"x":"{}"}}]}}"#, "x".repeat(LARGEST_OBJECT));
    assert_eq!(split(huge.as_bytes(), 4096).unwrap_err(), "an object is too large");
}

async fn names(cluster: &Cluster, limit: u32) -> Result<(Vec<String>, String), ListError> {
    let mut listing = Listing::<PodObject>::new(&cluster.client(), PODS, ListParams::default().limit(limit));
    let mut names = Vec::new();
    while let Some(pods) = listing.next().await? {
        names.extend(pods.into_iter().map(|pod| pod.record.name.to_string()));
    }
    Ok((names, listing.version().to_owned()))
}

#[tokio::test]
async fn all_pages_are_read() {
    let cluster = Cluster::default();
    assert_eq!(names(&cluster, 2).await.unwrap().0, [""; 0]);
    for name in ["a", "b", "c", "d", "e"] {
        cluster.put_pod(waiting_pod("shop", name));
    }
    cluster.requests("");
    let (names, version) = names(&cluster, 2).await.unwrap();
    assert_eq!((names.join(""), version), ("abcde".to_owned(), "5".to_owned()));
    assert_eq!(cluster.requests("GET /api/v1/pods").len(), 3);
}

#[tokio::test]
async fn error_of_a_page_has_its_code() {
    let cluster = Cluster::default();
    for name in ["a", "b", "c"] {
        cluster.put_pod(waiting_pod("shop", name));
    }
    cluster.trouble(|_, query| query.contains("continue=2").then(|| status(410, "expired")));
    let error = names(&cluster, 2).await.unwrap_err();
    assert_eq!(error.code(), 410);
    assert!(error.to_string().starts_with("failed to list pods: "), "{error}");
}

#[tokio::test]
async fn object_that_can_not_be_read_is_left_out() {
    let cluster = Cluster::default();
    cluster.put_pod(waiting_pod("shop", "a"));
    cluster.put_pod(json!({"metadata": {"name": "b", "namespace": "shop"}, "spec": "none"}));
    cluster.put_pod(waiting_pod("shop", "c"));
    assert_eq!(names(&cluster, 10).await.unwrap().0, ["a", "c"]);
}
