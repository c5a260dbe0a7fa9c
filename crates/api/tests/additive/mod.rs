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

/// The version of a released definition, by its file's name `v1alpha1-X.Y.Z.yaml`.
fn version(file: &str) -> [u64; 3] {
    let name = std::path::Path::new(file).file_stem().unwrap().to_str().unwrap();
    numbers(name.rsplit_once('-').unwrap().1)
}

fn numbers(version: &str) -> [u64; 3] {
    let numbers: Vec<u64> = version.split('.').map(|number| number.parse().unwrap()).collect();
    numbers.try_into().unwrap()
}

#[test]
fn definition_changes_only_with_the_version() {
    let today = serde_json::to_value(crd()).unwrap();
    let version_of_the_tree = numbers(env!("CARGO_PKG_VERSION"));
    for (file, before) in released() {
        let released = version(&file);
        assert!(
            released <= version_of_the_tree,
            "{file} is of a later version than the tree"
        );
        let same = released < version_of_the_tree || today["spec"] == before["spec"];
        assert!(
            same,
            "{file} was released, and the tree has another definition: give it a new version"
        );
    }
}

/// Ways to break a promise: what is put where in the released definition, as JSON. `V` is its version, `S` the schema of its spec.
const BROKEN: &[(&str, &str, &str)] = &[
    ("another group", "/spec/group", r#""example.com""#),
    ("another scope", "/spec/scope", r#""Namespaced""#),
    ("another plural", "/spec/names/plural", r#""mirrors""#),
    ("a short name lost", "/spec/names/shortNames", "[]"),
    ("a version that is not served", "V/served", "false"),
    ("a version of another name", "V/name", r#""v1beta1""#),
    ("the status no subresource", "V/subresources", "{}"),
    ("fields removed", "S/parity/properties", "{}"),
    (
        "another type",
        "S/healthCheck/properties/periodSeconds/type",
        r#""string""#,
    ),
    (
        "another format",
        "S/healthCheck/properties/periodSeconds/format",
        r#""int64""#,
    ),
    ("another default", "S/healthCheck/properties/periodSeconds/default", "5"),
    ("another default of an object", "S/rescue/default", r#"{"mode": "Off"}"#),
    ("a default of an object lost", "S/rescue/default", "{}"),
    (
        "a higher minimum",
        "S/healthCheck/properties/periodSeconds/minimum",
        "2.0",
    ),
    (
        "a lower maximum",
        "S/healthCheck/properties/periodSeconds/maximum",
        "10.0",
    ),
    ("a field required", "S/primary/required", r#"["registry", "prefix"]"#),
    ("an enum value lost", "S/active/enum", r#"["Auto", "Primary"]"#),
    ("fewer entries", "S/repositories/maxItems", "10"),
    ("a list no map", "S/repositories/x-kubernetes-list-type", r#""atomic""#),
    (
        "a shorter string of an element",
        "S/repositories/items/properties/name/maxLength",
        "10",
    ),
    (
        "another pattern",
        "S/parity/properties/interval/pattern",
        r#""^[0-9]+s$""#,
    ),
    (
        "another rule",
        "S/primary/x-kubernetes-validations",
        r#"[{"rule": "self.prefix != ''"}]"#,
    ),
];

#[test]
fn each_broken_promise_is_noticed() {
    let (_, before) = released().remove(0);
    assert_eq!(definitions(&before, &before), Vec::<String>::new());
    for (name, place, value) in BROKEN {
        let version = "/spec/versions/0";
        let pointer = match place.split_at(1) {
            ("V", rest) => format!("{version}{rest}"),
            ("S", rest) => format!("{version}/schema/openAPIV3Schema/properties/spec/properties{rest}"),
            _ => (*place).to_owned(),
        };
        let mut after = before.clone();
        *after.pointer_mut(&pointer).expect(&pointer) = serde_json::from_str(value).unwrap();
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
    spec["properties"]["rescue"]["properties"]["new"] = json!({"type": "boolean"});
    spec["properties"]["rescue"]["default"]["new"] = json!(true);
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
    if !keeps_default(before, after) {
        lost.push(format!(
            "{path}: default was {} and is {}",
            before["default"], after["default"]
        ));
    }
    for what in [
        "type",
        "format",
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
    bounds(before, after, path, lost);
    if after["enum"].is_array() {
        match before["enum"].as_array() {
            Some(_) => missing(Some(&before["enum"]), Some(&after["enum"]), path, lost),
            None => lost.push(format!("{path}: only some values are left")),
        }
    }
    // What is required now was required then, and a rule that holds now held then.
    let at = format!("{path}: what was required");
    missing(Some(&after["required"]), Some(&before["required"]), &at, lost);
    let (rules, held) = (
        Value::Array(tightening(before, after)),
        &before["x-kubernetes-validations"],
    );
    missing(Some(&rules), Some(held), &format!("{path}: the rules of before"), lost);
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

/// Which bounds are tighter than they were.
fn bounds(before: &Value, after: &Value, path: &str, lost: &mut Vec<String>) {
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
}

/// Whether what is left out still means the same. The default of an object may grow by fields that there were not.
fn keeps_default(before: &Value, after: &Value) -> bool {
    let (Some(then), Some(now)) = (before["default"].as_object(), after["default"].as_object()) else {
        return before["default"] == after["default"];
    };
    let kept = then.iter().all(|(name, value)| now.get(name) == Some(value));
    kept && now
        .keys()
        .all(|name| then.contains_key(name) || before["properties"][name].is_null())
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
    let essences = |list: Option<&Value>| -> Vec<Value> {
        let elements = list.and_then(Value::as_array);
        elements.into_iter().flatten().map(essence).collect()
    };
    let present = essences(in_these);
    for element in essences(these).iter().filter(|element| !present.contains(element)) {
        lost.push(format!("{path}: lacks {element}"));
    }
}
