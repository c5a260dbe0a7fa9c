//! One bounded request: the way to a host, what is asked, what comes back, and what went wrong.
//!
//! Reading order: [`failure`] names everything that can go wrong, [`error`] why there is no client at all, [`limits`] what a request may
//! cost. `address`, `dns` and `tls` guard the way to a host; `transport` makes of one `ask` one bounded `reply`; `answer` and `broken`
//! say what its failure means, `wait` how long the registry asks us to wait, and `mask` keeps what was asked with out of messages. `json`
//! and `path` are for what other servers write.

pub(crate) mod address;
pub(crate) mod answer;
pub(crate) mod ask;
pub(crate) mod broken;
pub(crate) mod dns;
pub(crate) mod error;
pub(crate) mod failure;
pub(crate) mod json;
pub(crate) mod limits;
pub(crate) mod mask;
pub(crate) mod path;
pub(crate) mod reply;
pub(crate) mod secret;
pub(crate) mod tls;
pub(crate) mod transport;
pub(crate) mod wait;
