//! What people must know of pull secrets that are not made, told once each as Events of the mirror.

use std::collections::BTreeSet;

use catamaran_core::policy::MirrorId;

use super::wanted::Wanted;
use crate::context::Context;
use crate::events;

/// Why a Secret is not made.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Complaint {
    mirror: MirrorId,
    event: &'static events::Kind,
    note: String,
}

impl Complaint {
    fn new(mirror: &MirrorId, event: &'static events::Kind, note: String) -> Complaint {
        Complaint {
            mirror: mirror.clone(),
            event,
            note,
        }
    }

    pub(super) fn not_allowed(mirror: &MirrorId, name: &str) -> Complaint {
        let note = format!("pull secret '{name}' is not minted: add it to pullSecrets.names of the chart's values");
        Complaint::new(mirror, &events::PULL_SECRET_NOT_ALLOWED, note)
    }

    pub(super) fn taken(mirror: &MirrorId, by: &MirrorId, name: &str) -> Complaint {
        let note = format!("pull secret '{name}' is minted for the mirror '{by}', which is older: choose another name");
        Complaint::new(mirror, &events::PULL_SECRET_TAKEN, note)
    }

    pub(super) fn foreign(wanted: &Wanted) -> Complaint {
        let note = format!(
            "secret '{}' exists and was not made by this operator, so it is left alone: remove it, or choose another name",
            wanted.place
        );
        Complaint::new(&wanted.mirror, &events::PULL_SECRET_FOREIGN, note)
    }

    pub(super) fn not_minted(wanted: &Wanted, why: &str) -> Complaint {
        let note = format!("failed to mint pull secret '{}': {why}", wanted.place);
        Complaint::new(&wanted.mirror, &events::PULL_SECRET_NOT_MINTED, note)
    }

    pub(super) fn unreadable(wanted: &Wanted, error: &kube::Error) -> Complaint {
        let note = format!("failed to look at pull secret '{}': {error}", wanted.place);
        Complaint::new(&wanted.mirror, &events::PULL_SECRET_NOT_MINTED, note)
    }

    #[cfg(test)]
    pub(super) fn told(&self) -> (&str, &'static str) {
        (&self.mirror.name, self.event.reason)
    }
}

/// What was told already.
#[derive(Debug, Default)]
pub(super) struct Complaints(BTreeSet<Complaint>);

impl Complaints {
    /// Tells what is new; what has ended may be told again when it comes back.
    pub(super) async fn tell(&mut self, context: &Context, now: BTreeSet<Complaint>) {
        for complaint in now.difference(&self.0) {
            publish(context, complaint).await;
        }
        self.0 = now;
    }
}

async fn publish(context: &Context, complaint: &Complaint) {
    let regarding = events::regarding(&complaint.mirror);
    tracing::warn!(mirror = %complaint.mirror, reason = complaint.event.reason, note = complaint.note, "a pull secret is not made");
    if let Err(error) = context
        .recorder
        .publish(&complaint.event.event(&complaint.note), &regarding)
        .await
    {
        tracing::warn!(mirror = %complaint.mirror, %error, "failed to publish an event");
    }
}
