//! A registry: what it holds, when it answers, and how lossy the way to it is.

use std::collections::{BTreeMap, BTreeSet};

use catamaran_core::digest::Digest;
use catamaran_core::endpoint::{Layer, Outcome, Send, Unavailable};
use catamaran_core::mirror::{Depth, FlawedPart, Part};
use catamaran_core::routing::evidence::Flaw;

use crate::clock::{Dice, Ms};
use crate::endpoints::layer_of;

/// What a registry does with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weather {
    Up,
    /// Fails at once: refused, reset, 5xx.
    Fails(Unavailable),
    /// Swallows every packet: a request ends with its time limit.
    BlackHole,
    /// Serves manifests, and no blobs.
    NoBlobs,
    /// Serves those who have a token, and gives out none.
    NoTokens,
    /// Answers the operator something that is neither success nor failure. Kubelets, which have credentials of their own, are
    /// served.
    Says(Outcome),
}

/// A change of what a registry holds.
#[derive(Clone, Debug)]
pub struct Change {
    pub at: Ms,
    pub path: String,
    pub reference: String,
    pub digest: Option<Digest>,
}

/// One registry.
#[derive(Clone, Debug)]
pub struct Registry {
    pub host: String,
    /// Whether its listings bring digests.
    pub lists_digests: bool,
    /// The weather from an instant on, sorted; `Up` before the first.
    pub changes: Vec<(Ms, Weather)>,
    /// How long an answer takes.
    pub latency: Ms,
    /// How much later than on the grid its probes begin.
    pub offset: Ms,
    /// Repositories that answer 500 while the others work.
    pub broken: BTreeSet<String>,
    /// Manifests whose layers were cleaned away, and those that are served with other bytes.
    pub flawed: BTreeMap<(String, Digest), Flaw>,
    /// Those of which that was so at some time.
    once_flawed: BTreeSet<(String, Digest)>,
    tags: BTreeMap<String, BTreeMap<String, Digest>>,
    manifests: BTreeSet<(String, Digest)>,
    pub log: Vec<Change>,
    loss: f64,
    dice: Dice,
    /// Probes that come through before one is lost.
    pub until_loss: Ms,
    /// How many are lost in a row, and how many of those are still to come.
    burst: u32,
    left: u32,
}

impl Registry {
    pub fn new(host: &str, latency: Ms) -> Registry {
        Registry {
            host: host.to_owned(),
            lists_digests: true,
            changes: Vec::new(),
            latency,
            offset: 0,
            broken: BTreeSet::new(),
            flawed: BTreeMap::new(),
            once_flawed: BTreeSet::new(),
            tags: BTreeMap::new(),
            manifests: BTreeSet::new(),
            log: Vec::new(),
            loss: 0.0,
            dice: Dice(0),
            until_loss: Ms::MAX,
            burst: 1,
            left: 1,
        }
    }

    /// With this weather.
    pub fn under(mut self, changes: Vec<(Ms, Weather)>) -> Registry {
        self.changes = changes;
        self
    }

    /// Whose probes begin so much later.
    pub fn offset(mut self, offset: Ms) -> Registry {
        self.offset = offset;
        self
    }

    /// Loses probes independently of each other with this probability.
    pub fn lossy(mut self, loss: f64, seed: u64) -> Registry {
        self.loss = loss;
        self.dice = Dice(seed);
        self.until_loss = self.draw();
        self
    }

    /// Loses so many probes in a row.
    pub fn bursts(mut self, length: u32) -> Registry {
        self.burst = length;
        self.left = length;
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

    /// Whether kubelets are served from a repository now.
    pub fn serves(&self, at: Ms, path: &str) -> bool {
        matches!(self.weather(at), Weather::Up | Weather::Says(_)) && !self.broken.contains(path)
    }

    /// When a probe begun now ends, and with what. One that is under way when the weather turns meets the new weather.
    pub fn probe(&mut self, begun: Ms, timeout: Ms) -> (Ms, Outcome) {
        let timed_out = (begun + timeout, Outcome::Unavailable(Unavailable::Timeout));
        let latency = self.latency;
        if self.until_loss == 0 {
            self.left -= 1;
            if self.left == 0 {
                self.left = self.burst;
                self.until_loss = self.draw();
            }
            let reset = Outcome::Unavailable(Unavailable::ConnectionFailed);
            return if self.dice.below(2) == 0 {
                timed_out
            } else {
                (begun + latency, reset)
            };
        }
        self.until_loss -= 1;
        let end = begun + latency;
        let met = match self.weather(begun) {
            Weather::Up => self.weather(end),
            other => other,
        };
        match met {
            Weather::Up | Weather::NoBlobs | Weather::NoTokens if self.latency > timeout => timed_out,
            Weather::Up | Weather::NoBlobs | Weather::NoTokens => (end, Outcome::Reachable),
            Weather::Fails(kind) => (end, Outcome::Unavailable(kind)),
            Weather::BlackHole => timed_out,
            Weather::Says(outcome) => (end, outcome),
        }
    }

    /// What a probe that came through finds at its end, and which part of the registry that is about.
    pub fn meets(&self, end: Ms, send: &Send) -> (Outcome, Layer) {
        let target = send.target.as_ref();
        let broken = target.is_some_and(|target| self.broken.contains(&target.path));
        let outcome = match self.weather(end) {
            Weather::NoBlobs if send.blob => {
                return (Outcome::Unavailable(Unavailable::ConnectionFailed), Layer::Blob);
            }
            Weather::NoTokens if send.fresh_token => {
                return (Outcome::Unavailable(Unavailable::ServerError), Layer::Token);
            }
            Weather::Fails(how) => Outcome::Unavailable(how),
            Weather::Says(outcome) => outcome,
            _ if broken => Outcome::Unavailable(Unavailable::ServerError),
            _ => {
                let held = |target: &catamaran_core::endpoint::Target| {
                    self.holds(&target.path, &target.digest.to_string()).is_some()
                };
                if target.is_none_or(held) {
                    Outcome::Reachable
                } else {
                    Outcome::CanaryNotFound
                }
            }
        };
        (outcome, layer_of(outcome))
    }

    /// What it holds under a tag or digest.
    pub fn holds(&self, path: &str, reference: &str) -> Option<Digest> {
        match reference.parse::<Digest>() {
            Ok(digest) => self
                .manifests
                .contains(&(path.to_owned(), digest.clone()))
                .then_some(digest),
            Err(_) => self.tags.get(path)?.get(reference).cloned(),
        }
    }

    /// A clean-up takes a layer of what a digest refers to, or other bytes are served under it from now on.
    pub fn spoil(&mut self, path: &str, digest: Digest, flaw: Flaw) {
        self.once_flawed.insert((path.to_owned(), digest.clone()));
        self.flawed.insert((path.to_owned(), digest), flaw);
    }

    /// Whether a digest's content was flawed at some time.
    pub fn was_flawed(&self, path: &str, digest: &Digest) -> bool {
        self.once_flawed.contains(&(path.to_owned(), digest.clone()))
    }

    /// What is wrong with the content of a digest, as far as one looks.
    pub fn flaw_of(&self, path: &str, digest: &Digest, depth: Depth) -> Option<FlawedPart> {
        let flaw = *self.flawed.get(&(path.to_owned(), digest.clone()))?;
        let (part, digest) = match flaw {
            Flaw::Untrusted => (Part::Manifest, digest.clone()),
            Flaw::Broken => (Part::Layer, Digest::of(b"layer")),
        };
        (flaw == Flaw::Untrusted || depth == Depth::Content).then_some(FlawedPart {
            flaw,
            part,
            digest,
            platform: None,
        })
    }

    pub fn tags(&self, path: &str) -> BTreeMap<String, Digest> {
        self.tags.get(path).cloned().unwrap_or_default()
    }

    pub fn push(&mut self, now: Ms, path: &str, tag: &str, digest: Digest) {
        self.manifests.insert((path.to_owned(), digest.clone()));
        self.note(now, path, &digest.to_string(), Some(digest.clone()));
        self.note(now, path, tag, Some(digest.clone()));
        self.tags
            .entry(path.to_owned())
            .or_default()
            .insert(tag.to_owned(), digest);
    }

    /// Deletes a tag, and its manifest unless another tag names it.
    pub fn delete(&mut self, now: Ms, path: &str, tag: &str) {
        let Some(tags) = self.tags.get_mut(path) else { return };
        let Some(digest) = tags.remove(tag) else { return };
        let named = tags.values().any(|other| *other == digest);
        self.note(now, path, tag, None);
        if !named {
            self.manifests.remove(&(path.to_owned(), digest.clone()));
            self.note(now, path, &digest.to_string(), None);
        }
    }

    fn note(&mut self, at: Ms, path: &str, reference: &str, digest: Option<Digest>) {
        self.log.push(Change {
            at,
            path: path.to_owned(),
            reference: reference.to_owned(),
            digest,
        });
    }

    /// Everything that it held under a tag or digest at some time since `from`.
    pub fn held_since(&self, from: Ms, path: &str, reference: &str) -> Vec<Option<Digest>> {
        let mut held = vec![None];
        for change in &self.log {
            if change.path == path && change.reference == reference {
                if change.at < from {
                    held.clear();
                }
                held.push(change.digest.clone());
            }
        }
        held
    }
}
