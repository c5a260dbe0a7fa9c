use http::HeaderValue;
use serde_json::json;

use super::*;

fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
    let pairs = pairs
        .iter()
        .map(|(name, value)| (http::HeaderName::from_static(name), HeaderValue::from_static(value)));
    pairs.collect()
}

fn read_value(sender: Sender, pairs: &[(&'static str, &'static str)], body: &Value) -> Result<Message, ReadError> {
    read(sender, &headers(pairs), body.to_string().as_bytes())
}

fn moved(registry: &str, repository: &str, tag: &str) -> Message {
    Message::Moved(vec![MovedTag {
        registry: registry.to_owned(),
        repository: repository.to_owned(),
        tag: tag.to_owned(),
    }])
}

fn nothing() -> Message {
    Message::Moved(Vec::new())
}

fn pushed(action: &str, tag: &Value) -> Value {
    json!({
        "id": "cb8c3971-9adc-488b-xxxx-43cbb4974ff5", "timestamp": "2026-11-20T10:00:00Z", "action": action,
        "target": {"mediaType": "application/vnd.oci.image.index.v1+json", "size": 524, "digest": "sha256:x", "length": 524,
                   "repository": "team/web", "tag": tag},
        "request": {"id": "3cbb6949", "host": "KRacr.azurecr.io", "method": "PUT", "useragent": "docker"},
    })
}

#[test]
fn azure_webhook_names_a_tag_or_nothing() {
    let web = || moved("kracr.azurecr.io", "team/web", "3f2a91c");
    let cases = [
        (pushed("push", &json!("3f2a91c")), Ok(web())),
        (pushed("chart_push", &json!("3f2a91c")), Ok(web())),
        (pushed("delete", &json!("3f2a91c")), Ok(web())),
        (pushed("delete", &Value::Null), Ok(nothing())),
        (pushed("push", &json!("")), Ok(nothing())),
        (pushed("quarantine", &json!("3f2a91c")), Ok(nothing())),
        (json!({"action": "ping"}), Ok(nothing())),
        (
            json!({"action": "push"}),
            Err(ReadError::Shape("no \"target\" and \"request\"")),
        ),
        (json!({}), Err(ReadError::Shape("no \"action\" of a registry"))),
        (json!([]), Err(ReadError::Shape("no \"action\" of a registry"))),
    ];
    for (body, expected) in cases {
        assert_eq!(read_value(Sender::Azure, &[], &body), expected, "{body}");
    }
    assert_eq!(
        read(Sender::Azure, &HeaderMap::new(), b"payload=%7B%7D"),
        Err(ReadError::NotJson)
    );
}

fn published(key: &str, kind: &str, tag: &str) -> Value {
    json!({
        "action": "published",
        key: {
            "name": "Kevinryan-IO", "namespace": "DevOpsKev", "package_type": kind, "owner": {"login": "DevOpsKev"},
            "package_version": {
                "package_url": "ghcr.io/devopskev/kevinryan-io:3f2a91c",
                "container_metadata": {"tag": {"name": tag, "digest": "sha256:x"}},
            },
        },
    })
}

#[test]
fn github_webhook_names_the_package_in_lower_case() {
    let expected = moved("ghcr.io", "devopskev/kevinryan-io", "3f2a91c");
    for (event, kind) in [
        ("registry_package", "CONTAINER"),
        ("package", "container"),
        ("package", "docker"),
    ] {
        let body = published(event, kind, "3f2a91c");
        let read = read_value(Sender::GitHub, &[("x-github-event", event)], &body);
        assert_eq!(read, Ok(expected.clone()), "{event}");
    }
}

#[test]
fn github_event_of_another_kind_names_nothing() {
    let cases = [
        ("ping", json!({"zen": "x"}), Ok(nothing())),
        ("push", published("package", "CONTAINER", "x"), Ok(nothing())),
        ("package", published("package", "npm", "x"), Ok(nothing())),
        ("package", published("package", "CONTAINER", ""), Ok(nothing())),
        (
            "package",
            json!({"package": {"name": "x", "package_type": "CONTAINER"}}),
            Ok(nothing()),
        ),
        ("package", json!({}), Err(ReadError::Shape("no package in it"))),
    ];
    for (event, body, expected) in cases {
        assert_eq!(
            read_value(Sender::GitHub, &[("x-github-event", event)], &body),
            expected,
            "{body}"
        );
    }
}

#[test]
fn package_without_url_is_on_ghcr() {
    let mut body = published("package", "CONTAINER", "1");
    body["package"]["package_version"]["package_url"] = Value::Null;
    body["package"]["namespace"] = json!("");
    let package = [("x-github-event", "package")];
    assert_eq!(
        read_value(Sender::GitHub, &package, &body),
        Ok(moved("ghcr.io", "devopskev/kevinryan-io", "1"))
    );
    body["package"]["package_version"]["package_url"] = json!("containers.corp.example/devopskev/kevinryan-io:1");
    assert_eq!(
        read_value(Sender::GitHub, &package, &body),
        Ok(moved("containers.corp.example", "devopskev/kevinryan-io", "1"))
    );
}

#[test]
fn package_url_is_believed_before_names() {
    let package = [("x-github-event", "package")];
    let cases = [
        ("ghcr.io/devopskev/charts/web:1", "devopskev/charts/web"),
        ("GHCR.io/DevOpsKev/Web:1", "devopskev/web"),
        // What is no place in a registry, or names none.
        ("ghcr.io", "devopskev/kevinryan-io"),
        ("devopskev/web:1", "devopskev/kevinryan-io"),
        ("https://github.com/x/y", "devopskev/kevinryan-io"),
        ("", "devopskev/kevinryan-io"),
    ];
    for (url, repository) in cases {
        let mut body = published("package", "CONTAINER", "1");
        body["package"]["package_version"]["package_url"] = json!(url);
        let read = read_value(Sender::GitHub, &package, &body);
        assert_eq!(read, Ok(moved("ghcr.io", repository, "1")), "{url}");
    }
}

#[test]
fn event_of_a_registry_is_known_with_and_without_its_prefix() {
    for kind in ["Microsoft.ContainerRegistry.ImagePushed", "ImagePushed"] {
        let event = json!([{"id": "1", "eventType": kind, "data": pushed("push", &json!("3f2a91c"))}]);
        let read = read_value(Sender::Events, &[], &event);
        assert_eq!(read, Ok(moved("kracr.azurecr.io", "team/web", "3f2a91c")), "{kind}");
    }
}

#[test]
fn cloud_event_is_read_in_each_mode() {
    let data = pushed("push", &json!("3f2a91c"));
    let kind = "Microsoft.ContainerRegistry.ImagePushed";
    let structured = json!({"specversion": "1.0", "type": kind, "source": "/x", "id": "1", "data": data});
    let grid = json!([{"id": "1", "eventType": kind, "subject": "team/web:3f2a91c", "data": data}]);
    let web = moved("kracr.azurecr.io", "team/web", "3f2a91c");
    let cases: [(&[(&'static str, &'static str)], &Value); 4] = [
        (&[], &structured),
        (&[], &json!([structured])),
        (&[], &grid),
        (&[("ce-type", kind), ("ce-specversion", "1.0")], &data),
    ];
    for (headers, body) in cases {
        assert_eq!(read_value(Sender::Events, headers, body), Ok(web.clone()), "{body}");
    }
}

#[test]
fn event_of_another_kind_names_nothing() {
    let other = json!({"type": "Microsoft.Storage.BlobCreated", "data": {"x": 1}});
    let cases = [
        (other.clone(), Ok(nothing())),
        (json!([]), Ok(nothing())),
        (json!([other, {}]), Err(ReadError::Shape("an event without a type"))),
        (
            json!("x"),
            Err(ReadError::Shape("neither an event nor a list of events")),
        ),
        (
            json!({"type": "Microsoft.ContainerRegistry.ImagePushed", "data": 7}),
            Err(ReadError::Shape("no \"action\" of a registry")),
        ),
    ];
    for (body, expected) in cases {
        assert_eq!(read_value(Sender::Events, &[], &body), expected, "{body}");
    }
}

#[test]
fn event_grid_handshake_is_answered_only_if_valid() {
    let question = |code: Value| json!([{"eventType": "Microsoft.EventGrid.SubscriptionValidationEvent", "data": {"validationCode": code}}]);
    let guid = "512d38b6-c7b8-40c8-89fe-f46f9e9622b6";
    assert_eq!(
        read_value(Sender::Events, &[], &question(json!(guid))),
        Ok(Message::Handshake(guid.to_owned()))
    );
    for code in [json!("<script>"), json!("x".repeat(129)), Value::Null] {
        assert_eq!(
            read_value(Sender::Events, &[], &question(code)),
            Err(ReadError::Shape("no code to validate"))
        );
    }
}

#[test]
fn batch_of_thousands_is_cut() {
    let one = json!({"type": "Microsoft.ContainerRegistry.ImagePushed", "data": pushed("push", &json!("1"))});
    let Ok(Message::Moved(tags)) = read_value(Sender::Events, &[], &json!(vec![one; 1000])) else {
        panic!("a batch is read")
    };
    assert_eq!(tags.len(), MAX_TAGS);
}

#[test]
fn fuzzed_notification_is_bounded_or_refused() {
    use catamaran_fuzz::proptest::prelude::*;

    let azure = pushed("push", &json!("3f2a91c")).to_string();
    let github = json!({"action": "published", "registry_package": {
        "name": "web", "namespace": "Team", "package_type": "CONTAINER", "owner": {"login": "team"},
        "package_version": {"package_url": "ghcr.io/team/web:1", "container_metadata": {"tag": {"name": "1", "digest": "x"}}},
    }});
    let event =
        json!({"id": "1", "type": "Microsoft.ContainerRegistry.ImagePushed", "data": pushed("push", &json!("1"))});
    let many = Value::from(vec![event.clone(); 300]).to_string();
    let handshake = json!([{"eventType": "Microsoft.EventGrid.SubscriptionValidationEvent", "data": {"validationCode": "512d38b6"}}]);
    let samples = [
        azure,
        github.to_string(),
        event.to_string(),
        handshake.to_string(),
        many,
    ];
    let samples: Vec<&str> = samples.iter().map(String::as_str).collect();
    let modes = [
        (Sender::Azure, headers(&[])),
        (Sender::GitHub, headers(&[("x-github-event", "registry_package")])),
        (Sender::Events, headers(&[])),
        (
            Sender::Events,
            headers(&[("ce-type", "Microsoft.ContainerRegistry.ImagePushed")]),
        ),
    ];
    let property = |input: Vec<u8>| {
        for (sender, headers) in &modes {
            match read(*sender, headers, &input) {
                Ok(Message::Moved(tags)) => {
                    prop_assert!(tags.len() <= MAX_TAGS);
                    let size = |tag: &MovedTag| tag.registry.len() + tag.repository.len() + tag.tag.len();
                    prop_assert!(tags.iter().map(size).sum::<usize>() <= 2 * input.len() + 16 * tags.len());
                }
                Ok(Message::Handshake(code)) => {
                    prop_assert!(code.len() <= LONGEST_CODE && code.bytes().all(|byte| byte.is_ascii_graphic()));
                }
                Err(error) => prop_assert!(error.to_string().len() < 200 && !error.to_string().contains('\n')),
            }
        }
        Ok(())
    };
    catamaran_fuzz::run(file!(), "notifications", &catamaran_fuzz::mutated(&samples), property);
}
