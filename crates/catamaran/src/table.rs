//! Tables as `kubectl` prints them: columns apart by blanks, no frames, nothing that a pipe would trip over.

use comfy_table::{Table, presets};

/// An empty table with these headings.
pub fn plain(headings: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(headings.iter().copied());
    for column in table.column_iter_mut() {
        column.set_padding((0, 3));
    }
    table
}

/// The table as text, without blanks at the ends of lines.
pub fn trimmed(table: &Table) -> String {
    table.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}
