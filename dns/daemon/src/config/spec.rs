//! From what was written to what it means: which keys there are, and what must hold between them.

use std::path::{Path, PathBuf};

use portolan_dns::cookie::Secret;
use portolan_sync::vip::PoolRanges;
use portolan_sync::{PoolConfig, ProbeBudget};
use portolan_zones::{Name, ZoneConfig};
use tracing_subscriber::filter::{Directive, LevelFilter};

use super::kubernetes::{self, Cluster, Controller};
use super::scalar::{ReverseOrigin, Scalar};
use super::section::{Findings, Section};
use super::tree::{self, Malformed};
use super::{Config, Cookies, Listen, Log, LogFormat, Problem, Tls, answers, policies, whereabouts};

/// Largest TTL (RFC 2181 §8).
const MAX_TTL: u32 = i32::MAX as u32;

/// The configuration or everything that is wrong with it, by line; and which keys the parser knows.
pub(super) fn parse(
    text: &str,
    file: &Path,
    state_folder: Option<&Path>,
) -> (Result<Config, Vec<Problem>>, Vec<String>) {
    let folder = file.parent().map(Path::to_owned).unwrap_or_default();
    let state_folder = state_folder.map_or(folder, Path::to_owned);
    let mut findings = Findings { file: file.to_owned(), state_folder, ..Findings::default() };
    let root = match tree::parse(text) {
        Ok(root) => root,
        Err(Malformed(line, message)) => {
            findings.add(line, "", message);
            return (Err(findings.problems), Vec::new());
        }
    };
    let config = Section::read(&mut findings, String::new(), &root, config);
    findings.problems.sort_by_key(|problem| problem.line);
    let known = findings.known.into_iter().collect();
    (if findings.problems.is_empty() { Ok(config) } else { Err(findings.problems) }, known)
}

fn config(root: &mut Section<'_>) -> Config {
    let default = Config::default();
    match root.required::<String>("version").as_deref() {
        Some("v1") | None => {}
        Some(_) => root.problem("version", "this release reads `version: v1`"),
    }
    let listed = root.sections("clusters", Vec::new(), Cluster::read);
    let names: Vec<_> = listed.iter().map(|cluster| cluster.name().map(str::to_owned)).collect();
    duplicates(root, "clusters", names.iter().map(Option::as_ref));
    let (mut clusters, mut peers) = (default.clusters, default.peers);
    for cluster in listed {
        match cluster {
            Cluster::Manifests(source) => clusters.push(source),
            Cluster::Api(peer) => peers.push(*peer),
        }
    }
    let home = root.optional("home");
    let own =
        root.has("kubernetes").then(|| root.section("kubernetes", |s| kubernetes::own(s, home.clone())));
    let zones = root.sections("zones", default.zones, zone);
    if zones.is_empty() && root.items("zones") == 0 {
        root.problem("zones", "there must be a zone: leave `zones` out for clusterset.local");
    }
    let reverse_zones: Vec<Name> =
        root.list("reverse-zones", Vec::new()).into_iter().map(|ReverseOrigin(o)| o).collect();
    duplicates(root, "reverse-zones", reverse_zones.iter().map(Some));
    duplicates(root, "zones", zones.iter().map(|zone| Some(&zone.origin)));
    let policies = policies::policies(root, &zones);
    let listen = root.section("listen", Listen::read);
    let tls = root.section("tls", Tls::read);
    if tls.is_none() && listen.encrypted() {
        root.problem("tls", "listen.tls, listen.https and listen.quic need `certificate` and `key` here");
    }
    Config {
        clusters,
        peers,
        home,
        own,
        controller: root.section("controller", Controller::read),
        zones,
        reverse_zones,
        max_endpoints: root.at_least_one("max-endpoints", default.max_endpoints),
        zonal_names: root.get("zonal-names", default.zonal_names),
        vips: root.section("vips", |section| vips(section, default.vips)),
        policies,
        states: policies::states(root),
        probes: root.section("probes", |section| probes(section, default.probes)),
        listen,
        tls,
        https_path: root.section("https", |https| https_path(https, default.https_path)),
        answers: answers::read(root),
        networks: root.section("view", whereabouts::view),
        geo: root.section("geoip", whereabouts::geoip),
        cookies: root.section("cookies", Cookies::read),
        admin: root.section("admin", |admin| or_off(admin, "listen", default.admin)),
        lameduck: root.section("shutdown", |shutdown| shutdown.get("lameduck", default.lameduck)),
        log: root.section("log", Log::read),
    }
}

fn zone(section: &mut Section<'_>) -> Option<ZoneConfig> {
    let origin = section.required::<Name>("origin");
    if origin.as_ref().is_some_and(|origin| origin.labels() == 0) {
        section.problem("origin", "the root can't be served");
    }
    let default = Config::default().zones.pop()?;
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

fn probes(section: &mut Section<'_>, default: ProbeBudget) -> ProbeBudget {
    ProbeBudget {
        per_second: section.get("per-second", default.per_second),
        in_flight: section.get("in-flight", default.in_flight),
    }
}

fn vips(section: &mut Section<'_>, default: PoolConfig) -> PoolConfig {
    let ranges = section.section("pool", |pool| PoolRanges {
        ipv4: or_off(pool, "ipv4", default.ranges.ipv4),
        ipv6: or_off(pool, "ipv6", default.ranges.ipv6),
    });
    if let Err(error) = ranges.check() {
        section.problem("pool", error.to_string());
    }
    let state_file = or_off(section, "state-file", default.state_file);
    let state_file = state_file.map(|file| section.in_state_folder(&file));
    PoolConfig { ranges, quarantine: section.get("quarantine", default.quarantine), state_file }
}

impl Listen {
    fn read(section: &mut Section<'_>) -> Self {
        let default = Self::default();
        let listen = Self {
            udp: section.list("udp", default.udp),
            tcp: section.list("tcp", default.tcp),
            tls: section.list("tls", default.tls),
            https: section.list("https", default.https),
            quic: section.list("quic", default.quic),
        };
        for (key, addresses) in [
            ("udp", &listen.udp),
            ("tcp", &listen.tcp),
            ("tls", &listen.tls),
            ("https", &listen.https),
            ("quic", &listen.quic),
        ] {
            duplicates(
                section,
                key,
                addresses.iter().map(|address| (address.port() != 0).then_some(address)),
            );
        }
        listen
    }

    fn encrypted(&self) -> bool {
        ![&self.tls, &self.https, &self.quic].iter().all(|addresses| addresses.is_empty())
    }
}

impl Tls {
    fn read(section: &mut Section<'_>) -> Option<Self> {
        let certificate = section.optional::<PathBuf>("certificate");
        let key = section.optional::<PathBuf>("key");
        match (certificate, key) {
            (Some(certificate), Some(key)) => {
                Some(Self { certificate: section.beside_file(&certificate), key: section.beside_file(&key) })
            }
            (Some(_), None) => {
                section.problem("key", "`certificate` is given and `key` is not: both are needed");
                None
            }
            (None, Some(_)) => {
                section.problem("certificate", "`key` is given and `certificate` is not: both are needed");
                None
            }
            (None, None) => None,
        }
    }
}

impl Cookies {
    fn read(section: &mut Section<'_>) -> Self {
        let enabled = section.get("enabled", Self::default().enabled);
        let mut secrets = section.list::<Secret>("secrets", Vec::new());
        let secret_file = section.optional::<PathBuf>("secret-file").map(|file| section.beside_file(&file));
        match secret_file.as_deref().map(read_secrets) {
            Some(Ok(more)) => secrets.extend(more),
            Some(Err(message)) => section.problem("secret-file", message),
            None => {}
        }
        Self { enabled, secrets, secret_file }
    }
}

/// One secret a line, as in `secrets`.
fn read_secrets(file: &Path) -> Result<Vec<Secret>, String> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| format!("{} cannot be read: {error}", file.display()))?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(at, line)| {
            let secret = Secret::parse(line.trim());
            secret.map_err(|why| format!("line {} of {} {why}", at + 1, file.display()))
        })
        .collect()
}

impl Log {
    fn read(section: &mut Section<'_>) -> Self {
        let default = Self::default();
        let level = section.get("level", default.level);
        if !level.split(',').all(is_directive) {
            section.problem("level", format!("`{level}` is not error, warn, info, debug, trace or off, nor a list such as `info,portolan_dns=debug`"));
        }
        Self { format: section.get("format", default.format), level }
    }
}

/// A level, or `target=level`. Stricter than the filter, which takes a misspelt level for a target.
fn is_directive(text: &str) -> bool {
    let level = text.rsplit_once('=').map_or(text, |(_, level)| level);
    !level.is_empty() && level.parse::<LevelFilter>().is_ok() && text.parse::<Directive>().is_ok()
}

impl Scalar for LogFormat {
    const EXPECTED: &'static str = "`human` or `json`";

    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "human" => Ok(Self::Human),
            "json" => Ok(Self::Json),
            _ => Err(format!("is not {}", Self::EXPECTED)),
        }
    }
}

/// A value that an empty text turns off.
pub(super) fn or_off<T: Scalar>(
    section: &mut Section<'_>,
    key: &'static str,
    default: Option<T>,
) -> Option<T> {
    if section.has(key) { section.optional(key) } else { default }
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

fn https_path(section: &mut Section<'_>, default: String) -> String {
    let path = section.get("path", default);
    if !path.starts_with('/') {
        section.problem("path", format!("`{path}` must start with `/`"));
    }
    path
}

/// Refuses to have one thing twice in the list at `key`; `None` is no thing.
fn duplicates<'a, T: PartialEq + std::fmt::Display + 'a>(
    section: &mut Section<'_>,
    key: &'static str,
    items: impl Iterator<Item = Option<&'a T>>,
) {
    let items: Vec<_> = items.collect();
    if section.items(key) != items.len() {
        return; // Wrong items are left out, so positions are not those of the file.
    }
    let mut seen: Vec<Option<&T>> = Vec::new();
    for (at, item) in items.into_iter().enumerate() {
        match item {
            Some(twice) if seen.contains(&item) => {
                section.problem_in(key, at, format!("`{twice}` is listed twice: remove one"));
            }
            _ => seen.push(item),
        }
    }
}
