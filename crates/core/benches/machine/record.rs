//! How long each step took.

use std::collections::BTreeMap;
use std::time::Duration;

/// The steps of one run of the scenario, in their order.
#[derive(Default)]
pub struct Record(Vec<(&'static str, Duration)>);

/// All steps of one kind, sorted.
pub struct Kind {
    pub name: &'static str,
    times: Vec<Duration>,
}

impl Record {
    pub fn add(&mut self, kind: &'static str, took: Duration) {
        self.0.push((kind, took));
    }

    pub fn extend(&mut self, later: Record) {
        self.0.extend(later.0);
    }

    /// Of each step the quicker of two runs: what interrupts the machine's processor does so in one of them.
    pub fn quicker(mut self, other: &Record) -> Record {
        assert_eq!(self.0.len(), other.0.len(), "the same scenario has the same steps");
        for ((kind, took), (same, again)) in self.0.iter_mut().zip(&other.0) {
            assert_eq!(kind, same, "in the same order");
            *took = (*took).min(*again);
        }
        self
    }

    pub fn kinds(&self) -> Vec<Kind> {
        let mut kinds = BTreeMap::<&'static str, Vec<Duration>>::new();
        for (kind, took) in &self.0 {
            kinds.entry(kind).or_default().push(*took);
        }
        let sorted = kinds.into_iter().map(|(name, mut times)| {
            times.sort_unstable();
            Kind { name, times }
        });
        sorted.collect()
    }
}

impl Kind {
    pub fn count(&self) -> usize {
        self.times.len()
    }

    pub fn median(&self) -> Duration {
        self.times[self.times.len() / 2]
    }

    pub fn p99(&self) -> Duration {
        self.times[self.times.len() * 99 / 100]
    }

    pub fn slowest(&self) -> Duration {
        self.times.last().copied().unwrap_or_default()
    }
}
