//! The two sides of a mirror.

use std::fmt;
use std::ops::{Index, IndexMut};

use serde::{Deserialize, Serialize};

/// One of the two registries of a mirror.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Side {
    /// The registry that serves the cluster when all is well.
    Primary,
    /// The registry that serves the cluster when the primary can't.
    Fallback,
}

impl Side {
    /// Both sides, primary first.
    pub const ALL: [Side; 2] = [Side::Primary, Side::Fallback];

    /// The opposite side.
    #[must_use]
    pub fn other(self) -> Side {
        match self {
            Side::Primary => Side::Fallback,
            Side::Fallback => Side::Primary,
        }
    }

    /// `Primary` or `Fallback`, as in the resource.
    pub fn as_str(self) -> &'static str {
        match self {
            Side::Primary => "Primary",
            Side::Fallback => "Fallback",
        }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One value for each side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Sides<T> {
    /// The primary's value.
    pub primary: T,
    /// The fallback's value.
    pub fallback: T,
}

impl<T> Sides<T> {
    /// Builds both values with one function, primary first.
    pub fn from_fn(mut build: impl FnMut(Side) -> T) -> Self {
        Sides {
            primary: build(Side::Primary),
            fallback: build(Side::Fallback),
        }
    }

    /// The pair of borrowed values.
    pub fn as_ref(&self) -> Sides<&T> {
        Sides {
            primary: &self.primary,
            fallback: &self.fallback,
        }
    }

    /// Applies one function to both values, primary first.
    pub fn map<U>(self, mut change: impl FnMut(T) -> U) -> Sides<U> {
        Sides {
            primary: change(self.primary),
            fallback: change(self.fallback),
        }
    }
}

impl Sides<bool> {
    /// Whether it is so on a side.
    pub fn any(self) -> bool {
        self.primary || self.fallback
    }

    /// Whether it is so on both.
    pub fn both(self) -> bool {
        self.primary && self.fallback
    }
}

impl<T> Index<Side> for Sides<T> {
    type Output = T;

    fn index(&self, side: Side) -> &T {
        match side {
            Side::Primary => &self.primary,
            Side::Fallback => &self.fallback,
        }
    }
}

impl<T> IndexMut<Side> for Sides<T> {
    fn index_mut(&mut self, side: Side) -> &mut T {
        match side {
            Side::Primary => &mut self.primary,
            Side::Fallback => &mut self.fallback,
        }
    }
}
