//! Interfaces that a provider has besides the registry.

use std::sync::Arc;

#[cfg(feature = "aws")]
use super::aws::{call::Ecr, place::Place};
use super::github::versions::Versions;
use super::site::Site;
use crate::budget::Budgets;
#[cfg(feature = "aws")]
use crate::credentials::Credentials;
use crate::error::ClientError;
use crate::tls::Trust;
use crate::transport::Http;

/// Those of one registry, each with a budget of its own.
#[derive(Clone, Default)]
pub(crate) struct Apis {
    /// GitHub's list of package versions, which tells digests.
    pub(crate) versions: Option<Arc<Versions>>,
    /// The interface of an account at Amazon, as the identity of this machine or pod.
    #[cfg(feature = "aws")]
    pub(crate) ecr: Option<Arc<Ecr>>,
}

impl Apis {
    /// `http` makes a client for hosts other than the registry's.
    #[cfg_attr(
        not(feature = "aws"),
        expect(clippy::unnecessary_wraps, reason = "with Amazon's it can fail")
    )]
    pub(crate) fn new(
        site: &Site,
        budgets: &Budgets,
        #[cfg_attr(not(feature = "aws"), expect(unused_variables, reason = "only Amazon's has one"))] trust: &Trust,
        #[cfg_attr(not(feature = "aws"), expect(unused_variables, reason = "only Amazon's has one"))]
        http: impl FnOnce() -> Result<Http, ClientError>,
    ) -> Result<Apis, ClientError> {
        Ok(Apis {
            versions: Versions::new(site, budgets).map(Arc::new),
            #[cfg(feature = "aws")]
            ecr: match &site.credentials {
                Credentials::Aws(identity) => {
                    let place =
                        Place::of(&site.host()).ok_or_else(|| ClientError::NotAmazons { registry: site.host() })?;
                    Some(Arc::new(Ecr::new(place, identity, http()?, trust, budgets)?))
                }
                _ => None,
            },
        })
    }
}
