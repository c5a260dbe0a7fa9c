use super::*;
use crate::material::Pair;

/// A world that is quick enough to watch: CA 36 s, leaf 12 s, propagation 2 s, poll 1 s.
fn schedule() -> Schedule {
    let s = Duration::from_secs;
    Schedule::new(s(36), s(12), s(2), s(1)).unwrap()
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

fn names() -> Vec<String> {
    crate::settings::dns_names("catamaran", "catamaran-system")
}

/// The cluster as far as certificates are concerned.
#[derive(Clone, Default)]
struct World {
    secret: Option<BTreeMap<String, ByteString>>,
    published: Option<Vec<CaCertificate>>,
}

impl World {
    fn new() -> Self {
        Self {
            secret: None,
            published: Some(Vec::new()),
        }
    }

    fn material(&self) -> Option<Material> {
        self.secret.as_ref().map(Material::read)
    }

    /// What the plan says, and the world after that step. `since` as in [`Seen::whole`]; what is foreign has been so for long.
    fn step(&self, since: Option<Timestamp>, now: Timestamp) -> (Step, Self) {
        let (material, names, schedule) = (self.material(), names(), schedule());
        let foreign = |published: &Vec<CaCertificate>| !covers(&self.cas(), published);
        let state = State {
            stored: material.as_ref(),
            published: self.published.as_deref(),
            seen: Seen {
                whole: since,
                absent: None,
                foreign: self
                    .published
                    .as_ref()
                    .filter(|published| foreign(published))
                    .map(|_| at(-1000)),
            },
            names: &names,
            schedule: &schedule,
        };
        let step = plan(&state, now);
        let mut after = self.clone();
        if let Some(data) = data(step, &state, now).unwrap() {
            after.secret.get_or_insert_default().extend(data);
        } else if step == Step::Publish {
            after.published = Some(bundle(&state, true, now).into_iter().cloned().collect());
        }
        (step, after)
    }

    fn cas(&self) -> Vec<CaCertificate> {
        self.material().map(|material| material.cas).unwrap_or_default()
    }

    fn pair(&self) -> Pair {
        self.material().unwrap().pair.unwrap()
    }

    /// Runs steps at `now`, the bundle being published for long, until there is nothing to do.
    fn settle(&mut self, now: Timestamp) -> Vec<Step> {
        let mut steps = Vec::new();
        loop {
            let (step, after) = self.step(Some(at(-1000)), now);
            if step == Step::Wait {
                return steps;
            }
            steps.push(step);
            *self = after;
            assert!(steps.len() < 10, "{steps:?}");
        }
    }
}

/// A world in which everything is fine since second 0.
fn settled() -> World {
    let mut world = World::new();
    world.settle(at(0));
    world
}

#[test]
fn fresh_cluster_gets_secret_and_bundle_then_waits() {
    let mut world = World::new();
    assert_eq!(world.settle(at(0)), [Step::Create, Step::Publish]);
    assert_eq!(world.cas().len(), 1);
    assert!(verify(&world.pair(), world.published.as_ref().unwrap(), &names()[0], at(0)).is_ok());
    assert_eq!(world.step(None, at(7)).0, Step::Wait);
}

#[test]
fn leaf_is_renewed_at_two_thirds_by_the_same_ca() {
    let mut world = settled();
    let cas = world.cas();
    assert_eq!(world.step(Some(at(0)), at(7)).0, Step::Wait);
    assert_eq!(world.settle(at(8)), [Step::IssueLeaf]);
    assert_eq!(world.cas(), cas);
    assert_eq!(world.pair().not_after, at(20));
}

#[test]
fn ca_is_replaced_at_two_thirds_step_by_step() {
    let mut world = settled();
    world.settle(at(8));
    world.settle(at(16));
    let old = world.cas()[0].clone();
    assert_eq!(world.step(Some(at(0)), at(23)).0, Step::Wait);

    let (step, world) = world.step(Some(at(0)), at(24));
    assert_eq!(
        step,
        Step::IssueLeaf,
        "due at the same time, and the rotation may take a while"
    );
    let (step, world) = world.step(Some(at(0)), at(24));
    assert_eq!(step, Step::AddCa);
    assert_eq!(world.cas().len(), 2);
    assert_eq!(world.cas()[1], old, "newest first");
    let leaf = world.pair().key.cert.clone();

    let (step, world) = world.step(None, at(24));
    assert_eq!(step, Step::Publish);
    assert_eq!(
        world.pair().key.cert,
        leaf,
        "the leaf stays until the bundle is known everywhere"
    );

    assert_eq!(
        world.step(None, at(25)).0,
        Step::Wait,
        "not seen published by this process yet"
    );
    assert_eq!(
        world.step(Some(at(24)), at(25)).0,
        Step::Wait,
        "seen, but not for long enough"
    );
    let (step, mut world) = world.step(Some(at(24)), at(26));
    assert_eq!(step, Step::IssueLeaf);
    assert!(verify(&world.pair(), &world.cas()[..1], &names()[0], at(26)).is_ok());
    assert!(verify(&world.pair(), &[old], &names()[0], at(26)).is_err());

    // The last leaf of the old CA may have been issued at 24 and so be served until 36; propagation on top.
    world.settle(at(34));
    assert_eq!(world.cas().len(), 2);
    assert_eq!(world.step(Some(at(24)), at(35)).0, Step::Wait);
    assert_eq!(world.settle(at(38)), [Step::DropCas, Step::Publish]);
    assert_eq!(world.cas().len(), 1);
    assert_eq!(world.published, Some(world.cas()));
}

#[test]
fn rotation_starts_with_a_leaf_that_outlasts_it() {
    // Ages of the leaf when its CA is due, and what comes first.
    for (age, first) in [
        (3, Step::AddCa),
        (4, Step::AddCa),
        (5, Step::IssueLeaf),
        (7, Step::IssueLeaf),
    ] {
        let mut world = settled();
        world.secret.as_mut().unwrap().remove(TLS_KEY);
        assert_eq!(world.step(None, at(24 - age)).0, Step::IssueLeaf);
        world = world.step(None, at(24 - age)).1;
        assert_eq!(world.step(None, at(24)).0, first, "{age} s old");
    }
}

#[test]
fn rotation_after_any_crash_ends_the_same() {
    // A crash loses [`Seen`] and nothing else; the next leader goes on from what is stored.
    for crash_after in 0..9 {
        let mut world = settled();
        let mut since = Some(at(0));
        let mut steps = 0;
        let mut kinds = Vec::new();
        for second in 1..=46 {
            loop {
                let current = world.published == Some(world.cas());
                since = if current { since.or(Some(at(second))) } else { None };
                let (step, after) = world.step(since, at(second));
                if step == Step::Wait {
                    break;
                }
                kinds.push(step);
                world = after;
                steps += 1;
                if steps == crash_after {
                    since = None;
                }
            }
            let served = world.pair();
            let trusted = world.published.as_ref().unwrap();
            assert!(
                verify(&served, trusted, &names()[0], at(second)).is_ok(),
                "crash after {crash_after}, {second} s"
            );
        }
        let count = |step| kinds.iter().filter(|kind| **kind == step).count();
        assert_eq!(world.cas().len(), 1, "crash after {crash_after}: {kinds:?}");
        assert_eq!(
            (count(Step::AddCa), count(Step::DropCas)),
            (1, 1),
            "crash after {crash_after}"
        );
    }
}

type Change = fn(&mut World, &World);

/// A manual change, and the steps that repair it.
const CHANGES: [(&str, Change, &[Step]); 9] = [
    (
        "the bundle was removed from the configuration",
        |w, _| w.published = Some(vec![]),
        &[Step::Publish],
    ),
    (
        "another bundle was published",
        |w, o| w.published = o.published.clone(),
        &[Step::Publish],
    ),
    (
        "another CA was added to the configuration",
        |w, o| w.published.as_mut().unwrap().extend(o.cas()),
        &[Step::Publish],
    ),
    (
        "the leaf was removed",
        |w, _| drop(w.secret.as_mut().unwrap().remove(TLS_CERTIFICATE)),
        &[Step::IssueLeaf],
    ),
    (
        "the leaf's key was removed",
        |w, _| drop(w.secret.as_mut().unwrap().remove(TLS_KEY)),
        &[Step::IssueLeaf],
    ),
    (
        "the leaf was replaced by a foreign one",
        |w, o| {
            let foreign = o.secret.clone().unwrap();
            let secret = w.secret.as_mut().unwrap();
            secret.extend(foreign.into_iter().filter(|(key, _)| key.starts_with("tls.")));
        },
        &[Step::IssueLeaf],
    ),
    (
        "the CA's key was removed",
        |w, _| drop(w.secret.as_mut().unwrap().remove(CA_KEY)),
        &[Step::AddCa, Step::Publish, Step::IssueLeaf],
    ),
    (
        "the bundle in the secret was garbled",
        |w, _| {
            let garbled = ByteString(b"-----BEGIN CERTIFICATE-----\nnonsense".to_vec());
            w.secret.as_mut().unwrap().insert(CA_CERTIFICATE.to_owned(), garbled);
        },
        &[Step::AddCa, Step::Publish, Step::IssueLeaf],
    ),
    (
        "the secret was deleted",
        |w, _| w.secret = None,
        &[Step::Create, Step::Publish],
    ),
];

#[test]
fn manual_changes_are_repaired() {
    let other = settled();
    for (case, change, expected) in CHANGES {
        let mut world = settled();
        let served = world.pair();
        let trusted = world.published.clone().unwrap();
        change(&mut world, &other);
        let kept_trust = world.published.as_ref().unwrap().contains(&trusted[0]);
        assert_eq!(world.settle(at(1)), expected, "{case}");
        let published = world.published.as_ref().unwrap();
        assert!(
            verify(&world.pair(), published, &names()[0], at(1)).is_ok(),
            "{case}: the new leaf is trusted"
        );
        if kept_trust {
            assert!(
                verify(&served, published, &names()[0], at(1)).is_ok(),
                "{case}: so is the one still served"
            );
        }
    }
}

#[test]
fn leaf_for_other_names_is_replaced() {
    let world = settled();
    let material = world.material();
    let names = crate::settings::dns_names("renamed", "catamaran-system");
    let state = State {
        stored: material.as_ref(),
        published: world.published.as_deref(),
        seen: Seen::default(),
        names: &names,
        schedule: &schedule(),
    };
    assert_eq!(plan(&state, at(1)), Step::IssueLeaf);
}

#[test]
fn missing_configuration_renews_leaf_under_the_old_ca() {
    let mut world = settled();
    world.published = None;
    for (second, step) in [
        (9, Step::IssueLeaf),
        (17, Step::IssueLeaf),
        (24, Step::IssueLeaf),
        (24, Step::AddCa),
        (25, Step::Wait),
        (35, Step::Wait),
        (36, Step::IssueLeaf), // the old ca has expired: nothing to lose
        (36, Step::DropCas),
        (36, Step::Wait),
    ] {
        let (taken, after) = world.step(None, at(second));
        assert_eq!(taken, step, "{second} s");
        world = after;
    }
}

#[test]
fn long_absence_of_leaders_ends_with_fresh_certificates() {
    let mut world = settled();
    assert_eq!(world.settle(at(10_000)), [Step::AddCa, Step::Publish, Step::IssueLeaf]);
    assert_eq!(world.cas().len(), 1, "what has expired is not carried along");
}

#[test]
fn bundle_stays_small_whatever_is_published() {
    let mut world = settled();
    for _ in 0..20 {
        let (ca, _) = issue::ca(at(0), schedule().ca()).unwrap();
        world.published.as_mut().unwrap().push(ca);
    }
    world.secret = None;
    world.settle(at(1));
    assert_eq!(world.cas().len(), MAX_CAS);
}

#[test]
fn step_without_its_ca_is_an_error() {
    let (names, schedule) = (names(), schedule());
    let state = State {
        stored: None,
        published: None,
        seen: Seen::default(),
        names: &names,
        schedule: &schedule,
    };
    for step in [Step::IssueLeaf, Step::DropCas] {
        assert!(matches!(data(step, &state, at(0)), Err(IssueError::NoCa)), "{step:?}");
    }
}

#[test]
fn shortened_lifetimes_apply_at_once() {
    let (names, usual) = (names(), Schedule::default());
    let state = State {
        stored: None,
        published: Some(&[]),
        seen: Seen::default(),
        names: &names,
        schedule: &usual,
    };
    let mut world = World::new();
    world.secret = data(Step::Create, &state, at(0)).unwrap();
    world.published = Some(world.cas());
    let old = world.cas().remove(0);
    let steps = world.settle(at(1));
    let expected = [Step::IssueLeaf, Step::AddCa, Step::Publish, Step::IssueLeaf];
    assert_eq!(steps, expected);
    assert!(
        world.cas().contains(&old),
        "a replica that still serves the old leaf is trusted"
    );
    assert!(left(world.pair().not_after, at(1)) <= schedule().leaf());
    assert!(left(world.cas()[0].not_after, at(1)) <= schedule().ca());
}

#[test]
fn foreign_bundle_is_kept_for_a_while_and_then_removed() {
    let (own, other) = (settled(), settled());
    let material = own.material().unwrap();
    let alone = own.cas();
    let both = [own.cas(), other.cas()].concat();
    let state = State {
        stored: Some(&material),
        published: Some(&both),
        seen: Seen {
            whole: Some(at(0)),
            absent: None,
            foreign: Some(at(0)),
        },
        names: &names(),
        schedule: &schedule(),
    };
    let of = |leads, now| bundle(&state, leads, now).into_iter().cloned().collect::<Vec<_>>();
    // A sixth of a leaf's life.
    for (second, expected, led) in [(1, Step::Wait, &both), (2, Step::Publish, &alone)] {
        assert_eq!(plan(&state, at(second)), expected, "{second} s");
        assert_eq!(given(&state, at(second)), Ok(expected), "{second} s, managed elsewhere");
        assert_eq!(&of(true, at(second)), led, "{second} s");
        assert_eq!(of(false, at(second)), both, "{second} s: who doesn't lead only adds");
    }
}

#[test]
fn follower_joins_foreign_bundle_but_publishes_no_first() {
    let (own, other) = (settled(), settled());
    let material = own.material();
    let absent = Seen {
        absent: Some(at(0)),
        ..Seen::default()
    };
    let nothing: &[CaCertificate] = &[];
    let foreign = other.cas();
    for (case, published, seen, second, expected) in [
        ("too soon", Some(&foreign[..]), absent, 14, false),
        ("in time", Some(&foreign[..]), absent, 15, true),
        ("all is published", Some(&foreign[..]), Seen::default(), 3000, false),
        ("nothing is published", Some(nothing), absent, 3000, false),
        ("no configuration", None, absent, 3000, false),
    ] {
        let state = State {
            stored: material.as_ref(),
            published,
            seen,
            names: &names(),
            schedule: &schedule(),
        };
        assert_eq!(joins(&state, at(second)), expected, "{case}");
    }
}

#[test]
fn bundle_with_foreign_cas_is_bounded_and_has_no_expired() {
    let own = settled();
    let many: Vec<CaCertificate> = (0..20).flat_map(|_| settled().cas()).collect();
    let material = own.material();
    let state = State {
        stored: material.as_ref(),
        published: Some(&many),
        seen: Seen::default(),
        names: &names(),
        schedule: &schedule(),
    };
    let found = bundle(&state, true, at(1));
    assert_eq!(found.len(), MAX_CAS);
    assert_eq!(found[0], &own.cas()[0], "ours first");
    assert_eq!(
        bundle(&state, true, at(10_000)).len(),
        1,
        "an expired CA verifies nothing"
    );
}
