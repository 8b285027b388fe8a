//! Where clients are of whom no network of `view` is known: what databases find of them.

use std::path::PathBuf;

use portolan_config::{Section, place};
use portolan_dns::geo::{Clue, Code, GeoConfig, Position, Rule};

use super::scalar::{Continent, Country, Subdivision};

/// Most rules: what a database's networks are ranked by has 16 bits.
const MAX_PLACES: usize = 10_000;

/// Databases and what they mean.
pub(super) fn read(section: &mut Section<'_>) -> GeoConfig {
    let databases: Vec<PathBuf> = section.list("databases", Vec::new());
    if section.items("databases") == databases.len() {
        for (at, file) in databases.iter().enumerate() {
            if databases[..at].contains(file) {
                let message = format!("`{}` is listed twice: remove one", file.display());
                section.problem_in("databases", at, message);
            }
        }
    }
    let rules = section.sections("places", Vec::new(), rule);
    let (files, places) = (section.items("databases"), section.items("places"));
    if places > MAX_PLACES {
        section.problem("places", format!("has {places} items: at most {MAX_PLACES} are read"));
    }
    if places > 0 && files == 0 {
        section.problem("databases", "`places` need a database that finds clients: name one here");
    }
    if files > 0 && places == 0 {
        section.problem("places", "`databases` tell nothing without `places`: say here what countries mean");
    }
    if places == rules.len() {
        for (at, rule) in rules.iter().enumerate() {
            if let Some(first) = rules[..at].iter().position(|earlier| earlier.clue == rule.clue) {
                let message = format!("is about the same clients as geoip.places[{first}]: remove one");
                section.problem_in("places", at, message);
            }
        }
    }
    let databases = databases.iter().map(|file| section.beside_file(file)).collect();
    GeoConfig { databases, rules }
}

fn rule(section: &mut Section<'_>) -> Option<Rule> {
    let asn = section.optional("asn").map(Clue::Asn);
    let country = section.optional("country").map(|Country(code)| code);
    let subdivision = section.optional("subdivision").map(|Subdivision(code)| code);
    let continent = section.optional("continent").map(|Continent(code)| Clue::Continent(code));
    let near = near(section).map(Clue::Near);
    let place = place(section);
    let given: Vec<_> =
        ["asn", "country", "continent", "near"].into_iter().filter(|key| section.has(key)).collect();
    match given[..] {
        [] => section
            .problem("country", "none of `asn`, `country`, `continent` and `near` is given: one is needed"),
        [_] => {}
        [first, second, ..] => {
            section.problem(second, format!("`{first}` is given, too: remove one, or make two items of it"));
        }
    }
    if section.has("subdivision") && !section.has("country") {
        section.problem("subdivision", "is one of a `country`, and none is given");
    }
    let country = country.map(|country| in_country(country, subdivision));
    Some(Rule { clue: asn.or(country).or(continent).or(near)?, place: place? })
}

fn in_country(country: Code, subdivision: Option<Code>) -> Clue {
    subdivision.map_or(Clue::Country(country), |subdivision| Clue::Subdivision(country, subdivision))
}

fn near(section: &mut Section<'_>) -> Option<Position> {
    let degrees: Vec<f64> = section.list("near", Vec::new());
    if section.items("near") != degrees.len() || degrees.is_empty() && !section.has("near") {
        return None;
    }
    let position = match degrees[..] {
        [latitude, longitude] => Position::new(latitude, longitude),
        _ => None,
    };
    if position.is_none() {
        section.problem(
            "near",
            "expected latitude (-90 to 90) and longitude (-180 to 180) in degrees, such as `[40.7, -74.0]`",
        );
    }
    position
}
