//! GitHub Container Registry: tokens from the registry's own `/token`, always, even for public packages; digests from GitHub's REST
//! API where that saves requests.

use std::sync::Arc;

use async_trait::async_trait;
use http::StatusCode;
use url::Url;

use crate::auth::credentials::Credentials;
use crate::auth::kind::{CredentialKind, Presented, UnsupportedCredentials};
use crate::auth::scheme::Scheme;
use crate::protocol::advice::Advice;
use crate::protocol::site::{Site, token_ask};
use crate::protocol::{Protocol, Provider, Requests, Setup, listing};
use crate::tags::ListedTag;
use crate::wire::ask::Ask;
use crate::wire::error::ClientError;
use crate::wire::failure::{Class, Failure, Stage};

mod advice;
mod pages;
mod token;
mod versions;

use token::GitHubToken;
use versions::Versions;

/// A classic personal access token of GitHub (`ghp_`).
pub const CLASSIC_TOKEN: CredentialKind = CredentialKind::new("githubClassicToken", "a classic personal access token");
/// A fine-grained personal access token of GitHub (`github_pat_`), which packages do not take.
pub const FINE_GRAINED_TOKEN: CredentialKind = CredentialKind {
    name: "githubFineGrainedToken",
    words: "a fine-grained personal access token",
    warning: Some("GitHub's packages take classic tokens only: make one with the scope read:packages"),
};
/// A token of a GitHub App or of an Actions job (`ghs_`, `ghu_`, `ghr_`).
pub const APP_TOKEN: CredentialKind = CredentialKind {
    name: "githubAppToken",
    words: "the token of an app or a job",
    warning: Some(
        "GitHub's packages refuse app tokens for private images: make a classic token with the scope read:packages",
    ),
};

#[derive(Debug)]
pub(crate) struct GitHub;

impl Provider for GitHub {
    fn owns(&self, host: &str) -> bool {
        host == "ghcr.io"
    }

    fn requests_per_minute(&self) -> u32 {
        8_000
    }

    /// A fifth of 2,000.
    fn writes_per_minute(&self) -> u32 {
        400
    }

    fn presented(&self, credentials: &Credentials) -> Presented {
        let presented = Presented::of(credentials);
        let Credentials::Basic { password, .. } = credentials else {
            return presented;
        };
        let kind = match GitHubToken::of(password.expose()) {
            Some(GitHubToken::Classic) => CLASSIC_TOKEN,
            Some(GitHubToken::FineGrained) => FINE_GRAINED_TOKEN,
            Some(GitHubToken::App) => APP_TOKEN,
            None => presented.kind,
        };
        Presented { kind, ..presented }
    }

    /// Within an Actions workflow the token of that very workflow reads the packages that were shared with it.
    fn unsupported(&self, password: &str) -> Option<UnsupportedCredentials> {
        match GitHubToken::of(password)? {
            GitHubToken::Classic => None,
            GitHubToken::FineGrained => Some(UnsupportedCredentials(
                "a fine-grained personal access token (github_pat_...) can't read packages, whatever its permissions; \
                 create a classic personal access token with the scope read:packages",
            )),
            GitHubToken::App => Some(UnsupportedCredentials(
                "a token of a GitHub App or of Actions (ghs_..., ghu_..., ghr_...) can log in but not read private packages, and \
                 ends within hours; create a classic personal access token with the scope read:packages",
            )),
        }
    }

    fn advice(&self) -> &'static dyn Advice {
        &advice::GitHubAdvice
    }

    fn connect(&self, setup: &Setup<'_>) -> Result<Arc<dyn Protocol>, ClientError> {
        setup.refuse_identity()?;
        Ok(Arc::new(GitHubProtocol {
            versions: Versions::new(setup.site, setup.budgets),
        }))
    }
}

struct GitHubProtocol {
    /// GitHub's list of package versions, which has digests.
    versions: Option<Versions>,
}

#[async_trait]
impl Protocol for GitHubProtocol {
    fn known_scheme(&self, site: &Site) -> Scheme {
        Scheme::Bearer {
            realm: site.url("/token"),
            service: Some(site.host()),
            also: Vec::new(),
        }
    }

    fn admits(&self, site: &Site, realm: &Url) -> bool {
        site.owns(realm) && realm.path() == "/token"
    }

    /// GitHub answers 403 `denied` where tokens are issued both to a wrong credential and to one without access, and to a wrong one
    /// even for public packages. What happens without a credential tells them apart as far as can be told.
    fn anonymous_retry(
        &self,
        site: &Site,
        failure: &mut Failure,
        realm: &Url,
        service: Option<&str>,
        scope: Option<&str>,
    ) -> Option<Ask> {
        let denied = site.credentials != Credentials::Anonymous
            && (failure.stage, &failure.class, failure.status) == (Stage::Token, &Class::Forbidden, Some(403));
        if !denied {
            return None;
        }
        if scope.is_none() {
            // Nothing was asked for, so it is not access that lacks.
            failure.class = Class::Unauthorized;
            failure.message.push_str(WRONG);
            return None;
        }
        Some(token_ask(realm, service, scope, None))
    }

    fn retried_anonymously(&self, failure: &mut Failure, status: StatusCode) {
        match status {
            StatusCode::OK => {
                failure.class = Class::Unauthorized;
                failure.message.push_str(WRONG);
                failure.message.push_str("; without one this package can be read");
            }
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => failure.message.push_str(NO_ACCESS),
            // Then nothing more is known than before.
            _ => {}
        }
    }

    async fn tags(&self, registry: &dyn Requests, repository: &str) -> Result<Vec<ListedTag>, Failure> {
        let mut tags = listing::tags(registry, repository, &listing::DISTRIBUTION).await?;
        if let Some(versions) = &self.versions {
            versions
                .add_digests(registry.http(), registry.site(), repository, &mut tags)
                .await;
        }
        Ok(tags)
    }
}

const WRONG: &str = ": the credential is wrong or has expired";
const NO_ACCESS: &str = ": the package is private or does not exist, and the credential gives no access to it or has expired; it must \
     be a classic personal access token with the scope read:packages, of someone who may read the package";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::secret::Secret;

    fn token(password: &str) -> Credentials {
        Credentials::Basic {
            username: "bot".to_owned(),
            password: Secret::new(password.to_owned()),
        }
    }

    #[test]
    fn tokens_that_github_does_not_take_for_packages_are_known_by_their_shape() {
        let cases = [
            ("ghp_0123456789", None),
            ("gho_0123456789", None),
            ("0123456789abcdef0123456789abcdef01234567", None),
            ("github_pat_0123", Some("fine-grained")),
            ("ghs_0123", Some("GitHub App")),
            ("ghu_0123", Some("GitHub App")),
            ("ghr_0123", Some("GitHub App")),
        ];
        for (password, expected) in cases {
            let why = GitHub.unsupported(password).map(|why| why.to_string());
            assert_eq!(why.is_some(), expected.is_some(), "{password}");
            let words = why.unwrap_or_default();
            assert!(words.contains(expected.unwrap_or_default()), "{words}");
            assert!(words.is_empty() || words.contains("read:packages"), "{words}");
        }
    }

    #[test]
    fn credential_is_known_by_its_shape() {
        let cases = [
            ("ghp_x", CLASSIC_TOKEN),
            ("github_pat_x", FINE_GRAINED_TOKEN),
            ("ghs_x", APP_TOKEN),
            ("ghu_x", APP_TOKEN),
            ("ghr_x", APP_TOKEN),
            ("hunter2", CredentialKind::PASSWORD),
        ];
        for (password, kind) in cases {
            let presented = GitHub.presented(&token(password));
            assert_eq!((presented.kind, presented.username.as_deref()), (kind, Some("bot")));
            assert!(!format!("{presented:?}").contains(password));
        }
        assert_eq!(
            GitHub.presented(&Credentials::Anonymous).kind,
            CredentialKind::ANONYMOUS
        );
    }
}
