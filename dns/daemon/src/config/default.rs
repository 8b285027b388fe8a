//! What holds when nothing is written. `defaults.yaml` says the same to people; a test compares them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use portolan_dns::geo::GeoConfig;
use portolan_dns::settings::Settings;
use portolan_sync::vip::PoolRanges;
use portolan_sync::{PoolConfig, ProbeBudget};
use portolan_zones::{Name, ZoneConfig};

use super::{Config, Controller, Cookies, Listen, Log, LogFormat};

impl Default for Config {
    fn default() -> Self {
        Self {
            clusters: Vec::new(),
            peers: Vec::new(),
            home: None,
            own: None,
            controller: Controller::default(),
            zones: Name::parse("clusterset.local").map(ZoneConfig::new).into_iter().collect(),
            reverse_zones: Vec::new(),
            max_endpoints: 1000,
            zonal_names: false,
            vips: PoolConfig {
                ranges: PoolRanges::default(),
                quarantine: Duration::from_secs(3600),
                state_file: Some("vips.json".into()),
            },
            policies: Vec::new(),
            states: Vec::new(),
            probes: ProbeBudget::default(),
            listen: Listen::default(),
            tls: None,
            https_path: "/dns-query".into(),
            answers: Settings::default(),
            networks: Vec::new(),
            geo: GeoConfig::default(),
            cookies: Cookies::default(),
            admin: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 9153))),
            lameduck: Duration::from_secs(5),
            log: Log::default(),
        }
    }
}

impl Default for Listen {
    fn default() -> Self {
        let any: [IpAddr; 2] = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
        let port_53 = any.map(|address| SocketAddr::new(address, 53)).to_vec();
        Self { udp: port_53.clone(), tcp: port_53, tls: vec![], https: vec![], quic: vec![] }
    }
}

impl Default for Cookies {
    fn default() -> Self {
        Self { enabled: true, secrets: Vec::new(), secret_file: None }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self { format: LogFormat::Human, level: "info".into() }
    }
}
