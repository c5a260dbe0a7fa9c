//! What the kernel knows of this process's threads, by the name of their runtime.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use tokio::runtime::Runtime;

/// A runtime whose threads bear this name.
pub fn runtime(name: &str, threads: usize) -> Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .thread_name(name)
        .enable_all()
        .build()
        .expect("a runtime starts")
}

fn named(name: &str) -> Vec<PathBuf> {
    let threads = std::fs::read_dir("/proc/self/task").expect("a process has threads");
    let is_named = |thread: &PathBuf| {
        let name_of = std::fs::read_to_string(thread.join("comm")).unwrap_or_default();
        name_of.trim_end() == name
    };
    threads.flatten().map(|thread| thread.path()).filter(is_named).collect()
}

/// The processor time of these threads so far, by the scheduler's nanosecond account.
pub fn cpu(name: &str) -> Duration {
    let nanoseconds = named(name).into_iter().map(|thread| {
        let statistics = std::fs::read_to_string(thread.join("schedstat")).unwrap_or_default();
        statistics
            .split(' ')
            .next()
            .and_then(|first| first.parse::<u64>().ok())
            .unwrap_or_default()
    });
    Duration::from_nanos(nanoseconds.sum())
}

/// Moves these threads to one core.
pub fn pin(name: &str, core: usize) {
    for thread in named(name) {
        let thread = thread.file_name().unwrap_or_default().to_string_lossy().into_owned();
        move_to(core, &["-c", "-p"], &thread);
    }
}

/// Moves all threads of this process to one core.
pub fn pin_process(core: usize) {
    move_to(core, &["-a", "-c", "-p"], &std::process::id().to_string());
}

fn move_to(core: usize, how: &[&str], thread: &str) {
    let moved = Command::new("taskset")
        .args(how)
        .args([&core.to_string(), thread])
        .stdout(Stdio::null())
        .status();
    assert!(
        moved.is_ok_and(|status| status.success()),
        "this needs two cores and taskset"
    );
}
