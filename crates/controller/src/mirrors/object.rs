//! A mirror's object, as the publisher reports it to the mirror's task.

use std::sync::Arc;

use catamaran_api::policy::PolicyError;
use catamaran_core::mirror::failover::Standing;
use catamaran_core::policy::MirrorPolicy;
use kube::core::error_boundary::InvalidObject;

use crate::publish::{MirrorObject, ValidPolicy};

/// A mirror's object, as the publisher reports it: the latest.
#[derive(Clone, Debug)]
pub(super) enum Object {
    /// It can be decoded.
    Readable {
        mirror: Arc<MirrorObject>,
        policy: Result<Arc<MirrorPolicy>, PolicyError>,
        last_valid: Option<ValidPolicy>,
        /// A flip of it that is stored apart from its status.
        flip: Option<Arc<Standing>>,
        /// How often its evidence was found deleted or changed by others.
        evidence_lost: u64,
    },
    /// It can't.
    Unreadable {
        invalid: Arc<InvalidObject>,
        last_valid: Option<ValidPolicy>,
    },
}

impl Object {
    /// Takes the place of what was reported before; that the evidence was lost stays noted.
    pub(super) fn replace(&mut self, mut other: Object) {
        if let (
            Object::Readable {
                evidence_lost: before, ..
            },
            Object::Readable { evidence_lost, .. },
        ) = (&*self, &mut other)
        {
            *evidence_lost = *before;
        }
        *self = other;
    }

    /// Notes that the evidence is to be written again.
    pub(super) fn lose_evidence(&mut self) {
        if let Object::Readable { evidence_lost, .. } = self {
            *evidence_lost += 1;
        }
    }
}
