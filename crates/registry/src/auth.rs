//! What we authenticate with, and what we get for it: nothing here knows a provider.
//!
//! [`credentials`] is what a side was given, [`keyring`] what it was given for which paths, [`identity`] what stands in its place where a cloud vouches for us, and `services` how that
//! cloud is reached; [`kind`] says what a credential is by its shape, [`pull`] is what pods get. `challenge` and `scheme` say what a
//! registry wants to see, `scope` what of that is asked for; `token` keeps what it gives, `renewed` whatever else expires; `jwt` reads how soon.

pub(crate) mod challenge;
pub(crate) mod credentials;
pub mod identity;
pub(crate) mod jwt;
pub(crate) mod keyring;
pub(crate) mod kind;
pub(crate) mod pull;
pub(crate) mod renewed;
pub(crate) mod scheme;
mod scope;
pub(crate) mod services;
pub(crate) mod token;
