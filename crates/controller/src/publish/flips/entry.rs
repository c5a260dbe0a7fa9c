//! What a flip is stored as: the fields of the status that it will be, by their names there.

use std::collections::BTreeMap;
use std::sync::Arc;

use catamaran_api::mirror::LastFlip;
use catamaran_core::mirror::failover::{Flip, Standing};
use catamaran_core::side::Side;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::{Deserialize, Serialize};

use super::{Flips, KEY};
use crate::clock::whole_seconds;

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    active: Side,
    active_registry: Option<String>,
    epoch: u64,
    last_flip: Option<LastFlip>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    recent_failovers: Vec<Time>,
}

impl From<&Standing> for Entry {
    fn from(standing: &Standing) -> Entry {
        Entry {
            active: standing.active,
            active_registry: standing.registry.clone(),
            epoch: standing.epoch,
            last_flip: standing.last_flip.as_ref().map(last_flip),
            recent_failovers: standing.failovers.iter().copied().map(whole_seconds).collect(),
        }
    }
}

impl From<Entry> for Standing {
    fn from(entry: Entry) -> Standing {
        Standing {
            active: entry.active,
            registry: entry.active_registry,
            epoch: entry.epoch,
            last_flip: entry.last_flip.as_ref().and_then(flip),
            failovers: entry.recent_failovers.iter().map(|time| time.0).collect(),
        }
    }
}

/// What stands, as it is read back.
pub(crate) fn as_stored(standing: &Standing) -> Standing {
    Entry::from(standing).into()
}

/// A flip as the status has it.
pub(crate) fn last_flip(flip: &Flip) -> LastFlip {
    LastFlip {
        time: whole_seconds(flip.at),
        from: flip.from,
        to: flip.to,
        reason: flip.reason.as_str().to_owned(),
    }
}

/// A flip of a status; none for one with a reason that is not known here.
pub(crate) fn flip(last: &LastFlip) -> Option<Flip> {
    Some(Flip {
        at: last.time.0,
        from: last.from,
        to: last.to,
        reason: last.reason.parse().ok()?,
    })
}

pub(super) fn encode(flips: &Flips) -> String {
    let entries: BTreeMap<&str, Entry> = flips
        .iter()
        .map(|(uid, standing)| (&**uid, Entry::from(&**standing)))
        .collect();
    // Maps of strings and numbers can't fail.
    serde_json::to_string(&entries).unwrap_or_default()
}

pub(super) fn decode(config_map: &ConfigMap) -> serde_json::Result<Flips> {
    let content = config_map.data.as_ref().and_then(|data| data.get(KEY));
    let Some(content) = content else {
        return Ok(Flips::new());
    };
    let entries: BTreeMap<String, Entry> = serde_json::from_str(content)?;
    Ok(entries
        .into_iter()
        .map(|(uid, entry)| (uid.into(), Arc::new(entry.into())))
        .collect())
}
