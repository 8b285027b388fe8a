//! Text in columns, as kubectl prints it.

use std::fmt;

use portolan_zones::policy::explain::Age;

/// Rows of as many cells as the heading has.
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// Only a heading.
    pub(crate) fn new<'h>(heading: impl IntoIterator<Item = &'h str>) -> Self {
        Self { rows: vec![heading.into_iter().map(str::to_owned).collect()] }
    }

    /// Adds a row.
    pub(crate) fn row(&mut self, cells: impl Into<Vec<String>>) {
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

/// Seconds as kubectl's AGE has them: the two largest units that count.
pub(crate) fn age(seconds: i64) -> String {
    Age(seconds).to_string()
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

    #[test]
    fn ages_have_two_units_at_most() {
        for (seconds, expected) in
            [(-3, "0s"), (0, "0s"), (59, "59s"), (61, "1m1s"), (3600, "1h"), (7300, "2h1m"), (90_061, "1d1h")]
        {
            assert_eq!(age(seconds), expected);
        }
    }
}
