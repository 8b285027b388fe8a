//! Rules that make a place of a location, and which one of them holds.

use std::fmt;

use portolan_zones::places::{Key, Place};

use super::Location;

/// No rule holds.
pub(super) const NONE: u16 = u16::MAX;
/// The Earth's mean radius (IUGG) in kilometres.
const EARTH: f64 = 6371.0;

/// What clients are at a place.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// Whose place it is.
    pub clue: Clue,
    /// Where these clients are.
    pub place: Place,
}

/// What a rule goes by. Of several that hold for a client the one of the first sort here counts, and of one sort the one that is
/// written first: what says more goes before what says less. Where none of the others holds, the nearest position counts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Clue {
    /// Number of the autonomous system that announces the network.
    Asn(u32),
    /// A country and its first subdivision (ISO 3166-1 and the part of ISO 3166-2 behind the dash).
    Subdivision(Code, Code),
    /// ISO 3166-1 alpha-2.
    Country(Code),
    /// `AF`, `AN`, `AS`, `EU`, `NA`, `OC` or `SA`.
    Continent(Code),
    /// Clients that are nearer to this than to all others of the sort.
    Near(Position),
}

impl Clue {
    fn sort(&self) -> u8 {
        match self {
            Self::Asn(_) => 0,
            Self::Subdivision(..) => 1,
            Self::Country(_) => 2,
            Self::Continent(_) => 3,
            Self::Near(_) => 4,
        }
    }

    fn holds(&self, location: &Location) -> bool {
        match *self {
            Self::Asn(asn) => location.asn == Some(asn),
            Self::Subdivision(country, subdivision) => {
                location.country == Some(country) && location.subdivision == Some(subdivision)
            }
            Self::Country(country) => location.country == Some(country),
            Self::Continent(continent) => location.continent == Some(continent),
            Self::Near(_) => false,
        }
    }
}

/// A short code of letters and digits, in capitals.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Code([u8; 3]);

impl Code {
    /// One to three letters and digits, in any case.
    pub fn new(text: &str) -> Option<Self> {
        let mut code = [0; 3];
        code.get_mut(..text.len())?.copy_from_slice(text.as_bytes());
        let is_good = !text.is_empty() && text.bytes().all(|octet| octet.is_ascii_alphanumeric());
        is_good.then(|| Self(code.map(|octet| octet.to_ascii_uppercase())))
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().filter(|octet| **octet != 0).try_for_each(|octet| write!(f, "{}", char::from(*octet)))
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A point on the Earth, in degrees.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Position {
    latitude: f64,
    longitude: f64,
}

impl Position {
    /// North and east are positive. `None`: there is no such point.
    pub fn new(latitude: f64, longitude: f64) -> Option<Self> {
        let exists = (-90.0..=90.0).contains(&latitude) && (-180.0..=180.0).contains(&longitude);
        exists.then_some(Self { latitude, longitude })
    }

    /// Along the great circle, in kilometres (haversine formula).
    pub fn distance(&self, other: &Self) -> f64 {
        let [a, b] = [self.latitude, other.latitude].map(f64::to_radians);
        let half = |degrees: f64| (degrees.to_radians() / 2.0).sin().powi(2);
        let h =
            half(other.latitude - self.latitude) + a.cos() * b.cos() * half(other.longitude - self.longitude);
        // Rounding must not leave the sine's range at the antipode.
        2.0 * EARTH * h.clamp(0.0, 1.0).sqrt().asin()
    }
}

/// Rules in the order in which they count. A rule's rank is its position here.
#[derive(Debug, Default)]
pub(super) struct Rules {
    clues: Vec<Clue>,
    /// Of the rules' places.
    pub(super) areas: Box<[Key]>,
}

impl Rules {
    /// Rules that can't be ranked any more are left out: there are 65,534 before them.
    pub(super) fn new(rules: &[Rule]) -> Self {
        let mut rules: Vec<&Rule> = rules.iter().take(usize::from(NONE) - 1).collect();
        rules.sort_by_key(|rule| rule.clue.sort());
        let areas = rules.iter().map(|rule| rule.place.key()).collect();
        Self { clues: rules.iter().map(|rule| rule.clue).collect(), areas }
    }

    /// The rank of the rule that holds, or [`NONE`].
    pub(super) fn rank(&self, location: &Location) -> u16 {
        let first = self.clues.iter().position(|clue| clue.holds(location));
        first.or_else(|| self.nearest(location)).map_or(NONE, |at| at as u16)
    }

    fn nearest(&self, location: &Location) -> Option<usize> {
        let here = location.position?;
        let distances = self.clues.iter().enumerate().filter_map(|(at, clue)| match clue {
            Clue::Near(position) => Some((at, position.distance(&here))),
            _ => None,
        });
        distances.min_by(|(_, a), (_, b)| a.total_cmp(b)).map(|(at, _)| at)
    }
}
