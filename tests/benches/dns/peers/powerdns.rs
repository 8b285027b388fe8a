//! PowerDNS: the zone from its file (bind backend), Lua records, and the geoip backend.

use std::fmt::Write as _;

use super::{Launch, Place, address};
use crate::running::find;
use crate::zone::{Answers, CLIENTS, SUBNETS, WEIGHTS, Zone, name, relative};

/// The zone's file, or Lua records.
pub fn prepare(zone: &Zone, place: &Place) -> Result<Launch, String> {
    let text = match zone.answers {
        Answers::Static => zone.text().display().to_string(),
        Answers::Weighted | Answers::Near => place.write("zone", lua(zone)),
    };
    let zones = format!("zone \"clusterset.local\" {{ type master; file \"{text}\"; }};\n");
    let zones = place.write("named.conf", zones);
    start(place, &format!("launch=bind\nbind-config={zones}\nenable-lua-records=shared\n"))
}

/// Weights, by the geoip backend.
pub fn geoip(zone: &Zone, place: &Place) -> Result<Launch, String> {
    let mut text = String::from(
        "domains:\n- domain: clusterset.local\n  ttl: 5\n  records:\n    clusterset.local:\n    \
         - soa: ns.dns.clusterset.local hostmaster.clusterset.local 1 7200 1800 86400 5\n    - ns: ns.dns.clusterset.local\n",
    );
    for service in 0..zone.names {
        writeln!(text, "    {}:", name(service)).unwrap();
        for (address, weight) in zone.addresses(service).iter().zip(WEIGHTS) {
            writeln!(text, "    - a: {{content: {address}, weight: {weight}}}").unwrap();
        }
    }
    let zones = place.write("zones.yaml", text);
    start(place, &format!("launch=geoip\ngeoip-zones-file={zones}\ngeoip-database-files=\n"))
}

/// By default it asks the world whether it has known weaknesses.
fn start(place: &Place, backend: &str) -> Result<Launch, String> {
    let program = find("pdns_server", "pdns-server pdns-backend-bind pdns-backend-geoip")?;
    let at = address();
    let folder = place.folder().display().to_string();
    let config = format!(
        "{backend}local-address={}\nlocal-port={}\nreceiver-threads=1\ndistributor-threads=1\nsocket-dir={folder}\ndaemon=no\n\
         guardian=no\ndisable-syslog=yes\nwebserver=no\nloglevel=4\nsecurity-poll-suffix=\nedns-subnet-processing=yes\n",
        at.ip(),
        at.port()
    );
    place.write("pdns.conf", config);
    Ok(Launch { program, arguments: vec![format!("--config-dir={folder}")], at, beside: None })
}

fn lua(zone: &Zone) -> String {
    let mut text = zone.apex();
    for service in 0..zone.names {
        let addresses = zone.addresses(service);
        let says = if zone.answers == Answers::Weighted {
            let each = addresses.iter().zip(WEIGHTS);
            let each: Vec<_> = each.map(|(address, weight)| format!("{{{weight},'{address}'}}")).collect();
            format!("pickwrandom({{{}}})", each.join(","))
        } else {
            let each = addresses.iter().zip(CLIENTS.iter().zip(SUBNETS));
            let each: Vec<_> = each
                .map(|(address, (client, subnet))| {
                    format!("if(netmask({{'{client}','{subnet}'}})) then return '{address}'")
                })
                .collect();
            format!(";{} end", each.join(" else"))
        };
        writeln!(text, "{} 5 IN LUA A \"{says}\"", relative(service)).unwrap();
    }
    text
}
