//! Takes registries' notifications, if there is a file with shared secrets.

use std::sync::Arc;
use std::time::Duration;

use catamaran_controller::context::Context;
use catamaran_controller::mirrors::MirrorTasks;
use catamaran_controller::notifications::{KeyFile, LeaderAddress, LeaderLookup, NotificationServer};
use catamaran_listener::{Counts, KeepAlive, Limits, Rate};
use tokio_util::sync::CancellationToken;

use crate::cli::RunArguments;
use crate::http::Port;

/// A server of notifications, and where it listens.
pub struct Notifications {
    port: Port,
    server: Arc<NotificationServer>,
}

/// Listens, if there is a file with shared secrets.
pub fn listen(
    arguments: &RunArguments,
    context: &Arc<Context>,
    tasks: &Arc<MirrorTasks>,
) -> anyhow::Result<Option<Notifications>> {
    let Some(file) = arguments.notifications_secret_file.clone() else {
        return Ok(None);
    };
    let port = Port::bind(arguments.notifications_address, limits())?;
    let leader = LeaderAddress::new(LeaderLookup {
        client: context.client.clone(),
        namespace: arguments.namespace.clone(),
        lease: arguments.lease.clone(),
        own: arguments.pod_name.clone(),
        port: arguments.notifications_address.port(),
    });
    let server = NotificationServer::new(Arc::clone(context), Arc::clone(tasks), KeyFile::open(file), leader);
    Ok(Some(Notifications {
        port,
        server: Arc::new(server),
    }))
}

impl Notifications {
    /// What its port counts.
    pub fn counts(&self) -> Arc<Counts> {
        self.port.counts()
    }

    /// Serves until `shutdown`.
    pub async fn serve(self, shutdown: CancellationToken) {
        let server = self.server;
        let answer = move |request| {
            let server = Arc::clone(&server);
            async move { server.respond(request).await }
        };
        self.port.serve(shutdown, answer).await;
    }
}

/// A sender sends one notification and leaves. All may come through one ingress; with the largest bodies all that is held is 8 MiB.
fn limits() -> Limits {
    Limits {
        connections: 32,
        per_address: 24,
        rate: Rate {
            burst: 128,
            per_second: 50,
        },
        handshake: Duration::from_secs(5),
        head: Duration::from_secs(5),
        // The body, and the way to the replica that leads.
        request: Duration::from_secs(30),
        write: Duration::from_secs(5),
        idle: Duration::from_secs(5),
        keep_alive: KeepAlive::Off,
        head_size: 16 << 10,
        kernel_buffers: 64 << 10,
    }
}
