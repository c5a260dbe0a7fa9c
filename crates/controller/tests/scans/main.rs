//! Passes over emulated registries: what they find, and what they cost.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod azure;
mod cost;
