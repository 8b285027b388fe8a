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
