//! What a kubelet and a container runtime say of themselves.

use serde::Deserialize;

/// How many images a kubelet pulls at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pulls {
    /// One after the other.
    Serial,
    /// At most so many, two or more.
    Limited(u32),
    /// As many as there are.
    Parallel,
}

/// Whether the runtime can be told how long to wait for a connection to a registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DialTimeout {
    /// By `dial_timeout` in `hosts.toml`.
    Settable,
    /// It is a containerd that does not read that.
    TooOld,
    /// It is another runtime.
    NotContainerd,
}

/// What `/configz` answers, as far as it is needed.
#[derive(Deserialize)]
struct Configz {
    kubeletconfig: Configuration,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Configuration {
    serialize_image_pulls: Option<bool>,
    max_parallel_image_pulls: Option<u32>,
}

/// How a kubelet pulls that answers this to `/configz`; none if that is no configuration of a kubelet. A kubelet fills in its
/// defaults: by these it pulls one image after the other unless a limit above one is set.
pub fn pulls(configz: &[u8]) -> Option<Pulls> {
    let Configz { kubeletconfig: set } = serde_json::from_slice(configz).ok()?;
    let limit = set.max_parallel_image_pulls;
    let serial = set
        .serialize_image_pulls
        .unwrap_or_else(|| limit.is_none_or(|limit| limit < 2));
    Some(match limit {
        _ if serial => Pulls::Serial,
        Some(0 | 1) => Pulls::Serial,
        Some(limit) => Pulls::Limited(limit),
        None => Pulls::Parallel,
    })
}

/// What a runtime can do that calls itself this, such as `containerd://2.4.2`. containerd 2.1.0 brought `dial_timeout`; 2.0.7 has it,
/// too, and 2.0.5 does not (`core/remotes/docker/config/hosts.go`; containerd pull requests 11106 and 12136).
pub fn dial_timeout(runtime: &str) -> DialTimeout {
    let Some(version) = runtime.strip_prefix("containerd://") else {
        return DialTimeout::NotContainerd;
    };
    let mut numbers = version.split('.').map(leading_number);
    let mut next = || numbers.next().flatten().unwrap_or_default();
    if (next(), next(), next()) >= (2, 0, 7) {
        DialTimeout::Settable
    } else {
        DialTimeout::TooOld
    }
}

fn leading_number(text: &str) -> Option<u32> {
    let text = text.strip_prefix('v').unwrap_or(text);
    let end = text.find(|character: char| !character.is_ascii_digit());
    text[..end.unwrap_or(text.len())].parse().ok()
}
