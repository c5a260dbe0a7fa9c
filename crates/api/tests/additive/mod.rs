//! Within one version the resource only grows: what a released definition accepted and meant, today's accepts and means.
//!
//! `tests/released` holds the definition of each release as it was. They are never edited; a release adds one.

use catamaran_api::crd::crd;
use serde_json::{Value, json};

/// The released definitions, by their file's name.
fn released() -> Vec<(String, Value)> {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/released");
    let files = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let read = |path: std::path::PathBuf| {
        let text = std::fs::read_to_string(&path).unwrap();
        (path.display().to_string(), serde_saphyr::from_str(&text).unwrap())
    };
    let released: Vec<(String, Value)> = files.map(read).collect();
    assert!(!released.is_empty(), "{directory} is empty");
    released
}

#[test]
fn what_was_released_is_still_accepted_and_means_the_same() {
    let today = serde_json::to_value(crd()).unwrap();
    for (file, before) in released() {
        let lost = definitions(&before, &today);
        assert!(lost.is_empty(), "{file} promised more:\n{}", lost.join("\n"));
    }
}

/// Every way to break a promise, done to the released definition itself.
#[test]
fn each_broken_promise_is_noticed() {
    let (_, before) = released().remove(0);
    let version = "/spec/versions/0";
    let spec = format!("{version}/schema/openAPIV3Schema/properties/spec");
    let period = format!("{spec}/properties/healthCheck/properties/periodSeconds");
    let cases: &[(&str, &str, Value)] = &[
        ("another group", "/spec/group", json!("example.com")),
        ("another scope", "/spec/scope", json!("Namespaced")),
        ("another plural", "/spec/names/plural", json!("mirrors")),
        ("a short name lost", "/spec/names/shortNames", json!([])),
        (
            "a version that is not served",
            &format!("{version}/served"),
            json!(false),
        ),
        (
            "a version of another name",
            &format!("{version}/name"),
            json!("v1beta1"),
        ),
        (
            "the status no subresource",
            &format!("{version}/subresources"),
            json!({}),
        ),
        (
            "fields removed",
            &format!("{spec}/properties/parity/properties"),
            json!({}),
        ),
        ("another type", &format!("{period}/type"), json!("string")),
        ("another format", &format!("{period}/format"), json!("int64")),
        ("another default", &format!("{period}/default"), json!(5)),
        ("a higher minimum", &format!("{period}/minimum"), json!(2.0)),
        ("a lower maximum", &format!("{period}/maximum"), json!(10.0)),
        (
            "a field required",
            &format!("{spec}/required"),
            json!(["primary", "fallback", "repositories"]),
        ),
        (
            "an enum value lost",
            &format!("{spec}/properties/active/enum"),
            json!(["Auto", "Primary"]),
        ),
        (
            "fewer entries",
            &format!("{spec}/properties/repositories/maxItems"),
            json!(10),
        ),
        (
            "a list no map",
            &format!("{spec}/properties/repositories/x-kubernetes-list-type"),
            json!("atomic"),
        ),
        (
            "a shorter string of an element",
            &format!("{spec}/properties/repositories/items/properties/name/maxLength"),
            json!(10),
        ),
        (
            "another pattern",
            &format!("{spec}/properties/parity/properties/interval/pattern"),
            json!("^[0-9]+s$"),
        ),
        (
            "another rule",
            &format!("{spec}/x-kubernetes-validations"),
            json!([{"rule": "self.suspend", "message": "must be suspended"}]),
        ),
    ];
    assert_eq!(definitions(&before, &before), Vec::<String>::new());
    for (name, pointer, value) in cases {
        let mut after = before.clone();
        *after.pointer_mut(pointer).expect(pointer) = value.clone();
        assert_ne!(
            definitions(&before, &after),
            Vec::<String>::new(),
            "{name} went unnoticed"
        );
    }
}

/// What may be added: optional fields, also with bounds and rules of their own, choices, room.
#[test]
fn growth_is_no_broken_promise() {
    let (_, before) = released().remove(0);
    let mut after = before.clone();
    let spec = after
        .pointer_mut("/spec/versions/0/schema/openAPIV3Schema/properties/spec")
        .unwrap();
    spec["properties"]["new"] = json!({
        "type": "object", "required": ["inner"], "properties": {"inner": {"type": "string", "maxLength": 3}},
        "x-kubernetes-validations": [{"rule": "true", "message": "is always so"}],
    });
    let rule = json!({"rule": "!has(self.new) || self.suspend", "message": "new is for suspended mirrors"});
    spec["x-kubernetes-validations"].as_array_mut().unwrap().push(rule);
    spec["properties"]["active"]["enum"]
        .as_array_mut()
        .unwrap()
        .push(json!("Neither"));
    spec["properties"]["healthCheck"]["properties"]["periodSeconds"]["maximum"] = json!(100_000.0);
    spec["properties"]["suspend"]["description"] = json!("In other words.");
    assert_eq!(definitions(&before, &after), Vec::<String>::new());
}

/// Which promises of the definition `before` the definition `after` breaks.
fn definitions(before: &Value, after: &Value) -> Vec<String> {
    let mut lost = Vec::new();
    for pointer in [
        "/metadata/name",
        "/spec/group",
        "/spec/scope",
        "/spec/names/kind",
        "/spec/names/plural",
    ] {
        if before.pointer(pointer) != after.pointer(pointer) {
            lost.push(format!("{pointer} has changed"));
        }
    }
    for pointer in ["/spec/names/shortNames", "/spec/names/categories"] {
        missing(before.pointer(pointer), after.pointer(pointer), pointer, &mut lost);
    }
    for version in before["spec"]["versions"].as_array().unwrap() {
        let name = version["name"].as_str().unwrap();
        let versions = after["spec"]["versions"].as_array().unwrap();
        let Some(same) = versions
            .iter()
            .find(|other| other["name"] == name && other["served"] == true)
        else {
            lost.push(format!("{name} is not served"));
            continue;
        };
        if version["subresources"] != same["subresources"] {
            lost.push(format!("{name} has other subresources"));
        }
        let schema = |version: &Value| version["schema"]["openAPIV3Schema"].clone();
        schemas(&schema(version), &schema(same), name, &mut lost);
    }
    lost
}

/// Which values that were accepted at `path` are refused now, and which are read in another way.
fn schemas(before: &Value, after: &Value, path: &str, lost: &mut Vec<String>) {
    for what in [
        "type",
        "format",
        "default",
        "pattern",
        "nullable",
        "x-kubernetes-int-or-string",
        "x-kubernetes-preserve-unknown-fields",
        "x-kubernetes-list-type",
        "x-kubernetes-list-map-keys",
        "x-kubernetes-map-type",
    ] {
        if before[what] != after[what] {
            lost.push(format!("{path}: {what} was {} and is {}", before[what], after[what]));
        }
    }
    for (what, tighter) in [
        ("minimum", f64::gt as fn(&f64, &f64) -> bool),
        ("minLength", f64::gt),
        ("minItems", f64::gt),
        ("maximum", f64::lt),
        ("maxLength", f64::lt),
        ("maxItems", f64::lt),
    ] {
        let Some(now) = after[what].as_f64() else { continue };
        if before[what].as_f64().is_none_or(|then| tighter(&now, &then)) {
            lost.push(format!("{path}: {what} was {} and is {now}", before[what]));
        }
    }
    if after["enum"].is_array() {
        match before["enum"].as_array() {
            Some(_) => missing(Some(&before["enum"]), Some(&after["enum"]), path, lost),
            None => lost.push(format!("{path}: only some values are left")),
        }
    }
    // What is required now was required then, and a rule that holds now held then.
    for what in ["required", "x-kubernetes-validations"] {
        missing(
            Some(&after[what]),
            Some(&before[what]),
            &format!("{path}: {what} of before"),
            lost,
        );
    }
    for (name, field) in before["properties"].as_object().into_iter().flatten() {
        let at = format!("{path}.{name}");
        match &after["properties"][name] {
            Value::Null => lost.push(format!("{at} is gone")),
            now => schemas(field, now, &at, lost),
        }
    }
    for part in ["items", "additionalProperties"] {
        match (&before[part], &after[part]) {
            (then @ Value::Object(_), now @ Value::Object(_)) => schemas(then, now, &format!("{path}[]"), lost),
            (then, now) if then != now => lost.push(format!("{path}: {part} have changed")),
            _ => {}
        }
    }
}

/// The rules that may refuse what was accepted: a rule about a field that there was not yet refuses nothing that was.
fn tightening(before: &Value, after: &Value) -> Vec<Value> {
    let is_new = |name: &&String| before["properties"][name.as_str()].is_null();
    let new: Vec<String> = after["properties"]
        .as_object()
        .into_iter()
        .flat_map(|fields| fields.keys().filter(is_new))
        .map(|name| format!("self.{name}"))
        .collect();
    let rules = after["x-kubernetes-validations"].as_array();
    let about_old = |rule: &&Value| !new.iter().any(|field| rule["rule"].as_str().unwrap().contains(field));
    rules.into_iter().flatten().filter(about_old).cloned().collect()
}

/// Elements of one list that another lacks. Of a rule only the expression counts: its message may be put better.
fn missing(these: Option<&Value>, in_these: Option<&Value>, path: &str, lost: &mut Vec<String>) {
    let essence = |element: &Value| element.get("rule").unwrap_or(element).clone();
    let list = |list: Option<&Value>| -> Vec<Value> {
        let elements = list.and_then(Value::as_array);
        elements.into_iter().flatten().map(essence).collect()
    };
    let present = list(in_these);
    for element in list(these).iter().filter(|element| !present.contains(element)) {
        lost.push(format!("{path}: lacks {element}"));
    }
}
