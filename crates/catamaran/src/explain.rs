//! `catamaran explain`: where an image goes, by which rule, and what that rule went by.
//!
//! Reading order: `target` is what was asked for; the rules are walked by `catamaran-core`, over the routes that [`crate::view`]
//! reads; `document` is the result as data, `print` shows it.

use std::collections::BTreeSet;
use std::process::ExitCode;

use anyhow::{Context as _, anyhow, bail};
use catamaran_controller::pods::once::Subject;
use catamaran_core::pod::PodFacts;
use catamaran_core::reference::{Reference, same_registry};
use catamaran_core::routing::RouteTable;
use catamaran_core::routing::explain::{Candidate, Explanation};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::api::Api;

use crate::cli::{ExplainArguments, Output};
use crate::cluster::{self, Cluster};
use crate::near;
use crate::view::View;
use crate::{exit, output};

mod document;
pub mod print;
mod target;

use document::{Document, Explained};
use target::Target;

/// The most names that are shown.
const MOST_SHOWN: usize = 10;

/// Explains what was asked for.
pub fn run(arguments: &ExplainArguments) -> anyhow::Result<ExitCode> {
    let target = target::parse(&arguments.target)?;
    let document = cluster::block_on(explain(arguments, &target))?;
    match arguments.read.output {
        Output::Table => output::text(&print::text(&document, Timestamp::now()))?,
        Output::Json => output::json(&document)?,
        Output::Yaml => output::yaml(&document)?,
    }
    let code = if document.unread.is_empty() {
        exit::WELL
    } else {
        exit::COULD_NOT_TELL
    };
    Ok(code.into())
}

async fn explain(arguments: &ExplainArguments, target: &Target) -> anyhow::Result<Document> {
    let cluster = Cluster::find(&arguments.read.cluster).await?;
    let namespace = arguments.namespace.as_ref().unwrap_or(&cluster.namespace);
    let mut view = View::read(&cluster, &arguments.read.operator_namespace).await?;
    if !view.read_namespace(&cluster, namespace).await {
        let api: Api<Namespace> = Api::all(cluster.client.clone());
        bail!(
            "there is no namespace '{namespace}'{}",
            suggest(namespace, &cluster::names(&api).await)
        );
    }
    let subject = match target {
        Target::Image(_) => None,
        Target::Pod(name) => Some(pod(&cluster, namespace, name).await?),
    };
    let asked = asked(target, subject.as_ref());
    let table = view.table();
    let images = asked.iter().flat_map(|asked| table.candidates(asked.image, namespace));
    let mirrors: BTreeSet<String> = images.map(|it| it.policy.id.name.to_string()).collect();
    view.read_evidence(&cluster, &mirrors).await;
    let table = view.table();
    let images = asked
        .iter()
        .map(|asked| asked.explain(&table, &view, subject.as_ref(), namespace));
    Ok(Document {
        namespace: namespace.clone(),
        pod: subject.as_ref().map(|pod| pod.name.clone()),
        images: images.collect(),
        unread: std::mem::take(&mut view.unread),
    })
}

/// An image to explain.
struct Asked<'a> {
    container: Option<&'a str>,
    image: &'a str,
    /// The image that the pod has now.
    present: &'a str,
    pull_policy_never: bool,
}

/// The image that was typed, or those of the pod as it was created: that is what admission was asked about.
fn asked<'a>(target: &'a Target, subject: Option<&'a Subject>) -> Vec<Asked<'a>> {
    let typed = match target {
        Target::Image(image) => Some(Asked {
            container: None,
            image,
            present: image,
            pull_policy_never: false,
        }),
        Target::Pod(_) => None,
    };
    let of_pod = subject.into_iter().flat_map(Subject::images).map(|it| Asked {
        container: Some(it.container),
        image: it.original.unwrap_or(it.image),
        present: it.image,
        pull_policy_never: it.pull_policy_never,
    });
    typed.into_iter().chain(of_pod).collect()
}

impl Asked<'_> {
    fn explain(&self, table: &RouteTable, view: &View, pod: Option<&Subject>, namespace: &str) -> Explained {
        let labels = pod.map(Subject::labels).unwrap_or_default();
        let plain = PodFacts {
            namespace,
            ..PodFacts::default()
        };
        let facts = pod.map_or(plain, |pod| pod.facts(&labels));
        let explanation = table.pod(&facts).explain(self.image, self.pull_policy_never);
        let mut explained = document::explained(self.container, self.image, &explanation, view);
        explained.now = (self.present != self.image).then(|| self.present.to_owned());
        explained.notes = self.notes(table, view, namespace, &explanation);
        explained
    }

    /// Which other mirrors have the image, and which would if they could.
    fn notes(&self, table: &RouteTable, view: &View, namespace: &str, explanation: &Explanation<'_>) -> Vec<String> {
        let owner = explanation.route.route().map(|route| &route.policy.id);
        let candidates = table.candidates(self.image, namespace);
        let others = candidates.iter().filter(|it| Some(&it.policy.id) != owner);
        let mut notes: Vec<String> = others.map(|other| note(other, owner.is_some(), namespace)).collect();
        let suspended = view.suspended();
        for candidate in suspended.candidates(self.image, namespace) {
            let name = &candidate.policy.id.name;
            notes.push(format!(
                "mirror '{name}' has this image but is suspended (spec.suspend)"
            ));
        }
        if owner.is_none() && notes.is_empty() {
            notes.push(self.known_names(table));
        }
        notes
    }

    /// What there is instead, for an image of no mirror.
    fn known_names(&self, table: &RouteTable) -> String {
        let reference = match Reference::parse(self.image) {
            Ok(reference) => reference,
            Err(error) => return error.to_string(),
        };
        let registry = reference.registry();
        let sides = table.routes().iter().map(|route| &route.policy.sides);
        let sides: Vec<_> = sides.flat_map(|sides| [&sides.primary, &sides.fallback]).collect();
        let quoted = |names: BTreeSet<String>| {
            let names: Vec<String> = names.iter().take(MOST_SHOWN).map(|name| format!("'{name}'")).collect();
            names.join(", ")
        };
        if sides.is_empty() {
            return "there is no mirror that is not suspended".to_owned();
        }
        let same = sides.iter().filter(|side| same_registry(&side.registry, registry));
        let same: BTreeSet<String> = same.map(|side| side.name()).collect();
        if same.is_empty() {
            let registries = sides.iter().map(|side| side.registry.as_str());
            let suggested = near::suggestion(registry, registries.clone());
            let all = quoted(registries.map(str::to_owned).collect());
            return format!("no mirror is of registry '{registry}', only of {all}{suggested}");
        }
        format!(
            "the mirrors of {} do not have repository '{}'",
            quoted(same),
            reference.repository()
        )
    }
}

/// Why another mirror does not have the image.
fn note(other: &Candidate<'_>, has_owner: bool, namespace: &str) -> String {
    let name = &other.policy.id.name;
    if !other.selects_namespace {
        format!("mirror '{name}' has this image, but its namespaceSelector does not select namespace '{namespace}'")
    } else if has_owner {
        format!(
            "mirror '{name}' has this image too; the mirror that names the repository more closely, or is older, comes first"
        )
    } else {
        format!("mirror '{name}' has this image")
    }
}

/// The pod, as the operator reads it.
async fn pod(cluster: &Cluster, namespace: &str, name: &str) -> anyhow::Result<Subject> {
    let path = format!("/api/v1/namespaces/{namespace}/pods");
    let request = kube::core::Request::new(path).get(name, &kube::api::GetParams::default());
    let request = request.context("failed to ask for the pod")?;
    match cluster.client.request(request).await {
        Ok(pod) => Ok(pod),
        Err(kube::Error::Api(status)) if status.code == 404 => {
            let api: Api<Pod> = Api::namespaced(cluster.client.clone(), namespace);
            Err(anyhow!(
                "there is no pod '{name}' in namespace '{namespace}'{}",
                suggest(name, &cluster::names(&api).await)
            ))
        }
        Err(error) => Err(anyhow!(
            "can't read pod '{name}' in namespace '{namespace}': {}",
            cluster::reason(&error, &cluster.server)
        )),
    }
}

fn suggest(typed: &str, names: &[String]) -> String {
    near::suggestion(typed, names.iter().map(String::as_str))
}
