//! How much of the machine others have: a clock on the wall says little where that is much.

use std::fs;

/// The share of the processors from which on a bar in milliseconds means nothing.
pub const TOO_MUCH: f64 = 0.15;

/// The processors' time so far, and of it that of some processes, in ticks.
pub struct Others {
    processes: Vec<u32>,
    total: u64,
    busy: u64,
    own: u64,
}

impl Others {
    /// Begins to count whatever is not done by these processes.
    pub fn than(processes: Vec<u32>) -> Others {
        let (total, busy) = machine();
        let own = processes.iter().map(|process| ticks(*process)).sum();
        Others {
            processes,
            total,
            busy,
            own,
        }
    }

    /// The share of the processors that others have had since then, and the host.
    pub fn share(&self) -> f64 {
        let now = Others::than(self.processes.clone());
        let busy = (now.busy - self.busy).saturating_sub(now.own - self.own);
        busy as f64 / (now.total - self.total).max(1) as f64
    }
}

fn machine() -> (u64, u64) {
    let all = fs::read_to_string("/proc/stat").unwrap_or_default();
    let first = all.lines().next().unwrap_or_default().split_whitespace().skip(1);
    let ticks: Vec<u64> = first.take(8).filter_map(|number| number.parse().ok()).collect();
    let total = ticks.iter().sum();
    let idle: u64 = ticks.iter().skip(3).take(2).sum();
    (total, total - idle)
}

fn ticks(process: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    // The name of the program may hold anything, and ends with the last parenthesis.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let used = fields.skip(11).take(2);
    used.filter_map(|number| number.parse::<u64>().ok()).sum()
}
