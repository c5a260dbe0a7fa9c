//! Which tags of a repository are verified.

use std::collections::BTreeMap;
use std::sync::Arc;

use regex_automata::meta::{BuildError, Config, Regex};
use regex_automata::nfa::thompson::WhichCaptures;
use regex_automata::util::syntax;

/// The most memory in bytes that the compiled patterns of one mirror may take together.
pub const MAX_COMPILED: usize = 1024 * 1024;

/// The most memory in bytes that one compiled pattern may take, in each direction that it is read.
const MAX_PATTERN: usize = 256 * 1024;

/// What a compiled pattern takes besides its program.
const OVERHEAD: usize = 1024;

/// The memory in bytes that a pattern may fill while it matches, besides its program. A pattern that needs more is read
/// without it, slower.
const MATCHING: usize = 8 * 1024;

/// Selects the tags to verify by name.
///
/// Without patterns everything is selected but referrer and signature tags: the OCI distribution specification's fallback
/// (`sha256-` and 64 hexadecimal digits, whatever follows), which belong to one registry and need not be on both.
/// Patterns are not anchored, and `\w`, `\d` and `\s` are ASCII, as in RE2: tags are.
#[derive(Clone, Debug, Default)]
pub struct TagFilter {
    include: Vec<TagPattern>,
    exclude: Vec<TagPattern>,
}

/// A compiled pattern. Its clones share one program.
#[derive(Clone, Debug)]
pub struct TagPattern(Arc<Regex>);

/// The patterns of one mirror: equal ones are compiled once, and all together are bounded by [`MAX_COMPILED`].
#[derive(Debug, Default)]
pub struct TagPatterns {
    compiled: BTreeMap<String, TagPattern>,
    bytes: usize,
}

/// Why a pattern can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TagPatternError {
    /// It is no regular expression, or too large by itself.
    #[error("failed to compile the tag pattern {pattern:?}: {reason}")]
    Invalid {
        /// The pattern as written.
        pattern: String,
        /// What is wrong with it.
        reason: String,
    },
    /// It does not fit beside those before it.
    #[error(
        "failed to compile the tag pattern {pattern:?}: the different patterns of a mirror may take {} KiB of memory together, \
         and this one exceeds that; use fewer, shorter or equal patterns",
        MAX_COMPILED / 1024
    )]
    TooMuch {
        /// The pattern as written.
        pattern: String,
    },
}

impl TagFilter {
    /// Compiles patterns that no other filter shares: a tag is selected when one of `include` matches (or there is none)
    /// and none of `exclude` does. The default exclusion holds as well.
    ///
    /// # Errors
    /// The first pattern that can't be used.
    pub fn new(include: &[String], exclude: &[String]) -> Result<TagFilter, TagPatternError> {
        let mut patterns = TagPatterns::default();
        let mut compile_all =
            |texts: &[String]| -> Result<Vec<_>, _> { texts.iter().map(|text| patterns.compile(text)).collect() };
        Ok(TagFilter::of(compile_all(include)?, compile_all(exclude)?))
    }

    /// The same of patterns that are compiled.
    pub fn of(include: Vec<TagPattern>, exclude: Vec<TagPattern>) -> TagFilter {
        TagFilter { include, exclude }
    }

    /// Whether this tag is verified.
    pub fn selects(&self, tag: &str) -> bool {
        let matches = |pattern: &TagPattern| pattern.0.is_match(tag);
        !is_referrers_tag(tag)
            && (self.include.is_empty() || self.include.iter().any(matches))
            && !self.exclude.iter().any(matches)
    }
}

impl TagPatterns {
    /// The compiled form of a pattern.
    ///
    /// # Errors
    /// [`TagPatternError::Invalid`] for what does not compile, [`TagPatternError::TooMuch`] where it would exceed
    /// [`MAX_COMPILED`] together with what was compiled before.
    pub fn compile(&mut self, pattern: &str) -> Result<TagPattern, TagPatternError> {
        if let Some(compiled) = self.compiled.get(pattern) {
            return Ok(compiled.clone());
        }
        let regex = build(pattern).map_err(|reason| TagPatternError::Invalid {
            pattern: pattern.to_owned(),
            reason,
        })?;
        let bytes = self.bytes + regex.memory_usage() + pattern.len() + OVERHEAD;
        if bytes > MAX_COMPILED {
            return Err(TagPatternError::TooMuch {
                pattern: pattern.to_owned(),
            });
        }
        self.bytes = bytes;
        let compiled = TagPattern(Arc::new(regex));
        self.compiled.insert(pattern.to_owned(), compiled.clone());
        Ok(compiled)
    }

    /// How many programs there are.
    pub fn programs(&self) -> usize {
        self.compiled.len()
    }

    /// The memory in bytes that they take.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

/// Without the engines that trade memory for speed: tags are short.
fn build(pattern: &str) -> Result<Regex, String> {
    let config = Config::new()
        .utf8_empty(false)
        .nfa_size_limit(Some(MAX_PATTERN))
        .which_captures(WhichCaptures::None)
        .hybrid_cache_capacity(MATCHING)
        .onepass(false)
        .backtrack(false)
        .dfa(false);
    Regex::builder()
        .syntax(syntax::Config::new().unicode(false).utf8(false))
        .configure(config)
        .build(pattern)
        .map_err(|error| reason(&error))
}

fn reason(error: &BuildError) -> String {
    match (error.size_limit(), error.syntax_error()) {
        (Some(limit), _) => format!("it would take more than {} KiB of memory", limit / 1024),
        (None, Some(syntax)) => syntax.to_string(),
        (None, None) => error.to_string(),
    }
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
            assert!(
                matches!(&error, TagPatternError::Invalid { pattern: named, .. } if named == pattern),
                "{error}"
            );
            let start = format!("failed to compile the tag pattern {pattern:?}: ");
            assert!(error.to_string().starts_with(&start), "{error}");
        }
    }

    #[test]
    fn equal_patterns_share_one_program() {
        let mut patterns = TagPatterns::default();
        for _ in 0..100 {
            for number in 0..32 {
                patterns
                    .compile(&format!("^team-{number}-[a-z0-9]{{1,20}}-v[0-9]+$"))
                    .unwrap();
            }
        }
        assert_eq!(patterns.programs(), 32);
        assert!(patterns.bytes() < 256 * 1024, "{} bytes", patterns.bytes());
    }

    #[test]
    fn different_patterns_are_bounded_together() {
        let mut patterns = TagPatterns::default();
        let long = |number: usize| format!(r"^v{number}-(\w{{1,20}}[.-]){{8}}$");
        let refused = (0..3200).find_map(|number| patterns.compile(&long(number)).err());
        let refused = refused.unwrap();
        assert!(matches!(refused, TagPatternError::TooMuch { .. }), "{refused}");
        assert!(refused.to_string().contains("1024 KiB of memory together"), "{refused}");
        assert!(patterns.bytes() <= MAX_COMPILED);
        let programs = patterns.programs();
        assert!(patterns.compile(&long(0)).is_ok(), "it is compiled already");
        assert!(patterns.compile(&long(0)).is_ok() && patterns.programs() == programs);
    }

    #[test]
    fn usual_patterns_leave_room_for_hundreds() {
        let mut patterns = TagPatterns::default();
        for number in 0..250 {
            patterns
                .compile(&format!("^app-{number}-v[0-9]+[.][0-9]+[.][0-9]+$"))
                .unwrap();
        }
    }

    #[test]
    fn a_match_needs_no_valid_text_and_no_whole_tag() {
        assert!(filter(&[r"(?-u)\xff|b+c"], &[]).selects("abbbcd"));
        assert!(filter(&[""], &[]).selects("anything"));
        assert!(filter(&[r"\brc\b"], &[]).selects("v1-rc-2"));
        assert!(!filter(&[r"\brc\b"], &[]).selects("v1-arc-2"));
        assert!(filter(&["(?i)^LATEST$"], &[]).selects("Latest"));
    }
}
