//! Everything that is known of one mirror, and every decision about it.
//!
//! [`Mirror`] owns it all: [`Mirror::handle`] takes in an [`Event`] and returns [`Effect`]s, [`Mirror::view`] is what the status
//! says. Each decision has a file of its own: which side is active ([`failover`]), whether going back is safe ([`failback`]), what was
//! verified of each tag ([`parity`]), which manifest is probed (`canary`), which tags are copied ([`repair`]) and which a cache is asked
//! for ([`prewarm`]), what proof pods pull ([`proof`]).

mod cache;
mod canary;
mod contents;
mod copies;
mod effect;
mod event;
pub mod failback;
pub mod failover;
#[cfg(test)]
#[path = "../tests/fixtures/mirrors.rs"]
mod fixtures;
mod flips;
pub mod in_use;
mod machine;
mod on_demand;
pub mod parity;
mod pass;
mod pause;
pub mod prewarm;
mod probes;
pub mod proof;
pub mod pulls;
mod reconcile;
pub mod repair;
mod verification;
mod view;

pub use contents::{Depth, Finding, FlawedContent, FlawedPart, Inspect, Inspected, Part};
pub use effect::{Announcement, Effect, Expected, Resolve};
pub use event::{
    CacheRule, CopyDone, CopyEnded, CopyFailure, Event, LARGEST_PIECE, Listed, ListedTag, Listing, PrewarmOutcome,
    Probed, ProofEnded, ReadFailure, ReferenceName, RequestId, Resolved, StatusRead, WriteProblem,
};
pub use flips::{active_side, latest};
pub use machine::Mirror;
pub use pass::PassResult;
pub use view::{MAX_DIVERGENCES, MAX_FLAWED, Observation, Subject, View};
