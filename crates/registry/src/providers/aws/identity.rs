//! Who we are at Amazon, by the variables of an environment.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use reqsign_core::Env;

use crate::auth::credentials::Credentials;
use crate::auth::identity::{CloudIdentity, Identity, Surroundings};

/// The identity of this machine or pod at Amazon, by the variables that its environment holds.
///
/// Read are `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` and `AWS_SESSION_TOKEN`; `AWS_ROLE_ARN` and
/// `AWS_WEB_IDENTITY_TOKEN_FILE`; `AWS_CONTAINER_CREDENTIALS_FULL_URI` or `_RELATIVE_URI` with
/// `AWS_CONTAINER_AUTHORIZATION_TOKEN` or `_TOKEN_FILE`; `AWS_EC2_METADATA_SERVICE_ENDPOINT` and `AWS_EC2_METADATA_DISABLED`.
#[derive(Clone, PartialEq, Eq)]
pub struct AwsIdentity {
    variables: Arc<BTreeMap<String, String>>,
}

impl AwsIdentity {
    /// What the environment says.
    pub(super) fn of(surroundings: &Surroundings) -> AwsIdentity {
        let variables = surroundings.variables.iter();
        let own = variables.filter(|(name, _)| name.starts_with("AWS_"));
        AwsIdentity::from_variables(own.map(|(name, value)| (name.clone(), value.clone())))
    }

    /// The identity that these variables describe.
    pub fn from_variables(variables: impl IntoIterator<Item = (String, String)>) -> AwsIdentity {
        AwsIdentity {
            variables: Arc::new(variables.into_iter().collect()),
        }
    }
}

impl CloudIdentity for AwsIdentity {
    fn name(&self) -> &'static str {
        "the identity of this machine or pod at Amazon"
    }
}

impl From<AwsIdentity> for Identity {
    fn from(identity: AwsIdentity) -> Identity {
        Identity::new(identity)
    }
}

impl From<AwsIdentity> for Credentials {
    fn from(identity: AwsIdentity) -> Credentials {
        Credentials::Identity(identity.into())
    }
}

impl fmt::Debug for AwsIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Values may be keys.
        f.debug_set().entries(self.variables.keys()).finish()
    }
}

impl Env for AwsIdentity {
    fn var(&self, key: &str) -> Option<String> {
        self.variables.get(key).filter(|value| !value.is_empty()).cloned()
    }

    fn vars(&self) -> HashMap<String, String> {
        let variables = self.variables.iter().filter(|(_, value)| !value.is_empty());
        variables.map(|(name, value)| (name.clone(), value.clone())).collect()
    }

    fn home_dir(&self) -> Option<PathBuf> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_debug_output_holds_a_key() {
        let variables = [("AWS_SECRET_ACCESS_KEY".to_owned(), "hunter2".to_owned())];
        let identity = AwsIdentity::from_variables(variables);
        assert!(!format!("{identity:?}").contains("hunter2"));
        assert_eq!(identity.var("AWS_SECRET_ACCESS_KEY").as_deref(), Some("hunter2"));
    }
}
