//! Proof pods find before any outage what would keep pods from starting from the fallback.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use catamaran_cluster::{Fault, Node, Registry, Traffic};
use catamaran_e2e::ground::PATIENCE;
use catamaran_e2e::manifests::{self, pod};
use catamaran_e2e::runner::Scenario;
use catamaran_e2e::view::{condition, items, text};
use catamaran_e2e::{Case, operator, replica};
use serde_json::{Value, json};

/// They need a cluster of two nodes.
pub const SCENARIOS: &[Scenario] = &[Scenario {
    name: "proof-pods-find-what-would-break-a-failover",
    run: proof_pods_find_what_would_break,
}];

/// The pull secrets of the two sides.
const ACR_PULL: &str = "acr-pull";
const GHCR_PULL: &str = "ghcr-pull";

/// What the policy says.
const WORDS: &str = "images come from kracr.azurecr.io alone";

/// Eight pods, one after the other on each node, with pulls that are refused; and as long again for a busy machine.
const ALL_PROVEN: Duration = Duration::from_mins(5);

/// The namespaces beside the scenario's own, where all is well.
struct Namespaces {
    well: String,
    without_secret: String,
    expired: String,
    policed: String,
}

impl Namespaces {
    fn of(case: &Case<'_>) -> Namespaces {
        let name = |what: &str| format!("{}-{what}", case.name);
        Namespaces {
            well: case.name.clone(),
            without_secret: name("without"),
            expired: name("expired"),
            policed: name("policed"),
        }
    }

    fn all(&self) -> [&str; 4] {
        [&self.well, &self.without_secret, &self.expired, &self.policed]
    }

    fn others(&self) -> [&str; 3] {
        [&self.without_secret, &self.expired, &self.policed]
    }
}

/// What a scenario has made beside its own namespace; gone when this is dropped.
struct Made<'c, 'g>(&'c Case<'g>, &'c Namespaces);

impl Drop for Made<'_, '_> {
    fn drop(&mut self) {
        let ground = self.0.ground;
        let policy = policy_gone(self.0);
        let namespaces = self.1.others().map(|name| ground.delete_namespace(name));
        for error in namespaces.into_iter().chain([policy]).filter_map(Result::err) {
            self.0.note(format!("failed to clean up: {error:#}"));
        }
    }
}

fn proof_pods_find_what_would_break(case: &Case<'_>) -> anyhow::Result<()> {
    let namespaces = Namespaces::of(case);
    let _made = Made(case, &namespaces);
    for namespace in namespaces.others() {
        case.ground.create_namespace(namespace, &json!({}))?;
    }
    let mut values: Vec<String> = operator::VALUES.map(str::to_owned).into();
    values.push(format!("proof.namespaces={{{}}}", namespaces.all().join(",")));
    let values: Vec<&str> = values.iter().map(String::as_str).collect();
    let result = operator::install(&case.ground.cluster, &values).and_then(|()| scenario(case, &namespaces));
    // As it was found, for the scenario that comes next.
    let restored = operator::install(&case.ground.cluster, &operator::VALUES);
    result.and(restored)
}

fn scenario(case: &Case<'_>, namespaces: &Namespaces) -> anyhow::Result<()> {
    case.ground.push(&Registry::ALL, &repository(case), "v1")?;
    workloads_run_from_the_primary(case, namespaces)?;
    four_causes_are_found(case, namespaces)?;
    repaired_it_is_proven_by_request(case, namespaces)?;
    nothing_is_left_of_an_operator_that_dies(case, namespaces)
}

/// Both registries keep what is below `private` from anonymous users.
fn repository(case: &Case<'_>) -> String {
    format!("private/{}", case.name)
}

fn pull_secret(case: &Case<'_>, name: &str, registry: Registry, password: &str) -> Value {
    let (username, _) = case.ground.cluster.credentials();
    let config = json!({"auths": {registry.host(): {"username": username, "password": password}}}).to_string();
    json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/dockerconfigjson",
        "metadata": {"name": name}, "stringData": {".dockerconfigjson": config},
    })
}

/// A pod in each namespace, before there is a mirror: with the primary's pull secret of its own. The fallback's is good in two
/// namespaces, absent in one, and not accepted any more in one.
fn workloads_run_from_the_primary(case: &Case<'_>, namespaces: &Namespaces) -> anyhow::Result<()> {
    let (username, password) = case.ground.cluster.credentials();
    let operators = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/basic-auth",
        "metadata": {"name": format!("{}-pull", case.name), "annotations": manifests::for_registries()},
        "stringData": {"username": username, "password": password},
    });
    case.ground.apply(operator::NAMESPACE, &operators)?;
    for namespace in namespaces.all() {
        case.ground
            .apply(namespace, &pull_secret(case, ACR_PULL, Registry::Acr, &password))?;
        let mut workload = pod("web", &manifests::image(Registry::Acr, &repository(case), "v1"));
        workload["spec"]["imagePullSecrets"] = json!([{"name": ACR_PULL}]);
        apply_when_there_is_an_account(case, namespace, &workload)?;
    }
    for namespace in [&namespaces.well, &namespaces.policed] {
        case.ground
            .apply(namespace, &pull_secret(case, GHCR_PULL, Registry::Ghcr, &password))?;
    }
    let expired = pull_secret(case, GHCR_PULL, Registry::Ghcr, "expired");
    case.ground.apply(&namespaces.expired, &expired)?;
    for namespace in namespaces.all() {
        case.ground.pods.until(
            "web Ready",
            PATIENCE,
            (namespace, "web"),
            Instant::now(),
            catamaran_e2e::view::is_ready,
        )?;
    }
    Ok(())
}

/// A pod is refused until the namespace has its service account.
fn apply_when_there_is_an_account(case: &Case<'_>, namespace: &str, object: &Value) -> anyhow::Result<()> {
    let end = Instant::now() + PATIENCE;
    loop {
        match case.ground.apply(namespace, object) {
            Ok(_) => return Ok(()),
            Err(error) if Instant::now() >= end => return Err(error),
            Err(_) => std::thread::sleep(Duration::from_millis(200)),
        }
    }
}

fn policy_name(case: &Case<'_>) -> String {
    format!("{}-acr-only", case.name)
}

fn policy_applied(case: &Case<'_>, namespaces: &Namespaces) -> anyhow::Result<()> {
    let name = policy_name(case);
    let policy = json!({
        "failurePolicy": "Fail",
        "matchConstraints": {
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespaces.policed}},
            "resourceRules": [{
                "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"],
            }],
        },
        "validations": [{
            "expression": "object.spec.containers.all(c, c.image.startsWith('kracr.azurecr.io/'))", "message": WORDS,
        }],
    });
    let binding = json!({"policyName": name, "validationActions": ["Deny"]});
    for (kind, spec) in [
        ("ValidatingAdmissionPolicy", policy),
        ("ValidatingAdmissionPolicyBinding", binding),
    ] {
        let version = "admissionregistration.k8s.io/v1";
        let object = json!({"apiVersion": version, "kind": kind, "metadata": {"name": name}, "spec": spec});
        case.ground.apply("default", &object)?;
    }
    // The API server takes a moment to enforce it.
    let image = manifests::image(Registry::Ghcr, &repository(case), "v1");
    let probe = pod("probe", &image).to_string();
    let end = Instant::now() + PATIENCE;
    let arguments = ["-n", &namespaces.policed, "create", "--dry-run=server", "-f", "-"];
    while case.ground.cluster.kubectl_stdin(&arguments, &probe).is_ok() {
        ensure!(Instant::now() < end, "the policy is not enforced");
        std::thread::sleep(Duration::from_millis(500));
    }
    Ok(())
}

fn policy_gone(case: &Case<'_>) -> anyhow::Result<()> {
    let name = policy_name(case);
    for kind in ["validatingadmissionpolicybinding", "validatingadmissionpolicy"] {
        case.ground
            .cluster
            .kubectl(&["delete", kind, &name, "--ignore-not-found"])?;
    }
    Ok(())
}

fn apply_mirror(case: &Case<'_>) -> anyhow::Result<Instant> {
    let since = Instant::now();
    let mut mirror = manifests::mirror(&case.name, &[&repository(case)]);
    let spec = &mut mirror["spec"];
    for (side, secret) in [("primary", ACR_PULL), ("fallback", GHCR_PULL)] {
        spec[side]["secretRef"] = json!({"name": format!("{}-pull", case.name)});
        spec[side]["imagePullSecrets"] = json!([{"name": secret}]);
    }
    spec["proof"] = json!({"mode": "Pull"});
    case.ground.apply("default", &mirror)?;
    Ok(since)
}

fn four_causes_are_found(case: &Case<'_>, namespaces: &Namespaces) -> anyhow::Result<()> {
    policy_applied(case, namespaces)?;
    case.ground
        .fault_for(&[Traffic::NodeItself(Node::Second)], Registry::Ghcr, Fault::Refused)?;
    let since = apply_mirror(case)?;
    let expected = [
        (&namespaces.well, Node::Second, "ConnectionFailed"),
        (&namespaces.without_secret, Node::First, "Unauthorized"),
        (&namespaces.expired, Node::First, "Unauthorized"),
        (&namespaces.policed, Node::First, "Refused"),
        (&namespaces.policed, Node::Second, "Refused"),
    ];
    let is_listed = |mirror: &Value| {
        let failing = items_of(mirror);
        expected.iter().all(|(namespace, node, reason)| {
            failing
                .iter()
                .any(|it| it["namespace"] == ***namespace && it["node"] == node.name() && it["reason"] == *reason)
        })
    };
    let seen = case.ground.mirrors.until(
        "FallbackProven with four causes",
        ALL_PROVEN,
        ("", &case.name),
        since,
        is_listed,
    )?;
    let found = condition(&seen.object, "FallbackProven");
    case.note(format!(
        "found after {:.1} s: {} {}: {}",
        (seen.at - since).as_secs_f64(),
        found.status,
        found.reason,
        found.message
    ));
    ensure!(
        found.status == "False" && found.reason == "PullsFail",
        "FallbackProven is {found:?}"
    );
    for name in [&namespaces.without_secret, &namespaces.expired, &namespaces.policed] {
        ensure!(
            found.message.contains(name.as_str()),
            "\"{name}\" is not named: {}",
            found.message
        );
    }
    for words in [Node::Second.name(), WORDS, &policy_name(case)] {
        ensure!(found.message.contains(words), "{words:?} is not in: {}", found.message);
    }
    ensure!(condition(&seen.object, "Ready").status == "True", "the primary serves");
    alerted(
        case,
        &expected.map(|(namespace, node, reason)| (namespace.as_str(), node.name(), reason)),
    )
}

fn items_of(mirror: &Value) -> Vec<Value> {
    let failing = mirror["status"]["proof"]["failing"].as_array();
    failing.cloned().unwrap_or_default()
}

/// The metric that the alert asks for has all of them.
fn alerted(case: &Case<'_>, expected: &[(&str, &str, &str)]) -> anyhow::Result<()> {
    let metrics = replica::metrics(&case.ground.cluster)?;
    for (namespace, node, reason) in expected {
        let labels = [
            format!("mirror=\"{}\"", case.name),
            format!("namespace=\"{namespace}\""),
            format!("node=\"{node}\""),
            format!("reason=\"{reason}\""),
        ];
        let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
        let value = replica::sample(&metrics, "catamaran_proof_failing", &labels)?;
        ensure!((value - 1.0).abs() < f64::EPSILON, "{labels:?} is {value}");
    }
    Ok(())
}

fn repaired_it_is_proven_by_request(case: &Case<'_>, namespaces: &Namespaces) -> anyhow::Result<()> {
    let (_, password) = case.ground.cluster.credentials();
    for namespace in [&namespaces.without_secret, &namespaces.expired] {
        case.ground
            .apply(namespace, &pull_secret(case, GHCR_PULL, Registry::Ghcr, &password))?;
    }
    policy_gone(case)?;
    case.ground.cluster.heal(Registry::Ghcr)?;
    let since = Instant::now();
    let mut last = String::new();
    // The API server goes on with a policy for a moment after it is gone.
    while since.elapsed() < ALL_PROVEN {
        let (code, printed) = reconcile(case, &["--timeout", "5m"])?;
        if code == Some(0) {
            case.note(format!(
                "repaired, after {:.1} s: {printed}",
                since.elapsed().as_secs_f64()
            ));
            let proof = case.latest()?["status"]["proof"].clone();
            ensure!(
                proof["nodes"] == 2 && proof["namespaces"] == 4 && proof["failed"] == 0,
                "status.proof is {proof}"
            );
            return none_is_left(case, namespaces, &[]);
        }
        last = printed;
    }
    anyhow::bail!("the fallback is not proven: {last}")
}

/// `catamaran reconcile`, as its user runs it; its exit code, and what it printed.
fn reconcile(case: &Case<'_>, arguments: &[&str]) -> anyhow::Result<(Option<i32>, String)> {
    let cluster = &case.ground.cluster;
    let binary = operator::build()?;
    let program = binary.to_str().context("the operator's path is not UTF-8")?;
    let output = cluster
        .command(program)
        .args(["reconcile", &case.name, "--kubeconfig"])
        .arg(cluster.kubeconfig())
        .args(arguments)
        .output()
        .context("failed to run catamaran reconcile")?;
    let printed = [output.stdout, output.stderr].concat();
    Ok((output.status.code(), String::from_utf8_lossy(&printed).into_owned()))
}

/// The proof pods that there are, as namespace and UID.
fn proof_pods(case: &Case<'_>, namespaces: &Namespaces) -> anyhow::Result<Vec<String>> {
    let mut found = Vec::new();
    for namespace in namespaces.all() {
        let get = [
            "-n",
            namespace,
            "get",
            "pods",
            "-l",
            "catamaran.dev/proof",
            "-o",
            "json",
        ];
        let pods = items(&serde_json::from_str(&case.ground.cluster.kubectl(&get)?)?);
        found.extend(pods.iter().map(|pod| text(pod, "/metadata/uid").to_owned()));
    }
    Ok(found)
}

/// Waits until none of these pods is there, or none at all.
fn none_is_left(case: &Case<'_>, namespaces: &Namespaces, of: &[String]) -> anyhow::Result<()> {
    let end = Instant::now() + PATIENCE;
    loop {
        let mut left = proof_pods(case, namespaces)?;
        left.retain(|pod| of.is_empty() || of.contains(pod));
        if left.is_empty() {
            return Ok(());
        }
        ensure!(Instant::now() < end, "proof pods were left behind: {left:?}");
        std::thread::sleep(Duration::from_millis(500));
    }
}

/// A pull that hangs keeps a proof pod alive while its operator is killed.
fn nothing_is_left_of_an_operator_that_dies(case: &Case<'_>, namespaces: &Namespaces) -> anyhow::Result<()> {
    case.ground
        .fault_for(&[Traffic::NodeItself(Node::Second)], Registry::Ghcr, Fault::BlackHole)?;
    let (code, printed) = reconcile(case, &["--timeout", "0s"])?;
    ensure!(code == Some(0), "reconcile ended with {code:?}: {printed}");
    let end = Instant::now() + PATIENCE;
    let pods = loop {
        let pods = proof_pods(case, namespaces)?;
        if !pods.is_empty() {
            break pods;
        }
        ensure!(Instant::now() < end, "no proof pod was made");
        std::thread::sleep(Duration::from_millis(100));
    };
    let killed = Instant::now();
    operator::kill(&case.ground.cluster, &operator::leader(&case.ground.cluster)?)?;
    none_is_left(case, namespaces, &pods)?;
    case.note(format!(
        "the leader was killed with {} proof pods under way -> gone: {:.1} s",
        pods.len(),
        killed.elapsed().as_secs_f64()
    ));
    case.ground.cluster.heal(Registry::Ghcr)
}
