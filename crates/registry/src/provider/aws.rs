//! Amazon Elastic Container Registry: the credential itself, as Basic.

use super::{Protocol, Scheme, Site};
use crate::credentials::Credentials;

pub(super) struct Aws;

impl Protocol for Aws {
    fn known_scheme(&self, site: &Site) -> Scheme {
        match site.credentials {
            Credentials::Anonymous | Credentials::Azure(_) => Scheme::Unknown,
            Credentials::Basic { .. } => Scheme::Basic,
        }
    }
}
