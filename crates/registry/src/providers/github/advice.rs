//! What people are told about GitHub's registry.

use super::{APP_TOKEN, FINE_GRAINED_TOKEN};
use crate::auth::kind::CredentialKind;
use crate::protocol::advice::{About, Advice, log_in};

pub(super) struct GitHubAdvice;

impl Advice for GitHubAdvice {
    fn failing(&self) -> String {
        "the registry is failing; look at https://www.githubstatus.com".to_owned()
    }

    fn refused(&self, about: &About<'_>) -> String {
        if [FINE_GRAINED_TOKEN, APP_TOKEN].contains(&about.kind) {
            return "GitHub's packages take classic personal access tokens only: make one with the scope read:packages"
                .to_owned();
        }
        if about.kind == CredentialKind::ANONYMOUS {
            return format!(
                "the image is private or does not exist: {} with a classic personal access token that has the scope read:packages",
                log_in(about)
            );
        }
        "the token has ended, lacks the scope read:packages, or is not authorised for the organisation's single \
         sign-on; it must be a classic one (ghp_...)"
            .to_owned()
    }

    fn blobs(&self, _about: &About<'_>) -> String {
        "blobs come from another host: let connections out to pkg-containers.githubusercontent.com".to_owned()
    }
}
