//! A Secret that should be, and where.

use std::fmt;

use catamaran_core::policy::MirrorId;
use catamaran_core::side::Side;

/// Where a Secret is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl Place {
    /// This namespace and name.
    pub fn new(namespace: &str, name: &str) -> Place {
        Place {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// A Secret that should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Where.
    pub place: Place,
    /// For which mirror.
    pub mirror: MirrorId,
    /// For which of its sides.
    pub side: Side,
    /// The side's registry, as `host[:port]`.
    pub registry: String,
}
