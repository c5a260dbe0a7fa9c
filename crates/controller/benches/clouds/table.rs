//! The numbers, with the bars beside them.

/// A number and the most that it may be.
#[derive(Clone, Copy)]
pub struct Measured<N> {
    /// What was measured.
    pub value: N,
    /// The bar, if there is one.
    pub most: Option<N>,
}

/// A number without a bar.
pub fn told<N>(value: N) -> Measured<N> {
    Measured { value, most: None }
}

/// A number with its bar.
pub fn bar<N>(value: N, most: N) -> Measured<N> {
    let most = Some(most);
    Measured { value, most }
}

/// One line.
pub struct Row<'a> {
    /// What was done.
    pub what: &'a str,
    /// Tags on each side.
    pub tags: usize,
    /// Milliseconds before each answer.
    pub latency: u128,
    /// Requests that the registries counted.
    pub requests: Measured<u64>,
    /// How long it took: depends on the machine, so its bar fails nothing.
    pub seconds: Measured<f64>,
    /// The largest resident size so far, in bytes.
    pub peak: Measured<u64>,
    /// Differences found, where that was asked, of those there are.
    pub found: Option<(usize, usize)>,
}

/// Prints lines as they come, and remembers what was missed.
#[derive(Default)]
pub struct Table {
    missed: Vec<String>,
}

impl Table {
    /// The head.
    pub fn begin() -> Table {
        println!(
            "{:>7} {:>7}  {:<52} {:>17} {:>14} {:>16} {:>11}",
            "tags", "latency", "what", "requests (bar)", "seconds (bar)", "peak MB (bar)", "differences"
        );
        Table::default()
    }

    /// A line.
    pub fn row(&mut self, row: &Row<'_>) {
        let requests = (
            row.requests.value.to_string(),
            row.requests.most.map(|most| most.to_string()),
        );
        let seconds = (
            format!("{:.1}", row.seconds.value),
            row.seconds.most.map(|most| most.to_string()),
        );
        let peak = (
            format!("{:.1}", row.peak.value as f64 / 1e6),
            row.peak.most.map(|most| (most / 1_000_000).to_string()),
        );
        let found = row
            .found
            .map_or_else(String::new, |(found, of)| format!("{found} of {of}"));
        println!(
            "{:>7} {:>4} ms  {:<52} {:>17} {:>14} {:>16} {found:>11}",
            row.tags,
            row.latency,
            row.what,
            with_bar(requests),
            with_bar(seconds),
            with_bar(peak),
        );
        self.miss(row.what, "requests", row.requests);
        self.miss(row.what, "bytes resident", row.peak);
    }

    /// Notes something else that is wrong.
    pub fn fail(&mut self, what: String) {
        self.missed.push(what);
    }

    fn miss(&mut self, what: &str, unit: &str, measured: Measured<u64>) {
        let Measured { value, most } = measured;
        if let Some(most) = most.filter(|most| value > *most) {
            self.missed.push(format!("{what}: {value} {unit}, more than {most}"));
        }
    }

    /// What was missed, if anything was.
    pub fn end(self) -> Result<(), String> {
        if self.missed.is_empty() {
            println!("every bar of requests, memory and differences is met");
            return Ok(());
        }
        Err(self.missed.join("\n"))
    }
}

fn with_bar((value, most): (String, Option<String>)) -> String {
    most.map_or(value.clone(), |most| format!("{value} ({most})"))
}
