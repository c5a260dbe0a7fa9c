//! What somebody can do to the operator who can only connect to it and create pods.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use catamaran_cluster::Registry;
use catamaran_e2e::attack::{Attack, MARK};
use catamaran_e2e::ground::PATIENCE;
use catamaran_e2e::load::{Load, Order, Tally};
use catamaran_e2e::manifests::pod;
use catamaran_e2e::runner::Scenario;
use catamaran_e2e::view::{items, text};
use catamaran_e2e::{Case, operator, replica};
use serde_json::{Value, json};

/// The attacker takes all that the machine has.
pub const ALONE: &[Scenario] = &[Scenario {
    name: "a-pod-without-rights-can-not-take-the-operator-out",
    run: a_pod_without_rights_can_not_take_the_operator_out,
}];

/// Admissions of others, before and during the attack.
const ENOUGH: u64 = 250;

/// How long it lasts at least: a kubelet that gets no answer restarts a replica after 30 s.
const LASTS: Duration = Duration::from_secs(35);

fn admissions(case: &Case<'_>, enough: u64, lasts: Duration) -> anyhow::Result<Tally> {
    let order = Order {
        namespace: case.name.clone(),
        image: case.image(Registry::Ghcr, "v1"),
        expected: case.image(Registry::Acr, "v1"),
        connections: 4,
        every: Duration::from_millis(100),
    };
    let load = Load::start(&case.ground.cluster, &order)?;
    std::thread::sleep(lasts);
    let enough = load.reaches(enough, PATIENCE);
    let tally = load.stop()?;
    enough?;
    Ok(tally)
}

/// What must not change: which replicas there are, how often each was restarted, and who leads.
fn undisturbed(case: &Case<'_>) -> anyhow::Result<(Vec<(String, i64)>, String)> {
    let cluster = &case.ground.cluster;
    Ok((replica::restarts(cluster)?, operator::leader(cluster)?))
}

fn replicas(case: &Case<'_>) -> anyhow::Result<Vec<Value>> {
    let list = [
        "-n",
        operator::NAMESPACE,
        "get",
        "pods",
        "-l",
        operator::LABEL,
        "-o",
        "json",
    ];
    Ok(items(&serde_json::from_str(&case.ground.cluster.kubectl(&list)?)?))
}

/// The moments at which a replica stopped being Ready, as its kubelet has told.
fn unready(case: &Case<'_>) -> anyhow::Result<String> {
    let about = "reason=Unhealthy";
    let list = [
        "-n",
        operator::NAMESPACE,
        "get",
        "events",
        "--field-selector",
        about,
        "-o",
    ];
    let words = "jsonpath={range .items[*]}{.lastTimestamp} {.involvedObject.name} {.count} {.message}{'\\n'}{end}";
    case.ground.cluster.kubectl(&[&list[..], &[words]].concat())
}

fn attack(case: &Case<'_>) -> anyhow::Result<Attack> {
    let mut attacker = pod("attacker", &case.image(Registry::Acr, "v1"));
    attacker["spec"]["containers"][0]["env"] = json!([{"name": MARK, "value": case.name}]);
    let since = std::time::Instant::now();
    case.apply(&attacker)?;
    case.ready("attacker", since, PATIENCE)?;
    let addresses: Vec<String> = replicas(case)?
        .iter()
        .map(|replica| text(replica, "/status/podIP").to_owned())
        .collect();
    ensure!(addresses.len() > 1, "{} replicas", addresses.len());
    Attack::start(&case.ground.cluster, &case.name, &case.name, &addresses)
}

fn a_pod_without_rights_can_not_take_the_operator_out(case: &Case<'_>) -> anyhow::Result<()> {
    case.push(&["v1"])?;
    case.mirror(|_| {})?;
    let before = undisturbed(case)?;
    let quiet = admissions(case, ENOUGH, Duration::ZERO)?;
    case.note(format!("quiet: {}", quiet.line()));
    let attack = attack(case)?;
    let attacked = admissions(case, ENOUGH, LASTS);
    // While it still goes on.
    let closed = closed(case);
    let kept = undisturbed(case);
    let done = attack.stop()?;
    let told: Vec<_> = done.iter().map(|(what, count)| format!("{count} {what}")).collect();
    case.note(format!("attacked by {}", told.join(", ")));
    let (attacked, kept) = (attacked?, kept?);
    case.note(format!("attacked: {}", attacked.line()));
    case.note(format!(
        "p99 of others' admissions is {:.1} times the quiet one",
        attacked.p99.as_secs_f64() / quiet.p99.as_secs_f64().max(1e-6)
    ));
    let unready = unready(case)?;
    if !unready.trim().is_empty() {
        case.note(format!("kubelets have told so far: {}", unready.trim()));
    }
    ensure!(kept == before, "replicas and leader were {before:?} and are {kept:?}");
    let lost = attacked.failed + attacked.unrewritten;
    ensure!(
        lost == 0,
        "{lost} admissions of others are lost: {}",
        attacked.bad.join("; ")
    );
    let closed = closed?;
    case.note(format!("connections that were closed: {closed:?}"));
    for (listener, _) in PORTS {
        let evicted = closed.get(listener).copied().unwrap_or_default();
        ensure!(
            evicted > 0.0,
            "the port of {listener} was never full: it was not attacked"
        );
    }
    ensure!(
        done.values().all(|count| *count > 0),
        "something was not tried: {done:?}"
    );
    Ok(())
}

const PORTS: [(&str, &str); 4] = [
    ("webhook", "listener=\"webhook\""),
    ("metrics", "listener=\"metrics\""),
    ("health", "listener=\"health\""),
    ("notifications", "listener=\"notifications\""),
];

/// How many connections lost their places or got none, by port: read through the very port that is attacked.
fn closed(case: &Case<'_>) -> anyhow::Result<BTreeMap<&'static str, f64>> {
    let metrics = replica::metrics(&case.ground.cluster).context("failed to read metrics under attack")?;
    let count = |label: &str| -> anyhow::Result<f64> {
        let mut sum = 0.0;
        for reason in ["evicted", "too_many", "full"] {
            let labels = [label, &format!("reason=\"{reason}\"")];
            sum += replica::sample(&metrics, "catamaran_connections_closed_total", &labels)?;
        }
        Ok(sum)
    };
    let counted = PORTS.into_iter().map(|(name, label)| Ok((name, count(label)?)));
    counted.collect()
}
