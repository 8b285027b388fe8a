//! Text in columns, as kubectl prints it.

use std::fmt;

/// Rows of so many cells.
pub(crate) struct Table<const COLUMNS: usize> {
    rows: Vec<[String; COLUMNS]>,
}

impl<const COLUMNS: usize> Table<COLUMNS> {
    /// Only a heading.
    pub(crate) fn new(heading: [&str; COLUMNS]) -> Self {
        Self { rows: vec![heading.map(str::to_owned)] }
    }

    /// Adds a row.
    pub(crate) fn row(&mut self, cells: [String; COLUMNS]) {
        self.rows.push(cells);
    }
}

/// Each column as wide as its widest cell; the last one is not padded.
impl<const COLUMNS: usize> fmt::Display for Table<COLUMNS> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut widths = [0; COLUMNS];
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = cell.chars().count().max(*width);
            }
        }
        for row in &self.rows {
            for (at, cell) in row.iter().enumerate() {
                match at + 1 == COLUMNS {
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
    let units = [(86_400, 'd'), (3600, 'h'), (60, 'm'), (1, 's')];
    let mut rest = seconds.max(0);
    let mut text = String::new();
    for (at, (length, unit)) in units.into_iter().enumerate() {
        let count = rest / length;
        rest %= length;
        if count > 0 {
            text += &format!("{count}{unit}");
            if let Some((next, unit)) = units.get(at + 1).filter(|(next, _)| rest / next > 0) {
                text += &format!("{}{unit}", rest / next);
            }
            return text;
        }
    }
    "0s".to_owned()
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
