//! Reads both sides, and compares.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{anyhow, bail};
use catamaran_core::digest::Digest;
use catamaran_core::mirror::parity;
use catamaran_core::side::{Side, Sides};
use catamaran_core::tags::TagFilter;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};

use super::comparison::Comparison;
use super::deep;
use super::place::{Found, Listed, Place};
use super::progress::Progress;
use super::target::{Tags, Targets};
use crate::cli::DiffArguments;

/// What one side has under each tag.
pub type Digests = BTreeMap<String, Digest>;

/// Compares what was asked for; an error when anything that counts could not be read.
pub async fn compare(
    arguments: &DiffArguments,
    targets: &Targets,
    places: &Sides<Place>,
) -> anyhow::Result<Comparison> {
    let typed = Sides::from_fn(|side| targets.repositories[side].typed.clone());
    let mut notes = Vec::new();
    if targets.repositories.primary == targets.repositories.fallback {
        notes.push("both sides are the same repository".to_owned());
    }
    let progress = Progress::new(arguments.quiet);
    let digests = match &targets.tags {
        Tags::One(tag) => one(places, &typed, tag, &mut notes).await?,
        Tags::Selected(filter) => {
            selected(
                places,
                &typed,
                filter,
                usize::from(arguments.parallel),
                &progress,
                &mut notes,
            )
            .await?
        }
    };
    let tags: BTreeSet<&String> = digests.primary.keys().chain(digests.fallback.keys()).collect();
    if tags.is_empty() {
        bail!("there is no tag to compare");
    }
    let differences = parity::compare(&digests.primary, &digests.fallback);
    let parallel = usize::from(arguments.parallel);
    let (mut flawed, mut explanations) = (None, BTreeMap::new());
    if arguments.deep {
        flawed = Some(deep::flawed(places, &digests, parallel, &progress).await?);
        explanations = deep::explanations(places, &differences, parallel, &progress).await?;
    }
    Ok(Comparison {
        flawed,
        explanations,
        tags: tags.len(),
        differences,
        repositories: typed,
        notes,
    })
}

async fn one(
    places: &Sides<Place>,
    typed: &Sides<String>,
    tag: &str,
    notes: &mut Vec<String>,
) -> anyhow::Result<Sides<Digests>> {
    let found = joined(tokio::join!(places.primary.resolve(tag), places.fallback.resolve(tag)))?;
    let mut digests = Sides::<Digests>::default();
    for side in Side::ALL {
        match &found[side] {
            Found::Digest(digest) => {
                digests[side].insert(tag.to_owned(), digest.clone());
            }
            Found::NoTag => {}
            Found::NoRepository => notes.push(format!("the repository of '{}' does not exist", typed[side])),
        }
    }
    if digests.primary.is_empty() && digests.fallback.is_empty() {
        bail!("neither side has the tag '{tag}'");
    }
    Ok(digests)
}

async fn selected(
    places: &Sides<Place>,
    typed: &Sides<String>,
    filter: &TagFilter,
    parallel: usize,
    progress: &Progress,
    notes: &mut Vec<String>,
) -> anyhow::Result<Sides<Digests>> {
    let listed = joined(tokio::join!(places.primary.list(filter), places.fallback.list(filter)))?;
    if listed.primary.is_none() && listed.fallback.is_none() {
        bail!("neither repository exists");
    }
    for side in Side::ALL {
        if listed[side].is_none() {
            notes.push(format!(
                "'{}' does not exist: all of its tags count as missing",
                typed[side]
            ));
        }
    }
    let listed = listed.map(Option::unwrap_or_default);
    let unread = listed
        .as_ref()
        .map(|tags| tags.values().filter(|digest| digest.is_none()).count());
    progress.start(unread.primary + unread.fallback);
    let Sides { primary, fallback } = listed;
    let (primary, fallback) = tokio::try_join!(
        complete(&places.primary, primary, parallel, progress),
        complete(&places.fallback, fallback, parallel, progress),
    )?;
    Ok(Sides { primary, fallback })
}

/// Reads the digests that the listing did not tell, so many at a time.
async fn complete(place: &Place, listed: Listed, parallel: usize, progress: &Progress) -> anyhow::Result<Digests> {
    let read = stream::iter(listed).map(async |(tag, digest)| -> anyhow::Result<_> {
        if let Some(digest) = digest {
            return Ok(Some((tag, digest)));
        }
        let found = place.resolve(&tag).await?;
        progress.step();
        Ok(match found {
            Found::Digest(digest) => Some((tag, digest)),
            // Removed since it was listed: that is an answer, not a failure.
            Found::NoTag | Found::NoRepository => None,
        })
    });
    let read: Vec<_> = read.buffer_unordered(parallel).try_collect().await?;
    Ok(read.into_iter().flatten().collect())
}

/// Both answers, or what went wrong on both sides: who must repair two things wants to know at once.
fn joined<T>((primary, fallback): (anyhow::Result<T>, anyhow::Result<T>)) -> anyhow::Result<Sides<T>> {
    match (primary, fallback) {
        (Ok(primary), Ok(fallback)) => Ok(Sides { primary, fallback }),
        (Err(one), Err(other)) => Err(anyhow!("{one:#}; and {other:#}")),
        (Err(error), _) | (_, Err(error)) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use catamaran_core::policy::Provider;
    use catamaran_registry::{Client, Limits};
    use catamaran_scripted_registry::Registry;

    use super::*;

    fn place(registry: &Registry, host: &str, provider: Provider) -> Place {
        let client = Client::new(registry.connection(host, provider), Limits::default()).unwrap();
        Place {
            path: "web".to_owned(),
            registry: host.to_owned(),
            client,
            anonymous: true,
        }
    }

    #[tokio::test]
    async fn digests_that_a_listing_tells_are_not_asked_for_again() {
        let (azure, github) = (Registry::start().await.unwrap(), Registry::start().await.unwrap());
        for tag in ["1", "2"] {
            azure.push("web", tag, tag);
            github.push("web", tag, tag);
        }
        azure.push("web", "3", "only here");
        let places = Sides {
            primary: place(&azure, "kracr.azurecr.io", Provider::Azure),
            fallback: place(&github, "ghcr.io", Provider::GitHub),
        };
        let (filter, mut notes) = (TagFilter::default(), Vec::new());
        let read = selected(&places, &Sides::default(), &filter, 2, &Progress::new(true), &mut notes)
            .await
            .unwrap();
        let differences = parity::compare(&read.primary, &read.fallback);
        assert_eq!(differences.len(), 1);
        assert_eq!(
            (differences[0].tag.as_str(), differences[0].kind),
            ("3", parity::DifferenceKind::MissingOnFallback)
        );
        assert_eq!((azure.count("/manifests/"), github.count("/manifests/")), (0, 2));
        assert_eq!(notes, Vec::<String>::new());
    }

    #[test]
    fn two_errors_are_both_told() {
        let joined = joined::<()>((Err(anyhow!("one")), Err(anyhow!("other"))));
        assert_eq!(joined.unwrap_err().to_string(), "one; and other");
    }
}
