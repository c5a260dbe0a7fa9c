//! Runs the built binary.

use std::path::Path;
use std::process::{Command, Output};

/// What a run left behind.
#[derive(Debug)]
pub struct Ran {
    /// The exit code.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

/// Runs the binary with an empty environment but for `HOME`.
pub fn catamaran(home: &Path, arguments: &[&str]) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_catamaran"));
    let Output { status, stdout, stderr } = command
        .env_clear()
        .env("HOME", home)
        .args(arguments)
        .output()
        .expect("the binary was built");
    Ran {
        code: status.code().expect("no signal ends it"),
        out: String::from_utf8(stdout).expect("output is UTF-8"),
        err: String::from_utf8(stderr).expect("errors are UTF-8"),
    }
}
