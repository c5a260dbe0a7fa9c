//! Credentials as `docker login` leaves them.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use catamaran_core::policy::Provider;
use catamaran_registry::Credentials;

/// A configuration larger than this is none.
const MAX_BYTES: u64 = 1 << 20;

/// The credentials for a registry: from the file that was named, or from Docker's own; anonymous where there is none.
pub fn find(named: Option<&Path>, registry: &str) -> anyhow::Result<Credentials> {
    let path = match named {
        Some(path) => path.to_owned(),
        None => match usual_place().filter(|path| path.exists()) {
            Some(path) => path,
            None => return Ok(Credentials::Anonymous),
        },
    };
    let shown = path.display();
    let size = std::fs::metadata(&path).with_context(|| format!("failed to read '{shown}'"))?.len();
    if size > MAX_BYTES {
        bail!("'{shown}' has {size} bytes; that is no Docker configuration");
    }
    let content = std::fs::read(&path).with_context(|| format!("failed to read '{shown}'"))?;
    if !mentions(&content, registry) {
        if asks_a_helper(&content, registry) {
            bail!("'{shown}' keeps the credentials of {registry} in a helper program, which is not asked; \
                   give a file with plain credentials by --docker-config");
        }
        return Ok(Credentials::Anonymous);
    }
    Credentials::from_docker_config_json(&content, registry).with_context(|| format!("failed to use '{shown}'"))
}

fn usual_place() -> Option<PathBuf> {
    let folder = std::env::var_os("DOCKER_CONFIG").map(PathBuf::from);
    let home = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".docker"));
    Some(folder.or_else(home)?.join("config.json"))
}

/// Whether the file has an entry for the registry with something in it; helpers leave empty ones behind.
fn mentions(content: &[u8], registry: &str) -> bool {
    let Ok(config) = serde_json::from_slice::<serde_json::Value>(content) else { return true };
    let Some(entries) = config.get("auths").and_then(serde_json::Value::as_object) else { return false };
    entries.iter().any(|(key, entry)| {
        let bare = key.trim_start_matches("https://").trim_end_matches('/');
        let bare = bare.split('/').next().unwrap_or(bare);
        bare == registry && entry.as_object().is_some_and(|entry| !entry.is_empty())
    })
}

fn asks_a_helper(content: &[u8], registry: &str) -> bool {
    let config: serde_json::Value = serde_json::from_slice(content).unwrap_or_default();
    config.get("credsStore").is_some() || config.get("credHelpers").is_some_and(|all| all.get(registry).is_some())
}

/// Whose registry a host is, by its name; it decides about limits and token endpoints.
pub fn provider(registry: &str) -> Provider {
    let host = registry.rsplit_once(':').map_or(registry, |(host, _)| host);
    let azure = [".azurecr.io", ".azurecr.cn", ".azurecr.us"];
    if host == "ghcr.io" {
        Provider::GitHub
    } else if azure.iter().any(|suffix| host.ends_with(suffix)) {
        Provider::Azure
    } else {
        Provider::Generic
    }
}
