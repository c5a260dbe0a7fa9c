//! What the demo prints: a line per step with the time since the start and how long the step took.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

/// Prints steps, and remembers them for the summary.
#[derive(Debug)]
pub struct Timeline {
    start: Instant,
    colour: bool,
    measured: Vec<(String, Duration, Option<Duration>)>,
}

impl Default for Timeline {
    /// Starts now; coloured if the output is a terminal and `NO_COLOR` is not set.
    fn default() -> Self {
        Self {
            start: Instant::now(),
            colour: std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none(),
            measured: Vec::new(),
        }
    }
}

impl Timeline {
    /// Something happened that took no time worth telling.
    pub fn say(&self, what: &str) {
        println!("{} {what}", self.clock());
    }

    /// Something was done, in so long.
    pub fn done(&self, what: &str, took: Duration) {
        println!(
            "{} {what} {}",
            self.clock(),
            self.paint("36", &format!("({})", seconds(took)))
        );
    }

    /// As [`done`](Self::done), for what the summary lists; `bar` is what was promised.
    pub fn measured(&mut self, what: &str, took: Duration, bar: Option<Duration>) {
        self.done(what, took);
        self.measured.push((what.to_owned(), took, bar));
    }

    /// A command that a user would type, and what it printed.
    pub fn shown(&self, command: &str, output: &str) {
        println!("{:>11}{}", "", self.paint("2", &format!("$ {command}")));
        for line in output.lines() {
            println!("{:>11}{}", "", self.paint("2", line));
        }
    }

    /// All that was measured, as a table; whether every promise was kept.
    pub fn summary(&self) -> bool {
        let width = self
            .measured
            .iter()
            .map(|(what, ..)| what.chars().count())
            .max()
            .unwrap_or_default();
        println!(
            "\n{:width$}  {:>8}  {:>8}",
            self.paint("1", &format!("{:width$}", "what")),
            "took",
            "promised"
        );
        let mut kept = true;
        for (what, took, bar) in &self.measured {
            let within = bar.is_none_or(|bar| *took <= bar);
            kept &= within;
            let promised = bar.map_or_else(|| "-".to_owned(), |bar| format!("<= {} s", bar.as_secs()));
            let line = format!("{what:width$}  {:>8}  {promised:>8}", seconds(*took));
            println!("{}", if within { line } else { self.paint("31", &line) });
        }
        println!("\n{} in all", seconds(self.start.elapsed()));
        kept
    }

    fn clock(&self) -> String {
        self.paint("1", &format!("{:>8.1} s ", self.start.elapsed().as_secs_f64()))
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colour {
            format!("\u{1b}[{code}m{text}\u{1b}[0m")
        } else {
            text.to_owned()
        }
    }
}

fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}
