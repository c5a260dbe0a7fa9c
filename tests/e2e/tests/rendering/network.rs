//! The network policy of the chart: on by default, so it must never keep an API server out.

use serde_json::{Value, json};

use super::admission::{of_kind, rendered};

fn policy(values: &[&str]) -> Value {
    let documents = rendered(values);
    let policies: Vec<&Value> = of_kind(&documents, "NetworkPolicy").collect();
    assert_eq!(policies.len(), 1);
    policies[0]["spec"].clone()
}

/// The rules for a port.
fn rules<'p>(policy: &'p Value, port: &str) -> Vec<&'p Value> {
    let all = policy["ingress"].as_array().unwrap();
    all.iter()
        .filter(|rule| rule["ports"] == json!([{ "port": port }]))
        .collect()
}

#[test]
fn default_lets_everyone_call_the_webhook_and_restricts_no_egress() {
    let policy = policy(&[]);
    assert_eq!(policy["policyTypes"], json!(["Ingress"]));
    assert_eq!(policy.get("egress"), None);
    let webhook = rules(&policy, "webhook");
    assert_eq!(webhook.len(), 1);
    assert_eq!(webhook[0].get("from"), None, "API servers come from anywhere");
}

#[test]
fn default_lets_pods_read_metrics_and_nobody_reach_another_port() {
    let policy = policy(&[]);
    let metrics = rules(&policy, "http");
    assert_eq!(metrics.len(), 1);
    assert_eq!(metrics[0]["from"], json!([{ "namespaceSelector": {} }]));
    assert_eq!(policy["ingress"].as_array().unwrap().len(), 2);
}

#[test]
fn empty_list_of_peers_lets_everyone_read_metrics() {
    let policy = policy(&["networkPolicy.metricsPeers=null"]);
    assert_eq!(rules(&policy, "http")[0].get("from"), None);
}

#[test]
fn network_policy_is_left_out_when_switched_off() {
    let documents = rendered(&["networkPolicy.enabled=false"]);
    assert_eq!(of_kind(&documents, "NetworkPolicy").count(), 0);
}
