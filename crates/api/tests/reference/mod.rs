//! The pages of docs/reference that this crate has the facts of: the fields, the conditions, the labels and annotations.

use catamaran_api::conditions::{TYPES, VOCABULARY, reason};
use catamaran_api::crd::crd;
use catamaran_api::{annotations, conditions::Truth};
use catamaran_core::pod::Exclusion;
use catamaran_core::routing::{KeepReason, RewriteReason};
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
    let reasons = REWRITTEN
        .iter()
        .map(|reason| (reason.as_str(), rewritten(*reason)))
        .chain(KEPT.iter().map(|reason| (reason.as_str(), kept(*reason))));
    let reasons = reasons.map(|(reason, meaning)| vec![code(reason), meaning.to_owned()]);
    let page = [
        table(&["key", "on", ""], rows),
        format!("\n## Reasons\n\nThe values in `{}`.\n\n", annotations::REASONS),
        table(&["reason", "what happened to the image"], reasons),
        "\nWith `rewrite.mode: Audit` nothing is changed, and what would have been rewritten has `Audit:` before its reason.\n"
            .to_owned(),
    ];
    check("labels-and-annotations.md", &page.concat());
}

const REWRITTEN: [RewriteReason; 4] = [
    RewriteReason::Rewritten,
    RewriteReason::Unverified,
    RewriteReason::OnlyOnOther,
    RewriteReason::Mismatched,
];

fn rewritten(reason: RewriteReason) -> &'static str {
    match reason {
        RewriteReason::Rewritten => "rewritten: the active side has the tag with the same digest, or has the digest",
        RewriteReason::Unverified => {
            "rewritten before it was read on the active side; or not rewritten, with `unverifiedTags: Keep`"
        }
        RewriteReason::OnlyOnOther => "sent to the side that is not active: the active side is known to lack it",
        RewriteReason::Mismatched => {
            "rewritten although the digests differ, with `mismatchedTags: WhenUnavailable`: the named side is unavailable"
        }
    }
}

const KEPT: [KeepReason; 17] = [
    KeepReason::NotObservedYet,
    KeepReason::NamespaceUnknown,
    KeepReason::PullPolicyNever,
    KeepReason::NotSelected,
    KeepReason::MissingOnActive,
    KeepReason::BrokenOnActive,
    KeepReason::UntrustedOnActive,
    KeepReason::DigestMismatch,
    KeepReason::NotCached,
    KeepReason::NoCounterpart,
    KeepReason::ExcludedImage,
    KeepReason::Excluded(Exclusion::StaticPod),
    KeepReason::Excluded(Exclusion::Namespace),
    KeepReason::Excluded(Exclusion::PodLabel),
    KeepReason::Excluded(Exclusion::NamespaceLabel),
    KeepReason::Excluded(Exclusion::PodSelector),
    KeepReason::Excluded(Exclusion::ControllerOwned),
];

fn kept(reason: KeepReason) -> &'static str {
    match reason {
        KeepReason::NotObservedYet => "not rewritten: the active side has not served an image of this mapping yet",
        KeepReason::NamespaceUnknown => "not rewritten: the namespace is so new that its labels are not known yet",
        KeepReason::PullPolicyNever => "not rewritten: the container's `imagePullPolicy` is `Never`",
        KeepReason::NotSelected => "not rewritten: the repository's `tags` do not select the tag",
        KeepReason::MissingOnActive => "not rewritten: the active side is known to lack it",
        KeepReason::BrokenOnActive => {
            "not rewritten: a manifest, a config or a layer of it is missing on the active side"
        }
        KeepReason::UntrustedOnActive => {
            "not rewritten: the active side serves a manifest for it that does not have its digest"
        }
        KeepReason::DigestMismatch => "not rewritten: the two sides have different digests for the tag",
        KeepReason::Unverified => unreachable!("the word is in the other list"),
        KeepReason::NotCached => {
            "not rewritten: the active side is a pull-through cache, which pulls by digest do not fill"
        }
        KeepReason::NoCounterpart => "not rewritten: it has no valid and unambiguous name on the active side",
        KeepReason::ExcludedImage => "not rewritten: `rewrite.excludeImages` matches it",
        KeepReason::Excluded(Exclusion::StaticPod) => "not rewritten: the kubelet's copy of a static pod",
        KeepReason::Excluded(Exclusion::Namespace) => {
            "not rewritten: `kube-system`, the operator's namespace or one of `webhook.excludedNamespaces`"
        }
        KeepReason::Excluded(Exclusion::PodLabel) => "not rewritten: the pod has `catamaran.dev/rewrite: disabled`",
        KeepReason::Excluded(Exclusion::NamespaceLabel) => {
            "not rewritten: the namespace has `catamaran.dev/rewrite: disabled`"
        }
        KeepReason::Excluded(Exclusion::PodSelector) => {
            "not rewritten: `rewrite.excludePods` selects the pod; its operator may compare images ([which](../exclusions.md))"
        }
        KeepReason::Excluded(Exclusion::ControllerOwned) => {
            "not rewritten: the pod's owner may compare images; `rewrite.ownerKinds` allows kinds that do not"
        }
    }
}
