//! What is known of the groups as their `ConfigMaps` come and go.

use super::*;
use crate::publish::testserver::{config_map, group, place};

fn parse(value: serde_json::Value) -> ConfigMap {
    serde_json::from_value(value).unwrap()
}

fn stored(mirror: &str, group: &Group, version: u64) -> ConfigMap {
    let mut config_map = parse(config_map(mirror, group));
    config_map.metadata.resource_version = Some(version.to_string());
    config_map
}

fn uid() -> Arc<str> {
    "uid-apps".into()
}

/// The groups of a mirror that are used.
fn groups(cache: &EvidenceCache) -> Vec<Arc<Group>> {
    let evidence = cache.mirrors.get(&uid()).map(|mirror| mirror.evidence.clone());
    evidence.map(|evidence| evidence.groups().to_vec()).unwrap_or_default()
}

fn places(cache: &EvidenceCache) -> Vec<GroupPlace> {
    groups(cache).iter().map(|group| group.place()).collect()
}

/// A cache that has listed the groups of the mirror `apps` with 1 bit, of versions 1 and 2.
fn listed() -> EvidenceCache {
    let mut cache = EvidenceCache::default();
    cache.take(Event::Init);
    for index in 0..2 {
        let group = group("apps", place(1, index), 0);
        cache.take(Event::InitApply(stored("apps", &group, u64::from(index) + 1)));
    }
    cache.take(Event::InitDone);
    cache
}

#[test]
fn changed_config_map_replaces_one_group() {
    let mut cache = listed();
    let before = groups(&cache);
    cache.take(Event::Apply(stored("apps", &group("apps", place(1, 1), 7), 3)));
    let after = groups(&cache);
    assert!(Arc::ptr_eq(&before[0], &after[0]));
    assert_ne!(before[1].revision(), after[1].revision());
}

#[test]
fn list_of_known_versions_decodes_nothing() {
    let mut cache = listed();
    let before = groups(&cache);
    cache.take(Event::Init);
    for (index, group) in before.iter().enumerate() {
        let (version, name) = (index as u64 + 1, config_map_name("apps", group.place()));
        let sightings = cache.take(Event::InitApply(stored("apps", group, version)));
        let sighting = Sighting::of(&uid(), &name, &version.to_string(), Some(group.revision()));
        assert_eq!(sightings, [sighting.listed(true)]);
        assert_eq!(cache.take(Event::Apply(stored("apps", group, version))), []);
    }
    assert_eq!(cache.take(Event::InitDone), []);
    let after = groups(&cache);
    assert!(
        before
            .iter()
            .zip(&after)
            .all(|(before, after)| Arc::ptr_eq(before, after))
    );
}

#[test]
fn deleted_config_map_keeps_its_last_content() {
    let group = group("apps", place(1, 0), 0);
    for (case, gone) in [
        ("deleted", vec![Event::Delete(stored("apps", &group, 9))]),
        ("missing in a list", {
            let other = crate::publish::testserver::group("apps", place(1, 1), 0);
            vec![
                Event::Init,
                Event::InitApply(stored("apps", &other, 2)),
                Event::InitDone,
            ]
        }),
    ] {
        let mut cache = listed();
        let sightings: Vec<Sighting> = gone.into_iter().flat_map(|event| cache.take(event)).collect();
        let name = config_map_name("apps", place(1, 0));
        assert_eq!(sightings.last(), Some(&Sighting::deleted(&uid(), &name)), "{case}");
        assert_eq!(places(&cache), [place(1, 0), place(1, 1)], "{case}");
        assert_eq!(cache.missing(), 1, "{case}");
        cache.take(Event::Apply(stored("apps", &group, 10)));
        assert_eq!(cache.missing(), 0, "{case}");
    }
}

#[test]
fn damaged_config_map_keeps_its_last_content() {
    let mut cache = listed();
    let mut damaged = stored("apps", &group("apps", place(1, 0), 0), 5);
    damaged.binary_data.as_mut().unwrap().get_mut(KEY).unwrap().0.push(0);
    let name = config_map_name("apps", place(1, 0));
    let sightings = cache.take(Event::Apply(damaged));
    assert_eq!(sightings, [Sighting::of(&uid(), &name, "5", None)]);
    assert_eq!(places(&cache), [place(1, 0), place(1, 1)]);
    assert_eq!(cache.missing(), 1);
}

#[test]
fn groups_of_another_size_replace_all_once_complete() {
    let mut cache = listed();
    for index in 0..4 {
        assert!(places(&cache).contains(&place(1, 0)), "{index}");
        cache.take(Event::Apply(stored(
            "apps",
            &group("apps", place(2, index), 0),
            u64::from(index) + 10,
        )));
    }
    for index in 0..2 {
        cache.take(Event::Delete(stored("apps", &group("apps", place(1, index), 0), 20)));
    }
    assert_eq!(places(&cache), (0..4).map(|index| place(2, index)).collect::<Vec<_>>());
    assert_eq!(cache.missing(), 0);
}

#[test]
fn missing_group_goes_when_another_size_is_complete() {
    let mut cache = listed();
    cache.take(Event::Delete(stored("apps", &group("apps", place(1, 0), 0), 9)));
    assert_eq!(cache.missing(), 1);
    cache.take(Event::Apply(stored("apps", &group("apps", place(0, 0), 0), 10)));
    assert_eq!(cache.missing(), 0);
    assert_eq!(places(&cache), [place(0, 0), place(1, 1)]);
}

#[test]
fn missing_groups_go_with_their_mirror() {
    let mut cache = listed();
    for index in 0..2 {
        cache.take(Event::Delete(stored("apps", &group("apps", place(1, index), 0), 9)));
    }
    cache.retain(BTreeSet::from([uid()]));
    assert_eq!(places(&cache).len(), 2);
    cache.retain(BTreeSet::new());
    assert_eq!(places(&cache), []);
    assert_eq!(cache.missing(), 0);
}

#[test]
fn groups_deleted_after_their_mirror_are_dropped() {
    let mut cache = listed();
    cache.retain(BTreeSet::new());
    assert_eq!(places(&cache).len(), 2);
    cache.take(Event::Delete(stored("apps", &group("apps", place(1, 0), 0), 9)));
    assert_eq!(places(&cache), [place(1, 1)]);
    assert_eq!(cache.missing(), 0);
}

#[test]
fn evidence_of_an_earlier_mirror_counts_for_it_alone() {
    let mut cache = listed();
    let mut next = stored("apps", &group("apps", place(1, 0), 7), 9);
    next.metadata.owner_references.as_mut().unwrap()[0].uid = "uid-next".into();
    cache.take(Event::Apply(next));
    let next = cache.mirrors.get("uid-next").unwrap();
    assert_eq!(next.evidence.groups().len(), 1);
    assert_eq!(cache.missing(), 1, "the earlier mirror's is gone");
}

#[test]
fn config_map_under_another_name_is_not_used() {
    let mut cache = EvidenceCache::default();
    let mut copy = stored("apps", &group("apps", place(0, 0), 0), 1);
    copy.metadata.name = Some("copy".to_owned());
    cache.take(Event::Apply(copy));
    assert_eq!(places(&cache), []);
}

#[test]
fn evidence_is_published_once_it_was_listed() {
    let (sender, receiver) = watch::channel(StoredEvidence::default());
    let mut cache = EvidenceCache::default();
    cache.take(Event::Init);
    cache.take(Event::InitApply(stored("apps", &group("apps", place(0, 0), 0), 1)));
    cache.publish(&sender);
    assert!(!receiver.has_changed().unwrap());
    cache.take(Event::InitDone);
    cache.publish(&sender);
    assert!(receiver.borrow().listed);
    assert_eq!(receiver.borrow().by_mirror[&uid()].len(), 1);
}
