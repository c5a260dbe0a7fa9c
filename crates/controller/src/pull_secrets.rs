//! Mints pull secrets: short-lived registry tokens as Secrets, in the namespaces whose pods pull from the registry.
//!
//! Only the leader does. Only namespaces and names that the administrator listed are ever read or written, so that the
//! rights to do so can be limited to exactly those; Secrets are got by name, never listed. A Secret that this operator did
//! not make is left alone. A mirror owns its Secrets, so they go with it even when no operator is there.
//!
//! Reading order: [`wanted`] is a Secret that should be; [`plan`] says which should be and what to do about those that are;
//! `object` is what one looks like; [`run`] does it, round by round.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use catamaran_core::policy::MirrorId;
use catamaran_core::routing::RouteTable;
use catamaran_core::side::Side;
use catamaran_registry::PullCredential;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{DeleteParams, PostParams, Preconditions};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::context::Context;
use crate::events::CONTROLLER;
use crate::publish::Snapshot;

mod complaints;
mod object;
pub mod plan;
pub mod wanted;

use complaints::{Complaint, Complaints};
pub use plan::Settings;
use plan::{Existing, Step};
use wanted::{Place, Wanted};

/// Between two rounds when nothing changes.
const ROUND: Duration = Duration::from_mins(1);
/// How long changes are gathered before the next round.
const GATHER: Duration = Duration::from_secs(2);
/// Before a side that could not mint is asked again.
const RETRY: Duration = Duration::from_secs(30);

/// Keeps the Secrets until `shutdown`.
pub async fn run(
    context: Arc<Context>,
    settings: Settings,
    mut seen: watch::Receiver<Snapshot>,
    shutdown: CancellationToken,
) {
    let mut leadership = context.leadership.clone();
    let mut keeper = Keeper {
        context,
        settings,
        failed: HashMap::new(),
        complaints: Complaints::default(),
        last: None,
    };
    loop {
        tokio::select! {
            () = catamaran_lease::gained(&mut leadership) => {}
            () = shutdown.cancelled() => return,
        }
        let view = seen.borrow_and_update().clone();
        if view.complete {
            keeper.round(&view).await;
        }
        tokio::select! {
            changed = seen.changed() => {
                if changed.is_err() {
                    return;
                }
                tokio::time::sleep(GATHER).await;
            }
            // Counted from the last round, whatever changed since that was no reason for one.
            () = tokio::time::sleep_until(keeper.next_round()) => {}
            () = shutdown.cancelled() => return,
        }
    }
}

type Minted = Result<PullCredential, String>;

struct Keeper {
    context: Arc<Context>,
    settings: Settings,
    /// Sides that could not mint, and why: they are not asked at every change.
    failed: HashMap<(MirrorId, Side), (Instant, String)>,
    complaints: Complaints,
    /// What was wanted in the last round, and when that was.
    last: Option<(Instant, BTreeMap<Place, Wanted>)>,
}

impl Keeper {
    fn next_round(&self) -> Instant {
        let begun = self.last.as_ref().map_or_else(Instant::now, |(at, _)| *at);
        begun + ROUND
    }

    async fn round(&mut self, view: &Snapshot) {
        let (wanted, mut told) = plan::wanted(&self.settings, &view.table);
        // Most changes of the view are of evidence: they are no reason to read Secrets.
        let fresh = |(at, before): &(Instant, BTreeMap<Place, Wanted>)| at.elapsed() < ROUND && *before == wanted;
        if self.last.as_ref().is_some_and(fresh) {
            return;
        }
        self.last = Some((Instant::now(), wanted.clone()));
        let mut existing = BTreeMap::new();
        for place in self.settings.places(&view.table) {
            match self.look(&place).await {
                Ok(found) => {
                    existing.insert(place, found);
                }
                Err(error) => {
                    tracing::warn!(%place, %error, "failed to read a pull secret");
                    if let Some(wanted) = wanted.get(&place) {
                        told.insert(Complaint::unreadable(wanted, &error));
                    }
                }
            }
        }
        let mirrors: BTreeSet<&str> = view.mirrors.keys().map(String::as_str).collect();
        let now = self.context.clock.now();
        let mut minted = HashMap::new();
        for step in plan::plan(&wanted, &existing, &view.table, &mirrors, now) {
            // Asked again before each write: a round may outlast the lease.
            if !self.context.leads() {
                return;
            }
            match step {
                Step::Write(wanted) => {
                    let result = self.write(&view.table, wanted, &existing, &mut minted).await;
                    told.extend(result.err().map(|why| Complaint::not_minted(wanted, &why)));
                }
                Step::Remove(place) => self.remove(place, &existing).await,
                Step::Foreign(wanted) => {
                    told.insert(Complaint::foreign(wanted));
                }
            }
        }
        self.complaints.tell(&self.context, told).await;
    }

    fn secrets(&self, place: &Place) -> Api<Secret> {
        Api::namespaced(self.context.client.clone(), &place.namespace)
    }

    async fn look(&self, place: &Place) -> Result<Existing, kube::Error> {
        let found = catamaran_secrets::get_opt(&self.secrets(place), &place.name).await?;
        Ok(found.map_or(Existing::Absent, |secret| object::read(&secret)))
    }

    /// Writes one Secret, with one credential for all Secrets of a side in a round.
    async fn write(
        &mut self,
        table: &RouteTable,
        wanted: &Wanted,
        existing: &BTreeMap<Place, Existing>,
        minted: &mut HashMap<(MirrorId, Side), Minted>,
    ) -> Result<(), String> {
        let key = (wanted.mirror.clone(), wanted.side);
        if !minted.contains_key(&key) {
            let result = self.mint(table, &key).await;
            minted.insert(key.clone(), result);
        }
        let credential = match minted.get(&key) {
            Some(Ok(credential)) => credential,
            Some(Err(why)) => return Err(why.clone()),
            None => return Ok(()),
        };
        let ours = match existing.get(&wanted.place) {
            Some(Existing::Ours(ours)) => Some(ours),
            _ => None,
        };
        // The same token again, or one that ends no later: nothing is won by writing it.
        if ours.is_some_and(|ours| ours.serves(wanted) && ours.expires >= Some(credential.expires)) {
            return Ok(());
        }
        let api = self.secrets(&wanted.place);
        let mut secret = object::make(wanted, credential, self.context.clock.now());
        let params = PostParams {
            field_manager: Some(CONTROLLER.to_owned()),
            ..PostParams::default()
        };
        let written = match ours {
            None => catamaran_secrets::create(&api, &params, &secret).await,
            Some(ours) => {
                // With the version that was looked at: what has changed since is looked at again.
                secret.metadata.resource_version.clone_from(&ours.version);
                catamaran_secrets::replace(&api, &wanted.place.name, &params, &secret).await
            }
        };
        written.map_err(|error| error.to_string())?;
        tracing::info!(mirror = %wanted.mirror, place = %wanted.place, expires = %credential.expires, "minted a pull secret");
        Ok(())
    }

    async fn mint(&mut self, table: &RouteTable, key: &(MirrorId, Side)) -> Minted {
        if let Some((at, why)) = self.failed.get(key)
            && at.elapsed() < RETRY
        {
            return Err(why.clone());
        }
        let minted = self.ask(table, key).await;
        match &minted {
            Ok(_) => self.failed.remove(key),
            Err(why) => self.failed.insert(key.clone(), (Instant::now(), why.clone())),
        };
        minted
    }

    async fn ask(&self, table: &RouteTable, (mirror, side): &(MirrorId, Side)) -> Minted {
        let route = table.route(mirror).ok_or("the mirror has gone")?;
        let client = self.context.connections.client(&route.policy, *side).await;
        let client = client.map_err(|error| error.to_string())?;
        let credential = client.pull_credential().await.map_err(|error| error.to_string())?;
        if credential.expires <= self.context.clock.now() {
            return Err("the operator's own token has ended; renew its Secret".to_owned());
        }
        Ok(credential)
    }

    async fn remove(&self, place: &Place, existing: &BTreeMap<Place, Existing>) {
        let Some(Existing::Ours(ours)) = existing.get(place) else {
            return;
        };
        // Exactly the object that was looked at.
        let params = DeleteParams {
            preconditions: Some(Preconditions {
                uid: ours.uid.clone(),
                resource_version: ours.version.clone(),
            }),
            ..DeleteParams::default()
        };
        match self.secrets(place).delete(&place.name, &params).await {
            Ok(_) => tracing::info!(%place, "removed a pull secret that no mirror asks for"),
            Err(error) => tracing::warn!(%place, %error, "failed to remove a pull secret that no mirror asks for"),
        }
    }
}

#[cfg(test)]
mod tests;
