//! What people are told when a step fails: the words are a provider's own, the defaults are for any registry.

use crate::auth::kind::CredentialKind;

/// For whom is diagnosed; it decides which advice helps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whose {
    /// The user who typed the command.
    Own,
    /// The operator, whose service account is `system:serviceaccount:NAMESPACE:NAME`.
    Operator {
        /// The operator's namespace.
        namespace: String,
        /// The subject that identity providers know the operator by.
        subject: String,
        /// What takes its place inside of one of its pods, where it has an identity of its own and this command was not told to use
        /// that of its surroundings.
        exec: Option<String>,
    },
}

/// What advice depends on.
#[derive(Clone, Copy, Debug)]
pub struct About<'a> {
    /// `host[:port]`.
    pub registry: &'a str,
    /// For whom is diagnosed.
    pub whose: &'a Whose,
    /// What was authenticated with; anonymous if it did not come to that.
    pub kind: CredentialKind,
    /// Whether one of the registry's addresses is private.
    pub private: bool,
}

/// Where the operator's own identity counts and this command does not have it.
#[derive(Clone, Copy, Debug)]
pub struct OwnIdentity<'a> {
    /// The operator's namespace.
    pub namespace: &'a str,
    /// The subject that identity providers know the operator by.
    pub subject: &'a str,
    /// What takes this command's place inside of one of the operator's pods.
    pub exec: &'a str,
}

/// What a provider says.
pub trait Advice: Sync {
    /// The registry's name has no address.
    fn unresolved(&self, about: &About<'_>) -> String {
        let registry = about.registry;
        format!("is the name right, and does this machine's resolver know it? `nslookup {registry}`")
    }

    /// The registry takes no connection.
    fn unconnected(&self, about: &About<'_>) -> String {
        let registry = about.registry;
        format!(
            "let connections out to {registry} in the firewall, the network policy or the security group; \
             behind a proxy set HTTPS_PROXY"
        )
    }

    /// The registry answers, and not as one that is healthy.
    fn failing(&self) -> String {
        "check that this host is a registry and that it is healthy".to_owned()
    }

    /// The registry's firewall refuses this network; it names the address that it saw, or not.
    fn firewall(&self, _about: &About<'_>, _address: Option<&str>) -> String {
        "let this network in at the registry's firewall".to_owned()
    }

    /// The credential is refused, or none is there and one is needed.
    fn refused(&self, about: &About<'_>) -> String {
        if about.kind == CredentialKind::ANONYMOUS {
            return log_in(about);
        }
        format!("the credential is refused: {} with another", log_in(about))
    }

    /// Nothing was sent, and the operator would have sent its own identity.
    fn own_identity(&self, own: &OwnIdentity<'_>, _about: &About<'_>) -> String {
        let (exec, namespace) = (own.exec, own.namespace);
        format!(
            "the operator uses its own identity: diagnose with it by `{exec}`; or name a Secret of namespace '{namespace}' in \
             secretRef"
        )
    }

    /// The token grants less than was asked for.
    fn lacks(&self, _about: &About<'_>) -> String {
        "give the credential the right to read this repository".to_owned()
    }

    /// The credential expires soon.
    fn renew(&self, about: &About<'_>) -> String {
        match about.whose {
            Whose::Own => format!("`docker login {}` again", about.registry),
            Whose::Operator { namespace, .. } => {
                format!("renew the Secret in namespace '{namespace}', or let the operator use its own identity")
            }
        }
    }

    /// A manifest is there, and its blobs can't be read.
    fn blobs(&self, _about: &About<'_>) -> String {
        "the manifest is there and its content is not: look at the registry's storage".to_owned()
    }
}

/// Advice for any registry.
pub(crate) struct Plain;

impl Advice for Plain {}

/// How to authenticate with a user name and a password.
pub fn log_in(about: &About<'_>) -> String {
    match about.whose {
        Whose::Own => format!("`docker login {}`", about.registry),
        Whose::Operator { namespace, .. } => format!(
            "name a Secret in secretRef: `kubectl -n {namespace} create secret docker-registry NAME \
             --docker-server={} --docker-username=... --docker-password=...`",
            about.registry
        ),
    }
}
