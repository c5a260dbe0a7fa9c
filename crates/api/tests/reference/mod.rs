//! The pages of docs/reference that this crate has the facts of: the fields, the conditions, the marks on objects.

use catamaran_api::conditions::{TYPES, VOCABULARY, reason};
use catamaran_api::crd::crd;
use catamaran_api::{annotations, conditions::Truth};
use catamaran_core::routes::{Exclusion, KeepReason, RewriteReason};
use serde_json::Value;

mod page;

use page::{check, code, table};

#[test]
fn the_page_of_the_resource_is_up_to_date() {
    let schema = crd().spec.versions.remove(0);
    let columns = schema.additional_printer_columns.unwrap();
    let schema = serde_json::to_value(schema.schema.unwrap().open_api_v3_schema.unwrap()).unwrap();
    let (mut fields, mut rules) = (Vec::new(), Vec::new());
    collect_rules(&schema, "metadata", &mut rules);
    for root in ["spec", "status"] {
        let part = &schema["properties"][root];
        collect_rules(part, root, &mut rules);
        collect_fields(part, root, &mut fields, &mut rules);
    }
    let columns = columns.into_iter().map(|column| {
        let wide = column.priority.unwrap_or_default() > 0;
        let when = if wide { "with `--output=wide`" } else { "always" };
        let path = code(column.json_path.trim_start_matches('.'));
        vec![
            code(&column.name.to_uppercase()),
            when.to_owned(),
            column.description.unwrap(),
            path,
        ]
    });
    let page = [
        "## Fields\n\nTimes are RFC 3339 in UTC, durations numbers with units such as `90s`, `5m` or `1h30m`.\n\n",
        &table(&["field", "type", "default", "bounds", ""], fields),
        "\n## Rules\n\nThe API server refuses what breaks one of these, with these words.\n\n",
        &table(&["field", "rule"], rules),
        "\n## Columns\n\nWhat `kubectl get registrymirrors` shows.\n\n",
        &table(&["column", "shown", "", "from"], columns),
    ];
    check("registrymirror.md", &page.concat());
}

fn collect_fields(schema: &Value, path: &str, fields: &mut Vec<Vec<String>>, rules: &mut Vec<Vec<String>>) {
    let required = |name: &str| {
        let names = schema["required"].as_array();
        names.is_some_and(|names| names.contains(&name.into()))
    };
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let at = format!("{path}.{name}");
        let need = if required(name) { ", required" } else { "" };
        let default = match &field["default"] {
            Value::Null | Value::Object(_) => String::new(),
            Value::String(text) if text.is_empty() => "empty".to_owned(),
            Value::String(text) => code(text),
            other => code(&other.to_string()),
        };
        let description = field["description"].as_str().unwrap_or_default().to_owned();
        fields.push(vec![code(&at), kind(field) + need, default, bounds(field), description]);
        // Kubernetes' own types are described elsewhere.
        if at == "spec.namespaceSelector" || at == "status.conditions" {
            continue;
        }
        collect_rules(field, &at, rules);
        collect_fields(field, &at, fields, rules);
        let of_items = format!("{at}[]");
        collect_rules(&field["items"], &of_items, rules);
        collect_fields(&field["items"], &of_items, fields, rules);
    }
}

fn collect_rules(schema: &Value, path: &str, rules: &mut Vec<Vec<String>>) {
    for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
        rules.push(vec![code(path), rule["message"].as_str().unwrap().to_owned()]);
    }
}

fn kind(field: &Value) -> String {
    if let Some(values) = field["enum"].as_array() {
        let values: Vec<String> = values.iter().map(|value| code(value.as_str().unwrap())).collect();
        return values.join(" ");
    }
    match field["type"].as_str().unwrap() {
        "array" => format!("list of {}", kind(&field["items"])),
        "string" if field["format"] == "date-time" => "time".to_owned(),
        kind => kind.to_owned(),
    }
}

/// What the schema bounds: a field's own bounds, then those of its elements.
fn bounds(field: &Value) -> String {
    let mut said = Vec::new();
    for (least, most, unit) in [
        ("minimum", "maximum", ""),
        ("minLength", "maxLength", " characters"),
        ("minItems", "maxItems", " entries"),
    ] {
        match (field[least].as_f64(), field[most].as_f64()) {
            (None, None) => {}
            (Some(least), None) => said.push(format!("at least {least}{unit}")),
            (None | Some(0.0), Some(most)) => said.push(format!("at most {most}{unit}")),
            (Some(least), Some(most)) => said.push(format!("{least} to {most}{unit}")),
        }
    }
    if let Some(pattern) = field["pattern"].as_str() {
        said.push(format!("matches {}", code(pattern)));
    }
    if field["items"].is_object() && field["items"]["type"] != "object" {
        let of_items = bounds(&field["items"]);
        if !of_items.is_empty() {
            said.push(format!("each {of_items}"));
        }
    }
    said.join(", ")
}

#[test]
fn the_page_of_the_conditions_is_up_to_date() {
    let mut page = String::new();
    for (kind, meaning) in TYPES {
        let of_kind = VOCABULARY.iter().filter(|(of, ..)| of == kind);
        let rows = of_kind.flat_map(|(_, status, reasons)| {
            reasons.iter().map(|reason| {
                let (_, meaning) = reason::ALL.iter().find(|(word, _)| word == reason).unwrap();
                vec![status.as_str().to_owned(), code(reason), meaning.trim().to_owned()]
            })
        });
        let heads = ["status", "reason", ""];
        page.push_str(&["## ", kind, "\n\n", meaning.trim(), "\n\n", &table(&heads, rows), "\n"].concat());
    }
    page.pop();
    check("conditions.md", &page);
}

/// Also that the vocabulary leaves no word out.
#[test]
fn every_type_and_reason_is_in_the_vocabulary() {
    for (kind, _) in TYPES {
        assert!(VOCABULARY.iter().any(|(of, ..)| of == kind), "{kind} says nothing");
    }
    for (word, _) in reason::ALL {
        let used = VOCABULARY.iter().any(|(.., reasons)| reasons.contains(word));
        assert!(used, "no condition has the reason {word}");
    }
    let mut said: Vec<(&str, Truth)> = VOCABULARY.iter().map(|(of, status, _)| (*of, *status)).collect();
    said.dedup();
    assert_eq!(said.len(), VOCABULARY.len(), "a type and status stand in it twice");
}

#[test]
fn the_page_of_labels_and_annotations_is_up_to_date() {
    let rows = annotations::ALL.iter().map(|(key, meaning)| {
        let (on, meaning) = meaning.trim().split_once(": ").unwrap();
        vec![code(key), on.to_owned(), meaning.to_owned()]
    });
    let rewritten = [RewriteReason::Rewritten, RewriteReason::Unverified].map(|reason| {
        let meaning = match reason {
            RewriteReason::Rewritten => "re-pointed: the tag is in sync, or the digest names the content",
            RewriteReason::Unverified => "re-pointed before the tag was compared; or left, with `unverifiedTags: Keep`",
        };
        vec![code(reason.as_str()), meaning.to_owned()]
    });
    let excluded = [
        Exclusion::StaticPod,
        Exclusion::PodLabel,
        Exclusion::NamespaceLabel,
        Exclusion::ControllerOwned,
    ];
    let kept = [
        KeepReason::MissingOnActive,
        KeepReason::DigestMismatch,
        KeepReason::NotCached,
        KeepReason::NoCounterpart,
    ];
    let kept = kept
        .into_iter()
        .chain(excluded.map(KeepReason::Excluded))
        .map(|reason| {
            let meaning = match reason {
                KeepReason::MissingOnActive => "left: the active side is known to lack the tag",
                KeepReason::DigestMismatch => "left: the two sides hold different content under the tag",
                KeepReason::Unverified => unreachable!("the word is told above"),
                KeepReason::NotCached => "left: the active side is a pull-through cache that digests don't fill",
                KeepReason::NoCounterpart => "left: it has no valid and unambiguous name on the active side",
                KeepReason::Excluded(Exclusion::StaticPod) => "left: the kubelet's copy of a static pod",
                KeepReason::Excluded(Exclusion::PodLabel) => "left: the pod's label says so",
                KeepReason::Excluded(Exclusion::NamespaceLabel) => "left: the namespace's label says so",
                KeepReason::Excluded(Exclusion::ControllerOwned) => "left: the pod's owner may compare images",
            };
            vec![code(reason.as_str()), meaning.to_owned()]
        });
    let page = [
        table(&["key", "on", ""], rows),
        format!("\n## Reasons\n\nThe values in `{}`.\n\n", annotations::REASONS),
        table(
            &["reason", "what happened to the image"],
            rewritten.into_iter().chain(kept),
        ),
    ];
    check("labels-and-annotations.md", &page.concat());
}
