//! Text in columns, as kubectl prints it.

use std::fmt;

/// Rows of as many cells as the heading has.
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// Only a heading.
    pub fn new<'h>(heading: impl IntoIterator<Item = &'h str>) -> Self {
        Self { rows: vec![heading.into_iter().map(str::to_owned).collect()] }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: impl Into<Vec<String>>) {
        self.rows.push(cells.into());
    }
}

/// Each column as wide as its widest cell; the last one is not padded.
impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut widths = vec![0; self.rows.first().map_or(0, Vec::len)];
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = cell.chars().count().max(*width);
            }
        }
        for row in &self.rows {
            for (at, cell) in row.iter().enumerate() {
                match at + 1 == row.len() {
                    true => writeln!(f, "{cell}")?,
                    false => write!(f, "{cell:<0$}", widths[at] + 3)?,
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(["A", "LONG", "Z"]);
        table.row(["zürich", "b", "c"].map(str::to_owned));
        assert_eq!(table.to_string(), "A        LONG   Z\nzürich   b      c\n");
    }
}
