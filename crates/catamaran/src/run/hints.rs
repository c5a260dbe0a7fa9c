//! Wires the desk that registries notify: off unless there is a shared secret.

use std::sync::Arc;

use catamaran_controller::context::Context;
use catamaran_controller::notifications::{Answer, Inbox};
use tokio::net::TcpListener;

use crate::cli::RunArguments;
use crate::listener;
use crate::notifications::Desk;
use crate::notifications::keyfile::KeyFile;
use crate::notifications::leader::{self, Whereabouts};

/// Listens, if anybody may notify us.
pub async fn listener(arguments: &RunArguments) -> anyhow::Result<Option<TcpListener>> {
    match &arguments.notifications_secret_file {
        Some(_) => Ok(Some(listener::bind(arguments.notifications_address).await?)),
        None => Ok(None),
    }
}

/// The desk of this replica.
pub fn desk(arguments: &RunArguments, context: Arc<Context>) -> Arc<Desk> {
    let keys = arguments.notifications_secret_file.clone().map(KeyFile::open);
    let inbox = Inbox::default();
    let leader = leader::find(Whereabouts {
        client: context.client.clone(),
        namespace: arguments.namespace.clone(),
        lease: arguments.lease.clone(),
        own: arguments.pod_name.clone(),
        port: arguments.notifications_address.port(),
    });
    Arc::new(Desk {
        take: Box::new(move |sender, headers, body| {
            match keys.as_ref().and_then(KeyFile::keys) {
                Some(keys) => inbox.take(&context, &keys, sender, headers, body),
                // Without a secret nobody holds it.
                None => Answer::Refused,
            }
        }),
        leader,
    })
}
