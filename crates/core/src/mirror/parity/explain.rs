//! What makes two manifests under one tag different, for people: whether nodes would run something else, or the same in another wrapping.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::digest::Digest;
use crate::side::{Side, Sides};

/// Platforms that are named at most.
const MOST_NAMED: usize = 4;

/// Whose media types a manifest has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// `application/vnd.docker.…`
    Docker,
    /// `application/vnd.oci.…`
    Oci,
    /// Others.
    Other,
}

/// A manifest, as far as it takes to say how it differs from another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described {
    /// Its digest.
    pub digest: Digest,
    /// Its media types.
    pub format: Format,
    /// What it refers to.
    pub content: Content,
}

/// What a manifest refers to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// One image.
    Image(Layers),
    /// The images of several platforms.
    Index(Platforms),
}

/// The config and the layers of an image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layers {
    /// The config; none where there is none.
    pub config: Option<Digest>,
    /// The layers, in their order.
    pub layers: Vec<Digest>,
}

/// What an index names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Platforms {
    /// By `os/architecture`: manifests, in their order. Variants of an architecture go by one name.
    pub images: BTreeMap<String, Vec<Member>>,
    /// Manifests that no node runs.
    pub attestations: BTreeSet<Digest>,
}

/// A manifest that an index names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its digest.
    pub digest: Digest,
    /// Its media types and content, where they were read.
    pub image: Option<(Format, Layers)>,
}

/// How two manifests differ: the first of these that is so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Explanation {
    /// One side has an index and the other a single image.
    SinglePlatform {
        /// The side that has the index.
        index: Side,
        /// The platform of the index that the image is; none where it is none of them.
        platform: Option<String>,
    },
    /// Platforms that one side alone has.
    Platforms(Sides<Vec<String>>),
    /// Layers differ, of these platforms; none are named where there is one image only.
    Layers(Vec<String>),
    /// The layers are the same, and configs differ.
    Configs(Vec<String>),
    /// The same in Docker's media types and in OCI's.
    MediaTypes(Sides<Format>),
    /// The same platforms and layers, with other attestations.
    Attestations,
    /// The same platforms, configs and layers, with other annotations or in another order.
    Annotations,
    /// Manifests of these platforms differ and could not be compared.
    Unread(Vec<String>),
}

impl Explanation {
    /// A closed word, for output.
    pub fn as_str(&self) -> &'static str {
        match self {
            Explanation::SinglePlatform { .. } => "SinglePlatform",
            Explanation::Platforms(_) => "Platforms",
            Explanation::Layers(_) => "Layers",
            Explanation::Configs(_) => "Configs",
            Explanation::MediaTypes(_) => "MediaTypes",
            Explanation::Attestations => "Attestations",
            Explanation::Annotations => "Annotations",
            Explanation::Unread(_) => "Unread",
        }
    }
}

/// How two manifests with different digests differ.
pub fn explain(sides: Sides<&Described>) -> Explanation {
    let formats = sides.map(|side| side.format);
    match (&sides.primary.content, &sides.fallback.content) {
        (Content::Image(primary), Content::Image(fallback)) => {
            let images = Sides { primary, fallback };
            let difference = Difference::between(formats, images);
            difference.explained(formats, Vec::new())
        }
        (Content::Index(primary), Content::Index(fallback)) => explain_indexes(formats, Sides { primary, fallback }),
        (Content::Index(index), Content::Image(image)) => Explanation::SinglePlatform {
            index: Side::Primary,
            platform: index.platform_of(&sides.fallback.digest, image),
        },
        (Content::Image(image), Content::Index(index)) => Explanation::SinglePlatform {
            index: Side::Fallback,
            platform: index.platform_of(&sides.primary.digest, image),
        },
    }
}

/// The platforms of which both indexes name other manifests.
pub fn differing_platforms(indexes: Sides<&Platforms>) -> Vec<String> {
    let digests = |members: &[Member]| -> Vec<Digest> { members.iter().map(|member| member.digest.clone()).collect() };
    let differs = |(name, members): (&String, &Vec<Member>)| {
        let others = indexes.fallback.images.get(name)?;
        (digests(members) != digests(others)).then(|| name.clone())
    };
    indexes.primary.images.iter().filter_map(differs).collect()
}

fn explain_indexes(formats: Sides<Format>, indexes: Sides<&Platforms>) -> Explanation {
    let only = Sides::from_fn(|side: Side| {
        let here = indexes[side].images.keys();
        let names = here.filter(|name| !indexes[side.other()].images.contains_key(*name));
        names.cloned().collect::<Vec<_>>()
    });
    if !only.primary.is_empty() || !only.fallback.is_empty() {
        return Explanation::Platforms(only);
    }
    let mut by_difference = BTreeMap::<Difference, (Vec<String>, Sides<Format>)>::new();
    for name in differing_platforms(indexes) {
        let (difference, formats) = difference_of(&name, indexes);
        by_difference
            .entry(difference)
            .or_insert((Vec::new(), formats))
            .0
            .push(name);
    }
    // The gravest; what could not be read may be graver than what was.
    if let Some((difference, (names, formats))) = by_difference.pop_last() {
        return difference.explained(formats, names);
    }
    if indexes.primary.attestations != indexes.fallback.attestations {
        Explanation::Attestations
    } else if formats.primary != formats.fallback {
        Explanation::MediaTypes(formats)
    } else {
        Explanation::Annotations
    }
}

/// The gravest difference among the manifests of one platform, each compared with the one in its place.
fn difference_of(name: &str, indexes: Sides<&Platforms>) -> (Difference, Sides<Format>) {
    let none = Vec::new();
    let members = indexes.map(|index| index.images.get(name).unwrap_or(&none));
    if members.primary.len() != members.fallback.len() {
        return (Difference::Layers, Sides::from_fn(|_| Format::Other));
    }
    let pairs = members.primary.iter().zip(members.fallback);
    let differences = pairs
        .filter(|(one, other)| one.digest != other.digest)
        .map(|(one, other)| {
            let (Some((primary, one)), Some((fallback, other))) = (&one.image, &other.image) else {
                return (Difference::Unread, Sides::from_fn(|_| Format::Other));
            };
            let formats = Sides {
                primary: *primary,
                fallback: *fallback,
            };
            let images = Sides {
                primary: one,
                fallback: other,
            };
            (Difference::between(formats, images), formats)
        });
    let gravest = differences.max_by_key(|(difference, _)| *difference);
    gravest.unwrap_or((Difference::Annotations, Sides::from_fn(|_| Format::Other)))
}

/// How two images differ, the gravest last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Difference {
    Annotations,
    MediaTypes,
    Configs,
    Unread,
    Layers,
}

impl Difference {
    fn between(formats: Sides<Format>, images: Sides<&Layers>) -> Difference {
        if images.primary.layers != images.fallback.layers {
            Difference::Layers
        } else if images.primary.config != images.fallback.config {
            Difference::Configs
        } else if formats.primary != formats.fallback {
            Difference::MediaTypes
        } else {
            Difference::Annotations
        }
    }

    fn explained(self, formats: Sides<Format>, platforms: Vec<String>) -> Explanation {
        match self {
            Difference::Layers => Explanation::Layers(platforms),
            Difference::Unread => Explanation::Unread(platforms),
            Difference::Configs => Explanation::Configs(platforms),
            Difference::MediaTypes => Explanation::MediaTypes(formats),
            Difference::Annotations => Explanation::Annotations,
        }
    }
}

impl Platforms {
    /// The platform that an image is, by its digest or by all of its content.
    fn platform_of(&self, digest: &Digest, image: &Layers) -> Option<String> {
        let is = |member: &Member| {
            let same = member.image.as_ref().is_some_and(|(_, layers)| layers == image);
            member.digest == *digest || same
        };
        let found = self.images.iter().find(|(_, members)| members.iter().any(is));
        found.map(|(name, _)| name.clone())
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Format::Docker => "Docker",
            Format::Oci => "OCI",
            Format::Other => "other",
        })
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Explanation::SinglePlatform { index, platform } => {
                let other = index.other().as_str().to_lowercase();
                let index = index.as_str().to_lowercase();
                write!(f, "an index on the {index}, a single image on the {other}, ")?;
                match platform {
                    Some(platform) => write!(f, "which is its {platform}"),
                    None => f.write_str("which is none of its platforms"),
                }
            }
            Explanation::Platforms(only) => {
                let sides = Side::ALL.into_iter().filter(|side| !only[*side].is_empty());
                let named =
                    sides.map(|side| format!("{} on the {} only", list(&only[side]), side.as_str().to_lowercase()));
                f.write_str(&named.collect::<Vec<_>>().join(", "))
            }
            Explanation::Layers(platforms) => write!(f, "other layers{}", of(platforms)),
            Explanation::Configs(platforms) => write!(f, "the same layers, other configs{}", of(platforms)),
            Explanation::MediaTypes(formats) => write!(
                f,
                "the same layers and configs, {} media types on the primary and {} on the fallback",
                formats.primary, formats.fallback
            ),
            Explanation::Attestations => f.write_str("the same platforms and layers, other attestations"),
            Explanation::Annotations => f.write_str("the same layers and configs, other annotations or another order"),
            Explanation::Unread(platforms) => {
                write!(f, "other manifests{}, which could not be compared", of(platforms))
            }
        }
    }
}

fn of(platforms: &[String]) -> String {
    if platforms.is_empty() {
        String::new()
    } else {
        format!(" of {}", list(platforms))
    }
}

fn list(names: &[String]) -> String {
    let first = names[..names.len().min(MOST_NAMED)].join(", ");
    match names.len().saturating_sub(MOST_NAMED) {
        0 => first,
        more => format!("{first} and {more} more"),
    }
}

#[cfg(test)]
mod tests;
