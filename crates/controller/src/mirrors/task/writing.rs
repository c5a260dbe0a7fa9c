//! How the status is written: it waits for its turn among all mirrors, and says what is known by then.

use std::sync::Arc;
use std::time::Duration;

use catamaran_core::mirror::{Event, RequestId, WriteProblem};
use tokio::task::JoinSet;

use super::{Outcome, Task};
use crate::mirrors::object::Object;
use crate::mirrors::report::{Flipped, Report};
use crate::mirrors::status::{self, Written};
use crate::publish::MirrorObject;
use crate::publish::flips::FlipWriteError;
use crate::writes::Turn;

/// How long a write waits for its turn: less than the machine waits for the write.
const MOST_WAIT: Duration = Duration::from_secs(45);

/// A write of the status that waits for its turn.
#[derive(Debug, Default)]
pub(super) struct Writing {
    /// Flips could not be stored together the last time.
    alone: bool,
    /// Which, and whether it carries out a flip.
    waits: Option<(RequestId, bool)>,
    turns: JoinSet<Come>,
}

/// A write's turn has come; none where that took too long.
#[derive(Debug)]
pub(super) struct Come {
    request: RequestId,
    place: Option<Place>,
}

/// Where a write goes.
#[derive(Debug)]
enum Place {
    /// To the status.
    Status(Turn),
    /// More mirrors flip than statuses are written at a time: the flip is stored together with theirs.
    Together,
}

impl Writing {
    /// The next turn that comes, if one is waited for.
    pub(super) async fn turn(&mut self) -> Option<Come> {
        loop {
            // One that was given up is an error.
            if let Ok(come) = self.turns.join_next().await? {
                return Some(come);
            }
        }
    }
}

impl Task {
    pub(super) fn write_status(&mut self, request: RequestId) {
        let context = Arc::clone(&self.context);
        let unreadable = match &*self.objects.borrow() {
            Object::Unreadable { invalid, .. } => Some(Arc::clone(invalid)),
            Object::Readable { .. } => None,
        };
        if let Some(invalid) = unreadable {
            let again = self.refused;
            self.outcomes.spawn(async move {
                let written = status::refuse(&context, &invalid, again).await;
                Outcome::Written(request, if written { Written::Reported } else { Written::Refused })
            });
            return;
        }
        match self.report() {
            Ok((_, report)) => self.wait_for_place(request, report.flip.is_some()),
            Err(written) => {
                self.outcomes.spawn(async move { Outcome::Written(request, written) });
            }
        }
    }

    /// What the status is to say now, and the object that this follows from; or else how the write ends without one.
    fn report(&self) -> Result<(Arc<MirrorObject>, Report), Written> {
        let (Some(mirror), Some(view)) = (self.object.clone(), self.mirror.view()) else {
            return Err(Written::Refused);
        };
        match status::news(&self.context, &mirror, &view) {
            Ok(Some(report)) => Ok((mirror, report)),
            Ok(None) => Err(Written::Done(mirror)),
            Err(error) => {
                status::complain(&self.context, &mirror.id.name, &error.to_string(), self.refused);
                Err(Written::Refused)
            }
        }
    }

    fn wait_for_place(&mut self, request: RequestId, flips: bool) {
        self.writing.turns.abort_all();
        self.writing.waits = Some((request, flips));
        let (context, alone) = (Arc::clone(&self.context), self.writing.alone);
        self.writing.turns.spawn(async move {
            let place = async {
                if !flips {
                    return Place::Status(context.writes.other().await);
                }
                match context.writes.flip_now() {
                    Some(turn) => Place::Status(turn),
                    None if alone => Place::Status(context.writes.flip().await),
                    None => Place::Together,
                }
            };
            let place = tokio::time::timeout(MOST_WAIT, place).await.ok();
            Come { request, place }
        });
    }

    /// A flip that was decided on while other news waited goes with them, and does not wait as they do.
    pub(super) fn hurry_flip(&mut self) {
        if let Some((request, false)) = self.writing.waits
            && self.mirror.is_flipping()
        {
            self.wait_for_place(request, true);
        }
    }

    pub(super) fn write_now(&mut self, Come { request, place }: Come) {
        // Where another write waits, this one is no longer waited for.
        if self.writing.waits.take_if(|(waits, _)| *waits == request).is_none() {
            return;
        }
        let name = &self.mirror.id().name;
        let Some(place) = place else {
            status::complain(
                &self.context,
                name,
                "other writes of statuses took too long",
                self.refused,
            );
            return self.written(request, Written::Refused);
        };
        self.feed(Event::WriteBegins(request));
        let (mirror, report) = match self.report() {
            Ok(reported) => reported,
            Err(written) => return self.written(request, written),
        };
        let (context, again) = (Arc::clone(&self.context), self.refused);
        match (place, report.flip) {
            (Place::Status(turn), flip) => {
                let report = Report { flip, ..report };
                self.outcomes.spawn(async move {
                    let written = status::write(&context, mirror, report, turn, again).await;
                    Outcome::Written(request, written)
                });
            }
            (Place::Together, Some(flipped)) => {
                let uid = Arc::clone(&self.mirror.id().uid);
                self.outcomes.spawn(async move {
                    let standing = Arc::new(flipped.standing.clone());
                    let result = context.flips.store(&uid, standing).await;
                    Outcome::Flipped(request, Box::new(flipped), result)
                });
            }
            // It was decided otherwise meanwhile.
            (Place::Together, None) => self.wait_for_place(request, false),
        }
    }

    /// A flip was stored together with those of other mirrors: it holds, and the status says so in its turn.
    pub(super) fn flipped(&mut self, request: RequestId, flipped: Flipped, result: Result<(), FlipWriteError>) {
        let context = Arc::clone(&self.context);
        let Some(mirror) = self.object.clone() else {
            return self.written(request, Written::Refused);
        };
        match result {
            Ok(()) => {
                self.writing.alone = false;
                status::count_flip(&context, &self.mirror.id().name, &flipped.flip);
                self.hear_flip(Some(Arc::new(flipped.standing)));
                self.adopt(Arc::clone(&mirror));
                self.feed(Event::FlipStored(request));
                self.jobs
                    .spawn(async move { status::publish_event(&context, &mirror.id, &flipped.announcement).await });
            }
            Err(FlipWriteError::Conflict(there)) => {
                self.hear_flip(Some(there));
                self.written(request, Written::Conflict(Some(mirror)));
            }
            Err(FlipWriteError::NotLeading) => self.written(request, Written::Conflict(None)),
            Err(error @ FlipWriteError::Refused(_)) => {
                tracing::debug!(mirror = %self.mirror.id(), %error, "the flip is written to the status");
                self.writing.alone = true;
                self.wait_for_place(request, true);
            }
        }
    }

    pub(super) fn written(&mut self, request: RequestId, written: Written) {
        self.refused = matches!(written, Written::Refused) || self.refused && matches!(written, Written::Conflict(_));
        let result = match written {
            Written::Done(mirror) => {
                if self.is_newer(&mirror) {
                    self.adopt(mirror);
                }
                Ok(())
            }
            Written::Reported => Ok(()),
            Written::Conflict(mirror) => {
                if let Some(mirror) = mirror {
                    self.adopt(mirror);
                }
                Err(WriteProblem { conflict: true })
            }
            Written::Refused => Err(WriteProblem { conflict: false }),
        };
        self.feed(Event::StatusWritten { request, result });
    }
}
