//! What the listings of both sides say of a tag, and what has to be read beyond that.

use super::Reading;
use crate::mirror::effect::{Expected, Resolve};
use crate::mirror::event::{ListedTag, Listing, ReferenceName};
use crate::mirror::parity::Observed;
use crate::policy::MirrorPolicy;
use crate::side::{Side, Sides};

/// Whether a side may have tags that it does not list. What a pull-through
/// cache lacks is not looked for: asking could fill it.
pub(super) fn hides(policy: &MirrorPolicy, side: Side) -> bool {
    let side = &policy.sides[side];
    side.provider.facts().withholds && !side.pull_through_cache
}

/// Records what the listings say of a tag; what has to be read beyond that, if anything.
pub(super) fn compare(
    pass: u64,
    repository: &str,
    tag: &ListedTag,
    asked: Sides<bool>,
    reading: &mut Reading<'_>,
) -> Option<Resolve> {
    let now = reading.now;
    if let Some(seen) = by_listing(repository, tag, reading) {
        reading.ledger.record(repository, &tag.name, seen, now, &reading.rules);
        return None;
    }
    let mut ask = Sides::default();
    let mut seen = Sides::from_fn(|_| Observed::Unknown);
    for side in Side::ALL {
        match &tag.sides[side] {
            Listing::Unlisted if asked[side] => ask[side] = Some(Expected::Absent),
            Listing::Unlisted => seen[side] = Observed::Absent,
            Listing::Named(Some(digest)) => seen[side] = Observed::Present(digest.clone()),
            Listing::Named(None) => ask[side] = Some(Expected::Present),
            // What pods would get from a locked tag is not known, and no copy could change that.
            Listing::Withheld | Listing::Unread => {}
        }
    }
    if ask.primary.is_none() && ask.fallback.is_none() {
        reading.ledger.record(repository, &tag.name, seen, now, &reading.rules);
        return None;
    }
    Some(Resolve {
        request: reading.requests.next(),
        pass: Some(pass),
        name: ReferenceName {
            repository: repository.to_owned(),
            reference: tag.name.clone(),
        },
        ask,
        seen,
    })
}

/// What the listings alone say of a tag, where that is enough for now.
fn by_listing(repository: &str, tag: &ListedTag, reading: &Reading<'_>) -> Option<Sides<Observed>> {
    if reading.ledger.due(repository, &tag.name, reading.now, &reading.rules) {
        return None;
    }
    let known = reading.ledger.digest(repository, &tag.name)?;
    let mut seen = Sides::from_fn(|_| Observed::Unknown);
    for side in Side::ALL {
        match &tag.sides[side] {
            Listing::Named(Some(digest)) if *digest == known => seen[side] = Observed::Present(digest.clone()),
            Listing::Named(None) | Listing::Unread => {}
            Listing::Named(Some(_)) | Listing::Unlisted | Listing::Withheld => return None,
        }
    }
    Some(seen)
}
