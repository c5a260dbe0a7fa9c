//! The definition: the committed file, what must hold for any of its fields, the pages of the reference that are made of it, and
//! that it only ever grows.

// Helpers of a test fail by panicking, as the test does.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::PathBuf;

use catamaran_api::crd::{crd, crd_yaml};
use serde_json::Value;

mod additive;
mod reference;

fn file() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../crds/catamaran.dev_registrymirrors.yaml")
}

#[test]
fn the_committed_definition_is_up_to_date() {
    if std::env::var_os("UPDATE_CRDS").is_some() {
        std::fs::write(file(), crd_yaml()).unwrap();
    }
    let committed = std::fs::read_to_string(file()).unwrap_or_default();
    assert!(
        committed == crd_yaml(),
        "crds/catamaran.dev_registrymirrors.yaml is stale; `make generate` writes it"
    );
}

#[test]
fn the_file_reads_back_as_the_definition() {
    let read: Value = serde_saphyr::from_str(&crd_yaml()).unwrap();
    assert_eq!(read, serde_json::to_value(crd()).unwrap());
}

/// YAML 1.1, which kubectl and Flux read, takes bare words such as `Off` for booleans, and Flux substitutes variables in what
/// it applies.
#[test]
fn nothing_in_the_file_is_read_as_something_else() {
    let yaml = crd_yaml();
    assert!(!yaml.contains("${"), "Flux would substitute it");
    for line in yaml.lines() {
        let word = line
            .trim()
            .trim_start_matches("- ")
            .rsplit(": ")
            .next()
            .unwrap_or_default();
        let is_boolean = ["y", "n", "yes", "no", "on", "off"].contains(&word.to_lowercase().as_str());
        assert!(!is_boolean, "a bare word is a boolean in YAML 1.1: {line}");
    }
}

#[test]
fn every_field_is_described_in_one_paragraph() {
    fn visit(schema: &Value, path: &str) {
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            let at = format!("{path}.{name}");
            let description = property["description"].as_str().unwrap_or_default();
            assert!(!description.is_empty(), "{at} has no description");
            assert!(
                !description.contains(['\n', '`']),
                "{at} is described in Markdown: {description}"
            );
            visit(property, &at);
            visit(&property["items"], &at);
        }
    }
    let schema = serde_json::to_value(crd().spec.versions[0].schema.clone()).unwrap();
    let properties = &schema["openAPIV3Schema"]["properties"];
    visit(&properties["spec"], "spec");
    visit(&properties["status"], "status");
}

/// What a rule reads must be bounded, or the API server refuses the definition for what the rule could cost.
#[test]
fn every_string_and_list_of_the_spec_is_bounded() {
    fn visit(schema: &Value, path: &str) {
        // The selector is Kubernetes' own type; no rule reads it.
        if path == "spec.namespaceSelector" {
            return;
        }
        match schema["type"].as_str() {
            Some("string") => {
                let bounded = schema["maxLength"].is_u64() || schema["enum"].is_array();
                assert!(bounded, "{path} has no maxLength");
            }
            Some("array") => assert!(schema["maxItems"].is_u64(), "{path} has no maxItems"),
            Some("integer") => assert!(
                schema["minimum"].is_f64() && schema["maximum"].is_f64(),
                "{path} has no bounds"
            ),
            _ => {}
        }
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            visit(property, &format!("{path}.{name}"));
        }
        if schema["items"].is_object() {
            visit(&schema["items"], &format!("{path}[]"));
        }
    }
    let schema = serde_json::to_value(crd().spec.versions[0].schema.clone()).unwrap();
    visit(&schema["openAPIV3Schema"]["properties"]["spec"], "spec");
}

/// `kubectl get regm` fits into 80 columns with names of usual length, so that it needs no horizontal scrolling; the rest is for
/// `--output=wide`.
#[test]
fn the_columns_are_few_described_and_in_the_order_of_reading() {
    let columns = crd().spec.versions.remove(0).additional_printer_columns.unwrap();
    let shown = |wide: bool| -> Vec<&str> {
        let chosen = columns
            .iter()
            .filter(|column| wide || column.priority.unwrap_or_default() == 0);
        chosen.map(|column| column.name.as_str()).collect()
    };
    assert_eq!(
        shown(false),
        ["Primary", "Fallback", "Active", "In-Sync", "Ready", "Age"]
    );
    let wide = [
        "Primary",
        "Fallback",
        "Active",
        "In-Sync",
        "Ready",
        "Tags",
        "Diverged",
        "Unchanged",
        "Status",
        "Age",
    ];
    assert_eq!(shown(true), wide);
    for column in &columns {
        assert!(column.description.is_some(), "{} has no description", column.name);
    }
}
