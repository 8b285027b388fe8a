//! What holds when nothing is written. `defaults.yaml` says the same to people; a test compares them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use portolan_zones::{Name, ZoneConfig};

use super::{Access, Config, Cookies, Edns, Listen, Log, LogFormat, RateLimit, Tcp, Vips};

const POOL_V4: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(241, 0, 0, 0), 8);
const POOL_V6: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::new(0xfd70, 0x6f72, 0x746f, 0, 0, 0, 0, 0), 108);

/// Loopback, private (RFC 1918), shared (RFC 6598), link-local and unique local (RFC 4193) networks: whoever asks
/// from there is a pod, a node or a forwarder of ours.
const PRIVATE: [IpNet; 9] = [
    v4([127, 0, 0, 0], 8),
    v4([10, 0, 0, 0], 8),
    v4([172, 16, 0, 0], 12),
    v4([192, 168, 0, 0], 16),
    v4([100, 64, 0, 0], 10),
    v4([169, 254, 0, 0], 16),
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128)),
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7)),
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10)),
];

const EVERYONE: [IpNet; 2] = [v4([0, 0, 0, 0], 0), IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 0))];

const fn v4(address: [u8; 4], prefix: u8) -> IpNet {
    let [a, b, c, d] = address;
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix))
}

impl Default for Config {
    fn default() -> Self {
        Self {
            clusters: Vec::new(),
            home: None,
            zones: Name::parse("clusterset.local").map(ZoneConfig::new).into_iter().collect(),
            reverse_zones: Vec::new(),
            max_endpoints: 1000,
            vips: Vips::default(),
            listen: Listen::default(),
            tls: None,
            https_path: "/dns-query".into(),
            tcp: Tcp::default(),
            edns: Edns::default(),
            cookies: Cookies::default(),
            rate_limit: RateLimit::default(),
            access: Access::default(),
            trusted_forwarders: Vec::new(),
            admin: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 9153))),
            lameduck: Duration::from_secs(5),
            log: Log::default(),
        }
    }
}

impl Default for Vips {
    fn default() -> Self {
        Self {
            ipv4: Some(POOL_V4),
            ipv6: Some(POOL_V6),
            state_file: "vips.json".into(),
            quarantine: Duration::from_secs(3600),
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

impl Default for Tcp {
    fn default() -> Self {
        Self {
            idle_timeout: Duration::from_secs(10),
            max_connections: 10_000,
            max_connections_per_client: 100,
            max_pipelined: 64,
        }
    }
}

impl Default for Edns {
    fn default() -> Self {
        Self { max_udp_payload: 1232, nsid: String::new() }
    }
}

impl Default for Cookies {
    fn default() -> Self {
        Self { enabled: true, secrets: Vec::new(), secret_file: None }
    }
}

impl Default for RateLimit {
    fn default() -> Self {
        Self {
            enabled: true,
            log_only: false,
            responses_per_second: 1000,
            nxdomains_per_second: 200,
            errors_per_second: 100,
            burst: 5,
            ipv4_prefix: 24,
            ipv6_prefix: 56,
            slip: 2,
            exempt: PRIVATE.to_vec(),
        }
    }
}

impl Default for Access {
    fn default() -> Self {
        Self { query: EVERYONE.to_vec(), deny: Vec::new() }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self { format: LogFormat::Human, level: "info".into() }
    }
}
