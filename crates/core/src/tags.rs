//! Which tags of a repository are verified.

use regex::bytes::{Regex, RegexBuilder};

/// The most memory in bytes that one compiled pattern may take.
const MAX_COMPILED: usize = 256 * 1024;

/// Selects the tags to verify by name.
///
/// Without patterns everything is selected but referrer and signature tags: the OCI distribution specification's fallback
/// (`sha256-` and 64 hexadecimal digits, whatever follows), which belong to one registry and need not be on both.
/// Patterns are not anchored, and `\w`, `\d` and `\s` are ASCII, as in RE2: tags are.
#[derive(Clone, Debug, Default)]
pub struct TagFilter {
    include: Vec<Regex>,
    exclude: Vec<Regex>,
}

/// Why a pattern can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("failed to compile the tag pattern {pattern:?}: {reason}")]
pub struct TagFilterError {
    /// The pattern as written.
    pub pattern: String,
    /// What is wrong with it.
    pub reason: String,
}

impl TagFilter {
    /// Compiles patterns: a tag is selected when one of `include` matches (or there is none) and none of `exclude`
    /// does. The default exclusion holds as well.
    pub fn new(include: &[String], exclude: &[String]) -> Result<TagFilter, TagFilterError> {
        let compile_all = |patterns: &[String]| {
            patterns
                .iter()
                .map(|pattern| compile(pattern))
                .collect::<Result<_, _>>()
        };
        Ok(TagFilter {
            include: compile_all(include)?,
            exclude: compile_all(exclude)?,
        })
    }

    /// Whether this tag is verified.
    pub fn selects(&self, tag: &str) -> bool {
        let matches = |pattern: &Regex| pattern.is_match(tag.as_bytes());
        !is_referrers_tag(tag)
            && (self.include.is_empty() || self.include.iter().any(matches))
            && !self.exclude.iter().any(matches)
    }
}

fn compile(pattern: &str) -> Result<Regex, TagFilterError> {
    RegexBuilder::new(pattern)
        .unicode(false)
        .size_limit(MAX_COMPILED)
        .dfa_size_limit(MAX_COMPILED)
        .build()
        .map_err(|error| TagFilterError {
            pattern: pattern.to_owned(),
            reason: error.to_string(),
        })
}

/// `^sha256-[0-9a-f]{64}`
fn is_referrers_tag(tag: &str) -> bool {
    let hex = tag.strip_prefix("sha256-").and_then(|rest| rest.as_bytes().get(..64));
    hex.is_some_and(|hex| hex.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(include: &[&str], exclude: &[&str]) -> TagFilter {
        let owned = |patterns: &[&str]| patterns.iter().map(|pattern| (*pattern).to_owned()).collect::<Vec<_>>();
        TagFilter::new(&owned(include), &owned(exclude)).unwrap()
    }

    #[test]
    fn without_patterns_all_but_referrer_tags_are_selected() {
        let filter = TagFilter::default();
        let hex = "0123456789abcdef".repeat(4);
        assert!(filter.selects("latest"));
        assert!(filter.selects("sha256-abc"));
        assert!(filter.selects(&format!("v-sha256-{hex}")));
        assert!(!filter.selects(&format!("sha256-{hex}")));
        assert!(!filter.selects(&format!("sha256-{hex}.sig")));
        assert!(filter.selects(&format!("sha256-{}", hex.to_uppercase())));
    }

    #[test]
    fn a_tag_must_be_included_and_not_excluded() {
        let filter = filter(&["^[0-9a-f]{7}$", "^latest$"], &["^0"]);
        let cases = [
            ("3f2a91c", true),
            ("latest", true),
            ("latest-1", false),
            ("0f2a91c", false),
            ("v1", false),
        ];
        for (tag, selected) in cases {
            assert_eq!(filter.selects(tag), selected, "{tag}");
        }
    }

    #[test]
    fn own_patterns_do_not_bring_referrer_tags_back() {
        let tag = format!("sha256-{}", "a".repeat(64));
        assert!(!filter(&["sha256"], &[]).selects(&tag));
        assert!(!filter(&[], &["^never$"]).selects(&tag));
    }

    #[test]
    fn character_classes_are_ascii_as_in_re2() {
        assert!(!filter(&[r"^\d$"], &[]).selects("\u{663}"));
        assert!(filter(&[r"^\d$"], &[]).selects("3"));
    }

    #[test]
    fn a_pattern_that_does_not_compile_is_named() {
        for pattern in ["(", "a{2000}{2000}", r"\w{100000}", "(?=x)"] {
            let error = TagFilter::new(&[], &[pattern.to_owned()]).unwrap_err();
            assert_eq!(error.pattern, pattern);
            assert!(
                error.to_string().starts_with("failed to compile the tag pattern"),
                "{error}"
            );
        }
    }
}
