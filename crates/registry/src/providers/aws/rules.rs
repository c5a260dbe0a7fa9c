//! Pull-through cache rules: under which prefix an upstream's repositories are.

use serde::Deserialize;
use serde_json::json;

use super::call::Ecr;
use crate::wire::failure::{Failure, Stage};

/// An account may have 50 rules.
const MOST_PAGES: usize = 10;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    pull_through_cache_rules: Vec<Rule>,
    #[serde(default)]
    next_token: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    ecr_repository_prefix: String,
    upstream_registry_url: String,
    /// The part of the upstream that the rule is for; absent and `ROOT` mean all of it.
    #[serde(default)]
    upstream_repository_prefix: Option<String>,
}

impl Ecr {
    /// The prefix under which an upstream registry (`ghcr.io`) is cached; empty for the registry's root, `None` without a rule
    /// for all of the upstream.
    pub(super) async fn prefix_for(&self, upstream: &str) -> Result<Option<String>, Failure> {
        let mut next: Option<String> = None;
        for _ in 0..MOST_PAGES {
            let mut input = json!({ "maxResults": 1000 });
            if let Some(token) = &next {
                input["nextToken"] = token.clone().into();
            }
            let (_, body) = self.call("DescribePullThroughCacheRules", input, Stage::Tags).await?;
            let page: Page = serde_json::from_slice(&body).map_err(|_| self.broken("no list of rules"))?;
            if let Some(prefix) = page
                .pull_through_cache_rules
                .iter()
                .find_map(|rule| rule.prefix_for(upstream))
            {
                return Ok(Some(prefix));
            }
            next = page.next_token.filter(|token| !token.is_empty());
            if next.is_none() {
                break;
            }
        }
        Ok(None)
    }
}

impl Rule {
    fn prefix_for(&self, upstream: &str) -> Option<String> {
        let root = |prefix: &str| prefix.is_empty() || prefix == "ROOT";
        let all = self.upstream_repository_prefix.as_deref().is_none_or(root);
        if !all || !self.upstream_registry_url.eq_ignore_ascii_case(upstream) {
            return None;
        }
        let prefix = &self.ecr_repository_prefix;
        Some(if root(prefix) { String::new() } else { prefix.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_for_one_upstream() {
        let rule = |prefix: &str, upstream: &str, part: Option<&str>| Rule {
            ecr_repository_prefix: prefix.to_owned(),
            upstream_registry_url: upstream.to_owned(),
            upstream_repository_prefix: part.map(str::to_owned),
        };
        let cases = [
            (rule("github", "ghcr.io", None), Some("github")),
            (rule("github", "ghcr.io", Some("ROOT")), Some("github")),
            (rule("ROOT", "ghcr.io", None), Some("")),
            (rule("team", "ghcr.io", Some("krateo")), None),
            (rule("quay", "quay.io", None), None),
        ];
        for (rule, expected) in cases {
            assert_eq!(rule.prefix_for("ghcr.io").as_deref(), expected, "{rule:?}");
        }
    }
}
