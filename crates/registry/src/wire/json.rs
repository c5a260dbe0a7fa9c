//! JSON that other servers send: small bodies can hold many values, and each value costs memory when it is read.

use serde::{Deserialize, Deserializer};

/// Values of a page of tags. Registries that know no pages send all tags at once.
pub(crate) const PAGE_VALUES: usize = 250_000;
/// Values of an answer that tells a handful of things.
pub(crate) const FEW_VALUES: usize = 10_000;

/// Reads an object with at most about `most` values in it. A derived struct would also be read from an array.
pub(crate) fn object<'a, T: Deserialize<'a>>(body: &'a [u8], most: usize) -> Option<T> {
    beginning_with(b'{', body, most)
}

/// Reads a list with at most about `most` values in it.
pub(crate) fn list<'a, T: Deserialize<'a>>(body: &'a [u8], most: usize) -> Option<T> {
    beginning_with(b'[', body, most)
}

fn beginning_with<'a, T: Deserialize<'a>>(first: u8, body: &'a [u8], most: usize) -> Option<T> {
    let begins = body.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&first);
    if !begins || values(body) > most {
        return None;
    }
    serde_json::from_slice(body).ok()
}

/// Tells a missing key (a broken answer) from `null` (no tags).
pub(crate) fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<Vec<T>>, D::Error> {
    Ok(Some(Option::deserialize(deserializer)?.unwrap_or_default()))
}

/// `null` as if the key were not there: what Go programs write for a list that was never filled.
pub(crate) fn nullable<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// At least as many values as there are, by what opens and separates them.
fn values(body: &[u8]) -> usize {
    1 + body.iter().filter(|byte| matches!(byte, b',' | b'[' | b'{')).count()
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn what_is_read_is_of_its_kind_and_within_its_bounds() {
        let object = |body: &str, most| object::<Value>(body.as_bytes(), most).is_some();
        let list = |body: &str, most| list::<Value>(body.as_bytes(), most).is_some();
        assert!(object(" {\"a\":1,\"b\":[]}", 4) && !object("{\"a\":1,\"b\":[]}", 3));
        assert!(list("[1,2]", 3) && !list("[1,2]", 2));
        for other in ["", "1", "null", "\"x\"", "[", "{"] {
            assert!(!object(other, 9) && !list(other, 9), "{other}");
        }
        assert!(!object("[]", 9) && !list("{}", 9));
    }
}
