//! The `RegistryMirror` custom resource: its types, its conditions, and how a spec becomes a policy.
//!
//! This crate knows the shape of the resource and nothing of clients, clocks or registries. The controller and the command
//! line read a mirror through [`policy::policy`]; none of them looks at a spec itself.
//!
//! Reading order: [`mirror`] is what a user writes and [`status`] what the operator reports; [`conditions`] holds the words
//! of that report; [`annotations`] are the labels and annotations on pods, Secrets and the `ConfigMap`s that hold evidence;
//! [`policy`] parses a spec; [`crd`] is the definition that is installed.

pub mod annotations;
pub mod conditions;
pub mod crd;
mod duration;
pub mod mirror;
pub mod policy;
mod rules;
mod settings;
pub mod status;
mod words;
