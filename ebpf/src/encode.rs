//! A spread as the program reads it: alias tables, see `bpf/abi.h`.

use portolan_zones::policy::draw::Draw;

use crate::abi::{Head, backend_word, backends_word, cluster_word};
use crate::wanted::Spread;

/// How many slots a spread takes.
pub(crate) fn length(spread: &Spread) -> u32 {
    let backends: usize = spread.iter().map(|share| share.backends.len()).sum();
    (2 * spread.len() + backends) as u32
}

/// Its words for a range that begins at `first`, and the head that leads there. `cluster` and `backend` say the numbers, by the
/// positions of a share and of a backend in it.
pub(crate) fn words(
    spread: &Spread,
    first: u32,
    cluster: impl Fn(usize) -> u16,
    backend: impl Fn(usize, usize) -> u32,
) -> (Head, Vec<u64>) {
    let parts: Vec<u32> = spread.iter().map(|share| share.part).collect();
    let Some(draw) = Draw::new(&parts) else { return (Head::default(), Vec::new()) };
    let mut words = Vec::with_capacity(length(spread) as usize);
    let mut next = first + 2 * spread.len() as u32;
    for (at, (limit, other)) in draw.slots().enumerate() {
        let count = spread[at].backends.len() as u32;
        words.push(cluster_word(cluster(at), other as u16, limit));
        words.push(backends_word(next, count));
        next += count;
    }
    for (at, share) in spread.iter().enumerate() {
        let parts: Vec<u32> = share.backends.iter().map(|(_, _, part)| *part).collect();
        // A share that is there has a part, and so has some backend of it.
        for (position, (limit, other)) in Draw::new(&parts).iter().flat_map(Draw::slots).enumerate() {
            words.push(backend_word(backend(at, position), other as u16, (limit >> 16) as u16));
        }
    }
    (Head { first, clusters: spread.len() as u32 }, words)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::Address;
    use crate::wanted::ClusterShare;
    use portolan_zones::ClusterId;
    use proptest::collection::vec;
    use proptest::prelude::*;

    /// Clusters with backends of these parts.
    fn spread(parts: &[Vec<u32>]) -> Spread {
        let share = |(at, parts): (usize, &Vec<u32>)| ClusterShare {
            cluster: ClusterId::new(&format!("c{at}")).unwrap(),
            part: parts.iter().sum(),
            backends: parts.iter().map(|part| (Address::default(), 80, *part)).collect(),
        };
        parts.iter().enumerate().map(share).collect()
    }

    #[test]
    fn nothing_has_no_words() {
        assert_eq!(length(&spread(&[])), 0);
        assert_eq!(words(&spread(&[]), 7, |_| 0, |_, _| 0), (Head::default(), Vec::new()));
        assert_eq!(u64::from(Head { first: 7, clusters: 0 }), 0, "no backend, wherever it is");
    }

    /// `abi.h`: cluster << 48 | other << 32 | limit; first << 32 | count; backend << 32 | other << 16 | limit.
    #[test]
    fn one_of_each_is_drawn_whatever_the_number() {
        let (head, words) = words(&spread(&[vec![9]]), 100, |_| 5, |_, _| 77);
        assert_eq!(head, Head { first: 100, clusters: 1 });
        assert_eq!(u64::from(head), 100 << 32 | 1);
        assert_eq!(words, [5 << 48 | 0xffff_ffff, 102 << 32 | 1, 77 << 32 | 0xffff]);
    }

    #[test]
    fn two_that_share_as_one_to_three() {
        let (_, words) = words(&spread(&[vec![1, 3]]), 0, |_| 0, |_, at| at as u32);
        // The first row is half its own, and half the other's: a quarter and three quarters.
        assert_eq!(words[2..], [1 << 16 | 0x8000, 1 << 32 | 1 << 16 | 0xffff]);
    }

    proptest! {
        /// Whatever is spread: as many words as were asked for, all of which lead to what is inside.
        #[test]
        fn words_lead_inside(parts in vec(vec(1..1000_u32, 1..20), 1..20), first in 0..1000_u32) {
            let spread = spread(&parts);
            let number = |at: usize, position: usize| (at * 100 + position) as u32;
            let (head, words) = words(&spread, first, |at| at as u16, number);
            prop_assert_eq!(head, Head { first, clusters: parts.len() as u32 });
            prop_assert_eq!(words.len(), length(&spread) as usize);
            let mut next = 2 * parts.len();
            for (at, parts) in parts.iter().enumerate() {
                let (which, lead) = (words[2 * at], words[2 * at + 1]);
                prop_assert_eq!((which >> 48) as usize, at);
                prop_assert!(((which >> 32 & 0xffff) as usize) < spread.len());
                prop_assert_eq!(lead, (u64::from(first) + next as u64) << 32 | parts.len() as u64);
                for (position, word) in words[next..next + parts.len()].iter().enumerate() {
                    prop_assert_eq!((word >> 32) as u32, number(at, position));
                    prop_assert!(((word >> 16 & 0xffff) as usize) < parts.len());
                }
                next += parts.len();
            }
        }
    }
}
