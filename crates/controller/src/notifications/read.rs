//! What notifications say, in each sender's own format.

use catamaran_core::reference::Reference;
use http::HeaderMap;
use serde::Deserialize;
use serde_json::Value;

use super::sender::Sender;

/// Tags of one notification that count: Event Grid may batch thousands, which the next pass finds as well.
const MAX_TAGS: usize = 256;
/// A longer code is none of Event Grid's.
const LONGEST_CODE: usize = 128;

/// Where GitHub's container registry is, unless the payload says otherwise.
const GITHUB_REGISTRY: &str = "ghcr.io";

/// A tag that has moved: nothing more is taken from a notification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MovedTag {
    /// `host[:port]`.
    pub registry: String,
    /// The repository's full path.
    pub repository: String,
    /// The tag.
    pub tag: String,
}

/// A notification that could be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// These tags have moved; none when it is about something else.
    Moved(Vec<MovedTag>),
    /// Event Grid's question whether events are wanted.
    Handshake(String),
}

/// Why a notification can't be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The body is not JSON.
    #[error("the body is not JSON; choose application/json as the content type")]
    NotJson,
    /// The body is JSON of another shape.
    #[error("the body is not what this sender sends: {0}")]
    Shape(&'static str),
}

pub(super) fn read(sender: Sender, headers: &HeaderMap, body: &[u8]) -> Result<Message, ReadError> {
    let body: Value = serde_json::from_slice(body).map_err(|_| ReadError::NotJson)?;
    match sender {
        Sender::Azure => Ok(Message::Moved(azure(body)?.into_iter().collect())),
        Sender::GitHub => Ok(Message::Moved(github(headers, body)?.into_iter().collect())),
        Sender::Events => events(headers, body),
    }
}

/// Azure Container Registry: webhook reference, and the `data` of its Event Grid events.
#[derive(Deserialize)]
struct Pushed {
    action: String,
    #[serde(default)]
    target: Option<Target>,
    #[serde(default)]
    request: Option<Request>,
}

#[derive(Deserialize)]
struct Target {
    #[serde(default)]
    repository: String,
    #[serde(default)]
    tag: Option<String>,
}

#[derive(Deserialize)]
struct Request {
    #[serde(default)]
    host: String,
}

/// A deletion names no tag but a digest; so do pushes by digest. Neither is about a tag.
fn azure(body: Value) -> Result<Option<MovedTag>, ReadError> {
    let pushed: Pushed = serde_json::from_value(body).map_err(|_| ReadError::Shape("no \"action\" of a registry"))?;
    if !matches!(
        pushed.action.as_str(),
        "push" | "delete" | "chart_push" | "chart_delete"
    ) {
        return Ok(None);
    }
    let (Some(target), Some(request)) = (pushed.target, pushed.request) else {
        return Err(ReadError::Shape("no \"target\" and \"request\""));
    };
    let tag = target.tag.filter(|tag| !tag.is_empty());
    Ok(tag.map(|tag| MovedTag {
        registry: request.host.to_ascii_lowercase(),
        repository: target.repository,
        tag,
    }))
}

/// GitHub's `registry_package` and `package` events.
#[derive(Deserialize)]
struct Published {
    #[serde(alias = "registry_package")]
    package: Package,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    #[serde(default)]
    namespace: Option<String>,
    #[serde(default, rename = "package_type")]
    kind: String,
    #[serde(default)]
    owner: Option<Owner>,
    #[serde(default, rename = "package_version")]
    version: Option<Version>,
}

#[derive(Deserialize)]
struct Owner {
    login: String,
}

#[derive(Deserialize)]
struct Version {
    #[serde(default)]
    package_url: Option<String>,
    #[serde(default)]
    container_metadata: Option<Container>,
}

#[derive(Deserialize)]
struct Container {
    #[serde(default)]
    tag: Option<Tag>,
}

#[derive(Deserialize)]
struct Tag {
    #[serde(default)]
    name: String,
}

fn github(headers: &HeaderMap, body: Value) -> Result<Option<MovedTag>, ReadError> {
    let event = headers.get("x-github-event").and_then(|value| value.to_str().ok());
    if !matches!(event, Some("registry_package" | "package")) {
        return Ok(None);
    }
    let published: Published = serde_json::from_value(body).map_err(|_| ReadError::Shape("no package in it"))?;
    let package = published.package;
    if !package.kind.eq_ignore_ascii_case("container") && !package.kind.eq_ignore_ascii_case("docker") {
        return Ok(None);
    }
    let Some(version) = package.version else {
        return Ok(None);
    };
    let tag = version.container_metadata.and_then(|container| container.tag);
    let Some(tag) = tag.map(|tag| tag.name).filter(|name| !name.is_empty()) else {
        return Ok(None);
    };
    if let Some((registry, repository)) = version.package_url.as_deref().and_then(place) {
        return Ok(Some(MovedTag {
            registry,
            repository,
            tag,
        }));
    }
    let owner = package.namespace.filter(|owner| !owner.is_empty());
    let owner = owner.or(package.owner.map(|owner| owner.login));
    let owner = owner.ok_or(ReadError::Shape("no owner of the package"))?;
    Ok(Some(MovedTag {
        registry: GITHUB_REGISTRY.to_owned(),
        repository: format!("{owner}/{}", package.name).to_ascii_lowercase(),
        tag,
    }))
}

/// Where a package is, by its URL: of what a payload says of that the surest, and the only word of an enterprise server's registry.
fn place(url: &str) -> Option<(String, String)> {
    let url = url.to_ascii_lowercase();
    let reference = Reference::parse(&url).ok()?;
    let names_host = reference.registry().contains('.') && url.starts_with(reference.registry());
    names_host.then(|| (reference.registry().to_owned(), reference.repository().to_owned()))
}

/// `CloudEvents` in structured, batched and binary mode, and Event Grid's own schema.
fn events(headers: &HeaderMap, body: Value) -> Result<Message, ReadError> {
    if let Some(kind) = headers.get("ce-type") {
        let kind = kind.to_str().unwrap_or_default();
        return Ok(Message::Moved(event(kind, body)?.into_iter().collect()));
    }
    let all = match body {
        Value::Array(all) => all,
        one @ Value::Object(_) => vec![one],
        _ => return Err(ReadError::Shape("neither an event nor a list of events")),
    };
    let mut moved = Vec::new();
    for mut envelope in all {
        let kind = envelope.get("type").or_else(|| envelope.get("eventType"));
        let kind = kind.and_then(Value::as_str).map(str::to_owned);
        let kind = kind.ok_or(ReadError::Shape("an event without a type"))?;
        let data = envelope.get_mut("data").map(Value::take).unwrap_or_default();
        if kind == "Microsoft.EventGrid.SubscriptionValidationEvent" {
            return handshake(&data);
        }
        if moved.len() < MAX_TAGS {
            moved.extend(event(&kind, data)?);
        }
    }
    Ok(Message::Moved(moved))
}

fn event(kind: &str, data: Value) -> Result<Option<MovedTag>, ReadError> {
    // Microsoft's pages have the names with the prefix and without.
    match kind.strip_prefix("Microsoft.ContainerRegistry.").unwrap_or(kind) {
        "ImagePushed" | "ImageDeleted" | "ChartPushed" | "ChartDeleted" => azure(data),
        _ => Ok(None),
    }
}

fn handshake(data: &Value) -> Result<Message, ReadError> {
    let code = data.get("validationCode").and_then(Value::as_str);
    let plain = |code: &&str| {
        code.len() <= LONGEST_CODE && code.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    let code = code.filter(plain).ok_or(ReadError::Shape("no code to validate"))?;
    Ok(Message::Handshake(code.to_owned()))
}

#[cfg(test)]
mod tests;
