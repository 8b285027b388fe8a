//! What holds when nothing is written. `portolan_config::DEFAULTS` says the same to people; a test compares them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use portolan_config::{Clusterset, Log};
use portolan_dns::geo::GeoConfig;
use portolan_dns::server::Threads;
use portolan_dns::settings::Settings;

use super::{Config, Cookies, Listen};

impl Default for Config {
    fn default() -> Self {
        Self {
            clusterset: Clusterset::default(),
            listen: Listen::default(),
            udp_threads: Threads::default(),
            tls: None,
            https_path: "/dns-query".into(),
            answers: Settings::default(),
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
