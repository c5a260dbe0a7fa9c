//! Who leads, and what happens to processes.

use std::sync::Arc;

use catamaran_core::mirror::Event;

use crate::clock::{Ms, SECOND};
use crate::facts::Facts;
use crate::world::{Item, Replica, World};

/// How long nobody leads after a leader is gone.
const VACANCY: Ms = 5 * SECOND;

impl World {
    /// The clock of a replica's machine is set, which wakes nothing up.
    pub fn set_clock(&mut self, replica: usize, by: Ms) {
        let one = &mut self.replicas[replica];
        one.clock += by;
        // Timers run by another clock, which nobody sets.
        one.clocks_set = self.now;
    }

    /// Makes a replica lead; the one that led before knows at once.
    pub fn lead(&mut self, replica: usize) {
        if self.lease == Some(replica) && self.replicas[replica].leading {
            return;
        }
        if let Some(before) = self.lease.replace(replica) {
            self.unlead(before);
        }
        // It may have lost the lease without a notice.
        self.unlead(replica);
        self.begin_to_lead(replica);
    }

    /// A replica holds the lease.
    pub fn begin_to_lead(&mut self, replica: usize) {
        let one = &mut self.replicas[replica];
        one.leading = true;
        one.term += 1;
        one.facts = Facts::default();
        one.prior_facts = Arc::clone(&one.seen.facts);
        one.in_use = None;
        let prior = one.seen.evidence();
        self.feed(replica, Event::Prior(prior));
        self.feed(replica, Event::Leading(true));
    }

    /// A replica notices that it leads no more.
    pub fn unlead(&mut self, replica: usize) {
        let one = &mut self.replicas[replica];
        if !one.leading {
            return;
        }
        one.leading = false;
        one.local = None;
        one.unstored.clear();
        one.storing = false;
        one.table = None;
        self.feed(replica, Event::Leading(false));
    }

    /// Nobody leads for a while.
    pub fn vacate(&mut self) {
        if let Some(before) = self.lease.take() {
            self.unlead(before);
        }
        let time = self.now + VACANCY;
        self.schedule(time, Item::Elect);
    }

    pub fn elect(&mut self) {
        if self.lease.is_some() {
            return;
        }
        let awake = (0..self.replicas.len()).find(|replica| !self.replicas[*replica].paused);
        if let Some(replica) = awake {
            self.lead(replica);
        } else {
            let time = self.now + VACANCY;
            self.schedule(time, Item::Elect);
        }
    }

    /// A new process: what it saw is gone, what it wrote is not.
    pub fn restart(&mut self, replica: usize) {
        if self.lease == Some(replica) {
            self.lease = None;
            let time = self.now + VACANCY;
            self.schedule(time, Item::Elect);
        }
        let life = self.replicas[replica].life + 1;
        self.replicas[replica] = Replica::new(&self.id, life);
        self.replicas[replica].watched = self.now;
        self.replicas[replica].woken = self.now;
        self.replicas[replica].seen = self.stored.clone();
        self.show(replica, Arc::clone(&self.object));
        self.replicas[replica].apart.clone_from(&self.apart);
    }

    /// A process stands still for a while. Its lease ends meanwhile, if that is long enough.
    pub fn pause(&mut self, replica: usize, length: Ms) {
        if self.replicas[replica].paused {
            return;
        }
        self.replicas[replica].paused = true;
        if self.lease == Some(replica) && length > VACANCY {
            self.lease = None;
            let time = self.now + VACANCY;
            self.schedule(time, Item::Elect);
        }
        let time = self.now + length;
        self.schedule(time, Item::Resume(replica));
    }

    pub fn resume(&mut self, replica: usize) {
        if !std::mem::take(&mut self.replicas[replica].paused) {
            return;
        }
        self.replicas[replica].watched = self.now;
        self.replicas[replica].woken = self.now;
        if self.replicas[replica].leading && self.lease != Some(replica) {
            self.unlead(replica);
        }
        for item in std::mem::take(&mut self.replicas[replica].backlog) {
            self.happen(item);
        }
    }
}
