use std::sync::Arc;

use catamaran_api::mirror::RegistryMirror;
use catamaran_api::policy::policy;
use catamaran_core::routing::Route;
use catamaran_core::selector::Labels;
use serde_json::json;

use super::*;

fn settings(namespaces: &[&str], names: &[&str]) -> Settings {
    let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    Settings {
        namespaces: set(namespaces),
        names: set(names),
    }
}

/// A mirror that mints `secret` for its primary, for namespaces with the label `team: NAME`; all when there is none.
fn route(name: &str, secret: &str, team: Option<&str>, created: i64) -> Route {
    let selector = team.map_or_else(|| json!({}), |team| json!({"matchLabels": {"team": team}}));
    let mirror: RegistryMirror = serde_json::from_value(json!({
        "apiVersion": "catamaran.dev/v1alpha1", "kind": "RegistryMirror",
        "metadata": {
            "name": name, "uid": format!("uid-{name}"),
            "creationTimestamp": Timestamp::from_second(created).unwrap().to_string(),
        },
        "spec": {
            "primary": {
                "registry": format!("{name}.azurecr.io"), "provider": "azure",
                "imagePullSecrets": [{"name": secret, "mint": true}, {"name": "ordinary"}],
            },
            "fallback": {"registry": "ghcr.io", "prefix": name, "imagePullSecrets": [{"name": "ghcr-pull"}]},
            "namespaceSelector": selector,
        },
    }))
    .unwrap();
    Route {
        policy: Arc::new(policy(&mirror).unwrap()),
        active: Side::Primary,
        epoch: 1,
        evidence: Arc::default(),
        observed: Arc::default(),
        unavailable: catamaran_core::side::Sides::default(),
    }
}

fn table(routes: Vec<Route>, namespaces: &[(&str, Option<&str>)]) -> RouteTable {
    let labels = |team: Option<&str>| {
        team.map(|team| ("team".to_owned(), team.to_owned()))
            .into_iter()
            .collect()
    };
    let namespaces = namespaces
        .iter()
        .map(|(name, team)| ((*name).to_owned(), labels(*team)))
        .collect::<BTreeMap<String, Labels>>();
    RouteTable::new(routes, Arc::new(namespaces), Arc::default())
}

fn places(wanted: &BTreeMap<Place, Wanted>) -> Vec<String> {
    wanted
        .iter()
        .map(|(place, wanted)| format!("{place} for {}", wanted.registry))
        .collect()
}

const TEAMS: [(&str, Option<&str>); 3] = [("a", Some("a")), ("b", Some("b")), ("plain", None)];

#[test]
fn secrets_are_wanted_where_the_mirror_selects_and_the_administrator_allows() {
    type Case = (&'static str, Settings, Option<&'static str>, &'static [&'static str]);
    let cases: [Case; 6] = [
        (
            "every namespace that is listed and exists",
            settings(&["a", "b", "gone"], &["acr-pull"]),
            None,
            &["a/acr-pull for one.azurecr.io", "b/acr-pull for one.azurecr.io"],
        ),
        (
            "only those that the mirror selects",
            settings(&["a", "b", "plain"], &["acr-pull"]),
            Some("b"),
            &["b/acr-pull for one.azurecr.io"],
        ),
        ("none is listed", settings(&[], &["acr-pull"]), None, &[]),
        ("none is selected", settings(&["plain"], &["acr-pull"]), Some("a"), &[]),
        ("another name is allowed", settings(&["a"], &["other"]), None, &[]),
        (
            "an ordinary pull secret",
            settings(&["a"], &["ordinary", "ghcr-pull"]),
            None,
            &[],
        ),
    ];
    for (name, settings, team, expected) in cases {
        let table = table(vec![route("one", "acr-pull", team, 1)], &TEAMS);
        assert_eq!(places(&wanted(&settings, &table).0), expected, "{name}");
    }
}

#[test]
fn a_name_that_is_not_allowed_is_told() {
    let table = table(vec![route("one", "acr-pull", None, 1)], &TEAMS);
    let told = wanted(&settings(&["a"], &["other"]), &table).1;
    assert_eq!(
        told.iter().map(Complaint::told).collect::<Vec<_>>(),
        [("one", "PullSecretNotAllowed")]
    );
}

#[test]
fn of_two_mirrors_that_ask_for_one_secret_the_older_gets_it_and_the_other_is_told() {
    let routes = vec![route("young", "pull", None, 2), route("old", "pull", Some("a"), 1)];
    let table = table(routes, &TEAMS);
    let (wanted, told) = wanted(&settings(&["a", "b"], &["pull"]), &table);
    assert_eq!(
        places(&wanted),
        ["a/pull for old.azurecr.io", "b/pull for young.azurecr.io"]
    );
    assert_eq!(
        told.iter().map(Complaint::told).collect::<Vec<_>>(),
        [("young", "PullSecretTaken")]
    );
}

fn at(minutes: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + minutes * 60).unwrap()
}

/// Ours, minted at 0 for three hours.
fn ours(mirror: &str, registry: &str) -> Ours {
    Ours {
        mirror: Some(mirror.to_owned()),
        registry: Some(registry.to_owned()),
        minted: Some(at(0)),
        expires: Some(at(180)),
        ..Ours::default()
    }
}

#[test]
fn each_state_of_a_place_has_its_step() {
    let good = || ours("uid-one", "one.azurecr.io");
    let undated = Ours { minted: None, ..good() };
    let endless = Ours {
        expires: None,
        ..good()
    };
    let cases = [
        ("nothing there", Existing::Absent, 0, "write"),
        ("somebody else's", Existing::Foreign, 0, "foreign"),
        ("fresh", Existing::Ours(good()), 1, "-"),
        ("just before half its life", Existing::Ours(good()), 89, "-"),
        ("at half its life", Existing::Ours(good()), 90, "write"),
        ("ended", Existing::Ours(good()), 181, "write"),
        ("before it was minted", Existing::Ours(good()), -10, "-"),
        (
            "for another registry",
            Existing::Ours(ours("uid-one", "old.azurecr.io")),
            1,
            "write",
        ),
        (
            "of another mirror",
            Existing::Ours(ours("uid-two", "one.azurecr.io")),
            1,
            "write",
        ),
        ("without a date", Existing::Ours(undated), 1, "write"),
        ("without an end", Existing::Ours(endless), 1, "write"),
    ];
    let table = table(vec![route("one", "pull", None, 1)], &TEAMS);
    let (wanted, _) = wanted(&settings(&["a"], &["pull"]), &table);
    for (name, existing, minutes, expected) in cases {
        let existing = BTreeMap::from([(Place::new("a", "pull"), existing)]);
        let steps = plan(&wanted, &existing, &table, &BTreeSet::from(["uid-one"]), at(minutes));
        assert_eq!(words(&steps), expected, "{name}");
    }
}

fn words(steps: &[Step<'_>]) -> String {
    let word = |step: &Step<'_>| match step {
        Step::Write(_) => "write",
        Step::Remove(_) => "remove",
        Step::Foreign(_) => "foreign",
    };
    let all: Vec<&str> = steps.iter().map(word).collect();
    if all.is_empty() { "-".to_owned() } else { all.join(" ") }
}

#[test]
fn what_nobody_asks_for_is_removed_only_if_it_is_ours_and_its_mirror_is_gone_or_says_so() {
    let cases = [
        ("nothing there", Existing::Absent, "-"),
        ("somebody else's", Existing::Foreign, "-"),
        (
            "the mirror asks no more",
            Existing::Ours(ours("uid-one", "x")),
            "remove",
        ),
        ("the mirror is gone", Existing::Ours(ours("uid-gone", "x")), "remove"),
        (
            "the mirror is suspended or can't be read",
            Existing::Ours(ours("uid-silent", "x")),
            "-",
        ),
        ("nobody owns it", Existing::Ours(Ours::default()), "remove"),
    ];
    let table = table(vec![route("one", "other", None, 1)], &TEAMS);
    let mirrors = BTreeSet::from(["uid-one", "uid-silent"]);
    for (name, existing, expected) in cases {
        let existing = BTreeMap::from([(Place::new("a", "pull"), existing)]);
        let nothing = BTreeMap::new();
        let steps = plan(&nothing, &existing, &table, &mirrors, at(0));
        assert_eq!(words(&steps), expected, "{name}");
    }
}

#[test]
fn a_place_that_could_not_be_looked_at_is_left_alone() {
    let table = table(vec![route("one", "pull", None, 1)], &TEAMS);
    let (wanted, _) = wanted(&settings(&["a"], &["pull"]), &table);
    let unread = BTreeMap::new();
    let steps = plan(&wanted, &unread, &table, &BTreeSet::new(), at(0));
    assert_eq!(words(&steps), "-");
}

#[test]
fn only_places_that_were_listed_and_exist_are_looked_at() {
    let table = table(Vec::new(), &TEAMS);
    let looked = settings(&["a", "gone"], &["x", "y"]).places(&table);
    assert_eq!(looked, [Place::new("a", "x"), Place::new("a", "y")]);
}
