//! Waits until the operator has followed a change.

use std::io::IsTerminal as _;
use std::time::Duration;

use catamaran_api::mirror::RegistryMirror;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::{Instant, sleep};

use crate::cluster::Cluster;

/// Between two looks at the mirror.
const PAUSE: Duration = Duration::from_millis(500);

/// The mirror once `followed` holds of it, else as it was last seen; whether it does. A request that fails is made again.
pub async fn follow(
    cluster: &Cluster,
    mirror: RegistryMirror,
    timeout: Duration,
    followed: impl Fn(&RegistryMirror) -> bool,
) -> anyhow::Result<(RegistryMirror, bool)> {
    let name = mirror.metadata.name.clone().unwrap_or_default();
    let end = Instant::now() + timeout;
    let progress = Waiting::new();
    let mut latest = mirror;
    loop {
        if followed(&latest) {
            return Ok((latest, true));
        }
        if Instant::now() >= end {
            return Ok((latest, false));
        }
        sleep(PAUSE.min(end.saturating_duration_since(Instant::now()))).await;
        match cluster.mirror(&name).await {
            Ok(read) => latest = read,
            // The last attempt's failure is what there is to report.
            Err(error) if Instant::now() >= end => return Err(error),
            Err(_) => {}
        }
        progress.show(&latest);
    }
}

/// A line that moves, where somebody looks at it.
struct Waiting(Option<ProgressBar>);

impl Waiting {
    fn new() -> Waiting {
        Waiting(std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{spinner} waiting for the operator, {elapsed}: {msg}");
            let bar = ProgressBar::no_length().with_style(style.expect("the template is constant"));
            bar.enable_steady_tick(Duration::from_millis(100));
            bar
        }))
    }

    fn show(&self, mirror: &RegistryMirror) {
        if let Some(bar) = &self.0 {
            let active = mirror.status.as_ref().and_then(|status| status.active);
            let active = active.map_or_else(|| "not observed yet".to_owned(), |side| format!("{side} is active"));
            bar.set_message(active);
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}
