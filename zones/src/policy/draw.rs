//! Drawing by share in constant time, from numbers that are there anyway.

use smallvec::SmallVec;

/// Walker's alias method: as many slots as outcomes, each split between at most two of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draw {
    slots: SmallVec<[Slot; 2]>,
}

/// Below `limit` it is this slot's own outcome, from there on the other one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Slot {
    limit: u32,
    other: u32,
}

impl Draw {
    /// Outcomes by position, as likely as their parts; those of 0 never come. `None` when nothing can come.
    pub fn new(parts: &[u32]) -> Option<Self> {
        let sum: u64 = parts.iter().map(|part| u64::from(*part)).sum();
        if sum == 0 {
            return None;
        }
        let n = parts.len() as u64;
        // In units in which a slot holds `sum`.
        let mut rest: Vec<u64> = parts.iter().map(|part| u64::from(*part) * n).collect();
        let (mut small, mut large): (Vec<usize>, Vec<usize>) =
            (0..parts.len()).partition(|at| rest[*at] < sum);
        let mut slots: Vec<Slot> =
            (0..parts.len() as u32).map(|other| Slot { limit: u32::MAX, other }).collect();
        while let (Some(few), Some(many)) = (small.pop(), large.last().copied()) {
            let limit = (u128::from(rest[few]) << 32) / u128::from(sum);
            slots[few] = Slot { limit: limit.min(u32::MAX.into()) as u32, other: many as u32 };
            rest[many] -= sum - rest[few];
            if rest[many] < sum {
                large.pop();
                small.push(many);
            }
        }
        Some(Self { slots: SmallVec::from_slice(&slots) })
    }

    /// How it draws, for who does so elsewhere: for each slot a limit, in parts of 2³², below which it is the slot's own outcome,
    /// and the other one.
    pub fn slots(&self) -> impl ExactSizeIterator<Item = (u32, u32)> {
        self.slots.iter().map(|slot| (slot.limit, slot.other))
    }

    /// The outcome for a number; numbers that are equally likely draw by the shares.
    pub fn at(&self, number: u64) -> usize {
        let spread = (number >> 32) * self.slots.len() as u64;
        // The upper half chooses the slot, the lower one the side: they are independent.
        let at = (spread >> 32) as usize;
        let slot = self.slots[at];
        if (number as u32) < slot.limit { at } else { slot.other as usize }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever the parts, the numbers' whole range falls to each outcome in proportion.
    #[test]
    fn each_comes_as_often_as_its_part_says() {
        let cases: [&[u32]; 6] =
            [&[1], &[1, 1], &[3, 1], &[0, 5, 5], &[1, 999_999], &[700_000, 200_000, 99_999, 1]];
        for parts in cases {
            let draw = Draw::new(parts).unwrap();
            let n = parts.len();
            let sum: f64 = parts.iter().map(|p| f64::from(*p)).sum();
            let mut shares = vec![0.0; n];
            for (at, slot) in draw.slots.iter().enumerate() {
                let own = f64::from(slot.limit) / 2_f64.powi(32);
                shares[at] += own / n as f64;
                shares[slot.other as usize] += (1.0 - own) / n as f64;
            }
            for (share, part) in shares.iter().zip(parts) {
                assert!((share - f64::from(*part) / sum).abs() < 1e-8, "{parts:?}: {shares:?}");
            }
        }
        assert_eq!((Draw::new(&[]), Draw::new(&[0, 0])), (None, None));
    }

    /// Evenly spaced numbers: none that has no part ever comes, and all are in range.
    #[test]
    fn numbers_from_end_to_end() {
        let draw = Draw::new(&[2, 0, 6]).unwrap();
        let mut counts = [0; 3];
        for i in 0..9_000_u64 {
            counts[draw.at(i.wrapping_mul(0x9e37_79b9_7f4a_7c15))] += 1;
        }
        assert_eq!(counts[1], 0);
        assert!((2150..2350).contains(&counts[0]), "{counts:?}");
        assert_eq!(draw.at(u64::MAX), draw.at(u64::MAX));
    }
}
