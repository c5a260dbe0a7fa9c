//! Hands what the feed sees to everyone who needs it, and clears away what belonged to mirrors that are gone.

use std::sync::Arc;
use std::time::{Duration, Instant};

use catamaran_controller::contact::Contact;
use catamaran_controller::context::Context;
use catamaran_controller::feed::{RESOURCES, View as Seen};
use catamaran_core::routes::RouteTable;
use catamaran_webhook::View;
use tokio::sync::watch;

/// How often the age of the view is brought up to date.
const TICK: Duration = Duration::from_secs(1);

/// Runs until the feed ends.
pub async fn run(
    context: Arc<Context>,
    mut seen: watch::Receiver<Seen>,
    table: watch::Sender<Arc<RouteTable>>,
    view: Arc<View>,
    contact: Contact,
) {
    loop {
        tokio::select! {
            changed = seen.changed() => {
                if changed.is_err() {
                    return;
                }
                let seen = seen.borrow_and_update().clone();
                if seen.complete {
                    hand_out(&context, &seen, &table, &view);
                }
            }
            () = tokio::time::sleep(TICK) => {}
        }
        // A view is as fresh as the last answer of the slowest of the watches that it is built from.
        let now = Instant::now();
        if let Some(heard) = contact.age(&RESOURCES).and_then(|age| now.checked_sub(age))
            && seen.borrow().complete
        {
            view.touch(heard);
        }
    }
}

fn hand_out(context: &Context, seen: &Seen, table: &watch::Sender<Arc<RouteTable>>, view: &View) {
    view.publish(RouteTable::clone(&seen.table), Instant::now());
    table.send_replace(Arc::clone(&seen.table));
    context.memories.retain(|uid| seen.mirrors.contains_key(uid));
    context.crews.retain(|uid| seen.mirrors.contains_key(uid));
    context.connections.retain(|uid| seen.mirrors.contains_key(uid));
    context.readings.retain(|uid| seen.mirrors.contains_key(uid));
    context
        .metrics
        .retain(|name| seen.mirrors.values().any(|mirror| mirror == name));
}
