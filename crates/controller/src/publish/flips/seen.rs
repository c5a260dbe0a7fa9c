//! What the watch shows of flips that are stored together.

use std::sync::Arc;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt as _;
use kube::runtime::watcher::Event;

use super::{Flips, NAME, There};

/// The ConfigMap as the watch shows it.
#[derive(Debug, Default)]
pub(crate) struct SeenFlips {
    there: Option<There>,
    /// What a list in progress has shown.
    listing: Option<There>,
    listed: bool,
}

impl SeenFlips {
    /// Takes one event; whether what is there may have changed.
    pub fn take(&mut self, event: Event<ConfigMap>) -> bool {
        let is_this = |config_map: &ConfigMap| config_map.name_any() == NAME;
        match event {
            Event::Init => {
                self.listing = None;
                return false;
            }
            Event::InitApply(config_map) => {
                if is_this(&config_map) {
                    self.listing = Some(There::of(&config_map));
                }
                return false;
            }
            Event::InitDone => {
                self.there = self.listing.take();
                self.listed = true;
            }
            Event::Apply(config_map) if is_this(&config_map) => self.there = Some(There::of(&config_map)),
            Event::Delete(config_map) if is_this(&config_map) => self.there = None,
            Event::Apply(_) | Event::Delete(_) => return false,
        }
        true
    }

    /// What is there; none where there is no ConfigMap.
    pub fn there(&self) -> Option<&There> {
        self.there.as_ref()
    }

    /// Whether it was listed once.
    pub fn listed(&self) -> bool {
        self.listed
    }
}

impl There {
    pub(crate) fn flips(&self) -> &Arc<Flips> {
        &self.flips
    }
}
