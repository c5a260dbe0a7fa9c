//! GitHub Container Registry: tokens from the registry's own `/token`, always, even for public packages.

use http::StatusCode;
use url::Url;

use super::{Protocol, Scheme, Site, basic_token_ask};
use crate::credentials::Credentials;
use crate::failure::{Class, Failure, Rung};
use crate::session::Session;
use catamaran_core::policy::Provider;

mod pages;
mod versions;

pub(crate) use versions::Versions;

pub(super) struct GitHub;

impl Protocol for GitHub {
    fn known_scheme(&self, site: &Site) -> Scheme {
        Scheme::Bearer {
            realm: site.url("/token"),
            service: Some(site.host()),
        }
    }

    fn admits(&self, site: &Site, realm: &Url) -> bool {
        site.owns(realm) && realm.path() == "/token"
    }
}

/// Tells a wrong credential from one without access.
///
/// GitHub answers both with 403 `denied` where tokens are issued, and a wrong one even for public packages. What happens
/// without a credential tells them apart as far as can be told.
pub(crate) async fn told_apart(
    session: &Session,
    mut failure: Failure,
    realm: &Url,
    service: Option<&str>,
    scope: Option<&str>,
) -> Failure {
    let site = &session.site;
    let denied = site.provider == Provider::GitHub
        && site.credentials != Credentials::Anonymous
        && (failure.rung, &failure.class, failure.status) == (Rung::Token, &Class::Forbidden, Some(403));
    if !denied {
        return failure;
    }
    if scope.is_none() {
        // Nothing was asked for, so it is not access that lacks.
        failure.class = Class::Unauthorized;
        failure.message.push_str(WRONG);
        return failure;
    }
    let mut ask = basic_token_ask(site, realm, service, scope);
    ask.authorization = None;
    let status = session.send(&ask).await.map(|reply| reply.status());
    match status {
        Ok(StatusCode::OK) => {
            failure.class = Class::Unauthorized;
            failure.message.push_str(WRONG);
            failure.message.push_str("; without one this package can be read");
        }
        Ok(StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => failure.message.push_str(NO_ACCESS),
        // Then nothing more is known than before.
        Ok(_) | Err(_) => {}
    }
    failure
}

const WRONG: &str = ": the credential is wrong or has expired";
const NO_ACCESS: &str = ": the package is private or does not exist, and the credential gives no access to it or has expired; it must \
     be a classic personal access token with the scope read:packages, of someone who may read the package";
