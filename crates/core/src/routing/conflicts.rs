//! Which mirrors claim what another mirror owns.

use std::collections::{BTreeMap, HashMap};

use super::index::{Claim, Index};
use super::{Conflict, Route};
use crate::selector::Labels;

/// One entry for each loser and winner, with the first name in alphabetical order.
pub(super) fn conflicts(index: &Index, routes: &[Route], namespaces: &BTreeMap<String, Labels>) -> Vec<Conflict> {
    let reach = Reach::new(routes, namespaces);
    let mut names = HashMap::<(usize, usize), String>::new();
    for (registry, host) in index.0.iter() {
        let listed = host
            .listed
            .iter()
            .map(|(path, claims)| (path, format!("{registry}/{path}"), claims));
        let prefixes = host.prefixes.iter().map(|(prefix, claims)| {
            let slash = if prefix.is_empty() { "" } else { "/" };
            (prefix, format!("{registry}/{prefix}{slash}*"), claims)
        });
        for (path, what, claims) in listed.chain(prefixes) {
            // Nothing is wider than the empty prefix; without this it would be its own parent.
            let wider = host
                .prefixes_of(path)
                .filter(|_| !path.is_empty())
                .flat_map(|(_, wider)| wider.all());
            for pair in losses(&claims.all(), wider, &reach) {
                let first = names.entry(pair).or_insert_with(|| what.clone());
                if what < *first {
                    first.clone_from(&what);
                }
            }
        }
    }
    let id = |position: usize| routes.get(position).map(|route| route.policy.id.clone());
    let conflict = |((loser, winner), what)| {
        Some(Conflict {
            loser: id(loser)?,
            winner: id(winner)?,
            what,
        })
    };
    let mut conflicts: Vec<_> = names.into_iter().filter_map(conflict).collect();
    conflicts.sort();
    conflicts
}

/// Each loser and the first that it loses to: a mirror that claims the name itself stands before those that claim a parent.
fn losses(claims: &[Claim], wider: impl Iterator<Item = Claim>, reach: &Reach) -> impl Iterator<Item = (usize, usize)> {
    // Of a thousand mirrors that share a repository, each for namespaces of its own, none is compared with all others.
    let mut taken = Taken::default();
    claims
        .iter()
        .copied()
        .chain(wider)
        .enumerate()
        .filter_map(move |(position, loser)| {
            let mut before = claims.iter().take(position);
            let may_lose = taken.meets(reach, loser.route);
            if position < claims.len() {
                taken.add(reach, loser.route);
            }
            let is_winner = |winner: &&Claim| winner.route != loser.route && reach.meet(winner.route, loser.route);
            let winner = may_lose.then(|| before.find(is_winner)).flatten()?;
            Some((loser.route, winner.route))
        })
}

/// The namespaces that those who claim a name so far select together.
#[derive(Default)]
struct Taken {
    bits: Vec<u64>,
    any: bool,
}

impl Taken {
    fn add(&mut self, reach: &Reach, route: usize) {
        let bits = reach.of(route);
        self.any = true;
        self.bits.resize(self.bits.len().max(bits.len()), 0);
        self.bits.iter_mut().zip(bits).for_each(|(taken, bits)| *taken |= bits);
    }

    fn meets(&self, reach: &Reach, route: usize) -> bool {
        match &reach.0 {
            None => self.any,
            Some(_) => meet(&self.bits, reach.of(route)),
        }
    }
}

/// Which namespaces each mirror selects, one bit for each.
struct Reach(Option<Vec<Vec<u64>>>);

impl Reach {
    /// While no namespace is known, every mirror meets every other.
    fn new(routes: &[Route], namespaces: &BTreeMap<String, Labels>) -> Reach {
        let namespaces: Vec<_> = namespaces.values().collect();
        let reach = |route: &Route| {
            let bit = |labels: &&Labels| u64::from(route.policy.namespaces.matches(labels));
            namespaces
                .chunks(64)
                .map(|chunk| chunk.iter().fold(0, |bits, labels| bits << 1 | bit(labels)))
                .collect()
        };
        Reach((!namespaces.is_empty()).then(|| routes.iter().map(reach).collect()))
    }

    /// The bits of a mirror; none while no namespace is known.
    fn of(&self, position: usize) -> &[u64] {
        let reach = self.0.as_ref().and_then(|reach| reach.get(position));
        reach.map_or(&[], Vec::as_slice)
    }

    fn meet(&self, a: usize, b: usize) -> bool {
        self.0.is_none() || meet(self.of(a), self.of(b))
    }
}

fn meet(a: &[u64], b: &[u64]) -> bool {
    a.iter().zip(b).any(|(a, b)| a & b != 0)
}
