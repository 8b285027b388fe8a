//! What is wanted of our row in a group.

use super::statistics::Spread;
use super::table::{Group, Round};

/// A figure of ours, as a ratio to the best of what some others have in the same round.
#[derive(Debug, Clone, Copy)]
pub struct Limit {
    pub what: &'static str,
    pub of: fn(&Round) -> f64,
    /// Names of rows; of those that were measured the best one counts. With no names the figure itself is limited.
    pub against: &'static [&'static str],
    pub bound: Bound,
}

/// On which side of the limit it is good.
#[derive(Debug, Clone, Copy)]
pub enum Bound {
    Most(f64),
    Least(f64),
}

impl Bound {
    fn better(self, a: f64, b: f64) -> f64 {
        match self {
            Self::Most(_) => a.min(b),
            Self::Least(_) => a.max(b),
        }
    }

    /// The limit in words, and how far a figure is from it: above 1 it is missed, on either side.
    fn words(self, figure: f64) -> String {
        match self {
            Self::Most(most) => format!("limit {most:.3}, ratio {:.2}", figure / most),
            Self::Least(least) => format!("limit at least {least:.3}, ratio {:.2}", least / figure),
        }
    }
}

impl Limit {
    /// A line that says how far from the limit it is; `None` when nobody was measured that it is about.
    pub fn line(&self, group: &Group) -> Option<String> {
        let Spread { min, median, max } = self.spread(group)?;
        let words = self.bound.words(median);
        Some(format!("  {}: {min:.2}–{median:.2}–{max:.2} ({words})\n", self.what))
    }

    fn spread(&self, group: &Group) -> Option<Spread> {
        let ours = &group.rows.first()?.rounds;
        let others: Vec<_> =
            group.rows.iter().filter(|row| self.against.contains(&row.name.as_str())).collect();
        let best = |round: usize| {
            if self.against.is_empty() {
                return Some(1.0);
            }
            let figures = others.iter().filter_map(|row| row.rounds.get(round)).map(self.of);
            figures.reduce(|a, b| self.bound.better(a, b))
        };
        let rounds = ours.iter().enumerate();
        Spread::of(rounds.filter_map(|(round, figures)| Some((self.of)(figures) / best(round)?)))
    }
}
