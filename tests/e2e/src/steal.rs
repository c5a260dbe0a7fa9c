//! How much of the processors a host keeps from the machine that it lends: what was measured meanwhile says nothing.

/// The processors' time since the machine started, in ticks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ticks {
    all: u64,
    stolen: u64,
}

impl Ticks {
    /// Those of now; none where the kernel doesn't count them.
    pub fn now() -> Ticks {
        let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
        Self::of(&stat)
    }

    /// Reads the first line of `/proc/stat` (proc(5)): user, nice, system, idle, iowait, irq, softirq, steal; what guests
    /// have is within user and nice.
    pub(crate) fn of(stat: &str) -> Ticks {
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
        }
    }

    /// The share of the time since then, up to `now`, that was wanted and not had: 0 to 1.
    #[allow(clippy::cast_precision_loss, reason = "a share needs no more than a few digits")]
    pub fn stolen_until(self, now: Ticks) -> f64 {
        let all = now.all.saturating_sub(self.all).max(1);
        now.stolen.saturating_sub(self.stolen) as f64 / all as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_is_that_of_the_time_between() {
        let before = Ticks::of("cpu  100 20 30 800 10 0 5 35 7 0\ncpu0 1 1 1 1 1 1 1 1 0 0\n");
        let after = Ticks::of("cpu  150 20 30 820 10 0 5 65 9 0\n");
        assert!((before.stolen_until(after) - 0.3).abs() < 1e-9);
    }

    #[test]
    fn a_kernel_that_does_not_count_has_stolen_nothing() {
        for stat in ["", "cpu", "cpu  100 20 30 800", "cpu  1 2 x", "garbage"] {
            let ticks = Ticks::of(stat);
            assert_eq!(ticks.stolen, 0, "{stat}");
            assert!(Ticks::default().stolen_until(ticks).abs() < 1e-9, "{stat}");
        }
        assert!(Ticks::now().all > 0);
    }
}
