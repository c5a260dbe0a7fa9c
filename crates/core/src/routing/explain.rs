//! Why an image goes where it goes: the rules that [`PodRoutes::image`] asks, walked one after the other.
//!
//! Nothing is decided here. The outcome comes from the very functions that admission and rescue call; what is added is which of
//! the rules had the first answer, and what it went by.

use super::evidence::{GroupPlace, MappingId};
use super::pod::Located;
use super::rules::{Question, RULES, Rule, UNVERIFIED, decide};
use super::{ImageRoute, KeepReason, PodRoutes, Route, RouteTable};
use crate::pod::image_reference;
use crate::policy::MirrorPolicy;
use crate::reference::Reference;
use crate::side::Side;

/// Where an image goes, and every rule on the way.
#[derive(Clone, Debug)]
pub struct Explanation<'t> {
    /// What admission does with the image.
    pub route: ImageRoute<'t>,
    /// All rules, in order.
    pub steps: Vec<Step>,
    /// What they went by; none for an image of no mirror.
    pub facts: Option<Facts<'t>>,
}

/// One rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// Its name.
    pub rule: &'static str,
    /// When it has an answer, in words.
    pub when: &'static str,
    /// Whether it had.
    pub result: StepResult,
}

/// What became of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepResult {
    /// It had no answer.
    Passed,
    /// It decided.
    Applied,
    /// It was not asked: a rule before it decided.
    NotReached,
}

/// What the rules went by.
#[derive(Clone, Debug)]
pub struct Facts<'t> {
    /// The mirror as it stands.
    pub route: &'t Route,
    /// The repository's name in status and evidence.
    pub repository: String,
    /// The mapping that its evidence belongs to.
    pub mapping: MappingId,
    /// The tag that counts, also where it is only implied.
    pub tag: Option<String>,
    /// The digest.
    pub digest: Option<String>,
    /// The groups of evidence that say something of the tag.
    pub of_tag: Vec<GroupPlace>,
    /// The groups of evidence that say something of the digest.
    pub of_digest: Vec<GroupPlace>,
    /// Everything else.
    pub question: Question<'t>,
}

/// A mirror whose repositories an image is among, whether it gets the image or not.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'t> {
    /// The mirror.
    pub policy: &'t MirrorPolicy,
    /// The side that the image names.
    pub side: Side,
    /// Its `namespaceSelector` selects the namespace.
    pub selects_namespace: bool,
}

const NOT_AN_IMAGE: Rule = row(
    "NotAnImage",
    "it is no image reference, or a word that an injector replaces",
);
const NO_MIRROR: Rule = row("NoMirror", "it belongs to no mirror of this namespace");
const NO_COUNTERPART: Rule = row(
    "NoCounterpart",
    "its name on the other side is no valid reference, or belongs to another mirror or repository",
);
const AUDIT: Rule = row("Audit", "rewrite.mode is Audit: what would be done is only recorded");

/// What stands around the rules of a mirror: these have no question to answer.
const fn row(name: &'static str, when: &'static str) -> Rule {
    Rule {
        name,
        when,
        ask: |_| None,
    }
}

/// All rows of the table, in order.
fn rows() -> impl Iterator<Item = &'static Rule> {
    let before = [&NOT_AN_IMAGE, &NO_MIRROR];
    let after = [&UNVERIFIED, &NO_COUNTERPART, &AUDIT];
    before.into_iter().chain(RULES).chain(after)
}

impl<'t> PodRoutes<'t> {
    /// What [`PodRoutes::image`] says, and why.
    pub fn explain(&self, image: &str, never: bool) -> Explanation<'t> {
        let untouched = |rule| Explanation {
            route: ImageRoute::Untouched,
            steps: steps(&[rule]),
            facts: None,
        };
        let Some(reference) = image_reference(image) else {
            return untouched(NOT_AN_IMAGE.name);
        };
        let Some(located) = self.locate(&reference) else {
            return untouched(NO_MIRROR.name);
        };
        let question = self.question(image, never, &reference, &located);
        let decision = decide(&question);
        let route = self.outcome(&reference, &located, decision.answer);
        let overrules = match &route {
            ImageRoute::Kept {
                reason: KeepReason::NoCounterpart,
                ..
            } => Some(NO_COUNTERPART.name),
            ImageRoute::Audited { .. } => Some(AUDIT.name),
            _ => None,
        };
        let applied: Vec<&str> = [decision.rule].into_iter().chain(overrules).collect();
        Explanation {
            route,
            steps: steps(&applied),
            facts: Some(facts(&reference, &located, question)),
        }
    }
}

/// Every row, with what became of it; `applied` in their order.
fn steps(applied: &[&str]) -> Vec<Step> {
    let mut left = applied.len();
    let step = |rule: &'static Rule| {
        let result = if left == 0 {
            StepResult::NotReached
        } else if applied.contains(&rule.name) {
            left -= 1;
            StepResult::Applied
        } else {
            StepResult::Passed
        };
        Step {
            rule: rule.name,
            when: rule.when,
            result,
        }
    };
    rows().map(step).collect()
}

fn facts<'t>(reference: &Reference<'_>, located: &Located<'t, '_>, question: Question<'t>) -> Facts<'t> {
    let Located {
        route,
        repository,
        rule,
        ..
    } = *located;
    let places = |name: Option<&str>| {
        let key = name.map(|name| route.policy.key(repository, rule, name));
        key.map_or_else(Vec::new, |key| route.evidence.places(key))
    };
    Facts {
        route,
        repository: repository.to_owned(),
        mapping: route.policy.mapping(repository, rule),
        tag: reference.effective_tag().map(str::to_owned),
        digest: reference.digest().map(str::to_owned),
        of_tag: places(reference.effective_tag()),
        of_digest: places(reference.digest()),
        question,
    }
}

impl RouteTable {
    /// Every mirror whose repositories an image is among, in the order of precedence, as far as each names them alone.
    pub fn candidates(&self, image: &str, namespace: &str) -> Vec<Candidate<'_>> {
        let Some(reference) = image_reference(image) else {
            return Vec::new();
        };
        let labels = self.namespaces.get(namespace);
        let selects = |route: &Route| labels.is_none_or(|labels| route.policy.namespaces.matches(labels));
        // Takes longer than the index, which finds the one that gets the image.
        let found = self.routes.iter().filter_map(|route| {
            let side = route.policy.locate(&reference)?.side;
            Some((route, side))
        });
        found
            .map(|(route, side)| Candidate {
                policy: &route.policy,
                side,
                selects_namespace: selects(route),
            })
            .collect()
    }
}
