//! Waits until the operator has followed a change or a request.

use std::io::IsTerminal as _;
use std::time::Duration;

use catamaran_api::mirror::RegistryMirror;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::{Instant, sleep};

use crate::cluster::Cluster;

/// Between two looks at the mirror.
const PAUSE: Duration = Duration::from_millis(500);

/// The mirror once `followed` holds of it, else as it was last seen; whether it does. A request that fails is made again. Meanwhile
/// `say` tells people how far it is.
pub async fn follow(
    cluster: &Cluster,
    mirror: RegistryMirror,
    timeout: Duration,
    followed: impl Fn(&RegistryMirror) -> bool,
    say: impl Fn(&RegistryMirror) -> String,
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
        progress.show(say(&latest));
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

    fn show(&self, message: String) {
        if let Some(bar) = &self.0 {
            bar.set_message(message);
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
