//! A progress bar, where somebody looks at it.

use std::io::IsTerminal as _;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// Says that tags are listed, then counts digests as they are read. Silent on pipes; taken away when dropped.
pub struct Progress(Option<ProgressBar>);

impl Progress {
    /// Begins with the listing, unless `quiet` or nobody looks.
    pub fn new(quiet: bool) -> Progress {
        if quiet || !std::io::stderr().is_terminal() {
            return Progress(None);
        }
        let style =
            ProgressStyle::with_template("{spinner} listing tags, {elapsed}").expect("the template is constant");
        let bar = ProgressBar::no_length().with_style(style);
        bar.enable_steady_tick(Duration::from_millis(100));
        Progress(Some(bar))
    }

    /// Goes on with so many digests.
    pub fn start(&self, total: usize) {
        if let Some(bar) = &self.0 {
            let style = ProgressStyle::with_template("{bar:30} {pos}/{len} digests, {eta} to go");
            bar.set_style(style.expect("the template is constant"));
            bar.set_length(total as u64);
        }
    }

    /// Goes on with the content of so many digests.
    pub fn start_inspecting(&self, total: usize) {
        if let Some(bar) = &self.0 {
            let style = ProgressStyle::with_template("{bar:30} {pos}/{len} inspected, {eta} to go");
            bar.set_style(style.expect("the template is constant"));
            bar.set_position(0);
            bar.set_length(total as u64);
        }
    }

    /// One digest more.
    pub fn step(&self) {
        if let Some(bar) = &self.0 {
            bar.inc(1);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}
