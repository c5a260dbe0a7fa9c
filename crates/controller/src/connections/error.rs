//! Why a side has no client, and whether a person must act.

use catamaran_api::conditions::reason;
use catamaran_registry::UnsupportedCredentials;

/// Why a side has no client.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectionError {
    /// The Secret does not exist.
    #[error("secret '{name}' was not found in namespace '{namespace}'; create it or correct the reference")]
    NotFound {
        /// The Secret's name.
        name: String,
        /// The operator's namespace.
        namespace: String,
    },
    /// The Secret exists but does not hold what is needed.
    #[error("secret '{name}': {problem}")]
    Unusable {
        /// The Secret's name.
        name: String,
        /// What is wrong and what would be right.
        problem: String,
    },
    /// The provider does not take credentials of this kind: they are not sent.
    #[error("secret '{name}': {problem}")]
    UnsupportedCredentials {
        /// The Secret's name.
        name: String,
        /// Why, and what to create instead.
        problem: UnsupportedCredentials,
    },
    /// The API server did not hand it out.
    #[error("failed to read secret '{name}': {cause}")]
    Unreadable {
        /// The Secret's name.
        name: String,
        /// Why.
        cause: String,
    },
    /// The client can't be built from it.
    #[error("failed to set up the client for '{registry}': {cause}")]
    Client {
        /// The registry.
        registry: String,
        /// Why.
        cause: String,
    },
}

impl ConnectionError {
    /// Whether a person must change the spec or a Secret.
    pub(crate) fn needs_a_person(&self) -> bool {
        !matches!(self, ConnectionError::Unreadable { .. })
    }

    /// What to report until a person has changed it; `None` for what may pass by itself.
    pub fn problem(&self) -> Option<Problem> {
        let reason = match self {
            ConnectionError::Unreadable { .. } => return None,
            ConnectionError::NotFound { .. } => reason::SECRET_NOT_FOUND,
            ConnectionError::UnsupportedCredentials { .. } => reason::UNSUPPORTED_CREDENTIALS,
            ConnectionError::Unusable { .. } | ConnectionError::Client { .. } => reason::SECRET_INVALID,
        };
        Some(Problem {
            reason,
            message: self.to_string(),
        })
    }
}

/// Why a side has no client, where a person must act.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The reason of `Stalled`.
    pub reason: &'static str,
    /// What is wrong and what would be right.
    pub message: String,
}

#[cfg(test)]
mod tests {
    use catamaran_core::policy::Provider;
    use catamaran_registry::Credentials;

    use super::*;

    #[test]
    fn what_a_person_must_change_has_a_reason_and_an_outage_of_the_api_server_has_none() {
        let name = || "pull".to_owned();
        let fine_grained = Credentials::Basic {
            username: "bot".to_owned(),
            password: "github_pat_x".to_owned().into(),
        };
        let cases = [
            (
                ConnectionError::NotFound {
                    name: name(),
                    namespace: "catamaran".to_owned(),
                },
                Some(reason::SECRET_NOT_FOUND),
            ),
            (
                ConnectionError::Unusable {
                    name: name(),
                    problem: "empty".to_owned(),
                },
                Some(reason::SECRET_INVALID),
            ),
            (
                ConnectionError::UnsupportedCredentials {
                    name: name(),
                    problem: fine_grained.unsupported_by(Provider::GitHub).unwrap(),
                },
                Some(reason::UNSUPPORTED_CREDENTIALS),
            ),
            (
                ConnectionError::Unreadable {
                    name: name(),
                    cause: "timeout".to_owned(),
                },
                None,
            ),
        ];
        for (error, expected) in cases {
            let problem = error.problem();
            assert_eq!(problem.as_ref().map(|problem| problem.reason), expected, "{error}");
            assert_eq!(error.needs_a_person(), problem.is_some(), "{error}");
        }
    }
}
