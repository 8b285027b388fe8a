//! A zone as text in master-file format (RFC 1035 §5.1): one record a line, sorted, diffable, accepted by zone checkers.

use std::fmt::{self, Write};

use crate::name::write_name;
use crate::records::{Data, Record};
use crate::snapshot::Snapshot;
use crate::zone::Zone;

/// Writes all records of `zone`.
pub fn write_zone(out: &mut impl Write, snapshot: &Snapshot, zone: &Zone) -> fmt::Result {
    writeln!(out, "$ORIGIN {}", zone.config.origin)?;
    for record in snapshot.records(zone) {
        write_record(out, snapshot, zone, &record)?;
    }
    Ok(())
}

/// Writes one record: `OWNER TTL IN TYPE RDATA`, names relative to the origin.
fn write_record(out: &mut impl Write, snapshot: &Snapshot, zone: &Zone, record: &Record) -> fmt::Result {
    relative(out, &record.owner)?;
    write!(out, " {} IN ", record.ttl)?;
    match &record.data {
        Data::Soa => {
            let config = &zone.config;
            write!(out, "SOA {} {} {} ", config.name_server, config.hostmaster, snapshot.serial)?;
            write!(out, "{} {} {} {}", config.refresh, config.retry, config.expire, config.negative_ttl)?;
        }
        Data::Ns => write!(out, "NS {}", zone.config.name_server)?,
        Data::A(address) => write!(out, "A {address}")?,
        Data::Aaaa(address) => write!(out, "AAAA {address}")?,
        Data::Srv { weight, port, target } => {
            write!(out, "SRV 0 {weight} {port} ")?;
            relative(out, target)?;
        }
        Data::Txt(text) => write!(out, "TXT \"{text}\"")?,
        Data::Ptr(name) => write!(out, "PTR {name}")?,
    }
    writeln!(out)
}

fn relative(out: &mut impl Write, labels: &[u8]) -> fmt::Result {
    if labels.is_empty() {
        return out.write_char('@');
    }
    let mut text = String::new();
    write_name(&mut text, labels)?;
    out.write_str(text.trim_end_matches('.'))
}
