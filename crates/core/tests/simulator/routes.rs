//! Where the webhooks of replicas send images, and whether they may.

use std::collections::BTreeSet;
use std::sync::Arc;

use catamaran_core::digest::Digest;
use catamaran_core::mirror::failover::FlipReason;
use catamaran_core::mirror::{active_side, latest};
use catamaran_core::pod::PodFacts;
use catamaran_core::policy::{ActiveSide, MirrorPolicy};
use catamaran_core::reference::Reference;
use catamaran_core::routing::{ImageRoute, RewriteReason, Route, RouteTable};
use catamaran_core::side::Side;

use crate::clock::{MINUTE, Ms, SECOND};
use crate::facts::{Fact, key, mapping};
use crate::world::{Flipped, World};

/// How long a side may be left alone: longer than any period and time limit here.
const LONGEST_SILENCE: Ms = 15 * SECOND;

impl World {
    /// The routes of a replica's webhook as it sees the cluster.
    pub fn table(&mut self, replica: usize) -> Option<Arc<RouteTable>> {
        if let Some(table) = &self.replicas[replica].table {
            return Some(Arc::clone(table));
        }
        let one = &self.replicas[replica];
        let object = one.object.as_ref()?;
        let policy = one.policy()?;
        let standing = latest(object.status.standing.clone(), one.apart.as_ref()).unwrap_or_default();
        let route = Route {
            policy: Arc::clone(policy),
            active: active_side(policy, standing.active, standing.registry.as_deref()),
            epoch: standing.epoch,
            evidence: Arc::new(self.evidence_of(replica)),
            observed: Arc::new(object.status.observed.clone()),
            unavailable: object.status.unavailable(),
        };
        let table = Arc::new(RouteTable::new(vec![route], Arc::default(), Arc::default()));
        self.replicas[replica].table = Some(Arc::clone(&table));
        Some(table)
    }

    /// No replica ceases to probe: a side that is not asked for a while was asked to wait, or its answer was lost.
    pub fn check_probes(&mut self) {
        for replica in 0..self.replicas.len() {
            let one = &self.replicas[replica];
            let Some(policy) = one.policy().filter(|policy| !policy.suspended && !one.paused) else {
                self.replicas[replica].watched = self.now;
                continue;
            };
            for side in Side::ALL {
                if one.endpoints.host(side) != Some(policy.sides[side].registry.as_str()) {
                    let message = format!("replica {replica} does not watch the {side}");
                    return self.fail("I9", message);
                }
                let throttled = one.endpoints.is_throttled(side);
                let patience = if throttled { 6 * MINUTE } else { LONGEST_SILENCE };
                let lost = self.checks.patience > 0;
                let from = one.probed[side].max(one.watched).max(one.sides_changed[side]);
                if self.now - from > patience && !lost {
                    let message = format!("replica {replica} has not probed the {side} since {}", one.probed[side]);
                    return self.fail("I9", message);
                }
            }
        }
    }

    /// Where each replica's webhook would send each image now.
    pub fn check_routes(&mut self) {
        let images: BTreeSet<String> = self.workloads.values().map(|workload| workload.image.clone()).collect();
        for replica in 0..self.replicas.len() {
            if self.replicas[replica].paused {
                continue;
            }
            let Some(table) = self.table(replica) else { continue };
            let pod = table.pod(&PodFacts {
                namespace: "shop",
                ..PodFacts::default()
            });
            for image in &images {
                if let ImageRoute::Rewritten {
                    route,
                    image: sent,
                    reason,
                    ..
                } = pod.image(image, false)
                {
                    self.check_route(replica, &route.policy.clone(), image, &sent, reason);
                }
            }
        }
    }

    fn check_route(&mut self, replica: usize, policy: &MirrorPolicy, image: &str, sent: &str, reason: RewriteReason) {
        let (Ok(named), Ok(target)) = (Reference::parse(image), Reference::parse(sent)) else {
            return self.fail("I2", format!("{image} is sent to {sent}"));
        };
        let (Some(from), Some(to)) = (policy.locate(&named), policy.locate(&target)) else {
            return self.fail("I2", format!("{image} is sent to {sent}"));
        };
        let Some(name) = named.digest().or(named.effective_tag()) else {
            return;
        };
        let sent = Sent {
            policy,
            repository: from.repository.to_string(),
            name: name.to_owned(),
            from: from.side,
            to: to.side,
            reason,
            words: format!("{image} is sent to {sent} ({reason:?})"),
        };
        if !self.is_proven(&sent) {
            return self.fail("I2", format!("{}, which was never seen to hold it", sent.words));
        }
        if reason == RewriteReason::Unverified && self.is_made_worse(replica, &sent) {
            return self.fail(
                "I8",
                format!("{}, which has never served anything, and it works", sent.words),
            );
        }
        if let Some(known) = self.known_against(replica, &sent) {
            self.fail(
                "I5",
                format!("by replica {replica} {}, which is known to {known}", sent.words),
            );
        }
    }

    /// Whether it rests on knowledge of this mapping alone, and of sides that were read.
    fn is_proven(&self, sent: &Sent<'_>) -> bool {
        let (here, there) = (sent.place(sent.from), sent.place(sent.to));
        let (here, there) = ((here.0.as_str(), here.1.as_str()), (there.0.as_str(), there.1.as_str()));
        let name = sent.name.as_str();
        let lacked = self.told.of(here, name).any(Option::is_none);
        let present = self.told.present(there, name);
        match sent.reason {
            RewriteReason::Unverified => true,
            RewriteReason::OnlyOnOther => {
                let was_flawed = |digest: &Digest| self.registry(here.0).was_flawed(here.1, digest);
                (lacked || self.told.of(here, name).flatten().any(was_flawed)) && present
            }
            RewriteReason::Mismatched => self.told.present(here, name) && present,
            RewriteReason::Rewritten if sent.is_by_digest() => present,
            RewriteReason::Rewritten => {
                let same =
                    |digest: &Option<Digest>| digest.is_some() && self.told.of(here, name).any(|here| here == digest);
                lacked && present || self.told.of(there, name).any(same)
            }
        }
    }

    /// Whether an image that works is sent where it does not, to a registry that has never served anything of this mapping.
    fn is_made_worse(&self, replica: usize, sent: &Sent<'_>) -> bool {
        let works = |side: Side| {
            let (host, path) = sent.place(side);
            let registry = self.registry(&host);
            registry.serves(self.now, &path) && registry.holds(&path, &sent.name).is_some()
        };
        let served = (mapping(sent.policy, &sent.repository), sent.place(sent.to).0);
        // A flip since this mapping is in force has its own conditions, and a person may insist, or have insisted.
        let generation = self.replicas[replica]
            .valid
            .as_ref()
            .map_or(0, |valid| valid.generation);
        let edits = self
            .checks
            .edits
            .iter()
            .rev()
            .filter(|(edited, ..)| *edited <= generation);
        let unbroken = edits.take_while(|(.., mappings)| mappings.contains(&served.0));
        let edited = unbroken.last().map_or(0, |(_, at, _)| *at);
        let allowed = |flip: &Flipped| flip.at >= edited || flip.reason == FlipReason::Requested;
        let flipped = self.flips.last().is_some_and(allowed);
        let pinned = sent.policy.failover.active == ActiveSide::Fixed(sent.to);
        works(sent.from) && !works(sent.to) && !flipped && !pinned && !self.told.served.contains(&served)
    }

    /// What the evidence of a replica's webhook must say against it.
    fn known_against(&self, replica: usize, sent: &Sent<'_>) -> Option<&'static str> {
        let one = &self.replicas[replica];
        let facts = if one.local.is_some() {
            &one.local_facts
        } else {
            &one.seen.facts
        };
        let key = key(sent.policy, &sent.repository, &sent.name);
        match (facts.get(key, sent.from), facts.get(key, sent.to)) {
            (Some(Fact::Lacks), Some(Fact::Lacks)) => None,
            (_, Some(Fact::Lacks)) => Some("lack it"),
            (Some(Fact::Has(one)), Some(Fact::Has(other))) => {
                let differs = one != other && !sent.is_by_digest() && sent.reason != RewriteReason::Mismatched;
                differs.then_some("hold other content")
            }
            _ => None,
        }
    }
}

/// An image that is sent from the side that it names to the other.
struct Sent<'p> {
    policy: &'p MirrorPolicy,
    repository: String,
    /// Its digest, or its tag where it has none.
    name: String,
    from: Side,
    to: Side,
    reason: RewriteReason,
    words: String,
}

impl Sent<'_> {
    /// The host and path of its repository on a side.
    fn place(&self, side: Side) -> (String, String) {
        let path = self.policy.path(side, &self.repository).into_owned();
        (self.policy.sides[side].registry.clone(), path)
    }

    fn is_by_digest(&self) -> bool {
        self.name.contains(':')
    }
}
