//! A release of the operator from outside: chart versions, what must survive an upgrade, what is left when it is gone.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use catamaran_cluster::Registry;
use catamaran_e2e::ground::PATIENCE;
use catamaran_e2e::manifests::{self, NOTIFICATIONS_SECRET};
use catamaran_e2e::view::{image, items, name, number, text};
use catamaran_e2e::{Case, installation, operator};
use serde_json::{Value, json};

/// The webhook configuration, which is named as the release.
pub const WEBHOOK: &str = "mutatingwebhookconfiguration/catamaran";

/// The definition.
pub use catamaran_e2e::installation::DEFINITION;

/// The version that [`next_chart`] gives the chart.
pub const NEXT: &str = "0.99.0";

/// The tree's chart.
pub fn chart() -> anyhow::Result<PathBuf> {
    let chart = operator::tree().join("charts/catamaran");
    chart.canonicalize().context("failed to find the chart")
}

/// A copy of the tree's chart as a later release may be: another version, and a definition with one more field, `spec.note`.
pub fn next_chart(folder: &Path) -> anyhow::Result<PathBuf> {
    let copy = folder.join("catamaran");
    // Links are followed: the definition is one.
    let status = Command::new("cp").arg("-rL").arg(chart()?).arg(&copy).status()?;
    ensure!(status.success(), "failed to copy the chart: {status}");
    let file = copy.join("Chart.yaml");
    let meta = std::fs::read_to_string(&file)?;
    let version = meta.lines().find(|line| line.starts_with("version:"));
    let version = version.context("the chart has no version")?;
    std::fs::write(&file, meta.replacen(version, &format!("version: {NEXT}"), 1))?;
    let file = copy.join("files/catamaran.dev_registrymirrors.yaml");
    let definition = std::fs::read_to_string(&file)?;
    let at = definition
        .find("\n          spec:\n")
        .context("the definition has no spec")?;
    let (before, after) = definition.split_at(at);
    let field = "\n            properties:\n              note:\n                description: For people.\n                \
                 maxLength: 64\n                type: string\n";
    let after = after.replacen("\n            properties:\n", field, 1);
    std::fs::write(&file, format!("{before}{after}"))?;
    Ok(copy)
}

/// Whether the installed definition has the field of [`next_chart`].
pub fn has_new_field(case: &Case<'_>) -> anyhow::Result<bool> {
    let definition = case.ground.get("default", DEFINITION)?;
    let field = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/note";
    Ok(definition.pointer(field).is_some())
}

/// Takes away the release that all scenarios share; its definition stays, and so do mirrors.
pub fn remove_shared(case: &Case<'_>) -> anyhow::Result<()> {
    installation::remove(&case.ground.cluster)
}

/// Brings back the release that all scenarios share, whatever there is of another one, and then tells of the first trouble.
pub fn restore(case: &Case<'_>, result: anyhow::Result<()>) -> anyhow::Result<()> {
    let restored = case.ground.restore();
    result.and(restored)
}

/// What several people write in the webhook configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Webhook {
    /// The operator's.
    pub bundle: String,
    /// The AKS admissions enforcer's.
    pub selector: Value,
    /// The chart's.
    pub timeout: i64,
    /// Changes with every write.
    pub version: String,
}

/// The webhook configuration as it is.
pub fn webhook(case: &Case<'_>) -> anyhow::Result<Webhook> {
    let object = case.ground.get("default", WEBHOOK)?;
    Ok(Webhook {
        bundle: text(&object, "/webhooks/0/clientConfig/caBundle").to_owned(),
        selector: object
            .pointer("/webhooks/0/namespaceSelector")
            .cloned()
            .unwrap_or_default(),
        timeout: number(&object, "/webhooks/0/timeoutSeconds"),
        version: text(&object, "/metadata/resourceVersion").to_owned(),
    })
}

/// Edits the webhook as AKS does: another field manager, which adds what keeps its own namespaces out.
pub fn enforce(case: &Case<'_>) -> anyhow::Result<Value> {
    let selector = json!({"matchExpressions": [
        {"key": "control-plane", "operator": "NotIn", "values": ["true"]},
        {"key": "control-plane", "operator": "DoesNotExist"},
        {"key": "kubernetes.azure.com/managedby", "operator": "NotIn", "values": ["aks"]},
    ]});
    let patch = json!({"webhooks": [{"name": "pods.catamaran.dev", "namespaceSelector": selector}]}).to_string();
    let arguments = [
        "patch",
        WEBHOOK,
        "--type=strategic",
        "--field-manager=admissionsenforcer",
        "-p",
        &patch,
    ];
    case.ground.cluster.kubectl(&arguments)?;
    Ok(webhook(case)?.selector)
}

/// Nobody writes the webhook configuration, the definition or the Deployment while one waits.
pub fn nobody_fights(case: &Case<'_>, wait: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<()> {
    let versions = || -> anyhow::Result<Vec<String>> {
        let deployment = format!("deployment/{}", operator::RELEASE);
        let deployment = case.ground.get(operator::NAMESPACE, &deployment)?;
        let definition = case.ground.get("default", DEFINITION)?;
        Ok(vec![
            webhook(case)?.version,
            text(&definition, "/metadata/resourceVersion").to_owned(),
            // Its status is nobody's to fight about.
            number(&deployment, "/metadata/generation").to_string(),
        ])
    };
    let before = versions()?;
    wait()?;
    let after = versions()?;
    ensure!(before == after, "written meanwhile: {before:?} became {after:?}");
    Ok(())
}

/// The mirror is the one it was, and the operator has seen it since `since`.
pub fn survived(case: &Case<'_>, before: &Value, since: Instant) -> anyhow::Result<()> {
    case.ground.observed(&case.name, since)?;
    // What the watch brings late may be from before.
    let after = case.latest()?;
    ensure!(
        before["metadata"]["uid"] == after["metadata"]["uid"],
        "the mirror is another one"
    );
    ensure!(
        before["spec"] == after["spec"],
        "the mirror's spec was {} and is {}",
        before["spec"],
        after["spec"]
    );
    Ok(())
}

/// A pod of the fallback's name becomes one of the primary's, or not.
pub fn rewrites(case: &Case<'_>, expected: bool) -> anyhow::Result<()> {
    let written = case.image(Registry::Ghcr, "v1");
    let wanted = if expected {
        case.image(Registry::Acr, "v1")
    } else {
        written.clone()
    };
    let (pod, what) = (manifests::pod("looked-at", &written), format!("with {wanted}"));
    case.admitted_as(&pod, &what, Instant::now(), PATIENCE, |pod| image(pod, "app") == wanted)
        .map(drop)
}

/// What is there of the operator: every object of every kind that is named or labelled after it, as KIND/NAME.
fn remains(case: &Case<'_>) -> anyhow::Result<BTreeSet<String>> {
    let kinds = case
        .ground
        .cluster
        .kubectl(&["api-resources", "--verbs=list", "-o", "name"])?;
    let kinds: Vec<&str> = kinds.lines().filter(|kind| !kind.starts_with("events")).collect();
    let list = case
        .ground
        .cluster
        .kubectl(&["get", &kinds.join(","), "--all-namespaces", "-o", "json"])?;
    let list: Value = serde_json::from_str(&list)?;
    let ours = |object: &Value| {
        let labels = object["metadata"]["labels"].to_string();
        let mirror = text(object, "/apiVersion").starts_with("catamaran.dev/");
        // The namespace and what the run has put into it were there before.
        let given = object["kind"] == "Namespace" || name(object) == NOTIFICATIONS_SECRET;
        !given && (mirror || name(object).contains("catamaran") || labels.contains("catamaran"))
    };
    let called = |object: &Value| format!("{}/{}", text(object, "/kind"), name(object));
    Ok(items(&list).iter().filter(|object| ours(object)).map(called).collect())
}

/// After an uninstallation there is the definition, mirrors with their evidence, and nothing else.
pub fn nothing_else_is_left(case: &Case<'_>) -> anyhow::Result<()> {
    let expected = |item: &String| {
        let (kind, named) = item.split_once('/').unwrap_or_default();
        match kind {
            "CustomResourceDefinition" => named == "registrymirrors.catamaran.dev",
            // The API server makes it of the definition.
            "APIService" => named == "v1alpha1.catamaran.dev",
            "RegistryMirror" => true,
            "ConfigMap" => named.starts_with("catamaran-evidence-") || named.contains(&case.name),
            _ => false,
        }
    };
    let end = Instant::now() + PATIENCE;
    loop {
        let left = remains(case)?;
        let other: Vec<_> = left.iter().filter(|item| !expected(item)).collect();
        if other.is_empty() {
            case.note(format!("left: {}", left.into_iter().collect::<Vec<_>>().join(", ")));
            return Ok(());
        }
        // Pods end, and what belongs to a Service goes after it.
        ensure!(Instant::now() < end, "left behind: {other:?}");
        std::thread::sleep(Duration::from_secs(1));
    }
}

/// Asks the API server to admit a pod, again and again, until it is dropped or [`ended`](Self::ended).
pub struct Admissions {
    child: Child,
}

impl Admissions {
    /// Begins. The pods are not created.
    pub fn start(case: &Case<'_>) -> anyhow::Result<Self> {
        let script = r#"while :; do
            curl -s -m 40 -o /dev/null -w '%{http_code}\n' --cacert "$1/ca.crt" --cert "$1/admin.crt" --key "$1/admin.key" \
                -H 'Content-Type: application/json' --data-binary "$2" "$3"
            sleep 0.2
        done"#;
        let keys = case.ground.cluster.kubeconfig().parent().context("no folder of keys")?;
        let pod = manifests::pod("asked-again-and-again", &case.image(Registry::Ghcr, "v1"));
        let url = format!("https://10.98.0.1:6443/api/v1/namespaces/{}/pods?dryRun=All", case.name);
        let mut command = case.ground.cluster.command("sh");
        command
            .args(["-c", script, "sh"])
            .arg(keys)
            .arg(pod.to_string())
            .arg(url);
        // nsenter forks: the group is what ends both.
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()?;
        Ok(Self { child })
    }

    /// Ends. How many were asked for; an error if one of them was refused or not answered.
    pub fn ended(mut self) -> anyhow::Result<usize> {
        self.kill();
        let mut answers = String::new();
        let mut output = self.child.stdout.take().context("the output was taken")?;
        output.read_to_string(&mut answers)?;
        let answers: Vec<&str> = answers.lines().collect();
        let refused = answers.iter().filter(|&&answer| answer != "201").count();
        ensure!(!answers.is_empty(), "no pod was asked for");
        ensure!(
            refused == 0,
            "{refused} of {} pods were not admitted: {answers:?}",
            answers.len()
        );
        Ok(answers.len())
    }

    fn kill(&mut self) {
        let group = format!("-{}", self.child.id());
        // It may have ended by itself.
        let _ = Command::new("kill").args(["-KILL", "--", &group]).status();
        let _ = self.child.wait();
    }
}

impl Drop for Admissions {
    fn drop(&mut self) {
        if !matches!(self.child.try_wait(), Ok(Some(_))) {
            self.kill();
        }
    }
}

/// Does something, and notes how long it took.
pub fn timed<T>(case: &Case<'_>, what: &str, work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
    let begun = Instant::now();
    let result = work().with_context(|| format!("failed to {what}"))?;
    case.note(format!("{what}: {:.1} s", begun.elapsed().as_secs_f64()));
    Ok(result)
}
