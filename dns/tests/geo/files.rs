//! Files that change, and files that are damaged.

use std::time::{Duration, Instant};

use portolan_dns::geo::Database;

use super::mmdb::{Child, asn, city};
use super::*;

fn sound(number: u32) -> Vec<u8> {
    let mmdb = Mmdb::new("City")
        .network("192.0.2.0/24", &city("EU", "DE", "BY", [48.1, 11.6]))
        .network("192.0.2.128/26", &asn(number))
        .network("2001:db8::/32", &city("NA", "US", "NY", [40.7, -74.0]));
    mmdb.octets()
}

fn rules() -> Vec<Rule> {
    vec![rule(Clue::Asn(1), "one"), rule(Clue::Asn(2), "two"), rule(near(0.0, 0.0), "near")]
}

const REGIONS: [&str; 3] = ["one", "two", "near"];
const ASKED: &str = "192.0.2.130";

/// Half-written files: metadata is at the end, so that none of them is mistaken for a whole one.
#[test]
fn every_beginning_of_a_file_is_refused() {
    let whole = sound(1);
    for length in 0..whole.len() {
        assert!(Database::from_octets(whole[..length].to_vec()).is_err(), "the first {length} octets");
    }
    assert!(Database::from_octets(whole).is_ok());
}

/// Whatever octet is damaged, how ever: refused or read, and every address has an answer.
#[test]
fn damage_never_panics() {
    let files = Files::new();
    let whole = sound(1);
    let config = files.config(&["a"], rules());
    let mut refused = 0;
    for at in 0..whole.len() {
        for damage in [0xff, whole[at] ^ 0x01, whole[at] ^ 0x80] {
            let mut octets = whole.clone();
            octets[at] = damage;
            if let Ok(database) = Database::from_octets(octets.clone()) {
                for address in [ASKED, "0.0.0.0", "255.255.255.255", "::", "2001:db8::1", "ffff::"] {
                    drop(database.locate(address.parse().unwrap()));
                }
            }
            std::fs::write(files.path("a"), &octets).unwrap();
            let geo = Geo::default();
            match geo.prepare(&config) {
                Ok(prepared) => geo.adopt(prepared),
                Err(_) => refused += 1,
            }
            located(&geo, &REGIONS, "10.0.0.1");
        }
    }
    // Names that nobody asks for may be anything; the tree and the metadata may not.
    assert!((100..3 * whole.len()).contains(&refused), "{refused} of {} were refused", 3 * whole.len());
}

/// A tree that leads back into itself is found out, in no more steps than a sound one has.
#[test]
fn a_tree_without_end_is_refused() {
    let files = Files::new();
    let around = |nodes: u32| (0..nodes).map(|node| [Child::Node((node + 1) % nodes); 2]).collect();
    let long: Vec<_> = (0..500).map(|node| [Child::Node(node + 1), Child::Node(node + 1)]).collect();
    let long = [long, vec![[Child::Nothing; 2]]].concat();
    let begun = Instant::now();
    for tree in [around(1), around(2), around(1000), long] {
        files.put("a", Mmdb::new("Test").tree(tree).octets());
        let error = Geo::default().prepare(&files.config(&["a"], rules())).unwrap_err().to_string();
        assert!(error.ends_with("does not end; get it again"), "{error}");
    }
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
}

/// Nothing known is lost: a bad file is said and counted, and the last good one stays.
#[test]
fn files_are_followed() {
    let files = Files::new();
    let geo = Geo::start(files.config(&["a"], rules()));
    let state = || {
        geo.look();
        let [loaded, failed] =
            ["loaded", "failed"].map(|name| metric(&geo, &format!("portolan_geoip_database_{name}")));
        (located(&geo, &REGIONS, ASKED).0, loaded, failed)
    };
    assert_eq!(state(), ("-", 0.0, 1.0), "it is not there yet");
    files.put("a", sound(1));
    assert_eq!(state(), ("one", 1.0, 0.0));
    assert_eq!(metric(&geo, "portolan_geoip_database_build_timestamp_seconds"), 1_790_000_000.0);
    files.put("a", sound(2));
    assert_eq!(state(), ("two", 1.0, 0.0));

    let before = metric(&geo, "portolan_geoip_refused_total");
    let whole = sound(1);
    files.put("a", &whole[..whole.len() / 2]);
    assert_eq!(state(), ("two", 1.0, 1.0), "half written");
    assert_eq!(state(), ("two", 1.0, 1.0));
    assert_eq!(
        metric(&geo, "portolan_geoip_refused_total"),
        before + 1.0,
        "what doesn't change is not read again"
    );
    std::fs::write(files.path("a"), &whole).unwrap();
    assert_eq!(state(), ("one", 1.0, 0.0), "written to its end, in place");
    std::fs::remove_file(files.path("a")).unwrap();
    assert_eq!(state(), ("one", 1.0, 1.0), "gone");
    files.put("a", b"");
    assert_eq!(state(), ("one", 1.0, 1.0), "empty");
}

/// One file that is bad doesn't hold another one back.
#[test]
fn files_are_followed_one_by_one() {
    let files = Files::new();
    files.put("a", "nonsense");
    files.put("b", Mmdb::new("ASN").network("192.0.2.0/24", &asn(1)).octets());
    let geo = Geo::start(files.config(&["a", "b"], rules()));
    assert_eq!(located(&geo, &REGIONS, ASKED), ("one", 24));
    files.put("b", Mmdb::new("ASN").network("192.0.2.0/24", &asn(2)).octets());
    geo.look();
    assert_eq!(located(&geo, &REGIONS, ASKED), ("two", 24));
}

/// Another configuration is in force whole or not at all.
#[test]
fn another_configuration_is_prepared_first() {
    let files = Files::new();
    files.put("a", sound(1));
    let config = files.config(&["a"], rules());
    let geo = Geo::start(config.clone());
    let atlas = geo.atlas();
    geo.adopt(geo.prepare(&config).unwrap());
    geo.look();
    assert!(Arc::ptr_eq(&atlas, &geo.atlas()), "the same is nothing new");

    let error = geo.prepare(&files.config(&["a", "b"], rules())).unwrap_err().to_string();
    let expected = format!("database `{}` cannot be read: ", files.path("b").display());
    assert!(error.starts_with(&expected), "{error}");
    assert_eq!(located(&geo, &REGIONS, ASKED).0, "one");

    let prepared = geo.prepare(&files.config(&["a"], vec![rule(Clue::Asn(1), "other")])).unwrap();
    assert_eq!(located(&geo, &REGIONS, ASKED).0, "one", "nothing changes before it is adopted");
    geo.adopt(prepared);
    assert_eq!(located(&geo, &["other"], ASKED).0, "other");
    geo.adopt(geo.prepare(&GeoConfig::default()).unwrap());
    assert!(geo.atlas().as_locate().is_none());
}
