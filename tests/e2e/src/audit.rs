//! What the operator asked the API server for during a run, held against what its chart grants and against who led.
//!
//! The API server writes every request of the operator's account down (`catamaran_cluster::Options::audit_user`), with what it
//! decided and for which pod. Two claims are proven from that, over everything that a run did: the operator has exactly the
//! rights that it needs ([`Rights`]), and nobody but the holder of the Lease does a leader's work ([`intruders`]).

mod leadership;
mod rights;

use std::collections::BTreeMap;
use std::fmt;

use anyhow::Context as _;
use catamaran_cluster::Cluster;
use jiff::Timestamp;
use serde_json::Value;

pub use leadership::intruders;
pub use rights::{Excuse, Grant, Rights};

/// One request that the API server has answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// As RBAC names it: `get`, `list`, `patch` ...
    pub verb: String,
    /// The API group; empty for the core group and for what is no resource.
    pub group: String,
    /// The resource with its subresource, such as `registrymirrors/status`; the path of what is no resource.
    pub resource: String,
    /// Empty for what is cluster-scoped.
    pub namespace: String,
    /// Empty where the request names no object.
    pub name: String,
    /// The status of the answer.
    pub code: u64,
    /// The authorizer refused it. An answer 403 alone may have other reasons, such as a namespace that is being deleted.
    pub denied: bool,
    /// The pod whose token it came with.
    pub pod: String,
    /// When it came in.
    pub received: Timestamp,
    /// When it was answered.
    pub answered: Timestamp,
    /// Whom a written Lease names as its holder.
    pub holder: Option<String>,
}

impl Request {
    /// The answered requests of an audit log, in its order. A watch is told of when it begins and when it ends.
    pub fn read(log: &str) -> anyhow::Result<Vec<Self>> {
        // The last line may be being written.
        let whole = log.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let read = |line: &str| Self::of(&serde_json::from_str(line)?);
        whole
            .lines()
            .map(|line| read(line).with_context(|| format!("failed to read audit event {line}")))
            .collect()
    }

    fn of(event: &Value) -> anyhow::Result<Self> {
        let text = |pointer: &str| {
            event
                .pointer(pointer)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        let time = |pointer: &str| {
            text(pointer)
                .parse::<Timestamp>()
                .with_context(|| format!("no time at {pointer}"))
        };
        let resource = match (text("/objectRef/resource"), text("/objectRef/subresource")) {
            (resource, _) if resource.is_empty() => {
                text("/requestURI").split('?').next().unwrap_or_default().to_owned()
            }
            (resource, subresource) if subresource.is_empty() => resource,
            (resource, subresource) => format!("{resource}/{subresource}"),
        };
        Ok(Self {
            verb: text("/verb"),
            group: text("/objectRef/apiGroup"),
            resource,
            namespace: text("/objectRef/namespace"),
            name: text("/objectRef/name"),
            code: event
                .pointer("/responseStatus/code")
                .and_then(Value::as_u64)
                .unwrap_or_default(),
            denied: event["annotations"]["authorization.k8s.io/decision"] == "forbid",
            pod: text("/user/extra/authentication.kubernetes.io~1pod-name/0"),
            received: time("/requestReceivedTimestamp")?,
            answered: time("/stageTimestamp")?,
            holder: event
                .pointer("/requestObject/spec/holderIdentity")
                .and_then(Value::as_str)
                .map(str::to_owned),
        })
    }

    /// It was carried out.
    pub fn succeeded(&self) -> bool {
        (200..300).contains(&self.code)
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.verb, self.resource)?;
        for (word, part) in [
            (" of ", &self.group),
            (" in ", &self.namespace),
            (" named ", &self.name),
        ] {
            if !part.is_empty() {
                write!(f, "{word}{part}")?;
            }
        }
        write!(f, ": {} at {} for {}", self.code, self.received, self.pod)
    }
}

/// What the operator has asked for since then.
pub fn since(cluster: &Cluster, since: Timestamp) -> anyhow::Result<Vec<Request>> {
    let mut requests = Request::read(&cluster.logs(Cluster::AUDIT)?)?;
    requests.retain(|request| request.received >= since);
    Ok(requests)
}

/// How often each verb was asked for on each resource, for people.
pub fn census(requests: &[Request]) -> BTreeMap<String, usize> {
    let mut census = BTreeMap::new();
    for request in requests
        .iter()
        .filter(|request| !request.group.is_empty() || !request.resource.starts_with('/'))
    {
        *census
            .entry(format!("{} {}", request.verb, request.resource))
            .or_default() += 1;
    }
    census
}

#[cfg(test)]
pub(crate) fn request(verb: &str, resource: &str, namespace: &str, name: &str) -> Request {
    Request {
        verb: verb.to_owned(),
        group: String::new(),
        resource: resource.to_owned(),
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        code: 200,
        denied: false,
        pod: "catamaran-a".to_owned(),
        received: Timestamp::UNIX_EPOCH,
        answered: Timestamp::UNIX_EPOCH,
        holder: None,
    }
}

#[cfg(test)]
mod tests;
