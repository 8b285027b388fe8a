//! What a database says of an address.

use portolan_dns::geo::{Database, Location, Position};

use super::mmdb::{Child, Mmdb, Value, asn, city};
use super::*;

const MUNICH: [f64; 2] = [48.1, 11.6];

fn database(mmdb: &Mmdb) -> Database {
    Database::from_octets(mmdb.octets()).unwrap()
}

#[test]
fn fields_that_are_there_are_read() {
    let munich = Location {
        continent: Some(code("EU")),
        country: Some(code("DE")),
        subdivision: Some(code("BY")),
        asn: None,
        position: Position::new(48.1, 11.6),
    };
    let country = Value::Map(vec![("country", Value::Map(vec![("iso_code", Value::Text("JP"))]))]);
    for size in [24, 28, 32] {
        let database = database(
            &Mmdb::new("Test")
                .record_size(size)
                .network("192.0.2.0/24", &city("EU", "DE", "BY", MUNICH))
                .network("192.0.2.128/25", &asn(64500))
                .network("198.51.100.0/22", &country)
                .network("2001:db8::/32", &city("EU", "DE", "BY", MUNICH))
                .with_aliases(),
        );
        let (nothing, jp) = (Location::default(), Some(code("JP")));
        for (address, expected, length) in [
            ("192.0.2.1", munich, 25),
            ("192.0.2.200", Location { asn: Some(64500), ..nothing }, 25),
            ("198.51.101.1", Location { country: jp, ..nothing }, 22),
            ("192.0.3.1", nothing, 24),
            ("2001:db8::1", munich, 32),
            ("2001:db9::1", nothing, 32),
        ] {
            let found = database.locate(address.parse().unwrap()).unwrap();
            assert_eq!(found, (expected, length), "{address} with records of {size} bits");
        }
    }
}

/// GeoIP2 Enterprise has the number elsewhere.
#[test]
fn the_number_of_the_autonomous_system_may_be_a_trait() {
    let traits = Value::Map(vec![("traits", asn(64501))]);
    let database = database(&Mmdb::new("GeoIP2-Enterprise").network("192.0.2.0/24", &traits));
    assert_eq!(database.locate("192.0.2.1".parse().unwrap()).unwrap().0.asn, Some(64501));
}

#[test]
fn a_database_of_ipv4_knows_nothing_of_ipv6() {
    let mmdb = Mmdb::of_ipv4("Test").network("192.0.2.0/24", &asn(64500));
    let found = |address: &str| database(&mmdb).locate(address.parse().unwrap()).unwrap();
    assert_eq!(found("192.0.2.1"), (Location { asn: Some(64500), ..Location::default() }, 24));
    assert_eq!(found("2001:db8::1"), (Location::default(), 0));
    let geo = geo(&mmdb, vec![rule(Clue::Asn(64500), "a")]);
    assert_eq!(located(&geo, &["a"], "192.0.2.1"), ("a", 24));
    assert_eq!(located(&geo, &["a"], "2001:db8::1"), ("-", 0));
}

/// The widest prefix with one answer (RFC 7871 §7.2.1): neighbours that mean the same place are one.
#[test]
fn the_prefix_spans_networks_of_one_place() {
    let mmdb = Mmdb::new("Test")
        .network("10.0.0.0/10", &city("EU", "DE", "BY", MUNICH))
        .network("10.64.0.0/10", &city("EU", "DE", "BE", MUNICH))
        .network("10.128.0.0/9", &city("EU", "FR", "IDF", MUNICH))
        .network("2001:db8::/33", &city("EU", "DE", "BY", MUNICH))
        .network("2001:db8:8000::/33", &city("EU", "FR", "IDF", MUNICH))
        .with_aliases();
    let rules = vec![rule(Clue::Country(code("DE")), "de"), rule(Clue::Country(code("FR")), "fr")];
    let geo = geo(&mmdb, rules);
    for (address, expected) in [
        ("10.1.2.3", ("de", 9)),
        ("10.65.2.3", ("de", 9)),
        ("10.129.2.3", ("fr", 9)),
        ("9.255.255.255", ("-", 7)),
        ("11.0.0.0", ("-", 8)),
        ("192.0.2.1", ("-", 1)),
        ("2001:db8::1", ("de", 33)),
        ("2001:db8:8000::1", ("fr", 33)),
        ("2002:a01:203::1", ("-", 15)),
        ("::a01:203", ("-", 3)),
    ] {
        assert_eq!(located(&geo, &["de", "fr"], address), expected, "{address}");
    }
    // What was given out has the same place from end to end.
    let atlas = geo.atlas();
    for address in (0..=u32::MAX).step_by(0x0013_579b) {
        let (place, length) = atlas.locate(std::net::Ipv4Addr::from(address).into());
        let mask = u32::MAX.checked_shr(length.into()).unwrap_or(0);
        for edge in [address & !mask, address | mask] {
            assert_eq!(atlas.locate(std::net::Ipv4Addr::from(edge).into()), (place, length), "{address:x}");
        }
    }
}

/// A file may be one record for everything, or none.
#[test]
fn a_tree_may_be_as_small_as_can_be() {
    let everything = Mmdb::new("Test").network("::/1", &asn(1)).network("8000::/1", &asn(1));
    let one = geo(&everything, vec![rule(Clue::Asn(1), "a")]);
    assert_eq!(located(&one, &["a"], "192.0.2.1"), ("a", 0));
    let nothing = geo(&Mmdb::new("Test").tree(vec![[Child::Nothing; 2]]), vec![rule(Clue::Asn(1), "a")]);
    assert_eq!(located(&nothing, &["a"], "192.0.2.1"), ("-", 0));
    assert_eq!(located(&nothing, &["a"], "2001:db8::1"), ("-", 0));
}
