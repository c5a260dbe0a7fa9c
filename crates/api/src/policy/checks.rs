//! Checks of fields, and the error of an invalid one.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::duration;

/// Why a spec is invalid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("failed to accept {field}: {message}")]
pub struct PolicyError {
    /// The path of the field, such as `spec.repositories[3].name`.
    pub field: String,
    /// What is wrong with it, for people.
    pub message: String,
}

impl PolicyError {
    pub(super) fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        PolicyError {
            field: field.into(),
            message: message.into(),
        }
    }
}

pub(super) fn within(value: i32, bounds: &RangeInclusive<i32>, field: &str) -> Result<u32, PolicyError> {
    u32::try_from(value)
        .ok()
        .filter(|_| bounds.contains(&value))
        .ok_or_else(|| {
            PolicyError::new(
                field,
                format!("must be between {} and {}, not {value}", bounds.start(), bounds.end()),
            )
        })
}

pub(super) fn seconds(value: i32, bounds: &RangeInclusive<i32>, field: &str) -> Result<Duration, PolicyError> {
    within(value, bounds, field).map(|seconds| Duration::from_secs(seconds.into()))
}

pub(super) fn length(text: &str, bounds: &RangeInclusive<Duration>, field: &str) -> Result<Duration, PolicyError> {
    let length = duration::parse(text).ok_or_else(|| {
        PolicyError::new(
            field,
            format!("must be a duration such as 90s, 5m or 1h30m, not {text:?}"),
        )
    })?;
    if !bounds.contains(&length) {
        let (least, most) = (bounds.start().as_secs(), bounds.end().as_secs());
        return Err(PolicyError::new(
            field,
            format!("must be between {least}s and {most}s, not {text:?}"),
        ));
    }
    Ok(length)
}

pub(super) fn at_most(count: usize, most: usize, field: &str) -> Result<(), PolicyError> {
    if count > most {
        return Err(PolicyError::new(field, format!("must have at most {most} entries")));
    }
    Ok(())
}

/// A DNS-1123 subdomain.
pub(super) fn is_dns_subdomain(text: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let is_label = |label: &str| {
        label
            .bytes()
            .next()
            .zip(label.bytes().last())
            .is_some_and(|(first, last)| is_word(first) && is_word(last))
            && label.bytes().all(|byte| is_word(byte) || byte == b'-')
    };
    text.len() <= 253 && text.split('.').all(is_label)
}

/// Refuses the second of two equal names.
pub(super) fn check_unique<'a>(
    names: impl Iterator<Item = &'a str>,
    field: impl Fn(usize) -> String,
) -> Result<(), PolicyError> {
    let mut seen = BTreeSet::new();
    for (index, name) in names.enumerate() {
        if !seen.insert(name) {
            return Err(PolicyError::new(field(index), format!("{name:?} is listed twice")));
        }
    }
    Ok(())
}
