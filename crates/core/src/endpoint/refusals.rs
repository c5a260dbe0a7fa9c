//! Refusals that count as an outage once they last: 401, 403 and 429, where `healthCheck.triggers` lists them.
//!
//! One refused request says little: a token expires, a limit is reached for a moment. So refusals don't count in a row. They count
//! once they are [`MOST_OF`] % of the readings of the last two minutes and at least [`LEAST`]. A registry that limits requests is
//! asked ever more rarely, so there the readings since the first of an unbroken row count that is two minutes old.

use std::collections::VecDeque;
use std::time::Duration;

use jiff::Timestamp;

use super::distance;
use super::outcome::Unavailable;

/// The time within which readings are counted.
pub(super) const WINDOW: Duration = Duration::from_mins(2);

/// Refusals that are needed within it.
const LEAST: usize = 5;

/// Refusals in an unbroken row that are needed where it lasts as long as the window.
const LEAST_IN_ROW: u32 = 3;

/// The share of refusals among all readings, in per cent.
const MOST_OF: usize = 80;

/// Readings that are remembered at most: one a second, which is as often as a registry is probed.
const MOST: usize = 128;

/// The readings of the last two minutes.
#[derive(Clone, Debug, Default)]
pub(super) struct Refusals {
    readings: VecDeque<(Timestamp, Option<Unavailable>)>,
    /// The unbroken row of refusals of one kind that the latest readings are.
    row: Option<Row>,
    lasting: Option<Unavailable>,
}

#[derive(Clone, Copy, Debug)]
struct Row {
    kind: Unavailable,
    since: Timestamp,
    last: Timestamp,
    count: u32,
}

impl Refusals {
    /// Takes in a reading.
    pub(super) fn record(&mut self, at: Timestamp, refusal: Option<Unavailable>) {
        self.row = refusal.map(|kind| match self.row.filter(|row| row.kind == kind) {
            Some(row) => Row {
                last: at,
                count: row.count.saturating_add(1),
                ..row
            },
            None => Row {
                kind,
                since: at,
                last: at,
                count: 1,
            },
        });
        self.readings.push_back((at, refusal));
        while self.readings.len() > MOST {
            self.readings.pop_front();
        }
        self.readings.retain(|(read, _)| distance(*read, at) <= WINDOW);
        self.lasting = refusal.filter(|kind| self.lasts(*kind, at));
    }

    fn lasts(&self, kind: Unavailable, at: Timestamp) -> bool {
        let refused = self.readings.iter().filter(|(_, found)| *found == Some(kind)).count();
        let is_share = refused >= LEAST && refused * 100 >= self.readings.len() * MOST_OF;
        let is_row = |row: Row| row.count >= LEAST_IN_ROW && distance(row.since, at) >= WINDOW;
        // A share needs a whole window, too: five refusals of a new process are a moment.
        let is_old = self
            .readings
            .front()
            .is_some_and(|(read, _)| distance(*read, at) * 2 >= WINDOW);
        is_share && is_old || self.row.is_some_and(is_row)
    }

    /// What the registry refuses with since long enough, as of the latest reading.
    pub(super) fn lasting(&self) -> Option<Unavailable> {
        self.lasting
    }

    /// The latest refusal, while the latest reading is one.
    pub(super) fn last(&self) -> Option<Timestamp> {
        self.row.map(|row| row.last)
    }

    /// The first reading of the row, and how many it has.
    pub(super) fn row(&self) -> Option<(Timestamp, u32)> {
        self.row.map(|row| (row.since, row.count))
    }
}

#[cfg(test)]
mod tests;
