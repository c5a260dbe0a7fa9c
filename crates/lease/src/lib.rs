//! Leader election on a `coordination.k8s.io` Lease, with the semantics of client-go's `leaderelection`.
//!
//! A foreign record is judged by **when this process saw it change**, on this process's monotonic clock; the times
//! written in the record are for people. A replica whose wall clock is wrong therefore neither takes the lease early
//! nor waits for ever. The holder counts its own time from before the request that renewed the lease and stops acting
//! [`Timing::renew_deadline`] later, which is before another process may take the lease ([`Timing::duration`]).
//!
//! Nothing here fences: the API server can't know who leads, so two leaders are unlikely, not impossible (a process that
//! is frozen between the check and the write). Every write of the leader must be harmless under two leaders: guarded by
//! `resourceVersion`, epochs that only grow.
//!
//! `election` is the pure state machine; [`run`] carries it out against the API server; [`Leadership`] is what the
//! rest of the process sees of it:
//!
//! ```no_run
//! # use catamaran_lease::LeaseSettings;
//! # async fn example(client: kube::Client, shutdown: tokio_util::sync::CancellationToken) {
//! let (publish, leadership) = catamaran_lease::channel();
//! let settings = LeaseSettings::new("catamaran-system", "catamaran", "catamaran-7d9c-x2x8q");
//! tokio::spawn(catamaran_lease::run(client, settings, publish, jiff::Timestamp::now, shutdown));
//! if leadership.borrow().is_leading_now() { /* write */ }
//! # }
//! ```

mod candidate;
mod election;
mod leadership;
mod settings;

pub use candidate::run;
pub use leadership::{Leadership, channel, gained, in_each_term, lost};
pub use settings::{LeaseSettings, Timing, TimingError};

#[cfg(test)]
mod tests;
