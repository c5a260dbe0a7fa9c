//! Ctrl-C, SIGTERM and a terminal that is closed: the clusters are taken down before the process ends.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use catamaran_cluster::Cluster;

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// From now on, an interrupt destroys the clusters of these names and ends the process with status 130.
pub fn destroys(names: Vec<String>) {
    std::thread::spawn(move || {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_io().build() else {
            return;
        };
        if runtime.block_on(interrupt()).is_err() {
            return;
        }
        INTERRUPTED.store(true, Ordering::SeqCst);
        eprintln!("\ninterrupted: taking down what was started");
        let mut status = 130;
        for name in names {
            // Not while it comes up: this waits for that, by the cluster's own lock.
            if let Err(error) = Cluster::destroy(&name) {
                eprintln!("{error:#}");
                status = 1;
            }
        }
        std::process::exit(status);
    });
}

async fn interrupt() -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    tokio::select! {
        result = tokio::signal::ctrl_c() => result,
        _ = terminate.recv() => Ok(()),
        _ = hangup.recv() => Ok(()),
    }
}

/// Called where something failed: if that is because of an interrupt, it does not return, and the process ends in peace.
pub fn rest_if_interrupted() {
    // The children of the terminal's process group hear the signal as soon as we do.
    std::thread::sleep(Duration::from_millis(200));
    while INTERRUPTED.load(Ordering::SeqCst) {
        std::thread::park();
    }
}
