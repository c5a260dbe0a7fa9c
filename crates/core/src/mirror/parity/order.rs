//! A sorted list of numbers whose order is kept elsewhere: what an index over 100,000 entries costs is 4 bytes for each, or a few
//! more where an item also holds the beginning of what it is sorted by.

use std::cmp::Ordering;
use std::iter::{Copied, Flatten, Skip};
use std::slice;

/// Items in one piece of memory, so that an insertion moves at most 6 kB.
const CHUNK: usize = 512;

/// Items in an order that each call brings with it: a function that compares an item with what is looked for. It must be
/// the same order in every call.
#[derive(Debug)]
pub(super) struct Order<T = u32> {
    /// None of them is empty.
    chunks: Vec<Vec<T>>,
}

impl<T> Default for Order<T> {
    fn default() -> Order<T> {
        Order { chunks: Vec::new() }
    }
}

impl<T: Copy> Order<T> {
    pub(super) fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// The item that is looked for.
    pub(super) fn find(&self, compare: impl Fn(T) -> Ordering) -> Option<T> {
        let chunk = self.chunks.get(self.chunk(&compare))?;
        let index = chunk.binary_search_by(|item| compare(*item)).ok()?;
        chunk.get(index).copied()
    }

    /// All items from the first that is not less than what is looked for.
    pub(super) fn starting_at(&self, compare: impl Fn(T) -> Ordering) -> Items<'_, T> {
        let chunk = self.chunk(&compare);
        let skipped = self.chunks.get(chunk).map_or(0, |chunk| {
            chunk.partition_point(|item| compare(*item) == Ordering::Less)
        });
        self.chunks.iter().skip(chunk).flatten().skip(skipped).copied()
    }

    /// All items.
    pub(super) fn iter(&self) -> impl Iterator<Item = T> + '_ {
        self.chunks.iter().flatten().copied()
    }

    /// Adds an item that is not there yet.
    pub(super) fn insert(&mut self, item: T, compare: impl Fn(T) -> Ordering) {
        let at = self.chunk(&compare);
        let Some(chunk) = self.chunks.get_mut(at) else {
            // After all others: appending leaves full chunks behind.
            match self.chunks.last_mut() {
                Some(last) if last.len() < CHUNK => last.push(item),
                _ => self.chunks.push(vec![item]),
            }
            return;
        };
        let index = chunk.partition_point(|there| compare(*there) == Ordering::Less);
        chunk.insert(index, item);
        if chunk.len() > CHUNK {
            let rest = chunk.split_off(CHUNK / 2);
            chunk.shrink_to_fit();
            self.chunks.insert(at + 1, rest);
        }
    }

    /// Takes an item out.
    pub(super) fn remove(&mut self, compare: impl Fn(T) -> Ordering) {
        let at = self.chunk(&compare);
        let Some(chunk) = self.chunks.get_mut(at) else { return };
        if let Ok(index) = chunk.binary_search_by(|item| compare(*item)) {
            chunk.remove(index);
        }
        if chunk.is_empty() {
            self.chunks.remove(at);
        }
    }

    /// The first chunk that ends with what is looked for or later.
    fn chunk(&self, compare: &impl Fn(T) -> Ordering) -> usize {
        self.chunks.partition_point(|chunk| {
            let last = chunk.last().map(|item| compare(*item));
            last == Some(Ordering::Less)
        })
    }
}

/// See [`Order::starting_at`].
pub(super) type Items<'a, T> = Copied<Skip<Flatten<Skip<slice::Iter<'a, Vec<T>>>>>>;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn order_does_what_a_set_does(steps in prop::collection::vec((any::<bool>(), 0..3_000_u32), 0..2_000), from in 0..3_000_u32) {
            let mut order: Order = Order::default();
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
        let mut order: Order = Order::default();
        for number in (0..10_000).rev() {
            order.insert(number, |other| other.cmp(&number));
        }
        assert!(order.iter().eq(0..10_000));
        assert!(order.chunks.iter().all(|chunk| chunk.len() <= CHUNK));
    }
}
