use catamaran_api::mirror::RegistryMirror;
use serde_json::json;

use super::*;

pub(super) fn mirror(uid: &str, primary: &str, fallback: &str) -> MirrorPolicy {
    let mirror: RegistryMirror = serde_json::from_value(json!({
        "apiVersion": "catamaran.dev/v1alpha1", "kind": "RegistryMirror",
        "metadata": {"name": uid, "uid": uid, "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {
            "primary": {"registry": primary}, "fallback": {"registry": fallback},
            "repositories": [{"name": "web"}], "parity": {"interval": "100s"},
        },
    }))
    .unwrap();
    catamaran_api::policy::policy(&mirror).unwrap()
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_000_000 + second).unwrap()
}

const WEB: Sides<&str> = Sides {
    primary: "web",
    fallback: "web",
};

/// One look of a mirror at its primary: what it takes over, and whether it reads for itself.
async fn look(readings: &Readings, policy: &MirrorPolicy, second: i64) -> &'static str {
    let turns = readings.turns(policy, WEB, at(second)).await;
    let Some(turn) = turns.primary else { return "alone" };
    let found = if turn.listing().is_some() { "taken over" } else { "read" };
    if found == "read" {
        turn.keep_listing(&Arc::default(), at(second));
    }
    turn.end(at(second));
    found
}

#[tokio::test]
async fn a_reading_is_taken_over_once_by_each_mirror_and_only_while_it_is_young() {
    let readings = Readings::default();
    let (one, two) = (mirror("1", "a.test", "b.test"), mirror("2", "a.test", "c.test"));
    readings.claim(&one);
    assert_eq!(look(&readings, &one, 0).await, "alone");
    readings.claim(&two);
    let looks = [
        (&one, 1, "read"),
        (&two, 2, "taken over"),
        (&two, 3, "read"),
        (&one, 4, "taken over"),
        (&one, 5, "read"),
        (&two, 56, "read"),
        (&one, 105, "taken over"),
        (&two, 157, "read"),
    ];
    for (policy, second, expected) in looks {
        assert_eq!(
            look(&readings, policy, second).await,
            expected,
            "mirror {} at {second} s",
            policy.id
        );
    }
    readings.retain(|uid| uid == "1");
    assert_eq!(look(&readings, &one, 158).await, "alone");
}

#[tokio::test]
async fn other_credentials_are_another_place() {
    let readings = Readings::default();
    let one = mirror("1", "a.test", "b.test");
    let mut two = mirror("2", "a.test", "b.test");
    two.sides.primary.credentials_secret = Some("other".to_owned());
    readings.claim(&one);
    readings.claim(&two);
    let turns = readings.turns(&one, WEB, at(0)).await;
    assert!(turns.primary.is_none() && turns.fallback.is_some());
}

#[tokio::test(start_paused = true)]
async fn mirrors_with_their_sides_swapped_never_wait_for_each_other_forever() {
    let readings = Arc::new(Readings::default());
    let (one, two) = (mirror("1", "a.test", "b.test"), mirror("2", "b.test", "a.test"));
    readings.claim(&one);
    readings.claim(&two);
    let mut tasks = tokio::task::JoinSet::new();
    for policy in [one, two] {
        let readings = Arc::clone(&readings);
        tasks.spawn(async move {
            for second in 0..50 {
                let turns = readings.turns(&policy, WEB, at(second)).await;
                tokio::time::sleep(Duration::from_millis(7)).await;
                drop(turns);
            }
        });
    }
    tokio::time::timeout(Duration::from_mins(1), tasks.join_all())
        .await
        .unwrap();
}

#[tokio::test]
async fn digests_of_tags_that_are_gone_are_forgotten() {
    let readings = Readings::default();
    let (one, two) = (mirror("1", "a.test", "b.test"), mirror("2", "a.test", "b.test"));
    readings.claim(&one);
    readings.claim(&two);
    let turn = readings.turns(&one, WEB, at(0)).await.primary.unwrap();
    turn.keep_digest("v1", &Observed::Absent, at(0));
    turn.end(at(1));
    let turn = readings.turns(&two, WEB, at(2)).await.primary.unwrap();
    assert_eq!(turn.digest("v1"), Some(Observed::Absent));
    turn.keep_listing(&Arc::default(), at(2));
    assert_eq!(turn.digest("v1"), None);
}
