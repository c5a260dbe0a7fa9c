//! From an earlier release to the tree: its definition and its objects are there first.

use std::time::Instant;

use anyhow::{Context as _, ensure};
use catamaran_e2e::ground::PATIENCE;
use catamaran_e2e::runner::Scenario;
use catamaran_e2e::view::{items, name, number, text};
use catamaran_e2e::{Case, operator};
use serde_json::{Value, json};

use crate::release::{DEFINITION, remove_shared, restore, timed};

pub const SCENARIOS: &[Scenario] = &[Scenario {
    name: "mirrors-of-release-0-1-0-survive-the-upgrade",
    run: mirrors_survive_the_upgrade,
}];

/// What stood in a cluster with that release. The definition is as its chart left it, without Helm's own marks.
const RELEASE: &str = "fixtures/v0.1.0";

fn mirrors_survive_the_upgrade(case: &Case<'_>) -> anyhow::Result<()> {
    let result = remove_shared(case).and_then(|()| upgrade(case));
    restore(case, result)
}

fn upgrade(case: &Case<'_>) -> anyhow::Result<()> {
    let cluster = &case.ground.cluster;
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(RELEASE);
    let file = |name: &str| folder.join(name).display().to_string();
    cluster.kubectl(&["delete", DEFINITION, "--timeout=180s"])?;
    // In Helm's name: what kubectl applied, Helm 4 would later refuse to take from it.
    let definition = file("catamaran.dev_registrymirrors.yaml");
    cluster.kubectl(&["apply", "--server-side", "--field-manager=helm", "-f", &definition])?;
    // The marks by which Helm knows what is its release's.
    let marks = json!({"metadata": {
        "labels": {"app.kubernetes.io/managed-by": "Helm"},
        "annotations": {
            "meta.helm.sh/release-name": operator::RELEASE, "meta.helm.sh/release-namespace": operator::NAMESPACE,
            "helm.sh/resource-policy": "keep",
        },
    }});
    case.ground.patch("default", DEFINITION, &marks)?;
    cluster.served(&[DEFINITION])?;
    cluster.kubectl(&["apply", "-f", &file("mirrors.yaml")])?;
    let before = Stored::read(case)?;
    ensure!(!before.mirrors.is_empty(), "the earlier release has no mirrors");
    let since = Instant::now();
    timed(case, "install the tree's chart over it", || case.ground.reinstall())?;
    let after = Stored::read(case)?;
    ensure!(
        after.versions == before.versions && after.kept_as == before.kept_as,
        "versions were {:?} stored as {:?}, and are {:?} stored as {:?}",
        before.versions,
        before.kept_as,
        after.versions,
        after.kept_as
    );
    let mut lost = Vec::new();
    dropped(&before.schema, &after.schema, "", &mut lost);
    ensure!(lost.is_empty(), "the definition has dropped {lost:?}");
    for old in &before.mirrors {
        let named = name(old);
        let new = after.mirrors.iter().find(|mirror| name(mirror) == named);
        let new = new.with_context(|| format!("mirror {named} is gone"))?;
        ensure!(
            old["metadata"]["uid"] == new["metadata"]["uid"],
            "{named} is another one"
        );
        let mut lost = Vec::new();
        dropped(&old["spec"], &new["spec"], "spec", &mut lost);
        ensure!(lost.is_empty(), "{named} has lost {lost:?}");
        let what = format!("mirror {named} observed");
        case.ground
            .mirrors
            .until(&what, PATIENCE, ("", named), since, |mirror| {
                number(mirror, "/status/observedGeneration") == number(mirror, "/metadata/generation")
            })?;
    }
    case.note(format!(
        "{} mirrors, {} versions",
        after.mirrors.len(),
        after.versions.len()
    ));
    Ok(())
}

/// What the API server holds.
struct Stored {
    versions: Vec<String>,
    kept_as: Value,
    schema: Value,
    mirrors: Vec<Value>,
}

impl Stored {
    fn read(case: &Case<'_>) -> anyhow::Result<Self> {
        let definition = case.ground.get("default", DEFINITION)?;
        let versions = definition["spec"]["versions"].as_array().context("no versions")?;
        let mirrors = case.ground.cluster.kubectl(&["get", "registrymirrors", "-o", "json"])?;
        Ok(Self {
            versions: versions
                .iter()
                .map(|version| text(version, "/name").to_owned())
                .collect(),
            kept_as: definition["status"]["storedVersions"].clone(),
            schema: shape(&versions[0]["schema"]["openAPIV3Schema"]),
            mirrors: items(&serde_json::from_str(&mirrors)?),
        })
    }
}

/// The fields of a schema with their types, as an object like those that it describes.
fn shape(schema: &Value) -> Value {
    let inner = ["items", "additionalProperties"].map(|word| &schema[word]);
    if let Some(fields) = schema["properties"].as_object() {
        fields
            .iter()
            .map(|(name, field)| (name.clone(), shape(field)))
            .collect()
    } else if let Some(inner) = inner.into_iter().find(|inner| inner.is_object()) {
        json!([shape(inner)])
    } else {
        schema["type"].clone()
    }
}

/// The paths of `old` that are not in `new`, or hold something else there. What is only in `new` is welcome.
fn dropped(old: &Value, new: &Value, path: &str, lost: &mut Vec<String>) {
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
            for (name, value) in old {
                let path = format!("{path}.{name}");
                match new.get(name) {
                    Some(other) => dropped(value, other, &path, lost),
                    None => lost.push(path),
                }
            }
        }
        (Value::Array(old), Value::Array(new)) if old.len() == new.len() => {
            for (at, (value, other)) in old.iter().zip(new).enumerate() {
                dropped(value, other, &format!("{path}[{at}]"), lost);
            }
        }
        (old, new) if old == new => {}
        _ => lost.push(path.to_owned()),
    }
}
