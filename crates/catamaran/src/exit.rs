//! The exit codes: docs/reference/command-line.md is made of these words.

/// Defines the codes, and lists them with their documentation.
macro_rules! codes {
    ($($(#[doc = $doc:literal])+ $name:ident = $code:literal;)+) => {
        $($(#[doc = $doc])+ pub const $name: u8 = $code;)+

        /// Every code with what it means.
        #[cfg(test)]
        pub const ALL: &[(u8, &str)] = &[$(($code, concat!($($doc),+))),+];
    };
}

codes! {
    /// All is well: `diff` found every tag the same, `check` found every step to pass, `simulate` that all would start, `run` was told to stop and did.
    WELL = 0;
    /// Not as it should be: `diff` found tags that differ, `check` a step that failed, `simulate` a workload that would not start; `reconcile` a condition that is not True; or the operator has not followed `failover`, `failback` or `reconcile` in time.
    NOT_WELL = 1;
    /// Could not tell: a mistake in the arguments, no answer from a registry or an API server, a Secret that may not be read.
    /// `run` could not start or go on.
    COULD_NOT_TELL = 2;
}
