//! One accept loop for every port: HTTP/1.1, with or without TLS, and a bound on everything that a peer can hold.
//!
//! The loop never waits for a place: when there is none, a connection that has kept this process waiting loses its own, and it is
//! one of the address that has the most. So a peer that floods a port competes with itself, and everybody else still gets in.
//!
//! Reading order: [`Limits`]; [`serve`] is the loop; `places` decides who has a place; `connection` is one connection, whose
//! phases `progress` keeps and `stream` notes; `rate` is how often an address may connect; [`Counts`] is what is counted.

mod connection;
mod counts;
mod limits;
mod places;
mod progress;
mod rate;
mod serve;
mod stream;

pub use counts::{Closed, Counts};
pub use limits::{KeepAlive, Limits, Rate, Shutdown};
pub use places::PeerAddress;
pub use serve::{Settings, bind, serve};
