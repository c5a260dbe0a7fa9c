//! `catamaran failover` and `failback`: a person overrides which side is active, or ends the override.
//!
//! They write `spec.active` and `spec.activeUntil` and nothing else; the operator decides and acts. `owner` says who would put the
//! field back.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{anyhow, bail};
use catamaran_api::conditions::{self, find_condition};
use catamaran_api::mirror::{ActiveSideName, RegistryMirror, RegistryMirrorStatus};
use catamaran_api::policy::policy;
use catamaran_core::policy::{FailbackMode, MirrorPolicy, RescueMode, RewriteMode};
use catamaran_core::side::Side;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::Serialize;
use serde_json::json;

use crate::cli::{ChangeArguments, FailbackArguments, FailoverArguments, Output};
use crate::cluster::{self, Cluster};
use crate::{exit, follow, output, table};

mod owner;

/// What is asked for.
struct Change {
    active: ActiveSideName,
    until: Option<Timestamp>,
    /// The side that the operator makes active at once; none where it decides.
    to: Option<Side>,
}

/// What has come of it, as `-o json` prints it.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    mirror: String,
    /// `spec.active` as it is now, or would be.
    spec_active: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    active_until: Option<Timestamp>,
    /// The side that was active before.
    from: Option<Side>,
    /// The side that is active now.
    active: Option<Side>,
    epoch: i64,
    /// The spec was not like this before.
    changed: bool,
    dry_run: bool,
    /// The operator has followed; always false where it was not waited for.
    followed: bool,
    /// What happens to pods, and what the operator says.
    message: String,
    warnings: Vec<String>,
}

/// Sends pods to the fallback.
pub fn failover(arguments: &FailoverArguments) -> anyhow::Result<ExitCode> {
    let change = |_: &MirrorPolicy| {
        Ok(Change {
            active: ActiveSideName::Fallback,
            until: until(arguments.lasting),
            to: Some(Side::Fallback),
        })
    };
    run(&arguments.name, &arguments.change, change)
}

/// Lets the operator go back, or makes it.
pub fn failback(arguments: &FailbackArguments) -> anyhow::Result<ExitCode> {
    let change = |policy: &MirrorPolicy| {
        if arguments.force {
            return Ok(Change {
                active: ActiveSideName::Primary,
                until: until(arguments.lasting),
                to: Some(Side::Primary),
            });
        }
        if policy.failover.failback == FailbackMode::Manual {
            let name = &policy.id.name;
            bail!(
                "failback.mode of mirror '{name}' is Manual, so the operator does not go back by itself: \
                 `catamaran failback {name} --force` does"
            );
        }
        Ok(Change {
            active: ActiveSideName::Auto,
            until: None,
            to: None,
        })
    };
    run(&arguments.name, &arguments.change, change)
}

/// The end of an override that lasts so long, in whole seconds.
fn until(lasting: Option<Duration>) -> Option<Timestamp> {
    let end = Timestamp::now().checked_add(lasting?).ok()?;
    Timestamp::from_second(end.as_second()).ok()
}

fn run(
    name: &str,
    arguments: &ChangeArguments,
    change: impl FnOnce(&MirrorPolicy) -> anyhow::Result<Change>,
) -> anyhow::Result<ExitCode> {
    let document = cluster::block_on(flip(name, arguments, change))?;
    match arguments.output {
        Output::Table => {
            for warning in &document.warnings {
                eprintln!("warning: {}", table::cell(warning));
            }
            output::text(&(table::cell(&document.message) + "\n"))?;
        }
        Output::Json => output::json(&document)?,
        Output::Yaml => output::yaml(&document)?,
    }
    let waited = !arguments.dry_run && !arguments.timeout.is_zero();
    let code = if waited && !document.followed {
        exit::NOT_WELL
    } else {
        exit::WELL
    };
    Ok(code.into())
}

async fn flip(
    name: &str,
    arguments: &ChangeArguments,
    change: impl FnOnce(&MirrorPolicy) -> anyhow::Result<Change>,
) -> anyhow::Result<Document> {
    let cluster = Cluster::find(&arguments.cluster).await?;
    let before = cluster.mirror(name).await?;
    let policy = policy(&before).map_err(|error| {
        anyhow!(
            "mirror '{name}' has an invalid spec, and the operator follows the last valid one: fix it first: {error}"
        )
    })?;
    if policy.suspended {
        bail!("mirror '{name}' is suspended, so the operator would not follow: set spec.suspend to false first");
    }
    let change = change(&policy)?;
    let after = apply(&cluster, &before, &change, arguments.dry_run).await?;
    let generation = after.metadata.generation.unwrap_or_default();
    let changed = after.spec != before.spec;
    let waits = !arguments.dry_run && !arguments.timeout.is_zero();
    let has_followed = |mirror: &RegistryMirror| {
        let status = mirror.status.as_ref();
        let observed = status.is_some_and(|status| status.observed_generation >= generation);
        observed
            && change
                .to
                .is_none_or(|to| status.and_then(|status| status.active) == Some(to))
    };
    let (latest, followed) = if waits {
        follow::follow(&cluster, after, arguments.timeout, has_followed, active).await?
    } else {
        (after, false)
    };
    let status = latest.status.clone().unwrap_or_default();
    Ok(Document {
        mirror: name.to_owned(),
        spec_active: word(change.active),
        active_until: change.until,
        from: before.status.as_ref().and_then(|status| status.active),
        active: status.active,
        epoch: status.epoch,
        changed,
        dry_run: arguments.dry_run,
        followed,
        message: message(&policy, &change, &status, arguments, followed),
        warnings: warnings(&before, &change),
    })
}

fn active(mirror: &RegistryMirror) -> String {
    let active = mirror.status.as_ref().and_then(|status| status.active);
    active.map_or_else(|| "not observed yet".to_owned(), |side| format!("{side} is active"))
}

/// Writes the override. A mirror that has it already is left as it is.
async fn apply(
    cluster: &Cluster,
    before: &RegistryMirror,
    change: &Change,
    dry_run: bool,
) -> anyhow::Result<RegistryMirror> {
    let name = before.metadata.name.as_deref().unwrap_or_default();
    let until = change.until.map(Time);
    if before.spec.active == change.active && before.spec.active_until == until {
        return Ok(before.clone());
    }
    let patch = json!({"spec": {"active": change.active, "activeUntil": until}});
    let patched = cluster.patch_mirror(name, &patch, dry_run).await;
    patched.map_err(|reason| anyhow!("can't change mirror '{name}': {reason}"))
}

fn word(active: ActiveSideName) -> &'static str {
    match active {
        ActiveSideName::Auto => "Auto",
        ActiveSideName::Primary => "Primary",
        ActiveSideName::Fallback => "Fallback",
    }
}

/// What to know before it hurts.
fn warnings(mirror: &RegistryMirror, change: &Change) -> Vec<String> {
    let status = mirror.status.clone().unwrap_or_default();
    let unavailable = change.to.and_then(|to| {
        let kind = match to {
            Side::Primary => conditions::PRIMARY_AVAILABLE,
            Side::Fallback => conditions::FALLBACK_AVAILABLE,
        };
        let condition = find_condition(&status.conditions, kind).filter(|found| found.status != "True")?;
        Some(format!("{kind} is {}: {}", condition.status, condition.message))
    });
    owner::warning(mirror).into_iter().chain(unavailable).collect()
}

fn message(
    policy: &MirrorPolicy,
    change: &Change,
    status: &RegistryMirrorStatus,
    arguments: &ChangeArguments,
    followed: bool,
) -> String {
    let set = format!("spec.active of mirror '{}' is {}", policy.id.name, word(change.active));
    let until = change.until.map_or_else(String::new, |end| format!(" until {end}"));
    let pods = change.to.map_or_else(
        || "the operator goes back to the primary once that is stable and holds what is in use".to_owned(),
        |to| pods(policy, to),
    );
    if arguments.dry_run {
        return format!("dry run: {set}{until} would be set; then {pods}");
    }
    if arguments.timeout.is_zero() {
        return format!("{set}{until}; {pods}");
    }
    let ready = find_condition(&status.conditions, conditions::READY);
    let ready = ready.map_or("it has not been observed yet", |found| found.message.as_str());
    let active = status
        .active
        .map_or_else(|| "no side".to_owned(), |side| side.to_string());
    if followed {
        format!(
            "{set}{until}; {active} is active (epoch {}): {pods}. The operator says: {ready}",
            status.epoch
        )
    } else {
        let seconds = arguments.timeout.as_secs();
        format!(
            "{set}{until}, but the operator has not followed within {seconds}s: {active} is active. It says: {ready}"
        )
    }
}

/// What happens to pods.
fn pods(policy: &MirrorPolicy, to: Side) -> String {
    let place = policy.sides[to].name();
    if policy.rewrite.mode == RewriteMode::Audit {
        return "no pod is changed, because rewrite.mode is Audit".to_owned();
    }
    if policy.rescue == RescueMode::Off {
        format!(
            "new pods are sent to {place}; pods that run or wait for an image are left as they are, because rescue.mode is Off"
        )
    } else {
        format!("new pods, and pods that wait for an image, are sent to {place}; pods that run are left as they are")
    }
}
