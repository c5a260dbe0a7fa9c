//! Which references mirrors are asked to read because pods wait for them: each once in a while, and no more than a namespace's
//! share.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use catamaran_core::policy::MirrorId;
use catamaran_core::rescue::Wanted;
use tokio::time::Instant;

use super::pace::NamespaceBudget;

/// References that are remembered as asked for.
const MOST: usize = 10_000;

/// References that a namespace's pods can have read at once.
const BURST: u32 = 200;

/// And so many a second after that.
const A_SECOND: u32 = 2;

/// How long the same is not asked for again: what is known by then is in the evidence, and what neither side has will not be
/// there soon. Doubled each time.
const AGAIN: Duration = Duration::from_mins(1);

/// The same where a kubelet was told that it does not exist.
const URGENT_AGAIN: Duration = Duration::from_secs(10);

/// The longest of those times.
const LONGEST: Duration = Duration::from_mins(10);

/// References of one mirror and whether they are urgent.
pub(crate) type Batches = BTreeMap<(MirrorId, bool), Vec<(String, String)>>;

/// What was asked for, and what is to be asked for next.
#[derive(Debug)]
pub(crate) struct Wants {
    asked: HashMap<Wanted, Asked>,
    budget: NamespaceBudget,
    urgent_budget: NamespaceBudget,
    batches: Batches,
}

#[derive(Clone, Copy, Debug)]
struct Asked {
    next: Instant,
    pause: Duration,
}

impl Wants {
    pub(crate) fn new() -> Wants {
        Wants {
            asked: HashMap::new(),
            budget: NamespaceBudget::new(BURST, A_SECOND),
            urgent_budget: NamespaceBudget::new(BURST, A_SECOND),
            batches: BTreeMap::new(),
        }
    }

    /// Takes what a pod of this namespace wants.
    pub(crate) fn add(&mut self, namespace: &str, wanted: Wanted, now: Instant) {
        let pause = match self.asked.get(&wanted) {
            Some(asked) if now < asked.next => return,
            Some(asked) => asked.pause.saturating_mul(2).min(LONGEST),
            None if wanted.is_urgent => URGENT_AGAIN,
            None => AGAIN,
        };
        if self.asked.len() >= MOST {
            self.asked.retain(|_, asked| now < asked.next);
        }
        let budget = if wanted.is_urgent {
            &mut self.urgent_budget
        } else {
            &mut self.budget
        };
        if self.asked.len() >= MOST || !budget.spend(namespace, now) {
            return;
        }
        let next = now + pause;
        self.asked.insert(wanted.clone(), Asked { next, pause });
        let batch = self.batches.entry((wanted.mirror, wanted.is_urgent)).or_default();
        batch.push((wanted.repository, wanted.reference));
    }

    /// What to ask for now.
    pub(crate) fn take(&mut self) -> Batches {
        std::mem::take(&mut self.batches)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(reference: &str, is_urgent: bool) -> Wanted {
        Wanted {
            mirror: MirrorId {
                name: "apps".into(),
                uid: "m1".into(),
            },
            repository: "web".to_owned(),
            reference: reference.to_owned(),
            is_urgent,
        }
    }

    fn asked(wants: &mut Wants) -> Vec<String> {
        let batches = wants.take().into_values().flatten();
        batches.map(|(_, reference)| reference).collect()
    }

    #[test]
    fn reference_is_asked_for_once_in_a_while() {
        let now = Instant::now();
        let mut wants = Wants::new();
        for _ in 0..3 {
            wants.add("shop", wanted("1", false), now);
        }
        assert_eq!(asked(&mut wants), ["1"]);
        wants.add("shop", wanted("1", false), now + Duration::from_secs(59));
        assert_eq!(asked(&mut wants), [""; 0]);
        // A kubelet's word makes it another question.
        wants.add("shop", wanted("1", true), now);
        assert_eq!(asked(&mut wants), ["1"]);
        wants.add("shop", wanted("1", false), now + AGAIN);
        assert_eq!(asked(&mut wants), ["1"]);
        wants.add("shop", wanted("1", false), now + AGAIN * 2);
        assert_eq!(asked(&mut wants), [""; 0], "twice as long");
        wants.add("shop", wanted("1", false), now + AGAIN * 3);
        assert_eq!(asked(&mut wants), ["1"]);
    }

    #[test]
    fn namespace_can_not_spend_the_share_of_others() {
        let now = Instant::now();
        let mut wants = Wants::new();
        for tag in 0..1_000 {
            wants.add("shop", wanted(&tag.to_string(), false), now);
        }
        assert_eq!(asked(&mut wants).len(), 200);
        wants.add("blog", wanted("theirs", false), now);
        wants.add("shop", wanted("urgent", true), now);
        assert_eq!(asked(&mut wants), ["theirs", "urgent"]);
        wants.add("shop", wanted("later", false), now + Duration::from_secs(1));
        assert_eq!(asked(&mut wants), ["later"]);
    }
}
