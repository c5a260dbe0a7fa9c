//! Tables as `kubectl` prints them: columns apart by blanks, no frames, no colours, nothing that a pipe would trip over.

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

/// A text from elsewhere as one line: what would move the cursor or start a new row becomes a blank.
pub fn cell(text: &str) -> String {
    let line: String = text
        .chars()
        .map(|character| if character.is_control() { ' ' } else { character })
        .collect();
    line.trim().to_owned()
}

/// The table as text, without blanks at the ends of lines, with a line feed at its end.
pub fn trimmed(table: &Table) -> String {
    table.lines().map(|line| line.trim_end().to_owned() + "\n").collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_no_line_ends_in_blanks() {
        let mut table = plain(&["TAG", "STATE"]);
        table.add_row(["3f2a91c", "Mismatched"]);
        table.add_row(["1", ""]);
        assert_eq!(trimmed(&table), "TAG       STATE\n3f2a91c   Mismatched\n1\n");
    }

    #[test]
    fn foreign_text_stays_in_its_cell() {
        assert_eq!(cell(" two\nlines, \u{1b}[31mred\u{7} "), "two lines,  [31mred");
    }
}
