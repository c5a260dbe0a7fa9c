//! Whether one image of one workload could be pulled while a side is down, by the rules of admission. Pure.

use catamaran_controller::pods::once::Subject;
use catamaran_core::pod::Exclusion;
use catamaran_core::policy::ActiveSide;
use catamaran_core::routing::evidence::{Flaw, Presence};
use catamaran_core::routing::explain::{Explanation, Facts};
use catamaran_core::routing::{ImageRoute, KeepReason, RewriteReason, RouteTable};
use catamaran_core::side::Side;

use super::secrets::Pull;
use super::{Finding, Verdict};
use crate::why;

/// What follows for an image of a workload; none for an image of no mirror. With it, what the pull from the other side needs.
pub fn judge(
    subject: &Subject,
    container: &str,
    image: &str,
    never: bool,
    table: &RouteTable,
    down: Side,
) -> Option<(Finding, Option<Pull>)> {
    let labels = subject.labels();
    let explanation = table.pod(&subject.facts(&labels)).explain(image, never);
    let facts = explanation.facts.as_ref()?;
    let (verdict, reason, why, what_to_do) = outcome(&explanation, facts, down);
    let place = match &explanation.route {
        ImageRoute::Rewritten { image, .. } => image.clone(),
        _ => image.to_owned(),
    };
    let pull = (verdict != Verdict::WouldNotStart && side(&explanation, facts) != down && !never)
        .then(|| pull(subject, &explanation, facts, down));
    let finding = Finding {
        mirror: facts.route.policy.id.name.to_string(),
        kind: subject.kind,
        namespace: subject.namespace.clone(),
        name: subject.name.clone(),
        idle: subject.is_idle,
        container: container.to_owned(),
        image: image.to_owned(),
        pulled_as: place,
        verdict,
        reason,
        why,
        what_to_do,
    };
    Some((finding, pull))
}

/// The side that the image would be pulled from.
fn side(explanation: &Explanation<'_>, facts: &Facts<'_>) -> Side {
    match explanation.route {
        ImageRoute::Rewritten { .. } => facts.question.named.other(),
        _ => facts.question.named,
    }
}

type Outcome = (Verdict, &'static str, String, String);

fn outcome(explanation: &Explanation<'_>, facts: &Facts<'_>, down: Side) -> Outcome {
    let stays = |reason: &'static str, why: &str, what_to_do: &str| {
        (Verdict::WouldNotStart, reason, why.to_owned(), what_to_do.to_owned())
    };
    if facts.question.never {
        let why = "imagePullPolicy is Never: it starts only where the node has the image under this name";
        let what_to_do = "nothing, if every node that it may run on is given the image";
        return (
            Verdict::Unknown,
            "PullPolicyNever",
            why.to_owned(),
            what_to_do.to_owned(),
        );
    }
    if side(explanation, facts) != down {
        return elsewhere(explanation, facts, down.other());
    }
    match &explanation.route {
        ImageRoute::Kept { reason, .. } => stays(reason.as_str(), why::cause(*reason), advice(*reason)),
        ImageRoute::Audited { .. } => stays(
            "Audit",
            "rewrite.mode is Audit: no image is changed",
            "set rewrite.mode to Rewrite",
        ),
        _ if facts.route.policy.failover.active == ActiveSide::Fixed(down) => stays(
            "Pinned",
            "spec.active holds pods to the side that is down",
            "end the override: `catamaran failback NAME`",
        ),
        _ => stays(
            "StaysOnPrimary",
            "it names the side that is down, and nothing moves it",
            "see `catamaran explain` for the rule that decides",
        ),
    }
}

/// It would be pulled from the side that works: whether that side has it.
fn elsewhere(explanation: &Explanation<'_>, facts: &Facts<'_>, from: Side) -> Outcome {
    let known = facts.question.digest.or(facts.question.tag).unwrap_or_default();
    let name = side_name(from);
    if let Some(flaw) = known.flaws[from] {
        return flawed(flaw, name);
    }
    if let ImageRoute::Rewritten {
        reason: RewriteReason::Mismatched,
        ..
    } = explanation.route
    {
        let why =
            "the sides have different digests for the tag, and rewrite.mismatchedTags is WhenUnavailable".to_owned();
        let what_to_do = "push the same image to both registries".to_owned();
        return (Verdict::WouldStart, "Mismatched", why, what_to_do);
    }
    match known.presence[from] {
        Presence::Present => (
            Verdict::WouldStart,
            "Present",
            format!("the {name} has it"),
            String::new(),
        ),
        Presence::Absent => {
            let why = format!("the {name} does not have it");
            (Verdict::WouldNotStart, "Missing", why, missing_advice(from))
        }
        Presence::Unknown => {
            let why = format!("nothing is known of it on the {name}");
            let what_to_do = "wait for the next comparison, and look whether the mirror selects it".to_owned();
            (Verdict::Unknown, "Unverified", why, what_to_do)
        }
    }
}

/// That side has it, and nodes can't use it.
fn flawed(flaw: Flaw, side: &str) -> Outcome {
    match flaw {
        Flaw::Broken => (
            Verdict::WouldNotStart,
            "Broken",
            format!("a manifest, a config or a layer of it is missing on the {side}"),
            format!("copy or push it to the {side} again, or set repair.missingTags: Copy"),
        ),
        Flaw::Untrusted => (
            Verdict::WouldNotStart,
            "Untrusted",
            format!("the {side} serves content that does not have its digest"),
            format!("find out what stands between the cluster and the {side}, and push it again"),
        ),
    }
}

fn side_name(side: Side) -> &'static str {
    match side {
        Side::Primary => "primary",
        Side::Fallback => "fallback",
    }
}

fn missing_advice(side: Side) -> String {
    format!(
        "push it to the {} too, or set repair.missingTags: Copy",
        side_name(side)
    )
}

/// What to do about an image that would stay on the side that is down.
fn advice(reason: KeepReason) -> &'static str {
    match reason {
        KeepReason::NotObservedYet => "check the paths of the mirror: `catamaran check NAME`",
        KeepReason::NamespaceUnknown => "get the right to list namespaces, and try again",
        KeepReason::PullPolicyNever => "set another imagePullPolicy",
        KeepReason::NotSelected => "have the mirror's tags select it, or use a tag that they select",
        KeepReason::ExcludedImage => "take it out of rewrite.excludeImages",
        KeepReason::MissingOnActive => "push it to the fallback too, or set repair.missingTags: Copy",
        KeepReason::BrokenOnActive => "copy or push it to the fallback again, or set repair.missingTags: Copy",
        KeepReason::UntrustedOnActive => "find out what changes content on the way to the fallback, and push it again",
        KeepReason::DigestMismatch => "push the same image to both registries",
        KeepReason::Unverified => "wait for the next comparison, or set rewrite.unverifiedTags: Rewrite",
        KeepReason::NotCached => "pull it through the cache by its tag, or set prewarm: true",
        KeepReason::NoCounterpart => "correct the paths of the mirrors that claim it",
        KeepReason::Excluded(Exclusion::StaticPod) => {
            "keep the image on the node, or name the fallback in the pod's file"
        }
        KeepReason::Excluded(Exclusion::ControllerOwned) => {
            "allow its owner in rewrite.ownerKinds, if that does not compare images"
        }
        KeepReason::Excluded(_) => "take the exclusion away, or name the fallback in the manifest",
    }
}

/// What is needed to pull from the side that works.
fn pull(subject: &Subject, explanation: &Explanation<'_>, facts: &Facts<'_>, down: Side) -> Pull {
    let policy = &facts.route.policy;
    let side = &policy.sides[down.other()];
    // What is excluded or only audited gets no pull secret from the webhook.
    let is_given = !matches!(
        explanation.route,
        ImageRoute::Audited { .. }
            | ImageRoute::Kept {
                reason: KeepReason::Excluded(_) | KeepReason::ExcludedImage,
                ..
            }
    );
    let given = if is_given {
        side.image_pull_secrets.clone()
    } else {
        Vec::new()
    };
    Pull {
        namespace: subject.namespace.clone(),
        service_account: subject.service_account.clone(),
        registry: side.registry.clone(),
        listed: side.image_pull_secrets.clone(),
        names: given
            .into_iter()
            .chain(subject.pull_secrets().map(str::to_owned))
            .collect(),
        is_private: side.credentials_secret.is_some(),
    }
}
