//! Takes registries' notifications, if there is a file with shared secrets.

use std::sync::Arc;

use catamaran_controller::context::Context;
use catamaran_controller::mirrors::MirrorTasks;
use catamaran_controller::notifications::{KeyFile, LeaderAddress, LeaderLookup, MAX_CONNECTIONS, NotificationServer};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::cli::RunArguments;
use crate::listener;

/// A server of notifications, and where it listens.
pub struct Notifications {
    listener: TcpListener,
    server: Arc<NotificationServer>,
}

/// Listens, if there is a file with shared secrets.
pub async fn listen(
    arguments: &RunArguments,
    context: &Arc<Context>,
    tasks: &Arc<MirrorTasks>,
) -> anyhow::Result<Option<Notifications>> {
    let Some(file) = arguments.notifications_secret_file.clone() else {
        return Ok(None);
    };
    let listener = listener::bind(arguments.notifications_address).await?;
    let leader = LeaderAddress::new(LeaderLookup {
        client: context.client.clone(),
        namespace: arguments.namespace.clone(),
        lease: arguments.lease.clone(),
        own: arguments.pod_name.clone(),
        port: arguments.notifications_address.port(),
    });
    let server = NotificationServer::new(Arc::clone(context), Arc::clone(tasks), KeyFile::open(file), leader);
    Ok(Some(Notifications {
        listener,
        server: Arc::new(server),
    }))
}

impl Notifications {
    /// Serves until `shutdown`.
    pub async fn serve(self, shutdown: CancellationToken) {
        let serve = |stream| Arc::clone(&self.server).serve(listener::http(), stream);
        listener::accept(self.listener, MAX_CONNECTIONS, shutdown, serve).await;
    }
}
