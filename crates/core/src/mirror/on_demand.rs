//! A part of a mirror that takes no memory until something is put into it.
//!
//! Each replica has every mirror, and only the leader of them reads, compares and copies. What it has for that would be half of what
//! a mirror takes in all other replicas.

use std::ops::{Deref, DerefMut};
use std::sync::LazyLock;

use super::cache::CacheCare;
use super::contents::Contents;
use super::copies::Copies;
use super::failback::FailbackCheck;
use super::parity::Ledger;
use super::pass::Passes;
use super::proof::Proofs;
use super::pulls::Pulls;
use super::verification::Verification;

/// A part that is there once it is changed for the first time; until then it reads as one that is empty.
#[derive(Debug)]
pub(super) struct OnDemand<T>(Option<Box<T>>);

impl<T> OnDemand<T> {
    /// The part, if it is there: to end or forget what may be in it.
    pub(super) fn there(&mut self) -> Option<&mut T> {
        self.0.as_deref_mut()
    }

    /// Whether it takes memory.
    #[cfg(test)]
    pub(super) fn is_there(&self) -> bool {
        self.0.is_some()
    }
}

impl<T> Default for OnDemand<T> {
    fn default() -> OnDemand<T> {
        OnDemand(None)
    }
}

impl<T: Part> Deref for OnDemand<T> {
    type Target = T;

    fn deref(&self) -> &T {
        match &self.0 {
            Some(part) => part,
            None => T::empty(),
        }
    }
}

impl<T: Part> DerefMut for OnDemand<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.0.get_or_insert_default()
    }
}

/// What can be a part.
pub(super) trait Part: Default + 'static {
    /// An empty one, which all mirrors share.
    fn empty() -> &'static Self;
}

macro_rules! parts {
    ($($part:ty),+) => {$(
        impl Part for $part {
            fn empty() -> &'static Self {
                static EMPTY: LazyLock<$part> = LazyLock::new(Default::default);
                &EMPTY
            }
        }
    )+};
}

parts!(
    CacheCare,
    Contents,
    Copies,
    FailbackCheck,
    Ledger,
    Passes,
    Proofs,
    Pulls,
    Verification
);
