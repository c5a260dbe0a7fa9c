//! One repository of a pass: its references that are read by name, and its listing, piece by piece.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;

use super::Reading;
use crate::mirror::effect::{Effect, Expected, Resolve};
use crate::mirror::event::{Listed, ListedTag, Listing, ReferenceName, RequestId, Requests};
use crate::mirror::failback::is_digest;
use crate::mirror::parity::Observed;
use crate::policy::Repositories;
use crate::side::Sides;

/// References of one repository read by name at a time.
const AT_A_TIME: usize = 8;

/// A repository that is being read.
#[derive(Clone, Debug, Default)]
pub(super) struct RepositoryPass {
    /// The last name of the latest piece; the next one covers what comes after it.
    after: Option<String>,
    under_way: BTreeSet<RequestId>,
    /// References to be read by name.
    by_name: VecDeque<String>,
    /// Whether a further piece of the listing is to come.
    more: bool,
    /// Whether that piece was asked for.
    waits_for_piece: bool,
}

impl RepositoryPass {
    /// Listed repositories are listed, and the digests in use are read by name; of others all references in use are.
    pub(super) fn open(repository: &str, reading: &Reading<'_>) -> RepositoryPass {
        let listed = matches!(reading.policy.repositories, Repositories::Listed(_));
        let used = reading.in_use.references.get(repository);
        let by_name = used
            .into_iter()
            .flat_map(BTreeMap::keys)
            .filter(|reference| is_digest(reference) || !listed && reading.policy.selects_tag(repository, reference))
            .cloned()
            .collect();
        RepositoryPass {
            by_name,
            more: listed,
            waits_for_piece: listed,
            ..RepositoryPass::default()
        }
    }

    /// Whether its listing is still to be read.
    pub(super) fn is_listed(&self) -> bool {
        self.more
    }

    pub(super) fn is_over(&self) -> bool {
        !self.more && self.under_way.is_empty() && self.by_name.is_empty()
    }

    /// Begins to read references by name, as there is room.
    pub(super) fn read_names(&mut self, pass: u64, repository: &str, requests: &mut Requests) -> Vec<Effect> {
        let mut effects = Vec::new();
        while self.under_way.len() < AT_A_TIME {
            let Some(reference) = self.by_name.pop_front() else {
                break;
            };
            let resolve = Resolve {
                request: requests.next(),
                pass: Some(pass),
                name: ReferenceName {
                    repository: repository.to_owned(),
                    reference,
                },
                ask: Sides {
                    primary: Some(Expected::Present),
                    fallback: Some(Expected::Present),
                },
                seen: Sides::from_fn(|_| Observed::Unknown),
            };
            effects.push(self.read(resolve));
        }
        effects
    }

    /// Notes a read that begins.
    pub(super) fn read(&mut self, resolve: Resolve) -> Effect {
        self.under_way.insert(resolve.request);
        Effect::Resolve(resolve)
    }

    /// A read has ended. Whether it was one of this repository's.
    pub(super) fn ended(&mut self, request: RequestId) -> bool {
        self.under_way.remove(&request)
    }

    /// Whether the next piece of the listing is to be asked for now: when all of the latest one is read.
    pub(super) fn wants_piece(&mut self) -> bool {
        let wants = self.more && !self.waits_for_piece && self.under_way.is_empty() && self.by_name.is_empty();
        self.waits_for_piece |= wants;
        wants
    }

    /// Takes in a piece of the listing: its selected tags, and those that are known or in use and that neither side lists. Tags that
    /// are not selected any more are forgotten. None if it is not the piece that is waited for.
    pub(super) fn listed(&mut self, listed: &Listed, reading: &mut Reading<'_>) -> Option<Vec<ListedTag>> {
        if !self.waits_for_piece || listed.after != self.after {
            return None;
        }
        let repository = &listed.repository;
        let last = listed.tags.last().map(|tag| tag.name.as_str());
        let from = self.after.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let to = last.filter(|_| !listed.last).map_or(Bound::Unbounded, Bound::Included);
        let policy = reading.policy;
        let rule = policy.rule(repository);
        let selects = |name: &str| policy.selects(rule, name);
        reading.ledger.retain_range(repository, from, to, selects);
        let named: BTreeSet<&str> = listed.tags.iter().map(|tag| tag.name.as_str()).collect();
        let silent = Sides::from_fn(|side| match listed.failures[side] {
            Some(_) => Listing::Unread,
            None => Listing::Unlisted,
        });
        let used = reading.in_use.references.get(repository).into_iter();
        let used = used.flat_map(|used| used.range::<str, _>((from, to)).map(|(name, _)| name.as_str()));
        let used = used.filter(|name| !is_digest(name) && selects(name));
        let known: BTreeSet<&str> = reading.ledger.range(repository, from, to).chain(used).collect();
        let gone = known.difference(&named).map(|name| ListedTag {
            name: (*name).to_owned(),
            sides: silent.clone(),
        });
        let mut tags: Vec<ListedTag> = gone.collect();
        tags.extend(listed.tags.iter().filter(|tag| selects(&tag.name)).cloned());
        self.more = !listed.last;
        self.waits_for_piece = false;
        self.after = last.map(str::to_owned).or(self.after.take());
        Some(tags)
    }
}
