//! `catamaran simulate --primary-down`: which workloads would start from the fallback, and what to do for those that would not.
//!
//! Reading order: `judge` asks the routing table about one image, with the primary unavailable; `secrets` looks whether pods have a pull
//! secret; `print` shows it. In memory is a line for each image of a workload, whatever the number of its pods.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::hash::{Hash as _, Hasher as _};
use std::process::ExitCode;

use anyhow::bail;
use catamaran_api::conditions::{self, find_condition};
use catamaran_controller::pods::once::{Subject, SubjectImage, collections};
use catamaran_core::routing::RouteTable;
use catamaran_core::side::Side;
use kube::ResourceExt as _;
use serde::Serialize;

use crate::cli::{Output, SimulateArguments};
use crate::cluster::{self, Cluster};
use crate::near;
use crate::view::{Unread, View};
use crate::{exit, output};

mod judge;
mod print;
mod secrets;

use secrets::{Pull, Secrets};

/// Whether a new pod could pull an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
enum Verdict {
    /// It could not.
    WouldNotStart,
    /// That can't be told.
    Unknown,
    /// It could.
    WouldStart,
}

/// An image of a workload.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
struct Finding {
    verdict: Verdict,
    namespace: String,
    kind: &'static str,
    name: String,
    container: String,
    image: String,
    /// The image that would be pulled.
    pulled_as: String,
    mirror: String,
    /// The workload makes no pods at present.
    idle: bool,
    reason: &'static str,
    why: String,
    what_to_do: String,
}

/// What is printed.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    would_start: usize,
    would_not_start: usize,
    unknown: usize,
    images: Vec<Finding>,
    warnings: Vec<String>,
    unread: Vec<Unread>,
}

/// Simulates, and says by the exit code whether all would start.
pub fn run(arguments: &SimulateArguments) -> anyhow::Result<ExitCode> {
    let document = cluster::block_on(simulate(arguments))?;
    match arguments.read.output {
        Output::Table => output::text(&print::text(&document))?,
        Output::Json => output::json(&document)?,
        Output::Yaml => output::yaml(&document)?,
    }
    let code = if document.would_not_start > 0 {
        exit::NOT_WELL
    } else if document.unknown > 0 || !document.unread.is_empty() {
        exit::COULD_NOT_TELL
    } else {
        exit::WELL
    };
    Ok(code.into())
}

async fn simulate(arguments: &SimulateArguments) -> anyhow::Result<Document> {
    let cluster = Cluster::find(&arguments.read.cluster).await?;
    let mut view = View::read(&cluster, &arguments.read.operator_namespace).await?;
    let mirrors = mirrors(&view, arguments.name.as_deref())?;
    match &arguments.namespace {
        Some(name) => {
            if !view.read_namespace(&cluster, name).await {
                bail!("there is no namespace '{name}'");
            }
        }
        None => view.read_namespaces(&cluster).await,
    }
    view.read_evidence(&cluster, &mirrors).await;
    // All mirrors stand in the table, so that each image belongs to the one that it belongs to.
    let concerns = |name: &str| mirrors.contains(name);
    let table = view
        .table()
        .with_outage(Side::Primary, |policy| concerns(&policy.id.name));
    let mut sweep = Sweep::new(&table, &mirrors);
    for collection in collections() {
        let namespace = arguments.namespace.as_deref();
        let listed = collection
            .each(&cluster.client, namespace, |subject| sweep.take(&subject))
            .await;
        if let Err(error) = listed {
            let what = namespace.map_or_else(
                || collection.name.to_owned(),
                |it| format!("{} in {it}", collection.name),
            );
            view.unread.push(Unread {
                what,
                why: error.to_string(),
            });
        }
    }
    let (mut images, unread) = sweep.with_secrets(&cluster).await;
    view.unread.extend(unread);
    images.sort();
    let count = |verdict: Verdict| images.iter().filter(|found| found.verdict == verdict).count();
    Ok(Document {
        would_start: count(Verdict::WouldStart),
        would_not_start: count(Verdict::WouldNotStart),
        unknown: count(Verdict::Unknown),
        warnings: warnings(&view, &mirrors),
        unread: std::mem::take(&mut view.unread),
        images,
    })
}

/// The names of the mirrors that are meant: all that are not suspended, or the one that was named.
fn mirrors(view: &View, name: Option<&str>) -> anyhow::Result<BTreeSet<String>> {
    let all = || view.mirrors.values().map(kube::ResourceExt::name_any);
    let active: BTreeSet<String> = view
        .table()
        .routes()
        .iter()
        .map(|it| it.policy.id.name.to_string())
        .collect();
    let Some(name) = name else {
        if active.is_empty() {
            bail!("there is no mirror that is valid and not suspended: nothing to simulate");
        }
        return Ok(active);
    };
    if active.contains(name) {
        return Ok(BTreeSet::from([name.to_owned()]));
    }
    let known: Vec<String> = all().collect();
    if !known.iter().any(|known| known == name) {
        let suggestion = near::suggestion(name, known.iter().map(String::as_str));
        bail!("there is no RegistryMirror '{name}'{suggestion}");
    }
    let suspended = view
        .mirrors
        .values()
        .any(|mirror| mirror.name_any() == name && mirror.spec.suspend);
    if suspended {
        bail!("mirror '{name}' is suspended, so it sends no pod anywhere: set spec.suspend to false first");
    }
    bail!("mirror '{name}' has an invalid spec: fix it first");
}

/// What the status says against the fallbacks.
fn warnings(view: &View, mirrors: &BTreeSet<String>) -> Vec<String> {
    let named = view
        .mirrors
        .values()
        .filter(|mirror| mirrors.contains(&mirror.name_any()));
    let bad = named.filter_map(|mirror| {
        let conditions = &mirror.status.as_ref()?.conditions;
        let found = find_condition(conditions, conditions::FALLBACK_AVAILABLE).filter(|it| it.status != "True")?;
        let (name, status, message) = (mirror.name_any(), &found.status, &found.message);
        Some(format!("FallbackAvailable of mirror '{name}' is {status}: {message}"))
    });
    bad.collect()
}

/// Everything that was found so far.
struct Sweep<'t> {
    table: &'t RouteTable,
    mirrors: &'t BTreeSet<String>,
    found: Vec<Finding>,
    /// Which of them need what to be pulled.
    pulls: BTreeMap<Pull, Vec<usize>>,
    /// Images of templates, by a hash: their pods need not be named again.
    of_templates: HashSet<u64>,
}

impl<'t> Sweep<'t> {
    fn new(table: &'t RouteTable, mirrors: &'t BTreeSet<String>) -> Sweep<'t> {
        Sweep {
            table,
            mirrors,
            found: Vec::new(),
            pulls: BTreeMap::new(),
            of_templates: HashSet::new(),
        }
    }

    fn take(&mut self, subject: &Subject) {
        for image in subject.images().filter(|image| !image.is_ephemeral) {
            let asked = image.original.unwrap_or(image.image);
            let key = key(subject, &image, asked);
            let is_pod = subject.kind == "Pod";
            if is_pod && subject.is_controlled() && self.of_templates.contains(&key) {
                continue;
            }
            let never = image.pull_policy_never;
            let Some((finding, pull)) = judge::judge(subject, image.container, asked, never, self.table, Side::Primary)
            else {
                continue;
            };
            if !self.mirrors.contains(&finding.mirror) {
                continue;
            }
            if !is_pod {
                self.of_templates.insert(key);
            }
            if let Some(pull) = pull {
                self.pulls.entry(pull).or_default().push(self.found.len());
            }
            self.found.push(finding);
        }
    }

    /// What is found once pull secrets were looked for, and what could not be read of them.
    async fn with_secrets(mut self, cluster: &Cluster) -> (Vec<Finding>, Vec<Unread>) {
        let mut secrets = Secrets::of(cluster);
        for (pull, places) in &self.pulls {
            let Some((verdict, reason, why, what_to_do)) = secrets.problem(pull).await else {
                continue;
            };
            for place in places {
                let Some(finding) = self.found.get_mut(*place).filter(|found| verdict < found.verdict) else {
                    continue;
                };
                finding.verdict = verdict;
                finding.reason = reason;
                finding.why.clone_from(&why);
                finding.what_to_do.clone_from(&what_to_do);
            }
        }
        (self.found, secrets.unread())
    }
}

/// What tells an image of a workload from others.
fn key(subject: &Subject, image: &SubjectImage<'_>, asked: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    (
        &subject.namespace,
        &subject.service_account,
        image.container,
        asked,
        image.pull_policy_never,
    )
        .hash(&mut hasher);
    hasher.finish()
}
