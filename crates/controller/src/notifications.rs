//! Notifications of registries: "this tag has moved" has the tag read at once, and is never believed.
//!
//! A holder of the shared secret can have a bounded number of tags read, and nothing else. What is lost (a full queue, too
//! many at once, no leader at the moment) is found by the next pass.
//!
//! Reading order: [`Sender`] is one kind of sender; [`KeyFile`] and [`Keys`] say who may send, `read` what was sent, and
//! [`RateLimit`] how much of it counts; [`Inbox`] joins them. [`LeaderAddress`] finds the replica that must have a notification,
//! and [`NotificationServer`] is all of it over HTTP. Who accepts connections passes them in.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use catamaran_core::mirror::ReferenceName;
use catamaran_core::policy::MirrorId;
use catamaran_core::reference::Reference;
use catamaran_core::routing::RouteTable;
use http::{HeaderMap, StatusCode};
use jiff::Timestamp;

use crate::context::Context;
use crate::mirrors::MirrorTasks;

mod key_file;
mod keys;
mod leader;
mod rate_limit;
mod read;
mod sender;
mod server;

pub use key_file::KeyFile;
pub use keys::{Keys, KeysError};
pub use leader::{LeaderAddress, LeaderLookup};
pub use rate_limit::RateLimit;
pub use read::{Message, MovedTag, ReadError};
pub use sender::Sender;
pub use server::NotificationServer;

/// The largest notification that is read, in bytes.
pub const LARGEST: usize = 256 * 1024;

/// Until a sender that sent too much, or found no leader, may try again.
pub const RETRY_AFTER: Duration = Duration::from_secs(5);

/// What became of a notification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// So many tags will be read.
    Accepted(usize),
    /// Nothing in it concerns a mirror.
    Nothing,
    /// Event Grid expects this code in the answer before it sends anything.
    Handshake(String),
    /// It was not signed with one of our secrets.
    Refused,
    /// It can't be read.
    Unreadable(ReadError),
    /// There were too many.
    TooMany,
    /// Another replica leads: it must be forwarded.
    NotLeading,
}

impl Answer {
    /// The HTTP status that says so.
    pub fn status(&self) -> StatusCode {
        match self {
            Answer::Accepted(_) => StatusCode::ACCEPTED,
            Answer::Nothing => StatusCode::NO_CONTENT,
            Answer::Handshake(_) => StatusCode::OK,
            Answer::Refused => StatusCode::UNAUTHORIZED,
            Answer::Unreadable(_) => StatusCode::BAD_REQUEST,
            Answer::TooMany => StatusCode::TOO_MANY_REQUESTS,
            Answer::NotLeading => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    fn word(&self) -> &'static str {
        match self {
            Answer::Accepted(_) => "accepted",
            Answer::Nothing => "nothing",
            Answer::Handshake(_) => "handshake",
            Answer::Refused => "refused",
            Answer::Unreadable(_) => "unreadable",
            Answer::TooMany => "too_many",
            Answer::NotLeading => "forwarded",
        }
    }
}

/// Takes notifications in.
#[derive(Debug, Default)]
pub struct Inbox {
    rate_limit: Mutex<RateLimit>,
}

impl Inbox {
    /// Checks one notification, and has the tags that it names read if this replica leads.
    pub fn take(
        &self,
        context: &Context,
        tasks: &MirrorTasks,
        keys: &Keys,
        sender: Sender,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Answer {
        let answer = self.check(context, tasks, keys, sender, headers, body);
        context.metrics.notified(sender.as_str(), answer.word());
        tracing::debug!(
            sender = sender.as_str(),
            outcome = answer.word(),
            "a registry has sent a notification"
        );
        answer
    }

    fn check(
        &self,
        context: &Context,
        tasks: &MirrorTasks,
        keys: &Keys,
        sender: Sender,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Answer {
        if !keys.admit(sender, headers, body) {
            return Answer::Refused;
        }
        let moved = match read::read(sender, headers, body) {
            Ok(Message::Moved(tags)) => tags,
            Ok(Message::Handshake(code)) => return Answer::Handshake(code),
            Err(error) => return Answer::Unreadable(error),
        };
        let table = Arc::clone(&context.table.borrow());
        let wanted: Vec<_> = moved.iter().flat_map(|tag| concerned(&table, tag)).collect();
        if wanted.is_empty() {
            return Answer::Nothing;
        }
        let allowed = self.allowed(sender, wanted.len(), context.clock.now());
        if allowed == 0 {
            return Answer::TooMany;
        }
        if !context.leads() {
            return Answer::NotLeading;
        }
        for (mirror, tag) in wanted.into_iter().take(allowed) {
            tasks.want(&mirror, vec![tag], false);
        }
        Answer::Accepted(allowed)
    }

    fn allowed(&self, sender: Sender, wanted: usize, now: Timestamp) -> usize {
        let mut limit = self.rate_limit.lock().unwrap_or_else(PoisonError::into_inner);
        limit.take(sender, wanted, now)
    }
}

/// The tags of mirrors that a notification is about: a repository may belong to several.
fn concerned(table: &RouteTable, moved: &MovedTag) -> Vec<(MirrorId, ReferenceName)> {
    let image = format!("{}/{}:{}", moved.registry, moved.repository, moved.tag);
    let Ok(reference) = Reference::parse(&image) else {
        return Vec::new();
    };
    let of = |route: &catamaran_core::routing::Route| {
        let repository = route.policy.locate(&reference)?.repository.into_owned();
        let tag = reference.tag()?.to_owned();
        let selected = route.policy.selects_tag(&repository, &tag);
        let name = ReferenceName {
            repository,
            reference: tag,
        };
        selected.then(|| (route.policy.id.clone(), name))
    };
    table.routes().iter().filter_map(of).collect()
}

#[cfg(test)]
mod tests;
