//! Every decision that Catamaran takes, as pure functions and one pure machine per mirror, over plain data.
//!
//! This crate does no I/O, reads no clock and knows neither Kubernetes nor HTTP: what it needs is handed to it, `now`
//! included, and what it decides is returned as data with a reason and a message. So a test replays months of outages
//! in a second.
//!
//! Modules in reading order, each of which uses only those before it: [`side`], [`digest`], [`mod@reference`], [`tags`] and
//! [`selector`] are the terms; [`policy`] is what a user asked for, parsed; [`endpoint`] is what probes say of a registry;
//! [`pod`] is what of a pod decides about its images;
//! [`routing`] says where an image reference is sent, by the evidence of what each side holds; [`rescue`] plans what is done
//! for a pod that waits for an image; [`mirror`] owns everything that is known of one mirror and decides. [`reviews`] says whether the
//! webhook is asked at all.

pub mod digest;
pub mod endpoint;
pub mod mirror;
pub mod pod;
pub mod policy;
pub mod reference;
pub mod rescue;
pub mod reviews;
pub mod routing;
pub mod selector;
pub mod side;
pub mod tags;
