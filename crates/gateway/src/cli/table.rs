//! A table of text whose columns are as wide as their content.

use std::fmt;

/// Rows of cells under headings.
#[derive(Debug)]
pub(super) struct Table {
    /// The first row holds the headings.
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(super) fn new(headings: &[&str]) -> Self {
        Self { rows: vec![headings.iter().map(|heading| (*heading).to_owned()).collect()] }
    }

    /// Adds a row. Control characters in it are escaped.
    pub(super) fn row<const N: usize>(&mut self, cells: [String; N]) {
        debug_assert_eq!(N, self.rows[0].len(), "every column has a cell");
        self.rows.push(cells.iter().map(|cell| printable(cell)).collect());
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = |column: usize| self.rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..self.rows[0].len()).map(width).collect();
        for row in &self.rows {
            let line: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
            writeln!(f, "{}", line.join("  ").trim_end())?;
        }
        Ok(())
    }
}

/// Escapes control characters: text from outside must not control the terminal.
pub(super) fn printable(text: &str) -> String {
    let is_hidden = |c: char| {
        c.is_control() || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().map(|c| if is_hidden(c) { c.escape_default().to_string() } else { c.to_string() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_longest_cell() {
        let mut table = Table::new(&["ID", "WHAT"]);
        table.row(["1".into(), "a".into()]);
        table.row(["2000".into(), String::new()]);
        assert_eq!(table.to_string(), "ID    WHAT\n1     a\n2000\n");
    }

    #[test]
    fn what_would_move_the_cursor_or_turn_the_text_is_escaped() {
        assert_eq!(printable("a\u{1b}[2Jb\nü\u{202e}"), "a\\u{1b}[2Jb\\nü\\u{202e}");
    }
}
