//! Where a cluster keeps what.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};

use crate::registry::Registry;

/// The folder of one cluster.
#[derive(Debug, Clone)]
pub struct State {
    name: String,
    folder: PathBuf,
}

impl State {
    /// `name` becomes part of the names of network namespaces, links and cgroups.
    pub fn new(name: &str) -> anyhow::Result<Self> {
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        ensure!(
            (1..=32).contains(&name.len()) && name.chars().all(allowed),
            "failed to take \"{name}\" as a name: 1 to 32 of a-z, 0-9 and -"
        );
        // Not below /run, /var/lib or /var/log: the cluster hides the host's behind its own.
        Ok(Self {
            name: name.to_owned(),
            folder: PathBuf::from(format!("/var/tmp/catamaran-{name}")),
        })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    pub fn path(&self, relative: &str) -> PathBuf {
        self.folder.join(relative)
    }

    /// As text, for configuration files. The folder's name is ASCII by construction.
    pub fn text(&self, relative: &str) -> String {
        self.path(relative).display().to_string()
    }

    pub fn log(&self, component: &str) -> PathBuf {
        self.folder.join("log").join(format!("{component}.log"))
    }

    pub fn node_namespace(&self) -> String {
        self.name.clone()
    }

    pub fn registry_namespace(&self, registry: Registry) -> String {
        format!("{}-{}", self.name, registry.word())
    }

    pub fn create(&self) -> anyhow::Result<()> {
        for folder in ["etc/certs.d", "etc/cni", "images", "log", "pki", "processes", "helm"] {
            fs::create_dir_all(self.path(folder))
                .with_context(|| format!("failed to create \"{}\"", self.text(folder)))?;
        }
        Ok(())
    }

    pub fn write(&self, relative: &str, content: impl AsRef<[u8]>) -> anyhow::Result<()> {
        let path = self.path(relative);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(&path, content).with_context(|| format!("failed to write \"{}\"", path.display()))
    }

    pub fn read(&self, relative: &str) -> anyhow::Result<String> {
        let path = self.path(relative);
        fs::read_to_string(&path).with_context(|| format!("failed to read \"{}\"", path.display()))
    }
}
