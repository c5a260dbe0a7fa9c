use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use super::*;
use crate::Timing;

const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn wall(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

fn election(identity: &str) -> Election {
    // client-go's: the tables below count in them.
    let timing = Timing::new(s(15), s(10), s(2)).unwrap();
    Election::new(LeaseSettings {
        timing,
        ..LeaseSettings::new("catamaran-system", "catamaran", identity)
    })
}

/// A lease as the API server would return it.
fn lease(holder: &str, renewed: i64, version: u64) -> Lease {
    let metadata = ObjectMeta {
        name: Some("catamaran".into()),
        resource_version: Some(version.to_string()),
        ..Default::default()
    };
    let spec = LeaseSpec {
        holder_identity: Some(holder.into()),
        lease_duration_seconds: Some(15),
        renew_time: Some(MicroTime(wall(renewed))),
        acquire_time: Some(MicroTime(wall(0))),
        lease_transitions: Some(4),
        ..Default::default()
    };
    Lease {
        metadata,
        spec: Some(spec),
    }
}

fn spec(step: Step) -> LeaseSpec {
    match step {
        Step::Create(lease) | Step::Replace(lease) => lease.spec.unwrap(),
        Step::Wait => panic!("expected a write"),
    }
}

#[test]
fn created_lease_has_its_owner() {
    let owner = OwnerReference {
        uid: "u1".to_owned(),
        ..OwnerReference::default()
    };
    let settings = LeaseSettings::new("catamaran-system", "catamaran", "a").owned_by(Some(owner.clone()));
    let Step::Create(lease) = Election::new(settings).decide(s(0), wall(0)) else {
        panic!("expected a creation")
    };
    assert_eq!(lease.metadata.owner_references, Some(vec![owner]));
}

#[test]
fn missing_lease_is_created_with_no_transition() {
    let mut a = election("a");
    a.observe(None, s(0));
    let Step::Create(lease) = a.decide(s(0), wall(7)) else {
        panic!("expected a creation")
    };
    assert_eq!(lease.metadata.name.as_deref(), Some("catamaran"));
    assert_eq!(lease.metadata.namespace.as_deref(), Some("catamaran-system"));
    let spec = lease.spec.unwrap();
    assert_eq!(spec.holder_identity.as_deref(), Some("a"));
    assert_eq!(spec.lease_duration_seconds, Some(15));
    assert_eq!(spec.lease_transitions, Some(0));
    assert_eq!(spec.acquire_time, Some(MicroTime(wall(7))));
    assert!(!a.is_leading(s(0)), "nothing is granted before the write is accepted");
}

#[test]
fn foreign_record_expires_from_when_it_was_seen_to_change() {
    // (case, the record's own renew time relative to this process's wall clock, when seen, when asked, taken)
    let table = [
        ("a fresh record holds", 0, 0, s(14), false),
        ("an unchanged record runs out after its duration", 0, 0, s(15), true),
        (
            "a record with a renew time long past holds from when it was seen",
            -100_000,
            100,
            s(114),
            false,
        ),
        ("and runs out from when it was seen", -100_000, 100, s(115), true),
        (
            "a record from the future runs out just the same",
            100_000,
            100,
            s(115),
            true,
        ),
    ];
    for (case, renewed, seen, asked, taken) in table {
        let mut a = election("a");
        a.observe(Some(lease("b", renewed, 9)), s(seen));
        a.observe(Some(lease("b", renewed, 9)), asked);
        let step = a.decide(asked, wall(0));
        assert_eq!(step != Step::Wait, taken, "{case}");
    }
}

#[test]
fn renewal_by_holder_restarts_the_wait() {
    let mut a = election("a");
    a.observe(Some(lease("b", 0, 1)), s(0));
    a.observe(Some(lease("b", 2, 2)), s(10));
    assert_eq!(a.decide(s(24), wall(24)), Step::Wait);
    assert_ne!(a.decide(s(25), wall(25)), Step::Wait);
}

#[test]
fn label_on_lease_does_not_prolong_a_dead_holders_time() {
    let mut a = election("a");
    a.observe(Some(lease("b", 0, 1)), s(0));
    a.observe(Some(lease("b", 0, 2)), s(14));
    let Step::Replace(taken) = a.decide(s(15), wall(15)) else {
        panic!("expected a takeover")
    };
    assert_eq!(
        taken.metadata.resource_version.as_deref(),
        Some("2"),
        "guarded by the newest version"
    );
}

#[test]
fn foreign_record_is_respected_for_its_own_duration() {
    for (asked, from) in [(Some(40), 40), (Some(3), 3), (Some(0), 15), (Some(-5), 15), (None, 15)] {
        let mut a = election("a");
        let mut foreign = lease("b", 0, 1);
        foreign.spec.as_mut().unwrap().lease_duration_seconds = asked;
        a.observe(Some(foreign), s(0));
        assert_eq!(a.decide(s(from - 1), wall(0)), Step::Wait, "{asked:?}");
        assert_ne!(a.decide(s(from), wall(0)), Step::Wait, "{asked:?}");
    }
}

#[test]
fn follower_reads_again_when_foreign_record_expires() {
    let mut a = election("a");
    assert_eq!(a.pause(s(0)), s(2), "nothing is known yet");
    a.observe(Some(lease("b", 0, 1)), s(0));
    for (now, pause, case) in [
        (s(5), s(2), "far from its end"),
        (s(14), s(1), "near its end"),
        (s(15), s(2), "it has expired, and another process was faster"),
    ] {
        assert_eq!(a.pause(now), pause, "{case}");
    }
    a.observe(Some(lease("a", 14, 2)), s(14));
    assert_eq!(a.pause(s(14)), s(2), "our own record");
}

#[test]
fn released_lease_is_taken_at_once() {
    for holder in [Some(String::new()), None] {
        let mut a = election("a");
        let mut released = lease("", 0, 1);
        released.spec.as_mut().unwrap().holder_identity = holder;
        a.observe(Some(released), s(0));
        let spec = spec(a.decide(s(0), wall(3)));
        assert_eq!(spec.lease_transitions, Some(5));
        assert_eq!(spec.acquire_time, Some(MicroTime(wall(3))));
    }
    let mut a = election("a");
    a.observe(Some(Lease::default()), s(0));
    assert_eq!(
        spec(a.decide(s(0), wall(3))).holder_identity.as_deref(),
        Some("a"),
        "a lease without a spec"
    );
}

#[test]
fn renewal_keeps_acquire_time_and_transitions() {
    let mut a = election("a");
    a.observe(Some(lease("a", 0, 1)), s(0));
    let spec = spec(a.decide(s(1), wall(9)));
    assert_eq!(spec.lease_transitions, Some(4));
    assert_eq!(spec.acquire_time, Some(MicroTime(wall(0))));
    assert_eq!(spec.renew_time, Some(MicroTime(wall(9))));
}

#[test]
fn renewal_changes_record_when_wall_clock_steps_back() {
    let mut a = election("a");
    for now in [0, 0, -500] {
        let before = lease("a", 0, 1);
        a.observe(Some(before.clone()), s(0));
        assert!(
            spec(a.decide(s(1), wall(now))).renew_time > before.spec.unwrap().renew_time,
            "{now}"
        );
    }
}

#[test]
fn leading_lasts_from_request_start_to_renew_deadline() {
    let mut a = election("a");
    a.observe(None, s(0));
    a.written(lease("a", 0, 1), s(3));
    assert_eq!(a.leading_until(), Some(s(13)));
    assert!(a.is_leading(s(12)));
    assert!(!a.is_leading(s(13)), "the end itself is out");
    a.written(lease("a", 2, 2), s(5));
    assert_eq!(a.leading_until(), Some(s(15)));
}

#[test]
fn own_name_in_record_grants_nothing() {
    let mut a = election("a");
    a.observe(Some(lease("a", 0, 1)), s(0));
    assert!(!a.is_leading(s(0)), "a restarted process must renew before it leads");
}

#[test]
fn failed_renewal_keeps_the_grant_and_asks_for_a_read() {
    let mut a = election("a");
    a.written(lease("a", 0, 1), s(0));
    assert!(!a.must_read(s(2)), "a leader in good standing renews without reading");
    a.refused();
    assert!(a.must_read(s(2)));
    assert!(a.is_leading(s(9)));
    assert!(!a.is_leading(s(10)));
}

#[test]
fn leading_ends_when_lease_is_deleted_or_taken() {
    for found in [None, Some(lease("b", 1, 2)), Some(lease("", 1, 2))] {
        let mut a = election("a");
        a.written(lease("a", 0, 1), s(0));
        a.refused();
        a.observe(found.clone(), s(1));
        assert!(!a.is_leading(s(1)), "{found:?}");
    }
}

#[test]
fn release_empties_the_holder_and_only_for_the_holder() {
    let mut a = election("a");
    a.written(lease("a", 0, 7), s(0));
    assert!(a.may_hold());
    let released = a.release(wall(4)).unwrap();
    assert!(!a.is_leading(s(0)));
    assert_eq!(released.metadata.resource_version.as_deref(), Some("7"));
    let spec = released.spec.unwrap();
    assert_eq!(spec.holder_identity.as_deref(), Some(""));
    assert_eq!(spec.lease_duration_seconds, Some(1));
    assert_eq!(spec.lease_transitions, Some(4));

    let mut b = election("b");
    b.observe(Some(lease("a", 0, 7)), s(0));
    assert!(!b.may_hold());
    assert_eq!(b.release(wall(4)), None);
}

/// A small generator with a seed, so that a failing history can be run again.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below
    }
}

/// What one replica does next: nothing in flight, or a write that began at `begun` and is stored or lost at `lands`.
struct Replica {
    election: Election,
    /// This process's monotonic clock runs at `rate` percent of the true one, from an arbitrary zero.
    rate: u64,
    zero: u64,
    wakes: u64,
    flight: Option<Flight>,
}

struct Flight {
    lease: Lease,
    begun: Duration,
    lands: u64,
    answers: u64,
    result: Option<Result<Lease, ()>>,
}

impl Replica {
    fn clock(&self, ms: u64) -> Duration {
        Duration::from_millis(self.zero + ms * self.rate / 100)
    }
}

/// Replaces `stored` if its version is still current, as an API server does.
fn store(stored: &mut Option<Lease>, lease: &Lease, version: &mut u64) -> Result<Lease, ()> {
    let current = stored
        .as_ref()
        .and_then(|lease| lease.metadata.resource_version.clone());
    if current != lease.metadata.resource_version {
        return Err(());
    }
    *version += 1;
    let mut lease = lease.clone();
    lease.metadata.resource_version = Some(version.to_string());
    *stored = Some(lease.clone());
    Ok(lease)
}

fn step(replica: &mut Replica, stored: &mut Option<Lease>, version: &mut u64, dice: &mut Dice, ms: u64) {
    if let Some(flight) = &mut replica.flight {
        if flight.lands == ms {
            flight.result = Some(store(stored, &flight.lease, version));
        }
        if ms < flight.answers {
            return;
        }
        let flight = replica.flight.take().unwrap();
        match flight.result {
            Some(Ok(lease)) if dice.roll(10) > 0 => replica.election.written(lease, flight.begun),
            _ => replica.election.refused(),
        }
        replica.wakes = ms + 2_000;
    }
    if ms < replica.wakes {
        return;
    }
    replica.wakes = ms + 2_000 + dice.roll(500);
    let now = replica.clock(ms);
    if dice.roll(20) == 0 {
        replica.wakes = ms + dice.roll(30_000); // the process or its network is gone for a while
        return;
    }
    if replica.election.must_read(now) {
        replica.election.observe(stored.clone(), now);
    }
    let wall = wall(i64::try_from(ms / 1000 * replica.zero % 1_000_000).unwrap()); // wall clocks that mean nothing
    if let Step::Create(lease) | Step::Replace(lease) = replica.election.decide(now, wall) {
        let lands = ms + dice.roll(3_000);
        // One in eight is never stored; a caller that gave up may still find its write stored later.
        let lands = if dice.roll(8) == 0 { u64::MAX } else { lands };
        let answers = ms + 1 + dice.roll(5_000);
        replica.flight = Some(Flight {
            lease: *lease,
            begun: now,
            lands,
            answers,
            result: None,
        });
    }
}

#[test]
fn two_processes_never_lead_at_once_in_simulation() {
    let mut led = 0_u64;
    let mut turns = 0_u64;
    for seed in 1..=20 {
        let mut dice = Dice(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed));
        let mut stored = None;
        let mut version = 0;
        let mut replicas: Vec<Replica> = ["a", "b", "c"]
            .map(|name| Replica {
                election: election(name),
                rate: 90 + dice.roll(21), // 90 % to 110 %: within the ratio of 10 s to 15 s
                zero: dice.roll(1_000_000),
                wakes: dice.roll(2_000),
                flight: None,
            })
            .into();
        let mut last = None;
        for ms in 0..300_000 {
            for replica in &mut replicas {
                step(replica, &mut stored, &mut version, &mut dice, ms);
            }
            let leading: Vec<usize> = (0..3)
                .filter(|i| replicas[*i].election.is_leading(replicas[*i].clock(ms)))
                .collect();
            assert!(leading.len() <= 1, "seed {seed}, {ms} ms: {leading:?} lead");
            led += leading.len() as u64;
            if leading
                .first()
                .is_some_and(|leader| last.replace(*leader) != Some(*leader))
            {
                turns += 1;
            }
        }
    }
    assert!(
        led > 20 * 300_000 / 4,
        "a process leads for a good part of the time: {led} ms"
    );
    assert!(turns > 40, "and not always the same one: {turns} turns");
}

#[test]
fn timing_without_margin_is_refused() {
    let ms = Duration::from_millis;
    for (case, duration, deadline, retry, accepted) in [
        ("client-go's", s(15), s(10), s(2), true),
        ("deadline as long as the lease", s(10), s(10), s(2), false),
        ("no second try before the deadline", s(15), s(2), s(2), false),
        ("no pause", s(15), s(10), s(0), false),
        ("shorter than the record can say", ms(900), ms(600), ms(100), false),
        ("quick, for tests", s(2), ms(1500), ms(200), true),
    ] {
        assert_eq!(Timing::new(duration, deadline, retry).is_ok(), accepted, "{case}");
    }
    let default = Timing::default();
    assert_eq!(
        Timing::new(default.duration(), default.renew_deadline(), default.retry()),
        Ok(default)
    );
}
