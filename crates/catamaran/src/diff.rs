//! `catamaran diff`: compares the tags of two repositories anywhere, without a cluster.
//!
//! A comparison that could not be finished is never printed as if it were one.

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use catamaran_core::digest::Digest;
use catamaran_core::parity::{Difference, compare};
use catamaran_core::reference::Reference;
use catamaran_core::side::{Side, Sides};
use catamaran_core::tags::TagFilter;
use catamaran_registry::{Budget, Client, Connection, Limits, ListedTag};
use futures::stream::{StreamExt as _, TryStreamExt as _};

use crate::cli::{DiffArguments, Output};

mod credentials;
mod print;
mod progress;

use progress::Progress;

/// Exit code for "some tags differ".
const DIFFERENT: u8 = 1;

/// Compares, prints, and says by the exit code how it went.
pub fn run(arguments: &DiffArguments) -> anyhow::Result<ExitCode> {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let comparison = runtime.context("failed to start the runtime")?.block_on(compare_all(arguments))?;
    match arguments.output {
        Output::Table => print!("{}", print::table(&comparison)),
        Output::Json => println!("{}", serde_json::to_string_pretty(&print::document(&comparison))?),
        Output::Yaml => print!("{}", serde_saphyr::to_string(&print::document(&comparison))?),
    }
    Ok(if comparison.differences.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(DIFFERENT) })
}

/// A finished comparison.
struct Comparison {
    repositories: Sides<String>,
    tags: usize,
    differences: Vec<Difference>,
}

/// One of the two repositories.
struct Place {
    repository: String,
    name: String,
    client: Client,
}

async fn compare_all(arguments: &DiffArguments) -> anyhow::Result<Comparison> {
    let filter = TagFilter::new(&arguments.include, &arguments.exclude)?;
    let places = Sides {
        primary: place(arguments, &arguments.primary)?,
        fallback: place(arguments, &arguments.fallback)?,
    };
    let (primary, fallback) = tokio::try_join!(list(&places.primary, &filter), list(&places.fallback, &filter))?;
    if primary.is_none() && fallback.is_none() {
        bail!("neither '{}' nor '{}' exists", places.primary.name, places.fallback.name);
    }
    for (listed, place) in [(&primary, &places.primary), (&fallback, &places.fallback)] {
        if listed.is_none() {
            eprintln!("note: '{}' does not exist; all of its tags count as missing", place.name);
        }
    }
    let listed = Sides { primary: primary.unwrap_or_default(), fallback: fallback.unwrap_or_default() };
    let unread = unread(&listed);
    let progress = Progress::new(arguments.quiet, unread.len());
    let read = futures::stream::iter(unread).map(|(side, tag)| {
        let (place, progress) = (&places[side], &progress);
        async move {
            let digest = place.client.resolve(&place.repository, &tag).await;
            progress.step();
            // Removed since it was listed: that is an answer, not a failure.
            match digest {
                Ok(resolved) => Ok(Some((side, tag, resolved.digest))),
                Err(failure) if failure.is_absent() => Ok(None),
                Err(failure) => Err(anyhow::anyhow!("{failure}")),
            }
        }
    });
    let parallel = 2 * usize::from(arguments.parallel);
    let read: Vec<Option<(Side, String, Digest)>> = read.buffer_unordered(parallel).try_collect().await?;
    progress.finish();
    Ok(finish(places, listed, read))
}

fn finish(
    places: Sides<Place>,
    listed: Sides<BTreeMap<String, Option<Digest>>>,
    read: Vec<Option<(Side, String, Digest)>>,
) -> Comparison {
    let known = |tags: BTreeMap<String, Option<Digest>>| -> BTreeMap<String, Digest> {
        tags.into_iter().filter_map(|(tag, digest)| Some((tag, digest?))).collect()
    };
    let mut digests = listed.map(known);
    for (side, tag, digest) in read.into_iter().flatten() {
        digests[side].insert(tag, digest);
    }
    let tags: BTreeSet<&String> = digests.primary.keys().chain(digests.fallback.keys()).collect();
    Comparison {
        tags: tags.len(),
        differences: compare(&digests.primary, &digests.fallback),
        repositories: places.map(|place| place.name),
    }
}

/// The tags whose digest the listing did not tell.
fn unread(listed: &Sides<BTreeMap<String, Option<Digest>>>) -> Vec<(Side, String)> {
    let bare = |side: Side| {
        let bare = listed[side].iter().filter(|(_, digest)| digest.is_none());
        bare.map(move |(tag, _)| (side, tag.clone()))
    };
    bare(Side::Primary).chain(bare(Side::Fallback)).collect()
}

/// The tags of a repository; none when it does not exist.
async fn list(place: &Place, filter: &TagFilter) -> anyhow::Result<Option<BTreeMap<String, Option<Digest>>>> {
    match place.client.list_tags(&place.repository).await {
        Ok(tags) => {
            let selected = tags.into_iter().filter(|tag: &ListedTag| filter.selects(&tag.name));
            Ok(Some(selected.map(|tag| (tag.name, tag.digest)).collect()))
        }
        Err(failure) if failure.is_absent() => Ok(None),
        Err(failure) => Err(anyhow::anyhow!("{failure}")),
    }
}

fn place(arguments: &DiffArguments, text: &str) -> anyhow::Result<Place> {
    let reference = Reference::parse(text)
        .with_context(|| format!("failed to read '{text}'; give a repository such as ghcr.io/devopskev/kevinryan-io"))?;
    if !reference.suffix().is_empty() {
        bail!("'{text}' names one image; leave '{}' out, and use --include to compare some tags only", reference.suffix());
    }
    let registry = reference.registry().to_owned();
    let extra_ca = match &arguments.ca_file {
        Some(path) => Some(std::fs::read(path).with_context(|| format!("failed to read '{}'", path.display()))?),
        None => None,
    };
    let provider = credentials::provider(&registry);
    let connection = Connection {
        provider,
        credentials: credentials::find(arguments.docker_config.as_deref(), &registry)?,
        extra_ca,
        allow_loopback: is_loopback(&registry),
        registry,
        ..Connection::default()
    };
    let budget = Budget::per_minute(arguments.per_minute.unwrap_or_else(|| Budget::default_for(provider)));
    let client = Client::with_budget(connection, Limits::default(), Arc::new(budget));
    let client = client.with_context(|| format!("failed to set up the client for '{text}'"))?;
    Ok(Place { repository: reference.repository().to_owned(), name: text.to_owned(), client })
}

/// A registry on this machine is meant when it is named so, and only then.
fn is_loopback(registry: &str) -> bool {
    let host = registry.rsplit_once(':').map_or(registry, |(host, _)| host);
    host == "localhost" || host == "127.0.0.1" || host == "[::1]"
}
