//! What we authenticate with.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use crate::auth::identity::Identity;
use crate::wire::mask;
use crate::wire::secret::Secret;

/// The user name that stands for "the password is a refresh token".
pub(crate) const TOKEN_USER: &str = "00000000-0000-0000-0000-000000000000";

/// A registry's credential.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Credentials {
    /// None: public images only.
    #[default]
    Anonymous,
    /// A user name and a password or token.
    Basic {
        /// The user name.
        username: String,
        /// The password, personal access token or refresh token.
        password: Secret<String>,
    },
    /// An identity that a cloud vouches for, for that cloud's own registries.
    Identity(Identity),
}

impl Credentials {
    /// The value of an `Authorization: Basic` header, without the scheme.
    pub(crate) fn basic(&self) -> Option<Secret<String>> {
        match self {
            Credentials::Basic { username, password } => Some(Secret::new(
                BASE64_STANDARD.encode(format!("{username}:{}", password.expose())),
            )),
            _ => None,
        }
    }

    /// The identity, where the credential is one.
    pub(crate) fn identity(&self) -> Option<&Identity> {
        match self {
            Credentials::Identity(identity) => Some(identity),
            _ => None,
        }
    }

    /// Takes our own credential out of a text that a registry wrote, should it echo what it was sent.
    pub(crate) fn scrub(&self, text: String) -> String {
        let Credentials::Basic { password, .. } = self else {
            return text;
        };
        let secrets: Vec<_> = self.basic().into_iter().chain([password.clone()]).collect();
        mask::hide(&text, &secrets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_and_scrubbed_text_hold_no_password() {
        let credentials = Credentials::Basic {
            username: "user".to_owned(),
            password: Secret::new("hunter22".to_owned()),
        };
        assert!(!format!("{credentials:?}").contains("hunter22"));
        let basic = credentials.basic().unwrap();
        let echoed = credentials.scrub(format!("bad password hunter22 in Basic {}", basic.expose()));
        assert_eq!(echoed, "bad password [redacted] in Basic [redacted]");
    }
}
