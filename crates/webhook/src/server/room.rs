//! Room for large bodies: so much for all, and half of it for one address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Addresses that are remembered although nothing of theirs is held.
const REMEMBERED: usize = 1024;

/// Room for bodies, in KiB.
#[derive(Debug)]
pub(super) struct Room {
    all: Arc<Semaphore>,
    share: usize,
    addresses: Mutex<HashMap<IpAddr, Arc<Semaphore>>>,
}

/// Room that is taken until this is dropped.
#[derive(Debug)]
pub(super) struct Taken {
    _share: OwnedSemaphorePermit,
    _room: OwnedSemaphorePermit,
}

impl Room {
    /// So many bytes for all, for bodies of at most `body`.
    pub(super) fn new(bodies: usize, body: usize) -> Room {
        Room {
            all: Arc::new(Semaphore::new(bodies.div_ceil(1024))),
            share: (bodies / 2).max(body).div_ceil(1024),
            addresses: Mutex::default(),
        }
    }

    /// Waits for room for so many bytes: first for that of the address, so that those who have used it up wait for themselves.
    pub(super) async fn take(&self, address: IpAddr, bytes: usize) -> Option<Taken> {
        let kibibytes = u32::try_from(bytes.div_ceil(1024)).ok()?;
        let own = self.of(address);
        let share = own.acquire_many_owned(kibibytes).await.ok()?;
        let room = Arc::clone(&self.all).acquire_many_owned(kibibytes).await.ok()?;
        Some(Taken {
            _share: share,
            _room: room,
        })
    }

    fn of(&self, address: IpAddr) -> Arc<Semaphore> {
        let mut addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        if addresses.len() >= REMEMBERED {
            // Every holder, and everything that waits, has a reference.
            addresses.retain(|_, own| Arc::strong_count(own) > 1);
        }
        let own = addresses
            .entry(address)
            .or_insert_with(|| Arc::new(Semaphore::new(self.share)));
        Arc::clone(own)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const A: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
    const B: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2));

    #[tokio::test(start_paused = true)]
    async fn one_address_leaves_half_of_the_room_to_others() {
        let room = Room::new(8 << 20, 1 << 20);
        let soon = async |address| tokio::time::timeout(Duration::from_secs(1), room.take(address, 1 << 20)).await;
        let mut held = Vec::new();
        for _ in 0..4 {
            held.push(soon(A).await.expect("its half"));
        }
        assert!(soon(A).await.is_err(), "more than its half");
        for _ in 0..4 {
            held.push(soon(B).await.expect("the other half"));
        }
        drop(held.remove(0));
        assert!(soon(B).await.is_err(), "more than its half, of room that A gave back");
        assert!(soon(A).await.is_ok(), "what was given back can be had");
    }
}
