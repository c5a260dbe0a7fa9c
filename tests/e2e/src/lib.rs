//! Catamaran as its users meet it: an image, a chart, `kubectl`, on a real cluster whose registries can fail.
//!
//! Shared by the demo (`src/demo.rs`) and the end-to-end tests (`tests/`). It may use the test cluster and nothing else of
//! this workspace: the operator gets here only as its static binary and its chart, never as a library, and knows nothing of
//! being tested. `tests/copying.rs` and `tests/pulling.rs` stand apart: they need no cluster, only the registry and the
//! containerd that are built for it, and hold the registry client against them.
//!
//! Reading order: [`ground`] (a cluster with the operator in it), [`operator`] (image, chart, replicas), [`installation`]
//! (the release as Helm keeps it), [`manifests`] (what a user applies), [`watch`] (what is seen, and when), [`view`] (how objects
//! are read), [`interrupt`] (Ctrl-C), and then [`chart`] (the chart alone), [`case`], [`runner`] and [`busy`] for the tests,
//! [`audit`] (what the operator asked the API server for), [`replica`] (its replicas one by one), [`evidence`] (what it has written
//! down), [`load`] (admissions without end, and many pods at once), [`attack`] (what a pod can do to ports), [`unserved`] (a node for pods that wait), [`timeline`] for the demo.

pub mod attack;
pub mod audit;
pub mod busy;
pub mod case;
pub mod chart;
pub mod evidence;
pub mod ground;
pub mod installation;
pub mod interrupt;
pub mod load;
pub mod manifests;
pub mod operator;
pub mod replica;
pub mod runner;
pub mod timeline;
pub mod unserved;
pub mod view;
pub mod watch;

pub use case::Case;
pub use ground::Ground;
