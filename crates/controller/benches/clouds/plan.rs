//! What stands in the registries, and what is wrong between them: known to everyone who serves, verifies or counts.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// Azure's registry.
pub const AZURE: &str = "kracr.azurecr.io";
/// GitHub's registry.
pub const GITHUB: &str = "ghcr.io";
/// GitHub's REST interface.
pub const REST: &str = "api.github.com";
/// The account at GitHub, a user: finding that out costs a request for each repository.
pub const ACCOUNT: &str = "devopskev";
/// A user of Azure's registry.
pub const USER: &str = "reader";
/// The user's password.
pub const PASSWORD: &str = "a-password-of-the-benchmark";
/// A classic personal access token, by its form.
pub const PAT: &str = "ghp_0123456789abcdefghijABCDEFGHIJ012345";
/// Differences of each kind.
const EACH: usize = 3;

/// How much stands in each registry.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Size {
    /// Repositories, at least [`EACH`].
    pub repositories: usize,
    /// Tags in each, at least 40.
    pub each: usize,
}

impl Size {
    /// All tags.
    pub fn tags(self) -> usize {
        self.repositories * self.each
    }

    /// Every repository with every tag, differences or not.
    pub fn names(self) -> impl Iterator<Item = (String, String)> {
        (0..self.repositories).flat_map(move |repository| (0..self.each).map(move |tag| (name(repository), label(tag))))
    }
}

/// A tag that is not the same on both sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Kind {
    /// Azure lacks it.
    NotOnAzure,
    /// GitHub lacks it.
    NotOnGithub,
    /// Both have it, with different digests.
    Differs,
}

/// One difference: repository, tag and what is wrong.
pub type Difference = (String, String, Kind);

/// A repository's name at Azure, and below the account at GitHub.
pub fn name(repository: usize) -> String {
    format!("team/app-{repository:04}")
}

fn label(tag: usize) -> String {
    format!("{tag:07x}")
}

/// What is wrong: the same for everyone.
pub fn planted(size: Size) -> BTreeSet<Difference> {
    let kinds = [(10, Kind::NotOnAzure), (20, Kind::NotOnGithub), (30, Kind::Differs)];
    let places = (0..EACH).map(|n| name(n * size.repositories / EACH));
    places
        .flat_map(|repository| kinds.map(|(tag, kind)| (repository.clone(), label(tag), kind)))
        .collect()
}
