//! Databases: what is found in them, which rule holds, and that no file, however damaged, does harm.

#![allow(clippy::unwrap_used, clippy::panic, unreachable_pub, reason = "tests fail by panicking")]

mod files;
mod lookups;
#[path = "../mmdb/mod.rs"]
mod mmdb;
mod rules;

use std::path::PathBuf;
use std::sync::Arc;

use portolan_dns::geo::{Clue, Code, Geo, GeoConfig, Position, Rule};
use portolan_zones::places::{Locate, Place};
use prometheus_client::registry::Registry;
use tempfile::TempDir;

use mmdb::Mmdb;

/// A folder with databases.
struct Files(TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// As those who update databases do: renamed over the old one.
    fn put(&self, name: &str, octets: impl AsRef<[u8]>) {
        std::fs::write(self.path("new"), octets).unwrap();
        std::fs::rename(self.path("new"), self.path(name)).unwrap();
    }

    fn config(&self, names: &[&str], rules: Vec<Rule>) -> GeoConfig {
        GeoConfig { databases: names.iter().map(|name| self.path(name)).collect(), rules }
    }
}

/// One database and rules.
fn geo(database: &Mmdb, rules: Vec<Rule>) -> Arc<Geo> {
    let files = Files::new();
    files.put("a", database.octets());
    Geo::start(files.config(&["a"], rules))
}

fn region(name: &str) -> Place {
    Place { region: Some(name.into()), ..Place::default() }
}

fn rule(clue: Clue, name: &str) -> Rule {
    Rule { clue, place: region(name) }
}

fn code(text: &str) -> Code {
    Code::new(text).unwrap()
}

fn near(latitude: f64, longitude: f64) -> Clue {
    Clue::Near(Position::new(latitude, longitude).unwrap())
}

/// Which of these regions an address is in, and how far around it.
fn located<'a>(geo: &Geo, regions: &[&'a str], address: &str) -> (&'a str, u8) {
    let (key, length) = geo.atlas().locate(address.parse().unwrap());
    let named = key.map(|key| *regions.iter().find(|name| region(name).key() == key).unwrap());
    (named.unwrap_or("-"), length)
}

/// The value of a metric with this beginning.
fn metric(geo: &Arc<Geo>, name: &str) -> f64 {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(geo.clone()));
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{name}: {text}"));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}
