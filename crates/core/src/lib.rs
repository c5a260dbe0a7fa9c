//! Every decision that Catamaran takes, as pure functions over plain data.
//!
//! This crate does no I/O, reads no clock and knows neither Kubernetes nor HTTP: what it needs is handed to it, `now`
//! included, and what it decides is returned as data with a reason and a message. That is what lets months of outages
//! be replayed in a test in a second.
//!
//! Reading order: [`side`], [`digest`] and [`mod@reference`] are the words; [`policy`] is what a user asked for, parsed;
//! [`mapping`] and [`tags`] say which repository and tag is which on either side; [`parity`] holds what was verified and
//! [`evidence`] is its compact form for the webhook; [`health`] and [`failover`] decide which side is active;
//! [`routes`] rewrites one image reference; [`rescue`] plans what to do for a pod that waits for an image; [`repair`] says
//! which missing tags are copied, [`pull_through`] which a cache is asked for ahead of pods.

pub mod digest;
pub mod evidence;
pub mod failover;
pub mod health;
pub mod mapping;
pub mod parity;
pub mod policy;
pub mod pull_through;
pub mod reference;
pub mod repair;
pub mod rescue;
pub mod routes;
pub mod selector;
pub mod side;
pub mod tags;
