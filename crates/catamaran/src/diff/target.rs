//! What is to be compared, as it was typed.

use anyhow::{Context as _, bail};
use catamaran_core::reference::Reference;
use catamaran_core::side::{Side, Sides};
use catamaran_core::tags::TagFilter;

use crate::cli::DiffArguments;

/// The two repositories, and which of their tags count.
pub struct Targets {
    /// Where the repositories are.
    pub repositories: Sides<Repository>,
    /// Which tags are compared.
    pub tags: Tags,
}

/// A repository and its registry.
#[derive(Debug, PartialEq, Eq)]
pub struct Repository {
    /// As it was typed.
    pub typed: String,
    /// `host[:port]`.
    pub registry: String,
    /// The full path.
    pub path: String,
}

/// Which tags are compared.
#[derive(Debug)]
pub enum Tags {
    /// All that the filter selects.
    Selected(TagFilter),
    /// This one: it was typed on both sides.
    One(String),
}

/// Reads the arguments.
///
/// Both sides name repositories, or both the same tag. One tag only, two different ones or a digest are a mistake: there
/// is no telling what was meant.
pub fn parse(arguments: &DiffArguments) -> anyhow::Result<Targets> {
    let typed = Sides {
        primary: arguments.primary.as_str(),
        fallback: arguments.fallback.as_str(),
    };
    let references = Sides {
        primary: reference(typed.primary)?,
        fallback: reference(typed.fallback)?,
    };
    let filtered = !arguments.include.is_empty() || !arguments.exclude.is_empty();
    let tags = match (references.primary.tag(), references.fallback.tag()) {
        (None, None) => Tags::Selected(TagFilter::new(&arguments.include, &arguments.exclude)?),
        (Some(one), Some(other)) if one == other && filtered => {
            bail!("'{one}' is the one tag to compare; leave out --include and --exclude, or the tag on both sides")
        }
        (Some(one), Some(other)) if one == other => Tags::One(one.to_owned()),
        (Some(one), Some(other)) => {
            bail!("'{one}' and '{other}' are different tags; give the same tag on both sides, or none to compare all")
        }
        (Some(tag), None) | (None, Some(tag)) => {
            bail!("only one side names the tag '{tag}'; give it on both sides, or on none to compare all tags")
        }
    };
    let repositories = Sides::from_fn(|side: Side| Repository {
        typed: typed[side].to_owned(),
        registry: references[side].registry().to_owned(),
        path: references[side].repository().to_owned(),
    });
    Ok(Targets { repositories, tags })
}

fn reference(typed: &str) -> anyhow::Result<Reference<'_>> {
    let reference = Reference::parse(typed)
        .with_context(|| format!("failed to read '{typed}' as a repository such as ghcr.io/devopskev/kevinryan-io"))?;
    if reference.digest().is_some() {
        bail!("'{typed}' names content by its digest, which is the same everywhere; give a repository, or a tag");
    }
    Ok(reference)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Command};

    fn parsed(line: &str) -> anyhow::Result<Targets> {
        let words = ["catamaran", "diff"].into_iter().chain(line.split(' '));
        match Cli::try_parse_from(words)?.command {
            Command::Diff(arguments) => parse(&arguments),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn repositories_are_read_as_a_runtime_reads_them() {
        let targets = parsed("nginx ghcr.io/devopskev/web").unwrap();
        let typed = |typed: &str, registry: &str, path: &str| Repository {
            typed: typed.to_owned(),
            registry: registry.to_owned(),
            path: path.to_owned(),
        };
        assert_eq!(
            targets.repositories.primary,
            typed("nginx", "docker.io", "library/nginx")
        );
        assert_eq!(
            targets.repositories.fallback,
            typed("ghcr.io/devopskev/web", "ghcr.io", "devopskev/web")
        );
        assert!(matches!(targets.tags, Tags::Selected(_)));
    }

    #[test]
    fn the_same_tag_on_both_sides_is_the_only_one_compared() {
        let targets = parsed("a.example/web:3f2a91c b.example/kev/web:3f2a91c").unwrap();
        assert!(matches!(targets.tags, Tags::One(tag) if tag == "3f2a91c"));
    }

    #[test]
    fn what_could_be_meant_in_two_ways_is_refused_with_advice() {
        let digest = format!("a.example/web@sha256:{} b.example/web", "0".repeat(64));
        let cases = [
            ("a.example/web:1 b.example/web", "only one side names the tag '1'"),
            ("a.example/web b.example/web:1", "only one side names the tag '1'"),
            ("a.example/web:1 b.example/web:2", "'1' and '2' are different tags"),
            (
                "a.example/web:1 b.example/web:1 --include x",
                "leave out --include and --exclude",
            ),
            (
                "a.example/web:1 b.example/web:1 --exclude x",
                "leave out --include and --exclude",
            ),
            (&digest, "by its digest"),
            (
                "https://a.example/web b.example/web",
                "failed to read 'https://a.example/web' as a repository",
            ),
            ("a.example/web b.example/Web", "the repository must be lower case"),
            (
                "a.example/web b.example/web --include (",
                "failed to compile the tag pattern",
            ),
        ];
        for (line, advice) in cases {
            let error = format!("{:#}", parsed(line).err().unwrap());
            assert!(error.contains(advice), "{line}: {error}");
        }
    }
}
