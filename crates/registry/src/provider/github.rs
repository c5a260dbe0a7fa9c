//! GitHub Container Registry: tokens from the registry's own `/token`, always, even for public packages.

use http::StatusCode;
use url::Url;

use super::site::{Protocol, Scheme, Site, basic_token_ask};
use crate::ask::Ask;
use crate::credentials::Credentials;
use crate::failure::{Class, Failure, Rung};

mod pages;
pub(super) mod versions;

#[derive(Debug)]
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
            && (failure.rung, &failure.class, failure.status) == (Rung::Token, &Class::Forbidden, Some(403));
        if !denied {
            return None;
        }
        if scope.is_none() {
            // Nothing was asked for, so it is not access that lacks.
            failure.class = Class::Unauthorized;
            failure.message.push_str(WRONG);
            return None;
        }
        let mut ask = basic_token_ask(site, realm, service, scope);
        ask.authorization = None;
        Some(ask)
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
}

const WRONG: &str = ": the credential is wrong or has expired";
const NO_ACCESS: &str = ": the package is private or does not exist, and the credential gives no access to it or has expired; it must \
     be a classic personal access token with the scope read:packages, of someone who may read the package";
