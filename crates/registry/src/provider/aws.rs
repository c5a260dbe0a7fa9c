//! Amazon Elastic Container Registry: the credential itself, as Basic. With the identity of the machine or pod
//! (the feature `aws`) that credential is fetched, and the account's interface lists images with their digests.

use super::site::{Protocol, Scheme, Site};
use crate::credentials::Credentials;

#[cfg(feature = "aws")]
pub(crate) mod call;
#[cfg(feature = "aws")]
mod chain;
#[cfg(feature = "aws")]
pub(crate) mod identity;
#[cfg(feature = "aws")]
mod images;
#[cfg(feature = "aws")]
mod login;
#[cfg(feature = "aws")]
mod password;
pub(crate) mod place;
#[cfg(feature = "aws")]
mod rules;

#[derive(Debug)]
pub(super) struct Aws;

impl Protocol for Aws {
    fn known_scheme(&self, site: &Site) -> Scheme {
        match site.credentials {
            Credentials::Anonymous | Credentials::Azure(_) => Scheme::Unknown,
            _ => Scheme::Basic,
        }
    }
}
