//! Where the tags of a mirror are read: registry clients, and what other mirrors have read of the same repositories.

use std::sync::Arc;

use catamaran_core::mirror::ReadFailure;
use catamaran_core::policy::MirrorPolicy;
use catamaran_core::side::{Side, Sides};
use catamaran_registry::Client;
use futures::future::{BoxFuture, FutureExt as _};

use super::readings::Readings;
use crate::clock::Clock;
use crate::connections::ConnectionError;
use crate::context::Context;

/// Gives the client of each side of a mirror.
pub(super) trait Registries: Send + Sync {
    /// The client of one side.
    fn client<'a>(&'a self, policy: &'a MirrorPolicy, side: Side) -> BoxFuture<'a, Result<Client, ConnectionError>>;
}

impl Registries for Context {
    fn client<'a>(&'a self, policy: &'a MirrorPolicy, side: Side) -> BoxFuture<'a, Result<Client, ConnectionError>> {
        self.connections.client(policy, side).boxed()
    }
}

/// Clients that were made already.
impl Registries for Sides<Client> {
    fn client<'a>(&'a self, _: &'a MirrorPolicy, side: Side) -> BoxFuture<'a, Result<Client, ConnectionError>> {
        futures::future::ready(Ok(self[side].clone())).boxed()
    }
}

/// What reading works with.
#[derive(Clone)]
pub(super) struct Sources {
    pub(super) clock: Clock,
    /// What several mirrors have read of the same repositories.
    pub(super) readings: Readings,
    pub(super) registries: Arc<dyn Registries>,
}

/// The two clients of a mirror; a side without one can't be read.
pub(super) type Clients = Sides<Result<Client, ReadFailure>>;

/// The clients of both sides.
pub(super) async fn clients(registries: &dyn Registries, policy: &MirrorPolicy) -> Clients {
    let client = async |side| {
        let client = registries.client(policy, side).await;
        client.map_err(|error| ReadFailure {
            throttled: false,
            reason: "CredentialsUnavailable",
            message: error.to_string(),
        })
    };
    let (primary, fallback) = tokio::join!(client(Side::Primary), client(Side::Fallback));
    Sides { primary, fallback }
}
