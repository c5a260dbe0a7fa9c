//! What a person may see of mirrors: spec, status, evidence and namespaces, decoded as the operator decodes them.
//!
//! What can't be read is named in [`View::unread`], and the rest is shown without it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use catamaran_api::annotations;
use catamaran_api::mirror::RegistryMirror;
use catamaran_controller::publish::Mirror;
use catamaran_controller::publish::once::{self, ReadEvidence};
use catamaran_core::routing::{Route, RouteTable};
use catamaran_core::selector::Labels;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::api::{Api, ListParams};
use kube::{Resource, ResourceExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::cluster::{self, Cluster};

/// Objects in a page. Those of evidence are up to 1 MB each.
const PAGE: u32 = 100;
/// The argument of `run` that names a namespace whose pods are left alone.
const EXCLUDED: &str = "--excluded-namespace";
/// The Deployment of the chart, whatever the release is called.
const OPERATOR: &str = "app.kubernetes.io/name=catamaran";

/// Something that could not be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Unread {
    /// What, with its namespace: `configmaps in catamaran-system`.
    pub what: String,
    /// Why, in the API server's words.
    pub why: String,
}

/// What was read of a cluster.
pub struct View {
    /// The mirrors that could be decoded, by UID.
    pub mirrors: BTreeMap<String, RegistryMirror>,
    /// Their evidence, as far as it was read, by UID.
    pub evidence: BTreeMap<String, ReadEvidence>,
    /// What could not be read.
    pub unread: Vec<Unread>,
    /// The labels of the namespaces that were read.
    pub namespaces: Arc<BTreeMap<String, Labels>>,
    routes: Vec<Route>,
    excluded: Arc<BTreeSet<String>>,
    operator: String,
}

impl View {
    /// Reads the mirrors, and how the operator in the namespace `operator` was started. Evidence and namespaces are read after.
    ///
    /// # Errors
    /// When the mirrors can't be read: nothing can be said without them.
    pub async fn read(cluster: &Cluster, operator: &str) -> anyhow::Result<View> {
        let api: Api<Mirror> = Api::all(cluster.client.clone());
        let mut view = View {
            mirrors: BTreeMap::new(),
            evidence: BTreeMap::new(),
            unread: Vec::new(),
            namespaces: Arc::default(),
            routes: Vec::new(),
            excluded: Arc::default(),
            operator: operator.to_owned(),
        };
        let listed = each(&api, ListParams::default(), |mirror: Mirror| view.add(&mirror)).await;
        listed.map_err(|error| cluster::explain(&error, &cluster.server))?;
        view.read_exclusions(cluster).await;
        Ok(view)
    }

    fn add(&mut self, mirror: &Mirror) {
        let refused = |why: String| Unread {
            what: format!("the spec of mirror '{}'", mirror.name_any()),
            why: format!("{why}. The operator keeps to the last valid one, which is not shown here"),
        };
        let decoded = match mirror.decoded() {
            Ok(decoded) => decoded,
            Err(error) => return self.unread.push(refused(error.to_owned())),
        };
        match once::route(decoded, &Arc::default(), Timestamp::now()) {
            Ok(route) => self.routes.push(route),
            Err(error) => self.unread.push(refused(error.to_string())),
        }
        self.mirrors.insert(decoded.uid().unwrap_or_default(), decoded.clone());
    }

    /// The namespaces whose pods the operator leaves alone.
    async fn read_exclusions(&mut self, cluster: &Cluster) {
        let api: Api<Deployment> = Api::namespaced(cluster.client.clone(), &self.operator);
        let mut excluded = BTreeSet::from([self.operator.clone()]);
        let mut found = false;
        let listed = each(&api, ListParams::default().labels(OPERATOR), |deployment| {
            found = true;
            excluded.extend(excluded_namespaces(&deployment));
        });
        let why = match listed.await {
            Ok(()) if found => None,
            Ok(()) => Some("there is none; name the operator's namespace by --operator-namespace".to_owned()),
            Err(error) => Some(cluster::reason(&error, &cluster.server)),
        };
        self.excluded = Arc::new(excluded);
        self.unread.extend(why.map(|why| Unread {
            what: format!(
                "the operator's deployments in {} (which namespaces are excluded)",
                self.operator
            ),
            why,
        }));
    }

    /// Reads the labels of a namespace; whether there is such a namespace, as far as can be seen.
    pub async fn read_namespace(&mut self, cluster: &Cluster, name: &str) -> bool {
        let api: Api<Namespace> = Api::all(cluster.client.clone());
        match api.get_metadata_opt(name).await {
            Ok(Some(namespace)) => {
                let labels = namespace.metadata.labels.unwrap_or_default();
                Arc::make_mut(&mut self.namespaces).insert(name.to_owned(), labels);
                true
            }
            Ok(None) => false,
            Err(error) => {
                self.unread.push(Unread {
                    what: format!("namespace '{name}' (its labels; it is taken to have none)"),
                    why: cluster::reason(&error, &cluster.server),
                });
                true
            }
        }
    }

    /// Reads the labels of all namespaces.
    pub async fn read_namespaces(&mut self, cluster: &Cluster) {
        let api: Api<Namespace> = Api::all(cluster.client.clone());
        let mut labels = BTreeMap::new();
        let listed = each(&api, ListParams::default(), |namespace: Namespace| {
            labels.insert(namespace.name_any(), namespace.metadata.labels.unwrap_or_default());
        });
        if let Err(error) = listed.await {
            labels.clear();
            self.unread.push(Unread {
                what: "namespaces (their labels; they are taken to have none)".to_owned(),
                why: cluster::reason(&error, &cluster.server),
            });
        }
        self.namespaces = Arc::new(labels);
    }

    /// Reads the evidence of these mirrors.
    pub async fn read_evidence(&mut self, cluster: &Cluster, mirrors: &BTreeSet<String>) {
        let api: Api<ConfigMap> = Api::namespaced(cluster.client.clone(), &self.operator);
        if !mirrors.is_empty() {
            self.read_flips(&api, cluster).await;
        }
        for name in mirrors {
            let params = ListParams::default().labels(&format!("{}={name}", annotations::EVIDENCE));
            let mut config_maps = Vec::new();
            if let Err(error) = each(&api, params, |config_map| config_maps.push(config_map)).await {
                self.unread.push(Unread {
                    what: format!("configmaps in {} (the evidence of mirror '{name}')", self.operator),
                    why: cluster::reason(&error, &cluster.server),
                });
                continue;
            }
            self.take_evidence(name, &config_maps);
        }
    }

    /// Reads the flips that are stored together, ahead of the statuses that will say them.
    async fn read_flips(&mut self, api: &Api<ConfigMap>, cluster: &Cluster) {
        let labelled = ListParams::default().labels(annotations::FLIPS);
        let routes = &mut self.routes;
        let read = each(api, labelled, |config_map| once::flip(routes.iter_mut(), &config_map)).await;
        if let Err(error) = read {
            self.unread.push(Unread {
                what: format!("configmaps in {} (flips that no status says yet)", self.operator),
                why: cluster::reason(&error, &cluster.server),
            });
        }
    }

    fn take_evidence(&mut self, mirror: &str, config_maps: &[ConfigMap]) {
        for (uid, read) in once::evidence(config_maps) {
            let (there, wanted) = read.groups;
            let why = read.damaged.iter().cloned();
            let missing = (there < wanted).then(|| format!("only {there} of {wanted} parts are there"));
            self.unread.extend(why.chain(missing).map(|why| Unread {
                what: format!("a part of the evidence of mirror '{mirror}'"),
                why,
            }));
            for route in self.routes.iter_mut().filter(|route| *route.policy.id.uid == *uid) {
                route.evidence = Arc::clone(&read.evidence);
            }
            self.evidence.insert(uid, read);
        }
    }

    /// The routes, as every replica would have them.
    pub fn table(&self) -> RouteTable {
        let (namespaces, excluded) = (Arc::clone(&self.namespaces), Arc::clone(&self.excluded));
        RouteTable::new(self.routes.clone(), namespaces, excluded)
    }

    /// The routes of suspended mirrors alone, as if they were not.
    pub fn suspended(&self) -> RouteTable {
        let suspended = self.routes.iter().filter(|route| route.policy.suspended);
        let resumed = suspended.map(|route| {
            let mut policy = (*route.policy).clone();
            policy.suspended = false;
            Route {
                policy: Arc::new(policy),
                ..route.clone()
            }
        });
        let (namespaces, excluded) = (Arc::clone(&self.namespaces), Arc::clone(&self.excluded));
        RouteTable::new(resumed.collect(), namespaces, excluded)
    }
}

/// Takes every object of a collection, page by page.
pub async fn each<K>(api: &Api<K>, params: ListParams, mut take: impl FnMut(K)) -> Result<(), kube::Error>
where
    K: Resource + Clone + DeserializeOwned + std::fmt::Debug,
{
    let mut params = params.limit(PAGE);
    loop {
        let page = api.list(&params).await?;
        page.items.into_iter().for_each(&mut take);
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params.continue_token = Some(token),
            None => return Ok(()),
        }
    }
}

/// The namespaces that the arguments of an operator's Deployment exclude.
fn excluded_namespaces(deployment: &Deployment) -> Vec<String> {
    let spec = deployment.spec.as_ref().and_then(|spec| spec.template.spec.as_ref());
    let containers = spec.map(|spec| spec.containers.as_slice()).unwrap_or_default();
    let mut found = Vec::new();
    for container in containers {
        let mut arguments = container
            .command
            .iter()
            .flatten()
            .chain(container.args.iter().flatten());
        while let Some(argument) = arguments.next() {
            match argument.strip_prefix(EXCLUDED) {
                Some("") => found.extend(arguments.next().cloned()),
                Some(value) => found.extend(value.strip_prefix('=').map(str::to_owned)),
                None => {}
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn exclusions_are_read_in_both_spellings() {
        let deployment: Deployment = serde_json::from_value(json!({
            "metadata": {"name": "catamaran"},
            "spec": {"selector": {}, "template": {"spec": {"containers": [
                {"name": "proxy", "args": ["--excluded-namespaces=none"]},
                {"name": "catamaran", "args": ["run", "--excluded-namespace=a", "--excluded-namespace", "b", "--log-level=info"]},
            ]}}},
        }))
        .unwrap();
        assert_eq!(excluded_namespaces(&deployment), ["a", "b"]);
        assert!(excluded_namespaces(&Deployment::default()).is_empty());
    }
}
