//! Flips that are stored apart from the status, as where many mirrors flip at once.

use catamaran_core::mirror::failover::Standing;
use catamaran_core::mirror::{Event, RequestId, Subject, View, WriteProblem, latest};

use crate::api::{Object, whole_seconds};
use crate::clock::Ms;
use crate::jobs::Answer;
use crate::world::{Item, Kind, World};

/// How long a flip stays stored apart after the status says it.
const LINGERS: Ms = 400;

/// What stands once the flip that a view carries is stored; none if it carries none.
pub fn flip_of(view: &View) -> Option<Standing> {
    match &view.in_force {
        Some((_, Subject::Watched(seen))) if seen.decision.flip.is_some() => Some(whole_seconds(seen.standing())),
        _ => None,
    }
}

impl World {
    /// The API server takes in a flip, unless a later one is there.
    pub fn flip_stored(&mut self, replica: usize, life: u32, request: RequestId, base: &Object, standing: &Standing) {
        if self.replicas[replica].life != life {
            return;
        }
        let conflict = self.apart.as_ref().is_some_and(|there| there.epoch >= standing.epoch);
        let refused = self.refuse_status > 0;
        self.refuse_status = self.refuse_status.saturating_sub(1);
        let result = if refused || conflict {
            Err(WriteProblem { conflict: !refused })
        } else {
            self.check_standing(replica, base, standing);
            self.writes += 1;
            self.apart = Some(standing.clone());
            self.show_apart();
            Ok(())
        };
        let there = self.apart.clone().filter(|_| !refused);
        self.send(replica, life, Kind::Status, Answer::Flip(request, result, there));
    }

    /// Its answer reaches the replica that wrote it.
    pub fn flip_ended(
        &mut self,
        replica: usize,
        request: RequestId,
        result: Result<(), WriteProblem>,
        there: Option<Standing>,
    ) {
        self.take_apart(replica, there);
        let event = match result {
            Ok(()) => Event::FlipStored(request),
            Err(_) => Event::StatusWritten { request, result },
        };
        self.feed(replica, event);
    }

    /// A replica hears what is stored apart. That it is no longer there says that a status has it, or that both were restored: what
    /// was heard stays until a status is as late.
    fn take_apart(&mut self, replica: usize, there: Option<Standing>) {
        let one = &mut self.replicas[replica];
        one.apart = latest(one.apart.take(), there.as_ref());
        if let Some(object) = one.object.clone() {
            self.adopt(replica, &object);
        }
    }

    /// The watch shows a replica what is stored apart now.
    pub fn shown_apart(&mut self, replica: usize) {
        self.take_apart(replica, self.apart.clone());
    }

    fn show_apart(&mut self) {
        for replica in 0..self.replicas.len() {
            let time = self.shown_at(replica);
            self.schedule(time, Item::ShownApart(replica));
        }
    }

    /// What the status says need not be stored apart any more.
    pub fn drop_what_is_said(&mut self) {
        if self.apart.is_some() {
            let time = self.now + LINGERS;
            self.schedule(time, Item::DropApart);
        }
    }

    pub fn drop_apart(&mut self) {
        let said = self
            .object
            .status
            .standing
            .as_ref()
            .map_or(0, |standing| standing.epoch);
        if self.apart.take_if(|apart| apart.epoch <= said).is_some() {
            self.show_apart();
        }
    }
}
