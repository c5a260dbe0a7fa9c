//! What to do about a step that failed: what a person who knows the registry would say.

use catamaran_core::policy::Provider;
use catamaran_registry::advice::{self, Advice, OwnIdentity, Whose};
use catamaran_registry::steps::Step;
use catamaran_registry::{Class, CredentialKind, Failure, advice_for};

/// What advice depends on.
pub struct About<'a> {
    /// Whose registry it is.
    pub provider: Provider,
    /// The repository's full path.
    pub repository: Option<&'a str>,
    /// What its provider's advice depends on.
    pub registry: advice::About<'a>,
}

impl About<'_> {
    fn advice(&self) -> &'static dyn Advice {
        advice_for(self.provider)
    }
}

/// The advice for a failed step, if there is any that the failure does not give itself.
pub fn hint(about: &About<'_>, step: Step, failure: &Failure) -> Option<String> {
    if let Class::Throttled { retry_after } = &failure.class {
        return Some(match retry_after {
            Some(wait) => format!("try again in {} s", wait.as_secs().max(1)),
            None => "try again in a minute; authenticated requests usually get a higher rate limit".to_owned(),
        });
    }
    if let Some(on_the_way) = on_the_way(about, &failure.message) {
        return Some(on_the_way);
    }
    match failure.class {
        Class::NetworkDenied => return Some(firewall(about, &failure.message)),
        Class::UntrustedCertificate => return Some(untrusted(about.registry.whose)),
        _ => {}
    }
    match step {
        Step::Dns => Some(dns(about, &failure.class)),
        Step::Connect => Some(about.advice().unconnected(&about.registry)),
        Step::Tls => Some(tls(&failure.message)),
        Step::Challenge => Some(challenge(about, failure)),
        Step::Credential => None,
        Step::Token => Some(admission(about)),
        Step::Tags | Step::Manifest => Some(content(about, step, failure)),
        Step::Blob => Some(blob(about, failure)),
    }
}

/// What a proxy or a client certificate needs, whatever the step.
fn on_the_way(about: &About<'_>, message: &str) -> Option<String> {
    if message.contains("the proxy wants a user name and password") {
        return Some("write them into the proxy's URL: HTTPS_PROXY=http://USER:PASSWORD@HOST:PORT".to_owned());
    }
    if message.contains("(through the proxy ") {
        return Some(format!(
            "is HTTPS_PROXY right, and may this machine reach {0} through it? If it shall go directly, name {0} in NO_PROXY",
            about.registry.registry
        ));
    }
    if message.contains("client certificate") {
        return Some(match about.registry.whose {
            Whose::Own => "this command shows no client certificate; a mirror does, by certSecretRef".to_owned(),
            Whose::Operator { namespace, .. } => format!(
                "put a certificate that the registry accepts into the Secret that certSecretRef names: \
                 `kubectl -n {namespace} create secret tls registry-client --cert=tls.crt --key=tls.key`"
            ),
        });
    }
    None
}

fn dns(about: &About<'_>, class: &Class) -> String {
    if *class == Class::RefusedAddress {
        return format!(
            "look at `nslookup {}`: link-local, metadata and loopback addresses are never connected to",
            about.registry.registry
        );
    }
    about.advice().unresolved(&about.registry)
}

fn tls(message: &str) -> String {
    if message.contains("Expired") || message.contains("expired") {
        return "renew the certificate at the registry; if it is good elsewhere, look at this machine's clock"
            .to_owned();
    }
    if message.contains("NotValidForName") || message.contains("not valid for name") {
        return "the certificate belongs to another name: something else answers for this host, such as a proxy or a \
                wrong DNS record"
            .to_owned();
    }
    "the TLS handshake was aborted: a TLS-inspecting firewall, or the port does not serve TLS".to_owned()
}

fn untrusted(whose: &Whose) -> String {
    match whose {
        Whose::Own => "give the CA's certificate by --ca-file".to_owned(),
        Whose::Operator { namespace, .. } => format!(
            "put the CA's certificate into a Secret and name it in certSecretRef: \
             `kubectl -n {namespace} create secret generic registry-ca --from-file=ca.crt`"
        ),
    }
}

fn challenge(about: &About<'_>, failure: &Failure) -> String {
    match (&failure.class, about.registry.whose) {
        (Class::ForeignRealm, Whose::Own) => {
            "if that host is the registry's own token service, admit it by --token-host".to_owned()
        }
        (Class::ForeignRealm, Whose::Operator { .. }) => {
            "credentials are not sent there; is this the registry, and is `provider` right?".to_owned()
        }
        _ if failure.message.contains("web page") => {
            "a sign-in page or a proxy answers instead of the registry: look at HTTPS_PROXY and NO_PROXY, and at the name"
                .to_owned()
        }
        _ => about.advice().failing(),
    }
}

/// What a firewall's refusal needs. Azure names the address that it saw.
fn firewall(about: &About<'_>, message: &str) -> String {
    let address = message
        .split('\'')
        .find(|part| part.parse::<std::net::IpAddr>().is_ok());
    about.advice().firewall(&about.registry, address)
}

fn admission(about: &About<'_>) -> String {
    // It is the operator's identity that counts and not ours.
    if about.registry.kind == CredentialKind::ANONYMOUS
        && let Whose::Operator {
            namespace,
            subject,
            exec: Some(exec),
        } = about.registry.whose
    {
        let own = OwnIdentity {
            namespace,
            subject,
            exec,
        };
        return about.advice().own_identity(&own, &about.registry);
    }
    about.advice().refused(&about.registry)
}

fn content(about: &About<'_>, step: Step, failure: &Failure) -> String {
    let repository = about.repository.unwrap_or_default();
    match (&failure.class, step) {
        (Class::Unauthorized | Class::Forbidden, _) => admission(about),
        (Class::Absent | Class::NotFound, Step::Tags) => {
            format!(
                "is '{repository}' the whole path on {}, prefix included? Else push an image first",
                about.registry.registry
            )
        }
        (Class::Absent | Class::NotFound, _) => {
            format!(
                "push an image to {}/{repository}, or name a tag that exists",
                about.registry.registry
            )
        }
        (Class::Locked | Class::Blocked, _) => {
            "the registry has this image and does not serve it: look for a lock or a policy there".to_owned()
        }
        (Class::Misrouted, _) => "the registry sends elsewhere for this; is the repository's path right?".to_owned(),
        _ => "the registry is failing; try again, then ask its administrator".to_owned(),
    }
}

fn blob(about: &About<'_>, failure: &Failure) -> String {
    if matches!(failure.class, Class::Locked | Class::Blocked) {
        return content(about, Step::Blob, failure);
    }
    if failure.class == Class::RefusedAddress {
        return "blobs come from a private address while the registry's is public: give the registry's data endpoint a \
                public one, or both a private one"
            .to_owned();
    }
    about.advice().blobs(&about.registry)
}

#[cfg(test)]
mod tests;
