//! What holds for any mirrors and any image.

use proptest::prelude::*;

use super::*;
use crate::reference::Reference;
use crate::selector::{Labels, Operator, Requirement, Selector};

fn registry() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["a.example", "b.example", "docker.io"])
}

fn prefix() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["", "x", "x/y", "y", "library"])
}

fn path() -> impl Strategy<Value = String> {
    proptest::collection::vec(prop::sample::select(vec!["x", "y", "library", "web"]), 1..5)
        .prop_map(|path| path.join("/"))
}

fn verdict() -> impl Strategy<Value = Verdict> {
    prop::sample::select(vec![
        Verdict::InSync,
        Verdict::MissingOnPrimary,
        Verdict::MissingOnFallback,
        Verdict::Mismatched,
        Verdict::Pending,
    ])
}

fn image() -> impl Strategy<Value = String> {
    let suffix = prop::sample::select(vec![
        String::new(),
        ":t".to_owned(),
        ":u".to_owned(),
        format!("@{DIGEST}"),
        format!(":t@{DIGEST}"),
        format!(":T.u-v_@{OTHER_DIGEST}"),
    ]);
    let registry = prop::sample::select(vec![
        "a.example/",
        "b.example/",
        "docker.io/",
        "index.docker.io/",
        "",
        "A.example/",
    ]);
    prop_oneof![
        8 => (registry, path(), suffix).prop_map(|(registry, path, suffix)| [registry, &path, &suffix].concat()),
        1 => any::<String>(),
    ]
}

fn policy() -> impl Strategy<Value = MirrorPolicy> {
    let rules = proptest::collection::vec((path(), path()), 0..3);
    let options = (any::<bool>(), any::<bool>(), 0..3_i64, any::<bool>());
    ((registry(), prefix()), (registry(), prefix()), rules, options).prop_map(|(primary, fallback, rules, options)| {
        let (strict, cache, created, listed) = options;
        let mut policy = mirror("m", primary, fallback);
        if listed {
            let names: Vec<_> = (0..rules.len()).map(|number| format!("r{number}")).collect();
            let rules = names.iter().zip(&rules);
            let rules: Vec<_> = rules
                .map(|(name, (primary, fallback))| (name.as_str(), primary.as_str(), fallback.as_str()))
                .collect();
            policy = listing(policy, &rules);
        }
        policy.created = jiff::Timestamp::from_second(created).unwrap();
        policy.rewrite.unverified = if strict {
            UnverifiedTags::Keep
        } else {
            UnverifiedTags::Rewrite
        };
        policy.sides.fallback.pull_through_cache = cache;
        policy
    })
}

fn selector() -> impl Strategy<Value = Selector> {
    let key = prop::sample::select(vec!["team", "tier"]);
    let values = proptest::collection::vec(prop::sample::select(vec!["a", "b"]), 0..3);
    let requirement = (key, values, 0..4).prop_map(|(key, values, kind)| {
        let values = values.into_iter().map(str::to_owned).collect();
        let operator = match kind {
            0 => Operator::NotIn(values),
            1 => Operator::Exists,
            _ => Operator::In(values),
        };
        Requirement {
            key: key.to_owned(),
            operator,
        }
    });
    proptest::collection::vec(requirement, 0..3).prop_map(|requirements| Selector { requirements })
}

fn labels() -> impl Strategy<Value = Labels> {
    let key = prop::sample::select(vec!["team", "tier", "other"]);
    let value = prop::sample::select(vec!["a", "b"]);
    proptest::collection::btree_map(key, value, 0..4).prop_map(|labels| {
        labels
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect()
    })
}

type AnyMirror = (MirrorPolicy, Side, Vec<(String, &'static str, Verdict)>);

fn tables() -> impl Strategy<Value = RouteTable> {
    let key = prop::sample::select(vec!["t", "u", "latest", DIGEST]);
    let repository = prop_oneof![path(), prop::sample::select(vec!["r0".to_owned(), "r1".to_owned()])];
    let records = proptest::collection::vec((repository, key, verdict()), 0..12);
    let active = prop::sample::select(Side::ALL.to_vec());
    proptest::collection::vec((policy(), active, records), 0..4).prop_map(|mirrors| {
        let build = |(number, (mut policy, active, records)): (usize, AnyMirror)| {
            policy.id.name = format!("m{number}").into();
            policy.id.uid = format!("uid-{number}").into();
            let records: Vec<_> = records
                .iter()
                .map(|(name, key, verdict)| (name.as_str(), *key, *verdict))
                .collect();
            route(policy, active, evidence(&records))
        };
        table(mirrors.into_iter().enumerate().map(build).collect())
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn routing_its_own_output_changes_nothing(table in tables(), image in image()) {
        let pod = table.pod(&PLAIN);
        if let ImageRoute::Rewritten { route, image, .. } = pod.image(&image, false) {
            let again = pod.image(&image, false);
            let stays = matches!(again, ImageRoute::OnActive { .. } | ImageRoute::Kept { .. });
            prop_assert!(stays && again.route().is_some_and(|same| std::ptr::eq(same, route)), "{again:?}");
        }
    }

    #[test]
    fn rewritten_image_keeps_tag_and_digest_on_the_other_side(table in tables(), image in image()) {
        if let ImageRoute::Rewritten { route, image: moved, reason } = table.pod(&PLAIN).image(&image, false) {
            let (before, after) = (Reference::parse(&image).unwrap(), Reference::parse(&moved).unwrap());
            prop_assert_eq!(before.suffix(), after.suffix());
            let (from, to) = (route.policy.locate(&before).unwrap(), route.policy.locate(&after).unwrap());
            prop_assert_eq!(from.side, to.side.other());
            prop_assert_eq!(to.side == route.active, reason != RewriteReason::OnlyOnOther);
            prop_assert_eq!(after.registry(), &route.policy.sides[to.side].registry);
            prop_assert_eq!(from.repository, to.repository);
        }
    }

    #[test]
    fn rewritten_image_is_known_absent_or_different_nowhere(table in tables(), image in image()) {
        let pod = table.pod(&PLAIN);
        if let ImageRoute::Rewritten { image: moved, .. } = pod.image(&image, false) {
            let there = Reference::parse(&moved).unwrap();
            let located = pod.locate(&there).unwrap();
            prop_assert!(!located.lacks(&there));
            let (tag, digest) = located.knowledge(&there);
            prop_assert!(digest.is_some() || tag.is_some_and(|tag| tag.same || !tag.is_on_both()));
        }
    }

    #[test]
    fn image_of_unobserved_mapping_is_never_moved(table in tables(), image in image()) {
        let unobserved = table.routes().iter().map(|route| Route { observed: Arc::default(), ..route.clone() });
        let table = super::table(unobserved.collect());
        let decision = table.pod(&PLAIN).image(&image, false);
        let moves = matches!(decision, ImageRoute::Rewritten { .. } | ImageRoute::Audited { .. });
        prop_assert!(!moves, "{decision:?}");
    }

    #[test]
    fn explanation_has_the_outcome_of_admission_and_the_rule_of_the_table(table in tables(), image in image(), never: bool) {
        use crate::routing::explain::StepResult;
        let pod = table.pod(&PLAIN);
        let explanation = pod.explain(&image, never);
        prop_assert_eq!(words(&explanation.route), words(&pod.image(&image, never)));
        let reached = explanation.steps.iter().rev().find(|step| step.result != StepResult::NotReached);
        prop_assert_eq!(reached.map(|step| step.result), Some(StepResult::Applied));
        if let Some(facts) = &explanation.facts {
            let decided = crate::routing::rules::decide(&facts.question).rule;
            prop_assert!(explanation.steps.iter().any(|step| step.rule == decided && step.result == StepResult::Applied));
        }
    }

    #[test]
    fn one_mirror_alone_owns_exactly_what_it_locates(policy in policy(), image in image()) {
        let table = table(vec![route(policy.clone(), Side::Primary, Evidence::default())]);
        let pod = table.pod(&PLAIN);
        let Ok(reference) = Reference::parse(&image) else {
            prop_assert!(matches!(pod.image(&image, false), ImageRoute::Untouched));
            return Ok(());
        };
        let (by_index, by_policy) = (pod.locate(&reference), policy.locate(&reference));
        prop_assert_eq!(
            by_index.map(|found| (found.side, found.repository.to_owned())),
            by_policy.map(|found| (found.side, found.repository.into_owned()))
        );
        prop_assert_eq!(by_index.is_none(), matches!(pod.image(&image, false), ImageRoute::Untouched));
    }

    #[test]
    fn among_mirrors_the_owner_is_the_closest_then_the_oldest(table in tables(), image in image()) {
        let Ok(reference) = Reference::parse(&image) else { return Ok(()) };
        let claims = table.routes().iter().filter_map(|route| Some((route, route.policy.locate(&reference)?)));
        let best = claims.rev().max_by_key(|(_, location)| location.specificity);
        let pod = table.pod(&PLAIN);
        prop_assert_eq!(
            pod.locate(&reference).map(|found| (&found.route.policy.id, found.side)),
            best.map(|(route, location)| (&route.policy.id, location.side))
        );
    }

    #[test]
    fn owner_is_the_first_of_those_that_select_the_namespace(
        table in tables(),
        selectors in proptest::collection::vec(selector(), 4),
        labels in labels(),
        image in image(),
    ) {
        let Ok(reference) = Reference::parse(&image) else { return Ok(()) };
        let routes = table.routes().iter().zip(selectors).map(|(route, namespaces)| {
            let policy = MirrorPolicy { namespaces, ..MirrorPolicy::clone(&route.policy) };
            Route { policy: Arc::new(policy), ..route.clone() }
        });
        let routes: Vec<Route> = routes.collect();
        let namespaces = Arc::new(BTreeMap::from([(PLAIN.namespace.to_owned(), labels.clone())]));
        let owner = |routes: Vec<Route>| {
            let table = RouteTable::new(routes, Arc::clone(&namespaces), Arc::default());
            table.pod(&PLAIN).locate(&reference).map(|found| (found.route.policy.id.clone(), found.side))
        };
        let selecting = routes.iter().filter(|route| route.policy.namespaces.matches(&labels)).map(|route| {
            let policy = MirrorPolicy { namespaces: Selector::default(), ..MirrorPolicy::clone(&route.policy) };
            Route { policy: Arc::new(policy), ..route.clone() }
        });
        prop_assert_eq!(owner(routes.clone()), owner(selecting.collect()));
    }

    #[test]
    fn conflicts_never_name_a_mirror_twice(table in tables()) {
        for conflict in table.conflicts().iter() {
            prop_assert_ne!(&conflict.loser, &conflict.winner);
        }
    }
}
