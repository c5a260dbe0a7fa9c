//! Names to addresses, and which of them we connect to.
//!
//! The check sits in the resolver, so that the address which was checked is the address that is connected to: a name can't
//! be re-bound in between.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use hyper_util::client::proxy::matcher::Matcher;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

use crate::wire::address::{Kind, kind};
use crate::wire::tls::{Progress, Reached};

/// Why there is no address to connect to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DnsError {
    /// The resolver gave no answer, or a negative one.
    #[error("failed to resolve {host:?}: {cause}")]
    NotResolved { host: String, cause: String },
    /// There are addresses, and we refuse all of them.
    #[error("refused to connect to {address}: {why}")]
    Refused { address: IpAddr, why: &'static str },
}

/// Addresses on their way.
pub(crate) type Looking = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>>;

/// The addresses of a name.
pub(crate) type Lookup = fn(String) -> Looking;

/// What the system's resolver says.
pub(crate) fn system(host: String) -> Looking {
    Box::pin(async move { Ok(tokio::net::lookup_host((host, 0)).await?.collect()) })
}

/// What an administrator says about the addresses of one registry.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Addresses<'c> {
    /// Hosts (`host[:port]`) besides the registry's own that belong to it.
    pub(crate) token_hosts: &'c [String],
    /// Whether other hosts than the registry's may have private addresses, whatever its own is.
    pub(crate) allow_private: bool,
    /// Whether addresses of this machine may be connected to.
    pub(crate) allow_loopback: bool,
    /// Fixed addresses, by host name without port.
    pub(crate) pinned: &'c [(String, SocketAddr)],
}

/// Judges addresses for one registry.
#[derive(Debug)]
pub(crate) struct Guard {
    lookup: Lookup,
    base: Url,
    own_host: String,
    /// The registry and its token hosts, as `host:port`.
    known: Vec<String>,
    /// The proxy that the environment names: not ours to judge, and usually at a private address.
    proxies: Vec<String>,
    /// Which of them a URL goes through.
    environment: Matcher,
    pinned: HashMap<String, SocketAddr>,
    allow_private: bool,
    allow_loopback: bool,
    /// Whether the registry itself was seen at a private address: then what it leads to may be private too.
    own_private: AtomicBool,
    /// The registry's own address, as it was last seen.
    own_address: Mutex<Option<IpAddr>>,
}

impl Guard {
    pub(crate) fn new(of: Addresses<'_>, base: &Url, lookup: Lookup) -> Guard {
        let guard = Guard {
            lookup,
            base: base.clone(),
            own_host: base.host_str().unwrap_or_default().to_owned(),
            known: known(of.token_hosts, base),
            proxies: proxies(),
            environment: Matcher::from_system(),
            pinned: of
                .pinned
                .iter()
                .map(|(host, at)| (host.to_ascii_lowercase(), *at))
                .collect(),
            allow_private: of.allow_private,
            allow_loopback: of.allow_loopback,
            own_private: AtomicBool::new(false),
            own_address: Mutex::default(),
        };
        if let Some(address) = literal(base) {
            guard.note_own(address);
        }
        guard
    }

    /// Whether hosts were pinned, so that no proxy may resolve them otherwise.
    pub(crate) fn pins(&self) -> bool {
        !self.pinned.is_empty()
    }

    /// The host of the proxy that requests to the registry go through.
    pub(crate) fn proxy(&self) -> Option<String> {
        self.proxy_for(&self.base)
    }

    /// The host of the proxy that requests for a URL go through, as the environment has it; with pinned hosts there is none.
    pub(crate) fn proxy_for(&self, url: &Url) -> Option<String> {
        let uri: http::Uri = url.as_str().parse().ok().filter(|_| !self.pins())?;
        Some(self.environment.intercept(&uri)?.uri().host()?.to_owned())
    }

    /// Whether a URL is on the registry or one of its token hosts.
    pub(crate) fn knows(&self, url: &Url) -> bool {
        authority(url).is_some_and(|authority| self.known.contains(&authority))
    }

    /// Judges a URL whose host is an address; names are judged when they are resolved.
    pub(crate) fn check(&self, url: &Url) -> Result<(), DnsError> {
        match (literal(url), url.host_str()) {
            (Some(address), Some(host)) => self.admit(host, address),
            _ => Ok(()),
        }
    }

    fn admit(&self, host: &str, address: IpAddr) -> Result<(), DnsError> {
        let refused = |why| Err(DnsError::Refused { address, why });
        match kind(address) {
            Kind::Public => Ok(()),
            Kind::Never => refused("link-local, metadata and unspecified addresses are never a registry"),
            Kind::Loopback if self.allow_loopback => Ok(()),
            Kind::Loopback => refused("loopback addresses are not allowed for this registry"),
            Kind::Private => {
                let own = host == self.own_host;
                if own || self.allow_private || self.own_private.load(Ordering::Relaxed) {
                    return Ok(());
                }
                refused("the registry has a public address, this one is private")
            }
        }
    }

    /// Where the registry's name leads, and whether that is a private address: the first question when a firewall refuses
    /// us. `None` when that was never seen, as behind a proxy.
    pub(crate) fn describe_own(&self) -> Option<String> {
        let address = (*self.own_address.lock().unwrap_or_else(PoisonError::into_inner))?;
        let what = match kind(address) {
            Kind::Public => "a public address: no private endpoint is used",
            Kind::Private => "a private address",
            Kind::Loopback | Kind::Never => "a local address",
        };
        Some(format!("{} is at {address}, {what}", self.own_host))
    }

    fn note_own(&self, address: IpAddr) {
        *self.own_address.lock().unwrap_or_else(PoisonError::into_inner) = Some(address);
        if kind(address) == Kind::Private {
            self.own_private.store(true, Ordering::Relaxed);
        }
    }

    /// The addresses of a name that may be connected to.
    pub(crate) async fn resolve(&self, host: &str) -> Result<Vec<SocketAddr>, DnsError> {
        if let Some(address) = self.pinned.get(host) {
            if host == self.own_host {
                self.note_own(address.ip());
            }
            return Ok(vec![*address]);
        }
        let not_resolved = |cause: String| DnsError::NotResolved {
            host: host.to_owned(),
            cause,
        };
        let found = (self.lookup)(host.to_owned())
            .await
            .map_err(|error| not_resolved(cause_of(&error)))?;
        if host == self.own_host {
            for at in &found {
                self.note_own(at.ip());
            }
        }
        if self.proxies.iter().any(|proxy| proxy == host) && host != self.own_host {
            return Ok(found);
        }
        let mut refused = None;
        let mut admitted = Vec::with_capacity(found.len());
        for at in found {
            match self.admit(host, at.ip()) {
                Ok(()) => admitted.push(at),
                Err(error) => refused = Some(error),
            }
        }
        if admitted.is_empty() {
            return Err(refused.unwrap_or_else(|| not_resolved("the name has no address".to_owned())));
        }
        Ok(admitted)
    }
}

fn authority(url: &Url) -> Option<String> {
    Some(format!("{}:{}", url.host_str()?, url.port_or_known_default()?))
}

fn known(token_hosts: &[String], base: &Url) -> Vec<String> {
    let token_hosts = token_hosts
        .iter()
        .filter_map(|host| Url::parse(&format!("https://{host}/")).ok());
    token_hosts
        .chain([base.clone()])
        .filter_map(|url| authority(&url))
        .collect()
}

/// The resolver's own words, without the prefix that the standard library puts in front.
fn cause_of(error: &io::Error) -> String {
    let text = error.to_string();
    text.strip_prefix("failed to lookup address information: ")
        .map_or_else(|| text.clone(), str::to_owned)
}

/// Hosts of the proxies that reqwest takes from the environment.
fn proxies() -> Vec<String> {
    let names = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];
    let values = names.iter().filter_map(|name| std::env::var(name).ok());
    let urls = values.filter_map(|value| {
        Url::parse(&value)
            .or_else(|_| Url::parse(&format!("http://{value}")))
            .ok()
    });
    urls.filter_map(|url| url.host_str().map(str::to_ascii_lowercase))
        .collect()
}

fn literal(url: &Url) -> Option<IpAddr> {
    match url.host()? {
        Host::Ipv4(address) => Some(address.into()),
        Host::Ipv6(address) => Some(address.into()),
        Host::Domain(_) => None,
    }
}

/// What reqwest asks.
pub(crate) struct Resolver {
    pub(crate) guard: Arc<Guard>,
    pub(crate) progress: Arc<Progress>,
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let (guard, progress) = (self.guard.clone(), self.progress.clone());
        Box::pin(async move {
            let found = guard.resolve(&name.as_str().to_ascii_lowercase()).await?;
            progress.reach(Reached::Connect);
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::Connection;

    fn guard(registry: &str, change: impl FnOnce(&mut Connection)) -> Guard {
        let mut connection = Connection {
            registry: registry.to_owned(),
            ..Connection::default()
        };
        change(&mut connection);
        Guard::new(
            connection.addresses(),
            &Url::parse(&format!("https://{registry}/")).unwrap(),
            system,
        )
    }

    fn admits(guard: &Guard, url: &str) -> bool {
        guard.check(&Url::parse(url).unwrap()).is_ok()
    }

    #[test]
    fn a_public_registry_leads_to_public_addresses_only() {
        let guard = guard("ghcr.io", |_| {});
        assert!(admits(&guard, "https://20.1.2.3/blob"));
        for url in [
            "https://10.0.0.1/",
            "https://127.0.0.1/",
            "https://[::1]/",
            "https://169.254.169.254/latest",
            "https://[fe80::1]/",
            "https://0.0.0.0/",
            // Other spellings of the same addresses.
            "https://0x7f.1/",
            "https://2130706433/",
            "https://[::ffff:a9fe:a9fe]/",
        ] {
            assert!(!admits(&guard, url), "{url}");
        }
    }

    #[test]
    fn a_private_registry_may_lead_to_private_addresses_but_never_to_the_metadata_service() {
        let guard = guard("10.0.0.5:5000", |_| {});
        assert!(admits(&guard, "https://10.0.0.5:5000/v2/"));
        assert!(admits(&guard, "https://10.9.9.9/blob"));
        assert!(!admits(&guard, "https://169.254.169.254/"));
        assert!(!admits(&guard, "https://127.0.0.1/"));
    }

    #[test]
    fn private_and_loopback_addresses_are_admitted_when_the_administrator_says_so() {
        let private = guard("ghcr.io", |connection| connection.allow_private = true);
        assert!(admits(&private, "https://10.0.0.1/"));
        assert!(!admits(&private, "https://127.0.0.1/"));
        let loopback = guard("127.0.0.1:5000", |connection| connection.allow_loopback = true);
        assert!(admits(&loopback, "https://127.0.0.1:5000/v2/"));
        assert!(!admits(&loopback, "https://10.0.0.1/"));
        assert!(!admits(&loopback, "https://169.254.169.254/"));
    }

    #[tokio::test]
    async fn a_name_that_resolves_to_this_machine_is_refused_unless_pinned_or_allowed() {
        let refused = guard("localhost", |_| {}).resolve("localhost").await;
        assert!(matches!(refused, Err(DnsError::Refused { .. })), "{refused:?}");
        let at: SocketAddr = "127.0.0.1:4443".parse().unwrap();
        let pinned = guard("ghcr.io", |connection| {
            connection.resolve = vec![("ghcr.io".to_owned(), at)];
        });
        assert_eq!(pinned.resolve("ghcr.io").await, Ok(vec![at]));
        let allowed = guard("localhost", |connection| connection.allow_loopback = true);
        assert!(allowed.resolve("localhost").await.is_ok());
    }

    fn mixed(_: String) -> Looking {
        let all = ["169.254.169.254:0", "10.0.0.1:0", "20.1.2.3:0", "127.0.0.1:0"];
        Box::pin(async move { Ok(all.iter().map(|at| at.parse().unwrap()).collect()) })
    }

    #[tokio::test]
    async fn where_the_registry_is_and_what_that_means_can_be_told() {
        let cases = [
            (
                "20.1.2.3:443",
                "ghcr.io is at 20.1.2.3, a public address: no private endpoint is used",
            ),
            ("10.0.0.4:443", "ghcr.io is at 10.0.0.4, a private address"),
        ];
        for (at, told) in cases {
            let guard = guard("ghcr.io", |connection| {
                connection.resolve = vec![("ghcr.io".to_owned(), at.parse().unwrap())];
            });
            assert_eq!(guard.describe_own(), None, "nothing was seen yet");
            guard.resolve("ghcr.io").await.unwrap();
            assert_eq!(guard.describe_own().as_deref(), Some(told));
        }
        let behind_proxy = guard("ghcr.io", |_| {});
        assert!(behind_proxy.resolve("localhost").await.is_err());
        assert_eq!(behind_proxy.describe_own(), None);
    }

    fn nobody(_: String) -> Looking {
        Box::pin(async { Ok(Vec::new()) })
    }

    #[tokio::test]
    async fn of_a_names_addresses_only_the_admitted_ones_are_connected_to() {
        let guard = Guard {
            lookup: mixed,
            ..guard("ghcr.io", |_| {})
        };
        assert_eq!(
            guard.resolve("blobs.test").await.unwrap(),
            ["20.1.2.3:0".parse().unwrap()]
        );
        // The registry itself may be private, and once it was seen to be, so may what it leads to.
        let private = ["10.0.0.1:0".parse().unwrap(), "20.1.2.3:0".parse().unwrap()];
        assert_eq!(guard.resolve("ghcr.io").await.unwrap(), private);
        assert_eq!(guard.resolve("blobs.test").await.unwrap(), private);
    }

    #[tokio::test]
    async fn a_name_without_an_address_is_not_resolved() {
        let guard = Guard {
            lookup: nobody,
            ..guard("ghcr.io", |_| {})
        };
        assert!(matches!(
            guard.resolve("ghcr.io").await,
            Err(DnsError::NotResolved { .. })
        ));
        // Too long a label for a name: the system's resolver says so without asking anyone.
        let system = Guard {
            lookup: system,
            ..guard
        };
        assert!(matches!(
            system.resolve(&"a".repeat(64)).await,
            Err(DnsError::NotResolved { .. })
        ));
    }
}
