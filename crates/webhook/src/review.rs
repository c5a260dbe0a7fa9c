//! From an `AdmissionReview` to its answer, purely: the same body and table give the same bytes.

mod sites;

use std::borrow::Cow;

use catamaran_core::routes::{Exclusion, ImageRoute, KeepReason, Owner, PodFacts, PodRoutes, Route, RouteTable};
use catamaran_core::side::Side;

use crate::annotate::Record;
use crate::answer::{Answer, V1};
use crate::decode::{List, LocalReference, Metadata, Pod, Request, Review, Salvage};
use crate::json::{Patch, push_string};
use crate::metrics::{ImageOutcome, Outcome, Tally};
use crate::reader::Reader;
use sites::{Scope, Site};

/// Whose requests and whose namespace are never touched, whatever the webhook configuration lets through.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// The operator's own namespace.
    pub namespace: String,
    /// The operator's own user, `system:serviceaccount:<namespace>:<name>`.
    pub username: String,
}

/// The answer to one review.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reviewed {
    /// The `AdmissionReview` to send back, as JSON.
    pub response: Vec<u8>,
    /// How the review ended.
    pub outcome: Outcome,
    /// What was decided about its images.
    pub images: Tally,
}

impl Reviewed {
    fn new(answer: &Answer<'_>, outcome: Outcome, images: Tally) -> Self {
        Reviewed {
            response: answer.write(),
            outcome,
            images,
        }
    }
}

/// Answers one review. Never refuses: what can't be read or is not a Pod is allowed as it is, with a warning.
///
/// Without a table (the view of the mirrors is too old to act on) Pods are left as they are.
pub fn review(body: &[u8], table: Option<&RouteTable>, own: &Identity) -> Reviewed {
    let review: Review<'_> = match Reader::from_bytes(body).and_then(Reader::whole) {
        Ok(review) => review,
        Err(fault) => return unreadable(body, &fault.to_string()),
    };
    let Some(request) = &review.request else {
        return unreadable(body, "it holds no request");
    };
    let answer = Answer {
        api_version: review.api_version.as_str(),
        uid: request.uid.as_str(),
        ..Answer::default()
    };
    if review.api_version.as_str() != V1 || review.kind.as_str() != "AdmissionReview" {
        let warning =
            Some("catamaran left the object as it is: not an AdmissionReview of admission.k8s.io/v1".to_owned());
        return Reviewed::new(&Answer { warning, ..answer }, Outcome::Unsupported, Tally::default());
    }
    match judge(request, table, own) {
        Verdict::Pass(outcome) => Reviewed::new(&answer, outcome, Tally::default()),
        Verdict::Warn(outcome, warning) => {
            let warning = Some(warning.to_owned());
            Reviewed::new(&Answer { warning, ..answer }, outcome, Tally::default())
        }
        Verdict::Change(patch, images) => {
            let patch = patch.finish();
            let outcome = if patch.is_some() {
                Outcome::Patched
            } else {
                Outcome::Unchanged
            };
            tracing::debug!(
                namespace = request.namespace.as_str(),
                pod = pod_name(request),
                ?outcome,
                "reviewed a pod"
            );
            Reviewed::new(&Answer { patch, ..answer }, outcome, images)
        }
    }
}

/// The answer to a review that ended in a panic.
pub(crate) fn panicked(body: &[u8]) -> Reviewed {
    salvaged(
        body,
        Outcome::Panicked,
        "catamaran left the object as it is: its review failed; this is a bug".to_owned(),
    )
}

fn unreadable(body: &[u8], why: &str) -> Reviewed {
    salvaged(
        body,
        Outcome::Unreadable,
        format!("catamaran left the object as it is: failed to read the review: {why}"),
    )
}

fn salvaged(body: &[u8], outcome: Outcome, warning: String) -> Reviewed {
    let Salvage { api_version, uid } = Salvage::from(body);
    let answer = Answer {
        api_version: &api_version,
        uid: &uid,
        patch: None,
        warning: Some(warning),
    };
    Reviewed::new(&answer, outcome, Tally::default())
}

/// The Pod's name, or what its name will begin with.
fn pod_name<'a>(request: &'a Request<'_>) -> &'a str {
    let metadata = request.object.as_ref().and_then(|pod| pod.metadata.as_ref());
    let generated = metadata.map_or("", |metadata| metadata.generate_name.as_str());
    [
        request.name.as_str(),
        metadata.map_or("", |metadata| metadata.name.as_str()),
        generated,
    ]
    .into_iter()
    .find(|name| !name.is_empty())
    .unwrap_or_default()
}

/// What becomes of a request.
enum Verdict {
    Pass(Outcome),
    Warn(Outcome, &'static str),
    Change(Patch, Tally),
}

fn judge(request: &Request<'_>, table: Option<&RouteTable>, own: &Identity) -> Verdict {
    let kind = (
        request.kind.group.as_str(),
        request.kind.version.as_str(),
        request.kind.kind.as_str(),
    );
    if kind != ("", "v1", "Pod")
        || request.resource.group.as_str() != ""
        || request.resource.resource.as_str() != "pods"
    {
        return Verdict::Warn(
            Outcome::Unsupported,
            "catamaran left the object as it is: it is not a Pod of v1",
        );
    }
    let namespace = request.namespace.as_str();
    if namespace == "kube-system" || namespace == own.namespace || request.user.username.as_str() == own.username {
        return Verdict::Pass(Outcome::Exempt);
    }
    let Some(scope) = Scope::of(request) else {
        return Verdict::Pass(Outcome::NotApplicable);
    };
    let Some(pod) = &request.object else {
        return Verdict::Warn(
            Outcome::Unreadable,
            "catamaran left the Pod as it is: the review holds no object",
        );
    };
    let Some(table) = table else {
        return Verdict::Pass(Outcome::Stale);
    };
    let routes = table.pod(&facts(namespace, pod.metadata.as_ref()));
    change(pod, &scope, &routes)
}

fn facts<'a>(namespace: &'a str, metadata: Option<&'a Metadata<'_>>) -> PodFacts<'a> {
    let Some(metadata) = metadata else {
        return PodFacts {
            namespace,
            ..PodFacts::default()
        };
    };
    // The controller decides; without one, any owner may be an operator that compares what it made.
    let owners = &metadata.owners.0;
    let owner = owners.iter().find(|owner| owner.controller.0).or(owners.first());
    PodFacts {
        namespace,
        rewrite_label: metadata.labels.rewrite.as_deref(),
        owner_kind: owner.map(|owner| Owner {
            api_version: owner.api_version.as_str(),
            kind: owner.kind.as_str(),
        }),
        is_static: metadata
            .annotations
            .as_ref()
            .is_some_and(|annotations| annotations.is_static),
    }
}

/// Decides about every image in scope and writes down what changes.
fn change<'a>(pod: &'a Pod<'_>, scope: &Scope<'_>, routes: &PodRoutes<'_>) -> Verdict {
    let decided: Vec<(Site<'a>, ImageRoute<'_>)> = sites::of(&pod.spec, scope)
        .map(|site| (site, routes.image(site.image)))
        .collect();
    let mut patch = Patch::default();
    let mut tally = Tally::default();
    if decided.iter().all(|(_, route)| matches!(route, ImageRoute::Untouched)) {
        return Verdict::Change(patch, tally);
    }
    for (site, route) in &decided {
        match route {
            ImageRoute::Untouched => {}
            ImageRoute::OnActive { .. } => tally.add(ImageOutcome::OnActive),
            ImageRoute::Kept { reason, .. } => tally.add((*reason).into()),
            ImageRoute::Rewritten { image, reason, .. } => {
                patch.replace(format_args!("{site}"), image);
                tally.add((*reason).into());
            }
        }
    }
    // A static pod runs from a file on its node; all that could change here is the copy that the API shows.
    if routes.excluded() == Some(Exclusion::StaticPod) {
        return Verdict::Change(patch, tally);
    }
    let added = if scope.may_add_secrets() {
        let wanted = routes.pull_secrets(decided.iter().map(|(_, route)| route));
        add_secrets(&wanted, pod.spec.pull_secrets.as_ref(), &mut patch)
    } else {
        Vec::new()
    };
    if scope.may_annotate() {
        annotate(pod, &decided, &added, routes, &mut patch);
    }
    Verdict::Change(patch, tally)
}

/// Appends the wanted pull secrets that are absent, and returns them.
fn add_secrets<'t>(wanted: &[&'t str], present: Option<&List<LocalReference<'_>>>, patch: &mut Patch) -> Vec<&'t str> {
    let has = |name: &str| present.is_some_and(|present| present.0.iter().any(|secret| secret.name.as_str() == name));
    let missing: Vec<&str> = wanted.iter().copied().filter(|name| !has(name)).collect();
    let push_secret = |out: &mut String, name: &str| {
        out.push_str("{\"name\":");
        push_string(out, name);
        out.push('}');
    };
    if present.is_some() {
        for name in &missing {
            patch.add(format_args!("/spec/imagePullSecrets/-"), |out| push_secret(out, name));
        }
    } else if !missing.is_empty() {
        patch.add(format_args!("/spec/imagePullSecrets"), |out| {
            for (position, name) in missing.iter().enumerate() {
                out.push(if position == 0 { '[' } else { ',' });
                push_secret(out, name);
            }
            out.push(']');
        });
    }
    missing
}

/// Records what was decided, for people and for the leader. What an earlier review recorded about an image that stands
/// is kept; what it recorded about an image that has been replaced since is dropped.
fn annotate<'a>(
    pod: &'a Pod<'_>,
    decided: &'a [(Site<'a>, ImageRoute<'_>)],
    secrets: &[&str],
    routes: &PodRoutes<'_>,
    patch: &mut Patch,
) {
    let metadata = pod.metadata.as_ref();
    let mut record = Record::read(metadata.and_then(|metadata| metadata.annotations.as_ref()));
    for (position, (site, route)) in decided.iter().enumerate() {
        // The API server refuses two containers of one name, so it matters little which of them is recorded; it has to be
        // one, or each would undo the other's record for ever.
        if decided[..position]
            .iter()
            .any(|(earlier, _)| earlier.shares_note_with(site))
        {
            continue;
        }
        let name = site.note_name();
        let now = if let ImageRoute::Rewritten { image, .. } = route {
            image
        } else {
            site.image
        };
        let explained = record
            .original_images
            .get(&name)
            .is_some_and(|original| leads_to(original, now, routes));
        let reason = match route {
            ImageRoute::Rewritten { reason, .. } => Some(reason.as_str()),
            ImageRoute::Kept { reason, .. } => Some(reason.as_str()),
            ImageRoute::OnActive { .. } | ImageRoute::Untouched => None,
        };
        match route {
            _ if explained => {}
            ImageRoute::Rewritten { .. } => record.original_images.set(name.clone(), Cow::Borrowed(site.image)),
            _ => record.original_images.remove(&name),
        }
        match reason {
            Some(reason) => record.reasons.set(name, Cow::Borrowed(reason)),
            None if !explained => record.reasons.remove(&name),
            None => {}
        }
        if let Some(decider) = route
            .route()
            .filter(|decider| reason.is_some() || brings(decider, route, secrets))
        {
            record.deciders.add(&decider.policy.id.name, decider.epoch);
        }
    }
    record.write(metadata, patch);
}

/// Whether `original` is what `image` was before it was re-pointed.
fn leads_to(original: &str, image: &str, routes: &PodRoutes<'_>) -> bool {
    original == image || matches!(routes.image(original), ImageRoute::Rewritten { image: to, .. } if to == image)
}

/// Whether one of the added secrets is there for an image of this mirror.
fn brings(mirror: &Route, route: &ImageRoute<'_>, added: &[&str]) -> bool {
    let excluded = matches!(
        route,
        ImageRoute::Kept {
            reason: KeepReason::Excluded(_),
            ..
        }
    );
    let named = |side: &Side| {
        let secrets = &mirror.policy.sides[*side].image_pull_secrets;
        secrets.iter().any(|name| added.contains(&name.as_str()))
    };
    !excluded && Side::ALL.iter().any(named)
}
