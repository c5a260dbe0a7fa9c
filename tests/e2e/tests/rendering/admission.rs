//! The admission policies of the chart, as they are rendered.

use std::collections::BTreeSet;

use catamaran_e2e::chart::helm;
use serde_json::Value;

use super::{chart, yaml};

/// What may be written without a policy: status and Events are narrow already, and the operator asks what it is and may.
const WITHOUT: [&str; 3] = ["registrymirrors/status", "registrymirrors/finalizers", "events"];

pub(super) fn rendered(values: &[&str]) -> Vec<Value> {
    let chart = chart();
    let mut arguments = vec![
        "template",
        "catamaran",
        &chart,
        "--namespace",
        "ferry",
        "--set",
        "crds.enabled=false",
    ];
    for value in values {
        arguments.extend(["--set", value]);
    }
    let rendered = helm(&arguments).unwrap();
    let documents = rendered.split("\n---").map(yaml);
    documents.filter(Value::is_object).collect()
}

pub(super) fn of_kind<'d>(documents: &'d [Value], kind: &'d str) -> impl Iterator<Item = &'d Value> {
    documents.iter().filter(move |document| document["kind"] == kind)
}

fn strings(list: &Value) -> impl Iterator<Item = &str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str)
}

fn entries(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

#[test]
fn each_policy_concerns_the_operators_account_alone_and_denies() {
    let documents = rendered(&["serviceAccount.name=sailor"]);
    let bindings: BTreeSet<&str> = of_kind(&documents, "ValidatingAdmissionPolicyBinding")
        .filter(|binding| binding["spec"]["validationActions"] == serde_json::json!(["Deny"]))
        .filter_map(|binding| binding["spec"]["policyName"].as_str())
        .collect();
    let mut policies = 0;
    for policy in of_kind(&documents, "ValidatingAdmissionPolicy") {
        policies += 1;
        let name = policy["metadata"]["name"].as_str().unwrap();
        assert!(bindings.contains(name), "{name} is not bound");
        assert_eq!(policy["spec"]["failurePolicy"], "Fail", "{name}");
        let conditions: Vec<&Value> = entries(&policy["spec"]["matchConditions"]).collect();
        assert_eq!(conditions.len(), 1, "{name}");
        assert_eq!(
            conditions[0]["expression"], "request.userInfo.username == 'system:serviceaccount:ferry:sailor'",
            "{name}"
        );
    }
    assert_eq!(policies, bindings.len());
}

#[test]
fn every_kind_that_the_operator_may_write_has_a_policy() {
    let documents = rendered(&[
        "rescue.allowReplace=true",
        "proof.namespaces={a}",
        "pullSecrets.namespaces={a}",
        "pullSecrets.names={pull}",
    ]);
    let matched = of_kind(&documents, "ValidatingAdmissionPolicy")
        .flat_map(|policy| entries(&policy["spec"]["matchConstraints"]["resourceRules"]));
    let covered: BTreeSet<&str> = matched.flat_map(|rule| strings(&rule["resources"])).collect();
    let roles = of_kind(&documents, "ClusterRole").chain(of_kind(&documents, "Role"));
    let mut writes = 0;
    for rule in roles.flat_map(|role| entries(&role["rules"])) {
        let is_write = |verb: &str| ["create", "update", "patch", "delete"].contains(&verb);
        if !strings(&rule["verbs"]).any(is_write) {
            continue;
        }
        for resource in strings(&rule["resources"]) {
            writes += 1;
            assert!(
                covered.contains(resource) || WITHOUT.contains(&resource),
                "the operator may write {resource}, and no policy says what of it"
            );
        }
    }
    assert!(writes >= 8, "only {writes} were found");
}

#[test]
fn policies_are_left_out_when_switched_off() {
    let documents = rendered(&["admissionPolicy.enabled=false"]);
    let left = documents.iter().filter(|document| {
        document["kind"]
            .as_str()
            .is_some_and(|kind| kind.starts_with("ValidatingAdmission"))
    });
    assert_eq!(left.count(), 0);
}
