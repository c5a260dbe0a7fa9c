//! What stands between us and an image: [`probe`] in one outcome, as a kubelet would see it; [`ladder`] step by step, for people.

pub mod ladder;
pub(crate) mod probe;
