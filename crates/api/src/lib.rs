//! The `RegistryMirror` custom resource: its types, its conditions, and how a spec becomes a policy.
//!
//! This crate knows the shape of the resource and nothing of clients, clocks or registries. The controller, the webhook
//! and the command line all read a mirror through [`policy::policy`]; none of them looks at a spec itself.
//!
//! Reading order: [`mirror`] is what a user writes and [`status`] what the operator answers; [`conditions`] holds the words
//! of that answer and [`kstatus`] how others judge it; [`annotations`] are the marks on pods and on the ConfigMap that
//! holds evidence; [`policy`] parses a spec; [`crd`] is the definition that is installed.

pub mod annotations;
pub mod conditions;
pub mod crd;
mod duration;
pub mod kstatus;
pub mod mirror;
pub mod policy;
mod rules;
mod settings;
pub mod status;
mod words;
