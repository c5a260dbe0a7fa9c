//! The explanation of a route: the rule that applied, what it went by, and who else wanted the image.

use super::*;
use crate::routing::evidence::{Evidence as Records, Group, GroupPlace, Knowledge};
use crate::routing::explain::{Explanation, StepResult};

fn explain<'t>(table: &'t RouteTable, image: &str, never: bool) -> Explanation<'t> {
    table.pod(&PLAIN).explain(image, never)
}

/// The names of the rules with this result.
fn rules(explanation: &Explanation<'_>, result: StepResult) -> Vec<&'static str> {
    let steps = explanation.steps.iter().filter(|step| step.result == result);
    steps.map(|step| step.rule).collect()
}

/// The rules that applied, and where the image goes.
fn applied(table: &RouteTable, image: &str, never: bool) -> (Vec<&'static str>, String) {
    let explanation = explain(table, image, never);
    (rules(&explanation, StepResult::Applied), words(&explanation.route))
}

#[test]
fn explanation_names_the_rule_that_decided() {
    let table = table(vec![route(apps(), Side::Fallback, all_verdicts())]);
    let cases = [
        ("Not A Reference", false, "NotAnImage"),
        ("quay.io/web:1", false, "NoMirror"),
        ("kracr.azurecr.io/web:synced", true, "PullPolicyNever"),
        ("kracr.azurecr.io/web:synced", false, "Rewritten"),
        ("kracr.azurecr.io/web:only-primary", false, "MissingOnActive"),
        ("kracr.azurecr.io/web:differs", false, "DigestMismatch"),
        ("kracr.azurecr.io/web:unknown", false, "Unverified"),
        ("ghcr.io/devopskev/web:only-primary", false, "OnlyOnOther"),
        ("ghcr.io/devopskev/web:synced", false, "OnActive"),
    ];
    for (image, never, rule) in cases {
        let (applied, route) = applied(&table, image, never);
        assert_eq!(applied, [rule], "{image}");
        assert_eq!(route, words(&table.pod(&PLAIN).image(image, never)), "{image}");
    }
}

#[test]
fn rules_stand_in_order_and_those_below_the_answer_are_not_reached() {
    let table = table(vec![route(apps(), Side::Fallback, all_verdicts())]);
    let explanation = explain(&table, "kracr.azurecr.io/web:only-primary", false);
    let passed = rules(&explanation, StepResult::Passed);
    assert_eq!(passed.first(), Some(&"NotAnImage"));
    assert_eq!(passed.last(), Some(&"OnActive"));
    let below = rules(&explanation, StepResult::NotReached);
    assert_eq!(below.first(), Some(&"UntrustedOnActive"));
    assert_eq!(below.last(), Some(&"Audit"));
    let names: BTreeSet<_> = explanation.steps.iter().map(|step| step.rule).collect();
    assert_eq!(names.len(), explanation.steps.len(), "each rule has a name of its own");
}

#[test]
fn audit_and_a_name_without_counterpart_apply_after_the_rule() {
    let mut audited = apps();
    audited.rewrite.mode = RewriteMode::Audit;
    let audits = table(vec![route(audited, Side::Fallback, all_verdicts())]);
    assert_eq!(
        applied(&audits, "kracr.azurecr.io/web:synced", false).0,
        ["Rewritten", "Audit"]
    );
    // The fallback's name of the repository is listed by another mirror.
    let claims = listing(
        mirror("other", ("x.example", ""), ("ghcr.io", "devopskev")),
        &[("web", "web", "devopskev/web")],
    );
    let claimed = table(vec![
        route(apps(), Side::Fallback, all_verdicts()),
        route(claims, Side::Primary, Evidence::new()),
    ]);
    let (rules, to) = applied(&claimed, "kracr.azurecr.io/web:synced", false);
    assert_eq!(
        (rules, to.as_str()),
        (vec!["Rewritten", "NoCounterpart"], "kept (NoCounterpart)")
    );
}

#[test]
fn facts_say_which_groups_know_of_the_tag_and_the_digest() {
    let policy = apps();
    let place = |index| GroupPlace { bits: 8, index };
    let key = policy.key("web", None, "1");
    let digest = policy.key("web", None, DIGEST);
    let mut of_tag = Group::builder(GroupPlace::of(key, 8));
    of_tag.tag(key, Knowledge::IN_SYNC, Some(digest));
    of_tag.digest(digest, Knowledge::IN_SYNC);
    let other = (0..256)
        .map(place)
        .find(|place| *place != GroupPlace::of(key, 8))
        .unwrap();
    let groups = [of_tag.build(), Group::builder(other).build()];
    let evidence: Records = groups.into_iter().map(Arc::new).collect();
    let mut known = route(policy, Side::Fallback, Evidence::new());
    known.evidence = Arc::new(evidence);
    let table = table(vec![known]);
    let image = format!("kracr.azurecr.io/web:1@{DIGEST}");
    let facts = explain(&table, &image, false).facts.unwrap();
    assert_eq!((&*facts.repository, facts.tag.as_deref()), ("web", Some("1")));
    assert_eq!(facts.digest.as_deref(), Some(DIGEST));
    assert_eq!(
        (facts.question.named, facts.question.target),
        (Side::Primary, Side::Fallback)
    );
    assert_eq!(facts.of_tag, [GroupPlace::of(key, 8)]);
    assert_eq!(facts.of_digest, [GroupPlace::of(key, 8)]);
    let unknown = explain(&table, "kracr.azurecr.io/web:2", false).facts.unwrap();
    assert_eq!((unknown.of_tag, unknown.of_digest), (vec![], vec![]));
}

#[test]
fn candidates_are_all_mirrors_of_the_image_with_whether_they_select_the_namespace() {
    let mut elsewhere = mirror("elsewhere", ("kracr.azurecr.io", ""), ("quay.io", ""));
    elsewhere.namespaces = Selector {
        requirements: vec![Requirement {
            key: "team".to_owned(),
            operator: Operator::Exists,
        }],
    };
    let routes = vec![
        route(apps(), Side::Fallback, all_verdicts()),
        route(elsewhere, Side::Primary, Evidence::new()),
        route(
            mirror("foreign", ("a.example", ""), ("b.example", "")),
            Side::Primary,
            Evidence::new(),
        ),
    ];
    let namespaces = BTreeMap::from([("default".to_owned(), Labels::new())]);
    let table = RouteTable::new(routes, Arc::new(namespaces), Arc::default());
    let found = table.candidates("kracr.azurecr.io/web:1", "default");
    let found: Vec<_> = found
        .iter()
        .map(|it| (&*it.policy.id.name, it.side, it.selects_namespace))
        .collect();
    assert_eq!(
        found,
        [("apps", Side::Primary, true), ("elsewhere", Side::Primary, false)]
    );
    assert!(table.candidates("Not A Reference", "default").is_empty());
}

#[test]
fn outage_flips_what_may_flip_and_leaves_a_pinned_side() {
    let mut pinned = mirror("pinned", ("a.example", ""), ("b.example", ""));
    pinned.failover.active = ActiveSide::Fixed(Side::Primary);
    let spared = mirror("spared", ("c.example", ""), ("d.example", ""));
    let routes = [apps(), pinned, spared].map(|policy| route(policy, Side::Primary, Evidence::new()));
    let table = table(routes.to_vec()).with_outage(Side::Primary, |policy| &*policy.id.name != "spared");
    let after = |name: &str| {
        let route = table
            .routes()
            .iter()
            .find(|route| &*route.policy.id.name == name)
            .unwrap();
        (route.active, route.unavailable.primary, route.unavailable.fallback)
    };
    assert_eq!(after("apps"), (Side::Fallback, true, false));
    assert_eq!(after("pinned"), (Side::Primary, true, false));
    assert_eq!(after("spared"), (Side::Primary, false, false));
}
