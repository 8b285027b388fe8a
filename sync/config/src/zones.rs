//! Zones: what their SOA and NS records say, and how long records hold.

use portolan_zones::{Name, ZoneConfig};

use crate::scalar::ReverseOrigin;
use crate::section::Section;

/// Largest TTL (RFC 2181 §8).
const MAX_TTL: u32 = i32::MAX as u32;

/// Zones of services, and origins of zones of PTR records.
pub(crate) fn read(root: &mut Section<'_>) -> (Vec<ZoneConfig>, Vec<Name>) {
    let zones = root.sections("zones", default().into_iter().collect(), zone);
    if zones.is_empty() && root.items("zones") == 0 {
        root.problem("zones", "there must be a zone: leave `zones` out for clusterset.local");
    }
    let reverse_zones: Vec<Name> =
        root.list("reverse-zones", Vec::new()).into_iter().map(|ReverseOrigin(o)| o).collect();
    root.refuse_twice("reverse-zones", reverse_zones.iter().map(Some));
    root.refuse_twice("zones", zones.iter().map(|zone| Some(&zone.origin)));
    (zones, reverse_zones)
}

/// clusterset.local, as KEP-1645 has it.
pub(crate) fn default() -> Option<ZoneConfig> {
    Name::parse("clusterset.local").map(ZoneConfig::new).ok()
}

fn zone(section: &mut Section<'_>) -> Option<ZoneConfig> {
    let origin = section.required::<Name>("origin");
    if origin.as_ref().is_some_and(|origin| origin.labels() == 0) {
        section.problem("origin", "the root can't be served");
    }
    let default = default()?;
    let (name_server, name_server_addresses) = section.section("name-server", |server| {
        (relative_name(server, "name", &default.name_server), server.list("addresses", Vec::new()))
    });
    let config = ZoneConfig {
        ttl: ttl(section, "ttl", default.ttl),
        srv_ttl: ttl(section, "srv-ttl", default.srv_ttl),
        negative_ttl: ttl(section, "negative-ttl", default.negative_ttl),
        name_server,
        name_server_addresses,
        hostmaster: relative_name(section, "hostmaster", &default.hostmaster),
        refresh: ttl(section, "refresh", default.refresh),
        retry: ttl(section, "retry", default.retry),
        expire: ttl(section, "expire", default.expire),
        origin: default.origin,
    };
    Some(ZoneConfig { origin: origin?, ..config })
}

fn ttl(section: &mut Section<'_>, key: &'static str, default: u32) -> u32 {
    let seconds = section.get(key, default);
    if seconds > MAX_TTL {
        section.problem(key, format!("{seconds} seconds are more than {MAX_TTL} (RFC 2181 §8)"));
    }
    seconds
}

fn relative_name(section: &mut Section<'_>, key: &'static str, default: &str) -> Box<str> {
    let name = section.get(key, default.to_owned());
    match Name::parse(&name) {
        Ok(parsed) if parsed.labels() == 0 => {
            section.problem(key, "must hold a label, relative to the origin");
        }
        Ok(_) => {}
        Err(error) => section.problem(key, error.to_string()),
    }
    name.into()
}
