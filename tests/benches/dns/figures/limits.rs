//! What is wanted of our row in a group.

use super::statistics::Spread;
use super::table::{Group, Round};

/// A figure of ours, as a ratio to the least of what some others have in the same round.
#[derive(Debug, Clone, Copy)]
pub struct Limit {
    pub what: &'static str,
    pub of: fn(&Round) -> f64,
    /// Names of rows; of those that were measured the best one counts. With no names the figure itself is limited.
    pub against: &'static [&'static str],
    pub most: f64,
}

impl Limit {
    /// A line that says how far from the limit it is; `None` when nobody was measured that it is about.
    pub fn line(&self, group: &Group) -> Option<String> {
        let spread = self.spread(group)?;
        let Spread { min, median, max } = spread;
        Some(format!(
            "  {}: {min:.2}–{median:.2}–{max:.2} (limit {:.3}, ratio {:.2})\n",
            self.what,
            self.most,
            median / self.most
        ))
    }

    fn spread(&self, group: &Group) -> Option<Spread> {
        let ours = &group.rows.first()?.rounds;
        let others: Vec<_> =
            group.rows.iter().filter(|row| self.against.contains(&row.name.as_str())).collect();
        if !self.against.is_empty() && others.iter().all(|row| row.rounds.is_empty()) {
            return None;
        }
        let best = |round: usize| {
            let figures = others.iter().filter_map(|row| row.rounds.get(round)).map(self.of);
            figures.reduce(f64::min).unwrap_or(1.0)
        };
        Spread::of(ours.iter().enumerate().map(|(round, figures)| (self.of)(figures) / best(round)))
    }
}
