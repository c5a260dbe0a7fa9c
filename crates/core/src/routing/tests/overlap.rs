//! Mirrors that claim the same repositories, and sides that share a registry.

use jiff::Timestamp;

use super::*;

fn older(mut policy: MirrorPolicy, second: i64) -> MirrorPolicy {
    policy.created = Timestamp::from_second(second).unwrap();
    policy
}

/// Which mirror an image belongs to.
fn owner(table: &RouteTable, image: &str) -> Option<String> {
    table
        .pod(&PLAIN)
        .image(image, false)
        .route()
        .map(|route| route.policy.id.name.to_string())
}

fn told(table: &RouteTable) -> Vec<String> {
    let sentence = |conflict: &Conflict| format!("{} loses {} to {}", conflict.loser, conflict.what, conflict.winner);
    table.conflicts().iter().map(sentence).collect()
}

fn on_primary(policy: MirrorPolicy) -> Route {
    route(policy, Side::Primary, Evidence::default())
}

#[test]
fn listed_beats_prefix_then_longer_then_older_then_the_name() {
    let wide = older(mirror("wide", ("a.example", ""), ("b.example", "wide")), 1);
    let narrow = older(mirror("narrow", ("a.example", "team"), ("b.example", "narrow")), 2);
    let listed = older(
        listing(
            mirror("listed", ("a.example", ""), ("b.example", "")),
            &[("web", "team/web", "l/web")],
        ),
        3,
    );
    let twin = older(mirror("twin", ("a.example", "team"), ("b.example", "twin")), 2);
    let young = older(mirror("a-young", ("a.example", "team"), ("b.example", "young")), 4);
    let table = table([young, twin, listed, narrow, wide].map(on_primary).to_vec());
    let cases = [
        ("a.example/team/web", "listed"),
        ("a.example/team/api", "narrow"),
        ("a.example/team", "wide"),
        ("a.example/teams/web", "wide"),
        ("a.example/other/web", "wide"),
    ];
    for (image, expected) in cases {
        assert_eq!(owner(&table, image).as_deref(), Some(expected), "{image}");
    }
    let expected = [
        "a-young loses a.example/team/web to listed",
        "a-young loses a.example/team/* to narrow",
        "narrow loses a.example/team/web to listed",
        "twin loses a.example/team/web to listed",
        "twin loses a.example/team/* to narrow",
        "wide loses a.example/team/web to listed",
        "wide loses a.example/team/* to narrow",
    ];
    assert_eq!(told(&table), expected);
}

#[test]
fn mirrors_that_no_namespace_has_in_common_do_not_conflict() {
    let team = |name: &str, value: &str| {
        let mut policy = mirror(name, ("a.example", ""), ("b.example", name));
        let operator = Operator::In(vec![value.to_owned()]);
        policy.namespaces = Selector {
            requirements: vec![Requirement {
                key: "team".into(),
                operator,
            }],
        };
        policy
    };
    let namespaces = |teams: &[&str]| {
        let labels = |team: &&str| {
            (
                (*team).to_owned(),
                Labels::from([("team".to_owned(), (*team).to_owned())]),
            )
        };
        Arc::new(teams.iter().map(labels).collect::<BTreeMap<_, _>>())
    };
    // More than 64 namespaces, so that the last lies in a second word.
    let names: Vec<_> = (0..70).map(|number| format!("t{number}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let apart = || vec![on_primary(team("one", "t0")), on_primary(team("two", "t69"))];
    let table = RouteTable::new(apart(), namespaces(&names), Arc::default());
    assert_eq!(told(&table), [""; 0]);
    let in_team = |namespace| {
        table
            .pod(&PodFacts { namespace, ..PLAIN })
            .image("a.example/x", false)
            .route()
            .unwrap()
    };
    assert_eq!(
        (&*in_team("t0").policy.id.name, &*in_team("t69").policy.id.name),
        ("one", "two")
    );

    let together = vec![on_primary(team("one", "t69")), on_primary(team("two", "t69"))];
    let table = RouteTable::new(together, namespaces(&names), Arc::default());
    assert_eq!(told(&table), ["two loses a.example/* to one"]);
}

#[test]
fn next_table_shares_conflicts_until_specs_or_labels_change() {
    let labels = |name: &str| Arc::new(BTreeMap::from([(name.to_owned(), Labels::default())]));
    let (one, other) = (labels("apps"), labels("jobs"));
    let older_and_younger = [("older", 1), ("younger", 2)].map(|(name, second)| {
        let policy = older(mirror(name, ("a.example", ""), ("b.example", name)), second);
        on_primary(policy)
    });
    let first = RouteTable::new(older_and_younger.to_vec(), Arc::clone(&one), Arc::default());
    assert_eq!(told(&first), ["younger loses a.example/* to older"]);
    let mut routes = first.routes().to_vec();
    routes.reverse();
    routes[0].active = Side::Fallback;
    let flipped = first.next(routes.clone(), Arc::clone(&one), Arc::default());
    assert!(Arc::ptr_eq(flipped.conflicts(), first.conflicts()));
    assert_eq!(flipped.routes()[1].active, Side::Fallback, "it stands as it stands now");
    assert_eq!(owner(&flipped, "a.example/x").as_deref(), Some("older"));

    let labelled = flipped.next(routes.clone(), other, Arc::default());
    assert!(!Arc::ptr_eq(labelled.conflicts(), first.conflicts()), "labels");
    // The same spec, read again.
    routes[0].policy = Arc::new(MirrorPolicy::clone(&routes[0].policy));
    let edited = flipped.next(routes.clone(), Arc::clone(&one), Arc::default());
    assert!(!Arc::ptr_eq(edited.conflicts(), first.conflicts()), "specs");
    routes.truncate(1);
    let alone = flipped.next(routes, one, Arc::default());
    assert_eq!(told(&alone), [""; 0]);
    assert_eq!(owner(&alone, "a.example/x").as_deref(), Some("younger"));
}

#[test]
fn first_of_many_that_share_a_name_and_a_namespace_wins() {
    let team = |name: &str, second, teams: &[&str]| {
        let mut policy = older(mirror(name, ("a.example", ""), ("b.example", name)), second);
        let operator = Operator::In(teams.iter().map(|team| (*team).to_owned()).collect());
        let key = "team".to_owned();
        policy.namespaces.requirements = vec![Requirement { key, operator }];
        on_primary(policy)
    };
    let labels = |name: &str| (name.to_owned(), Labels::from([("team".to_owned(), name.to_owned())]));
    let namespaces: BTreeMap<_, _> = ["t1", "t2", "t3"].map(labels).into();
    let routes = vec![
        team("first", 1, &["t1"]),
        team("second", 2, &["t2"]),
        team("third", 3, &["t3"]),
        team("fourth", 4, &["t2", "t3"]),
        team("fifth", 5, &["t3"]),
    ];
    let table = RouteTable::new(routes, Arc::new(namespaces), Arc::default());
    assert_eq!(
        told(&table),
        ["fifth loses a.example/* to third", "fourth loses a.example/* to second"]
    );
}

#[test]
fn of_many_names_lost_to_one_mirror_the_first_is_told() {
    let names = ["m", "c", "x", "a", "q", "e", "z"];
    let rules: Vec<_> = names.iter().map(|name| (*name, *name, *name)).collect();
    let listed = listing(mirror("listed", ("a.example", ""), ("c.example", "")), &rules);
    let wide = mirror("wide", ("a.example", ""), ("b.example", ""));
    assert_eq!(
        told(&table(vec![on_primary(wide), on_primary(listed)])),
        ["wide loses a.example/a to listed"]
    );
}

#[test]
fn a_mirror_does_not_conflict_with_itself() {
    let nested = mirror("nested", ("reg.example", ""), ("reg.example", "copy"));
    assert_eq!(told(&table(vec![on_primary(nested), on_primary(apps())])), [""; 0]);
}

#[test]
fn two_prefixes_of_one_registry_can_be_the_sides_of_a_mirror() {
    let policy = mirror("one-host", ("reg.example", "main"), ("reg.example", "copy"));
    let table = table(vec![route(policy, Side::Fallback, all_verdicts())]);
    check(
        &table,
        &[
            ("reg.example/main/web:synced", "reg.example/copy/web:synced (Rewritten)"),
            ("reg.example/copy/web:synced", "active"),
            ("reg.example/other/web:synced", "untouched"),
        ],
    );
}

#[test]
fn overlapping_sides_never_send_an_image_on_a_second_journey() {
    let policy = mirror("nested", ("reg.example", ""), ("reg.example", "copy"));
    let to_primary = table(vec![route(policy.clone(), Side::Primary, Evidence::default())]);
    check(
        &to_primary,
        &[
            ("reg.example/copy/web", "reg.example/web (Unverified)"),
            // reg.example/copy/web would be read as the fallback's web.
            ("reg.example/copy/copy/web", "kept (NoCounterpart)"),
        ],
    );
    let to_fallback = table(vec![route(policy, Side::Fallback, Evidence::default())]);
    check(
        &to_fallback,
        &[
            ("reg.example/web", "reg.example/copy/web (Unverified)"),
            ("reg.example/copy/web", "active"),
        ],
    );
}

#[test]
fn an_image_is_not_sent_where_another_mirror_would_send_it_on() {
    let first = older(mirror("first", ("a.example", "x"), ("b.example", "x")), 2);
    let second = older(mirror("second", ("b.example", "x"), ("c.example", "x")), 1);
    let chain = table(vec![
        route(first, Side::Fallback, Evidence::default()),
        route(second, Side::Fallback, Evidence::default()),
    ]);
    check(
        &chain,
        &[
            ("a.example/x/web", "kept (NoCounterpart)"),
            ("b.example/x/web", "c.example/x/web (Unverified)"),
        ],
    );
    assert_eq!(told(&chain), ["first loses b.example/x/* to second"]);
}

#[test]
fn two_mirrors_that_point_at_each_other_do_not_go_round_in_circles() {
    let there = older(mirror("there", ("a.example", "x"), ("b.example", "x")), 1);
    let back = older(mirror("back", ("b.example", "x"), ("a.example", "x")), 2);
    for (first, second) in [(Side::Fallback, Side::Fallback), (Side::Primary, Side::Fallback)] {
        let table = table(vec![
            route(there.clone(), first, Evidence::default()),
            route(back.clone(), second, Evidence::default()),
        ]);
        for image in ["a.example/x/web", "b.example/x/web"] {
            assert_eq!(owner(&table, image).as_deref(), Some("there"), "{image}");
        }
    }
}
