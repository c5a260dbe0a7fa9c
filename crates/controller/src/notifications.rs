//! Notifications of registries as hints: "this tag has moved" makes us look at this tag at once, and is never believed.
//!
//! Whoever holds the shared secret can have a bounded number of tags verified, and nothing else. What is lost (a full
//! queue, too many at once, no leader just now) the next pass finds.
//!
//! Reading order: [`Keys`] says who may send, `read` what was sent, [`Pace`] how much of it counts; [`Inbox`] joins them.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use catamaran_core::reference::Reference;
use catamaran_core::routes::RouteTable;
use http::{HeaderMap, StatusCode};
use jiff::Timestamp;

use crate::context::Context;
use crate::memory::RepositoryTag;

mod keys;
mod pace;
mod read;
mod sender;

pub use keys::{Keys, KeysError};
pub use pace::Pace;
pub use read::{Hint, Message, ReadError};
pub use sender::Sender;

/// The largest notification that is read, in bytes.
pub const LARGEST: usize = 256 * 1024;

/// Until a sender that sent too much, or found no leader, may try again.
pub const RETRY_AFTER: Duration = Duration::from_secs(5);

/// What became of a notification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// So many tags will be looked at.
    Accepted(usize),
    /// Nothing in it concerns a mirror.
    Nothing,
    /// Event Grid wants to hear this code back before it sends anything.
    Handshake(String),
    /// It was not signed with one of our secrets.
    Refused,
    /// It can't be read.
    Unreadable(ReadError),
    /// There were too many.
    TooMany,
    /// Another replica leads: it must be passed on.
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
            Answer::NotLeading => "passed_on",
        }
    }
}

/// Takes notifications in.
#[derive(Debug, Default)]
pub struct Inbox {
    pace: Mutex<Pace>,
}

impl Inbox {
    /// Judges one notification, and has the tags it names verified if this replica leads.
    pub fn take(&self, context: &Context, keys: &Keys, sender: Sender, headers: &HeaderMap, body: &[u8]) -> Answer {
        let answer = self.judge(context, keys, sender, headers, body);
        context.metrics.notified(sender.as_str(), answer.word());
        tracing::debug!(
            sender = sender.as_str(),
            outcome = answer.word(),
            "a registry notified us"
        );
        answer
    }

    fn judge(&self, context: &Context, keys: &Keys, sender: Sender, headers: &HeaderMap, body: &[u8]) -> Answer {
        if !keys.admit(sender, headers, body) {
            return Answer::Refused;
        }
        let hints = match read::read(sender, headers, body) {
            Ok(Message::Hints(hints)) => hints,
            Ok(Message::Handshake(code)) => return Answer::Handshake(code),
            Err(error) => return Answer::Unreadable(error),
        };
        let table = Arc::clone(&context.table.borrow());
        let wanted: Vec<_> = hints.iter().flat_map(|hint| concerned(&table, hint)).collect();
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
            context.memories.of(&mirror).want(tag);
        }
        Answer::Accepted(allowed)
    }

    fn allowed(&self, sender: Sender, wanted: usize, now: Timestamp) -> usize {
        let mut pace = self.pace.lock().unwrap_or_else(PoisonError::into_inner);
        pace.take(sender, wanted, now)
    }
}

/// The tags of mirrors that a hint is about: a repository may belong to several.
fn concerned(table: &RouteTable, hint: &Hint) -> Vec<(catamaran_core::policy::MirrorId, RepositoryTag)> {
    let image = format!("{}/{}:{}", hint.registry, hint.repository, hint.tag);
    let Ok(reference) = Reference::parse(&image) else {
        return Vec::new();
    };
    let of = |route: &catamaran_core::routes::Route| {
        let repository = route.policy.locate(&reference)?.repository.into_owned();
        let tag = reference.tag()?.to_owned();
        let selected = route.policy.selects_tag(&repository, &tag);
        selected.then(|| (route.policy.id.clone(), RepositoryTag { repository, tag }))
    };
    table.routes().iter().filter_map(of).collect()
}

#[cfg(test)]
mod tests;
