//! Writes against an API server that holds the `ConfigMaps`, with others at work in between.

use tokio::time::Instant;

use super::*;
use crate::publish::freshness::WatchFreshness;
use crate::publish::testserver::{self, ApiServer, CONFIG_MAPS, State, group, place};
use catamaran_lease::Leadership;

fn mirror() -> MirrorObject {
    let mirror = serde_json::from_value(testserver::mirror("apps", "Primary", 1)).unwrap();
    MirrorObject::of(&mirror).unwrap()
}

fn store(server: &ApiServer) -> EvidenceStore {
    EvidenceStore::new(&server.replica(true, &WatchFreshness::default()).0)
}

/// Groups of a ledger with so many bits, with other content for another seed.
fn ledger(bits: u8, seed: u32) -> Vec<(GroupPlace, Group)> {
    let places = (0..1 << bits).map(|index| place(bits, index));
    places.map(|place| (place, group("apps", place, seed))).collect()
}

fn places(groups: &[(GroupPlace, Group)]) -> Vec<GroupPlace> {
    groups.iter().map(|(place, _)| *place).collect()
}

/// Writes all groups of a ledger.
async fn write(store: &EvidenceStore, groups: &[(GroupPlace, Group)]) -> Result<Written, EvidenceWriteError> {
    store.write(&mirror(), groups, &places(groups)).await
}

fn writes(server: &ApiServer) -> Vec<String> {
    server.with(|state| std::mem::take(&mut state.writes))
}

fn stored(server: &ApiServer, place: GroupPlace) -> Option<Group> {
    let data = server.with(|state| {
        state
            .get(CONFIG_MAPS, &name(place))
            .map(|object| object["binaryData"][KEY].clone())
    });
    let bytes: ByteString = serde_json::from_value(data?).unwrap();
    Group::decode(&bytes.0).ok()
}

fn name(place: GroupPlace) -> String {
    config_map_name("apps", place)
}

/// The ConfigMap of a group, written by the leader that came after.
fn newer(state: &mut State) {
    let group = group("apps", place(0, 0), 99);
    state.put(CONFIG_MAPS, testserver::config_map("apps", &group));
}

#[tokio::test]
async fn changed_group_alone_is_written() {
    let server = ApiServer::default();
    let store = store(&server);
    let before = ledger(2, 0);
    assert_eq!(write(&store, &before).await.unwrap().written, 4);
    assert_eq!(writes(&server).len(), 4);
    let dirty = [(place(2, 3), group("apps", place(2, 3), 1))];
    let written = store.write(&mirror(), &dirty, &places(&before)).await.unwrap();
    assert_eq!(written.written, 1);
    assert_eq!(writes(&server), ["PATCH catamaran-evidence-apps-2x3"]);
    assert_eq!(stored(&server, place(2, 3)).as_ref(), Some(&dirty[0].1));
}

#[tokio::test]
async fn config_map_carries_revision_owner_and_writer() {
    let server = ApiServer::default();
    let groups = ledger(0, 0);
    write(&store(&server), &groups).await.unwrap();
    let metadata = server.with(|state| state.get(CONFIG_MAPS, &name(place(0, 0))).unwrap()["metadata"].clone());
    assert_eq!(
        metadata["annotations"][annotations::REVISION],
        format!("{:016x}", groups[0].1.revision())
    );
    assert_eq!(metadata["annotations"][annotations::WRITTEN_BY], "catamaran-0");
    assert_eq!(metadata["labels"][annotations::EVIDENCE], "apps");
    assert_eq!(metadata["ownerReferences"][0]["uid"], "uid-apps");
}

#[tokio::test]
async fn unchanged_evidence_is_not_written() {
    let server = ApiServer::default();
    let store = store(&server);
    let groups = ledger(1, 0);
    write(&store, &groups).await.unwrap();
    let requests = server.with(|state| state.requests.len());
    assert_eq!(write(&store, &groups).await.unwrap(), Written::default());
    assert_eq!(server.with(|state| state.requests.len()), requests);
}

#[tokio::test]
async fn evidence_of_a_mirror_being_deleted_is_not_written() {
    let server = ApiServer::default();
    let mut mirror = mirror();
    mirror.deleted = true;
    let groups = ledger(0, 0);
    store(&server).write(&mirror, &groups, &places(&groups)).await.unwrap();
    assert!(server.with(|state| state.requests.is_empty()));
}

#[tokio::test]
async fn new_leader_writes_only_what_differs() {
    let server = ApiServer::default();
    write(&store(&server), &ledger(1, 0)).await.unwrap();
    writes(&server);
    let mut groups = ledger(1, 0);
    groups[1] = (place(1, 1), group("apps", place(1, 1), 5));
    let written = write(&store(&server), &groups).await.unwrap();
    assert_eq!(written.written, 1);
    assert_eq!(writes(&server), ["PATCH catamaran-evidence-apps-1x1"]);
}

#[tokio::test]
async fn evidence_of_an_earlier_mirror_is_replaced() {
    let server = ApiServer::default();
    let groups = ledger(0, 0);
    write(&store(&server), &groups).await.unwrap();
    let mut next = mirror();
    next.id.uid = "uid-next".into();
    let written = store(&server).write(&next, &groups, &places(&groups)).await.unwrap();
    assert_eq!(written.written, 1);
    let owner = server.with(|state| {
        state.get(CONFIG_MAPS, &name(place(0, 0))).unwrap()["metadata"]["ownerReferences"][0]["uid"].clone()
    });
    assert_eq!(owner, "uid-next");
}

#[tokio::test]
async fn old_size_is_deleted_after_the_new_one_is_complete() {
    let server = ApiServer::default();
    let store = store(&server);
    write(&store, &ledger(0, 0)).await.unwrap();
    writes(&server);
    let all = ledger(1, 0);
    let written = store.write(&mirror(), &all[..1], &places(&all)).await.unwrap();
    assert_eq!((written.deleted, written.missing), (0, vec![place(1, 1)]));
    let written = store.write(&mirror(), &all[1..], &places(&all)).await.unwrap();
    assert_eq!((written.deleted, written.missing), (1, vec![]));
    assert_eq!(
        writes(&server),
        [
            "POST catamaran-evidence-apps-1x0",
            "POST catamaran-evidence-apps-1x1",
            "DELETE catamaran-evidence-apps-0x0"
        ]
    );
}

#[tokio::test]
async fn group_that_holds_nothing_any_more_is_written_empty() {
    let server = ApiServer::default();
    let store = store(&server);
    assert_eq!(store.write(&mirror(), &[], &[]).await.unwrap(), Written::default());
    let groups = ledger(1, 0);
    write(&store, &groups).await.unwrap();
    let written = store.write(&mirror(), &[], &[place(1, 0)]).await.unwrap();
    assert_eq!((written.written, written.deleted), (1, 0));
    assert!(stored(&server, place(1, 1)).unwrap().is_empty());
    assert_eq!(stored(&server, place(1, 0)).as_ref(), Some(&groups[0].1));
    let written = store.write(&mirror(), &[], &[]).await.unwrap();
    assert_eq!((written.written, written.deleted), (1, 2));
    assert!(stored(&server, place(0, 0)).unwrap().is_empty());
    assert_eq!(store.write(&mirror(), &[], &[]).await.unwrap(), Written::default());
}

#[tokio::test]
async fn shards_of_an_earlier_version_are_deleted_and_others_kept() {
    let server = ApiServer::default();
    for (name, mirror) in [
        ("catamaran-evidence-apps-0", "apps"),
        ("catamaran-evidence-apps-1-0x0", "apps-1"),
        ("of-others", "apps"),
    ] {
        let object = serde_json::json!({"metadata": {"name": name, "labels": {annotations::EVIDENCE: mirror}}});
        server.with(|state| state.put(CONFIG_MAPS, object));
    }
    write(&store(&server), &ledger(0, 0)).await.unwrap();
    let names = server.with(|state| {
        state
            .names(CONFIG_MAPS)
            .into_iter()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    });
    assert_eq!(
        names,
        [
            "catamaran-evidence-apps-0x0",
            "catamaran-evidence-apps-1-0x0",
            "of-others"
        ]
    );
}

#[tokio::test]
async fn late_write_of_a_former_leader_loses() {
    type Meanwhile = fn(&mut State);
    let gone: Meanwhile = |state| drop(state.delete(CONFIG_MAPS, &name(place(0, 0))));
    for (case, before, meanwhile) in [
        ("the next leader replaced the group", true, newer as Meanwhile),
        ("the next leader created the group", false, newer),
        ("the group was removed", true, gone),
    ] {
        let server = ApiServer::default();
        if before {
            write(&store(&server), &ledger(0, 0)).await.unwrap();
        }
        server.with(|state| state.meanwhile = Some(meanwhile));
        let late = write(&store(&server), &ledger(0, 1)).await.unwrap_err();
        assert_eq!(late.failure, WriteFailure::Conflict, "{case}: {late}");
        assert!(!late.is_worth_a_condition(), "{case}");
        assert_ne!(stored(&server, place(0, 0)), Some(ledger(0, 1)[0].1.clone()), "{case}");
    }
}

#[tokio::test]
async fn leader_whose_write_lost_looks_again_and_wins() {
    let server = ApiServer::default();
    let store = store(&server);
    write(&store, &ledger(0, 0)).await.unwrap();
    server.with(newer);
    let conflict = write(&store, &ledger(0, 1)).await.unwrap_err();
    assert_eq!(conflict.failure, WriteFailure::Conflict);
    assert_eq!(conflict.retry_after, Duration::from_secs(1));
    assert_eq!(write(&store, &ledger(0, 1)).await.unwrap().written, 1);
}

#[tokio::test]
async fn replica_that_does_not_lead_sends_nothing() {
    let server = ApiServer::default();
    let (replica, _) = server.replica(false, &WatchFreshness::default());
    let refused = write(&EvidenceStore::new(&replica), &ledger(0, 0)).await.unwrap_err();
    assert_eq!(refused.failure, WriteFailure::NotLeading);
    assert!(server.with(|state| state.requests.is_empty()));
}

#[tokio::test]
async fn next_term_looks_what_another_leader_left() {
    let server = ApiServer::default();
    let (replica, term) = server.replica(true, &WatchFreshness::default());
    let store = EvidenceStore::new(&replica);
    write(&store, &ledger(0, 0)).await.unwrap();
    term.send_replace(Leadership::NONE);
    server.with(newer);
    let theirs = group("apps", place(0, 0), 99);
    let sighting = Sighting::of(&"uid-apps".into(), &name(place(0, 0)), "2", Some(theirs.revision()));
    assert!(!store.is_lost(&sighting), "it is theirs to write");
    term.send_replace(Leadership::until(Instant::now() + Duration::from_hours(1)));
    assert_eq!(write(&store, &ledger(0, 0)).await.unwrap().written, 1);
}

#[tokio::test]
async fn config_map_without_its_label_gets_it_back() {
    let server = ApiServer::default();
    write(&store(&server), &ledger(0, 0)).await.unwrap();
    server.with(|state| {
        state.edit(CONFIG_MAPS, &name(place(0, 0)), |object| {
            object["metadata"]["labels"] = serde_json::json!({});
        });
    });
    write(&store(&server), &ledger(0, 0)).await.unwrap();
    let label = server.with(|state| state.get(CONFIG_MAPS, &name(place(0, 0))).unwrap()["metadata"]["labels"].clone());
    assert_eq!(label[annotations::EVIDENCE], "apps");
}

#[tokio::test]
async fn failures_have_stable_words_and_growing_pauses() {
    let server = ApiServer::default();
    let store = store(&server);
    for (code, failure) in [
        (403, WriteFailure::Forbidden),
        (422, WriteFailure::Rejected),
        (500, WriteFailure::Unavailable),
        (429, WriteFailure::Unavailable),
    ] {
        server.with(|state| state.refuse = Some((code, |request| request.starts_with("POST"))));
        let error = write(&store, &ledger(0, 0)).await.unwrap_err();
        assert_eq!(error.failure, failure, "{code}");
        assert!(error.is_worth_a_condition());
    }
    let mut pauses = Vec::new();
    for _ in 0..8 {
        pauses.push(write(&store, &ledger(0, 0)).await.unwrap_err().retry_after.as_secs());
    }
    assert_eq!(pauses, [16, 32, 64, 128, 256, 300, 300, 300]);
    server.with(|state| state.refuse = None);
    write(&store, &ledger(0, 0)).await.unwrap();
    server.with(|state| state.refuse = Some((403, |request| request.starts_with("PATCH"))));
    let error = write(&store, &ledger(0, 1)).await.unwrap_err();
    assert_eq!(error.retry_after, Duration::from_secs(1));
}

#[tokio::test]
async fn change_by_others_is_lost_and_written_again() {
    let uid: Arc<str> = "uid-apps".into();
    let ours = ledger(0, 0);
    let theirs = group("apps", place(0, 0), 99).revision();
    for (case, sighting, lost) in [
        (
            "our own write",
            Sighting::of(&uid, &name(place(0, 0)), "1", Some(ours[0].1.revision())),
            false,
        ),
        (
            "an older write of ours",
            Sighting::of(&uid, &name(place(0, 0)), "0", Some(theirs)),
            false,
        ),
        (
            "an older one in a list",
            Sighting::of(&uid, &name(place(0, 0)), "0", Some(theirs)).listed(true),
            true,
        ),
        (
            "our own in a list",
            Sighting::of(&uid, &name(place(0, 0)), "1", Some(ours[0].1.revision())).listed(true),
            false,
        ),
        (
            "other metadata",
            Sighting::of(&uid, &name(place(0, 0)), "2", Some(ours[0].1.revision())),
            false,
        ),
        (
            "other content",
            Sighting::of(&uid, &name(place(0, 0)), "2", Some(theirs)),
            true,
        ),
        (
            "damaged content",
            Sighting::of(&uid, &name(place(0, 0)), "2", None),
            true,
        ),
        ("deleted", Sighting::deleted(&uid, &name(place(0, 0))), true),
        (
            "another group",
            Sighting::of(&uid, &name(place(1, 0)), "2", Some(theirs)),
            true,
        ),
        (
            "another mirror's",
            Sighting::deleted(&"uid-other".into(), &name(place(0, 0))),
            false,
        ),
    ] {
        let server = ApiServer::default();
        let store = store(&server);
        write(&store, &ours).await.unwrap();
        assert_eq!(store.is_lost(&sighting), lost, "{case}");
        assert!(!store.is_lost(&sighting), "{case}: once");
    }
}

#[tokio::test]
async fn watch_that_goes_back_is_a_loss() {
    let (uid, server) = (Arc::<str>::from("uid-apps"), ApiServer::default());
    let store = store(&server);
    let (first, second) = (ledger(0, 0), ledger(0, 1));
    write(&store, &first).await.unwrap();
    write(&store, &second).await.unwrap();
    let sighting = |version, ledger: &[(GroupPlace, Group)]| {
        Sighting::of(&uid, &name(place(0, 0)), version, Some(ledger[0].1.revision()))
    };
    assert!(!store.is_lost(&sighting("1", &first)), "the second is on its way");
    assert!(!store.is_lost(&sighting("2", &second)));
    // The API server was restored from a backup.
    server.with(|state| {
        state.edit(CONFIG_MAPS, &name(place(0, 0)), |object| {
            *object = testserver::config_map("apps", &first[0].1);
            object["metadata"]["resourceVersion"] = serde_json::json!("1");
        });
    });
    assert!(store.is_lost(&sighting("1", &first)));
    assert_eq!(write(&store, &second).await.unwrap().written, 1);
    assert_eq!(stored(&server, place(0, 0)), Some(second[0].1.clone()));
}

#[tokio::test]
async fn config_map_that_a_list_lacks_is_lost() {
    let server = ApiServer::default();
    let store = store(&server);
    write(&store, &ledger(1, 0)).await.unwrap();
    assert!(store.unlisted(|_| true).is_empty());
    let only_first = |listed: &str| listed == name(place(1, 0));
    assert_eq!(store.unlisted(only_first), ["uid-apps".into()]);
    assert!(store.unlisted(only_first).is_empty(), "once");
}

#[tokio::test]
async fn content_changed_behind_its_annotation_is_written() {
    let server = ApiServer::default();
    let store = store(&server);
    write(&store, &ledger(0, 0)).await.unwrap();
    // The annotation still says what the leader knows.
    server.with(|state| {
        state.edit(CONFIG_MAPS, &name(place(0, 0)), |object| {
            object["binaryData"][KEY] = serde_json::json!("");
        });
    });
    assert!(store.is_lost(&Sighting::of(&"uid-apps".into(), &name(place(0, 0)), "2", None)));
    assert_eq!(write(&store, &ledger(0, 0)).await.unwrap().written, 1);
    assert_eq!(stored(&server, place(0, 0)), Some(ledger(0, 0)[0].1.clone()));
}

#[test]
fn write_under_way_is_contested_only_by_others() {
    let (uid, name): (Arc<str>, _) = ("uid-apps".into(), name(place(0, 0)));
    for (case, sighting, lost) in [
        ("the write itself", Sighting::of(&uid, &name, "8", Some(2)), false),
        ("the write before", Sighting::of(&uid, &name, "7", Some(1)), false),
        ("others", Sighting::of(&uid, &name, "9", Some(3)), true),
        ("a deletion", Sighting::deleted(&uid, &name), true),
    ] {
        let mut known = Known::default();
        let before = testserver::config_map("apps", &group("apps", place(0, 0), 0));
        let mut before: ConfigMap = serde_json::from_value(before).unwrap();
        before.metadata.resource_version = Some("7".to_owned());
        known.put(&name, There::of(&before));
        known.begin(&name, Some(2));
        assert_eq!(known.is_lost(&sighting), lost, "{case}");
        known.end();
        before.metadata.resource_version = Some("8".to_owned());
        known.put(&name, There::of(&before));
        known.succeeded();
        assert_eq!(known.is_listed(), !lost, "{case}");
    }
}
