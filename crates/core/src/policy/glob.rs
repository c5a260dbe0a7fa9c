//! Patterns for image references.

use crate::reference::Reference;

/// The longest pattern in bytes.
const MAX_GLOB: usize = 255;

/// A pattern for image references: `*` stands for any run of characters, also none and also slashes, `?` for one character.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ImageGlob {
    pattern: String,
}

/// Why a text is not a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImageGlobError {
    /// It is empty or too long.
    #[error("failed to parse the image pattern: it must have 1 to {MAX_GLOB} characters")]
    Length,
    /// It has a character that no image reference has.
    #[error(
        "failed to parse the image pattern: {0:?} is in no image reference; only letters, digits, '.', '_', '-', '/', ':', '@' \
         and the wildcards '*' and '?' are allowed"
    )]
    Character(char),
}

impl ImageGlob {
    /// Parses a pattern.
    ///
    /// # Errors
    /// [`ImageGlobError::Length`] for none or more than 255 characters, [`ImageGlobError::Character`] for the first that no
    /// reference can have: a regular expression is told from a pattern by it.
    pub fn new(pattern: &str) -> Result<ImageGlob, ImageGlobError> {
        let allowed =
            |c: &char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '/' | ':' | '@' | '*' | '?');
        if let Some(character) = pattern.chars().find(|c| !allowed(c)) {
            return Err(ImageGlobError::Character(character));
        }
        if pattern.is_empty() || pattern.len() > MAX_GLOB {
            return Err(ImageGlobError::Length);
        }
        Ok(ImageGlob {
            pattern: pattern.to_owned(),
        })
    }

    /// Whether the whole reference matches, as it is written or in its full form: `nginx` is also
    /// `docker.io/library/nginx:latest`.
    pub fn matches(&self, image: &str) -> bool {
        ImageGlob::any_matches(std::slice::from_ref(self), image)
    }

    /// Whether one of the patterns matches; the full form is made only once.
    pub(crate) fn any_matches(globs: &[ImageGlob], image: &str) -> bool {
        if globs.is_empty() {
            return false;
        }
        let any = |text: &str| {
            globs
                .iter()
                .any(|glob| is_match(glob.pattern.as_bytes(), text.as_bytes()))
        };
        any(image) || full_form(image).is_some_and(|full| any(&full))
    }
}

/// With registry, `library/` and the tag that a runtime would ask for; `None` where it does not parse.
fn full_form(image: &str) -> Option<String> {
    let reference = Reference::parse(image).ok()?;
    Some(if reference.suffix().is_empty() {
        format!("{reference}:latest")
    } else {
        reference.to_string()
    })
}

/// Matches greedily. Only the last `*` is ever tried again, so that there are at most as many steps as the product of the two
/// lengths, whatever the pattern.
fn is_match(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut read) = (0, 0);
    // Behind the last `*`, and where the text that follows its run begins.
    let mut star: Option<(usize, usize)> = None;
    while read < text.len() {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at + 1, read));
                at += 1;
            }
            Some(byte) if *byte == b'?' || *byte == text[read] => {
                at += 1;
                read += 1;
            }
            _ => {
                let Some((behind, from)) = star else {
                    return false;
                };
                star = Some((behind, from + 1));
                (at, read) = (behind, from + 1);
            }
        }
    }
    pattern[at..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn glob(pattern: &str) -> ImageGlob {
        ImageGlob::new(pattern).unwrap()
    }

    #[test]
    fn glob_matches_whole_reference_with_wildcards() {
        let image = "ghcr.io/org/team/app:v1.2";
        for pattern in [
            "ghcr.io/org/team/app:v1.2",
            "*",
            "ghcr.io/*",
            "*/app:*",
            "ghcr.io/org/*:v?.?",
            "**a*p**:v1.2*",
            "?hcr.io/org/team/app:v1.2",
        ] {
            assert!(glob(pattern).matches(image), "{pattern}");
        }
        for pattern in [
            "ghcr.io/org/team/app",
            "hcr.io/*",
            "*/app",
            "ghcr.io/org/team/app:v1.2?",
            "GHCR.io/*",
            "*@sha256:*",
        ] {
            assert!(!glob(pattern).matches(image), "{pattern}");
        }
    }

    #[test]
    fn glob_matches_written_and_full_form() {
        for pattern in ["nginx", "docker.io/library/nginx:*", "*:latest", "docker.io/*"] {
            assert!(glob(pattern).matches("nginx"), "{pattern}");
        }
        assert!(glob("docker.io/*").matches("index.docker.io/org/app:v1"));
        assert!(glob("index.docker.io/*").matches("index.docker.io/org/app:v1"));
        let digest = format!("ghcr.io/org/app@sha256:{}", "0".repeat(64));
        assert!(!glob("*:latest").matches(&digest), "a digest has no implied tag");
        assert!(glob("a?b*").matches("a b is no reference"));
    }

    proptest::proptest! {
        #[test]
        fn glob_matches_as_the_regex_it_stands_for(pattern in "[ab/*?]{1,12}", text in "[ab/]{0,12}") {
            let regex = format!("^{}$", pattern.replace('*', ".*").replace('?', "."));
            let expected = regex::Regex::new(&regex).unwrap().is_match(&text);
            proptest::prop_assert_eq!(is_match(pattern.as_bytes(), text.as_bytes()), expected);
        }
    }

    #[test]
    fn glob_work_is_bounded_by_both_lengths() {
        let pattern = glob(&"*a".repeat(127));
        assert!(!pattern.matches(&format!("{}b", "a".repeat(100_000))));
    }

    #[test]
    fn glob_with_foreign_character_or_length_is_refused() {
        for (pattern, error) in [
            ("", ImageGlobError::Length),
            (&*"a".repeat(256), ImageGlobError::Length),
            ("^ghcr.io/.*$", ImageGlobError::Character('^')),
            ("ghcr.io/[ab]/*", ImageGlobError::Character('[')),
            ("ghcr.io/ü", ImageGlobError::Character('ü')),
            ("a b", ImageGlobError::Character(' ')),
        ] {
            assert_eq!(ImageGlob::new(pattern), Err(error), "{pattern}");
        }
    }
}
