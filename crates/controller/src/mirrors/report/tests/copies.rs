//! What is reported of copied tags.

use super::*;

#[test]
fn copying_is_reported_while_it_is_not_off() {
    let mut world = World::with(&json!({"repair": {"missingTags": "Copy"}}));
    world.run(MINUTES);
    let repair = world.status().repair.unwrap();
    assert_eq!((repair.copied, repair.failed, repair.pending), (0, 0, 0));
    world.copies = Err(CopyFailure {
        reason: "Denied",
        message: "the repository is locked".to_owned(),
        of_registry: true,
        read_again: false,
    });
    world.tag("2", &digest("b"), &Observed::Absent).run(PASSES);
    let repair = world.status().repair.unwrap();
    assert_eq!((repair.copied, repair.failed), (0, 1));
    assert!(
        repair.message.contains("the repository is locked"),
        "{}",
        repair.message
    );
    world
        .edit(|spec| spec.repair.missing_tags = catamaran_api::mirror::MissingTags::Off)
        .run(1);
    assert_eq!(world.status().repair, None);
}
