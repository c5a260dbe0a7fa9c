//! How much of the processors' time others have while tests run: what was measured meanwhile says nothing.
//!
//! Others are the host of a virtual machine, which keeps time from it (steal), and programs of this machine that are neither
//! part of the tests nor of their clusters. What has the idle scheduling class does not count: it yields to everything, and
//! `make test` compiles in it. Processes are looked at every two seconds, so those that live for less are seen in part.

use std::collections::{HashMap, VecDeque};
use std::fs;
use std::sync::{Mutex, MutexGuard, Once, PoisonError};
use std::time::{Duration, Instant};

/// Above this share of the processors' time within [`WINDOW`] the machine was busy with something else: 0 to 1.
pub const TOO_MUCH: f64 = 0.15;

/// The time over which a share is taken: a bar of seconds is missed by less than a whole scenario.
const WINDOW: Duration = Duration::from_secs(10);

/// From one look at all processes to the next.
const PAUSE: Duration = Duration::from_secs(2);

/// Looks that are remembered: two hours.
const REMEMBERED: usize = 3600;

/// `PF_KTHREAD`: threads of the kernel work for everybody.
const KERNEL: u64 = 0x0020_0000;

/// `SCHED_IDLE`.
const IDLE: u64 = 5;

static WATCHED: Mutex<Watched> = Mutex::new(Watched {
    looks: VecDeque::new(),
    clusters: Vec::new(),
});

struct Watched {
    looks: VecDeque<(Instant, Ticks)>,
    /// The first process of each cluster of the tests.
    clusters: Vec<u32>,
}

fn watched() -> MutexGuard<'static, Watched> {
    WATCHED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// From now on the machine is watched.
pub fn watch() {
    static STARTED: Once = Once::new();
    STARTED.call_once(|| {
        std::thread::spawn(|| {
            let (mut before, mut others) = (processes(), 0);
            loop {
                std::thread::sleep(PAUSE);
                let (now, clusters) = (processes(), watched().clusters.clone());
                let ours: Vec<u32> = clusters.into_iter().chain([std::process::id()]).collect();
                others += foreign(&before, &now, &ours);
                before = now;
                let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
                let ticks = Ticks {
                    others,
                    ..Ticks::of(&stat)
                };
                let mut watched = watched();
                watched.looks.push_back((Instant::now(), ticks));
                if watched.looks.len() > REMEMBERED {
                    watched.looks.pop_front();
                }
            }
        });
    });
}

/// The process and all that it starts belong to the tests, as this process does.
pub fn belongs(first: u32) {
    watched().clusters.push(first);
}

/// The largest share of the processors' time that others had within some ten seconds since then: 0 to 1. It is 0 for a machine
/// that is not watched.
pub fn taken(since: Instant) -> f64 {
    let watched = watched();
    // The look before: what is asked about may be shorter than the time between two.
    let from = watched.looks.partition_point(|(at, _)| *at < since).saturating_sub(1);
    let looks: Vec<_> = watched.looks.range(from..).copied().collect();
    most(&looks)
}

/// Waits until others leave the processors to the tests, at most for `patience`.
pub fn rest(patience: Duration) {
    let end = Instant::now() + patience;
    while Instant::now() < end {
        let begun = Instant::now();
        std::thread::sleep(WINDOW + PAUSE);
        if taken(begun) <= TOO_MUCH {
            return;
        }
    }
}

/// The largest share within a window; of all looks, where they take less than one.
fn most(looks: &[(Instant, Ticks)]) -> f64 {
    let end = |from: usize| (from..looks.len()).find(|to| looks[*to].0 - looks[from].0 >= WINDOW);
    let whole = looks.len().checked_sub(1).map(|last| (0, last));
    let windows = (0..looks.len()).map_while(|from| Some((from, end(from)?)));
    let shares = windows
        .chain(whole.filter(|_| end(0).is_none()))
        .map(|(from, to)| looks[from].1.share_until(looks[to].1));
    shares.fold(0.0, f64::max)
}

/// The processors' time since the machine started, in ticks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Ticks {
    all: u64,
    stolen: u64,
    others: u64,
}

impl Ticks {
    /// Reads the first line of `/proc/stat` (proc(5)): user, nice, system, idle, iowait, irq, softirq, steal; what guests
    /// have is within user and nice.
    fn of(stat: &str) -> Ticks {
        let first = stat.lines().next().unwrap_or_default();
        let ticks: Vec<u64> = first
            .split_whitespace()
            .skip(1)
            .take(8)
            .map_while(|ticks| ticks.parse().ok())
            .collect();
        Ticks {
            all: ticks.iter().sum(),
            stolen: ticks.get(7).copied().unwrap_or_default(),
            others: 0,
        }
    }

    /// The share of the time since then, up to `now`, that others had.
    #[allow(clippy::cast_precision_loss, reason = "a share needs no more than a few digits")]
    fn share_until(self, now: Ticks) -> f64 {
        let all = now.all.saturating_sub(self.all).max(1);
        let taken = now.stolen.saturating_sub(self.stolen) + now.others.saturating_sub(self.others);
        (taken as f64 / all as f64).min(1.0)
    }
}

/// A process at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Process {
    parent: u32,
    /// When it was started; two processes with one number differ in it.
    started: u64,
    /// What it has had of the processors.
    ticks: u64,
    /// What it does counts: it is neither the kernel's nor idle work.
    counts: bool,
}

impl Process {
    /// Reads `/proc/PID/stat` (proc(5)).
    fn of(stat: &str) -> Option<Process> {
        // Behind the name, which may hold anything, the state is the third field.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        Some(Process {
            parent: field(4)?.try_into().ok()?,
            started: field(22)?,
            ticks: field(14)? + field(15)?,
            counts: field(9)? & KERNEL == 0 && field(41)? != IDLE,
        })
    }
}

/// All that there are, by their numbers.
fn processes() -> HashMap<u32, Process> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let read = |entry: fs::DirEntry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        // One that has ended meanwhile has no file any more.
        let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
        Some((pid, Process::of(&stat)?))
    };
    entries.filter_map(read).collect()
}

/// The ticks that others had between two looks. Ours are these processes and all that they have started.
fn foreign(before: &HashMap<u32, Process>, now: &HashMap<u32, Process>, ours: &[u32]) -> u64 {
    let is_ours = |pid: u32| {
        // Bounded: the two ends of a link may be of different moments.
        let mut ancestors = std::iter::successors(Some(pid), |pid| Some(now.get(pid)?.parent)).take(64);
        ancestors.any(|pid| ours.contains(&pid))
    };
    let others = now.iter().filter(|(pid, process)| process.counts && !is_ours(**pid));
    let had = others.map(|(pid, process)| {
        let earlier = before.get(pid).filter(|earlier| earlier.started == process.started);
        process.ticks.saturating_sub(earlier.map_or(0, |earlier| earlier.ticks))
    });
    had.sum()
}

#[cfg(test)]
mod tests;
