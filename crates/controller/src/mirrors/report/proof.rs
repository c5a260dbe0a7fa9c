//! What proof pods found: status, its way back, and the words of the condition `FallbackProven`.

use catamaran_api::conditions::{self, Statement, Truth, reason};
use catamaran_api::mirror::{ProofFailure, ProofStatus, RegistryMirrorStatus};
use catamaran_core::mirror::Observation;
use catamaran_core::mirror::proof::ProofRead;
use catamaran_core::mirror::proof::reading::{Cause, Problem};
use catamaran_core::mirror::proof::summary::{Extent, Failing, Group, Names, Summary, Verdict};
use catamaran_core::pod::message::PullFailure;

use crate::clock::whole_seconds;

/// Characters of a policy's words that a condition repeats.
const LONGEST_WORDS: usize = 256;

/// Whether what an earlier leader wrote still stands: this one does not know yet what there is to prove.
pub(super) fn stands(before: &RegistryMirrorStatus, observation: &Observation) -> bool {
    let is_unread = observation.proof.as_ref().is_some_and(|proof| proof.is_unread);
    let registry = observation.policy.sides.fallback.name();
    let is_same = before.proof.as_ref().is_some_and(|proof| proof.registry == registry);
    is_unread && is_same && conditions::find_condition(&before.conditions, conditions::FALLBACK_PROVEN).is_some()
}

/// What status says; none where nothing is proven.
pub(super) fn status(observation: &Observation) -> Option<ProofStatus> {
    let proof = observation.proof.as_ref()?;
    let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    Some(ProofStatus {
        time: proof.time.map(whole_seconds),
        registry: observation.policy.sides.fallback.name(),
        nodes: count(proof.extent.nodes),
        namespaces: count(proof.extent.namespaces),
        images: count(proof.extent.images),
        failed: count(proof.failing_total),
        failing: proof.failing.iter().map(failure).collect(),
    })
}

fn failure(failing: &Failing) -> ProofFailure {
    ProofFailure {
        namespace: failing.namespace.clone(),
        node: failing.node.clone(),
        image: failing.image.clone(),
        reason: failing.problem.cause.as_str().to_owned(),
        message: failing.problem.message.clone(),
    }
}

/// What a new leader goes on from. Of a cause that this version does not know the proof is repeated: the list is then shorter than
/// its count.
pub(super) fn read(status: &ProofStatus) -> ProofRead {
    let count = |count: i64| usize::try_from(count).unwrap_or_default();
    let failing = status.failing.iter().filter_map(|failing| {
        let cause: Cause = failing.reason.parse().ok()?;
        Some(Failing {
            namespace: failing.namespace.clone(),
            node: failing.node.clone(),
            image: failing.image.clone(),
            problem: Problem {
                cause,
                message: failing.message.clone(),
            },
        })
    });
    ProofRead {
        registry: status.registry.clone(),
        time: status.time.as_ref().map(|time| time.0),
        extent: Extent {
            nodes: count(status.nodes),
            namespaces: count(status.namespaces),
            images: count(status.images),
        },
        failing: failing.collect(),
        failing_total: count(status.failed),
    }
}

/// The condition; none where nothing is proven.
pub(super) fn statement(observation: &Observation) -> Option<Statement> {
    let proof = observation.proof.as_ref()?;
    let registry = &observation.policy.sides.fallback.registry;
    let (truth, reason) = match proof.verdict {
        Verdict::Proven => (Truth::True, reason::PROVEN),
        Verdict::Fails(Cause::Refused) => (Truth::False, reason::POD_REFUSED),
        Verdict::Fails(_) => (Truth::False, reason::PULLS_FAIL),
        Verdict::NotRun(Cause::NotPermitted) => (Truth::Unknown, reason::FORBIDDEN),
        Verdict::NotRun(_) => (Truth::Unknown, reason::PODS_NOT_RUN),
        Verdict::NotYet => (Truth::Unknown, reason::NOT_PROVEN_YET),
        Verdict::Nothing => (Truth::Unknown, reason::NOTHING_TO_PROVE),
    };
    let message = format!("{}{}", words(proof, registry), left_out(proof));
    Some(Statement::new(conditions::FALLBACK_PROVEN, truth, reason, message))
}

fn words(proof: &Summary, registry: &str) -> String {
    match proof.verdict {
        Verdict::Proven => format!(
            "{} can pull {} from {registry} with the credentials of {}",
            counted(proof.extent.nodes, "node"),
            counted(proof.extent.images, "image"),
            counted(proof.extent.namespaces, "namespace"),
        ),
        Verdict::Fails(_) => format!("pods could not be started from {registry}: {}", causes(proof)),
        Verdict::NotRun(_) => format!(
            "it is unknown whether pods could be started from {registry}: {}",
            causes(proof)
        ),
        Verdict::NotYet => format!("proof pods are to pull from {registry} for the first time, or have not all ended"),
        Verdict::Nothing => "no namespace in the chart's proof.namespaces has pods of this mirror".to_owned(),
    }
}

/// What of the mirror is not proven at all.
fn left_out(proof: &Summary) -> String {
    let unlisted = match proof.unlisted {
        0 => String::new(),
        1 => "; 1 namespace with pods of this mirror is not in the chart's proof.namespaces".to_owned(),
        n => format!("; {n} namespaces with pods of this mirror are not in the chart's proof.namespaces"),
    };
    let left_out = match proof.left_out {
        0 => "",
        _ => "; some images or nodes are left out, because there are too many",
    };
    unlisted + left_out
}

fn causes(proof: &Summary) -> String {
    let causes: Vec<String> = proof.groups.iter().map(cause).collect();
    causes.join("; ")
}

fn cause(group: &Group) -> String {
    let places = format!(
        "{} on {}",
        named(&group.namespaces, "namespace"),
        named(&group.nodes, "node")
    );
    let short = |text: &str| text.chars().take(LONGEST_WORDS).collect::<String>();
    match group.cause {
        Cause::Refused => format!("{places}: refused by {}", short(&group.message)),
        Cause::NotPermitted => format!(
            "{}: the operator may not create pods there; install the chart with proof.namespaces",
            named(&group.namespaces, "namespace")
        ),
        Cause::NotStarted => format!("{places}: the pod was not run"),
        Cause::PullNotEnded => format!("{places}: the pull did not end in time"),
        Cause::Pull(failure) => format!("{places}: {}", pull(failure)),
    }
}

fn pull(failure: PullFailure) -> &'static str {
    match failure {
        PullFailure::NotFound => "the image is not found",
        PullFailure::Unauthorized => "the pull secret is missing or not accepted",
        PullFailure::Throttled => "pulls are throttled",
        PullFailure::Connection => "the connection fails",
        PullFailure::ServerError => "it answers with server errors",
        PullFailure::Tls => "the TLS handshake fails",
        PullFailure::Dns => "its name does not resolve",
        PullFailure::SignatureInvalid => "the image's signature is refused",
        PullFailure::Other => "the pull fails",
    }
}

/// `nodes "a", "b" and 3 more`.
fn named(names: &Names, what: &str) -> String {
    let sample: Vec<String> = names.sample.iter().map(|name| format!("\"{name}\"")).collect();
    let plural = if names.total == 1 { "" } else { "s" };
    let more = match names.total - sample.len() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("{what}{plural} {}{more}", sample.join(", "))
}

fn counted(number: usize, what: &str) -> String {
    match number {
        1 => format!("1 {what}"),
        _ => format!("{number} {what}s"),
    }
}
