//! What people are told about registries of Amazon's.

use super::IDENTITY;
use crate::protocol::advice::{About, Advice, OwnIdentity};

pub(super) struct AwsAdvice;

impl Advice for AwsAdvice {
    fn failing(&self) -> String {
        "the registry is failing; look at https://health.aws.amazon.com".to_owned()
    }

    fn refused(&self, about: &About<'_>) -> String {
        if about.kind == IDENTITY {
            return "give the identity AmazonEC2ContainerRegistryReadOnly, and let the repository's policy allow it if it is another \
                    account's"
                .to_owned();
        }
        format!(
            "`aws ecr get-login-password | docker login --username AWS --password-stdin {}`; such a password ends after 12 hours",
            about.registry
        )
    }

    fn own_identity(&self, own: &OwnIdentity<'_>, _about: &About<'_>) -> String {
        let (exec, subject) = (own.exec, own.subject);
        format!(
            "the operator uses its own identity: check with it by `{exec}`. Let the role trust '{subject}' and give it \
             AmazonEC2ContainerRegistryReadOnly"
        )
    }

    fn blobs(&self, _about: &About<'_>) -> String {
        "blobs come from another host: let connections out to *.s3.amazonaws.com".to_owned()
    }
}
