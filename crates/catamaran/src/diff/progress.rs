//! A progress bar, where somebody looks at it.

use std::io::IsTerminal as _;

use indicatif::{ProgressBar, ProgressStyle};

/// Counts digests as they are read; silent on pipes.
pub struct Progress(Option<ProgressBar>);

impl Progress {
    /// A bar of `total` steps, unless `quiet` or nobody looks.
    pub fn new(quiet: bool, total: usize) -> Progress {
        if quiet || total == 0 || !std::io::stderr().is_terminal() {
            return Progress(None);
        }
        let style = ProgressStyle::with_template("{bar:30} {pos}/{len} digests, {eta} to go");
        let bar = ProgressBar::new(total as u64);
        Progress(Some(match style {
            Ok(style) => bar.with_style(style),
            Err(_) => bar,
        }))
    }

    /// One digest more.
    pub fn step(&self) {
        if let Some(bar) = &self.0 {
            bar.inc(1);
        }
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}
