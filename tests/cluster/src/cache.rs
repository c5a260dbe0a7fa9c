//! What all clusters share: built programs and locks.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::Context as _;

/// The folder for builds: `CATAMARAN_CACHE`, or `catamaran` in the user's cache folder.
pub fn folder() -> PathBuf {
    let below = |variable: &str, rest: &str| {
        std::env::var_os(variable)
            .filter(|value| !value.is_empty())
            .map(|value| Path::new(&value).join(rest))
    };
    below("CATAMARAN_CACHE", "")
        .or_else(|| below("XDG_CACHE_HOME", "catamaran"))
        .or_else(|| below("HOME", ".cache/catamaran"))
        .unwrap_or_else(|| PathBuf::from("/var/tmp/catamaran-cache"))
        .join("cluster")
}

/// A built program.
pub fn binary(component: &str, program: &str) -> PathBuf {
    folder().join("bin").join(component).join(program)
}

/// Takes a lock that ends with the returned file, also when the process is killed.
pub fn lock(name: &str) -> anyhow::Result<File> {
    let path = folder().join(format!("{name}.lock"));
    fs::create_dir_all(folder())?;
    let file = File::create(&path).with_context(|| format!("failed to create \"{}\"", path.display()))?;
    file.lock()
        .with_context(|| format!("failed to lock \"{}\"", path.display()))?;
    Ok(file)
}
