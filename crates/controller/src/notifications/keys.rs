//! Who may notify: the holders of a shared secret.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;
use catamaran_registry::Secret;
use http::HeaderMap;
use http::header::AUTHORIZATION;

use super::sender::Sender;

/// A shorter secret could be guessed.
const SHORTEST: usize = 16;
/// Secrets that are good at a time: the new one, the old one, and some senders' own.
const MOST: usize = 8;

/// The header that a webhook may carry the secret in, besides `Authorization: Bearer`.
pub(super) const SECRET_HEADER: &str = "x-catamaran-secret";
/// GitHub's signature over the raw body.
pub(super) const GITHUB_SIGNATURE: &str = "x-hub-signature-256";

/// Why a file holds no shared secrets. No message holds anything of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeysError {
    /// No line holds anything.
    #[error("there is no secret in it; write one, such as `openssl rand -hex 32` prints")]
    Empty,
    /// A line is too short.
    #[error("a secret in it has fewer than 16 characters; write what `openssl rand -hex 32` prints")]
    TooShort,
    /// There are too many lines.
    #[error("there are more than 8 secrets in it, one a line")]
    TooMany,
}

/// The shared secrets.
#[derive(Clone, Debug)]
pub struct Keys(Vec<Secret<Vec<u8>>>);

impl Keys {
    /// Reads secrets, one a line; so a new one can stand beside the old one until every sender has it.
    pub fn read(text: &str) -> Result<Keys, KeysError> {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let secrets: Vec<&str> = lines.take(MOST + 1).collect();
        if secrets.is_empty() {
            return Err(KeysError::Empty);
        }
        if secrets.len() > MOST {
            return Err(KeysError::TooMany);
        }
        if secrets.iter().any(|secret| secret.len() < SHORTEST) {
            return Err(KeysError::TooShort);
        }
        let secrets = secrets
            .into_iter()
            .map(|secret| Secret::new(secret.as_bytes().to_vec()));
        Ok(Keys(secrets.collect()))
    }

    /// Whether the notification comes from a holder of a secret: GitHub signs the raw body, the others carry the secret in a
    /// header.
    pub(super) fn admit(&self, sender: Sender, headers: &HeaderMap, body: &[u8]) -> bool {
        match sender {
            Sender::GitHub => signature(headers).is_some_and(|signature| self.signed(&signature, body)),
            Sender::Azure | Sender::Events => carried(headers).is_some_and(|secret| self.known(secret)),
        }
    }

    fn signed(&self, signature: &[u8], body: &[u8]) -> bool {
        self.any(|secret| {
            let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
            hmac::verify(&key, body, signature).is_ok()
        })
    }

    fn known(&self, carried: &[u8]) -> bool {
        self.any(|secret| verify_slices_are_equal(secret, carried).is_ok())
    }

    /// Tries every secret, so that the time does not tell which one was close.
    fn any(&self, fits: impl Fn(&[u8]) -> bool) -> bool {
        self.0.iter().fold(false, |found, secret| fits(secret.expose()) | found)
    }
}

fn carried(headers: &HeaderMap) -> Option<&[u8]> {
    if let Some(value) = headers.get(SECRET_HEADER) {
        return Some(value.as_bytes());
    }
    let (scheme, secret) = headers.get(AUTHORIZATION)?.as_bytes().split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then_some(secret)
}

fn signature(headers: &HeaderMap) -> Option<Vec<u8>> {
    let hex = headers.get(GITHUB_SIGNATURE)?.to_str().ok()?.strip_prefix("sha256=")?;
    if hex.len() != 64 || !hex.is_ascii() {
        return None;
    }
    let pair = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).ok();
    (0..hex.len()).step_by(2).map(pair).collect()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    const SECRET: &str = "It's a Secret to Everybody";

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let pairs = pairs.iter().map(|(name, value)| {
            let name = http::HeaderName::from_static(name);
            (name, HeaderValue::from_str(value).unwrap())
        });
        pairs.collect()
    }

    #[test]
    fn github_signature_is_admitted_only_when_exact() {
        let keys = Keys::read(SECRET).unwrap();
        let good = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
        let admits = |signature: &str, body: &[u8]| {
            keys.admit(Sender::GitHub, &headers(&[("x-hub-signature-256", signature)]), body)
        };
        assert!(admits(good, b"Hello, World!"));
        assert!(!admits(good, b"Hello, World"));
        let cases = [
            "",
            "sha256=",
            "sha1=757107ea0eb2509fc211221cce984b8a37570b6d",
            "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17",
            "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e18",
            "sha256=+57107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e1",
            "sha256=zz7107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17",
        ];
        for signature in cases {
            assert!(!admits(signature, b"Hello, World!"), "{signature}");
        }
        let carried = headers(&[("x-catamaran-secret", SECRET)]);
        assert!(!keys.admit(Sender::GitHub, &carried, b"Hello, World!"));
    }

    #[test]
    fn secret_is_read_from_one_of_two_headers() {
        let keys = Keys::read(&format!("0123456789abcdef-new\n{SECRET}\n")).unwrap();
        let cases = [
            (headers(&[("x-catamaran-secret", SECRET)]), true),
            (headers(&[("x-catamaran-secret", "0123456789abcdef-new")]), true),
            (headers(&[("authorization", &format!("Bearer {SECRET}"))]), true),
            (headers(&[("authorization", &format!("bearer {SECRET}"))]), true),
            (headers(&[("authorization", SECRET)]), false),
            (headers(&[("x-catamaran-secret", "It's a Secret to Nobody...")]), false),
            (headers(&[("x-catamaran-secret", "")]), false),
            (headers(&[]), false),
        ];
        for sender in [Sender::Azure, Sender::Events] {
            for (headers, admitted) in &cases {
                assert_eq!(keys.admit(sender, headers, b"{}"), *admitted, "{headers:?}");
            }
        }
    }

    #[test]
    fn short_secret_is_refused_and_no_secret_is_shown() {
        let many = "0123456789abcdef\n".repeat(9);
        let cases = [
            ("", KeysError::Empty),
            (" \n\n", KeysError::Empty),
            ("hunter2", KeysError::TooShort),
            ("0123456789abcdef\nhunter2", KeysError::TooShort),
            (&many, KeysError::TooMany),
        ];
        for (text, expected) in cases {
            assert_eq!(Keys::read(text).unwrap_err(), expected, "{text}");
        }
        assert!(!format!("{:?}", Keys::read("0123456789abcdef").unwrap()).contains("0123"));
    }
}
