//! Ways in which a registry talks to a client that pulls from it, good and bad, each with the word for what a probe is to make of it.
//!
//! The probe's tests play them, and so does the test that holds the probe against containerd.

use std::net::SocketAddr;

use catamaran_core::digest::Digest;
use catamaran_core::policy::Provider;
use catamaran_registry::{Connection, Credentials, Secret};
use tokio::net::TcpSocket;

use crate::{Fault, IMAGE_MANIFEST, Registry, What};

mod blobs;
mod manifests;
mod tokens;
mod wire;

/// The registry's name.
pub const HOST: &str = "registry.test";
/// The registry under another name, to which it redirects.
pub const BLOBS: &str = "blobs.test";
/// Another registry, with another CA.
pub const OTHER: &str = "other.test";
/// A name at which nothing listens.
pub const DEAD: &str = "dead.test";
/// The repository that is pulled from.
pub const REPOSITORY: &str = "krateo/web";

/// One way to talk.
pub struct Conversation {
    /// What is special about it.
    pub name: &'static str,
    /// The reason that stands for what a probe finds, `Reachable` if all is well.
    pub expected: &'static str,
    set: fn(&mut Scene),
}

/// A registry that talks so, and what its clients know.
pub struct Scene {
    /// The registry.
    pub registry: Registry,
    /// What is pulled.
    pub digest: Digest,
    /// The certificates (PEM) that the operator trusts.
    pub operator_trusts: Vec<u8>,
    /// The certificates (PEM) that the node trusts.
    pub node_trusts: Vec<u8>,
    /// User name and password.
    pub account: Option<(String, String)>,
    other: Registry,
    /// Bound, so that nobody else is given its port, and nobody listens.
    _dead: TcpSocket,
    dead: SocketAddr,
}

/// Two CAs, one of them trusted: the same for all conversations, because it takes a client a while to read whom it trusts.
pub struct CaPair {
    own: Registry,
    other: Registry,
}

impl CaPair {
    /// Makes them.
    pub async fn start() -> std::io::Result<CaPair> {
        Ok(CaPair {
            own: Registry::start().await?,
            other: Registry::start().await?,
        })
    }

    /// A connection that trusts the one CA. A client of it that lives has read whom all of them trust.
    pub fn connection(&self) -> Connection {
        self.own.connection(HOST, Provider::Generic)
    }
}

/// All of them.
pub fn all() -> Vec<Conversation> {
    let tables = [
        manifests::table(),
        manifests::redirects(),
        tokens::table(),
        blobs::table(),
        wire::table(),
    ];
    tables.into_iter().flatten().collect()
}

fn talk(name: &'static str, expected: &'static str, set: fn(&mut Scene)) -> Conversation {
    Conversation { name, expected, set }
}

impl Conversation {
    /// Starts a registry that talks so.
    pub async fn start(&self, cas: &CaPair) -> std::io::Result<Scene> {
        let (registry, other) = (cas.own.start_beside().await?, cas.other.start_beside().await?);
        let digest = registry.push(REPOSITORY, "1.0", "first");
        other.push(REPOSITORY, "1.0", "first");
        let dead = TcpSocket::new_v4()?;
        dead.bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
        let mut scene = Scene {
            operator_trusts: registry.ca_pem(),
            node_trusts: registry.ca_pem(),
            registry,
            digest,
            account: None,
            other,
            dead: dead.local_addr()?,
            _dead: dead,
        };
        (self.set)(&mut scene);
        Ok(scene)
    }
}

impl Scene {
    /// Where each name leads.
    pub fn names(&self) -> Vec<(String, SocketAddr)> {
        let own = self.registry.address();
        [
            (HOST, own),
            (BLOBS, own),
            (OTHER, self.other.address()),
            (DEAD, self.dead),
        ]
        .map(|(name, address)| (name.to_owned(), address))
        .to_vec()
    }

    /// The operator's connection.
    pub fn connection(&self) -> Connection {
        let credentials = match &self.account {
            None => Credentials::Anonymous,
            Some((username, password)) => Credentials::Basic {
                username: username.clone(),
                password: Secret::new(password.clone()),
            },
        };
        Connection {
            registry: HOST.to_owned(),
            provider: Provider::Generic,
            credentials,
            extra_ca: Some(self.operator_trusts.clone()),
            resolve: self.names(),
            ..Connection::default()
        }
    }

    fn fault(&self, fault: Fault) {
        self.registry.fault(fault);
    }

    /// What the registry answers to a request for the manifest.
    fn manifest(&self) -> What {
        let found = self.registry.manifest(REPOSITORY, &self.digest.to_string());
        let (kind, body) = found.unwrap_or_default();
        let headers = vec![("content-type".to_owned(), kind)];
        let body = String::from_utf8_lossy(&body).into_owned();
        What::Answer {
            status: 200,
            headers,
            body,
        }
    }

    /// The same with a header and a body of its own.
    fn answer(status: u16, headers: &[(&str, &str)], body: &str) -> What {
        let headers = headers
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        What::Answer {
            status,
            headers: headers.collect(),
            body: body.to_owned(),
        }
    }
}

/// As many headers as nobody needs.
fn headers(count: usize, length: usize) -> What {
    let value = "x".repeat(length);
    What::Headers(
        (0..count)
            .map(|number| (format!("x-header-{number}"), value.clone()))
            .collect(),
    )
}

fn an_index_of_nothing() -> What {
    Scene::answer(200, &[("content-type", IMAGE_MANIFEST)], r#"{"schemaVersion":2}"#)
}
