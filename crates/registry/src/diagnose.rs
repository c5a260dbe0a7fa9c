//! Whether an image can be pulled: [`probe`] in one outcome, as a kubelet would see it; [`steps`] step by step, for people.

pub(crate) mod probe;
pub mod steps;
