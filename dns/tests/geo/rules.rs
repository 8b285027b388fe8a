//! Which rule holds.

use super::mmdb::{Value, asn, city};
use super::*;

const BAVARIA: [f64; 2] = [48.1, 11.6];

/// The order of [`Clue`]; in one sort what is written first.
#[test]
fn what_says_more_goes_before_what_says_less() {
    let files = Files::new();
    let cities = Mmdb::new("City")
        .network("192.0.2.0/24", &city("EU", "DE", "BY", BAVARIA))
        .network("198.51.100.0/24", &city("EU", "DE", "BE", [52.5, 13.4]))
        .network("203.0.113.0/24", &city("EU", "FR", "IDF", [48.9, 2.4]))
        .network("233.252.0.0/24", &city("NA", "US", "NY", [40.7, -74.0]));
    let numbers =
        Mmdb::of_ipv4("ASN").network("192.0.2.128/25", &asn(64500)).network("203.0.113.0/28", &asn(64501));
    files.put("cities", cities.octets());
    files.put("numbers", numbers.octets());
    let rules = vec![
        rule(near(0.0, 0.0), "near"),
        rule(Clue::Continent(code("EU")), "eu"),
        rule(Clue::Country(code("DE")), "de"),
        rule(Clue::Country(code("DE")), "never"),
        rule(Clue::Subdivision(code("DE"), code("BY")), "by"),
        rule(Clue::Subdivision(code("US"), code("BY")), "never"),
        rule(Clue::Asn(64500), "asn"),
    ];
    for names in [["cities", "numbers"], ["numbers", "cities"]] {
        let geo = Geo::start(files.config(&names, rules.clone()));
        for (address, expected) in [
            ("192.0.2.1", ("by", 25)),
            ("192.0.2.129", ("asn", 25)),
            ("198.51.100.1", ("de", 24)),
            ("203.0.113.1", ("eu", 24)),
            ("233.252.0.1", ("near", 24)),
        ] {
            let regions = ["near", "eu", "de", "by", "asn", "never"];
            assert_eq!(located(&geo, &regions, address), expected, "{address} of {names:?}");
        }
    }
}

/// The great circle: across the antimeridian, and over the pole.
#[test]
fn the_nearest_is_the_nearest_on_the_globe() {
    let regions = ["london", "new-york", "tokyo", "samoa", "mcmurdo"];
    let points = [(51.5, -0.1), (40.7, -74.0), (35.7, 139.7), (-13.8, -171.8), (-77.8, 166.7)];
    let rules: Vec<_> = points
        .iter()
        .zip(regions)
        .map(|((latitude, longitude), name)| rule(near(*latitude, *longitude), name))
        .collect();
    for (name, at, expected) in [
        ("Paris", [48.9, 2.4], "london"),
        ("Toronto", [43.7, -79.4], "new-york"),
        ("Seoul", [37.6, 127.0], "tokyo"),
        ("Suva, west of the antimeridian", [-18.1, 178.4], "samoa"),
        ("a ship off Peter I Island", [-75.0, -90.0], "mcmurdo"),
        ("the North Pole", [90.0, 0.0], "london"),
        ("the North Pole by another name", [90.0, 135.0], "london"),
    ] {
        let geo = geo(&Mmdb::new("City").network("192.0.2.0/24", &city("XX", "XX", "XX", at)), rules.clone());
        assert_eq!(located(&geo, &regions, "192.0.2.1"), (expected, 24), "{name}");
        assert_eq!(located(&geo, &regions, "192.0.3.1").0, "-", "nothing is known of it, so nothing is near");
    }
}

/// Known distances, to a hundredth.
#[test]
fn distances_are_those_of_the_globe() {
    let at = |latitude, longitude| Position::new(latitude, longitude).unwrap();
    for (a, b, kilometres) in [
        (at(51.5, -0.1), at(40.7, -74.0), 5570.0),
        (at(0.0, 0.0), at(0.0, 180.0), 20_015.0),
        (at(0.0, 179.0), at(0.0, -179.0), 222.4),
        (at(90.0, 10.0), at(90.0, -100.0), 0.0),
        (at(48.1, 11.6), at(48.1, 11.6), 0.0),
    ] {
        let (there, back) = (a.distance(&b), b.distance(&a));
        assert!((there - kilometres).abs() <= kilometres / 100.0 + 1e-6, "{there} is not {kilometres}");
        assert!((there - back).abs() < 1e-9);
    }
    for (latitude, longitude) in [(90.1, 0.0), (0.0, -180.1), (f64::NAN, 0.0), (0.0, f64::INFINITY)] {
        assert_eq!(Position::new(latitude, longitude), None);
    }
}

/// Values that can't be are as good as none.
#[test]
fn senseless_values_are_no_clue() {
    for at in [[f64::NAN, 0.0], [0.0, 1e300], [91.0, 0.0]] {
        let geo = geo(
            &Mmdb::new("City").network("192.0.2.0/24", &city("EUROPE", "", "%", at)),
            vec![rule(near(0.0, 0.0), "near"), rule(Clue::Continent(code("EU")), "eu")],
        );
        assert_eq!(located(&geo, &["near", "eu"], "192.0.2.1"), ("-", 0), "{at:?}");
    }
}

/// A field of another type is of another format, or damaged.
#[test]
fn fields_of_other_types_are_refused() {
    let text = Value::Map(vec![("country", Value::Text("DE"))]);
    let number = Value::Map(vec![("autonomous_system_number", Value::Text("AS64500"))]);
    for value in [text, number] {
        let files = Files::new();
        files.put("a", Mmdb::new("Other").network("192.0.2.0/24", &value).octets());
        let error = Geo::default().prepare(&files.config(&["a"], Vec::new())).unwrap_err().to_string();
        assert!(error.contains("is no sound MaxMind database"), "{error}");
    }
}
