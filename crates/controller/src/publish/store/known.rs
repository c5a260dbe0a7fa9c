//! What the store knows of a mirror's `ConfigMaps`.

use std::collections::BTreeMap;
use std::sync::Arc;

use catamaran_api::annotations;
use catamaran_core::routing::evidence::GroupPlace;
use kube::ResourceExt;

use super::mirror_uid;

/// Metadata of one ConfigMap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct There {
    /// Its `resourceVersion`.
    pub version: String,
    /// The UID of the mirror that owns it.
    owner: Option<String>,
    /// The revision that its annotation names.
    revision: Option<String>,
}

impl There {
    pub fn of(config_map: &impl ResourceExt) -> There {
        There {
            version: config_map.resource_version().unwrap_or_default(),
            owner: mirror_uid(config_map).map(str::to_owned),
            revision: config_map.annotations().get(annotations::REVISION).cloned(),
        }
    }
}

/// A revision as its annotation has it.
pub(super) fn revision(revision: u64) -> String {
    format!("{revision:016x}")
}

/// What the watch has shown of a ConfigMap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sighting {
    /// The UID of the mirror that owns it, or did.
    pub uid: Arc<str>,
    name: String,
    /// None when it is gone.
    content: Option<Content>,
    /// By a list, which is no older than the request for it: unlike an event of the watch, it can't be on its way yet.
    listed: bool,
}

/// What a ConfigMap holds.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Content {
    /// Its `resourceVersion`.
    version: String,
    /// The revision of the group itself; none when there is no group of this mirror in it.
    revision: Option<String>,
}

impl Sighting {
    /// It holds a group of this revision, or nothing readable.
    pub fn of(uid: &Arc<str>, name: &str, version: &str, content: Option<u64>) -> Sighting {
        let content = Content {
            version: version.to_owned(),
            revision: content.map(revision),
        };
        Sighting {
            uid: Arc::clone(uid),
            name: name.to_owned(),
            content: Some(content),
            listed: false,
        }
    }

    /// The same, shown by a list.
    pub fn listed(self, listed: bool) -> Sighting {
        Sighting { listed, ..self }
    }

    /// It is gone.
    pub fn deleted(uid: &Arc<str>, name: &str) -> Sighting {
        Sighting {
            uid: Arc::clone(uid),
            name: name.to_owned(),
            content: None,
            listed: false,
        }
    }
}

/// What is known of all `ConfigMaps` of one mirror.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// By name; none before they were listed, and after anything went wrong.
    there: Option<BTreeMap<String, There>>,
    /// What the watch last showed of each.
    sighted: Sighted,
    in_flight: Option<InFlight>,
    /// Others changed what this replica was writing.
    contested: bool,
    failures: u32,
}

/// What the watch last showed, sorted by name. Most mirrors have one ConfigMap, for which a map takes ten times as much memory.
#[derive(Debug, Default)]
struct Sighted(Vec<(Box<str>, Content)>);

impl Sighted {
    fn position(&self, name: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|(known, _)| (**known).cmp(name))
    }

    fn get(&self, name: &str) -> Option<&Content> {
        let position = self.position(name).ok()?;
        self.0.get(position).map(|(_, content)| content)
    }

    /// What was shown before.
    fn insert(&mut self, name: &str, content: Content) -> Option<Content> {
        match self.position(name) {
            Ok(position) => self
                .0
                .get_mut(position)
                .map(|(_, known)| std::mem::replace(known, content)),
            Err(position) => {
                if self.0.is_empty() {
                    self.0.reserve_exact(1);
                }
                self.0.insert(position, (name.into(), content));
                None
            }
        }
    }

    fn remove(&mut self, name: &str) -> Option<Content> {
        let position = self.position(name).ok()?;
        Some(self.0.remove(position).1)
    }
}

/// The write under way.
#[derive(Debug)]
struct InFlight {
    name: String,
    /// The version that it replaces.
    before: Option<String>,
    /// The revision that the ConfigMap will have; none when it is deleted.
    revision: Option<String>,
}

impl Known {
    pub fn is_listed(&self) -> bool {
        self.there.is_some()
    }

    /// There is none.
    pub fn is_empty(&self) -> bool {
        self.there.as_ref().is_none_or(BTreeMap::is_empty)
    }

    pub fn listed(&mut self, there: BTreeMap<String, There>) {
        self.there = Some(there);
    }

    /// Another replica leads and writes: list again before the next write.
    pub fn forget(&mut self) {
        self.there = None;
    }

    pub fn failures(&self) -> u32 {
        self.failures
    }

    pub fn succeeded(&mut self) {
        self.failures = 0;
        if std::mem::take(&mut self.contested) {
            self.there = None;
        }
    }

    pub fn failed(&mut self) {
        self.failures = self.failures.saturating_add(1);
        self.contested = false;
        self.there = None;
    }

    /// Whether a ConfigMap is there as it is to be.
    pub fn is_current(&self, name: &str, uid: &str, content: u64) -> bool {
        let wanted = Some(revision(content));
        let Some(there) = self.there.as_ref().and_then(|there| there.get(name)) else {
            return false;
        };
        // An annotation says nothing about a content that was changed behind it.
        let as_it_says = |seen: &Content| seen.version != there.version || seen.revision == wanted;
        there.owner.as_deref() == Some(uid) && there.revision == wanted && self.sighted.get(name).is_none_or(as_it_says)
    }

    /// A write of a ConfigMap begins; the version that it replaces.
    pub fn begin(&mut self, name: &str, content: Option<u64>) -> Option<String> {
        let there = self.there.as_ref().and_then(|there| there.get(name));
        let before = there.map(|there| there.version.clone());
        self.in_flight = Some(InFlight {
            name: name.to_owned(),
            before: before.clone(),
            revision: content.map(revision),
        });
        before
    }

    /// The write has ended, whatever came of it.
    pub fn end(&mut self) {
        self.in_flight = None;
    }

    pub fn put(&mut self, name: &str, there: There) {
        self.there.get_or_insert_default().insert(name.to_owned(), there);
    }

    pub fn remove(&mut self, name: &str) {
        if let Some(there) = &mut self.there {
            there.remove(name);
        }
    }

    /// Those of `names` that are not there.
    pub fn missing(&self, names: &BTreeMap<String, GroupPlace>) -> Vec<GroupPlace> {
        let is_there = |name: &str| self.there.as_ref().is_some_and(|there| there.contains_key(name));
        let missing = names.iter().filter(|(name, _)| !is_there(name));
        missing.map(|(_, place)| *place).collect()
    }

    /// Name and version of those that `which` names.
    pub fn others(&self, which: impl Fn(&str) -> bool) -> Vec<(String, String)> {
        let there = self.there.iter().flatten().filter(|(name, _)| which(name));
        there
            .map(|(name, there)| (name.clone(), there.version.clone()))
            .collect()
    }

    /// Notes what the watch shows, and whether it was done by others since this replica wrote; what is there is then looked
    /// up again by the next write.
    ///
    /// The watch shows one version after the other, so an older one than is known says nothing: what is known is on its way. But
    /// where the watch itself goes back, or a list shows an older one, the API server may have been restored from a backup.
    pub fn is_lost(&mut self, sighting: &Sighting) -> bool {
        let before = match &sighting.content {
            Some(content) => self.sighted.insert(&sighting.name, content.clone()),
            None => self.sighted.remove(&sighting.name),
        };
        if let Some(in_flight) = self.in_flight.as_ref().filter(|write| write.name == sighting.name) {
            let contested = in_flight.is_contested_by(sighting.content.as_ref());
            self.contested |= contested;
            return contested;
        }
        let Some(all) = &mut self.there else {
            return false;
        };
        let lost = match (&sighting.content, all.get_mut(&sighting.name)) {
            (None, there) => there.is_some(),
            (Some(_), None) => true,
            (Some(content), Some(there)) => {
                let newer = is_newer(&content.version, &there.version);
                if newer && content.revision == there.revision {
                    // Only its metadata was changed.
                    there.version.clone_from(&content.version);
                }
                let went_back = before.is_some_and(|before| is_newer(&before.version, &content.version));
                let other = content.version != there.version;
                (newer || other && (sighting.listed || went_back)) && content.revision != there.revision
            }
        };
        if lost {
            self.there = None;
        }
        lost
    }

    /// Whether one that this replica wrote is not among `names`, which are all that a list has shown.
    pub fn lacks_any(&mut self, names: impl Fn(&str) -> bool) -> bool {
        let lost = self.there.iter().flatten().any(|(name, _)| !names(name));
        if lost {
            self.there = None;
        }
        lost
    }
}

impl InFlight {
    fn is_contested_by(&self, content: Option<&Content>) -> bool {
        let Some(content) = content else {
            return self.revision.is_some();
        };
        let news = self
            .before
            .as_ref()
            .is_none_or(|before| is_newer(&content.version, before));
        news && content.revision != self.revision
    }
}

/// Whether a version is later than the one that is known. They are numbers; others are only compared for being the same.
fn is_newer(version: &str, known: &str) -> bool {
    match (version.parse::<u64>(), known.parse::<u64>()) {
        (Ok(version), Ok(known)) => version > known,
        _ => version != known,
    }
}
