//! The judges judged: what they must find, and what they must not.

use serde_json::json;

use super::*;

fn rights() -> Rights {
    let roles = json!({"items": [
        {"metadata": {"name": "catamaran"}, "rules": [
            {"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "patch"]},
            {"apiGroups": ["catamaran.dev"], "resources": ["registrymirrors/status"], "verbs": ["update"]},
        ]},
        {"metadata": {"name": "catamaran", "namespace": "home"}, "rules": [
            {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]},
            {"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["tls"], "verbs": ["get", "update"]},
            {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["create", "patch"]},
        ]},
    ]});
    Rights::of(&roles).unwrap()
}

fn unused(requests: &[Request]) -> Vec<String> {
    rights().unused(requests, &[]).iter().map(ToString::to_string).collect()
}

#[test]
fn a_right_is_used_by_the_narrowest_rule_that_covers_a_request() {
    let applied = Request {
        code: 201,
        ..request("patch", "configmaps", "home", "evidence")
    };
    let all = [
        request("list", "pods", "", ""),
        request("patch", "pods", "far", "web"),
        Request {
            group: "catamaran.dev".to_owned(),
            ..request("update", "registrymirrors/status", "", "apps")
        },
        request("get", "secrets", "home", "registry"),
        request("get", "secrets", "home", "tls"),
        request("update", "secrets", "home", "tls"),
        applied,
    ];
    assert_eq!(
        unused(&all),
        Vec::<String>::new(),
        "an apply that creates uses both rights"
    );
    for (left_out, expected) in [
        (0, "list pods"),
        (2, "update registrymirrors/status.catamaran.dev"),
        (3, "get secrets in home"),
        (4, "get secrets in home named tls"),
    ] {
        let rest: Vec<_> = (0..all.len())
            .filter(|index| *index != left_out)
            .map(|index| all[index].clone())
            .collect();
        assert_eq!(unused(&rest), [expected], "without request {left_out}");
    }
    let denied = Request {
        denied: true,
        ..all[0].clone()
    };
    let with_denied = [&[denied], &all[1..]].concat();
    assert_eq!(unused(&with_denied), ["list pods"], "what was refused used nothing");
}

#[test]
fn what_is_refused_or_let_through_by_others_is_missing_unless_it_is_excused() {
    let excuse = [
        Excuse {
            verb: "create",
            resource: "selfsubjectreviews",
            reason: "everybody may",
        },
        Excuse {
            verb: "get",
            resource: "/api",
            reason: "discovery",
        },
    ];
    let missing = |request: Request| rights().missing(&[request], &excuse).len();
    assert_eq!(missing(request("list", "pods", "", "")), 0);
    assert_eq!(missing(request("get", "/api/v1", "", "")), 0, "excused by its path");
    assert_eq!(missing(request("create", "selfsubjectreviews", "", "")), 0, "excused");
    assert_eq!(
        missing(request("delete", "pods", "far", "web")),
        1,
        "another role must have let it through"
    );
    assert_eq!(
        missing(request("get", "secrets", "far", "tls")),
        1,
        "a Role holds in its namespace"
    );
    let denied = Request {
        denied: true,
        ..request("create", "selfsubjectreviews", "", "")
    };
    assert_eq!(missing(denied), 1, "nothing excuses a refusal");
}

#[test]
fn secrets_must_be_asked_for_by_name_in_a_namespace() {
    assert!(rights().showing_secrets().is_empty());
    for (case, namespace, names, verb) in [
        ("a list", "home", json!([]), "list"),
        ("a watch of one name", "home", json!(["tls"]), "watch"),
        ("everywhere", "", json!([]), "get"),
        ("any that is there", "home", json!([]), "update"),
    ] {
        let rule = json!({"apiGroups": [""], "resources": ["secrets"], "resourceNames": names, "verbs": [verb]});
        let roles = json!({"items": [{"metadata": {"namespace": namespace}, "rules": [rule]}]});
        assert_eq!(Rights::of(&roles).unwrap().showing_secrets().len(), 1, "{case}");
    }
    let everything =
        json!({"items": [{"metadata": {}, "rules": [{"apiGroups": [""], "resources": ["*"], "verbs": ["get"]}]}]});
    assert!(
        Rights::of(&everything).is_err(),
        "a wildcard can't be compared with anything"
    );
}

fn at(mut request: Request, pod: &str, received: i64, answered: i64) -> Request {
    pod.clone_into(&mut request.pod);
    request.received = Timestamp::from_second(received).unwrap();
    request.answered = Timestamp::from_second(answered).unwrap();
    request
}

fn term(pod: &str, holder: &str, second: i64) -> Request {
    let lease = Request {
        holder: Some(holder.to_owned()),
        ..request("update", "leases", "home", "catamaran")
    };
    at(lease, pod, second, second + 1)
}

#[test]
fn only_the_holder_of_the_lease_may_have_done_a_leaders_work() {
    let status = |pod: &str, second: i64| {
        at(
            request("update", "registrymirrors/status", "", "apps"),
            pod,
            second,
            second + 1,
        )
    };
    let conflict = Request {
        code: 409,
        ..status("a", 25)
    };
    for (case, writes, expected) in [
        ("the leader at work", vec![status("a", 12)], 0),
        (
            "sent before another took over, answered after",
            vec![at(status("a", 20), "a", 20, 30)],
            0,
        ),
        ("a late write that lost", vec![conflict], 0),
        ("a late write that won", vec![status("a", 25)], 1),
        ("before anybody led", vec![status("a", 5)], 1),
        ("after giving the lease back", vec![status("b", 45)], 1),
        ("the next leader", vec![status("b", 25)], 0),
        (
            "a follower that reads",
            vec![at(request("get", "configmaps", "home", "x"), "b", 12, 13)],
            0,
        ),
        (
            "a follower that deletes pods",
            vec![at(request("delete", "pods", "far", "x"), "b", 12, 13)],
            1,
        ),
    ] {
        let requests = [vec![term("a", "a", 10), term("b", "b", 20), term("b", "", 40)], writes].concat();
        assert_eq!(intruders(&requests, "catamaran").len(), expected, "{case}");
    }
}

#[test]
fn an_audit_event_is_read_with_who_asked_and_what_was_decided() {
    let event = json!({
        "kind": "Event", "stage": "ResponseComplete", "verb": "update", "requestURI": "/apis/coordination.k8s.io/v1/x?y",
        "user": {"username": "u", "extra": {"authentication.kubernetes.io/pod-name": ["catamaran-a"]}},
        "objectRef": {"resource": "leases", "namespace": "home", "name": "catamaran", "apiGroup": "coordination.k8s.io"},
        "responseStatus": {"code": 200}, "requestObject": {"spec": {"holderIdentity": "catamaran-a"}},
        "requestReceivedTimestamp": "2026-01-01T00:00:00.5Z", "stageTimestamp": "2026-01-01T00:00:01Z",
        "annotations": {"authorization.k8s.io/decision": "allow"},
    });
    let read = Request::read(&format!("{event}\n")).unwrap().remove(0);
    assert_eq!(
        read.to_string(),
        "update leases of coordination.k8s.io in home named catamaran: 200 at 2026-01-01T00:00:00.5Z for catamaran-a"
    );
    assert_eq!(
        (read.holder.as_deref(), read.denied, read.succeeded()),
        (Some("catamaran-a"), false, true)
    );
    let status = json!({"verb": "update", "objectRef": {"resource": "registrymirrors", "subresource": "status"},
        "requestReceivedTimestamp": "2026-01-01T00:00:00Z", "stageTimestamp": "2026-01-01T00:00:01Z",
        "annotations": {"authorization.k8s.io/decision": "forbid"}});
    let read = Request::read(&format!("{status}\n{{\"verb\"")).unwrap();
    assert_eq!(read.len(), 1, "half a line is none yet");
    let read = &read[0];
    assert_eq!((read.resource.as_str(), read.denied), ("registrymirrors/status", true));
    assert!(Request::read("{}\n").is_err(), "an event without times proves nothing");
}
