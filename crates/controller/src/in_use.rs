//! Which images pods use: one paged list per pass, and no cache of all pods.

use std::collections::{BTreeMap, BTreeSet};

use catamaran_api::annotations;
use catamaran_core::policy::MirrorPolicy;
use catamaran_core::reference::Reference;
use catamaran_core::side::Side;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams};

/// Pods per page: a page is what is in memory at a time.
const PAGE: u32 = 250;

/// What the pods of the cluster use of one mirror.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InUse {
    /// Tags that pods refer to, by repository.
    pub tags: BTreeMap<String, BTreeSet<String>>,
    /// Tags and digests that pods will ask the primary for when they are made again: those their owners wrote for it.
    pub needed_on_primary: BTreeMap<String, BTreeSet<String>>,
    /// Pods with at least one image on the fallback.
    pub pods_on_fallback: u32,
}

impl InUse {
    /// Adds what one pod uses.
    pub fn add(&mut self, policy: &MirrorPolicy, pod: &Pod) {
        let originals = originals(pod);
        let mut on_fallback = false;
        for (name, image) in images(pod) {
            let Ok(reference) = Reference::parse(&image) else {
                continue;
            };
            let Some(location) = policy.locate(&reference) else {
                continue;
            };
            on_fallback |= location.side == Side::Fallback;
            let repository = location.repository.to_string();
            if let Some(tag) = reference.effective_tag() {
                self.tags.entry(repository.clone()).or_default().insert(tag.to_owned());
            }
            // Its owner's template still says what was written there; that is what the next pod asks for.
            let original = originals
                .get(&name)
                .and_then(|original| Reference::parse(original).ok());
            let written_for = original
                .as_ref()
                .and_then(|original| policy.locate(original))
                .map(|place| place.side);
            if written_for.unwrap_or(location.side) == Side::Primary
                && let Some(wanted) = reference.digest().or(reference.effective_tag())
            {
                self.needed_on_primary
                    .entry(repository)
                    .or_default()
                    .insert(wanted.to_owned());
            }
        }
        self.pods_on_fallback += u32::from(on_fallback);
    }
}

/// What the original images were, by container name, from what the webhook and the rescue noted on the pod.
fn originals(pod: &Pod) -> BTreeMap<String, String> {
    let noted = |key: &str| {
        let text = pod.metadata.annotations.as_ref()?.get(key)?;
        serde_json::from_str::<BTreeMap<String, String>>(text).ok()
    };
    let mut originals = noted(annotations::RESCUED).unwrap_or_default();
    // What admission saw comes before what the rescue saw.
    originals.extend(noted(annotations::ORIGINAL_IMAGES).unwrap_or_default());
    originals
}

/// Every image of a pod, with the name under which it is noted in annotations.
pub fn images(pod: &Pod) -> Vec<(String, String)> {
    let Some(spec) = &pod.spec else { return Vec::new() };
    let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let containers = containers.filter_map(|container| Some((container.name.clone(), container.image.clone()?)));
    let ephemeral = spec.ephemeral_containers.iter().flatten();
    let ephemeral = ephemeral.filter_map(|container| Some((container.name.clone(), container.image.clone()?)));
    let volumes = spec.volumes.iter().flatten().filter_map(|volume| {
        let reference = volume.image.as_ref()?.reference.clone()?;
        Some((format!("volume/{}", volume.name), reference))
    });
    containers.chain(ephemeral).chain(volumes).collect()
}

/// Lists all pods once, a page at a time, and keeps what they use of this mirror.
pub async fn list(client: &kube::Client, policy: &MirrorPolicy) -> Result<InUse, kube::Error> {
    let pods: Api<Pod> = Api::all(client.clone());
    let mut in_use = InUse::default();
    let mut page = ListParams::default().limit(PAGE);
    loop {
        let listed = pods.list(&page).await?;
        let running = listed.items.iter().filter(|pod| !finished(pod));
        running.for_each(|pod| in_use.add(policy, pod));
        match listed.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => page = page.continue_token(&token),
            None => return Ok(in_use),
        }
    }
}

fn finished(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed")) || pod.metadata.deletion_timestamp.is_some()
}
