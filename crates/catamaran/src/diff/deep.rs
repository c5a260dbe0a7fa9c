//! Looks whether what the tags stand for can be pulled.

use std::collections::BTreeMap;

use anyhow::{anyhow, bail};
use catamaran_core::digest::Digest;
use catamaran_core::mirror::FlawedPart;
use catamaran_core::mirror::parity::Difference;
use catamaran_core::mirror::parity::explain::Explanation;
use catamaran_core::side::{Side, Sides};
use catamaran_registry::copy::{check_manifest, explain, inspect};
use catamaran_registry::{Class, Failure};
use futures::stream::{self, StreamExt as _, TryStreamExt as _};

use super::comparison::FlawedTag;
use super::gather::Digests;
use super::place::{Place, patiently};
use super::progress::Progress;

/// A digest, and the sides that have it under these tags.
type Names<'d> = BTreeMap<(&'d Digest, [bool; 2]), Vec<&'d String>>;

/// Looks on both sides for all that the tags refer to that are the same, and hashes the manifests of the others, so many at a time;
/// each digest once.
pub async fn flawed(
    places: &Sides<Place>,
    digests: &Sides<Digests>,
    parallel: usize,
    progress: &Progress,
) -> anyhow::Result<Vec<FlawedTag>> {
    let names = names(digests);
    progress.start_inspecting(names.len());
    let found = stream::iter(names).map(async |((digest, on), tags)| -> anyhow::Result<_> {
        let parts = patiently(async || look(places, tags[0], digest, on).await);
        let parts = parts
            .await
            .map_err(|failure| anyhow!("failed to inspect the tag '{}': {failure}", tags[0]))?;
        progress.step();
        Ok((tags, parts))
    });
    // An inspection makes one request after the other.
    let found: Vec<_> = found.buffer_unordered(parallel).try_collect().await?;
    let mut flawed = BTreeMap::<&String, Sides<Option<FlawedPart>>>::new();
    for (tags, parts) in found {
        for tag in tags {
            let known = flawed.entry(tag).or_default();
            for side in Side::ALL {
                known[side] = known[side].take().or_else(|| parts[side].clone());
            }
        }
    }
    let flawed = flawed
        .into_iter()
        .filter(|(_, parts)| parts.primary.is_some() || parts.fallback.is_some());
    Ok(flawed
        .map(|(tag, parts)| FlawedTag {
            tag: tag.clone(),
            parts,
        })
        .collect())
}

/// What makes tags with different digests differ, so many at a time. Nothing of what is not understood, or is flawed.
pub async fn explanations(
    places: &Sides<Place>,
    differences: &[Difference],
    parallel: usize,
    progress: &Progress,
) -> anyhow::Result<BTreeMap<String, Explanation>> {
    let mismatched = differences.iter().filter_map(|difference| {
        let digests = difference.digests.as_ref().map(Option::as_ref);
        let (primary, fallback) = digests.primary.zip(digests.fallback)?;
        Some((&difference.tag, Sides { primary, fallback }))
    });
    let mismatched: Vec<_> = mismatched.collect();
    progress.start_inspecting(mismatched.len());
    let clients = places.as_ref().map(|place| &place.client);
    let paths = places.as_ref().map(|place| place.path.as_str());
    let read = stream::iter(mismatched).map(async |(tag, digests)| -> anyhow::Result<_> {
        let explained = match patiently(async || explain(clients, paths, digests).await).await {
            Ok(explained) => explained,
            // Reported as that.
            Err(failure) if failure.is_absent() || failure.class == Class::UntrustedContent => None,
            Err(failure) => bail!("failed to compare what the sides have under the tag '{tag}': {failure}"),
        };
        progress.step();
        Ok(explained.map(|explained| (tag.clone(), explained)))
    });
    let read: Vec<_> = read.buffer_unordered(parallel).try_collect().await?;
    Ok(read.into_iter().flatten().collect())
}

fn names(digests: &Sides<Digests>) -> Names<'_> {
    let mut names = Names::new();
    for side in Side::ALL {
        for (tag, digest) in &digests[side] {
            let is_same = digests[side.other()].get(tag) == Some(digest);
            if !is_same {
                let on = Side::ALL.map(|other| other == side);
                names.entry((digest, on)).or_default().push(tag);
            } else if side == Side::Primary {
                names.entry((digest, [true, true])).or_default().push(tag);
            }
        }
    }
    names
}

async fn look(
    places: &Sides<Place>,
    tag: &str,
    digest: &Digest,
    [primary, fallback]: [bool; 2],
) -> Result<Sides<Option<FlawedPart>>, Failure> {
    if primary && fallback {
        let clients = places.as_ref().map(|place| Some(&place.client));
        let paths = places.as_ref().map(|place| place.path.as_str());
        let Sides { primary, fallback } = inspect(clients, paths, tag, digest).await;
        return Ok(Sides {
            primary: primary?,
            fallback: fallback?,
        });
    }
    let side = if primary { Side::Primary } else { Side::Fallback };
    let mut parts = Sides::default();
    let place = &places[side];
    parts[side] = check_manifest(&place.client, &place.path, tag, digest).await?;
    Ok(parts)
}
