//! What the API server takes in: the status, and the evidence.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use catamaran_core::mirror::{Event, RequestId, WriteProblem};
use catamaran_core::routing::evidence::{Evidence, Group, GroupPlace};

use crate::apart::flip_of;
use crate::api::{Object, Status, Stored};
use crate::clock::SECOND;
use crate::facts::Facts;
use crate::jobs::{Answer, Job};
use crate::reading::API;
use crate::world::{Item, Kind, World};

impl World {
    pub fn write_status(&mut self, replica: usize, request: RequestId) {
        let one = &self.replicas[replica];
        let life = one.life;
        let (Some(base), Some(view)) = (one.object.clone(), one.mirror.view()) else {
            let result = Err(WriteProblem { conflict: false });
            let answer = Answer::Status {
                request,
                object: None,
                result,
            };
            return self.send(replica, life, Kind::Status, answer);
        };
        let status = base.status.with(&view);
        self.check_view(replica, &base, &view);
        if status == base.status {
            let answer = Answer::Status {
                request,
                object: Some(base),
                result: Ok(()),
            };
            let time = self.now;
            return self.schedule(time, Item::Arrives(replica, life, Box::new(answer)));
        }
        let job = match flip_of(&view).filter(|_| self.stores_apart) {
            Some(standing) => Job::Flip {
                request,
                base,
                standing: Box::new(standing),
            },
            None => Job::Status {
                request,
                base,
                status: Box::new(status),
            },
        };
        let time = self.now + API;
        let begun = (life, self.replicas[replica].term);
        self.schedule(time, Item::Found(replica, begun, Box::new(job)));
    }

    /// The API server takes a status in, unless the object has changed meanwhile.
    pub fn status_written(&mut self, replica: usize, life: u32, request: RequestId, base: &Object, status: Status) {
        if self.replicas[replica].life != life {
            return;
        }
        let (object, result) = if self.refuse_status > 0 {
            self.refuse_status -= 1;
            (None, Err(WriteProblem { conflict: false }))
        } else if base.version == self.object.version {
            self.check_write(replica, base, &status);
            self.writes += 1;
            self.put(|object| object.status = status);
            self.drop_what_is_said();
            (Some(Arc::clone(&self.object)), Ok(()))
        } else {
            (Some(Arc::clone(&self.object)), Err(WriteProblem { conflict: true }))
        };
        let answer = Answer::Status {
            request,
            object,
            result,
        };
        self.send(replica, life, Kind::Status, answer);
    }

    pub fn stored(
        &mut self,
        replica: usize,
        life: u32,
        groups: BTreeMap<GroupPlace, Arc<Group>>,
        all: &BTreeSet<GroupPlace>,
        facts: Arc<Facts>,
    ) {
        let gone = self.replicas[replica].life != life || self.replicas[replica].paused;
        if gone || self.lease != Some(replica) {
            return;
        }
        let result = if self.refuse_evidence > 0 {
            self.refuse_evidence -= 1;
            Err("quota exceeded".to_owned())
        } else {
            let mut stored: Stored = self.stored.clone();
            stored.groups.extend(groups.clone());
            stored.groups.retain(|place, _| all.contains(place));
            stored.facts = facts;
            self.stored = stored;
            for replica in 0..self.replicas.len() {
                let time = self.now + 25;
                self.schedule(time, Item::ShownEvidence(replica));
            }
            Ok(())
        };
        let time = self.now;
        let answer = Answer::Stored(result, groups);
        self.schedule(time, Item::Arrives(replica, life, Box::new(answer)));
    }

    pub fn store_ended(
        &mut self,
        replica: usize,
        result: Result<(), String>,
        groups: BTreeMap<GroupPlace, Arc<Group>>,
    ) {
        let one = &mut self.replicas[replica];
        one.storing = false;
        if !one.leading {
            return;
        }
        if result.is_ok() {
            one.store_failures = 0;
        } else {
            for (place, group) in groups {
                one.unstored.entry(place).or_insert(group);
            }
            one.store_failures += 1;
            let time = self.now + (SECOND << one.store_failures.min(8));
            let life = one.life;
            self.schedule(time, Item::Store(replica, life));
        }
        self.feed(replica, Event::EvidenceStored(result));
        let one = &self.replicas[replica];
        if !one.unstored.is_empty() && one.store_failures == 0 {
            let store = (self.now, Item::Store(replica, one.life));
            self.schedule(store.0, store.1);
        }
    }

    pub fn shown_evidence(&mut self, replica: usize) {
        self.replicas[replica].seen = self.stored.clone();
        self.replicas[replica].table = None;
    }

    /// Hands the groups that changed to this replica's webhook at once, and has them stored for the others.
    pub fn publish_evidence(&mut self, replica: usize, places: &[GroupPlace]) {
        let one = &mut self.replicas[replica];
        let all = one.mirror.groups();
        let local = one.local.get_or_insert_default();
        for place in places.iter().filter(|place| all.contains(place)) {
            let group = Arc::new(one.mirror.group(*place));
            local.insert(*place, Arc::clone(&group));
            one.unstored.insert(*place, group);
        }
        local.retain(|place, _| all.contains(place));
        one.unstored.retain(|place, _| all.contains(place));
        one.local_facts = Arc::new(one.facts.over(&one.prior_facts));
        one.table = None;
        self.stores += 1;
        self.store(replica);
    }

    pub fn store(&mut self, replica: usize) {
        let one = &mut self.replicas[replica];
        if one.storing || !one.leading || one.local.is_none() {
            return;
        }
        one.storing = true;
        let groups = std::mem::take(&mut one.unstored);
        let all: BTreeSet<GroupPlace> = one.local.iter().flatten().map(|(place, _)| *place).collect();
        let facts = Arc::clone(&one.local_facts);
        let begun = (one.life, one.term);
        let time = self.now + 40;
        let job = Job::Store { groups, all, facts };
        self.schedule(time, Item::Found(replica, begun, Box::new(job)));
    }

    /// A complete pass ends what an earlier leader knew.
    pub fn pass_ended(&mut self, replica: usize) {
        let view = self.replicas[replica].mirror.view();
        let complete = view.and_then(|view| match view.in_force?.1 {
            catamaran_core::mirror::Subject::Watched(seen) => seen.pass.map(|pass| pass.is_complete()),
            catamaran_core::mirror::Subject::Suspended => None,
        });
        if complete == Some(true) {
            self.replicas[replica].prior_facts = Arc::default();
        }
    }

    pub fn evidence_of(&self, replica: usize) -> Evidence {
        let one = &self.replicas[replica];
        match &one.local {
            Some(groups) => groups
                .values()
                .fold(Evidence::default(), |evidence, group| evidence.with(Arc::clone(group))),
            None => one.seen.evidence(),
        }
    }
}
