//! Much of everything: answers, mirrors, pods.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use catamaran_cluster::{Fault, Registry};
use catamaran_e2e::audit::Request;
use catamaran_e2e::ground::PATIENCE;
use catamaran_e2e::manifests::{self, pod};
use catamaran_e2e::view::image;
use catamaran_e2e::{Case, audit, load, operator, replica};
use jiff::Timestamp;
use serde_json::{Value, json};

/// How many mirrors share an outage.
const MIRRORS: usize = 40;

/// How long the outage is watched after all have failed over, unless `OUTAGE_SECONDS` says how long.
const OUTAGE: Duration = Duration::from_secs(50);

/// Writes of one mirror in all of that, beside its flip.
const WRITES: usize = 10;

/// From one pass over a mirror's tags to the next.
const INTERVAL: Duration = Duration::from_secs(10);

pub fn a_long_outage_is_quiet(case: &Case<'_>) -> anyhow::Result<()> {
    let names: Vec<String> = (0..MIRRORS).map(|number| format!("{}-{number}", case.name)).collect();
    for name in &names {
        case.ground.push(&Registry::ALL, name, "v1")?;
    }
    // A difference that stays, so that the status has something to say all the time.
    case.ground.push(&[Registry::Acr], &names[0], "only-acr")?;
    let since = Instant::now();
    let mirror = |name: &String| {
        let mut mirror = manifests::mirror(name, &[name]);
        mirror["spec"]["healthCheck"] = json!({"periodSeconds": 4});
        mirror
    };
    let all: Vec<Value> = names.iter().map(mirror).collect();
    case.ground
        .apply("default", &json!({"apiVersion": "v1", "kind": "List", "items": all}))?;
    for name in &names {
        case.ground.observed(name, since)?;
    }
    let begun = Timestamp::now();
    let since = case.ground.fault(Registry::Acr, Fault::VaryingErrors)?;
    for name in &names {
        case.ground.active(name, "Fallback", since, PATIENCE)?;
    }
    case.note(format!(
        "{MIRRORS} mirrors failed over within {:.1} s",
        since.elapsed().as_secs_f64()
    ));
    std::thread::sleep(outage()?);
    let lasted = since.elapsed();
    let requests = audit::since(&case.ground.cluster, begun)?;
    writes_are_few(case, &requests, &names)?;
    let lists = requests
        .iter()
        .filter(|request| request.verb == "list" && request.resource == "pods")
        .count();
    // Each pass of all mirrors together, one more that was under way, and one that a flip asks for.
    let passes = usize::try_from(lasted.as_secs() / INTERVAL.as_secs())? + 2;
    case.note(format!(
        "{lists} lists of pods in {:.0} s, {passes} passes of {MIRRORS} mirrors",
        lasted.as_secs_f64()
    ));
    ensure!(lists <= passes, "{lists} lists of pods for {passes} passes");
    Ok(())
}

/// How many mirrors of the same registries there are, one count after the other.
const CROWDS: [usize; 3] = [1, 10, 100];

/// How long requests are counted.
const COUNTED: Duration = Duration::from_secs(40);

/// Probes are of a registry, and not of a mirror.
pub fn requests_do_not_grow_with_mirrors(case: &Case<'_>) -> anyhow::Result<()> {
    case.push(&["v1"])?;
    let mut created = 0;
    let mut fewest = [f64::MAX; 2];
    for count in CROWDS {
        let since = Instant::now();
        let named = |number: usize| format!("{}-{number}", case.name);
        let mirror = |number: usize| {
            let mut mirror = manifests::mirror(&named(number), &[&case.name]);
            // Nothing but probes asks the registries meanwhile.
            mirror["spec"]["parity"]["interval"] = json!("1h");
            mirror
        };
        let all: Vec<Value> = (created..count).map(mirror).collect();
        case.ground
            .apply("default", &json!({"apiVersion": "v1", "kind": "List", "items": all}))?;
        for number in created..count {
            case.ground.observed(&named(number), since)?;
        }
        created = count;
        inspected(case)?;
        let begun = Timestamp::now();
        std::thread::sleep(COUNTED);
        for (index, registry) in Registry::ALL.into_iter().enumerate() {
            let asked = requests_since(case, registry, begun)?;
            let a_minute = asked as f64 * 60.0 / COUNTED.as_secs_f64() / 2.0;
            case.note(format!(
                "{count} mirrors: {a_minute:.1} requests a minute and replica at {}",
                registry.host()
            ));
            fewest[index] = fewest[index].min(a_minute);
            ensure!(asked > 0, "the front of {} says nothing", registry.host());
            // On a busy machine a probe may seem slow, which has others made beside it.
            ensure!(
                a_minute <= fewest[index] * 1.5 + 10.0,
                "{count} mirrors cost {a_minute:.1} requests a minute, fewer cost {:.1}",
                fewest[index]
            );
        }
    }
    Ok(())
}

/// What the operator has asked a registry's own host since then.
pub(super) fn requests_since(case: &Case<'_>, registry: Registry, since: Timestamp) -> anyhow::Result<usize> {
    asked(case, registry, since, |_| true)
}

/// Waits until no content is inspected any more: of new mirrors, what is in use and a few tags are, as the registries' limits allow.
pub(super) fn inspected(case: &Case<'_>) -> anyhow::Result<()> {
    let is_inspection = |line: &str| line.contains(" HEAD ") && line.contains("/blobs/");
    let until = Instant::now() + Duration::from_mins(5);
    loop {
        let since = Timestamp::now();
        std::thread::sleep(Duration::from_secs(5));
        let mut under_way = 0;
        for registry in Registry::ALL {
            under_way += asked(case, registry, since, is_inspection)?;
        }
        if under_way == 0 {
            return Ok(());
        }
        ensure!(
            Instant::now() < until,
            "content is still inspected: {under_way} requests in 5 s"
        );
    }
}

/// How many such requests of the operator the registry's own host has logged since then.
fn asked(
    case: &Case<'_>,
    registry: Registry,
    since: Timestamp,
    counts: impl Fn(&str) -> bool,
) -> anyhow::Result<usize> {
    let front = match registry {
        Registry::Acr => "front-acr",
        Registry::Ghcr => "front-ghcr",
    };
    let logs = case.ground.cluster.logs(front)?;
    let counts = |line: &&str| {
        let mut words = line.split(' ');
        let at = words.next().and_then(|word| word.parse::<Timestamp>().ok());
        let host = words.nth(1);
        let is_ours = host == Some(registry.host()) && line.contains("catamaran/");
        at.is_some_and(|at| at >= since) && is_ours && counts(line)
    };
    Ok(logs.lines().filter(counts).count())
}

fn outage() -> anyhow::Result<Duration> {
    match std::env::var("OUTAGE_SECONDS").as_deref() {
        Err(_) | Ok("") => Ok(OUTAGE),
        Ok(seconds) => {
            let seconds = seconds.parse();
            let seconds = seconds.with_context(|| "failed to read OUTAGE_SECONDS: it is a whole number of seconds")?;
            Ok(Duration::from_secs(seconds))
        }
    }
}

fn writes_are_few(case: &Case<'_>, requests: &[Request], names: &[String]) -> anyhow::Result<()> {
    let mut most = (0, "");
    for name in names {
        let (evidence, event) = (format!("catamaran-evidence-{name}-"), format!("{name}."));
        let concerns = |request: &&Request| match request.resource.as_str() {
            "registrymirrors/status" => request.name == *name,
            "configmaps" => request.name.starts_with(&evidence),
            "events" => request.name.starts_with(&event),
            _ => false,
        };
        let is_write = |request: &&Request| ["create", "update", "patch", "delete"].contains(&request.verb.as_str());
        let writes: Vec<_> = requests.iter().filter(is_write).filter(concerns).collect();
        // The one that makes the fallback active.
        let beside = writes.len().saturating_sub(1);
        if beside > most.0 {
            most = (beside, name);
        }
        let lines = || {
            writes
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join("\n    ")
        };
        ensure!(
            beside <= WRITES,
            "{beside} writes of {name} beside its flip:\n    {}",
            lines()
        );
    }
    case.note(format!("at most {} writes beside the flip, of {}", most.0, most.1));
    ensure!(most.0 > 0, "the audit log has not one write of an outage");
    Ok(())
}

/// Pods that wait in a queue, and what each has of annotations.
const PODS: u64 = 3000;
const PADDING: usize = 50_000;

/// What the leader may have of memory: half of the chart's limit.
const MEMORY: u64 = 64 << 20;

pub fn thousands_of_pending_pods(case: &Case<'_>) -> anyhow::Result<()> {
    case.push(&["v1"])?;
    case.mirror(|_| {})?;
    let mut queued = pod("queued", &case.image(Registry::Ghcr, "v1"));
    queued["metadata"]["annotations"] = json!({"example.com/padding": "x".repeat(PADDING)});
    queued["spec"]["schedulingGates"] = json!([{"name": "example.com/queue"}]);
    let begun = Instant::now();
    load::create(&case.ground.cluster, &case.name, &queued, PODS)?;
    case.note(format!("{PODS} pods created in {:.1} s", begun.elapsed().as_secs_f64()));
    let cluster = &case.ground.cluster;
    light(case, "with the pods come")?;
    // Who takes over reads all of them at once.
    let leader = operator::leader(cluster)?;
    let killed = Instant::now();
    operator::kill(cluster, &leader)?;
    let followed = operator::followed(cluster, &leader, killed)?;
    case.note(format!("leader killed -> followed: {:.1} s", followed.as_secs_f64()));
    operator::scale(cluster, 2)?;
    light(case, "with the pods read by a new leader")?;
    let restarts = replica::restarts(cluster)?;
    let since = case.ground.fault(Registry::Acr, Fault::Refused)?;
    case.apply(&pod("waits", &case.image(Registry::Acr, "v1")))?;
    let flipped = case.active("Fallback", since, PATIENCE)?;
    let repointed = case.pod("waits", "re-pointed", since, PATIENCE, |pod| {
        image(pod, "app") == case.image(Registry::Ghcr, "v1")
    })?;
    case.bar(
        "flip -> the one waiting pod re-pointed",
        repointed.at.saturating_duration_since(flipped),
        Duration::from_secs(5),
    )?;
    case.ready("waits", since, PATIENCE)?;
    light(case, "with one pod rescued")?;
    ensure!(
        replica::restarts(cluster)? == restarts,
        "replicas were restarted: {:?}",
        replica::restarts(cluster)?
    );
    Ok(())
}

/// For some seconds, no replica has more memory than it may.
fn light(case: &Case<'_>, when: &str) -> anyhow::Result<()> {
    let cluster = &case.ground.cluster;
    let (end, mut most) = (Instant::now() + Duration::from_secs(5), 0);
    while Instant::now() < end {
        for pod in operator::pods(cluster)? {
            let memory = replica::memory(cluster, &pod)?;
            most = most.max(memory);
            ensure!(memory < MEMORY, "{when}: {pod} has {} MB", memory >> 20);
        }
        std::thread::sleep(Duration::from_millis(250));
    }
    case.note(format!("{when}: at most {} MB", most >> 20));
    Ok(())
}
