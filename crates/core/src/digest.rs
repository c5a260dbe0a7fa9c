//! Content digests, as in the OCI image specification.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest as _, Sha256, Sha384, Sha512};

/// Bytes of the longest digest.
const LONGEST: usize = 64;

const HEX: &[u8; 16] = b"0123456789abcdef";

/// The digest of a manifest or blob: a registered algorithm and its bytes.
///
/// Only what go-digest registers is accepted: `sha256`, `sha384` and `sha512`, in lower-case hexadecimal of the exact
/// length. SHA-256 is kept in place, because there is one for each tag.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(Repr);

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Repr {
    Sha256([u8; 32]),
    Sha384(Box<[u8; 48]>),
    Sha512(Box<[u8; 64]>),
}

/// Why a text is not a digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    /// There is no `algorithm:` in front.
    #[error("failed to parse the digest: no algorithm in front of a colon")]
    NoAlgorithm,
    /// The algorithm is not one of `sha256`, `sha384`, `sha512`.
    #[error("failed to parse the digest: the algorithm is not sha256, sha384 or sha512")]
    UnknownAlgorithm,
    /// The rest is not lower-case hexadecimal of the algorithm's length.
    #[error("failed to parse the digest: not lower-case hexadecimal of the algorithm's length")]
    NotHex,
}

impl Digest {
    /// The SHA-256 digest of some content.
    pub fn of(content: &[u8]) -> Digest {
        Digest(Repr::Sha256(Sha256::digest(content).into()))
    }

    /// Whether `content` has this digest.
    pub fn matches(&self, content: &[u8]) -> bool {
        match &self.0 {
            Repr::Sha256(bytes) => Sha256::digest(content).as_slice() == bytes,
            Repr::Sha384(bytes) => Sha384::digest(content).as_slice() == bytes.as_slice(),
            Repr::Sha512(bytes) => Sha512::digest(content).as_slice() == bytes.as_slice(),
        }
    }

    /// Compares content that comes in pieces with this digest; nothing of it is kept.
    pub fn verifier(&self) -> Verifier {
        let hash = match &self.0 {
            Repr::Sha256(_) => Hash::Sha256(Sha256::new()),
            Repr::Sha384(_) => Hash::Sha384(Sha384::new()),
            Repr::Sha512(_) => Hash::Sha512(Sha512::new()),
        };
        Verifier {
            wanted: self.clone(),
            hash,
        }
    }

    /// Whether its algorithm is SHA-256, which every registry and runtime knows.
    pub(crate) fn is_sha256(&self) -> bool {
        matches!(self.0, Repr::Sha256(_))
    }

    fn parts(&self) -> (&'static str, &[u8]) {
        match &self.0 {
            Repr::Sha256(bytes) => ("sha256", bytes),
            Repr::Sha384(bytes) => ("sha384", bytes.as_slice()),
            Repr::Sha512(bytes) => ("sha512", bytes.as_slice()),
        }
    }
}

/// See [`Digest::verifier`].
pub struct Verifier {
    wanted: Digest,
    hash: Hash,
}

enum Hash {
    Sha256(Sha256),
    Sha384(Sha384),
    Sha512(Sha512),
}

impl Verifier {
    /// Takes in the next piece.
    pub fn update(&mut self, piece: &[u8]) {
        match &mut self.hash {
            Hash::Sha256(hash) => hash.update(piece),
            Hash::Sha384(hash) => hash.update(piece),
            Hash::Sha512(hash) => hash.update(piece),
        }
    }

    /// Whether all pieces together have the digest.
    pub fn matches(self) -> bool {
        let (_, wanted) = self.wanted.parts();
        match self.hash {
            Hash::Sha256(hash) => hash.finalize().as_slice() == wanted,
            Hash::Sha384(hash) => hash.finalize().as_slice() == wanted,
            Hash::Sha512(hash) => hash.finalize().as_slice() == wanted,
        }
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier")
            .field("wanted", &self.wanted)
            .finish_non_exhaustive()
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Digest, DigestError> {
        let (algorithm, hex) = text.split_once(':').ok_or(DigestError::NoAlgorithm)?;
        match algorithm {
            "sha256" => Ok(Digest(Repr::Sha256(from_hex(hex)?))),
            "sha384" => Ok(Digest(Repr::Sha384(Box::new(from_hex(hex)?)))),
            "sha512" => Ok(Digest(Repr::Sha512(Box::new(from_hex(hex)?)))),
            _ => Err(DigestError::UnknownAlgorithm),
        }
    }
}

fn from_hex<const N: usize>(hex: &str) -> Result<[u8; N], DigestError> {
    let hex = hex.as_bytes();
    if hex.len() != 2 * N {
        return Err(DigestError::NotHex);
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(hex.chunks_exact(2)) {
        *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
    }
    Ok(bytes)
}

fn nibble(character: u8) -> Result<u8, DigestError> {
    match character {
        b'0'..=b'9' => Ok(character - b'0'),
        b'a'..=b'f' => Ok(character - b'a' + 10),
        _ => Err(DigestError::NotHex),
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (algorithm, bytes) = self.parts();
        // All at once: a digest is written for each tag that is read, and formatting byte by byte takes a microsecond.
        let mut text = [0; 2 * LONGEST];
        for (pair, byte) in text.chunks_exact_mut(2).zip(bytes) {
            pair.copy_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        }
        let hexadecimal = std::str::from_utf8(&text[..2 * bytes.len()]).map_err(|_| fmt::Error)?;
        f.write_str(algorithm)?;
        f.write_str(":")?;
        f.write_str(hexadecimal)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_prints_as_it_was_read() {
        for text in [
            format!("sha256:{}", "0a".repeat(32)),
            format!("sha384:{}", "9f".repeat(48)),
            format!("sha512:{}", "e1".repeat(64)),
        ] {
            assert_eq!(text.parse::<Digest>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_go_digest_refuses_is_refused() {
        let cases = [
            ("", DigestError::NoAlgorithm),
            ("sha256", DigestError::NoAlgorithm),
            ("md5:00", DigestError::UnknownAlgorithm),
            ("SHA256:00", DigestError::UnknownAlgorithm),
            ("sha256:00", DigestError::NotHex),
        ];
        for (text, error) in cases {
            assert_eq!(text.parse::<Digest>(), Err(error), "{text}");
        }
        let upper = format!("sha256:{}", "0A".repeat(32));
        assert_eq!(upper.parse::<Digest>(), Err(DigestError::NotHex));
        let long = format!("sha256:{}", "0a".repeat(33));
        assert_eq!(long.parse::<Digest>(), Err(DigestError::NotHex));
    }

    #[test]
    fn content_is_checked_against_its_digest() {
        let digest = Digest::of(b"hello");
        assert_eq!(
            digest.to_string(),
            "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
        );
        assert!(digest.matches(b"hello"));
        assert!(!digest.matches(b"hello!"));
    }
}
