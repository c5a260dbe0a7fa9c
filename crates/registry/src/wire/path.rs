//! What may stand in a request's path.

use catamaran_core::digest::Digest;

use crate::wire::failure::{Class, Failure, Stage, one_line};

/// Refuses a repository that would not stay where it stands in a path: components of `[a-z0-9._-]` that begin and end with a
/// letter or digit, at most 255 bytes (distribution/reference).
pub(crate) fn check_repository(repository: &str) -> Result<(), Failure> {
    let component = |part: &str| {
        let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let bytes = part.as_bytes();
        bytes.first().is_some_and(|byte| inner(*byte))
            && bytes.last().is_some_and(|byte| inner(*byte))
            && bytes
                .iter()
                .all(|byte| inner(*byte) || matches!(byte, b'.' | b'_' | b'-'))
    };
    if repository.len() <= 255 && repository.split('/').all(component) {
        return Ok(());
    }
    let message = format!("failed to ask for {:?}: not a repository path", one_line(repository));
    Err(Failure::new(Stage::Manifest, Class::BadReference, message))
}

/// Refuses what is neither a tag nor a digest.
pub(crate) fn check_reference(reference: &str) -> Result<(), Failure> {
    if is_tag(reference) || reference.parse::<Digest>().is_ok() {
        return Ok(());
    }
    let message = format!(
        "failed to ask for {:?}: neither a tag nor a digest",
        one_line(reference)
    );
    Err(Failure::new(Stage::Manifest, Class::BadReference, message))
}

/// `[A-Za-z0-9_][A-Za-z0-9._-]{0,127}`.
pub(crate) fn is_tag(text: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let bytes = text.as_bytes();
    bytes.len() <= 128
        && bytes.first().is_some_and(|byte| word(*byte))
        && bytes.iter().all(|byte| word(*byte) || matches!(byte, b'.' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_repositories_stand_in_a_path() {
        for good in ["web", "krateo/web", "a-b__c.d/e0", &"a".repeat(255)] {
            assert!(check_repository(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "/",
            "a//b",
            "../x",
            "a/../b",
            "a/.",
            "A",
            "a b",
            "a?n=1",
            "a#",
            "a%2f",
            "a\n",
            "ä",
            &"a".repeat(256),
        ] {
            assert!(check_repository(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn only_tags_and_digests_are_references() {
        let digest = format!("sha256:{}", "0".repeat(64));
        for good in ["latest", "_x", "1.0-rc_1", &"t".repeat(128), &digest] {
            assert!(check_reference(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            ".x",
            "-x",
            "a/b",
            "a?b",
            "a b",
            "tàg",
            "sha256:00",
            &"t".repeat(129),
        ] {
            assert!(check_reference(bad).is_err(), "{bad}");
        }
    }
}
