//! What can be wrong with a registry, and how the command line says it.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};

/// A fault of one registry. Its blob host shares those that are below HTTP, and the delay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Packets vanish: a dial hangs until the client gives up.
    BlackHole,
    /// A dial is answered with a reset, at once.
    Refused,
    /// A connection is accepted and then reset.
    Reset,
    /// TLS and the request succeed, no answer ever comes.
    Silent,
    /// TCP connects, TLS does not.
    Hang,
    /// Every answer comes this much later.
    Delay(Duration),
    /// An error status in place of the answer, from the registry's own host.
    Http {
        /// The status, 400 to 599. 401 carries a Bearer challenge.
        code: u16,
        /// The value of `Retry-After`, seconds or a date.
        retry_after: Option<String>,
        /// Only requests whose path contains this; absent: all, the token endpoint too.
        path_contains: Option<String>,
    },
    /// Server errors from the registry's own host, no two of them alike: the status goes round from 500 to 504 without 501, and the
    /// words hold another correlation ID each time.
    VaryingErrors,
    /// A dial from the node itself, as its container runtime makes it, is answered with a reset; pods reach the registry.
    NodeRefused,
    /// The host that blobs are redirected to refuses connections; the registry is well.
    BlobHostDead,
    /// The token endpoint answers with this status, 400 to 599; everything else is well.
    TokenEndpoint(u16),
    /// Every request is refused as by Azure's firewall: 403, `DENIED`, with the client's address in the message.
    Firewall,
}

impl Fault {
    /// [`Fault::Http`] on all paths, without `Retry-After`.
    pub const fn http(code: u16) -> Self {
        Self::Http {
            code,
            retry_after: None,
            path_contains: None,
        }
    }

    /// The line that tells the registry's front what to do.
    pub(crate) fn front_line(&self) -> String {
        let value = match self {
            // These four are nftables' work.
            Self::BlackHole | Self::Refused | Self::NodeRefused | Self::BlobHostDead => {
                serde_json::json!({"kind": "none"})
            }
            Self::Reset => serde_json::json!({"kind": "reset"}),
            Self::Silent => serde_json::json!({"kind": "silent"}),
            Self::Hang => serde_json::json!({"kind": "hang"}),
            Self::Delay(delay) => {
                serde_json::json!({"kind": "delay", "milliseconds": delay.as_millis() as u64})
            }
            Self::Http {
                code,
                retry_after,
                path_contains,
            } => serde_json::json!({
                "kind": "http", "code": code, "retry_after": retry_after, "path_contains": path_contains,
            }),
            Self::VaryingErrors => serde_json::json!({"kind": "varying"}),
            Self::TokenEndpoint(code) => serde_json::json!({"kind": "token", "code": code}),
            Self::Firewall => serde_json::json!({"kind": "firewall"}),
        };
        value.to_string()
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BlackHole => f.write_str("black-hole"),
            Self::Refused => f.write_str("refused"),
            Self::NodeRefused => f.write_str("node-refused"),
            Self::Reset => f.write_str("reset"),
            Self::Silent => f.write_str("silent"),
            Self::Hang => f.write_str("hang"),
            Self::Delay(delay) => write!(f, "delay={}ms", delay.as_millis()),
            Self::Http {
                code,
                retry_after,
                path_contains,
            } => {
                write!(f, "http={code}")?;
                if let Some(value) = retry_after {
                    write!(f, ",retry-after={value}")?;
                }
                if let Some(path) = path_contains {
                    write!(f, ",path={path}")?;
                }
                Ok(())
            }
            Self::VaryingErrors => f.write_str("varying-errors"),
            Self::BlobHostDead => f.write_str("blob-host-dead"),
            Self::TokenEndpoint(code) => write!(f, "token={code}"),
            Self::Firewall => f.write_str("firewall"),
        }
    }
}

impl FromStr for Fault {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let (kind, value) = text.split_once('=').unwrap_or((text, ""));
        let fault = match kind {
            "black-hole" => Self::BlackHole,
            "refused" => Self::Refused,
            "node-refused" => Self::NodeRefused,
            "reset" => Self::Reset,
            "silent" => Self::Silent,
            "hang" => Self::Hang,
            "varying-errors" => Self::VaryingErrors,
            "blob-host-dead" => Self::BlobHostDead,
            "delay" => Self::Delay(duration(value)?),
            "http" => http(value)?,
            "token" => Self::TokenEndpoint(status(value)?),
            "firewall" => Self::Firewall,
            _ => bail!("failed to read fault \"{text}\": no such fault"),
        };
        ensure!(
            matches!(fault, Self::Delay(_) | Self::Http { .. } | Self::TokenEndpoint(_)) || kind == text,
            "failed to read fault \"{text}\": \"{kind}\" takes no value"
        );
        Ok(fault)
    }
}

fn http(value: &str) -> anyhow::Result<Fault> {
    let mut parts = value.split(',');
    let code = status(parts.next().unwrap_or_default())?;
    let (mut retry_after, mut path_contains) = (None, None);
    for part in parts {
        match part.split_once('=') {
            Some(("retry-after", value)) => retry_after = Some(value.to_owned()),
            Some(("path", value)) => path_contains = Some(value.to_owned()),
            _ => bail!("failed to read \"{part}\": retry-after=... or path=..."),
        }
    }
    Ok(Fault::Http {
        code,
        retry_after,
        path_contains,
    })
}

fn status(text: &str) -> anyhow::Result<u16> {
    let code = text
        .parse()
        .with_context(|| format!("failed to read status \"{text}\""))?;
    ensure!((400..600).contains(&code), "failed to read status {code}: not an error");
    Ok(code)
}

/// Reads `300ms` or `2s`.
fn duration(text: &str) -> anyhow::Result<Duration> {
    let read = |number: &str| {
        number
            .parse()
            .with_context(|| format!("failed to read duration \"{text}\""))
    };
    match text.strip_suffix("ms") {
        Some(number) => Ok(Duration::from_millis(read(number)?)),
        None => Ok(Duration::from_secs(read(text.strip_suffix('s').unwrap_or_default())?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_reads_back_from_how_it_is_written() {
        let faults = [
            "black-hole",
            "refused",
            "node-refused",
            "reset",
            "silent",
            "hang",
            "delay=300ms",
            "http=503",
            "http=401,path=web",
            "http=429,retry-after=30,path=manifests",
            "varying-errors",
            "blob-host-dead",
            "token=503",
            "firewall",
        ];
        for text in faults {
            assert_eq!(text.parse::<Fault>().unwrap().to_string(), text);
        }
        assert_eq!(
            "delay=2s".parse::<Fault>().unwrap(),
            Fault::Delay(Duration::from_secs(2))
        );
    }

    #[test]
    fn what_is_no_fault_is_refused() {
        for text in [
            "",
            "ok",
            "http",
            "http=200",
            "http=x",
            "http=503,when=now",
            "delay=3",
            "delay=xs",
            "hang=1",
            "refused=",
        ] {
            assert!(text.parse::<Fault>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_front_is_told_status_header_and_path() {
        let line = "http=429,retry-after=30,path=web"
            .parse::<Fault>()
            .unwrap()
            .front_line();
        assert_eq!(
            line,
            r#"{"code":429,"kind":"http","path_contains":"web","retry_after":"30"}"#
        );
    }
}
