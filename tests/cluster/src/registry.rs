//! The two registries that every cluster has.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::cache::binary;

/// A registry of the cluster, named by what it stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Registry {
    /// Azure Container Registry.
    Acr,
    /// GitHub Container Registry.
    Ghcr,
}

impl Registry {
    /// Both, in the order in which they are started.
    pub const ALL: [Self; 2] = [Self::Acr, Self::Ghcr];

    /// The name under which images are referred to.
    pub const fn host(self) -> &'static str {
        match self {
            Self::Acr => "kracr.azurecr.io",
            Self::Ghcr => "ghcr.io",
        }
    }

    /// The host to which blob requests are redirected.
    pub const fn data_host(self) -> &'static str {
        match self {
            Self::Acr => "kracr.westeurope.data.azurecr.io",
            Self::Ghcr => "pkg-containers.githubusercontent.com",
        }
    }

    /// The path of the token endpoint on [`host`](Self::host).
    pub const fn token_path(self) -> &'static str {
        match self {
            Self::Acr => "/oauth2/token",
            Self::Ghcr => "/token",
        }
    }

    /// The distribution registry that stands behind both, for a test that runs one by itself. `make cluster-build` builds it.
    pub fn program() -> PathBuf {
        binary("registry", "registry")
    }

    /// The word for it on the command line and in file names.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Acr => "acr",
            Self::Ghcr => "ghcr",
        }
    }

    /// The address of [`host`](Self::host), the same in every cluster.
    pub const fn address(self) -> &'static str {
        match self {
            Self::Acr => "10.98.1.2",
            Self::Ghcr => "10.98.2.2",
        }
    }

    /// The address of [`data_host`](Self::data_host): another one, so that it can die alone.
    pub const fn data_address(self) -> &'static str {
        match self {
            Self::Acr => "10.98.1.3",
            Self::Ghcr => "10.98.2.3",
        }
    }

    /// The node's end of the link to the registry.
    pub(crate) const fn gateway(self) -> &'static str {
        match self {
            Self::Acr => "10.98.1.1",
            Self::Ghcr => "10.98.2.1",
        }
    }
}

impl fmt::Display for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl FromStr for Registry {
    type Err = anyhow::Error;

    /// Takes the short word or the host name.
    fn from_str(text: &str) -> anyhow::Result<Self> {
        Self::ALL
            .into_iter()
            .find(|registry| [registry.word(), registry.host()].contains(&text))
            .ok_or_else(|| anyhow::anyhow!("failed to read registry \"{text}\": acr or ghcr"))
    }
}
