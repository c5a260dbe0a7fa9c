use super::*;
use crate::certificates::material::Pair;

/// A world that is quick enough to watch: authority 36 s, leaf 12 s, propagation 2 s, poll 1 s.
fn schedule() -> Schedule {
    let s = Duration::from_secs;
    Schedule::new(s(36), s(12), s(2), s(1)).unwrap()
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

fn names() -> Vec<String> {
    crate::certificates::settings::dns_names("catamaran", "catamaran-system")
}

/// The cluster as far as certificates are concerned.
#[derive(Clone, Default)]
struct World {
    secret: Option<BTreeMap<String, ByteString>>,
    published: Option<Vec<Authority>>,
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
        let foreign = |published: &Vec<Authority>| !covers(&self.authorities(), published);
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

    fn authorities(&self) -> Vec<Authority> {
        self.material().map(|material| material.authorities).unwrap_or_default()
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
fn a_fresh_cluster_gets_a_secret_and_a_bundle_and_then_rest() {
    let mut world = World::new();
    assert_eq!(world.settle(at(0)), [Step::Create, Step::Publish]);
    assert_eq!(world.authorities().len(), 1);
    assert!(verify(&world.pair(), world.published.as_ref().unwrap(), &names()[0], at(0)).is_ok());
    assert_eq!(world.step(None, at(7)).0, Step::Wait);
}

#[test]
fn a_leaf_is_renewed_at_two_thirds_of_its_life_by_the_same_authority() {
    let mut world = settled();
    let authorities = world.authorities();
    assert_eq!(world.step(Some(at(0)), at(7)).0, Step::Wait);
    assert_eq!(world.settle(at(8)), [Step::IssueLeaf]);
    assert_eq!(world.authorities(), authorities);
    assert_eq!(world.pair().not_after, at(20));
}

#[test]
fn an_authority_is_followed_at_two_thirds_of_its_life_step_by_step() {
    let mut world = settled();
    world.settle(at(8));
    world.settle(at(16));
    let old = world.authorities()[0].clone();
    assert_eq!(world.step(Some(at(0)), at(23)).0, Step::Wait);

    let (step, world) = world.step(Some(at(0)), at(24));
    assert_eq!(
        step,
        Step::IssueLeaf,
        "due at the same time, and the rotation may take a while"
    );
    let (step, world) = world.step(Some(at(0)), at(24));
    assert_eq!(step, Step::AddAuthority);
    assert_eq!(world.authorities().len(), 2);
    assert_eq!(world.authorities()[1], old, "newest first");
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
    assert!(verify(&world.pair(), &world.authorities()[..1], &names()[0], at(26)).is_ok());
    assert!(verify(&world.pair(), &[old], &names()[0], at(26)).is_err());

    // The last leaf of the old authority may have been issued at 24 and so be served until 36; propagation on top.
    world.settle(at(34));
    assert_eq!(world.authorities().len(), 2);
    assert_eq!(world.step(Some(at(24)), at(35)).0, Step::Wait);
    assert_eq!(world.settle(at(38)), [Step::DropAuthorities, Step::Publish]);
    assert_eq!(world.authorities().len(), 1);
    assert_eq!(world.published, Some(world.authorities()));
}

#[test]
fn a_rotation_begins_with_a_leaf_that_has_time_to_wait_for_its_end() {
    // Ages of the leaf when its authority is due, and what comes first.
    for (age, first) in [
        (3, Step::AddAuthority),
        (4, Step::AddAuthority),
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
fn every_crash_point_of_a_rotation_leads_to_the_same_end() {
    // A crash loses [`Seen`] and nothing else; the next leader goes on from what is stored.
    for crash_after in 0..9 {
        let mut world = settled();
        let mut since = Some(at(0));
        let mut steps = 0;
        let mut kinds = Vec::new();
        for second in 1..=46 {
            loop {
                let current = world.published == Some(world.authorities());
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
        assert_eq!(world.authorities().len(), 1, "crash after {crash_after}: {kinds:?}");
        assert_eq!(
            (count(Step::AddAuthority), count(Step::DropAuthorities)),
            (1, 1),
            "crash after {crash_after}"
        );
    }
}

type Change = fn(&mut World, &World);

/// What somebody did, and the steps that put it right.
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
        "another authority was added to the configuration",
        |w, o| w.published.as_mut().unwrap().extend(o.authorities()),
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
        "the leaf was replaced by one of somebody else",
        |w, o| {
            let foreign = o.secret.clone().unwrap();
            let secret = w.secret.as_mut().unwrap();
            secret.extend(foreign.into_iter().filter(|(key, _)| key.starts_with("tls.")));
        },
        &[Step::IssueLeaf],
    ),
    (
        "the authority's key was removed",
        |w, _| drop(w.secret.as_mut().unwrap().remove(CA_KEY)),
        &[Step::AddAuthority, Step::Publish, Step::IssueLeaf],
    ),
    (
        "the bundle in the secret was garbled",
        |w, _| {
            let garbled = ByteString(b"-----BEGIN CERTIFICATE-----\nnonsense".to_vec());
            w.secret.as_mut().unwrap().insert(CA_CERTIFICATE.to_owned(), garbled);
        },
        &[Step::AddAuthority, Step::Publish, Step::IssueLeaf],
    ),
    (
        "the secret was deleted",
        |w, _| w.secret = None,
        &[Step::Create, Step::Publish],
    ),
];

#[test]
fn what_somebody_changed_by_hand_is_put_right() {
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
fn a_leaf_for_other_names_is_replaced() {
    let world = settled();
    let material = world.material();
    let names = crate::certificates::settings::dns_names("renamed", "catamaran-system");
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
fn without_a_configuration_the_leaf_is_kept_fresh_and_a_new_authority_is_not_relied_on_before_its_time() {
    let mut world = settled();
    world.published = None;
    for (second, step) in [
        (9, Step::IssueLeaf),
        (17, Step::IssueLeaf),
        (24, Step::IssueLeaf),
        (24, Step::AddAuthority),
        (25, Step::Wait),
        (35, Step::Wait),
        (36, Step::IssueLeaf), // the old authority has expired: nothing to lose
        (36, Step::DropAuthorities),
        (36, Step::Wait),
    ] {
        let (taken, after) = world.step(None, at(second));
        assert_eq!(taken, step, "{second} s");
        world = after;
    }
}

#[test]
fn a_long_absence_of_every_leader_ends_with_fresh_certificates() {
    let mut world = settled();
    assert_eq!(
        world.settle(at(10_000)),
        [Step::AddAuthority, Step::Publish, Step::IssueLeaf]
    );
    assert_eq!(world.authorities().len(), 1, "what has expired is not carried along");
}

#[test]
fn a_bundle_stays_small_whatever_is_published() {
    let mut world = settled();
    for _ in 0..20 {
        let (authority, _) = issue::authority(at(0), schedule().authority()).unwrap();
        world.published.as_mut().unwrap().push(authority);
    }
    world.secret = None;
    world.settle(at(1));
    assert_eq!(world.authorities().len(), MOST_AUTHORITIES);
}

#[test]
fn steps_that_need_an_authority_say_so_when_there_is_none() {
    let (names, schedule) = (names(), schedule());
    let state = State {
        stored: None,
        published: None,
        seen: Seen::default(),
        names: &names,
        schedule: &schedule,
    };
    for step in [Step::IssueLeaf, Step::DropAuthorities] {
        assert!(
            matches!(data(step, &state, at(0)), Err(IssueError::NoAuthority)),
            "{step:?}"
        );
    }
}

#[test]
fn lives_that_were_shortened_count_at_once() {
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
    world.published = Some(world.authorities());
    let old = world.authorities().remove(0);
    let steps = world.settle(at(1));
    let expected = [Step::IssueLeaf, Step::AddAuthority, Step::Publish, Step::IssueLeaf];
    assert_eq!(steps, expected);
    assert!(
        world.authorities().contains(&old),
        "whoever still serves the old leaf is trusted"
    );
    assert!(left(world.pair().not_after, at(1)) <= schedule().leaf());
    assert!(left(world.authorities()[0].not_after, at(1)) <= schedule().authority());
}

#[test]
fn what_another_keeper_has_published_is_left_for_a_while_and_then_taken_out() {
    let (own, other) = (settled(), settled());
    let material = own.material().unwrap();
    let alone = own.authorities();
    let both = [own.authorities(), other.authorities()].concat();
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
        assert_eq!(
            given(&state, at(second)),
            Ok(expected),
            "{second} s, kept by somebody else"
        );
        assert_eq!(&of(true, at(second)), led, "{second} s");
        assert_eq!(of(false, at(second)), both, "{second} s: who doesn't lead only adds");
    }
}

#[test]
fn a_replica_that_does_not_lead_joins_a_foreign_bundle_but_publishes_no_first_one() {
    let (own, other) = (settled(), settled());
    let material = own.material();
    let absent = Seen {
        absent: Some(at(0)),
        ..Seen::default()
    };
    let nothing: &[Authority] = &[];
    let foreign = other.authorities();
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
fn a_bundle_with_what_is_foreign_has_its_bounds_and_nothing_that_has_expired() {
    let own = settled();
    let many: Vec<Authority> = (0..20).flat_map(|_| settled().authorities()).collect();
    let material = own.material();
    let state = State {
        stored: material.as_ref(),
        published: Some(&many),
        seen: Seen::default(),
        names: &names(),
        schedule: &schedule(),
    };
    let found = bundle(&state, true, at(1));
    assert_eq!(found.len(), MOST_AUTHORITIES);
    assert_eq!(found[0], &own.authorities()[0], "ours first");
    assert_eq!(
        bundle(&state, true, at(10_000)).len(),
        1,
        "what has expired vouches for nobody"
    );
}
