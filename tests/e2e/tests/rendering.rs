//! The chart without a cluster: what it renders, what it refuses, and whether what it says of itself is true.
//!
//! `UPDATE_GOLDENS=1` writes `tests/chart/goldens` and the chart's README anew. Whether an API server takes what is rendered
//! is tested by the scenarios in `chart.rs`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail like tests")]

#[path = "rendering/admission.rs"]
mod admission;
#[path = "rendering/network.rs"]
mod network;

use std::collections::BTreeSet;
use std::path::Path;

use catamaran_e2e::chart::{at, documented, folder, helm, matrix, table};
use catamaran_e2e::operator::tree;
use serde_json::{Value, json};

fn chart() -> String {
    folder().unwrap().to_str().unwrap().to_owned()
}

fn file(relative: &str) -> String {
    let path = tree().join(relative);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn yaml(text: &str) -> Value {
    serde_saphyr::from_str(text).unwrap()
}

/// Compares a file of the tree with what it should be, or writes it.
fn must_be(path: &Path, expected: &str, problems: &mut Vec<String>) {
    if std::env::var("UPDATE_GOLDENS").is_ok_and(|update| update == "1") {
        std::fs::write(path, expected).unwrap();
    }
    let found = std::fs::read_to_string(path).unwrap_or_default();
    if found != expected {
        let differs = found.lines().zip(expected.lines()).position(|(old, new)| old != new);
        let line = differs.unwrap_or_else(|| found.lines().count().min(expected.lines().count()));
        problems.push(format!(
            "{} is stale from line {}: expected {:?}, found {:?}; `make generate` writes it",
            path.display(),
            line + 1,
            expected.lines().nth(line).unwrap_or_default(),
            found.lines().nth(line).unwrap_or_default(),
        ));
    }
}

#[test]
fn every_set_of_values_renders_to_its_golden() {
    let goldens = tree().join("tests/chart/goldens");
    let mut problems = Vec::new();
    let mut names = BTreeSet::new();
    for (name, values) in matrix().unwrap() {
        let values = values.to_str().unwrap();
        let arguments = ["template", "catamaran", &chart(), "--namespace", "catamaran-system"];
        // The definition is long, and has a test of its own.
        let more = ["--values", values, "--set", "crds.enabled=false"];
        let rendered = helm(&[&arguments[..], &more].concat()).unwrap_or_else(|error| panic!("{name}: {error}"));
        must_be(&goldens.join(format!("{name}.yaml")), &rendered, &mut problems);
        names.insert(format!("{name}.yaml"));
    }
    for entry in std::fs::read_dir(&goldens).unwrap() {
        let name = entry.unwrap().file_name().to_string_lossy().into_owned();
        if !names.contains(&name) {
            problems.push(format!("nothing renders to {name}"));
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn helm_lint_has_nothing_to_say_of_any_set_of_values() {
    for (name, values) in matrix().unwrap() {
        let arguments = [
            "lint",
            "--strict",
            "--quiet",
            &chart(),
            "--values",
            values.to_str().unwrap(),
        ];
        let said = helm(&arguments).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(said.trim(), "", "{name}");
    }
}

#[test]
fn the_definition_is_the_one_of_the_tree_and_kept_unless_told_otherwise() {
    let original = yaml(&file("crds/catamaran.dev_registrymirrors.yaml"));
    let render = |keep: &str| {
        let arguments = [
            "template",
            "catamaran",
            &chart(),
            "--show-only",
            "templates/crd.yaml",
            "--set",
            keep,
        ];
        yaml(&helm(&arguments).unwrap())
    };
    let kept = render("crds.keep=true");
    assert_eq!(kept["spec"], original["spec"]);
    assert_eq!(kept["metadata"]["name"], original["metadata"]["name"]);
    assert_eq!(kept["metadata"]["annotations"]["helm.sh/resource-policy"], "keep");
    let not_kept = render("crds.keep=false");
    assert!(
        not_kept["metadata"]["annotations"]
            .get("helm.sh/resource-policy")
            .is_none(),
        "{}",
        not_kept["metadata"]
    );
}

/// What is set, and what is said of it.
const NONSENSE: &[(&str, &str, &str)] = &[
    (
        "a value that is none",
        "replicas=3",
        "additional properties 'replicas' not allowed",
    ),
    (
        "a nested one",
        "log.levels=debug",
        "at '/log': additional properties 'levels' not allowed",
    ),
    (
        "too many replicas",
        "replicaCount=50",
        "at '/replicaCount': maximum: got 50, want 10",
    ),
    (
        "a number as text",
        "replicaCount=two",
        "at '/replicaCount': got string, want integer",
    ),
    (
        "a tag in the repository",
        "image.repository=ghcr.io/x/y:v1",
        "at '/image/repository'",
    ),
    ("an empty repository", "image.repository=", "at '/image/repository'"),
    (
        "a digest that is none",
        "image.digest=sha256:0123",
        "at '/image/digest'",
    ),
    (
        "an unknown pull policy",
        "image.pullPolicy=Sometimes",
        "value must be one of 'Always', 'IfNotPresent', 'Never'",
    ),
    (
        "a name with capitals",
        "fullnameOverride=Catamaran",
        "at '/fullnameOverride'",
    ),
    (
        "a time-out beyond reason",
        "webhook.timeoutSeconds=30",
        "at '/webhook/timeoutSeconds': maximum: got 30, want 10",
    ),
    (
        "a mode that is none",
        "certificates.mode=vault",
        "value must be one of 'self', 'cert-manager', 'secret'",
    ),
    (
        "a given Secret without a name",
        "certificates.mode=secret",
        "certificates.secretName is needed",
    ),
    (
        "an issuer without a name",
        "certificates.certManager.issuerRef.kind=Issuer",
        "issuerRef.name is needed",
    ),
    (
        "a client id that is a name",
        "azure.workloadIdentity.clientId=my-identity",
        "at '/azure/workloadIdentity/clientId'",
    ),
    (
        "a tenant without a client",
        "azure.workloadIdentity.tenantId=66666666-7777-8888-9999-aaaaaaaaaaaa",
        "azure.workloadIdentity.clientId is needed",
    ),
    ("a role's name", "aws.roleArn=catamaran", "at '/aws/roleArn'"),
    (
        "an identity on somebody else's account",
        "serviceAccount.create=false,serviceAccount.name=x,aws.roleArn=arn:aws:iam::123456789012:role/x",
        "annotate yours",
    ),
    (
        "no account at all",
        "serviceAccount.create=false",
        "serviceAccount.name is needed",
    ),
    (
        "a proxy with a password",
        "proxy.https=http://me:secret@proxy:3128",
        "at '/proxy/https'",
    ),
    ("a proxy without scheme", "proxy.https=proxy:3128", "at '/proxy/https'"),
    (
        "exceptions from no proxy",
        "proxy.noProxy={.example.com}",
        "proxy.https is needed",
    ),
    (
        "minting without names",
        "pullSecrets.namespaces={default}",
        "pullSecrets.names is needed",
    ),
    (
        "a namespace with capitals",
        "pullSecrets.namespaces={Default},pullSecrets.names={x}",
        "at '/pullSecrets/namespaces/0'",
    ),
    (
        "a Secret's name with capitals",
        "secretNames={ACR}",
        "at '/secretNames/0'",
    ),
    (
        "a budget that blocks every drain",
        "podDisruptionBudget.maxUnavailable=0",
        "minimum: got 0, want 1",
    ),
    (
        "peers that are missing",
        "networkPolicy.webhookFrom=Peers",
        "networkPolicy.webhookPeers is needed",
    ),
    (
        "a peer that is none",
        "networkPolicy.webhookPeers[0].cidr=10.0.0.0/8",
        "additional properties 'cidr' not allowed",
    ),
    (
        "a policy from nowhere",
        "networkPolicy.webhookFrom=Nobody",
        "'Anywhere', 'Konnectivity', 'Peers'",
    ),
    (
        "a monitor of no service",
        "metrics.enabled=false,metrics.serviceMonitor.enabled=true",
        "metrics.podMonitor needs none",
    ),
    (
        "an interval without unit",
        "metrics.podMonitor.interval=30",
        "at '/metrics/podMonitor/interval'",
    ),
    (
        "an alert that is none",
        "metrics.prometheusRule.enabled=true,metrics.prometheusRule.disabled={CatamaranSunk}",
        "CatamaranSunk, which is no alert of this chart: CatamaranAbsent",
    ),
    (
        "limits beside their place",
        "resources.memory=1Gi",
        "at '/resources': additional properties 'memory' not allowed",
    ),
    (
        "an argument that rights depend on",
        "extraArgs={--certificates=secret}",
        "set certificates.mode",
    ),
    (
        "lifetimes in two places",
        "extraArgs={--certificate-lifetime=60s}",
        "set certificates.lifetime",
    ),
    (
        "a certificate of a moment",
        "certificates.lifetime=59s",
        "must be 60s or more",
    ),
    (
        "an authority of eleven years",
        "certificates.authorityLifetime=96360h",
        "87600h or less",
    ),
    (
        "an authority that its certificates nearly outlive",
        "certificates.lifetime=30m,certificates.authorityLifetime=1h",
        "three times certificates.lifetime",
    ),
    (
        "a lifetime in days",
        "certificates.lifetime=30d",
        "at '/certificates/lifetime'",
    ),
    (
        "a variable without name",
        "extraEnv[0].value=x",
        "at '/extraEnv/0': missing property 'name'",
    ),
    (
        "names of clients without a CA",
        "webhook.clients.names={api-server}",
        "webhook.clients.names needs webhook.clients.secretName or webhook.clients.configMapName",
    ),
    (
        "a CA of clients from two places",
        "webhook.clients.secretName=a,webhook.clients.configMapName=b",
        "from secretName or from configMapName, not from both",
    ),
    (
        "a drain without end",
        "shutdown.drainSeconds=600",
        "at '/shutdown/drainSeconds': maximum: got 600, want 60",
    ),
];

#[test]
fn nonsense_is_refused_in_words_that_help() {
    for (case, set, expected) in NONSENSE {
        match helm(&["template", "catamaran", &chart(), "--set", set]) {
            Ok(_) => panic!("{case}: --set {set} was accepted"),
            Err(error) => assert!(
                error.to_string().contains(expected),
                "{case}: expected {expected:?}, got {error}"
            ),
        }
    }
}

/// Every property of an object schema that is described as such, by its path; free-form objects are leaves.
fn properties(schema: &Value, path: &str, into: &mut BTreeSet<String>) {
    match schema["properties"].as_object() {
        Some(properties_of) if schema["type"] == "object" => {
            assert_eq!(
                schema["additionalProperties"],
                json!(false),
                "{path:?} must take nothing that it doesn't know"
            );
            for (key, inner) in properties_of {
                let inner_path = if path.is_empty() {
                    key.clone()
                } else {
                    format!("{path}.{key}")
                };
                properties(inner, &inner_path, into);
            }
        }
        _ => {
            into.insert(path.to_owned());
        }
    }
}

#[test]
fn the_schema_and_the_documented_values_are_the_same() {
    let values = file("charts/catamaran/values.yaml");
    let schema: Value = serde_json::from_str(&file("charts/catamaran/values.schema.json")).unwrap();
    let mut known = BTreeSet::new();
    properties(&schema, "", &mut known);
    // Parent charts set it.
    known.remove("global");
    let documented: Vec<String> = documented(&values)
        .unwrap()
        .into_iter()
        .map(|value| value.path)
        .collect();
    for path in &known {
        let covered = |value: &String| path == value || path.starts_with(&format!("{value}."));
        assert!(
            documented.iter().any(covered),
            "{path} is in the schema but not in values.yaml"
        );
    }
    for path in &documented {
        let within = |property: &String| property == path || property.starts_with(&format!("{path}."));
        assert!(
            known.iter().any(within),
            "{path} is in values.yaml but not in the schema"
        );
        assert!(
            at(&yaml(&values), path).is_some(),
            "{path} is documented, but has no default"
        );
    }
}

#[test]
fn a_value_without_a_comment_is_noticed() {
    let error = documented("# -- One.\na: 1\nb:\n  # -- Two,\n  # with a second line.\n  c: {}\n  d: 2\n").unwrap_err();
    assert_eq!(error.to_string(), "line 7: b.d has no comment");
    let values = documented("# -- One.\na:\n  nested: 1\nb:\n  # -- Two,\n  # with a second line.\n  c: {}\n").unwrap();
    let values: Vec<_> = values
        .iter()
        .map(|value| (value.path.as_str(), value.text.as_str()))
        .collect();
    assert_eq!(values, [("a", "One."), ("b.c", "Two, with a second line.")]);
}

#[test]
fn the_readme_says_what_the_values_and_alerts_are() {
    let path = tree().join("charts/catamaran/README.md");
    let mut text = std::fs::read_to_string(&path).unwrap();
    let alerts = yaml(&file("charts/catamaran/files/alerts.yaml"));
    let mut rows = vec![
        "| alert | severity | for | when |".to_owned(),
        "| --- | --- | --- | --- |".to_owned(),
    ];
    for alert in alerts["alerts"].as_array().unwrap() {
        let [name, severity, after, summary] =
            ["alert", "severity", "for", "summary"].map(|key| alert[key].as_str().unwrap());
        let summary = summary
            .replace("{{ $labels.", "<")
            .replace("{{ $value", "<number")
            .replace(" }}", ">");
        let page = format!("../../docs/runbooks/{name}.md");
        rows.push(format!("| [{name}]({page}) | {severity} | {after} | `{summary}` |"));
    }
    let alert_table = rows.join("\n") + "\n";
    let values = table(&file("charts/catamaran/values.yaml")).unwrap();
    for (what, content) in [("values", values), ("alerts", alert_table)] {
        let (begin, end) = (
            format!("<!-- {what}: made by `make generate` -->\n"),
            format!("<!-- end of {what} -->"),
        );
        let from = text.find(&begin).unwrap_or_else(|| panic!("no {begin}")) + begin.len();
        let to = text.find(&end).unwrap_or_else(|| panic!("no {end}"));
        text.replace_range(from..to, &content);
    }
    let mut problems = Vec::new();
    must_be(&path, &text, &mut problems);
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

/// The string literals that follow each occurrence of `marker` in a source without white space.
fn literals<'s>(source: &'s str, marker: &str) -> Vec<(&'s str, &'s str)> {
    let mut found = Vec::new();
    let mut rest = source;
    while let Some(begin) = rest.find(marker) {
        rest = &rest[begin + marker.len()..];
        if let Some((literal, after)) = rest.split_once('"') {
            found.push((literal, after));
        }
    }
    found
}

/// The type of a field of a struct without white space: up to the comma that is in no angle brackets.
fn type_of<'s>(fields: &'s str, field: &str) -> Option<&'s str> {
    let named = format!(",{field}:");
    let begin = fields.find(&named).map(|at| at + named.len());
    let begin = begin.or_else(|| fields.starts_with(&named[1..]).then_some(named.len() - 1))?;
    let mut depth = 0;
    let end = fields[begin..].find(|c| {
        depth += i32::from(c == '<') - i32::from(c == '>');
        c == ',' && depth == 0
    });
    Some(&fields[begin..end.map_or(fields.len(), |end| begin + end)])
}

/// The names under which the operator exposes what it counts, read off the code that does.
fn exposed() -> BTreeSet<String> {
    let dense = |path: &str| file(path).split_whitespace().collect::<String>();
    let process = dense("crates/catamaran/src/exposition.rs");
    let mut names = BTreeSet::new();
    let mut add = |name: &str, suffixes: &[&str]| {
        names.extend(suffixes.iter().map(|suffix| format!("catamaran_{name}{suffix}")));
    };
    let (counter, histogram) = (["_total"], ["_bucket", "_sum", "_count"]);
    for (path, definition) in [
        ("crates/controller/src/metrics.rs", "pubstructMetrics{"),
        ("crates/controller/src/metrics/proof.rs", "pubstructProofMetrics{"),
        ("crates/controller/src/publish/metrics.rs", "pubstructSnapshotMetrics{"),
    ] {
        let source = dense(path);
        let fields = source.split_once(definition).unwrap().1.split_once('}').unwrap().0;
        for (name, after) in literals(&source, "registry.register(\"") {
            let field = after.split_once(",self.").unwrap().1.split_once(".clone()").unwrap().0;
            let kind = type_of(fields, field).unwrap_or_else(|| panic!("the field of metric {name} was not found"));
            match kind {
                kind if kind.contains("Counter") => add(name, &counter),
                kind if kind.contains("Histogram") => add(name, &histogram),
                _ => add(name, &[""]),
            }
        }
    }
    for (name, _) in literals(&process, "family(&mutencoder,\"") {
        add(name, &counter);
    }
    for (name, _) in literals(&process, "gauge(&mutencoder,\"") {
        add(name, &[""]);
    }
    for (name, after) in literals(&process, "encoder.encode_descriptor(\"") {
        let kind = after.split_once("MetricType::").map_or("", |(_, kind)| kind);
        match kind {
            kind if kind.starts_with("Counter") => add(name, &counter),
            kind if kind.starts_with("Histogram") => add(name, &histogram),
            _ => add(name, &[""]),
        }
    }
    names
}

/// Everything in a text that looks like one of our metrics.
fn metrics_in(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("catamaran_")).collect()
}

#[test]
fn alerts_and_the_dashboard_ask_for_metrics_that_exist() {
    let exposed = exposed();
    for expected in [
        "catamaran_probes_total",
        "catamaran_probe_duration_seconds_bucket",
        "catamaran_tags",
        "catamaran_leader",
        "catamaran_admission_reviews_total",
        "catamaran_admission_duration_seconds_count",
    ] {
        assert!(
            exposed.contains(expected),
            "{expected} was not found in the code: {exposed:?}"
        );
    }
    for path in [
        "charts/catamaran/files/alerts.yaml",
        "charts/catamaran/files/dashboard.json",
    ] {
        let text = file(path);
        let asked = metrics_in(&text);
        assert!(asked.len() > 5, "{path} asks for {asked:?} only");
        for metric in asked {
            assert!(
                exposed.contains(metric),
                "{path} asks for {metric}, which nothing exposes"
            );
        }
    }
}

#[test]
fn every_alert_has_a_runbook_and_every_runbook_an_alert() {
    let alerts = yaml(&file("charts/catamaran/files/alerts.yaml"));
    let mut pages: BTreeSet<String> = std::fs::read_dir(tree().join("docs/runbooks"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    for alert in alerts["alerts"].as_array().unwrap() {
        let name = alert["alert"].as_str().unwrap();
        assert!(
            pages.remove(&format!("{name}.md")),
            "{name} has no page in docs/runbooks"
        );
        let page = file(&format!("docs/runbooks/{name}.md"));
        assert!(
            page.starts_with(&format!("# {name}\n")),
            "{name}.md must open with its name"
        );
        for heading in ["## Meaning", "## Diagnosis", "## Mitigation"] {
            assert!(page.contains(heading), "{name}.md lacks {heading:?}");
        }
        assert!(page.contains("```"), "{name}.md has no command to copy");
    }
    pages.remove("README.md");
    assert!(pages.is_empty(), "runbooks without an alert: {pages:?}");
}

#[test]
fn the_dashboard_is_complete_and_in_order() {
    let dashboard: Value = serde_json::from_str(&file("charts/catamaran/files/dashboard.json")).unwrap();
    let mut ids = BTreeSet::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        let title = panel["title"].as_str().unwrap();
        assert!(
            ids.insert(panel["id"].as_u64().unwrap()),
            "{title}: its id is used twice"
        );
        assert!(
            !panel["description"].as_str().unwrap().is_empty(),
            "{title} has no description"
        );
        for target in panel["targets"].as_array().unwrap() {
            let expression = target["expr"].as_str().unwrap();
            let balanced = expression.matches('(').count() == expression.matches(')').count();
            assert!(balanced && !expression.is_empty(), "{title}: {expression}");
            assert_eq!(target["datasource"]["uid"], "${datasource}", "{title}");
        }
    }
    assert!(ids.len() > 10, "{} panels", ids.len());
}

#[test]
fn the_notes_end_with_the_next_command_to_run() {
    for (name, values) in matrix().unwrap() {
        let arguments = [
            "install",
            "catamaran",
            &chart(),
            "--namespace",
            "catamaran-system",
            "--dry-run=client",
        ];
        let printed = helm(&[&arguments[..], &["--values", values.to_str().unwrap()]].concat())
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        let notes = printed
            .split_once("NOTES:")
            .unwrap_or_else(|| panic!("{name} has no notes"))
            .1;
        let last = notes.trim().lines().last().unwrap_or_default();
        assert!(last.starts_with("  kubectl "), "{name}: the notes end with {last:?}");
    }
}
