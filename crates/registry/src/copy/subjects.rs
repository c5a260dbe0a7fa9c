//! What refers to a manifest, as registries list it (OCI distribution specification, "Listing Referrers").

use bytes::Bytes;
use catamaran_core::digest::Digest;
use serde::Deserialize;
use serde_json::{Value, json};

use super::error::CopyError;
use crate::wire::json;

/// Manifests that may refer to one.
const MOST_REFERRERS: usize = 1024;

pub(super) const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// The descriptors of what refers to a manifest, each once, in the order in which they came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Referrers(Vec<(Digest, Value)>);

#[derive(Deserialize)]
struct Index {
    #[serde(default, deserialize_with = "json::present")]
    manifests: Option<Vec<Value>>,
}

impl Referrers {
    /// Adds what an index lists.
    pub(super) fn add(&mut self, index: &[u8]) -> Result<(), CopyError> {
        let unsupported = |why: &str| CopyError::Unsupported(format!("what refers to it is listed in {why}"));
        let index: Index = serde_json::from_slice(index).map_err(|_| unsupported("an index that is not understood"))?;
        let Some(manifests) = index.manifests else {
            return Err(unsupported("a manifest that is no index"));
        };
        for descriptor in manifests {
            let digest = descriptor["digest"].as_str().and_then(|digest| digest.parse().ok());
            let digest = digest.ok_or_else(|| unsupported("an index with a digest that is none"))?;
            self.push(digest, descriptor)?;
        }
        Ok(())
    }

    /// Adds what others list.
    pub(super) fn extend(&mut self, others: &Referrers) -> Result<(), CopyError> {
        for (digest, descriptor) in &others.0 {
            self.push(digest.clone(), descriptor.clone())?;
        }
        Ok(())
    }

    fn push(&mut self, digest: Digest, descriptor: Value) -> Result<(), CopyError> {
        if self.0.iter().any(|(known, _)| *known == digest) {
            return Ok(());
        }
        if self.0.len() >= MOST_REFERRERS {
            let message = format!("more than {MOST_REFERRERS} manifests refer to it");
            return Err(CopyError::Unsupported(message));
        }
        self.0.push((digest, descriptor));
        Ok(())
    }

    pub(super) fn digests(&self) -> impl Iterator<Item = &Digest> {
        self.0.iter().map(|(digest, _)| digest)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether all of these are among them.
    pub(super) fn contains(&self, others: &Referrers) -> bool {
        others
            .digests()
            .all(|digest| self.digests().any(|known| known == digest))
    }

    /// All of them in an index.
    pub(super) fn index(&self) -> Bytes {
        let manifests: Vec<_> = self.0.iter().map(|(_, descriptor)| descriptor).collect();
        let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": manifests });
        index.to_string().into()
    }
}

/// The tag that stands for the list where a registry has no API for it: `sha256-<hex>` ("Referrers Tag Schema").
pub(super) fn fallback_tag(digest: &Digest) -> String {
    let text = digest.to_string();
    let (algorithm, hex) = text.split_once(':').unwrap_or((&text, ""));
    format!("{algorithm:.32}-{hex:.64}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fallback_tag_is_the_digest_cut_to_what_a_tag_may_hold() {
        let short = format!("sha256:{}", "a".repeat(64)).parse().unwrap();
        assert_eq!(fallback_tag(&short), format!("sha256-{}", "a".repeat(64)));
        let long = format!("sha512:{}", "b".repeat(128)).parse().unwrap();
        assert_eq!(fallback_tag(&long), format!("sha512-{}", "b".repeat(64)));
    }

    fn index(names: &[&str]) -> String {
        let one =
            |name: &&str| json!({ "digest": Digest::of(name.as_bytes()).to_string(), "size": 1, "artifactType": name });
        json!({ "manifests": names.iter().map(one).collect::<Vec<_>>() }).to_string()
    }

    #[test]
    fn lists_are_merged_and_their_descriptors_kept_as_they_are() {
        let mut all = Referrers::default();
        all.add(index(&["a", "b"]).as_bytes()).unwrap();
        let mut more = Referrers::default();
        more.add(index(&["b", "c"]).as_bytes()).unwrap();
        assert!(!all.contains(&more));
        all.extend(&more).unwrap();
        assert!(all.contains(&more) && all.digests().count() == 3);
        let mut again = Referrers::default();
        again.add(&all.index()).unwrap();
        assert_eq!(again, all);
        assert!(all.index().windows(18).any(|part| part == br#""artifactType":"c""#));
    }

    #[test]
    fn what_is_no_list_or_too_long_is_an_error() {
        let many: Vec<_> = (0..=MOST_REFERRERS).map(|n| n.to_string()).collect();
        let many = index(&many.iter().map(String::as_str).collect::<Vec<_>>());
        for bad in ["", "[]", "{}", r#"{"manifests":[{"digest":"x"}]}"#, many.as_str()] {
            let added = Referrers::default().add(bad.as_bytes());
            assert!(matches!(added, Err(CopyError::Unsupported(_))), "{bad:.40}");
        }
        Referrers::default().add(br#"{"manifests":null}"#).unwrap();
    }
}
