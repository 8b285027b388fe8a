//! Sources of both kinds feed one table: what each expects and hears is put together here.

use std::collections::BTreeSet;

use portolan_zones::{ClusterId, Event, Hearing};

/// A kind of source.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Side {
    /// Files.
    Manifests,
    /// API servers.
    Kubernetes,
}

/// What both sides said last.
#[derive(Debug, Default)]
pub(crate) struct Joint {
    expected: [Option<BTreeSet<ClusterId>>; 2],
    hearing: [Option<Hearing>; 2],
}

impl Joint {
    /// Both sides, of which one may have no sources at all.
    pub(crate) fn new(has_kubernetes: bool) -> Self {
        let none = (!has_kubernetes).then(BTreeSet::new);
        Self { expected: [None, none], hearing: [None, None] }
    }

    /// API servers are followed from now on: until they know their clusters, nobody does.
    pub(crate) fn begin_kubernetes(&mut self) -> Vec<Event> {
        self.expected[Side::Kubernetes as usize] = None;
        vec![Event::ExpectMore]
    }

    /// What the table is told when a side says this.
    pub(crate) fn pass(&mut self, side: Side, events: Vec<Event>) -> Vec<Event> {
        let at = side as usize;
        let pass = |event| match event {
            Event::Expect(clusters) => {
                self.expected[at] = Some(clusters);
                let [Some(a), Some(b)] = &self.expected else { return None };
                Some(Event::Expect(a | b))
            }
            Event::Hear(hearing) => {
                self.hearing[at] = Some(hearing);
                Some(Event::Hear(self.heard()))
            }
            other => Some(other),
        };
        events.into_iter().filter_map(pass).collect()
    }

    fn heard(&self) -> Hearing {
        let both = self.hearing.iter().flatten().cloned();
        both.reduce(|a, b| match (a, b) {
            (Hearing::Only(a), Hearing::Only(b)) => Hearing::Only(&a | &b),
            (Hearing::AllBut(a), Hearing::AllBut(b)) => Hearing::AllBut(&a & &b),
            (Hearing::AllBut(a), Hearing::Only(b)) | (Hearing::Only(b), Hearing::AllBut(a)) => {
                Hearing::AllBut(&a - &b)
            }
        })
        .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(text: &str) -> BTreeSet<ClusterId> {
        text.split_whitespace().map(|id| ClusterId::new(id).unwrap()).collect()
    }

    #[test]
    fn nothing_is_denied_before_both_sides_know_their_clusters() {
        let mut joint = Joint::new(true);
        assert_eq!(joint.pass(Side::Manifests, vec![Event::Expect(ids("a"))]), []);
        let both = joint.pass(Side::Kubernetes, vec![Event::Expect(ids("b c"))]);
        assert_eq!(both, [Event::Expect(ids("a b c"))]);
        let mut alone = Joint::new(false);
        assert_eq!(alone.pass(Side::Manifests, vec![Event::Expect(ids("a"))]), [Event::Expect(ids("a"))]);
        // A reload adds API servers, and takes the manifests away.
        assert_eq!(alone.begin_kubernetes(), [Event::ExpectMore]);
        assert_eq!(alone.pass(Side::Manifests, vec![Event::Expect(ids(""))]), []);
        let both = alone.pass(Side::Kubernetes, vec![Event::Expect(ids("b"))]);
        assert_eq!(both, [Event::Expect(ids("b"))]);
    }

    #[test]
    fn who_is_heard_by_either_side_is_heard() {
        use Hearing::{AllBut, Only};
        let cases = [
            (Only(ids("a")), Only(ids("b")), Only(ids("a b"))),
            (Only(ids("a")), AllBut(ids("a b")), AllBut(ids("b"))),
            (AllBut(ids("a b")), AllBut(ids("b c")), AllBut(ids("b"))),
        ];
        for (one, other, expected) in cases {
            let mut joint = Joint::new(true);
            assert_eq!(joint.pass(Side::Manifests, vec![Event::Hear(one.clone())]), [Event::Hear(one)]);
            let both = joint.pass(Side::Kubernetes, vec![Event::Hear(other)]);
            assert_eq!(both, [Event::Hear(expected)]);
        }
    }
}
