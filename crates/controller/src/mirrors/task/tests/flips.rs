//! Flips of more mirrors than statuses are written at a time.

use super::*;
use crate::publish::flips::{KEY, NAME};
use crate::writes::Turn;

impl Bed {
    /// As many flips as are written at a time, under way for as long as this is kept.
    fn crowd(&self) -> Vec<Turn> {
        std::iter::from_fn(|| self.context.writes.flip_now()).collect()
    }

    fn events(&self, reason: &str) -> usize {
        let api = self.api();
        api.events.iter().filter(|event| event["reason"] == reason).count()
    }
}

fn stored(api: &Api) -> Value {
    let flips = api.config_maps.get(NAME).and_then(|there| there["data"][KEY].as_str());
    let flips: Value = flips
        .and_then(|flips| serde_json::from_str(flips).ok())
        .unwrap_or_default();
    flips["u1"].clone()
}

#[tokio::test]
async fn flip_that_finds_no_turn_is_stored_together_with_others() {
    let bed = Bed::start(true).await;
    bed.until_in_sync().await;
    let crowd = bed.crowd();
    bed.edit(|spec| spec["active"] = json!("Fallback"));
    bed.until("the flip", |api| stored(api)["active"] == "Fallback").await;
    assert_eq!(
        bed.api().mirror["status"]["active"],
        "Primary",
        "the status waits for its turn"
    );
    let flip = stored(&bed.api());
    drop(crowd);
    bed.until("the status", |api| api.mirror["status"]["active"] == "Fallback")
        .await;
    for field in ["epoch", "activeRegistry", "lastFlip"] {
        assert_eq!(bed.api().mirror["status"][field], flip[field], "{field}");
    }
    bed.until("the Event", |api| {
        api.events.iter().any(|event| event["reason"] == "FailedOver")
    })
    .await;
    assert_eq!(bed.api().mirror["status"]["epoch"], 2);
    // The next one finds a turn.
    bed.edit(|spec| spec["active"] = json!("Primary"));
    bed.until("the way back", |api| api.mirror["status"]["epoch"] == 3)
        .await;
    assert_eq!(stored(&bed.api())["epoch"], 2);
    assert_eq!(bed.events("FailedOver"), 1);
}

#[tokio::test]
async fn flip_that_can_not_be_stored_with_others_waits_for_its_turn() {
    let bed = Bed::start(true).await;
    bed.until_in_sync().await;
    bed.api().refuse = Some(403);
    let crowd = bed.crowd();
    bed.edit(|spec| spec["active"] = json!("Fallback"));
    bed.until("the attempt", |api| api.count("/configmaps", 403) > 0).await;
    drop(crowd);
    bed.until("the flip", |api| api.mirror["status"]["active"] == "Fallback")
        .await;
    assert_eq!(bed.api().mirror["status"]["epoch"], 2);
}

#[tokio::test]
async fn leader_goes_on_from_a_flip_that_no_status_says_yet() {
    let bed = Bed::start(false).await;
    let flip = Standing {
        active: Side::Fallback,
        registry: Some("ghcr.io/devopskev".to_owned()),
        epoch: 4,
        ..Standing::default()
    };
    bed.apply_with(Some(Arc::new(flip)));
    lead(&bed.leadership);
    bed.until("the status says it", |api| api.mirror["status"]["epoch"] == 4)
        .await;
    assert_eq!(bed.api().mirror["status"]["active"], "Fallback");
}
