//! What the API server does with an object of the resource, without an API server: it drops nulls, sets defaults, checks the
//! structure and evaluates the CEL rules. Messages contain what the API server's contain.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use catamaran_api::crd::crd;
use kube::core::cel::{CompiledSchema, Validator, apply_defaults, compile_schema};
use regex::Regex;
use serde_json::{Map, Value};

/// A file below this crate.
pub fn path(relative: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(relative)
}

/// Every YAML file of a directory below this crate, by name.
pub fn files(directory: &str) -> Vec<(String, String)> {
    let mut files: Vec<(String, String)> = std::fs::read_dir(path(directory))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .map(|path| (path.display().to_string(), std::fs::read_to_string(&path).unwrap()))
        .collect();
    files.sort();
    assert!(!files.is_empty(), "{directory} holds no YAML files");
    files
}

/// The schema that the definition holds.
pub static SCHEMA: LazyLock<Value> = LazyLock::new(|| {
    let version = crd().spec.versions.remove(0);
    serde_json::to_value(version.schema.unwrap().open_api_v3_schema.unwrap()).unwrap()
});

static RULES: LazyLock<CompiledSchema> = LazyLock::new(|| {
    let rules = compile_schema(&SCHEMA);
    assert!(!rules.has_errors(), "{:?}", rules.compilation_errors());
    rules
});

/// The object as the API server would store it, or why it would not.
pub fn admit(mut object: Value) -> Result<Value, Vec<String>> {
    drop_nulls(&mut object);
    let object = apply_defaults(&SCHEMA, &object);
    let mut errors = Vec::new();
    check(&SCHEMA, &object, "", &mut errors);
    if let Err(failed) = Validator::new().validate_compiled(&RULES, &object, None) {
        errors.extend(failed.into_vec().iter().map(ToString::to_string));
    }
    if errors.is_empty() { Ok(object) } else { Err(errors) }
}

fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, field| !field.is_null());
            fields.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

fn check(schema: &Value, value: &Value, path: &str, errors: &mut Vec<String>) {
    let kind = schema["type"].as_str().unwrap_or_default();
    let fits = match kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64(),
        _ => panic!("{path}: the schema has the type {kind:?}"),
    };
    if !fits {
        errors.push(format!("{path}: must be of type {kind}"));
        return;
    }
    if let Some(allowed) = schema["enum"].as_array()
        && !allowed.contains(value)
    {
        errors.push(format!("{path}: Unsupported value: {value}"));
    }
    match value {
        Value::Object(fields) => check_object(schema, fields, path, errors),
        Value::Array(items) => check_array(schema, items, path, errors),
        Value::String(text) => check_string(schema, text, path, errors),
        Value::Number(number) => {
            let number = number.as_f64().unwrap();
            if let Some(least) = schema["minimum"].as_f64().filter(|least| number < *least) {
                errors.push(format!("{path}: should be greater than or equal to {least}"));
            }
            if let Some(most) = schema["maximum"].as_f64().filter(|most| number > *most) {
                errors.push(format!("{path}: should be less than or equal to {most}"));
            }
        }
        _ => {}
    }
}

fn check_object(schema: &Value, fields: &Map<String, Value>, path: &str, errors: &mut Vec<String>) {
    for name in schema["required"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
    {
        if !fields.contains_key(name) {
            errors.push(format!("{path}.{name}: Required value"));
        }
    }
    let count = fields.len() as u64;
    if let Some(most) = schema["maxProperties"].as_u64().filter(|most| count > *most) {
        errors.push(format!("{path}: Too many: must have at most {most} items"));
    }
    let Some(properties) = schema["properties"].as_object() else {
        let values = &schema["additionalProperties"];
        for (name, field) in fields.iter().filter(|_| values.is_object()) {
            check(values, field, &format!("{path}.{name}"), errors);
        }
        return;
    };
    for (name, field) in fields {
        let at = if path.is_empty() {
            name.clone()
        } else {
            format!("{path}.{name}")
        };
        match properties.get(name) {
            Some(property) => check(property, field, &at, errors),
            // The API server completes the schema of what every object has.
            None if path.is_empty() && ["apiVersion", "kind", "metadata"].contains(&name.as_str()) => {}
            None => errors.push(format!("unknown field {at:?}")),
        }
    }
}

fn check_array(schema: &Value, items: &[Value], path: &str, errors: &mut Vec<String>) {
    let count = items.len() as u64;
    if let Some(least) = schema["minItems"].as_u64().filter(|least| count < *least) {
        errors.push(format!("{path}: should have at least {least} items"));
    }
    if let Some(most) = schema["maxItems"].as_u64().filter(|most| count > *most) {
        errors.push(format!("{path}: Too many: must have at most {most} items"));
    }
    let keys = schema["x-kubernetes-list-map-keys"].as_array();
    let unique = schema["x-kubernetes-list-type"]
        .as_str()
        .is_some_and(|kind| kind == "map" || kind == "set");
    let key = |item: &Value| match keys {
        Some(keys) => keys.iter().map(|key| item[key.as_str().unwrap()].clone()).collect(),
        None => item.clone(),
    };
    for (index, item) in items.iter().enumerate() {
        if unique && items[..index].iter().any(|earlier| key(earlier) == key(item)) {
            errors.push(format!("{path}[{index}]: Duplicate value"));
        }
        check(&schema["items"], item, &format!("{path}[{index}]"), errors);
    }
}

fn check_string(schema: &Value, text: &str, path: &str, errors: &mut Vec<String>) {
    let length = text.chars().count() as u64;
    if let Some(least) = schema["minLength"].as_u64().filter(|least| length < *least) {
        errors.push(format!("{path}: should be at least {least} chars long"));
    }
    if let Some(most) = schema["maxLength"].as_u64().filter(|most| length > *most) {
        errors.push(format!("{path}: Too long: may not be more than {most} bytes"));
    }
    if let Some(pattern) = schema["pattern"].as_str()
        && !Regex::new(pattern).unwrap().is_match(text)
    {
        errors.push(format!("{path}: should match '{pattern}'"));
    }
}
