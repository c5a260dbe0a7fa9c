//! The replicas of the operator one by one, from outside: what each takes, counts, and would answer the API server.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use catamaran_cluster::Cluster;
use serde_json::{Value, json};

use crate::operator::{LABEL, NAMESPACE, pods};
use crate::view::{image, items, name, number, text};

/// Where a replica answers the API server.
const WEBHOOK: u16 = 9443;

/// The memory in bytes that a replica has resident now.
pub fn memory(cluster: &Cluster, pod: &str) -> anyhow::Result<u64> {
    usage(cluster, pod).map(|usage| usage.resident)
}

/// What a replica's process has of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Its memory in bytes now.
    pub resident: u64,
    /// The most that it had since it was started, or since [`forget_peak`].
    pub peak: u64,
    /// The processors' time that it has had.
    pub cpu: Duration,
}

/// What a replica's process has of the machine now.
pub fn usage(cluster: &Cluster, pod: &str) -> anyhow::Result<Usage> {
    let text = in_folder(
        cluster,
        pod,
        r#"sed -n 's/^\(VmRSS\|VmHWM\):[^0-9]*\([0-9]*\) kB$/\1 \2/p' "$folder/status"
           sed 's/^.*) / /' "$folder/stat" | { read -r line; set -- $line; shift 11; echo "ticks $(($1 + $2))"; }"#,
    )?;
    let read = |word: &str| -> anyhow::Result<u64> {
        let lines = text.lines().filter_map(|line| line.split_once(' '));
        let mut numbers = lines.filter(|(name, _)| *name == word).map(|(_, number)| number.trim());
        let number = numbers.next().and_then(|number| number.parse().ok());
        number.with_context(|| format!("failed to read {word} of {pod} from {text:?}"))
    };
    Ok(Usage {
        resident: read("VmRSS")? * 1024,
        peak: read("VmHWM")? * 1024,
        // A tick is 10 ms on every machine that Linux runs on: `USER_HZ`.
        cpu: Duration::from_millis(read("ticks")? * 10),
    })
}

/// The peak of a replica's memory is counted from here on.
pub fn forget_peak(cluster: &Cluster, pod: &str) -> anyhow::Result<()> {
    // proc(5): 5 resets the peak.
    in_folder(cluster, pod, r#"echo 5 >"$folder/clear_refs""#).map(drop)
}

/// Runs a script with `$folder` as the place of a replica's process in `/proc`.
fn in_folder(cluster: &Cluster, pod: &str, script: &str) -> anyhow::Result<String> {
    let script = format!(
        r#"for folder in /proc/[0-9]*; do
            tr '\0' '\n' <"$folder/environ" 2>/dev/null | grep -qx "POD_NAME=$1" || continue
            {script}
        done"#
    );
    let output = cluster.command("sh").args(["-c", &script, "sh", pod]).output()?;
    ensure!(
        output.status.success(),
        "failed to look at the process of {pod}: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Metrics are written at most so often.
const METRICS_FRESH: Duration = Duration::from_secs(1);

/// The same as [`counted`], with all that was counted until now.
pub fn counted_by_now(cluster: &Cluster, metric: &str, labels: &[&str]) -> anyhow::Result<f64> {
    std::thread::sleep(METRICS_FRESH);
    counted(cluster, metric, labels)
}

/// The sum of a metric over all replicas and all of its samples that have these labels, each as `key="value"`.
pub fn counted(cluster: &Cluster, metric: &str, labels: &[&str]) -> anyhow::Result<f64> {
    sample(&metrics(cluster)?, metric, labels)
}

/// The metrics of all replicas, one page after the other.
pub fn metrics(cluster: &Cluster) -> anyhow::Result<String> {
    let page = |pod: String| {
        let path = format!("/api/v1/namespaces/{NAMESPACE}/pods/{pod}:8080/proxy/metrics");
        cluster.kubectl(&["get", "--raw", &path])
    };
    let pages: Vec<String> = pods(cluster)?.into_iter().map(page).collect::<Result<_, _>>()?;
    Ok(pages.join("\n"))
}

/// The sum of a metric over all samples of these pages that have these labels, each as `key="value"`.
pub fn sample(metrics: &str, metric: &str, labels: &[&str]) -> anyhow::Result<f64> {
    let samples = metrics
        .lines()
        .filter_map(|line| line.strip_prefix(metric)?.strip_prefix('{'));
    let mut sum = 0.0;
    for sample in samples {
        let (given, value) = sample
            .rsplit_once("} ")
            .with_context(|| format!("failed to read {sample:?}"))?;
        if labels.iter().all(|label| given.split(',').any(|given| given == *label)) {
            sum += value.trim().parse::<f64>()?;
        }
    }
    Ok(sum)
}

/// The names of all replicas, each with how often its container was started again: what has not changed has not been restarted.
pub fn restarts(cluster: &Cluster) -> anyhow::Result<Vec<(String, i64)>> {
    let mut all: Vec<_> = list(cluster)?
        .iter()
        .map(|pod| {
            (
                name(pod).to_owned(),
                number(pod, "/status/containerStatuses/0/restartCount"),
            )
        })
        .collect();
    all.sort();
    Ok(all)
}

/// The image that each replica would give the container `app` of a pod that is created in a namespace. They are asked one by one, as
/// an API server asks; through its Service one would do for all.
pub fn answers(cluster: &Cluster, namespace: &str, pod: &Value) -> anyhow::Result<Vec<(String, String)>> {
    let replicas = list(cluster)?;
    ensure!(!replicas.is_empty(), "there is no replica");
    let answers = replicas.iter().map(|replica| {
        let answer = asked(cluster, text(replica, "/status/podIP"), namespace, pod)
            .with_context(|| format!("failed to ask {}", name(replica)))?;
        Ok((name(replica).to_owned(), answer))
    });
    answers.collect()
}

fn list(cluster: &Cluster) -> anyhow::Result<Vec<Value>> {
    let list = cluster.kubectl(&["-n", NAMESPACE, "get", "pods", "-l", LABEL, "-o", "json"])?;
    Ok(items(&serde_json::from_str(&list)?))
}

fn asked(cluster: &Cluster, address: &str, namespace: &str, pod: &Value) -> anyhow::Result<String> {
    let url = format!("https://{address}:{WEBHOOK}/mutate");
    let mut curl = cluster.command("curl");
    // The certificate is for the name of the Service.
    curl.args(["--silent", "--show-error", "--fail", "--insecure", "--max-time", "10"])
        .args(["--header", "Content-Type: application/json"])
        .args(["--data", &review(namespace, pod).to_string(), &url]);
    let output = curl.output().context("failed to run curl")?;
    ensure!(
        output.status.success(),
        "curl of {url}: {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    );
    patched(pod, &serde_json::from_slice(&output.stdout)?)
}

fn review(namespace: &str, pod: &Value) -> Value {
    let (kind, resource) = (
        json!({"group": "", "version": "v1", "kind": "Pod"}),
        json!({"group": "", "version": "v1", "resource": "pods"}),
    );
    json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "00000000-0000-4000-8000-000000000000",
            "kind": kind, "requestKind": kind, "resource": resource, "requestResource": resource,
            "name": name(pod), "namespace": namespace, "operation": "CREATE", "dryRun": true,
            "userInfo": {"username": "end-to-end-tests"}, "object": pod, "oldObject": null, "options": null,
        },
    })
}

/// The image of the container `app` after the patch of an answer.
fn patched(pod: &Value, answer: &Value) -> anyhow::Result<String> {
    ensure!(answer["response"]["allowed"] == true, "the answer is {answer}");
    let patch = text(answer, "/response/patch");
    let patch = BASE64_STANDARD.decode(patch).context("failed to decode the patch")?;
    if patch.is_empty() {
        return Ok(image(pod, "app").to_owned());
    }
    let patch: Value = serde_json::from_slice(&patch).context("failed to read the patch")?;
    let mut operations = patch.as_array().into_iter().flatten();
    let replaced = operations.find(|operation| operation["path"] == "/spec/containers/0/image");
    Ok(replaced
        .map_or(image(pod, "app"), |operation| text(operation, "/value"))
        .to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_with_the_labels_are_summed() {
        let metrics = "# TYPE a_total counter\na_total{kind=\"failed\",mirror=\"m\"} 2\na_total{kind=\"failed\",mirror=\"n\"} 4\n\
                       a_total{kind=\"patched\",mirror=\"m\"} 8\na_total_more{kind=\"failed\",mirror=\"m\"} 16\n";
        let count = |labels: &[&str]| sample(metrics, "a_total", labels).unwrap();
        assert!((count(&["mirror=\"m\"", "kind=\"failed\""]) - 2.0).abs() < f64::EPSILON);
        assert!((count(&["kind=\"failed\""]) - 6.0).abs() < f64::EPSILON);
        assert!(count(&["mirror=\"none\""]).abs() < f64::EPSILON);
    }

    #[test]
    fn answer_without_patch_leaves_the_image() {
        let pod = json!({"spec": {"containers": [{"name": "app", "image": "a:1"}]}});
        let patch = BASE64_STANDARD.encode(r#"[{"op":"replace","path":"/spec/containers/0/image","value":"b:1"}]"#);
        let answer = |patch: &str| json!({"response": {"allowed": true, "patch": patch}});
        assert_eq!(patched(&pod, &answer(&patch)).unwrap(), "b:1");
        assert_eq!(patched(&pod, &json!({"response": {"allowed": true}})).unwrap(), "a:1");
        assert!(patched(&pod, &json!({})).is_err());
    }
}
