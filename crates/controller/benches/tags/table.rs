//! The figures, and the bars that they are held against.

use crate::others::TOO_MUCH;

/// Prints figures as they come, and remembers which bars were missed.
#[derive(Default)]
pub struct Table {
    missed: Vec<String>,
}

impl Table {
    pub fn head(title: &str) {
        println!("\n{title}");
        println!("{:>9}  {:<52} {:>18} {:>8}", "tags", "figure", "", "bar");
    }

    pub fn row(tags: u32, figure: &str, value: &str, bar: &str) {
        println!("{tags:>9}  {figure:<52} {value:>18} {bar:>8}");
    }

    pub fn expect(&mut self, holds: bool, bar: &str) {
        if !holds {
            println!("           missed: {bar}");
            self.missed.push(bar.to_owned());
        }
    }

    /// The same for what a clock on the wall measures, while others had this share of the processors.
    pub fn expect_by_clock(&mut self, holds: bool, share: f64, bar: &str) {
        if holds || share <= TOO_MUCH {
            return self.expect(holds, bar);
        }
        println!(
            "           NOT MEASURED, others had {:.0} % of the processors: {bar}",
            share * 100.0
        );
    }

    pub fn passed(&self) -> bool {
        self.missed.is_empty()
    }
}

/// The one in the middle.
pub fn median(figures: impl Iterator<Item = f64>) -> f64 {
    let mut figures: Vec<f64> = figures.collect();
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}
