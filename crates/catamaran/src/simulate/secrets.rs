//! Whether pods have a pull secret for a registry: in their namespace, by the mirror, the pod itself or its service account.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use kube::Api;
use serde_json::Value;

use super::Verdict;
use crate::cluster::{self, Cluster};
use crate::view::Unread;

/// What a pull needs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pull {
    /// The pod's namespace.
    pub namespace: String,
    /// Its service account.
    pub service_account: String,
    /// The registry that is pulled from.
    pub registry: String,
    /// The pull secrets that the mirror lists for it.
    pub listed: Vec<String>,
    /// The pull secrets that the pod has, or gets at admission.
    pub names: BTreeSet<String>,
    /// The operator itself has a credential for it.
    pub is_private: bool,
}

/// A verdict with its reason, why, and what to do.
pub type Problem = (Verdict, &'static str, String, String);

/// Reads Secrets and service accounts, each once.
pub struct Secrets<'c> {
    cluster: &'c Cluster,
    /// The hosts that each Secret is for; none for one that is not there or may not be read.
    hosts: BTreeMap<(String, String), Option<Vec<String>>>,
    accounts: BTreeMap<(String, String), Vec<String>>,
    /// Namespaces in which something could not be read.
    blind: BTreeSet<String>,
    unread: Vec<Unread>,
}

impl<'c> Secrets<'c> {
    /// Nothing was read yet.
    pub fn of(cluster: &'c Cluster) -> Secrets<'c> {
        Secrets {
            cluster,
            hosts: BTreeMap::new(),
            accounts: BTreeMap::new(),
            blind: BTreeSet::new(),
            unread: Vec::new(),
        }
    }

    /// What could not be read.
    pub fn unread(self) -> Vec<Unread> {
        self.unread
    }

    /// What keeps pods from this pull, as far as secrets are concerned.
    pub async fn problem(&mut self, pull: &Pull) -> Option<Problem> {
        if pull.listed.is_empty() && !pull.is_private {
            return None;
        }
        let mut names = pull.names.clone();
        names.extend(self.of_account(&pull.namespace, &pull.service_account).await);
        for name in &names {
            let hosts = self.hosts_of(&pull.namespace, name).await;
            if hosts.iter().flatten().any(|host| covers(host, &pull.registry)) {
                return None;
            }
        }
        let (namespace, registry) = (&pull.namespace, &pull.registry);
        if self.blind.contains(namespace) {
            let why = format!("whether there is a pull secret for {registry} could not be seen");
            let what_to_do = format!("get the right to get secrets and serviceaccounts in namespace {namespace}");
            return Some((Verdict::Unknown, "SecretsNotRead", why, what_to_do));
        }
        let why = format!("no pull secret for {registry} in namespace {namespace}");
        if let Some(name) = pull.listed.first() {
            let what_to_do = format!("create Secret '{name}' for {registry} in namespace {namespace}");
            return Some((Verdict::WouldNotStart, "PullSecretMissing", why, what_to_do));
        }
        let why = format!("{why}, and the operator needs a credential there");
        let what_to_do = "list one in the fallback's imagePullSecrets, unless nodes have a credential".to_owned();
        Some((Verdict::Unknown, "PullSecretUnknown", why, what_to_do))
    }

    async fn of_account(&mut self, namespace: &str, name: &str) -> Vec<String> {
        let key = (namespace.to_owned(), name.to_owned());
        if let Some(known) = self.accounts.get(&key) {
            return known.clone();
        }
        let api: Api<ServiceAccount> = Api::namespaced(self.cluster.client.clone(), namespace);
        let read = api.get_opt(name).await;
        let account = self.or_blind("serviceaccounts", namespace, read);
        let secrets = account
            .and_then(|account| account.image_pull_secrets)
            .unwrap_or_default();
        let names: Vec<String> = secrets.into_iter().map(|secret| secret.name).collect();
        self.accounts.insert(key, names.clone());
        names
    }

    async fn hosts_of(&mut self, namespace: &str, name: &str) -> Option<Vec<String>> {
        let key = (namespace.to_owned(), name.to_owned());
        if let Some(known) = self.hosts.get(&key) {
            return known.clone();
        }
        let api: Api<Secret> = Api::namespaced(self.cluster.client.clone(), namespace);
        let read = catamaran_secrets::get_opt(&api, name).await;
        let secret = self.or_blind("secrets", namespace, read);
        let hosts = secret.map(|secret| hosts(&secret));
        self.hosts.insert(key, hosts.clone());
        hosts
    }

    /// What was read; a refusal is noted once for a namespace.
    fn or_blind<T>(&mut self, what: &str, namespace: &str, read: Result<Option<T>, kube::Error>) -> Option<T> {
        match read {
            Ok(found) => found,
            Err(error) => {
                self.blind.insert(namespace.to_owned());
                let what = format!("{what} in {namespace} (pull secrets)");
                if !self.unread.iter().any(|unread| unread.what == what) {
                    let why = cluster::reason(&error, &self.cluster.server);
                    self.unread.push(Unread { what, why });
                }
                None
            }
        }
    }
}

/// The registries that a pull secret has credentials for, as they are spelled there.
fn hosts(secret: &Secret) -> Vec<String> {
    let data = secret.data.as_ref();
    let value = |key: &str| data.and_then(|data| data.get(key)).map(|bytes| &*bytes.0);
    let parse = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).ok();
    let config = value(".dockerconfigjson")
        .and_then(parse)
        .map(|config| config["auths"].clone());
    let auths = config
        .or_else(|| value(".dockercfg").and_then(parse))
        .unwrap_or_default();
    auths
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, _)| key.clone())
        .collect()
}

/// Whether the kubelet uses an entry for a registry: by its host, which may begin with `*.`; what of a path follows is more than
/// is compared here.
fn covers(entry: &str, registry: &str) -> bool {
    let host = entry.trim_start_matches("https://").trim_start_matches("http://");
    let host = host.split('/').next().unwrap_or_default();
    let hub = |host: &str| matches!(host, "docker.io" | "index.docker.io" | "registry-1.docker.io");
    let is_below = |suffix: &str| registry.strip_suffix(suffix).is_some_and(|label| !label.contains('.'));
    host == registry || hub(host) && hub(registry) || host.strip_prefix('*').is_some_and(is_below)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;

    use super::*;

    #[test]
    fn entries_cover_their_host_in_every_spelling_of_the_kubelet() {
        for entry in [
            "ghcr.io",
            "https://ghcr.io/",
            "ghcr.io/devopskev",
            "https://ghcr.io/v2/",
        ] {
            assert!(covers(entry, "ghcr.io"), "{entry}");
        }
        assert!(covers("*.azurecr.io", "kracr.azurecr.io"));
        assert!(covers("https://index.docker.io/v1/", "docker.io"));
        for entry in ["hcr.io", "ghcr.io.evil.example", "*.azurecr.io", ""] {
            assert!(!covers(entry, "ghcr.io"), "{entry}");
        }
        assert!(!covers("*.azurecr.io", "a.b.azurecr.io"));
    }

    #[test]
    fn hosts_are_read_from_pull_secrets_of_both_types_only() {
        let secret = |key: &str, value: &str| Secret {
            data: Some([(key.to_owned(), ByteString(value.as_bytes().to_vec()))].into()),
            ..Secret::default()
        };
        assert_eq!(
            hosts(&secret(".dockerconfigjson", r#"{"auths":{"ghcr.io":{}}}"#)),
            ["ghcr.io"]
        );
        assert_eq!(hosts(&secret(".dockercfg", r#"{"ghcr.io":{}}"#)), ["ghcr.io"]);
        assert!(hosts(&secret(".dockerconfigjson", "no JSON")).is_empty());
        assert!(hosts(&Secret::default()).is_empty());
    }
}
