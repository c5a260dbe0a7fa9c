//! Amazon Elastic Container Registry: the credential itself, as Basic. With the identity of the machine or pod
//! that credential is fetched, and the account's API lists images with their digests.

use std::sync::Arc;

use async_trait::async_trait;
use catamaran_core::policy::IdentityPolicy;
use http::HeaderValue;

use crate::auth::credentials::Credentials;
use crate::auth::identity::{Identities, Identity};
use crate::auth::kind::{CredentialKind, Presented};
use crate::auth::pull::{PullCredential, PullError};
use crate::auth::scheme::Scheme;
use crate::protocol::advice::Advice;
use crate::protocol::site::Site;
use crate::protocol::{Protocol, Provider, Requests, Setup, Uploads, basic_header, listing};
use crate::tags::{ListedTag, Resolved};
use crate::wire::error::ClientError;
use crate::wire::failure::{Class, Failure, Stage};
use crate::wire::tls::Progress;

mod advice;
mod call;
mod chain;
mod identity;
mod images;
mod login;
mod password;
mod place;
mod rules;

use call::Ecr;
pub use identity::AwsIdentity;
use place::Place;

/// The identity of this machine or pod at Amazon, without a stored secret.
pub const IDENTITY: CredentialKind = CredentialKind::new("awsIdentity", "this machine's or pod's identity at Amazon");

/// What takes an identity at Amazon.
const FORMS: &str = "{account}.dkr.ecr.{region}.amazonaws.com, or one of its forms";

#[derive(Debug)]
pub(crate) struct Aws;

impl Provider for Aws {
    /// At least 5 MiB and at most 10 MiB (Amazon ECR service quotas, "layer part size"); smaller ones are refused by the request that ends
    /// the upload.
    fn uploads(&self) -> Uploads {
        Uploads::InPieces { least: 5 << 20 }
    }

    fn owns(&self, host: &str) -> bool {
        Place::of(host).is_some()
    }

    fn variables(&self) -> &'static [&'static str] {
        &["AWS_"]
    }

    /// Nobody may use Amazon's private registries anonymously, so that who was given no credential has this identity there.
    fn identity(
        &self,
        wanted: &IdentityPolicy,
        registry: &str,
        identities: &Identities,
    ) -> Result<Option<Identity>, ClientError> {
        match wanted {
            IdentityPolicy::Ambient if Place::of(registry).is_some() => {
                let make = |surroundings: &_| Ok(Identity::from(AwsIdentity::of(surroundings)));
                identities.once("amazon".to_owned(), make).map(Some)
            }
            IdentityPolicy::Ambient | IdentityPolicy::Anonymous => Ok(None),
            IdentityPolicy::Workload { .. } | IdentityPolicy::Managed(_) => Err(ClientError::ForeignIdentity {
                registry: registry.to_owned(),
                wanted: "a registry whose provider has identities of this kind; Amazon's are in the environment",
            }),
        }
    }

    fn presented(&self, credentials: &Credentials) -> Presented {
        match credentials {
            Credentials::Identity(_) => Presented::new(IDENTITY, None),
            other => Presented::of(other),
        }
    }

    fn advice(&self) -> &'static dyn Advice {
        &advice::AwsAdvice
    }

    fn connect(&self, setup: &Setup<'_>) -> Result<Arc<dyn Protocol>, ClientError> {
        let identity = setup.site.credentials.identity();
        let identity = identity.and_then(Identity::of::<AwsIdentity>);
        let ecr = match identity {
            None => {
                setup.refuse_identity()?;
                None
            }
            Some(identity) => {
                let place = Place::of(&setup.site.host()).ok_or_else(|| ClientError::ForeignIdentity {
                    registry: setup.site.host(),
                    wanted: FORMS,
                })?;
                let http = setup.other_http()?;
                Some(Arc::new(Ecr::new(place, &identity, http, setup.trust, setup.budgets)?))
            }
        };
        Ok(Arc::new(AwsProtocol { ecr }))
    }
}

struct AwsProtocol {
    /// The API of an account, as the identity of this machine or pod.
    ecr: Option<Arc<Ecr>>,
}

#[async_trait]
impl Protocol for AwsProtocol {
    fn known_scheme(&self, site: &Site) -> Scheme {
        match site.credentials {
            Credentials::Anonymous => Scheme::Unknown,
            _ => Scheme::Basic,
        }
    }

    fn has_basic(&self, site: &Site) -> bool {
        site.credentials != Credentials::Anonymous
    }

    async fn basic(&self, site: &Site) -> Result<Option<HeaderValue>, Failure> {
        match &self.ecr {
            Some(ecr) => ecr.authorization().await.map(Some),
            None => Ok(basic_header(site)),
        }
    }

    fn forget(&self, refused: &HeaderValue) -> bool {
        self.ecr.as_ref().is_some_and(|ecr| ecr.forget(refused))
    }

    fn forget_denied(&self, refused: &HeaderValue) -> bool {
        self.ecr.as_ref().is_some_and(|ecr| ecr.forget_if_old(refused))
    }

    async fn identify(&self, scheme: &Scheme, progress: &Progress) -> Result<(), Failure> {
        if let (Some(ecr), Scheme::Basic) = (&self.ecr, scheme) {
            progress.ask("GetAuthorizationToken", Stage::Identity);
            ecr.authorization().await?;
        }
        Ok(())
    }

    async fn tags(&self, registry: &dyn Requests, repository: &str) -> Result<Vec<ListedTag>, Failure> {
        if let Some(ecr) = &self.ecr {
            match ecr.list(repository).await {
                // Names can be had with fewer rights.
                Err(failure) if failure.class == Class::Forbidden => {
                    tracing::debug!(repository, %failure, "images can't be described; listing names");
                }
                listed => return listed,
            }
        }
        listing::tags(registry, repository, &listing::DISTRIBUTION).await
    }

    async fn without_pull(&self, repository: &str, tag: &str) -> Result<Option<Resolved>, Failure> {
        let Some(ecr) = &self.ecr else {
            return Ok(None);
        };
        match ecr.image(repository, tag).await {
            Ok(resolved) => Ok(Some(resolved)),
            // Without that right HEAD has to do.
            Err(failure) if failure.class == Class::Forbidden => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    async fn cache_prefix(&self, upstream: &str) -> Result<Option<String>, Failure> {
        let ecr = self.ecr.as_ref().ok_or_else(|| {
            let message = format!("failed to look for the rule of {upstream:?}: that takes an identity at Amazon");
            Failure::new(Stage::Tags, Class::CredentialsUnavailable, message)
        })?;
        ecr.prefix_for(upstream).await
    }

    fn mints(&self, site: &Site) -> Result<(), PullError> {
        if self.ecr.is_some() {
            return Ok(());
        }
        crate::protocol::cannot_mint(site)
    }

    /// The registry's password, which is good for twelve hours (`GetAuthorizationToken`).
    async fn pull_credential(&self, site: &Site) -> Result<PullCredential, PullError> {
        match &self.ecr {
            Some(ecr) => Ok(ecr.password().await?),
            None => crate::protocol::cannot_mint(site),
        }
    }
}
