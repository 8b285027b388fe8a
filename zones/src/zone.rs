//! Zones: what is configured of each, and which of them a name belongs to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use crate::name::{Name, NameError};
use crate::question::QName;
use crate::reverse::is_reverse;

/// Time to live of the record `dns-version`, from the example of the MCS DNS specification (KEP-1645 §2.2).
pub const VERSION_TTL: u32 = 28_800;
/// Schema version of the MCS DNS specification, the value of TXT `dns-version`.
pub const DNS_VERSION: &str = "1.0.0";

/// What an operator says about one zone.
#[derive(Debug, Clone, PartialEq)]
pub struct ZoneConfig {
    /// For example `clusterset.local`.
    pub origin: Name,
    /// TTL of addresses, PTR and apex records, in seconds.
    pub ttl: u32,
    /// TTL of SRV records, in seconds.
    pub srv_ttl: u32,
    /// SOA MINIMUM and the TTL of negative answers, in seconds (RFC 2308 §4).
    pub negative_ttl: u32,
    /// The name server: relative to the origin, for example `ns.dns`.
    pub name_server: Box<str>,
    /// Addresses of the name server: glue.
    pub name_server_addresses: Vec<IpAddr>,
    /// SOA RNAME, relative to the origin, for example `hostmaster`.
    pub hostmaster: Box<str>,
    /// SOA REFRESH, in seconds.
    pub refresh: u32,
    /// SOA RETRY, in seconds.
    pub retry: u32,
    /// SOA EXPIRE, in seconds.
    pub expire: u32,
}

impl ZoneConfig {
    /// CoreDNS's values for everything but the origin.
    pub fn new(origin: Name) -> Self {
        Self {
            origin,
            ttl: 5,
            srv_ttl: 5,
            negative_ttl: 5,
            name_server: "ns.dns".into(),
            name_server_addresses: Vec::new(),
            hostmaster: "hostmaster".into(),
            refresh: 7200,
            retry: 1800,
            expire: 86_400,
        }
    }
}

/// A zone ready to answer from.
#[derive(Debug, Clone, PartialEq)]
pub struct Zone {
    /// As configured.
    pub config: ZoneConfig,
    /// What is below it.
    pub kind: ZoneKind,
    /// The name server's absolute name (SOA MNAME and NS).
    pub name_server: Name,
    /// SOA RNAME, absolute.
    pub hostmaster: Name,
    /// IPv4 glue.
    pub glue_v4: Box<[Ipv4Addr]>,
    /// IPv6 glue.
    pub glue_v6: Box<[Ipv6Addr]>,
    origin_labels: usize,
}

/// What a zone holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ZoneKind {
    /// Services, as the MCS DNS specification names them.
    Services,
    /// PTR records below `in-addr.arpa` or `ip6.arpa`.
    Reverse,
}

impl Zone {
    fn new(config: ZoneConfig) -> Result<Self, NameError> {
        let below = |relative: &str| {
            let relative_name = Name::parse(relative)?;
            let labels = &relative_name.wire()[..relative_name.wire().len() - 1];
            config.origin.child(labels).ok_or_else(|| NameError::NameLength(relative.to_owned()))
        };
        let addresses = &config.name_server_addresses;
        Ok(Self {
            name_server: below(&config.name_server)?,
            hostmaster: below(&config.hostmaster)?,
            glue_v4: addresses
                .iter()
                .filter_map(|a| if let IpAddr::V4(a) = a { Some(*a) } else { None })
                .collect(),
            glue_v6: addresses
                .iter()
                .filter_map(|a| if let IpAddr::V6(a) = a { Some(*a) } else { None })
                .collect(),
            kind: if is_reverse(&config.origin) { ZoneKind::Reverse } else { ZoneKind::Services },
            origin_labels: config.origin.labels(),
            config,
        })
    }

    /// The origin in wire form.
    pub fn origin(&self) -> &[u8] {
        self.config.origin.wire()
    }

    /// Number of the origin's labels.
    pub fn origin_labels(&self) -> usize {
        self.origin_labels
    }
}

/// Most endpoints of a headless service in one answer, unless configured otherwise.
pub const DEFAULT_MAX_ENDPOINTS: usize = 1000;

/// All zones that one server answers for.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Zones {
    /// Longest origin first, so that the first match is the closest.
    zones: Box<[Zone]>,
    /// Where the first configured zone of services is.
    primary: Option<usize>,
    options: Options,
}

/// What holds for all zones of services.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Most endpoints of a headless service that are answered: the same ones in A, AAAA and SRV.
    pub max_endpoints: usize,
    /// Whether clients may say where they are in the name: `<zone>.pin._zone.<service>…`, `<zone>.prefer._zone.<service>…`, and
    /// the same with `_region`.
    pub zonal_names: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { max_endpoints: DEFAULT_MAX_ENDPOINTS, zonal_names: false }
    }
}

/// Why zones can't be served together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ZonesError {
    /// A relative name of the zone makes no domain name.
    #[error("zone `{origin}`: {error}")]
    Name {
        /// The zone.
        origin: Name,
        /// What is wrong.
        error: NameError,
    },
    /// One origin twice.
    #[error("zone `{0}` is configured twice: remove one of them")]
    Duplicate(Name),
}

impl Zones {
    /// Checks the zones and puts them in order.
    pub fn new(configs: Vec<ZoneConfig>) -> Result<Arc<Self>, ZonesError> {
        Self::with(configs, Options::default())
    }

    /// [`Zones::new`] with options.
    pub fn with(configs: Vec<ZoneConfig>, options: Options) -> Result<Arc<Self>, ZonesError> {
        let mut zones = Vec::with_capacity(configs.len());
        for config in configs {
            let origin = config.origin.clone();
            if zones.iter().any(|zone: &Zone| zone.config.origin == origin) {
                return Err(ZonesError::Duplicate(origin));
            }
            zones.push(Zone::new(config).map_err(|error| ZonesError::Name { origin, error })?);
        }
        let services = |zone: &&Zone| zone.kind == ZoneKind::Services;
        let first = zones.iter().find(services).map(|zone| zone.config.origin.clone());
        zones.sort_by_key(|zone| std::cmp::Reverse(zone.origin_labels));
        let primary = zones.iter().position(|zone| Some(&zone.config.origin) == first.as_ref());
        Ok(Arc::new(Self { zones: zones.into(), primary, options }))
    }

    /// The closest zone at or above `name`, its position in [`Zones::iter`], and the number of labels above its origin.
    pub fn find(&self, name: &QName) -> Option<(usize, &Zone, usize)> {
        self.zones.iter().enumerate().find_map(|(at, zone)| {
            name.strip(zone.origin(), zone.origin_labels).map(|above| (at, zone, above))
        })
    }

    /// All zones.
    pub fn iter(&self) -> std::slice::Iter<'_, Zone> {
        self.zones.iter()
    }

    /// Most endpoints of a headless service that are answered.
    pub fn max_endpoints(&self) -> usize {
        self.options.max_endpoints
    }

    /// Whether clients may say where they are in the name.
    pub(crate) fn zonal_names(&self) -> bool {
        self.options.zonal_names
    }

    /// Octets of the longest origin of a services zone, with its root label.
    pub(crate) fn longest_origin(&self) -> usize {
        let services = self.zones.iter().filter(|zone| zone.kind == ZoneKind::Services);
        services.map(|zone| zone.origin().len()).max().unwrap_or(1)
    }

    /// The first configured zone of services: PTR records point into it.
    pub fn primary(&self) -> Option<&Zone> {
        self.primary.and_then(|at| self.zones.get(at))
    }

    /// Whether any zone is below `in-addr.arpa` or `ip6.arpa`.
    pub(crate) fn reverse(&self) -> bool {
        self.zones.iter().any(|zone| zone.kind != ZoneKind::Services)
    }
}

impl<'a> IntoIterator for &'a Zones {
    type Item = &'a Zone;
    type IntoIter = std::slice::Iter<'a, Zone>;
    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}
