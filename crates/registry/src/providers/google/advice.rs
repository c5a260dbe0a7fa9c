//! What people are told about registries of Google's.

use super::IDENTITY;
use crate::auth::kind::CredentialKind;
use crate::protocol::advice::{About, Advice, OwnIdentity, Whose, log_in};

pub(super) struct GoogleAdvice;

/// What an identity needs to read.
const ROLE: &str = "give it the role roles/artifactregistry.reader: `gcloud artifacts repositories add-iam-policy-binding REPOSITORY \
     --location LOCATION --member MEMBER --role roles/artifactregistry.reader`; it takes a few minutes to work";

impl Advice for GoogleAdvice {
    fn failing(&self) -> String {
        "the registry is failing; look at https://status.cloud.google.com".to_owned()
    }

    fn refused(&self, about: &About<'_>) -> String {
        if about.kind == IDENTITY {
            return ROLE.to_owned();
        }
        match about.whose {
            Whose::Own if about.kind == CredentialKind::ANONYMOUS => {
                format!(
                    "`gcloud auth configure-docker {}` and `docker login`, or let allUsers read public images",
                    about.registry
                )
            }
            Whose::Own => format!(
                "`gcloud auth print-access-token | docker login -u oauth2accesstoken --password-stdin {}`; such a token expires \
                 within an hour",
                about.registry
            ),
            Whose::Operator { .. } => format!("{}; or {}", ROLE, log_in(about)),
        }
    }

    fn own_identity(&self, own: &OwnIdentity<'_>, _about: &About<'_>) -> String {
        let (exec, subject) = (own.exec, own.subject);
        format!(
            "the operator uses its own identity: diagnose with it by `{exec}`. Let the Google service account or the pool trust \
             '{subject}', and {ROLE}"
        )
    }

    fn lacks(&self, _about: &About<'_>) -> String {
        ROLE.to_owned()
    }

    fn firewall(&self, _about: &About<'_>, _address: Option<&str>) -> String {
        "let this network in at the VPC Service Controls perimeter of the registry's project".to_owned()
    }

    fn blobs(&self, _about: &About<'_>) -> String {
        "blobs may come from another host: let connections out to storage.googleapis.com".to_owned()
    }
}
