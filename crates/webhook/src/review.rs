//! From an `AdmissionReview` to its answer, purely: the same body and table give the same bytes.

mod sites;

use std::borrow::Cow;
use std::collections::HashSet;

use catamaran_core::pod::{Owner, PodFacts, deciding_owner};
use catamaran_core::routing::{ImageRoute, PodRoutes, Route, RouteTable};
use catamaran_core::side::Side;

use crate::annotate::Record;
use crate::answer::{Answer, V1};
use crate::decode::{Annotations, List, LocalReference, Metadata, Pod, Request, Review, Salvage};
use crate::json::{Patch, push_string};
use crate::metrics::{ImageOutcome, Outcome, Tally};
use crate::reader::{Fault, Reader};
use sites::{Scope, Site};

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
/// Without a table (the view of the mirrors is too old to act on) Pods are left as they are, and so are those that the
/// operator itself changes, which goes by the name `own_user`; those that it makes only get pull secrets.
pub fn review(body: &[u8], table: Option<&RouteTable>, own_user: &str) -> Reviewed {
    let review: Review<'_> = match Reader::from_bytes(body).and_then(Reader::whole) {
        Ok(review) => review,
        Err(Fault::Length(_)) => return too_long(body),
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
    match conclude(request, table, own_user) {
        Conclusion::Pass(outcome) => Reviewed::new(&answer, outcome, Tally::default()),
        Conclusion::Warn(outcome, warning) => {
            let warning = Some(warning.to_owned());
            Reviewed::new(&Answer { warning, ..answer }, outcome, Tally::default())
        }
        Conclusion::Change(patch, images) => {
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

/// The answer to a review that there is no room or no time for; of its body the beginning is enough.
pub(crate) fn overloaded(body: &[u8]) -> Reviewed {
    salvaged(
        body,
        Outcome::Overloaded,
        "catamaran left the object as it is: it had no time for so large a review".to_owned(),
    )
}

fn unreadable(body: &[u8], why: &str) -> Reviewed {
    salvaged(
        body,
        Outcome::Unreadable,
        format!("catamaran left the object as it is: failed to read the review: {why}"),
    )
}

fn too_long(body: &[u8]) -> Reviewed {
    salvaged(
        body,
        Outcome::TooLong,
        "catamaran left the object as it is: it has too many containers, volumes or labels".to_owned(),
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
enum Conclusion {
    Pass(Outcome),
    Warn(Outcome, &'static str),
    Change(Patch, Tally),
}

fn conclude(request: &Request<'_>, table: Option<&RouteTable>, own_user: &str) -> Conclusion {
    let kind = (
        request.kind.group.as_str(),
        request.kind.version.as_str(),
        request.kind.kind.as_str(),
    );
    if kind != ("", "v1", "Pod")
        || request.resource.group.as_str() != ""
        || request.resource.resource.as_str() != "pods"
    {
        return Conclusion::Warn(
            Outcome::Unsupported,
            "catamaran left the object as it is: it is not a Pod of v1",
        );
    }
    let is_own = request.user.username.as_str() == own_user;
    let Some(scope) = Scope::of(request).filter(|scope| !is_own || scope.may_add_secrets()) else {
        return Conclusion::Pass(if is_own {
            Outcome::Exempt
        } else {
            Outcome::NotApplicable
        });
    };
    let Some(pod) = &request.object else {
        return Conclusion::Warn(
            Outcome::Unreadable,
            "catamaran left the Pod as it is: the review holds no object",
        );
    };
    let Some(table) = table else {
        return Conclusion::Pass(Outcome::Stale);
    };
    let namespace = request.namespace.as_str();
    if table.excludes_namespace(namespace) {
        return Conclusion::Pass(Outcome::Exempt);
    }
    let labels = labels(pod.metadata.as_ref());
    let facts = facts(namespace, pod.metadata.as_ref(), &labels);
    if is_own {
        return prepare_proof(pod, &scope, &table.pod(&PodFacts { owner: None, ..facts }));
    }
    change(pod, &scope, &table.pod(&facts))
}

/// A proof pod of the operator's own is to pull what it names, with the pull secrets that any other pod would get.
fn prepare_proof(pod: &Pod<'_>, scope: &Scope<'_>, routes: &PodRoutes<'_>) -> Conclusion {
    let mut patch = Patch::default();
    let sites = sites::of(&pod.spec, scope).into_iter();
    let decided: Vec<ImageRoute<'_>> = sites.map(|site| routes.image(site.image, site.never)).collect();
    add_secrets(
        &routes.pull_secrets(&decided),
        pod.spec.pull_secrets.as_ref(),
        &mut patch,
    );
    Conclusion::Change(patch, Tally::default())
}

fn labels<'a>(metadata: Option<&'a Metadata<'_>>) -> Vec<(&'a str, &'a str)> {
    let labels = metadata.map(|metadata| metadata.labels.0.iter());
    let pairs = labels.into_iter().flatten();
    pairs.map(|(name, value)| (&**name, &**value)).collect()
}

fn facts<'a>(namespace: &'a str, metadata: Option<&'a Metadata<'_>>, labels: &'a [(&'a str, &'a str)]) -> PodFacts<'a> {
    let owners = metadata.map(|metadata| metadata.owners.0.iter()).into_iter().flatten();
    let owners = owners.map(|owner| {
        let kind = Owner {
            api_version: owner.api_version.as_str(),
            kind: owner.kind.as_str(),
        };
        (kind, owner.controller.0)
    });
    let annotations = metadata.and_then(|metadata| metadata.annotations.as_ref());
    PodFacts {
        namespace,
        labels,
        owner: deciding_owner(owners),
        is_static: annotations.is_some_and(|annotations| annotations.is_static),
    }
}

/// An image of a Pod, and where it goes.
type Decided<'a, 't> = (Site<'a>, ImageRoute<'t>);

/// Decides about every image in scope and writes down what changes.
fn change<'a>(pod: &'a Pod<'_>, scope: &'a Scope<'_>, routes: &PodRoutes<'_>) -> Conclusion {
    let sites = sites::of(&pod.spec, scope).into_iter();
    let decided: Vec<Decided<'a, '_>> = sites.map(|site| (site, routes.image(site.image, site.never))).collect();
    let mut patch = Patch::default();
    let mut tally = Tally::default();
    for (site, route) in &decided {
        match route {
            ImageRoute::Untouched => {}
            ImageRoute::OnActive { .. } => tally.add(ImageOutcome::OnActive),
            ImageRoute::Kept { reason, .. } => tally.add((*reason).into()),
            ImageRoute::Audited { reason, .. } => tally.add(ImageOutcome::audited(*reason)),
            ImageRoute::Rewritten { image, reason, .. } => {
                patch.replace(format_args!("{site}"), image);
                tally.add((*reason).into());
            }
        }
    }
    let added = if scope.may_add_secrets() {
        let wanted = routes.pull_secrets(decided.iter().map(|(_, route)| route));
        add_secrets(&wanted, pod.spec.pull_secrets.as_ref(), &mut patch)
    } else {
        HashSet::new()
    };
    if scope.may_annotate() && has_news(pod, &decided) {
        annotate(pod, &decided, &added, routes, &mut patch);
    }
    Conclusion::Change(patch, tally)
}

/// Whether there may be anything to record or to remove: an image of a mirror, or notes of an earlier review.
fn has_news(pod: &Pod<'_>, decided: &[Decided<'_, '_>]) -> bool {
    let annotations = pod.metadata.as_ref().and_then(|metadata| metadata.annotations.as_ref());
    let noted = annotations.is_some_and(Annotations::has_notes);
    noted || decided.iter().any(|(_, route)| !matches!(route, ImageRoute::Untouched))
}

/// Appends the wanted pull secrets that are absent, and returns them.
fn add_secrets<'t>(
    wanted: &[&'t str],
    present: Option<&List<LocalReference<'_>>>,
    patch: &mut Patch,
) -> HashSet<&'t str> {
    if wanted.is_empty() {
        return HashSet::new();
    }
    let names = present.map(|present| present.0.iter().map(|secret| secret.name.as_str()));
    let names: HashSet<&str> = names.into_iter().flatten().collect();
    let missing: Vec<&str> = wanted.iter().copied().filter(|name| !names.contains(name)).collect();
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
    missing.into_iter().collect()
}

/// Records what was decided, for people and for the leader. What an earlier review recorded about an image that stands
/// is kept; what it recorded about an image that has been replaced since is dropped.
fn annotate<'a>(
    pod: &'a Pod<'_>,
    decided: &'a [Decided<'a, '_>],
    secrets: &HashSet<&str>,
    routes: &PodRoutes<'_>,
    patch: &mut Patch,
) {
    let metadata = pod.metadata.as_ref();
    let mut record = Record::read(metadata.and_then(|metadata| metadata.annotations.as_ref()));
    let mut names = HashSet::with_capacity(decided.len());
    for (site, route) in decided {
        let name = site.note_name();
        // The API server refuses two containers of one name, so it matters little which of them is recorded; it has to be
        // one, or each would undo the other's record for ever.
        if opted_out(route) || !names.insert(name.clone()) {
            continue;
        }
        let reason = note(&mut record, name, site, route, routes);
        if let Some(decider) = route
            .route()
            .filter(|decider| reason.is_some() || brings(decider, secrets))
        {
            record.deciders.add(&decider.policy.id.name, decider.epoch);
        }
    }
    record.write(metadata, patch);
}

/// Records what was decided about one image, and returns the reason.
fn note<'a>(
    record: &mut Record<'a>,
    name: Cow<'a, str>,
    site: &Site<'a>,
    route: &ImageRoute<'_>,
    routes: &PodRoutes<'_>,
) -> Option<&'static str> {
    let (now, reason) = match route {
        ImageRoute::Rewritten { image, reason, .. } => (image.as_str(), Some(reason.as_str())),
        ImageRoute::Audited { reason, .. } => (site.image, Some(reason.as_audited())),
        ImageRoute::Kept { reason, .. } => (site.image, Some(reason.as_str())),
        ImageRoute::OnActive { .. } | ImageRoute::Untouched => (site.image, None),
    };
    let original = record.original_images.get(&name);
    let explained = original.is_some_and(|original| leads_to(original, now, routes));
    // It was sent here for a reason, which stands, whatever would become of it now.
    let sent_here = explained && now == site.image && original != Some(now);
    match route {
        _ if explained => {}
        ImageRoute::Rewritten { .. } => record.original_images.set(name.clone(), Cow::Borrowed(site.image)),
        _ => record.original_images.remove(&name),
    }
    match reason {
        Some(_) if sent_here && record.reasons.get(&name).is_some() => {}
        Some(reason) => record.reasons.set(name, Cow::Borrowed(reason)),
        None if !explained => record.reasons.remove(&name),
        None => {}
    }
    reason
}

fn opted_out(route: &ImageRoute<'_>) -> bool {
    matches!(route, ImageRoute::Kept { reason, .. } if reason.is_opt_out())
}

/// Whether `original` is what `image` was before it was re-pointed.
fn leads_to(original: &str, image: &str, routes: &PodRoutes<'_>) -> bool {
    original == image || matches!(routes.image(original, false), ImageRoute::Rewritten { image: to, .. } if to == image)
}

/// Whether one of the added secrets is there for an image of this mirror.
fn brings(mirror: &Route, added: &HashSet<&str>) -> bool {
    let named = |side: &Side| {
        let secrets = &mirror.policy.sides[*side].image_pull_secrets;
        secrets.iter().any(|name| added.contains(name.as_str()))
    };
    Side::ALL.iter().any(named)
}
