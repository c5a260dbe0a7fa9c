//! Two registries, their weather, and an operator that probes them on the real schedule and obeys the real decisions.

use std::time::Duration;

use catamaran_core::failover::{CompletedPass, Decision, Flip, Input, Standing, decide};
use catamaran_core::health::{Outcome, Probe, ProbeHistory, Unavailable};
use catamaran_core::policy::{MirrorId, MirrorPolicy, SidePolicy};
use catamaran_core::side::{Side, Sides};
use jiff::Timestamp;

/// Milliseconds since the simulation began.
pub type Ms = i64;

pub const SECOND: Ms = 1_000;
pub const MINUTE: Ms = 60 * SECOND;
pub const HOUR: Ms = 60 * MINUTE;

const BEGIN: Ms = 1_790_000_000_000;

pub fn at(ms: Ms) -> Timestamp {
    Timestamp::from_millisecond(BEGIN + ms).expect("simulations end before the year 9999")
}

pub fn millis(length: Duration) -> Ms {
    Ms::try_from(length.as_millis()).expect("simulated lengths are hours at most")
}

pub fn ms(at: Timestamp) -> Ms {
    at.as_millisecond() - BEGIN
}

/// The defaults of the resource.
pub fn policy() -> MirrorPolicy {
    let side = |registry: &str| SidePolicy {
        registry: registry.to_owned(),
        ..SidePolicy::default()
    };
    let id = MirrorId {
        name: "apps".into(),
        uid: "1".into(),
    };
    let sides = Sides {
        primary: side("primary.example"),
        fallback: side("fallback.example"),
    };
    MirrorPolicy::new(id, at(0), sides)
}

/// The generator `SplitMix64`: small, seeded, good enough for weather.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Within (0, 1].
    fn fraction(&mut self) -> f64 {
        ((self.next() >> 11) as f64 + 1.0) / (1u64 << 53) as f64
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

/// What a registry does with a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weather {
    Up,
    /// Fails at once: refused, reset, 5xx.
    Fails(Unavailable),
    /// Swallows every packet: the probe ends with its time limit.
    BlackHole,
    /// Answers something that is neither success nor failure.
    Says(Outcome),
}

/// One side: when it answers, and how lossy the way to it is.
#[derive(Clone, Debug)]
pub struct Registry {
    /// The weather from an instant on, sorted; `Up` before the first.
    pub changes: Vec<(Ms, Weather)>,
    /// How long an answer takes.
    pub latency: Ms,
    loss: f64,
    dice: Dice,
    /// Probes that come through before one is lost.
    until_loss: Ms,
}

impl Registry {
    pub fn new(changes: Vec<(Ms, Weather)>, latency: Ms) -> Registry {
        Registry {
            changes,
            latency,
            loss: 0.0,
            dice: Dice(0),
            until_loss: Ms::MAX,
        }
    }

    /// Loses probes independently of each other with this probability.
    pub fn lossy(mut self, loss: f64, seed: u64) -> Registry {
        self.loss = loss;
        self.dice = Dice(seed);
        self.until_loss = self.draw();
        self
    }

    /// The number of successes before a failure is geometric, so it is drawn at once instead of probe by probe.
    fn draw(&mut self) -> Ms {
        if self.loss == 0.0 {
            Ms::MAX
        } else {
            (self.dice.fraction().ln() / (1.0 - self.loss).ln()) as Ms
        }
    }

    pub fn weather(&self, at: Ms) -> Weather {
        let changed = self.changes.partition_point(|(from, _)| *from <= at);
        changed
            .checked_sub(1)
            .map_or(Weather::Up, |index| self.changes[index].1)
    }

    /// When a probe begun now ends, and with what. One that is under way when the weather turns meets the new weather.
    fn probe(&mut self, begun: Ms, timeout: Ms) -> (Ms, Outcome) {
        let timed_out = (begun + timeout, Outcome::Unavailable(Unavailable::Timeout));
        if self.until_loss == 0 {
            self.until_loss = self.draw();
            let reset = Outcome::Unavailable(Unavailable::ConnectionFailed);
            return if self.dice.below(2) == 0 {
                timed_out
            } else {
                (begun + self.latency, reset)
            };
        }
        self.until_loss -= 1;
        let end = begun + self.latency;
        let met = match self.weather(begun) {
            Weather::Up => self.weather(end),
            other => other,
        };
        match met {
            Weather::Up if self.latency > timeout => timed_out,
            Weather::Up => (end, Outcome::Reachable),
            Weather::Fails(kind) => (end, Outcome::Unavailable(kind)),
            Weather::BlackHole => timed_out,
            Weather::Says(outcome) => (end, outcome),
        }
    }
}

/// The probing of one side.
#[derive(Clone, Debug)]
struct Prober {
    history: ProbeHistory,
    next: Ms,
    under_way: Option<(Ms, Outcome)>,
}

impl Prober {
    fn starting_at(next: Ms) -> Prober {
        Prober {
            history: ProbeHistory::new(),
            next,
            under_way: None,
        }
    }

    fn event(&self) -> Ms {
        self.under_way.map_or(self.next, |(end, _)| end)
    }
}

/// What happened, for checkers that trust nothing of the code under test.
#[derive(Clone, Debug)]
pub struct Seen {
    pub side: Side,
    pub end: Ms,
    pub outcome: Outcome,
}

#[derive(Clone, Debug)]
pub struct World {
    pub now: Ms,
    pub policy: MirrorPolicy,
    pub registries: Sides<Registry>,
    pub standing: Standing,
    pub flips: Vec<Flip>,
    /// Probes of this process, kept only if asked for.
    pub log: Option<Vec<Seen>>,
    /// The passes that ended in this process.
    pub pass: Option<CompletedPass>,
    probers: Sides<Prober>,
    next_pass: Ms,
    recheck: Option<Ms>,
    /// Leave out stretches of probes that would all succeed.
    pub skip: bool,
}

impl World {
    /// An operator that starts at 0 and probes the fallback `offset` after the primary.
    pub fn new(registries: Sides<Registry>, offset: Ms) -> World {
        World {
            now: 0,
            policy: policy(),
            registries,
            standing: Standing::default(),
            flips: Vec::new(),
            log: None,
            pass: None,
            probers: Sides {
                primary: Prober::starting_at(0),
                fallback: Prober::starting_at(offset),
            },
            next_pass: 0,
            recheck: None,
            skip: false,
        }
    }

    /// A new process: what it saw is gone, what it wrote is not.
    pub fn restart(&mut self) {
        let now = self.now;
        self.probers = Sides {
            primary: Prober::starting_at(now),
            fallback: Prober::starting_at(now + 300),
        };
        self.pass = None;
        self.next_pass = now;
        self.recheck = None;
        if let Some(log) = &mut self.log {
            log.clear();
        }
    }

    /// Lets time pass until `end`, with every decision handed to `check` together with the world it was made in.
    pub fn run_checked(&mut self, end: Ms, check: &mut impl FnMut(&World, &Decision)) {
        loop {
            if self.skip {
                self.skip_healthy_stretch();
            }
            let passes = self.next_pass + PASS;
            let probing = self.probers.primary.event().min(self.probers.fallback.event());
            let next = probing.min(passes).min(self.recheck.unwrap_or(Ms::MAX));
            if next > end {
                self.now = end;
                return;
            }
            self.now = next;
            if self.advance(probing, passes) {
                let decision = self.decide();
                check(self, &decision);
                self.obey(decision);
            }
        }
    }

    pub fn run(&mut self, end: Ms) {
        self.run_checked(end, &mut |_, _| {});
    }

    /// Says whether there is something new to decide on.
    fn advance(&mut self, probing: Ms, passes: Ms) -> bool {
        let now = self.now;
        if self.recheck.is_some_and(|at| at <= now) {
            self.recheck = None;
            return true;
        }
        if passes <= now {
            let begun = self.next_pass;
            let up = [begun, now]
                .iter()
                .all(|at| self.registries.primary.weather(*at) == Weather::Up);
            let detail = if up {
                "12 of 12 tags in use found"
            } else {
                "the primary did not answer"
            };
            self.pass = Some(CompletedPass {
                begun: at(begun),
                in_use_in_sync: up,
                detail: detail.to_owned(),
            });
            self.next_pass = begun + millis(self.policy.parity.interval);
            return true;
        }
        let side = if self.probers.primary.event() == probing {
            Side::Primary
        } else {
            Side::Fallback
        };
        let prober = &mut self.probers[side];
        let Some((end, outcome)) = prober.under_way.take() else {
            let timeout = millis(self.policy.health.timeout);
            prober.under_way = Some(self.registries[side].probe(now, timeout));
            return false;
        };
        let message = String::new();
        prober.history.record(
            Probe {
                at: at(end),
                outcome,
                message,
            },
            &self.policy.health,
        );
        prober.next = ms(prober.history.next_probe(&self.policy.health, at(now))).max(now);
        if let Some(log) = &mut self.log {
            log.push(Seen { side, end, outcome });
        }
        true
    }

    /// What would be decided now.
    pub fn decide(&self) -> Decision {
        let probes = Sides {
            primary: &self.probers.primary.history,
            fallback: &self.probers.fallback.history,
        };
        let input = Input {
            policy: &self.policy,
            probes,
            standing: &self.standing,
            pass: self.pass.clone(),
        };
        decide(&input, at(self.now))
    }

    /// Makes a decision come true.
    pub fn obey(&mut self, decision: Decision) {
        self.standing = self.standing.after(&decision);
        self.recheck = decision.recheck_at.map(ms).filter(|at| *at > self.now);
        if let Some(side) = decision.probe_now {
            self.probers[side].next = self.now;
        }
        self.flips.extend(decision.flip);
    }

    /// While the primary is active and both sides answer, nothing is decided until a probe is lost. Since the distance to
    /// the next loss is drawn in advance, whole rounds of probes that succeed on both sides can be left out: both probers,
    /// both distances and the passes move by the same number of rounds, so every later probe begins at the very instant
    /// and meets the very fate it would have had. What differs is how long the sides are remembered as reachable, which
    /// only failback asks for, and there is none from the primary.
    fn skip_healthy_stretch(&mut self) {
        const KEPT: Ms = 1;
        let idle = |prober: &Prober| {
            prober.under_way.is_none() && prober.history.successes_in_row() >= self.policy.health.success_threshold
        };
        let same_round = self.registries.primary.latency == self.registries.fallback.latency;
        if self.standing.active != Side::Primary || !same_round || !Side::ALL.iter().all(|s| idle(&self.probers[*s])) {
            return;
        }
        let rounds = self
            .registries
            .primary
            .until_loss
            .min(self.registries.fallback.until_loss)
            .saturating_sub(KEPT);
        if rounds <= 0 {
            return;
        }
        let round = millis(self.policy.health.period) + self.registries.primary.latency;
        let length = rounds * round;
        for side in Side::ALL {
            self.registries[side].until_loss -= rounds;
            self.probers[side].next += length;
        }
        let interval = millis(self.policy.parity.interval);
        while self.next_pass + PASS <= self.now + length {
            self.next_pass += interval;
        }
        self.recheck = None;
    }
}

/// How long a pass takes.
const PASS: Ms = 20 * SECOND;
