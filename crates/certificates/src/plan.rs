//! What to do next about the certificates, decided from what is stored and published alone.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::ByteString;

use crate::issue::{self, BACKDATE, IssueError};
use crate::material::{
    CA_CERTIFICATE, CA_KEY, CaCertificate, Material, MaterialError, TLS_CERTIFICATE, TLS_KEY, VerifyError,
    encode_bundle, verify,
};
use crate::schedule::Schedule;

/// More CAs than this are never kept: a bundle must stay small, and two are enough for a rotation.
const MAX_CAS: usize = 8;

/// How long a leader leaves CAs published that it knows nothing of. While a release changes to another manager of its
/// certificate ([`Source`](crate::Source)), old and new replicas serve beside each other, and neither knows the other's Secret.
/// Where leaves live for less than an hour, it is a sixth of that.
pub(crate) const FOREIGN_KEPT: Duration = Duration::from_mins(10);

/// How long a replica that does not lead waits for its bundle to be published before it adds that itself: as long as it may take
/// until a leader is elected.
pub(crate) const JOIN_AFTER: Duration = Duration::from_secs(15);

/// Everything the decision needs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct State<'a> {
    /// The Secret; `None`: there is none.
    pub(crate) stored: Option<&'a Material>,
    /// What the webhook configuration trusts; `None`: there is no configuration, or it has no webhook of ours.
    pub(crate) published: Option<&'a [CaCertificate]>,
    /// Since when this process has seen what it sees published. Lost in a crash, which only makes it wait anew.
    pub(crate) seen: Seen,
    /// The DNS names of a leaf; the first is the one that the API server asks for.
    pub(crate) names: &'a [String],
    /// How long things last.
    pub(crate) schedule: &'a Schedule,
}

/// How what is published relates to what is stored, and since when this process has seen it so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// All of the stored bundle is published.
    pub(crate) whole: Option<Timestamp>,
    /// Something else is published in its place.
    pub(crate) absent: Option<Timestamp>,
    /// CAs are published that are not stored.
    pub(crate) foreign: Option<Timestamp>,
}

/// One write, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// There is no Secret: create one with a CA and a leaf. Any replica does that; the first one wins.
    Create,
    /// Put a new CA in front of the stored bundle.
    AddCa,
    /// Publish the [`bundle`].
    Publish,
    /// Store a new leaf of the newest CA.
    IssueLeaf,
    /// Remove the CAs that nothing needs any more from the stored bundle.
    DropCas,
    /// Nothing to do now.
    Wait,
}

/// Decides the next step at `now`.
pub(crate) fn plan(state: &State<'_>, now: Timestamp) -> Step {
    let Some(material) = state.stored else {
        return Step::Create;
    };
    // A CA near its end can only sign leaves that are due at once.
    let usable =
        |newest: &&CaCertificate| newest.is_valid(now) && left(newest.not_after, now) > state.schedule.leaf() * 3 / 4;
    let Some(newest) = material.signing_ca().filter(usable) else {
        return Step::AddCa;
    };
    if is_to_be_published(state, material, now) {
        return Step::Publish;
    }
    match leaf(state, material, newest, now) {
        Leaf::Aged | Leaf::Broken => Step::IssueLeaf,
        Leaf::Superseded if is_settled(state, now) => Step::IssueLeaf,
        leaf if is_due(left(newest.not_after, now), state.schedule.ca()) => match leaf {
            // A rotation begins with a leaf that has time to wait for its end.
            Leaf::Fine { left } if left < state.schedule.leaf() * 2 / 3 => Step::IssueLeaf,
            _ => Step::AddCa,
        },
        Leaf::Fine { .. } if needed(material, state.schedule, now).count() < material.cas.len() => Step::DropCas,
        Leaf::Fine { .. } | Leaf::Superseded => Step::Wait,
    }
}

/// Why a Secret of another manager can't be used. The last usable certificate is served.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum GivenError {
    /// It is not there.
    #[error("failed to find the secret: create it with \"tls.crt\", \"tls.key\" and \"ca.crt\"")]
    NoSecret,
    /// A part of it is absent or unreadable.
    #[error(transparent)]
    Material(#[from] MaterialError),
    /// API servers that trust its `ca.crt` would refuse its certificate, so that is not published.
    #[error("failed to use \"ca.crt\": {0}")]
    Untrusted(#[from] VerifyError),
}

/// Decides the next step at `now` when the administrator manages the Secret: its CAs are published as they stand, but
/// only while they vouch for the certificate beside them.
pub(crate) fn given(state: &State<'_>, now: Timestamp) -> Result<Step, GivenError> {
    let material = state.stored.ok_or(GivenError::NoSecret)?;
    let pair = material.pair.as_ref().map_err(MaterialError::clone)?;
    if material.cas.is_empty() {
        return Err(MaterialError::Missing { key: CA_CERTIFICATE }.into());
    }
    // The first is the name that the API server asks for; the rest of the certificate is up to its issuer.
    if let Some(name) = state.names.first() {
        verify(pair, &material.cas, name, now)?;
    }
    Ok(if is_to_be_published(state, material, now) {
        Step::Publish
    } else {
        Step::Wait
    })
}

/// A stored CA is not published, or a foreign one has been for too long.
fn is_to_be_published(state: &State<'_>, material: &Material, now: Timestamp) -> bool {
    let lacks = |published: &[CaCertificate]| !covers(published, &material.cas);
    state.published.is_some_and(lacks) || is_foreign_for_long(state, now)
}

/// Whether all of these CAs are published.
pub(crate) fn covers(published: &[CaCertificate], stored: &[CaCertificate]) -> bool {
    stored.iter().all(|ca| published.contains(ca))
}

/// Whether a replica that does not lead publishes its [`bundle`], which only adds to what is there: it can't be ready before,
/// and while it isn't, the old replica does not make way that leads and keeps another bundle published.
pub(crate) fn joins(state: &State<'_>, now: Timestamp) -> bool {
    let by_another = state.published.is_some_and(|published| !published.is_empty());
    by_another && has_passed(state.seen.absent, JOIN_AFTER, now)
}

/// What to publish: the stored CAs and, after them, those that others may still rely on.
pub(crate) fn bundle<'a>(state: &State<'a>, leads: bool, now: Timestamp) -> Vec<&'a CaCertificate> {
    let stored = state.stored.map_or(&[][..], |material| &material.cas);
    let mut bundle: Vec<&CaCertificate> = stored.iter().collect();
    if !leads || !is_foreign_for_long(state, now) {
        let foreign = state.published.unwrap_or_default().iter();
        bundle.extend(foreign.filter(|ca| ca.is_valid(now) && !stored.contains(ca)));
    }
    bundle.truncate(MAX_CAS.max(stored.len()));
    bundle
}

fn is_foreign_for_long(state: &State<'_>, now: Timestamp) -> bool {
    has_passed(state.seen.foreign, FOREIGN_KEPT.min(state.schedule.leaf() / 6), now)
}

fn has_passed(since: Option<Timestamp>, time: Duration, now: Timestamp) -> bool {
    since.is_some_and(|since| Duration::try_from(now.duration_since(since)).is_ok_and(|passed| passed >= time))
}

enum Leaf {
    /// So much of its life is left.
    Fine { left: Duration },
    /// A third of its life is left, or more than it may have. Its CA is relied on already, so its successor needs no wait.
    Aged,
    /// An older CA signed it: the newest may be relied on once every API server knows it.
    Superseded,
    /// Refused by every API server, or unreadable: there is nothing to lose.
    Broken,
}

fn leaf(state: &State<'_>, material: &Material, newest: &CaCertificate, now: Timestamp) -> Leaf {
    let Ok(pair) = &material.pair else { return Leaf::Broken };
    let verifies = |cas: &[CaCertificate]| state.names.iter().all(|name| verify(pair, cas, name, now).is_ok());
    if verifies(std::slice::from_ref(newest)) {
        let left = left(pair.not_after, now);
        if is_due(left, state.schedule.leaf()) {
            Leaf::Aged
        } else {
            Leaf::Fine { left }
        }
    } else if verifies(&material.cas) {
        Leaf::Superseded
    } else {
        Leaf::Broken
    }
}

/// A third of a life is left; or so much that it must have been issued when lifetimes were longer, and
/// the shorter ones are to apply at once. A leader whose clock was ahead has issued for somewhat longer, too.
fn is_due(left: Duration, life: Duration) -> bool {
    left <= life / 3 || left > life + BACKDATE
}

fn left(not_after: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(not_after.duration_since(now)).unwrap_or_default()
}

/// The stored bundle has been published for long enough that every API server knows it.
fn is_settled(state: &State<'_>, now: Timestamp) -> bool {
    has_passed(state.seen.whole, state.schedule.propagation(), now)
}

/// The CAs that a leaf which some replica may still serve could need. No leaf of an older CA was issued
/// after the newest one came, so they are all expired one leaf's life later.
fn needed<'a>(material: &'a Material, schedule: &Schedule, now: Timestamp) -> impl Iterator<Item = &'a CaCertificate> {
    let newest = material.cas.first();
    let last_leaf_expires = newest.and_then(|newest| {
        newest
            .not_before
            .checked_add(BACKDATE + schedule.leaf() + schedule.propagation())
            .ok()
    });
    let only_newest = last_leaf_expires.is_some_and(|expires| now >= expires);
    let keep = move |(index, ca): &(usize, &CaCertificate)| *index == 0 || (!only_newest && now < ca.not_after);
    material.cas.iter().enumerate().filter(keep).map(|(_, ca)| ca)
}

/// Carries out a step that writes the Secret: what its data should be, or `None` for the steps that don't write it.
/// Other keys of the Secret stay as they are.
pub(crate) fn data(
    step: Step,
    state: &State<'_>,
    now: Timestamp,
) -> Result<Option<BTreeMap<String, ByteString>>, IssueError> {
    let mut data = BTreeMap::new();
    let mut put = |key: &str, value: String| data.insert(key.to_owned(), ByteString(value.into_bytes()));
    match step {
        Step::Wait | Step::Publish => return Ok(None),
        Step::Create | Step::AddCa => {
            let (newest, key) = issue::ca(now, state.schedule.ca())?;
            if step == Step::Create {
                let (chain, leaf_key) = issue::leaf(&newest, &key, state.names, now, state.schedule.leaf())?;
                put(TLS_CERTIFICATE, chain);
                put(TLS_KEY, leaf_key);
            }
            put(
                CA_CERTIFICATE,
                encode_bundle(std::iter::once(&newest).chain(trusted(state, now))),
            );
            put(CA_KEY, key);
        }
        Step::IssueLeaf => {
            let material = state.stored.ok_or(IssueError::NoCa)?;
            let newest = material.signing_ca().ok_or(IssueError::NoCa)?;
            let key = material.ca_key.as_deref().ok_or(IssueError::NoCa)?;
            let (chain, leaf_key) = issue::leaf(newest, key, state.names, now, state.schedule.leaf())?;
            put(TLS_CERTIFICATE, chain);
            put(TLS_KEY, leaf_key);
        }
        Step::DropCas => {
            let material = state.stored.ok_or(IssueError::NoCa)?;
            put(CA_CERTIFICATE, encode_bundle(needed(material, state.schedule, now)));
        }
    }
    Ok(Some(data))
}

/// What API servers trust now and must go on trusting beside a new CA: the stored bundle and, because the Secret may
/// have been deleted or damaged while replicas still serve the old leaf, the published one.
fn trusted<'a>(state: &State<'a>, now: Timestamp) -> impl Iterator<Item = &'a CaCertificate> {
    let stored = state.stored.map_or(&[][..], |material| &material.cas);
    let mut kept: Vec<&CaCertificate> = Vec::new();
    for ca in stored.iter().chain(state.published.unwrap_or_default()) {
        if ca.is_valid(now) && !kept.contains(&ca) {
            kept.push(ca);
        }
    }
    kept.truncate(MAX_CAS - 1);
    kept.into_iter()
}

#[cfg(test)]
mod tests;
