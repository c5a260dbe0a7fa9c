//! Image references, as the distribution project defines them.
//!
//! The grammar is that of `github.com/distribution/reference`, which container runtimes use: `ParseNormalizedNamed`
//! without the default tag. It is read byte by byte, because a parser that differs from the runtime's in one corner
//! would send a pod to another registry than the one it names.

use std::borrow::Cow;
use std::fmt;

use crate::digest::Digest;

#[cfg(test)]
mod tests;

/// The registry of references that name none.
const DOCKER_HUB: &str = "docker.io";
/// How Docker Hub was spelled once; still the same registry.
const DOCKER_HUB_OF_OLD: &str = "index.docker.io";
/// Where Docker Hub keeps repositories of a single path component.
const OFFICIAL: &str = "library/";
/// The longest repository path in bytes, without the registry (`RepositoryNameTotalLengthMax`).
const MAX_PATH: usize = 255;
/// The longest tag in bytes.
const MAX_TAG: usize = 128;

/// A parsed image reference that borrows from its text.
///
/// Names are normalized (`ubuntu` is `docker.io` and `library/ubuntu`), tags and digests are kept as written and no tag
/// is made up.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Reference<'a> {
    registry: &'a str,
    repository: Cow<'a, str>,
    suffix: &'a str,
    tag: Option<&'a str>,
    digest: Option<&'a str>,
}

/// Why a text is not a reference, or not a registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// There is nothing.
    #[error("failed to parse the reference: it is empty")]
    Empty,
    /// 64 hexadecimal digits are an image ID, not a name.
    #[error("failed to parse the reference: 64 hexadecimal digits are an image ID, not a repository")]
    ImageId,
    /// The registry is not a host name, IPv4 or bracketed IPv6 address with an optional port.
    #[error("failed to parse the registry: not a host with an optional port")]
    Registry,
    /// A host without a dot, a port or an upper-case letter would be read as a path on Docker Hub.
    #[error("failed to parse the registry: without a dot or a port it would be read as a path on Docker Hub")]
    AmbiguousRegistry,
    /// The repository holds upper-case letters.
    #[error("failed to parse the reference: the repository must be lower case")]
    UpperCase,
    /// The repository does not follow the grammar.
    #[error(
        "failed to parse the reference: the repository is not lower-case words joined by '.', '_', '__' or '-', and '/'"
    )]
    Repository,
    /// The repository is longer than 255 bytes.
    #[error("failed to parse the reference: the repository is longer than 255 bytes")]
    TooLong,
    /// The tag is not 1 to 128 of `A-Za-z0-9_.-`, or starts with a dot or a dash.
    #[error("failed to parse the reference: the tag is not 1 to 128 ASCII letters, digits, '_', '.' or '-'")]
    Tag,
    /// The digest is not one of a registered algorithm.
    #[error("failed to parse the reference: the digest is not a lower-case sha256, sha384 or sha512")]
    Digest,
}

impl<'a> Reference<'a> {
    /// Parses a reference and normalizes its name.
    ///
    /// One name that distribution/reference lets through is refused: a first component with a dot and an underscore
    /// (`foo_bar.com/x`) is no host, and would be a repository without any registry.
    pub fn parse(text: &'a str) -> Result<Reference<'a>, ReferenceError> {
        if text.is_empty() {
            return Err(ReferenceError::Empty);
        }
        if is_image_id(text) {
            return Err(ReferenceError::ImageId);
        }
        let (registry, rest) = split_registry(text)?;
        let (path, suffix) = rest.split_at(position(rest, |byte| byte == b':' || byte == b'@'));
        let repository = match registry {
            DOCKER_HUB if !path.contains('/') => Cow::Owned([OFFICIAL, path].concat()),
            _ => Cow::Borrowed(path),
        };
        check_path(&repository)?;
        let (tag, digest) = split_suffix(suffix)?;
        Ok(Reference {
            registry,
            repository,
            suffix,
            tag,
            digest,
        })
    }

    /// The registry: `docker.io` for Docker Hub's spellings, else as written, case kept.
    pub fn registry(&self) -> &'a str {
        self.registry
    }

    /// The path within the registry; `library/x` for Docker Hub's official images.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag as written, if there is one.
    pub fn tag(&self) -> Option<&'a str> {
        self.tag
    }

    /// The digest as written, if there is one.
    pub fn digest(&self) -> Option<&'a str> {
        self.digest
    }

    /// Everything behind the repository, byte for byte: `:tag`, `@digest`, `:tag@digest` or nothing.
    pub fn suffix(&self) -> &'a str {
        self.suffix
    }

    /// The tag that a runtime would ask for: the written one, `latest` when there is neither tag nor digest, none when
    /// only a digest is given.
    pub fn effective_tag(&self) -> Option<&'a str> {
        match (self.tag, self.digest) {
            (Some(tag), _) => Some(tag),
            (None, None) => Some("latest"),
            (None, Some(_)) => None,
        }
    }

    /// The same tag and digest in another repository.
    pub fn relocate(&self, registry: &str, repository: &str) -> String {
        let mut text = String::with_capacity(registry.len() + 1 + repository.len() + self.suffix.len());
        text.push_str(registry);
        text.push('/');
        text.push_str(repository);
        text.push_str(self.suffix);
        text
    }
}

impl fmt::Display for Reference<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}{}", self.registry, self.repository, self.suffix)
    }
}

/// Parses a bare registry as a user writes it in a resource: `host[:port]`, with no scheme, path or user.
///
/// The result is what [`Reference::registry`] gives for references to it.
///
/// # Errors
/// [`ReferenceError::Empty`], [`ReferenceError::Registry`] for what is no host or has a port outside 1 to 65535, and
/// [`ReferenceError::AmbiguousRegistry`] for a host that references can't name.
pub fn parse_registry(text: &str) -> Result<String, ReferenceError> {
    if text.is_empty() {
        return Err(ReferenceError::Empty);
    }
    let port = host_port(text).ok_or(ReferenceError::Registry)?;
    if port.is_some_and(|port| !port.parse::<u16>().is_ok_and(|port| port > 0)) {
        return Err(ReferenceError::Registry);
    }
    if !looks_like_registry(text) {
        return Err(ReferenceError::AmbiguousRegistry);
    }
    Ok(canonical_registry(text).to_owned())
}

/// The registry that a spelling of it means: two spellings mean the same one if and only if this is equal.
///
/// DNS names are compared without case, and 443 is the port of a host that names none. Docker Hub is the exception:
/// runtimes know it by its two names to the letter, and take any other spelling of them for a host. Hosts that differ
/// otherwise are different registries, whatever stands behind them.
pub fn registry_key(registry: &str) -> Cow<'_, str> {
    let host = registry
        .strip_suffix(":443")
        .filter(|host| !host.is_empty())
        .unwrap_or(registry);
    let is_docker_hub = [DOCKER_HUB, DOCKER_HUB_OF_OLD]
        .iter()
        .any(|name| host.eq_ignore_ascii_case(name));
    if is_docker_hub {
        Cow::Borrowed(canonical_registry(registry))
    } else if host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(host.to_ascii_lowercase())
    } else {
        Cow::Borrowed(host)
    }
}

/// Whether two registries, as references name them, are the same one; see [`registry_key`].
pub fn same_registry(a: &str, b: &str) -> bool {
    a == b || registry_key(a) == registry_key(b)
}

/// Whether `text` is the path of a repository: at most 255 bytes of lower-case components.
pub fn is_repository_path(text: &str) -> bool {
    check_path(text).is_ok()
}

/// Whether `text` is a tag: 1 to 128 ASCII letters, digits, `_`, `.` and `-`, not starting with `.` or `-`.
pub fn is_tag(text: &str) -> bool {
    let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    match text.as_bytes() {
        [first, rest @ ..] => {
            is_word(first)
                && rest.len() < MAX_TAG
                && rest.iter().all(|byte| is_word(byte) || matches!(byte, b'.' | b'-'))
        }
        [] => false,
    }
}

fn is_image_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Takes the registry off the front. Without a slash there is none: `host:5000` is a repository with a tag.
fn split_registry(text: &str) -> Result<(&str, &str), ReferenceError> {
    match text.split_once('/') {
        Some((first, rest)) if looks_like_registry(first) => {
            host_port(first).ok_or(ReferenceError::Registry)?;
            Ok((canonical_registry(first), rest))
        }
        _ => Ok((DOCKER_HUB, text)),
    }
}

fn looks_like_registry(first: &str) -> bool {
    first == "localhost" || first.bytes().any(|byte| matches!(byte, b'.' | b':' | b'A'..=b'Z'))
}

fn canonical_registry(registry: &str) -> &str {
    if registry == DOCKER_HUB_OF_OLD {
        DOCKER_HUB
    } else {
        registry
    }
}

/// The port of a host; `Some(None)` for a host without one, `None` for what is no host.
#[expect(clippy::option_option, reason = "no host, a host, a host with a port")]
fn host_port(text: &str) -> Option<Option<&str>> {
    let (is_host, port) = if let Some(bracketed) = text.strip_prefix('[') {
        let (address, port) = bracketed.split_once(']')?;
        (is_ipv6(address), port)
    } else {
        let (name, port) = text.split_at(position(text, |byte| byte == b':'));
        (name.split('.').all(is_label), port)
    };
    if !is_host || port.is_empty() {
        return is_host.then_some(None);
    }
    let port = port.strip_prefix(':')?;
    (!port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit())).then_some(Some(port))
}

/// As loose as the grammar: `[a-fA-F0-9:]+`.
fn is_ipv6(address: &str) -> bool {
    !address.is_empty() && address.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b':')
}

fn is_label(label: &str) -> bool {
    let bytes = label.as_bytes();
    let ends = bytes.first().zip(bytes.last());
    ends.is_some_and(|(first, last)| first.is_ascii_alphanumeric() && last.is_ascii_alphanumeric())
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-')
}

fn check_path(path: &str) -> Result<(), ReferenceError> {
    if path.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Err(ReferenceError::UpperCase);
    }
    if !path.as_bytes().split(|byte| *byte == b'/').all(is_component) {
        return Err(ReferenceError::Repository);
    }
    if path.len() > MAX_PATH {
        return Err(ReferenceError::TooLong);
    }
    Ok(())
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_component(mut rest: &[u8]) -> bool {
    loop {
        let word = rest
            .iter()
            .take_while(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9'))
            .count();
        if word == 0 {
            return false;
        }
        rest = &rest[word..];
        rest = match rest {
            [] => return true,
            [b'_', b'_', rest @ ..] | [b'_' | b'.', rest @ ..] => rest,
            [b'-', ..] => &rest[rest.iter().take_while(|byte| **byte == b'-').count()..],
            _ => return false,
        };
    }
}

type TagAndDigest<'a> = (Option<&'a str>, Option<&'a str>);

fn split_suffix(suffix: &str) -> Result<TagAndDigest<'_>, ReferenceError> {
    let (tag, digest) = suffix.split_at(position(suffix, |byte| byte == b'@'));
    let tag = tag.strip_prefix(':');
    if tag.is_some_and(|tag| !is_tag(tag)) {
        return Err(ReferenceError::Tag);
    }
    let digest = digest.strip_prefix('@');
    if digest.is_some_and(|digest| digest.parse::<Digest>().is_err()) {
        return Err(ReferenceError::Digest);
    }
    Ok((tag, digest))
}

fn position(text: &str, is_end: impl Fn(u8) -> bool) -> usize {
    text.bytes().position(is_end).unwrap_or(text.len())
}
