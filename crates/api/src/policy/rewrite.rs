//! How references are rewritten.

use std::sync::Arc;

use catamaran_core::policy::{
    ControllerOwnedPods, ImageGlob, MismatchedTags, OwnerKind, RewriteMode, RewritePolicy, UnverifiedTags,
};
use catamaran_core::selector::Selector;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use super::checks::{PolicyError, at_most};
use super::selector::selector;
use crate::mirror::{
    ControllerOwnedPodsName, MismatchedTagsName, OwnerKindName, Rewrite, RewriteModeName, UnverifiedTagsName,
};
use crate::rules::{MAX_EXCLUDED_IMAGES, MAX_EXCLUDED_PODS, MAX_OWNER_KINDS};

pub(super) fn rewrite(rewrite: &Rewrite) -> Result<RewritePolicy, PolicyError> {
    Ok(RewritePolicy {
        mode: match rewrite.mode {
            RewriteModeName::Rewrite => RewriteMode::Rewrite,
            RewriteModeName::Audit => RewriteMode::Audit,
        },
        unverified: match rewrite.unverified_tags {
            UnverifiedTagsName::Rewrite => UnverifiedTags::Rewrite,
            UnverifiedTagsName::Keep => UnverifiedTags::Keep,
        },
        controller_owned: match rewrite.controller_owned_pods {
            ControllerOwnedPodsName::Keep => ControllerOwnedPods::Keep,
            ControllerOwnedPodsName::Rewrite => ControllerOwnedPods::Rewrite,
        },
        owner_kinds: owner_kinds(&rewrite.owner_kinds)?,
        exclude_images: images(&rewrite.exclude_images)?,
        exclude_pods: pods(&rewrite.exclude_pods)?,
        mismatched: match rewrite.mismatched_tags {
            MismatchedTagsName::Keep => MismatchedTags::Keep,
            MismatchedTagsName::WhenUnavailable => MismatchedTags::WhenUnavailable,
        },
    })
}

fn owner_kinds(kinds: &[OwnerKindName]) -> Result<Vec<OwnerKind>, PolicyError> {
    const FIELD: &str = "spec.rewrite.ownerKinds";
    at_most(kinds.len(), MAX_OWNER_KINDS, FIELD)?;
    for (index, kind) in kinds.iter().enumerate() {
        let error = |name: &str, message: &str| Err(PolicyError::new(format!("{FIELD}[{index}]{name}"), message));
        if kinds[..index].contains(kind) {
            return error("", "is listed twice");
        }
        if !is_group(&kind.api_group) {
            return error(
                ".apiGroup",
                "must be an API group without a version, such as tekton.dev; empty for the core group",
            );
        }
        if !is_kind(&kind.kind) {
            return error(
                ".kind",
                "must be a kind such as TaskRun: 1 to 63 letters and digits, the first upper-case",
            );
        }
    }
    let policy = |kind: &OwnerKindName| OwnerKind {
        api_group: kind.api_group.clone(),
        kind: kind.kind.clone(),
    };
    Ok(kinds.iter().map(policy).collect())
}

fn is_group(group: &str) -> bool {
    group.is_empty() || super::checks::is_dns_subdomain(group)
}

fn is_kind(kind: &str) -> bool {
    kind.len() <= 63
        && kind.starts_with(|first: char| first.is_ascii_uppercase())
        && kind.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

fn images(patterns: &[String]) -> Result<Vec<ImageGlob>, PolicyError> {
    const FIELD: &str = "spec.rewrite.excludeImages";
    at_most(patterns.len(), MAX_EXCLUDED_IMAGES, FIELD)?;
    let glob = |(index, pattern): (usize, &String)| {
        ImageGlob::new(pattern).map_err(|error| PolicyError::new(format!("{FIELD}[{index}]"), error.to_string()))
    };
    patterns.iter().enumerate().map(glob).collect()
}

fn pods(selectors: &[LabelSelector]) -> Result<Arc<[Selector]>, PolicyError> {
    const FIELD: &str = "spec.rewrite.excludePods";
    at_most(selectors.len(), MAX_EXCLUDED_PODS, FIELD)?;
    let parse = |(index, labels): (usize, &LabelSelector)| {
        let field = format!("{FIELD}[{index}]");
        let parsed = selector(labels, &field)?;
        if parsed.requirements.is_empty() {
            return Err(PolicyError::new(
                field,
                "is empty and selects every pod: set rewrite.mode to Audit instead, or suspend",
            ));
        }
        Ok(parsed)
    };
    let parsed = selectors.iter().enumerate().map(parse).collect::<Result<_, _>>()?;
    Ok(RewritePolicy::shared(parsed))
}
