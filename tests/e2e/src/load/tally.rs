//! What came of admissions, in numbers that one process prints and another reads.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::{Value, json};

use super::micros;

/// What came of them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Tally {
    /// Pods that the API server was asked to create.
    pub admissions: u64,
    /// Those that it did not answer with a pod.
    pub failed: u64,
    /// Those that were admitted with another image than the expected one.
    pub unrewritten: u64,
    /// Those other images, each with how often a pod got it.
    pub others: BTreeMap<String, u64>,
    /// From the first request to the last answer.
    pub took: Duration,
    /// Half were answered sooner.
    pub median: Duration,
    /// 99 of a hundred were answered sooner.
    pub p99: Duration,
    /// All were answered as soon.
    pub slowest: Duration,
    /// The first bad ones: when, and what was wrong.
    pub bad: Vec<String>,
}

impl Tally {
    /// One line for people.
    pub fn line(&self) -> String {
        let rate = self.admissions as f64 / self.took.as_secs_f64().max(0.001);
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        format!(
            "{} admissions in {:.1} s ({rate:.0}/s): {} failed, {} unrewritten; median {:.1} ms, p99 {:.1} ms, slowest {:.0} ms",
            self.admissions,
            self.took.as_secs_f64(),
            self.failed,
            self.unrewritten,
            ms(self.median),
            ms(self.p99),
            ms(self.slowest)
        )
    }

    pub(super) fn read(text: &str) -> anyhow::Result<Self> {
        let value: Value = serde_json::from_str(text).context("failed to read the tally of the admissions")?;
        let number = |key: &str| value[key].as_u64().with_context(|| format!("no {key} in the tally"));
        let time = |key: &str| number(key).map(Duration::from_micros);
        let bad = value["bad"].as_array().map(Vec::as_slice).unwrap_or_default();
        let others = value["others"].as_object().into_iter().flatten();
        Ok(Self {
            admissions: number("admissions")?,
            failed: number("failed")?,
            unrewritten: number("unrewritten")?,
            others: others
                .filter_map(|(image, count)| Some((image.clone(), count.as_u64()?)))
                .collect(),
            took: time("took")?,
            median: time("median")?,
            p99: time("p99")?,
            slowest: time("slowest")?,
            bad: bad.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        })
    }

    pub(super) fn print(&self) {
        let value = json!({
            "admissions": self.admissions, "failed": self.failed, "unrewritten": self.unrewritten,
            "others": self.others, "took": micros(self.took), "median": micros(self.median), "p99": micros(self.p99),
            "slowest": micros(self.slowest), "bad": self.bad,
        });
        println!("{value}");
    }
}
