//! A real Kubernetes of one or two nodes with two registries under their real names, in namespaces of its own.
//!
//! etcd, kube-apiserver, controller-manager, scheduler, kubelet, kube-proxy, containerd with runc,
//! CNI and `CoreDNS`, and twice the distribution registry behind a front that ends TLS, demands
//! tokens, redirects blobs to a host of their own and shows faults on request. Everything is built
//! from pinned Go modules and runs as root on Linux without a container engine. No address of the
//! cluster is joined to the host, so several clusters run side by side and none can reach out.
//!
//! This crate knows nothing of Catamaran: it may not depend on another crate of the workspace.
//!
//! Reading order: [`cluster`] (what a test holds), `options` (how it is started), [`registry`], [`node`] and [`fault`] (the words),
//! `cache` and `state` (where things are), `components` (the builds), `network`, `processes` and `cgroups`
//! (what the kernel gives), `pki` and `config` (the files), `kubernetes` (the order in which it
//! comes up), `registries` (pushes and faults), `standin` (another program in a registry's place), [`images`],
//! [`store`] (the API server's content, kept and brought back), [`flux`] (its controllers, beside the cluster), [`git`]
//! (repositories for it), and [`apiserver`] (an API server alone).

pub mod apiserver;
mod cache;
mod cgroups;
pub mod cluster;
mod command;
pub mod components;
mod config;
pub mod fault;
pub mod flux;
pub mod git;
pub mod images;
mod kubernetes;
mod mounts;
mod network;
pub mod node;
mod options;
mod pki;
mod processes;
mod registries;
pub mod registry;
mod standin;
mod state;
pub mod store;

pub use apiserver::ApiServer;
pub use cluster::{Access, Cluster};
pub use fault::Fault;
pub use images::TestImage;
pub use node::{Node, Traffic};
pub use options::Options;
pub use registry::Registry;
pub use standin::Place;
pub use store::{Revisions, Snapshot};
