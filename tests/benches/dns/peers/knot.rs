//! Knot DNS: the zone from its file, and mod-geoip for answers that depend on a weight or on who asks.

use std::fmt::Write as _;

use super::{Launch, Place, address};
use crate::running::find;
use crate::zone::{Answers, WEIGHTS, Zone, name, placed};

pub fn prepare(zone: &Zone, place: &Place) -> Result<Launch, String> {
    let program = find("knotd", "knot")?;
    let (text, modules, uses) = match zone.answers {
        Answers::Static => (zone.text().display().to_string(), String::new(), ""),
        Answers::Weighted => {
            (place.write("zone", zone.apex()), geoip(zone, place, "weighted"), "    module: mod-geoip/m\n")
        }
        Answers::Near => {
            (place.write("zone", zone.apex()), geoip(zone, place, "subnet"), "    module: mod-geoip/m\n")
        }
    };
    let at = address();
    let folder = place.folder().display();
    let config = format!(
        "server:\n  listen: {}@{}\n  rundir: {folder}\n  udp-workers: 1\n  tcp-workers: 1\n  background-workers: 1\n  \
         edns-client-subnet: on\ndatabase:\n  storage: {folder}/db\n{modules}zone:\n  - domain: clusterset.local\n    \
         file: {text}\n    zonefile-sync: -1\n    zonefile-load: whole\n    journal-content: none\n{uses}",
        at.ip(),
        at.port()
    );
    let config = place.write("knot.conf", config);
    Ok(Launch { program, arguments: vec!["-c".into(), config], at, beside: None })
}

/// The module's section, and its file beside.
fn geoip(zone: &Zone, place: &Place, mode: &str) -> String {
    let mut text = String::new();
    for service in 0..zone.names {
        writeln!(text, "{}:", name(service)).unwrap();
        let addresses = zone.addresses(service);
        if mode == "weighted" {
            for (address, weight) in addresses.iter().zip(WEIGHTS) {
                writeln!(text, "  - weight: {weight}\n    A: {address}").unwrap();
            }
        } else {
            for (network, number) in placed() {
                writeln!(text, "  - net: {network}\n    A: {}", addresses[number]).unwrap();
            }
        }
    }
    let file = place.write("geoip.conf", text);
    format!("mod-geoip:\n  - id: m\n    config-file: {file}\n    mode: {mode}\n    ttl: 5\n")
}
