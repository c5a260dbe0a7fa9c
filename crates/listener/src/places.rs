//! Who has a place, and who loses one to whom.
//!
//! A listener has so many places, and an address only some of them. When there is none left, the address that has the most loses
//! the connection that has kept this process waiting longest: a client that floods a port takes its places from itself.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::counts::{Closed, Counts, Open};
use crate::limits::{Limits, Rate};
use crate::progress::{Phase, Progress};
use crate::rate::Used;

/// Addresses without a connection that are remembered for the sake of their rate.
const REMEMBERED: usize = 4096;

/// Who a request is from, in its extensions: an IPv4 address also where it came as IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PeerAddress(pub IpAddr);

/// The places of a listener.
#[derive(Debug)]
pub(crate) struct Places {
    connections: usize,
    per_address: usize,
    rate: Rate,
    counts: Arc<Counts>,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    addresses: HashMap<IpAddr, Address>,
    /// All that are in `addresses`.
    open: usize,
    /// Those and the evicted ones whose tasks have not ended yet.
    alive: usize,
    next: u64,
}

#[derive(Debug)]
struct Address {
    open: HashMap<u64, Arc<Tenant>>,
    used: Used,
}

/// A connection, as others see it.
#[derive(Debug)]
pub(crate) struct Tenant {
    pub(crate) progress: Progress,
    /// Its place belongs to another one.
    pub(crate) evicted: CancellationToken,
}

/// A place that is taken until this is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) tenant: Arc<Tenant>,
    address: IpAddr,
    id: u64,
    places: Arc<Places>,
    _open: Open,
}

impl Places {
    pub(crate) fn new(limits: &Limits, counts: Arc<Counts>) -> Arc<Self> {
        Arc::new(Places {
            connections: limits.connections,
            per_address: limits.per_address,
            rate: limits.rate,
            counts,
            taken: Mutex::default(),
        })
    }

    /// A place for a connection from this address, if need be another one's. Never waits.
    pub(crate) fn take(self: &Arc<Self>, address: IpAddr, phase: Phase) -> Result<Place, Closed> {
        let now = Instant::now();
        let mut taken = self.taken();
        taken.may_connect(address, self.rate, now)?;
        // Evicted ones end as soon as their tasks get to run. Until then they hold descriptors.
        if taken.alive >= 2 * self.connections {
            return Err(Closed::Full);
        }
        let own = taken.addresses.get(&address).map_or(0, |own| own.open.len());
        let victim = if own >= self.per_address {
            Some(taken.slowest_of(address, now).ok_or(Closed::Full)?)
        } else if taken.open >= self.connections {
            Some(taken.slowest_of_the_largest(own, address, now).ok_or(Closed::Full)?)
        } else {
            None
        };
        if let Some(evicted) = victim.and_then(|(address, id)| taken.remove(address, id)) {
            evicted.evicted.cancel();
            self.counts.close(Closed::Evicted);
        }
        let tenant = Arc::new(Tenant {
            progress: Progress::new(phase, now),
            evicted: CancellationToken::new(),
        });
        let id = taken.insert(address, Arc::clone(&tenant), now);
        Ok(Place {
            tenant,
            address,
            id,
            places: Arc::clone(self),
            _open: self.counts.opened(),
        })
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken();
        taken.alive -= 1;
        taken.remove(self.address, self.id);
        taken.forget(self.address, Instant::now());
    }
}

impl Taken {
    fn may_connect(&mut self, address: IpAddr, rate: Rate, now: Instant) -> Result<(), Closed> {
        if self.addresses.len() >= self.open + REMEMBERED {
            self.addresses
                .retain(|_, address| !address.open.is_empty() || !address.used.is_nothing(now));
        }
        if self.addresses.len() >= self.open + REMEMBERED {
            self.addresses.retain(|_, address| !address.open.is_empty());
        }
        let known = self.addresses.entry(address).or_insert_with(|| Address {
            open: HashMap::new(),
            used: Used::nothing(now),
        });
        if known.used.take(rate, now) {
            Ok(())
        } else {
            Err(Closed::TooMany)
        }
    }

    fn insert(&mut self, address: IpAddr, tenant: Arc<Tenant>, now: Instant) -> u64 {
        let id = self.next;
        self.next += 1;
        self.open += 1;
        self.alive += 1;
        let known = self.addresses.entry(address).or_insert_with(|| Address {
            open: HashMap::new(),
            used: Used::nothing(now),
        });
        known.open.insert(id, tenant);
        id
    }

    fn remove(&mut self, address: IpAddr, id: u64) -> Option<Arc<Tenant>> {
        let removed = self.addresses.get_mut(&address)?.open.remove(&id)?;
        self.open -= 1;
        Some(removed)
    }

    /// Forgets an address that has nothing and has used nothing.
    fn forget(&mut self, address: IpAddr, now: Instant) {
        let known = self.addresses.get(&address);
        if known.is_some_and(|known| known.open.is_empty() && known.used.is_nothing(now)) {
            self.addresses.remove(&address);
        }
    }

    fn slowest_of(&self, address: IpAddr, now: Instant) -> Option<(IpAddr, u64)> {
        let (_, id) = self.addresses.get(&address)?.slowest(now)?;
        Some((address, id))
    }

    /// Of the address with the most connections among those that have more than `own`, and the one that asks.
    fn slowest_of_the_largest(&self, own: usize, asks: IpAddr, now: Instant) -> Option<(IpAddr, u64)> {
        let larger = self
            .addresses
            .iter()
            .filter(|(address, known)| known.open.len() > own || **address == asks);
        let candidates = larger.filter_map(|(address, known)| {
            let (waits, id) = known.slowest(now)?;
            Some((known.open.len() + usize::from(*address == asks), waits, *address, id))
        });
        let (.., address, id) = candidates.max()?;
        Some((address, id))
    }
}

impl Address {
    /// The connection that has kept this process waiting longest, and for how long.
    fn slowest(&self, now: Instant) -> Option<(Duration, u64)> {
        let waiting = self.open.iter();
        waiting
            .filter_map(|(id, tenant)| Some((tenant.progress.waits(now)?, *id)))
            .max_by_key(|(waits, id)| (*waits, std::cmp::Reverse(*id)))
    }
}

#[cfg(test)]
mod tests;
