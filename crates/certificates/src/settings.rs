//! Which objects hold the certificate, and what manages them.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use crate::schedule::Schedule;

/// Which objects, and how long things last.
#[derive(Clone, Debug, PartialEq)]
pub struct CertificateSettings {
    /// The operator's own namespace: of the Secret and of the Service.
    pub namespace: String,
    /// The Secret. Rights: `get`, `update` by name, and `create`.
    pub secret: String,
    /// What a Secret that we create belongs to; absent, it stays behind when the operator is removed.
    pub owner: Option<OwnerReference>,
    /// The `MutatingWebhookConfiguration` to publish into. Rights: `get`, `patch` by name.
    pub configuration: String,
    /// The Service in front of the webhook. Only webhooks that point at it are touched.
    pub service: String,
    /// What manages the Secret and the caBundle.
    pub source: Source,
    /// How long things last.
    pub schedule: Schedule,
}

/// What manages the Secret and the caBundle.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Source {
    /// The operator manages both.
    #[default]
    Own,
    /// The administrator manages the Secret, with `tls.crt`, `tls.key` and `ca.crt`; the leader publishes its `ca.crt`, once that vouches
    /// for the certificate beside it. Rights: `get` on the Secret.
    Given,
    /// Another controller manages both, as cert-manager and its cainjector do. Rights: `get` on both.
    Injected,
}

impl CertificateSettings {
    /// The DNS names of the leaf; the first is the one that the API server asks for.
    pub(crate) fn dns_names(&self) -> Vec<String> {
        dns_names(&self.service, &self.namespace)
    }
}

pub(crate) fn dns_names(service: &str, namespace: &str) -> Vec<String> {
    let short = format!("{service}.{namespace}");
    vec![format!("{short}.svc"), format!("{short}.svc.cluster.local"), short]
}
