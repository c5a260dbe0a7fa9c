//! A cgroup of the cluster's own in every hierarchy, for the kubelet to build its tree in.

use std::fs;
use std::path::{Path, PathBuf};

use crate::command::until;

const ROOT: &str = "/sys/fs/cgroup";

/// The cluster's folder in each hierarchy: one on cgroup v2, one per controller on v1.
fn folders(name: &str) -> anyhow::Result<Vec<PathBuf>> {
    if Path::new(ROOT).join("cgroup.controllers").exists() {
        return Ok(vec![Path::new(ROOT).join(name)]);
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(ROOT)? {
        let entry = entry?;
        // Symlinks are further names of joint controllers. v2 may stand beside v1 ("unified"): runc uses both.
        if entry.file_type()?.is_dir() {
            found.push(entry.path().join(name));
        }
    }
    Ok(found)
}

pub fn create(name: &str) -> anyhow::Result<()> {
    for folder in folders(name)? {
        fs::create_dir_all(folder)?;
    }
    Ok(())
}

/// Removes the folders and all below. Their processes are dead, but may still be on their way out.
pub fn remove(name: &str) -> anyhow::Result<()> {
    for folder in folders(name)? {
        until("the end of the cluster's cgroups", || remove_tree(&folder))?;
    }
    Ok(())
}

/// A cgroup goes by rmdir, deepest first; the files in it are the kernel's.
fn remove_tree(folder: &Path) -> anyhow::Result<()> {
    if !folder.exists() {
        return Ok(());
    }
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    Ok(fs::remove_dir(folder)?)
}
