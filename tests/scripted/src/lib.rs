//! An in-process registry that follows a script, for tests and benchmarks.
//!
//! It speaks TLS on loopback under any name (its authority signs a certificate for whatever name a client asks for), serves
//! the repositories it was given and takes what is pushed, misbehaves where it is told to, and remembers every request with the credentials it
//! carried. A client reaches it by a [`Connection`] that pins names to its address.
//!
//! ```no_run
//! # async fn example() -> std::io::Result<()> {
//! use catamaran_core::policy::Provider;
//! use catamaran_registry::{Client, Limits};
//! use catamaran_scripted_registry::{Fault, Registry, What};
//!
//! let registry = Registry::start().await?;
//! registry.push("krateo/web", "1.0", "first");
//! registry.fault(Fault::on("/token", What::status(503)).times(1));
//! let client = Client::new(registry.connection("ghcr.io", Provider::GitHub), Limits::default());
//! # Ok(())
//! # }
//! ```

use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use catamaran_core::digest::Digest;
use catamaran_core::policy::Provider;
use catamaran_registry::Connection;
use rustls::server::danger::ClientCertVerifier;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

mod authority;
mod body;
mod content;
pub mod conversations;
mod fault;
mod serve;
mod state;

pub use authority::{Certificate, Clients};
pub use content::{IMAGE_INDEX, IMAGE_MANIFEST};
pub use fault::{Fault, What};
pub use state::{Auth, Recorded, Wire};

use authority::Authority;
use state::State;

/// A running registry; it ends when it is dropped.
pub struct Registry {
    state: Arc<State>,
    authority: Arc<Authority>,
    address: SocketAddr,
    server: JoinHandle<()>,
}

impl Registry {
    /// Starts on a free port of 127.0.0.1: empty, no latency, tokens for everyone.
    pub async fn start() -> std::io::Result<Registry> {
        Registry::start_for(Clients::Anyone, "").await
    }

    /// The same, for clients with certificates of `authority` (PEM).
    pub async fn start_for(clients: Clients, authority: &str) -> std::io::Result<Registry> {
        let clients = authority::verifier(clients, authority)?;
        Registry::serve(clients, Authority::new().map_err(std::io::Error::other)?).await
    }

    /// The same with the CA of another one: who trusts one trusts both.
    pub async fn start_beside(&self) -> std::io::Result<Registry> {
        let clients = authority::verifier(Clients::Anyone, "")?;
        Registry::serve(clients, self.authority.again()).await
    }

    async fn serve(clients: Arc<dyn ClientCertVerifier>, authority: Authority) -> std::io::Result<Registry> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let state = Arc::new(State::default());
        let authority = Arc::new(authority);
        let server = tokio::spawn(serve::serve(listener, state.clone(), authority.clone(), clients));
        Ok(Registry {
            state,
            authority,
            address,
            server,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The certificate (PEM) that its clients must trust.
    pub fn ca_pem(&self) -> Vec<u8> {
        self.authority.pem().into_bytes()
    }

    /// A connection to this registry under a name, without credentials. Only this name is pinned.
    pub fn connection(&self, host: &str, provider: Provider) -> Connection {
        Connection {
            registry: host.to_owned(),
            provider,
            extra_ca: Some(self.ca_pem()),
            resolve: vec![(host.to_owned(), self.address)],
            ..Connection::default()
        }
    }

    /// Pushes a small image made of `content`: a config, a layer and a manifest.
    pub fn push(&self, repository: &str, tag: &str, content: &str) -> Digest {
        self.state.content(|all| all.push(repository, tag, content))
    }

    /// Puts a manifest or index; with a tag, if one is given.
    pub fn put_manifest(
        &self,
        repository: &str,
        tag: Option<&str>,
        media_type: &str,
        body: impl Into<Bytes>,
    ) -> Digest {
        self.state
            .content(|all| all.put_manifest(repository, tag, media_type, body.into()))
    }

    /// Puts a blob.
    pub fn put_blob(&self, body: impl Into<Bytes>) -> Digest {
        self.state.content(|all| all.put_blob(body.into()))
    }

    /// Points a tag at a manifest.
    pub fn tag(&self, repository: &str, tag: &str, digest: &Digest) {
        self.state.content(|all| all.tag(repository, tag, digest));
    }

    /// Removes a tag; the manifest stays.
    pub fn untag(&self, repository: &str, tag: &str) {
        self.state.content(|all| all.untag(repository, tag));
    }

    /// Removes what a clean-up takes for unused: a manifest of this repository, or a blob of all of them.
    pub fn clean_up(&self, repository: &str, digest: &Digest) {
        self.state.content(|all| all.clean_up(repository, digest));
    }

    /// Removes a repository with everything in it.
    pub fn delete_repository(&self, repository: &str) {
        self.state.content(|all| all.delete(repository));
    }

    /// How clients must authenticate. Tokens that were issued are forgotten.
    pub fn set_auth(&self, auth: Auth) {
        self.state.behaviour(|behaviour| behaviour.auth = auth);
        self.revoke_tokens();
    }

    /// The one account that gets tokens or may use Basic; `None`: everyone.
    pub fn set_account(&self, account: Option<(&str, &str)>) {
        let account = account.map(|(user, password)| (user.to_owned(), password.to_owned()));
        self.state.behaviour(|behaviour| behaviour.account = account);
    }

    /// What stands before the names of repositories in the scopes of challenges and tokens, as where a proxy adds a path. At first nothing.
    pub fn set_scope_prefix(&self, prefix: &str) {
        self.state
            .behaviour(|behaviour| prefix.clone_into(&mut behaviour.scope_prefix));
    }

    /// Whether each repository has a token endpoint of its own, which gives tokens for no other. At first none has.
    pub fn set_own_realms(&self, own_realms: bool) {
        self.state.behaviour(|behaviour| behaviour.own_realms = own_realms);
    }

    /// Makes every token that was issued worthless.
    pub fn revoke_tokens(&self) {
        self.state.tokens.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Tags and referrers in a page; the client's `n` counts when it is smaller. At first 1000.
    pub fn set_page_size(&self, tags: usize) {
        self.state.behaviour(|behaviour| behaviour.page_size = tags.max(1));
    }

    /// Whether pages are linked. At first they are.
    pub fn set_links(&self, links: bool) {
        self.state.behaviour(|behaviour| behaviour.links = links);
    }

    /// The certificate (PEM) that it shows for a name, when it shows this kind.
    pub fn certificate_pem(&self, certificate: Certificate, name: &str) -> Vec<u8> {
        self.authority
            .leaf_pem(certificate, name)
            .unwrap_or_default()
            .into_bytes()
    }

    /// Redirects blobs to `https://host[:port]`, or to another scheme where it has one, which serves them for a signed URL, and only without a credential. That host
    /// may be this registry under another name.
    pub fn set_blob_host(&self, host: Option<&str>) {
        self.state
            .behaviour(|behaviour| behaviour.blob_host = host.map(str::to_owned));
    }

    /// Whether a blob of another repository can be mounted. At first it can; otherwise an upload begins instead.
    pub fn set_mounts(&self, mounts: bool) {
        self.state.behaviour(|behaviour| behaviour.mounts = mounts);
    }

    /// Whether there is a referrers API. At first there is none, as at GHCR.
    pub fn set_referrers(&self, referrers: bool) {
        self.state.behaviour(|behaviour| behaviour.referrers = referrers);
    }

    /// Whether the answer to a manifest says where it is. At first it does; ECR's does not.
    pub fn set_locations(&self, locations: bool) {
        self.state.behaviour(|behaviour| behaviour.locations = locations);
    }

    /// Uploads that were begun and neither ended nor cancelled.
    pub fn uploads(&self) -> usize {
        self.state.content(|all| all.uploads())
    }

    /// What a tag or digest stands for: media type and content.
    pub fn manifest(&self, repository: &str, reference: &str) -> Option<(String, Bytes)> {
        self.state.content(|all| {
            let (_, stored) = all.repository(repository)?.manifest(reference)?;
            Some((stored.media_type, stored.body))
        })
    }

    /// A blob that a repository has.
    pub fn blob(&self, repository: &str, digest: &Digest) -> Option<Bytes> {
        self.state.content(|all| all.blob(repository, &digest.to_string()))
    }

    /// The time before each answer.
    pub fn set_latency(&self, latency: Duration) {
        self.state.behaviour(|behaviour| behaviour.latency = latency);
    }

    /// What happens below HTTP, from the next connection on.
    pub fn set_wire(&self, wire: Wire) {
        self.state.behaviour(|behaviour| behaviour.wire = wire);
    }

    /// Which certificate it shows, from the next connection on.
    pub fn set_certificate(&self, certificate: Certificate) {
        self.authority.show(certificate);
    }

    /// Adds a fault; of several that match the first that was added counts.
    pub fn fault(&self, fault: Fault) {
        self.state.behaviour(|behaviour| behaviour.faults.push(fault));
    }

    /// Behaves again.
    pub fn clear_faults(&self) {
        self.state.behaviour(|behaviour| behaviour.faults.clear());
    }

    /// Every request since the start, or since [`Registry::forget_requests`].
    pub fn requests(&self) -> Vec<Recorded> {
        self.state
            .requests
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// How many requests had `part` in their path.
    pub fn count(&self, part: &str) -> usize {
        let requests = self.state.requests.lock().unwrap_or_else(PoisonError::into_inner);
        requests.iter().filter(|request| request.path.contains(part)).count()
    }

    /// Forgets the requests.
    pub fn forget_requests(&self) {
        self.state
            .requests
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }

    /// How many TCP connections came in.
    pub fn connections(&self) -> usize {
        self.state.connections.load(Ordering::Relaxed)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registry")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}
