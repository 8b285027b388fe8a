//! `portolan zone`: a compiled zone as text.

use anyhow::{Context, bail};
use portolan_program::Outcome;
use portolan_zones::{Name, zonefile};

use crate::cli::Zone;
use crate::clusters;

/// The zone that is asked for, by default the first one of services.
pub(crate) fn run(asked: &Zone) -> anyhow::Result<Outcome> {
    let (snapshot, _) = clusters::load_once(&asked.source.load_manifests()?)?;
    let zone = match &asked.origin {
        None => snapshot.zones.primary().context("no zone of services is configured")?,
        Some(origin) => {
            let origin = Name::parse(origin)?;
            let Some(zone) = snapshot.zones.iter().find(|zone| zone.config.origin == origin) else {
                let known: Vec<_> =
                    snapshot.zones.iter().map(|zone| zone.config.origin.to_string()).collect();
                bail!("zone {origin} is not configured; configured are: {}", known.join(" "));
            };
            zone
        }
    };
    let mut text = String::new();
    zonefile::write_zone(&mut text, &snapshot, zone)?;
    Ok(Outcome::good(text))
}
