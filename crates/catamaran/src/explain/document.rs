//! What `explain` says, as data: printed as a text or as JSON.

use catamaran_api::conditions;
use catamaran_core::policy::ActiveSide;
use catamaran_core::routing::evidence::{Flaw, GroupPlace, Knowledge, Presence};
use catamaran_core::routing::explain::{Explanation, Facts, StepResult};
use catamaran_core::routing::{ImageRoute, KeepReason};
use catamaran_core::side::Side;
use jiff::Timestamp;
use serde::Serialize;

use crate::view::{Unread, View};
use crate::why;

/// Everything.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Document {
    /// The namespace.
    pub namespace: String,
    /// The pod; absent for an image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
    /// Each image.
    pub images: Vec<Explained>,
    /// What could not be read.
    pub unread: Vec<Unread>,
}

/// One image.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explained {
    /// The container; absent for an image that was typed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// The image that admission is asked about: what the pod was created with.
    pub image: String,
    /// The image that the pod has now, where that is another.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub now: Option<String>,
    /// Where it goes.
    pub outcome: Outcome,
    /// Every rule, in order.
    pub rules: Vec<RuleResult>,
    /// The mirror, and what the rules went by; absent for an image of no mirror.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mirror: Option<MirrorFacts>,
    /// What else there is to know, in words.
    pub notes: Vec<String>,
}

/// Where an image goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Outcome {
    /// `Rewritten`, `Audited`, `Kept`, `OnActive` or `Untouched`.
    pub action: &'static str,
    /// The reason, as in annotations and metrics.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'static str>,
    /// The image that it becomes, or would with `Audited`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// In words.
    pub message: String,
}

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RuleResult {
    /// Its name.
    pub rule: &'static str,
    /// When it applies.
    pub when: &'static str,
    /// `applied`, `passed` or `notReached`.
    pub result: &'static str,
}

/// What the rules went by.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MirrorFacts {
    /// The mirror's name.
    pub name: String,
    /// The repository's name in its status.
    pub repository: String,
    /// The side that the image names.
    pub named: Side,
    /// The side that pods are sent to.
    pub active: Side,
    /// Since when, where it has ever changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub active_since: Option<Timestamp>,
    /// How often it has changed.
    pub epoch: u64,
    /// `spec.active`, where that is a side.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pinned: Option<Side>,
    /// The primary.
    pub primary: SideFacts,
    /// The fallback.
    pub fallback: SideFacts,
    /// The mapping that the evidence belongs to.
    pub mapping: String,
    /// A side has served an image under it.
    pub observed: bool,
    /// The mirror's `tags` select the tag.
    pub selected: bool,
    /// `rewrite.mode`, `unverifiedTags` and `mismatchedTags`.
    pub settings: Settings,
    /// What is known of the tag.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tag: Option<Reference>,
    /// What is known of the digest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<Reference>,
    /// When the oldest digest of the last comparison was read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compared_since: Option<Timestamp>,
}

/// One side.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SideFacts {
    /// The registry, with the prefix.
    pub registry: String,
    /// It was found unavailable.
    pub unavailable: bool,
    /// Since when that is so, or is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
}

/// What decides where little is known.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Settings {
    /// `rewrite.mode`.
    pub mode: String,
    /// `rewrite.unverifiedTags`.
    pub unverified_tags: String,
    /// `rewrite.mismatchedTags`.
    pub mismatched_tags: String,
}

/// What is known of a tag or a digest.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Reference {
    /// The tag or the digest.
    pub name: String,
    /// `Present`, `Absent` or `Unknown`.
    pub primary: &'static str,
    /// The same of the fallback.
    pub fallback: &'static str,
    /// Both sides have it with one digest.
    pub same_digest: bool,
    /// Sides where a part of its content is missing.
    pub broken_on: Vec<Side>,
    /// Sides that serve content that does not have its digest.
    pub untrusted_on: Vec<Side>,
    /// When the part of the evidence that says so was last changed; absent where nothing is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recorded: Option<Timestamp>,
}

/// The outcome and the rules of one image.
pub fn explained(container: Option<&str>, image: &str, explanation: &Explanation<'_>, view: &View) -> Explained {
    let rules = explanation.steps.iter().map(|step| RuleResult {
        rule: step.rule,
        when: step.when,
        result: match step.result {
            StepResult::Applied => "applied",
            StepResult::Passed => "passed",
            StepResult::NotReached => "notReached",
        },
    });
    Explained {
        container: container.map(str::to_owned),
        image: image.to_owned(),
        now: None,
        outcome: outcome(explanation),
        rules: rules.collect(),
        mirror: explanation.facts.as_ref().map(|facts| mirror(facts, view)),
        notes: Vec::new(),
    }
}

fn outcome(explanation: &Explanation<'_>) -> Outcome {
    let applied = explanation
        .steps
        .iter()
        .filter(|step| step.result == StepResult::Applied);
    let because = applied.map(|step| step.when).next().unwrap_or_default();
    let stays = |action, reason: Option<KeepReason>| Outcome {
        action,
        reason: reason.map(KeepReason::as_str),
        image: None,
        message: format!("stays as it is: {}", reason.map_or(because, why::cause)),
    };
    match &explanation.route {
        ImageRoute::Untouched => stays("Untouched", None),
        ImageRoute::OnActive { .. } => stays("OnActive", None),
        ImageRoute::Kept { reason, .. } => stays("Kept", Some(*reason)),
        ImageRoute::Rewritten { image, reason, .. } => Outcome {
            action: "Rewritten",
            reason: Some(reason.as_str()),
            image: Some(image.clone()),
            message: format!("is sent to {image}: {because}"),
        },
        ImageRoute::Audited { image, reason, .. } => Outcome {
            action: "Audited",
            reason: Some(reason.as_audited()),
            image: Some(image.clone()),
            message: format!("stays as it is, because rewrite.mode is Audit; would be sent to {image}: {because}"),
        },
    }
}

fn mirror(facts: &Facts<'_>, view: &View) -> MirrorFacts {
    let Facts { route, question, .. } = facts;
    let policy = &route.policy;
    let object = view.mirrors.get(&*policy.id.uid);
    let status = object.and_then(|mirror| mirror.status.as_ref());
    let condition = |side: Side| {
        let kind = match side {
            Side::Primary => conditions::PRIMARY_AVAILABLE,
            Side::Fallback => conditions::FALLBACK_AVAILABLE,
        };
        conditions::find_condition(&status?.conditions, kind)
    };
    let side = |side: Side| SideFacts {
        registry: policy.sides[side].name(),
        unavailable: question.unavailable[side],
        since: condition(side).map(|found| found.last_transition_time.0),
    };
    let recorded = |places: &[GroupPlace]| {
        let read = view.evidence.get(&*policy.id.uid)?;
        places.iter().filter_map(|place| read.written.get(place).copied()).max()
    };
    let reference = |name: &Option<String>, known: Option<Knowledge>, places: &[GroupPlace]| {
        Some(reference(name.clone()?, known.unwrap_or_default(), recorded(places)))
    };
    let flip = status.and_then(|status| status.last_flip.as_ref());
    let parity = status.and_then(|status| status.parity.as_ref());
    MirrorFacts {
        name: policy.id.name.to_string(),
        repository: facts.repository.clone(),
        named: question.named,
        active: question.target,
        active_since: flip.map(|flip| flip.time.0),
        epoch: route.epoch,
        pinned: match policy.failover.active {
            ActiveSide::Auto => None,
            ActiveSide::Fixed(side) => Some(side),
        },
        primary: side(Side::Primary),
        fallback: side(Side::Fallback),
        mapping: facts.mapping.to_string(),
        observed: question.observed,
        selected: question.selected,
        settings: Settings {
            mode: format!("{:?}", policy.rewrite.mode),
            unverified_tags: format!("{:?}", policy.rewrite.unverified),
            mismatched_tags: format!("{:?}", policy.rewrite.mismatched),
        },
        tag: reference(&facts.tag, question.tag, &facts.of_tag),
        digest: reference(&facts.digest, question.digest, &facts.of_digest),
        compared_since: parity.and_then(|parity| Some(parity.oldest_check_time.as_ref()?.0)),
    }
}

fn reference(name: String, known: Knowledge, recorded: Option<Timestamp>) -> Reference {
    let presence = |side: Side| match known.presence[side] {
        Presence::Unknown => "Unknown",
        Presence::Present => "Present",
        Presence::Absent => "Absent",
    };
    let flawed = |flaw: Flaw| {
        let sides = Side::ALL.into_iter();
        sides.filter(|side| known.flaws[*side] == Some(flaw)).collect()
    };
    Reference {
        name,
        primary: presence(Side::Primary),
        fallback: presence(Side::Fallback),
        same_digest: known.same,
        broken_on: flawed(Flaw::Broken),
        untrusted_on: flawed(Flaw::Untrusted),
        recorded,
    }
}
