//! Medians, percentiles, ratios of rounds.

/// The least, the middle and the most of some figures.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    pub min: f64,
    pub median: f64,
    pub max: f64,
}

impl Spread {
    /// `None` of nothing.
    pub fn of(figures: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut all: Vec<f64> = figures.into_iter().collect();
        all.sort_by(f64::total_cmp);
        Some(Self { min: *all.first()?, median: percentile(&all, 0.5), max: *all.last()? })
    }

    /// Of one figure to the other in the same round.
    pub fn of_ratios(ours: &[f64], others: &[f64]) -> Option<Self> {
        Self::of(ours.iter().zip(others).map(|(own, other)| own / other))
    }
}

/// Of sorted figures: the smallest one that so many are not above (nearest rank). Zero of nothing.
pub fn percentile(sorted: &[f64], part: f64) -> f64 {
    let rank = (sorted.len() as f64 * part).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0.0)
}
