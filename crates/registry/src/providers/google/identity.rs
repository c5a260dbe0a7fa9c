//! Who we are at Google: what `GOOGLE_APPLICATION_CREDENTIALS` names, else on a machine of Google's the service account of it or of the
//! pod (Google Cloud documentation, "How Application Default Credentials works").

use std::path::PathBuf;
use std::sync::Arc;

use catamaran_core::policy::IdentityPolicy;

use super::federation::Federation;
use super::metadata::Metadata;
use super::{foreign, is_googles};
use crate::auth::identity::{
    CloudIdentity, CloudToken, Identities, Identity, IdentityError, IdentityTokens, Surroundings, TokenSource,
};
use crate::auth::services::Services;
use crate::wire::error::ClientError;
use crate::wire::secret::Secret;

/// What tokens are asked for; rights come from roles.
pub(super) const SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";

/// An identity at Google.
pub(super) struct GoogleIdentity {
    pub(super) tokens: IdentityTokens,
}

impl GoogleIdentity {
    pub(super) fn new(name: impl Into<String>, source: Arc<dyn TokenSource>) -> GoogleIdentity {
        GoogleIdentity {
            tokens: IdentityTokens::new(name, source),
        }
    }
}

impl CloudIdentity for GoogleIdentity {
    fn name(&self) -> &str {
        self.tokens.name()
    }
}

/// The identity of an operator that was given no credential for a registry of Google's, where the environment offers one. Nothing is asked
/// yet.
pub(super) fn identity(
    wanted: &IdentityPolicy,
    registry: &str,
    identities: &Identities,
) -> Result<Option<Identity>, ClientError> {
    match wanted {
        IdentityPolicy::Anonymous => return Ok(None),
        IdentityPolicy::Ambient if !is_googles(registry) || !offered(&identities.surroundings) => return Ok(None),
        IdentityPolicy::Ambient => {}
        IdentityPolicy::Workload { .. } | IdentityPolicy::Managed(_) => return Err(foreign(registry)),
    }
    let make = |surroundings: &Surroundings| {
        let (name, source): (_, Arc<dyn TokenSource>) =
            if let Some(file) = surroundings.variable("GOOGLE_APPLICATION_CREDENTIALS") {
                let source = Federation::new(PathBuf::from(file), Services::new(surroundings, true)?);
                (format!("Google identity of {file}"), Arc::new(source))
            } else {
                let host = surroundings.variable("GCE_METADATA_HOST").cloned();
                let source = Metadata::new(host, Services::new(surroundings, false)?);
                (
                    "Google service account of this machine or pod".to_owned(),
                    Arc::new(source),
                )
            };
        Ok(Identity::new(GoogleIdentity::new(name, source)))
    };
    identities.once("google".to_owned(), make).map(Some)
}

/// Whether there is something to ask: a configuration, or a metadata server. That one is known without asking by the machine's name
/// (Google Cloud documentation, "Detect if a VM is running in Compute Engine"), or named by an administrator.
fn offered(surroundings: &Surroundings) -> bool {
    let named = ["GOOGLE_APPLICATION_CREDENTIALS", "GCE_METADATA_HOST"];
    let machine = surroundings.machine.as_deref().unwrap_or_default().trim();
    named.iter().any(|name| surroundings.variable(name).is_some())
        || ["Google", "Google Compute Engine"].contains(&machine)
}

/// A token as a service gave it.
pub(super) fn token(text: String, seconds: u64) -> Result<CloudToken, IdentityError> {
    if text.is_empty() || text.bytes().any(|byte| !byte.is_ascii_graphic()) {
        let why = "the identity service answered with something that is no token";
        return Err(IdentityError(why.to_owned()));
    }
    Ok(CloudToken {
        token: Secret::new(text),
        life: std::time::Duration::from_secs(seconds),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ambient(registry: &str, surroundings: Surroundings) -> bool {
        let identities = Identities::new(surroundings);
        let found = identity(&IdentityPolicy::Ambient, registry, &identities).unwrap();
        let anonymous = identity(&IdentityPolicy::Anonymous, registry, &identities).unwrap();
        assert_eq!(anonymous, None, "{registry}");
        found.is_some()
    }

    fn on(machine: &str) -> Surroundings {
        Surroundings {
            machine: Some(machine.to_owned()),
            ..Surroundings::default()
        }
    }

    #[test]
    fn identity_at_google_is_for_googles_registries_only() {
        for (registry, expected) in [
            ("us-docker.pkg.dev", true),
            ("gcr.io", true),
            ("ghcr.io", false),
            ("us-docker.pkg.dev.evil.test", false),
        ] {
            assert_eq!(ambient(registry, on("Google")), expected, "{registry}");
        }
    }

    #[test]
    fn identity_is_there_where_the_environment_offers_one() {
        let variable = |name: &str, value: &str| Surroundings {
            variables: [(name.to_owned(), value.to_owned())].into(),
            ..Surroundings::default()
        };
        let cases = [
            (Surroundings::default(), false),
            (on("Google Compute Engine\n"), true),
            (on("Virtual Machine"), false),
            (on("Not Google"), false),
            (
                variable("GOOGLE_APPLICATION_CREDENTIALS", "/etc/google/configuration.json"),
                true,
            ),
            (variable("GOOGLE_APPLICATION_CREDENTIALS", ""), false),
            (variable("GCE_METADATA_HOST", "metadata.google.internal"), true),
        ];
        for (surroundings, expected) in cases {
            let shown = format!("{surroundings:?}");
            assert_eq!(ambient("us-docker.pkg.dev", surroundings), expected, "{shown}");
        }
    }
}
