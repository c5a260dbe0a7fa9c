//! Simulated time, and dice.

use std::time::Duration;

use jiff::Timestamp;

/// Milliseconds since the simulation began.
pub type Ms = i64;

pub const SECOND: Ms = 1_000;
pub const MINUTE: Ms = 60 * SECOND;
pub const HOUR: Ms = 60 * MINUTE;

const BEGIN: Ms = 1_790_000_000_000;

pub fn at(ms: Ms) -> Timestamp {
    Timestamp::from_millisecond(BEGIN + ms).expect("simulations end before the year 9999")
}

pub fn millis(length: Duration) -> Ms {
    Ms::try_from(length.as_millis()).expect("simulated lengths are hours at most")
}

pub fn ms(at: Timestamp) -> Ms {
    at.as_millisecond() - BEGIN
}

/// The generator `SplitMix64`: small, seeded, good enough for weather.
#[derive(Clone, Debug)]
pub struct Dice(pub u64);

impl Dice {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Within (0, 1].
    pub fn fraction(&mut self) -> f64 {
        ((self.next() >> 11) as f64 + 1.0) / (1u64 << 53) as f64
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// True in so many of a hundred cases.
    pub fn percent(&mut self, chance: u64) -> bool {
        self.below(100) < chance
    }

    pub fn pick<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len() as u64) as usize]
    }
}
