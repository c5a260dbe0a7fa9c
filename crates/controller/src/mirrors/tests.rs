use catamaran_core::routing::Route;
use serde_json::json;

use super::*;

/// A table of mirrors of one repository, the oldest first.
fn table(names: &[&str]) -> RouteTable {
    let route = |(age, name): (usize, &&str)| {
        let mirror = serde_json::from_value(json!({
            "apiVersion": "catamaran.dev/v1alpha1", "kind": "RegistryMirror",
            "metadata": {"name": name, "uid": name, "creationTimestamp": format!("2026-01-0{}T00:00:00Z", age + 1)},
            "spec": {
                "primary": {"registry": "kracr.azurecr.io"}, "fallback": {"registry": "ghcr.io", "prefix": name},
                "repositories": [{"name": "web"}],
            },
        }));
        Route {
            policy: Arc::new(catamaran_api::policy::policy(&mirror.unwrap()).unwrap()),
            active: Side::Primary,
            epoch: 1,
            evidence: Arc::default(),
            observed: Arc::default(),
            unavailable: Sides::default(),
        }
    };
    let routes = names.iter().enumerate().map(route).collect();
    RouteTable::new(routes, Arc::default(), Arc::default())
}

fn id(name: &str) -> MirrorId {
    MirrorId {
        name: name.into(),
        uid: name.into(),
    }
}

#[tokio::test]
async fn conflict_is_reported_once_to_the_mirror_that_loses() {
    let tasks = MirrorTasks::default();
    let (mut older, mut younger) = (tasks.add(&id("older")), tasks.add(&id("younger")));
    let (both, one) = (table(&["older", "younger"]), table(&["younger"]));
    let mut reports = ConflictReports::default();
    for _ in 0..3 {
        reports.report(&tasks, &both);
    }
    assert_eq!(younger.conflicts(), [["older"]]);
    for _ in 0..3 {
        reports.report(&tasks, &one);
    }
    assert_eq!(younger.conflicts(), [[""; 0]], "it is over");
    assert_eq!(older.conflicts(), [[""; 0]; 0]);
    assert!(reports.told.is_empty());
}

#[tokio::test]
async fn task_that_begins_later_hears_of_its_conflict() {
    let tasks = MirrorTasks::default();
    let table = table(&["older", "younger"]);
    let mut reports = ConflictReports::default();
    reports.report(&tasks, &table);
    let mut younger = tasks.add(&id("younger"));
    reports.report(&tasks, &table);
    assert_eq!(younger.conflicts(), [["older"]]);
    // The mirror's task was ended and begun anew.
    tasks.retain(|_| false);
    reports.report(&tasks, &table);
    let mut again = tasks.add(&id("younger"));
    reports.report(&tasks, &table);
    assert_eq!(again.conflicts(), [["older"]]);
}

#[tokio::test]
async fn conflict_that_found_no_place_is_reported_later() {
    let tasks = MirrorTasks::default();
    let mut younger = tasks.add(&id("younger"));
    while tasks.send("younger", Event::Time) {}
    let table = table(&["older", "younger"]);
    let mut reports = ConflictReports::default();
    reports.report(&tasks, &table);
    assert_eq!(younger.conflicts(), [[""; 0]; 0]);
    reports.report(&tasks, &table);
    assert_eq!(younger.conflicts(), [["older"]]);
}

#[tokio::test]
async fn conflicts_that_all_have_heard_of_are_not_compared_again() {
    let tasks = MirrorTasks::default();
    let mut younger = tasks.add(&id("younger"));
    let _older = tasks.add(&id("older"));
    let first = table(&["older", "younger"]);
    let mut reports = ConflictReports::default();
    reports.report(&tasks, &first);
    assert_eq!(younger.conflicts(), [["older"]]);
    // It would be told again if it were looked at.
    reports.told.clear();
    let labels = Arc::new(BTreeMap::from([("apps".to_owned(), BTreeMap::new())]));
    let same = first.next(first.routes().to_vec(), Arc::clone(&labels), Arc::default());
    reports.report(&tasks, &first);
    assert_eq!(younger.conflicts(), [[""; 0]; 0]);
    reports.report(&tasks, &same);
    assert_eq!(younger.conflicts(), [["older"]], "with other labels it may be another");
    reports.told.clear();
    reports.report(&tasks, &same.next(same.routes().to_vec(), labels, Arc::default()));
    assert_eq!(younger.conflicts(), [[""; 0]; 0]);
}
