//! News of mirrors, from the one watch of them to the tasks that run them.
//!
//! Nothing is lost and nothing piles up: of each mirror only the latest news waits, however slow the reader is.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use catamaran_api::policy::PolicyError;
use catamaran_core::mirror::failover::Standing;
use catamaran_core::policy::MirrorPolicy;
use kube::core::error_boundary::InvalidObject;
use tokio::sync::Notify;

use super::MirrorObject;

/// What happened to a mirror.
#[derive(Clone, Debug)]
pub enum MirrorNews {
    /// It was created or changed, or is there at a (re)list.
    Applied {
        /// The object as the API server has it.
        mirror: Arc<MirrorObject>,
        /// Its spec, parsed once for each generation.
        policy: Result<Arc<MirrorPolicy>, PolicyError>,
        /// The last spec of this mirror that made sense, which stays in force while `policy` is an error.
        last_valid: Option<ValidPolicy>,
        /// A flip of it that is stored apart from its status.
        flip: Option<Arc<Standing>>,
    },
    /// It is there, but can't be decoded.
    Unreadable {
        /// Its metadata and the error.
        invalid: Arc<InvalidObject>,
        /// The last spec of this mirror that made sense, which stays in force.
        last_valid: Option<ValidPolicy>,
    },
    /// It is gone.
    Deleted {
        /// Its UID.
        uid: Arc<str>,
    },
    /// Evidence of it that this replica wrote was deleted or changed by others: write all of it again.
    EvidenceLost {
        /// Its UID.
        uid: Arc<str>,
    },
    /// A list has ended.
    Listed {
        /// UIDs of the mirrors that exist, those whose news still waits included.
        uids: BTreeSet<Arc<str>>,
    },
}

/// A spec that made sense.
#[derive(Clone, Debug)]
pub struct ValidPolicy {
    /// The spec, parsed.
    pub policy: Arc<MirrorPolicy>,
    /// The generation that it is.
    pub generation: i64,
}

/// A channel for [`MirrorNews`].
pub(crate) fn channel() -> (NewsSender, NewsReceiver) {
    let queue = Arc::new(Queue::default());
    (NewsSender(Arc::clone(&queue)), NewsReceiver(queue))
}

/// The publisher's end.
#[derive(Clone, Debug)]
pub(crate) struct NewsSender(Arc<Queue>);

/// The end of the one reader.
#[derive(Debug)]
pub struct NewsReceiver(Arc<Queue>);

#[derive(Debug, Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    more: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    order: VecDeque<Topic>,
    /// What `order` has.
    queued: HashSet<Topic>,
    latest: HashMap<Arc<str>, MirrorNews>,
    exists: BTreeSet<Arc<str>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Topic {
    Mirror(Arc<str>),
    Evidence(Arc<str>),
    List,
}

impl NewsSender {
    /// A mirror exists: [`MirrorNews::Applied`] or [`MirrorNews::Unreadable`].
    pub fn exists(&self, uid: &Arc<str>, news: MirrorNews) {
        let mut waiting = self.0.lock();
        waiting.exists.insert(Arc::clone(uid));
        waiting.latest.insert(Arc::clone(uid), news);
        self.0.announce(waiting, Topic::Mirror(Arc::clone(uid)));
    }

    /// A mirror is gone.
    pub fn deleted(&self, uid: &Arc<str>) {
        let mut waiting = self.0.lock();
        waiting.exists.remove(uid);
        let news = MirrorNews::Deleted { uid: Arc::clone(uid) };
        waiting.latest.insert(Arc::clone(uid), news);
        self.0.announce(waiting, Topic::Mirror(Arc::clone(uid)));
    }

    /// Evidence of a mirror is to be written again, if it still exists.
    pub fn evidence_lost(&self, uid: &Arc<str>) {
        let waiting = self.0.lock();
        if waiting.exists.contains(uid) {
            self.0.announce(waiting, Topic::Evidence(Arc::clone(uid)));
        }
    }

    /// A list has ended.
    pub fn listed(&self) {
        let mut waiting = self.0.lock();
        // It says what exists, so it follows what waits.
        if waiting.queued.remove(&Topic::List) {
            waiting.order.retain(|topic| *topic != Topic::List);
        }
        self.0.announce(waiting, Topic::List);
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn announce(&self, mut waiting: MutexGuard<'_, Waiting>, topic: Topic) {
        if waiting.queued.insert(topic.clone()) {
            waiting.order.push_back(topic);
        }
        drop(waiting);
        self.more.notify_one();
    }
}

impl Waiting {
    fn next(&mut self) -> Option<MirrorNews> {
        loop {
            let topic = self.order.pop_front()?;
            self.queued.remove(&topic);
            match topic {
                Topic::Mirror(uid) => {
                    if let Some(news) = self.latest.remove(&uid) {
                        return Some(news);
                    }
                }
                Topic::Evidence(uid) => return Some(MirrorNews::EvidenceLost { uid }),
                Topic::List => {
                    let uids = self.exists.clone();
                    return Some(MirrorNews::Listed { uids });
                }
            }
        }
    }
}

impl NewsReceiver {
    /// The next news; waits for it. Can be cancelled without losing any.
    pub async fn next(&mut self) -> MirrorNews {
        loop {
            if let Some(news) = self.0.lock().next() {
                return news;
            }
            self.0.more.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    fn unreadable(uid: &str, error: &str) -> MirrorNews {
        let mut invalid = InvalidObject {
            error: error.to_owned(),
            metadata: kube::api::ObjectMeta::default(),
        };
        invalid.metadata.uid = Some(uid.to_owned());
        MirrorNews::Unreadable {
            invalid: Arc::new(invalid),
            last_valid: None,
        }
    }

    fn words(receiver: &mut NewsReceiver) -> Vec<String> {
        let word = |news| match news {
            MirrorNews::Applied { .. } => "applied".to_owned(),
            MirrorNews::Unreadable { invalid, .. } => invalid.error.clone(),
            MirrorNews::Deleted { uid } => format!("deleted {uid}"),
            MirrorNews::EvidenceLost { uid } => format!("evidence {uid}"),
            MirrorNews::Listed { uids } => format!("listed {}", uids.into_iter().collect::<Vec<_>>().join(" ")),
        };
        std::iter::from_fn(|| receiver.next().now_or_never())
            .map(word)
            .collect()
    }

    #[test]
    fn news_of_one_mirror_waits_once_with_the_latest() {
        let (sender, mut receiver) = channel();
        let (a, b) = (Arc::from("a"), Arc::from("b"));
        sender.exists(&a, unreadable("a", "a1"));
        sender.exists(&b, unreadable("b", "b1"));
        sender.exists(&a, unreadable("a", "a2"));
        sender.evidence_lost(&a);
        sender.evidence_lost(&a);
        assert_eq!(words(&mut receiver), ["a2", "b1", "evidence a"]);
        sender.exists(&a, unreadable("a", "a3"));
        assert_eq!(words(&mut receiver), ["a3"]);
        sender.deleted(&a);
        sender.evidence_lost(&a);
        assert_eq!(words(&mut receiver), ["deleted a"]);
    }

    #[test]
    fn list_names_what_exists_when_it_is_read() {
        let (sender, mut receiver) = channel();
        let (a, b) = (Arc::from("a"), Arc::from("b"));
        sender.exists(&a, unreadable("a", "a1"));
        sender.exists(&b, unreadable("b", "b1"));
        sender.listed();
        sender.deleted(&a);
        assert_eq!(words(&mut receiver), ["deleted a", "b1", "listed b"]);
        // A restored mirror has the UID that it had.
        sender.deleted(&b);
        sender.listed();
        sender.exists(&b, unreadable("b", "b2"));
        sender.listed();
        assert_eq!(words(&mut receiver), ["b2", "listed b"]);
    }

    #[tokio::test]
    async fn reader_that_waits_is_woken() {
        let (sender, mut receiver) = channel();
        let waiting = tokio::spawn(async move { receiver.next().await });
        tokio::task::yield_now().await;
        sender.listed();
        assert!(matches!(waiting.await.unwrap(), MirrorNews::Listed { .. }));
    }
}
