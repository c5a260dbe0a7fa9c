//! The controller: observe, decide, report, apply.
//!
//! Every replica probes both registries of every mirror and keeps a [`routes feed`](feed) for its webhook; only the
//! holder of the lease scans tags, writes status and rescues pods. Decisions are made in `catamaran-core`; this crate
//! gathers what they need and carries out what they say.
//!
//! Reading order: [`reconcile`] is the table of contents, with one file per step: [`assess`] (gather and decide), [`report`]
//! (pure: what to tell, [`events`] among it), [`apply`] (the only writes to a mirror). [`memory`] is what a process knows of each
//! mirror. [`workers`] fill it in the background, kept by [`crews`]: [`prober`], [`scanner`] and [`verifier`]; [`readings`] lets
//! mirrors of the same repositories share what they read, [`connections`] turns Secrets into registry clients, [`in_use`] says
//! which images pods use. [`pods`] watches pods that wait and [`rescue`] patches them; [`repair`] copies tags that one side lacks;
//! [`pull_secrets`] mints credentials for pods; [`pull_through`] looks after a side that is a cache of the other. [`feed`] builds
//! the webhook's snapshot. [`notifications`] takes a registry's word that a tag has moved as a reason to look.

pub mod apply;
pub mod assess;
pub mod clock;
pub mod connections;
pub mod contact;
pub mod context;
pub mod crews;
// Its parts are in tests/ and see what is private, which an integration test could not.
#[cfg(test)]
#[path = "../tests/disclosure/mod.rs"]
mod disclosure;
pub mod events;
pub mod evidence_store;
pub mod feed;
pub mod in_use;
pub mod memory;
pub mod metrics;
pub mod notifications;
pub mod pods;
pub mod prober;
pub mod pull_secrets;
pub mod pull_through;
pub mod readings;
pub mod reconcile;
pub mod repair;
pub mod report;
pub mod rescue;
pub mod scanner;
#[cfg(test)]
#[path = "../tests/testbed/mod.rs"]
mod testbed;
pub mod verifier;
pub mod workers;
