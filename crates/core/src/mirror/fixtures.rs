//! What the tests of mirrors share.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::event::{RequestId, Requests};
use super::in_use::{InUse, Use};
use super::parity::{Ledger, Observed, Rules};
use crate::digest::Digest;
use crate::policy::MirrorPolicy;
use crate::routing::fixtures::{apps, listing};
use crate::side::Sides;

/// Seconds after an arbitrary instant, which reads 2026-01-01T00:00:00Z.
pub(super) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_767_225_600 + seconds).unwrap()
}

/// A mirror of `web` and `api`.
pub(super) fn listed() -> MirrorPolicy {
    let rules = [("web", "web", "devopskev/web"), ("api", "api", "devopskev/api")];
    listing(apps(), &rules)
}

pub(super) const RULES: Rules = Rules {
    grace: Duration::from_mins(2),
    settled: Duration::from_hours(24),
    subset: None,
};

/// What a letter stands for: `-` absent, `?` not read, any other content of its own.
pub(super) fn seen(letters: &str) -> Sides<Observed> {
    let observed = |letter: u8| match letter {
        b'-' => Observed::Absent,
        b'?' => Observed::Unknown,
        other => Observed::Present(content(char::from(other))),
    };
    let letters = letters.as_bytes();
    Sides {
        primary: observed(letters[0]),
        fallback: observed(letters[1]),
    }
}

/// The digest of content that is called by a letter.
pub(super) fn content(letter: char) -> Digest {
    Digest::of(letter.to_string().as_bytes())
}

/// A ledger of this mirror.
pub(super) fn ledger(policy: &MirrorPolicy) -> Ledger {
    let mut ledger = Ledger::new();
    ledger.set_policy(&Arc::new(policy.clone()));
    ledger
}

/// Looks at tags of `web` at second 0: each with what was seen of it.
pub(super) fn ledger_of(policy: &MirrorPolicy, looks: &[(&str, &str)]) -> Ledger {
    let mut ledger = ledger(policy);
    for (tag, letters) in looks {
        ledger.record("web", tag, seen(letters), at(0), &RULES);
    }
    ledger
}

/// References of `web` that workloads' templates name, and that pods have started with.
pub(super) fn used(references: &[&str]) -> InUse {
    let usage = Use {
        started: true,
        template: true,
        needed_on: Sides {
            primary: true,
            fallback: true,
        },
    };
    let references = references.iter().map(|reference| ((*reference).to_owned(), usage));
    InUse {
        references: BTreeMap::from([("web".to_owned(), references.collect())]),
        ..InUse::default()
    }
}

/// A request that nobody else has made.
pub(super) fn foreign() -> RequestId {
    let mut requests = Requests::default();
    (0..1000).map(|_| requests.next()).last().unwrap()
}
