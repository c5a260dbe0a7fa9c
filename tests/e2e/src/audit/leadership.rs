//! Who did a leader's work, and whether they led.

use super::Request;

/// What only a leader writes. Events are reported by the writer, and Secrets and the Lease are created by anybody.
const WORK: [(&str, &[&str]); 5] = [
    ("registrymirrors/status", &["update", "patch"]),
    ("configmaps", &["create", "update", "patch", "delete"]),
    ("pods", &["patch", "delete"]),
    ("mutatingwebhookconfigurations", &["patch"]),
    ("secrets", &["update", "delete"]),
];

/// Writes of a leader's work that succeeded although another one held the Lease, or nobody: each with who held it.
///
/// A write counts from when it came in: what a leader had sent before another took the Lease is its own. Requests must be
/// all of a run.
pub fn intruders<'r>(requests: &'r [Request], lease: &str) -> Vec<(&'r Request, String)> {
    let mut terms: Vec<&Request> = requests
        .iter()
        .filter(|request| {
            request.resource == "leases" && request.name_or(lease) && request.succeeded() && request.holder.is_some()
        })
        .collect();
    terms.sort_by_key(|term| term.answered);
    let work = |request: &&Request| {
        let (resource, verb) = (request.resource.as_str(), request.verb.as_str());
        let leaders = WORK
            .iter()
            .any(|(kind, verbs)| *kind == resource && verbs.contains(&verb));
        leaders && request.succeeded()
    };
    let mut found = Vec::new();
    for request in requests.iter().filter(work) {
        let known = terms.partition_point(|term| term.answered <= request.received);
        let holder = known
            .checked_sub(1)
            .and_then(|last| terms[last].holder.clone())
            .unwrap_or_default();
        if holder != request.pod {
            found.push((request, holder));
        }
    }
    found
}

impl Request {
    /// Names this object, or, as creations do, none.
    fn name_or(&self, name: &str) -> bool {
        self.name == name || self.name.is_empty()
    }
}
