//! Pods, and the templates of workloads, read once for commands: by the reader that rescue and the count of what is in use go by.

use catamaran_core::pod::{Owner, PodFacts};
use catamaran_core::rescue::ContainerKind;
use kube::api::ListParams;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use super::in_use::{NOT_OVER, PAGE, WORKLOADS, Workloads, pod_template};
use super::pages::{ListError, Listing};
use super::record::{PodRecord, Stage};
use super::wire::{WirePod, WireTemplate, WireWorkload};

/// A pod, or the pod that a workload makes of its template.
#[derive(Clone, Debug)]
pub struct Subject {
    /// `Pod`, or the kind of the workload.
    pub kind: &'static str,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The service account that the pod runs as.
    pub service_account: String,
    /// It makes no pods at present: scaled to zero, or suspended.
    pub is_idle: bool,
    record: PodRecord,
}

/// An image of a [`Subject`].
#[derive(Clone, Copy, Debug)]
pub struct SubjectImage<'s> {
    /// The container's name; `volume/` and the position for an image volume.
    pub container: &'s str,
    /// The image that is there.
    pub image: &'s str,
    /// The image that the pod was created with, where admission or rescue has changed it.
    pub original: Option<&'s str>,
    /// The pull policy is `Never`.
    pub pull_policy_never: bool,
    /// It is an ephemeral container, which no new pod has.
    pub is_ephemeral: bool,
}

/// What is listed.
#[derive(Clone, Copy)]
pub struct Collection {
    /// In the plural and in lower case, as `kubectl` names it.
    pub name: &'static str,
    path: &'static str,
    /// None: pods.
    workloads: Option<Workloads>,
}

/// All kinds of workloads, and then pods.
pub fn collections() -> impl Iterator<Item = Collection> {
    let of = |path: &'static str, workloads| Collection {
        name: path.rsplit('/').next().unwrap_or(path),
        path,
        workloads,
    };
    let pods = of("/api/v1/pods", None);
    WORKLOADS
        .into_iter()
        .map(move |workloads| of(workloads.path, Some(workloads)))
        .chain([pods])
}

impl Collection {
    /// Takes every object of the collection, in all namespaces or in one, page by page: pods that have ended, jobs that are
    /// complete and what is being deleted are left out.
    ///
    /// # Errors
    /// A [`ListError`] at the first page that could not be read; those before it were taken.
    pub async fn each(
        self,
        client: &kube::Client,
        namespace: Option<&str>,
        mut take: impl FnMut(Subject),
    ) -> Result<(), ListError> {
        let path = self.path_in(namespace);
        match self.workloads {
            None => {
                let params = ListParams::default().limit(PAGE).fields(NOT_OVER);
                let mut pods = Listing::<Subject>::new(client, &path, params);
                while let Some(page) = pods.next().await? {
                    page.into_iter().filter(|pod| !pod.is_over()).for_each(&mut take);
                }
            }
            Some(Workloads { kind, owner, .. }) => {
                let params = ListParams::default().limit(PAGE);
                let mut workloads = Listing::<WireWorkload>::new(client, &path, params);
                while let Some(page) = workloads.next().await? {
                    let subjects = page.into_iter().filter_map(|it| Subject::of_workload(it, kind, owner));
                    subjects.for_each(&mut take);
                }
            }
        }
        Ok(())
    }

    fn path_in(self, namespace: Option<&str>) -> String {
        let split = self.path.rsplit_once('/').zip(namespace);
        split.map_or_else(
            || self.path.to_owned(),
            |((api, plural), namespace)| format!("{api}/namespaces/{namespace}/{plural}"),
        )
    }
}

impl Subject {
    fn of_workload(workload: WireWorkload, kind: &'static str, owner: Owner<'_>) -> Option<Subject> {
        let namespace = workload.metadata.namespace.clone();
        let name = workload.metadata.name.as_deref().unwrap_or_default().to_owned();
        let is_idle = workload
            .spec
            .as_ref()
            .is_some_and(|spec| spec.replicas == Some(0) || spec.suspend == Some(true));
        let template: WireTemplate = pod_template(workload, owner)?;
        Some(Subject {
            kind,
            namespace: namespace.as_deref().unwrap_or_default().to_owned(),
            name,
            service_account: account(
                template
                    .spec
                    .as_ref()
                    .and_then(|spec| spec.service_account_name.as_deref()),
            ),
            is_idle,
            record: PodRecord::of_template(namespace, owner, template),
        })
    }

    /// Whether the pod has ended or is being deleted.
    pub fn is_over(&self) -> bool {
        self.record.stage == Stage::Over
    }

    /// The kubelet runs it from a file.
    pub fn is_static(&self) -> bool {
        self.record.is_static
    }

    /// A built-in controller makes it of a template.
    pub fn is_controlled(&self) -> bool {
        self.record.owner.as_ref().is_some_and(|owner| owner.is_controller)
    }

    /// The pod's labels in the form that [`Subject::facts`] takes.
    pub fn labels(&self) -> Vec<(&str, &str)> {
        self.record.labels()
    }

    /// What decides whether the pod is rewritten; `labels` are its own.
    pub fn facts<'a>(&'a self, labels: &'a [(&'a str, &'a str)]) -> PodFacts<'a> {
        self.record.facts(labels)
    }

    /// The images of all containers and image volumes.
    pub fn images(&self) -> impl Iterator<Item = SubjectImage<'_>> {
        let containers = self.record.containers.iter().map(|container| SubjectImage {
            container: &container.name,
            image: &container.image,
            original: container.original.as_deref(),
            pull_policy_never: container.never,
            is_ephemeral: container.kind == ContainerKind::Ephemeral,
        });
        let volumes = self.record.image_volumes.iter().map(|volume| SubjectImage {
            container: "image volume",
            image: &volume.image,
            original: volume.original.as_deref(),
            pull_policy_never: volume.never,
            is_ephemeral: false,
        });
        containers.chain(volumes)
    }

    /// The names of the pull secrets that it lists itself.
    pub fn pull_secrets(&self) -> impl Iterator<Item = &str> {
        self.record.pull_secrets.iter().map(|name| &**name)
    }
}

impl<'de> Deserialize<'de> for Subject {
    /// A pod.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Subject, D::Error> {
        let pod = WirePod::deserialize(deserializer)?;
        let service_account = account(pod.spec.as_ref().and_then(|spec| spec.service_account_name.as_deref()));
        let record = PodRecord::read(pod);
        if record.name.is_empty() {
            return Err(D::Error::custom("it has no name"));
        }
        Ok(Subject {
            kind: "Pod",
            namespace: record.namespace.to_string(),
            name: record.name.to_string(),
            service_account,
            is_idle: false,
            record,
        })
    }
}

/// The service account that a pod runs as where it names none.
fn account(named: Option<&str>) -> String {
    named.filter(|name| !name.is_empty()).unwrap_or("default").to_owned()
}

#[cfg(test)]
mod tests;
