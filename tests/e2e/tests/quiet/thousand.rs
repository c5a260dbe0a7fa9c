//! Many mirrors of the same two registries: what each of them adds, and how far they are apart in an outage.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use catamaran_cluster::{Fault, Registry};
use catamaran_e2e::audit::Request;
use catamaran_e2e::replica::Usage;
use catamaran_e2e::view::{self, condition, name};
use catamaran_e2e::{Case, audit, manifests, operator, replica};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::crowds::{inspected, requests_since};
use super::together::Together;

/// How many mirrors there are, unless `MIRRORS` says another number. Without it the way back is left out, which takes minutes.
const MIRRORS: usize = 100;

/// Repositories that they share. Each is for namespaces of its own, so that none takes what another one has.
const REPOSITORIES: usize = 10;

/// How long all of them may take for anything.
const PATIENCE: Duration = Duration::from_mins(10);

/// Nothing of an earlier step is under way any more after this.
const SETTLE: Duration = Duration::from_secs(10);

/// How long requests and the processors' time are counted.
const COUNTED: Duration = Duration::from_secs(20);

/// How long the outage is watched after the last mirror has flipped.
const OUTAGE: Duration = Duration::from_secs(20);

/// From the first flip to the last.
const SPREAD: Duration = Duration::from_secs(2);

/// What a mirror may add to a replica that does not lead: memory in bytes, and time of a processor in a second.
const MEMORY_EACH: u64 = 20_000;
const TIME_EACH: Duration = Duration::from_micros(100);

/// What a leader may have of memory in bytes: while mirrors are created and in an outage, and after a failback, when all mirrors verify
/// their tags at the same time.
const MEMORY: u64 = 96_000_000;
const MEMORY_AT_FAILBACK: u64 = 104_000_000;

/// Writes of a mirror's status for one flip: the flip alone, then what has become of it.
const WRITES: usize = 5;

/// What was missed of the bars that do not depend on how busy the machine is. A run takes minutes: it goes on, and fails at its end.
type Missed = RefCell<Vec<String>>;

fn hold(missed: &Missed, holds: bool, what: impl FnOnce() -> String) {
    if !holds {
        missed.borrow_mut().push(what());
    }
}

pub fn flip_as_one(case: &Case<'_>) -> anyhow::Result<()> {
    let missed = Missed::default();
    flip_and_back(case, &missed)?;
    let missed = missed.into_inner();
    ensure!(missed.is_empty(), missed.join("; "));
    Ok(())
}

fn flip_and_back(case: &Case<'_>, missed: &Missed) -> anyhow::Result<()> {
    let count = mirrors()?;
    for number in 0..REPOSITORIES.min(count) {
        case.ground.push(&Registry::ALL, &repository(case, number), "v1")?;
    }
    create(case, 0..1)?;
    std::thread::sleep(SETTLE);
    let restarts = replica::restarts(&case.ground.cluster)?;
    let one = idle(case, 1)?;
    create(case, 1..count)?;
    light(case, missed, "while they were created", MEMORY)?;
    inspected(case)?;
    std::thread::sleep(SETTLE);
    // Pods of this scenario are the last mirror's.
    let team = format!("team={}", count - 1);
    case.ground
        .cluster
        .kubectl(&["label", "namespace", &case.name, &team, "--overwrite"])?;
    let many = idle(case, count)?;
    growth(case, missed, count, &one, &many)?;
    let since = Timestamp::now();
    flip(case, count, Fault::Refused)?;
    light(case, missed, "in the outage", MEMORY)?;
    writes(case, missed, since, count, "failover")?;
    if std::env::var_os("MIRRORS").is_some() {
        fail_back(case, missed, count)?;
    }
    let now = replica::restarts(&case.ground.cluster)?;
    hold(missed, now == restarts, || format!("replicas were restarted: {now:?}"));
    Ok(())
}

fn fail_back(case: &Case<'_>, missed: &Missed, count: usize) -> anyhow::Result<()> {
    let healed = Timestamp::now();
    case.ground.cluster.heal(Registry::Acr)?;
    all(case, count, "on their primary", |mirror| {
        mirror["status"]["active"] == "Primary"
    })?;
    std::thread::sleep(OUTAGE);
    light(case, missed, "after failback", MEMORY_AT_FAILBACK)?;
    writes(case, missed, healed, count, "failback")
}

fn mirrors() -> anyhow::Result<usize> {
    match std::env::var("MIRRORS").as_deref() {
        Err(_) | Ok("") => Ok(MIRRORS),
        Ok(number) => {
            let number = number.parse().ok().filter(|number| *number > 1);
            number.context("failed to read MIRRORS: it is a number of mirrors, at least 2")
        }
    }
}

fn repository(case: &Case<'_>, number: usize) -> String {
    format!("{}-{}", case.name, number % REPOSITORIES)
}

fn named(case: &Case<'_>, number: usize) -> String {
    format!("{}-{number}", case.name)
}

/// Creates these mirrors by one command and waits until all of them have compared their sides.
fn create(case: &Case<'_>, numbers: std::ops::Range<usize>) -> anyhow::Result<()> {
    let (begun, until) = (Instant::now(), numbers.end);
    let mirror = |number: usize| {
        let mut mirror = manifests::mirror(&named(case, number), &[&repository(case, number)]);
        mirror["spec"]["namespaceSelector"] = json!({"matchLabels": {"team": number.to_string()}});
        // Nothing but probes asks the registries meanwhile.
        mirror["spec"]["parity"]["interval"] = json!("1h");
        mirror
    };
    let list = json!({"apiVersion": "v1", "kind": "List", "items": numbers.map(mirror).collect::<Vec<_>>()});
    let arguments = ["apply", "--server-side", "-f", "-"];
    case.ground.cluster.kubectl_stdin(&arguments, &list.to_string())?;
    let applied = begun.elapsed();
    all(case, until, "Ready and verified", |mirror| {
        condition(mirror, "Ready").status == "True" && condition(mirror, "InSync").reason == "TagsMatch"
    })?;
    case.note(format!(
        "{until} mirrors: applied within {:.1} s, verified {:.1} s later",
        applied.as_secs_f64(),
        begun.elapsed().saturating_sub(applied).as_secs_f64()
    ));
    Ok(())
}

/// Waits until so many mirrors are as `holds` says.
fn all(case: &Case<'_>, count: usize, what: &str, holds: impl Fn(&Value) -> bool) -> anyhow::Result<()> {
    let expected: BTreeSet<String> = (0..count).map(|number| named(case, number)).collect();
    let (mut seen_until, mut holding) = (0, BTreeSet::new());
    let found = case
        .ground
        .mirrors
        .wait(&format!("{count} mirrors {what}"), PATIENCE, |seen| {
            for item in &seen[seen_until..] {
                let name = name(&item.object);
                if !item.gone && holds(&item.object) {
                    holding.insert(name.to_owned());
                } else {
                    holding.remove(name);
                }
            }
            seen_until = seen.len();
            expected.is_subset(&holding).then_some(())
        });
    found.with_context(|| format!("{} of {count} mirrors are {what}", holding.len()))
}

/// What replicas have and ask for while nothing happens.
struct Idle {
    leader: Rate,
    other: Rate,
    /// Requests a minute and replica, at each registry.
    requests: [f64; 2],
}

struct Rate {
    memory: u64,
    /// In a second.
    time: Duration,
}

fn idle(case: &Case<'_>, count: usize) -> anyhow::Result<Idle> {
    let cluster = &case.ground.cluster;
    let leader = operator::leader(cluster)?;
    let pods = operator::pods(cluster)?;
    let other = pods.into_iter().find(|pod| *pod != leader);
    let other = other.context("there is no replica that does not lead")?;
    let usages =
        || -> anyhow::Result<[Usage; 2]> { Ok([replica::usage(cluster, &leader)?, replica::usage(cluster, &other)?]) };
    let (begun, since, before) = (Timestamp::now(), Instant::now(), usages()?);
    std::thread::sleep(COUNTED);
    let (took, after) = (since.elapsed(), usages()?);
    let mut requests = [0.0; 2];
    for (registry, requests) in Registry::ALL.into_iter().zip(&mut requests) {
        let asked = requests_since(case, registry, begun)?;
        ensure!(asked > 0, "the front of {} says nothing", registry.host());
        *requests = asked as f64 * 60.0 / took.as_secs_f64() / 2.0;
    }
    ensure!(operator::leader(cluster)? == leader, "another replica leads");
    let rate = |index: usize| Rate {
        memory: after[index].resident,
        time: after[index]
            .cpu
            .saturating_sub(before[index].cpu)
            .div_f64(took.as_secs_f64()),
    };
    let idle = Idle {
        leader: rate(0),
        other: rate(1),
        requests,
    };
    for (who, rate) in [("the leader", &idle.leader), ("the other replica", &idle.other)] {
        case.note(format!(
            "{count} mirrors, nothing happens: {who} has {:.1} MB and {:.2} ms of a processor each second",
            megabytes(rate.memory),
            rate.time.as_secs_f64() * 1e3
        ));
    }
    let [primary, fallback] = requests;
    case.note(format!(
        "{count} mirrors: {primary:.1} and {fallback:.1} requests a minute and replica"
    ));
    Ok(idle)
}

/// What every further mirror adds.
fn growth(case: &Case<'_>, missed: &Missed, count: usize, one: &Idle, many: &Idle) -> anyhow::Result<()> {
    for (index, registry) in Registry::ALL.into_iter().enumerate() {
        let (few, now) = (one.requests[index], many.requests[index]);
        // On a busy machine a probe may seem slow, which has others made beside it.
        hold(missed, now <= few * 1.5 + 10.0, || {
            let host = registry.host();
            format!("{count} mirrors cost {now:.1} requests a minute at {host}, one costs {few:.1}")
        });
    }
    let further = u32::try_from(count - 1)?;
    let memory = many.other.memory.saturating_sub(one.other.memory) / u64::from(further);
    case.note(format!(
        "a further mirror costs a replica that does not lead {:.1} kB (bar: {} kB)",
        memory as f64 / 1e3,
        MEMORY_EACH / 1000
    ));
    // With few mirrors this is what the allocator keeps anyway.
    hold(missed, count < MIRRORS * 5 || memory <= MEMORY_EACH, || {
        format!("a mirror costs {memory} bytes, more than {MEMORY_EACH}")
    });
    let time = many.other.time.saturating_sub(one.other.time) / further;
    case.note(format!(
        "a further mirror costs a replica that does not lead {:.1} us of each second",
        time.as_secs_f64() * 1e6
    ));
    case.bar(
        "a thousand further mirrors cost a replica that does not lead, of each second",
        time * 1_000,
        TIME_EACH * 1_000,
    )
}

/// Has the primary fail for all of them.
fn flip(case: &Case<'_>, count: usize, fault: Fault) -> anyhow::Result<()> {
    for pod in operator::pods(&case.ground.cluster)? {
        replica::forget_peak(&case.ground.cluster, &pod)?;
    }
    let together = Together::watch(case)?;
    let since = case.ground.fault(Registry::Acr, fault)?;
    let flips = together.flipped(case, count)?;
    admitted(case, count, since)?;
    let (Some(first), Some(last)) = (flips.values().min(), flips.values().max()) else {
        bail!("no mirror has flipped");
    };
    case.note(format!(
        "{count} mirrors: outage -> all flipped: {:.2} s, {} of them together with others",
        last.saturating_duration_since(since).as_secs_f64(),
        together.seen()?.len()
    ));
    case.bar(
        &format!("the first to the last of {count} failovers"),
        last.saturating_duration_since(*first),
        SPREAD,
    )?;
    all(case, count, "on their fallback", |mirror| {
        mirror["status"]["active"] == "Fallback"
    })?;
    case.note(format!(
        "{count} mirrors: outage -> all statuses say so: {:.2} s",
        since.elapsed().as_secs_f64()
    ));
    together.gone()?;
    std::thread::sleep(OUTAGE);
    Ok(())
}

/// Pods of the last of the mirrors are sent to the fallback, whatever its status says by now.
fn admitted(case: &Case<'_>, count: usize, since: Instant) -> anyhow::Result<()> {
    let image = |registry: Registry| manifests::image(registry, &repository(case, count - 1), "v1");
    let pod = manifests::pod("next", &image(Registry::Acr));
    let sent = |pod: &Value| view::image(pod, "app") == image(Registry::Ghcr);
    case.admitted_as(&pod, "sent to the fallback", since, PATIENCE, sent)?;
    case.note(format!(
        "{count} mirrors: outage -> a pod of the last one is sent to the fallback: {:.2} s",
        since.elapsed().as_secs_f64()
    ));
    Ok(())
}

/// No replica had more memory than it may since its peak was forgotten.
fn light(case: &Case<'_>, missed: &Missed, when: &str, most: u64) -> anyhow::Result<()> {
    let cluster = &case.ground.cluster;
    let leader = operator::leader(cluster)?;
    for pod in operator::pods(cluster)? {
        let who = if pod == leader {
            "the leader"
        } else {
            "the other replica"
        };
        let peak = replica::usage(cluster, &pod)?.peak;
        case.note(format!(
            "{when}, {who} had at most {:.1} MB (bar: {} MB)",
            megabytes(peak),
            most / 1_000_000
        ));
        hold(missed, peak <= most, || {
            format!("{when}, {who} had {:.1} MB", megabytes(peak))
        });
    }
    Ok(())
}

/// What was written to the API server since then, and by how much the mirrors' flips were apart.
fn writes(case: &Case<'_>, missed: &Missed, since: Timestamp, count: usize, what: &str) -> anyhow::Result<()> {
    let requests = audit::since(&case.ground.cluster, since)?;
    let is_write = |request: &&Request| ["create", "update", "patch", "delete"].contains(&request.verb.as_str());
    let refused = |code: u64| {
        let writes = requests.iter().filter(is_write);
        writes.filter(|request| request.code == code).count()
    };
    let (conflicts, throttled) = (refused(409), refused(429));
    let failed = requests.iter().filter(is_write).filter(|request| request.code >= 500);
    let failed = failed.count();
    let mut statuses = BTreeMap::<&str, Vec<&Request>>::new();
    let of_statuses = |request: &&Request| request.resource == "registrymirrors/status";
    for request in requests.iter().filter(is_write).filter(of_statuses) {
        statuses.entry(&request.name).or_default().push(request);
    }
    let all: usize = statuses.values().map(Vec::len).sum();
    let most = statuses.values().map(Vec::len).max().unwrap_or_default();
    let each = audit::census(&requests)
        .into_iter()
        .map(|(verb, number)| format!("{verb}: {number}"));
    case.note(format!(
        "{what} of {count} mirrors: {}",
        each.collect::<Vec<_>>().join(", ")
    ));
    case.note(format!(
        "{what}: {all} writes of status, at most {most} of one; {conflicts} conflicts, {throttled} throttled, {failed} failed"
    ));
    let written = statuses.len();
    hold(missed, written == count, || {
        format!("{what}: {written} of {count} mirrors were written")
    });
    hold(missed, conflicts * 100 <= count, || {
        format!("{what}: {conflicts} conflicts of {count} mirrors")
    });
    hold(missed, throttled + failed == 0, || {
        format!("{what}: the API server refused {throttled} and failed {failed} writes")
    });
    hold(missed, most <= WRITES, || {
        format!("{what}: a mirror was written {most} times")
    });
    Ok(())
}

fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
