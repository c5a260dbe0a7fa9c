//! A value that must not be printed.

use std::fmt;

use http::HeaderValue;

/// Holds a credential; `Debug` shows that there is one, and nothing of it. There is no `Display`.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret<T>(T);

impl<T> Secret<T> {
    /// Wraps a credential.
    pub fn new(value: T) -> Secret<T> {
        Secret(value)
    }

    /// The credential itself: only for the request that carries it.
    pub fn expose(&self) -> &T {
        &self.0
    }
}

impl<T> From<T> for Secret<T> {
    fn from(value: T) -> Secret<T> {
        Secret(value)
    }
}

impl<T> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// The value of an `Authorization` header, marked so that nothing prints it; `None` when the text can't stand in one.
pub(crate) fn secret_header(scheme: &str, secret: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(&format!("{scheme} {secret}")).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_nothing_of_a_secret() {
        assert_eq!(
            format!("{:?}", Some(Secret::new("hunter2".to_owned()))),
            "Some([redacted])"
        );
    }
}
