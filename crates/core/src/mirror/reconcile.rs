//! A person asks for everything to be verified and proven now, instead of at the next interval.

use jiff::Timestamp;

/// The request that is being followed, and the one that was followed last. A request is a word of the one who asks.
#[derive(Clone, Debug, Default)]
pub(super) struct Reconcile {
    asked: Option<(String, Timestamp)>,
    done: Option<String>,
    /// As in status.
    read: Option<String>,
}

impl Reconcile {
    /// Somebody asks; the same word again changes nothing.
    pub(super) fn ask(&mut self, word: &str, now: Timestamp) {
        let asked = self.asked.as_ref().is_some_and(|(known, _)| known == word);
        if !asked && self.handled() != Some(word) {
            self.asked = Some((word.to_owned(), now));
        }
    }

    /// Since when a request is being followed.
    pub(super) fn since(&self) -> Option<Timestamp> {
        self.asked.as_ref().map(|(_, since)| *since)
    }

    /// All that was asked for has been done.
    pub(super) fn end(&mut self) {
        self.done = self.asked.take().map(|(word, _)| word).or(self.done.take());
    }

    /// What the status says.
    pub(super) fn read(&mut self, handled: Option<&str>) {
        if self
            .asked
            .as_ref()
            .is_some_and(|(word, _)| Some(word.as_str()) == handled)
        {
            self.asked = None;
        }
        self.read = handled.map(str::to_owned);
    }

    /// The request that was followed last.
    pub(super) fn handled(&self) -> Option<&str> {
        self.done.as_deref().or(self.read.as_deref())
    }

    /// Another replica leads: it is the one that follows.
    pub(super) fn forget(&mut self) {
        self.done = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn request_is_followed_once_however_often_it_is_read() {
        let mut reconcile = Reconcile::default();
        reconcile.ask("one", at(5));
        reconcile.ask("one", at(9));
        assert_eq!(reconcile.since(), Some(at(5)));
        reconcile.end();
        assert_eq!((reconcile.since(), reconcile.handled()), (None, Some("one")));
        reconcile.ask("one", at(20));
        assert_eq!(reconcile.since(), None);
        reconcile.ask("two", at(30));
        assert_eq!((reconcile.since(), reconcile.handled()), (Some(at(30)), Some("one")));
    }

    #[test]
    fn request_that_another_leader_has_followed_is_over() {
        let mut reconcile = Reconcile::default();
        reconcile.ask("one", at(5));
        reconcile.read(Some("one"));
        assert_eq!((reconcile.since(), reconcile.handled()), (None, Some("one")));
    }
}
