//! A sorted list of numbers whose order is kept elsewhere: what an index over 100,000 entries costs is 4 bytes for each.

use std::cmp::Ordering;
use std::iter::{Copied, Flatten, Skip};
use std::slice;

/// Numbers in one piece of memory, so that an insertion moves at most 2 kB.
const CHUNK: usize = 512;

/// Numbers in an order that each call brings with it: a function that compares a number with what is looked for. It must be
/// the same order in every call.
#[derive(Debug, Default)]
pub(super) struct Order {
    /// None of them is empty.
    chunks: Vec<Vec<u32>>,
}

impl Order {
    pub(super) fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// The number that is looked for.
    pub(super) fn find(&self, compare: impl Fn(u32) -> Ordering) -> Option<u32> {
        let chunk = self.chunks.get(self.chunk(&compare))?;
        let index = chunk.binary_search_by(|number| compare(*number)).ok()?;
        chunk.get(index).copied()
    }

    /// All numbers from the first that is not less than what is looked for.
    pub(super) fn starting_at(&self, compare: impl Fn(u32) -> Ordering) -> Numbers<'_> {
        let chunk = self.chunk(&compare);
        let skipped = self.chunks.get(chunk).map_or(0, |chunk| {
            chunk.partition_point(|number| compare(*number) == Ordering::Less)
        });
        self.chunks.iter().skip(chunk).flatten().skip(skipped).copied()
    }

    /// All numbers.
    pub(super) fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.chunks.iter().flatten().copied()
    }

    /// Adds a number that is not there yet.
    pub(super) fn insert(&mut self, number: u32, compare: impl Fn(u32) -> Ordering) {
        let at = self.chunk(&compare);
        let Some(chunk) = self.chunks.get_mut(at) else {
            // After all others: appending leaves full chunks behind.
            match self.chunks.last_mut() {
                Some(last) if last.len() < CHUNK => last.push(number),
                _ => self.chunks.push(vec![number]),
            }
            return;
        };
        let index = chunk.partition_point(|there| compare(*there) == Ordering::Less);
        chunk.insert(index, number);
        if chunk.len() > CHUNK {
            let rest = chunk.split_off(CHUNK / 2);
            chunk.shrink_to_fit();
            self.chunks.insert(at + 1, rest);
        }
    }

    /// Takes a number out.
    pub(super) fn remove(&mut self, compare: impl Fn(u32) -> Ordering) {
        let at = self.chunk(&compare);
        let Some(chunk) = self.chunks.get_mut(at) else { return };
        if let Ok(index) = chunk.binary_search_by(|number| compare(*number)) {
            chunk.remove(index);
        }
        if chunk.is_empty() {
            self.chunks.remove(at);
        }
    }

    /// The first chunk that ends with what is looked for or later.
    fn chunk(&self, compare: &impl Fn(u32) -> Ordering) -> usize {
        self.chunks.partition_point(|chunk| {
            let last = chunk.last().map(|number| compare(*number));
            last == Some(Ordering::Less)
        })
    }
}

/// See [`Order::starting_at`].
pub(super) type Numbers<'a> = Copied<Skip<Flatten<Skip<slice::Iter<'a, Vec<u32>>>>>>;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn order_does_what_a_set_does(steps in prop::collection::vec((any::<bool>(), 0..3_000_u32), 0..2_000), from in 0..3_000_u32) {
            let mut order = Order::default();
            let mut set = BTreeSet::new();
            for (add, number) in steps {
                let there = order.find(|other| other.cmp(&number));
                prop_assert_eq!(there, set.get(&number).copied());
                if !add {
                    order.remove(|other| other.cmp(&number));
                    set.remove(&number);
                } else if set.insert(number) {
                    order.insert(number, |other| other.cmp(&number));
                }
            }
            prop_assert!(order.iter().eq(set.iter().copied()));
            prop_assert!(order.starting_at(|other| other.cmp(&from)).eq(set.range(from..).copied()));
            prop_assert_eq!(order.is_empty(), set.is_empty());
        }
    }

    #[test]
    fn order_splits_its_chunks_when_filled_backwards() {
        let mut order = Order::default();
        for number in (0..10_000).rev() {
            order.insert(number, |other| other.cmp(&number));
        }
        assert!(order.iter().eq(0..10_000));
        assert!(order.chunks.iter().all(|chunk| chunk.len() <= CHUNK));
    }
}
