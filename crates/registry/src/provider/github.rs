//! GitHub Container Registry: tokens from the registry's own `/token`, always, even for public packages.

use url::Url;

use super::{Protocol, Scheme, Site};

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
