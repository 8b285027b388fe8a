//! What an operator chose. Immutable while it is used; a reload swaps it whole.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU32;
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::cookie::Secret;

/// All settings of the answering side. `Default` is safe to serve with.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Settings {
    /// What the server says about itself.
    pub identity: Identity,
    /// Message sizes and options.
    pub edns: Edns,
    /// DNS cookies.
    pub cookies: Cookies,
    /// Response rate limiting.
    pub rate_limit: RateLimit,
    /// Who may ask, who may copy a zone.
    pub access: Access,
    /// Connections.
    pub tcp: Tcp,
}

/// Answers about the server itself; nothing is told unless it is configured.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Identity {
    /// NSID (RFC 5001), `id.server` and `hostname.bind` (RFC 4892); NSID tells its first 128 octets.
    pub nsid: Option<Box<str>>,
    /// `version.server` and `version.bind`.
    pub version: Option<Box<str>>,
}

/// EDNS(0), RFC 6891.
#[derive(Debug, Clone, PartialEq)]
pub struct Edns {
    /// Largest UDP message that is sent or advertised, in octets; 1232 avoids IP fragments (DNS flag day 2020).
    pub max_udp_payload: u16,
    /// Whether Client Subnet (RFC 7871) is understood; if not, it is an unknown option.
    pub client_subnet: bool,
    /// Forwarders that are believed what they say of their clients by Client Subnet. Everybody else's is echoed, and means
    /// nothing: whoever could claim to be elsewhere would choose the answer.
    pub trusted_forwarders: Vec<IpNet>,
}

impl Edns {
    /// Whether somebody is believed where clients are.
    pub(crate) fn trusts(&self, asker: IpAddr) -> bool {
        self.client_subnet && self.trusted_forwarders.iter().any(|network| network.contains(&asker))
    }

    /// Whether a forwarder is trusted by its address, and not as one of a network.
    pub(crate) fn lists(&self, forwarder: IpAddr) -> bool {
        self.trusted_forwarders.contains(&IpNet::from(forwarder))
    }
}

impl Default for Edns {
    fn default() -> Self {
        Self { max_udp_payload: 1232, client_subnet: true, trusted_forwarders: Vec::new() }
    }
}

/// DNS cookies (RFC 7873, RFC 9018).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Cookies {
    /// The first one signs, all verify: that is how secrets roll over. Empty turns cookies off. Servers
    /// behind one address must share them.
    pub secrets: Vec<Secret>,
}

/// Response rate limiting of UDP, by client network and class of response.
#[derive(Debug, Clone, PartialEq)]
pub struct RateLimit {
    /// Replies of one class to one network in a second; `None` turns it off.
    pub per_second: Option<NonZeroU32>,
    /// Replies that may come at once before that.
    pub burst: NonZeroU32,
    /// Every so many limited replies one is sent empty and truncated, for honest clients to come by TCP; 0: none.
    pub slip: u32,
    /// Which IPv4 addresses are one network.
    pub ipv4_prefix: u8,
    /// Which IPv6 addresses are one network.
    pub ipv6_prefix: u8,
    /// Never limited: one forwarder's address stands for thousands of pods.
    pub exempt: Vec<IpNet>,
    /// Count what would be limited, and send it.
    pub log_only: bool,
}

impl Default for RateLimit {
    /// NSD's suggestion of 200 a second, and no limit inside of a cluster.
    fn default() -> Self {
        Self {
            per_second: NonZeroU32::new(200),
            burst: NonZeroU32::MIN.saturating_add(399),
            slip: 2,
            ipv4_prefix: 24,
            ipv6_prefix: 56,
            exempt: private_networks(),
            log_only: false,
        }
    }
}

/// Loopback, RFC 1918, shared address space (RFC 6598), link-local and ULA (RFC 4193).
pub fn private_networks() -> Vec<IpNet> {
    let v4 = [
        (Ipv4Addr::new(127, 0, 0, 0), 8),
        (Ipv4Addr::new(10, 0, 0, 0), 8),
        (Ipv4Addr::new(172, 16, 0, 0), 12),
        (Ipv4Addr::new(192, 168, 0, 0), 16),
        (Ipv4Addr::new(100, 64, 0, 0), 10),
        (Ipv4Addr::new(169, 254, 0, 0), 16),
    ];
    let v6 = [
        (Ipv6Addr::LOCALHOST, 128),
        (Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7),
        (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10),
    ];
    let v4 = v4.map(|(address, prefix)| IpNet::V4(Ipv4Net::new_assert(address, prefix)));
    let v6 = v6.map(|(address, prefix)| IpNet::V6(Ipv6Net::new_assert(address, prefix)));
    [&v4[..], &v6[..]].concat()
}

/// Access lists.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Access {
    /// Who may ask; nothing listed: everybody.
    pub query: AccessList,
    /// Who may copy a zone (AXFR, IXFR); nothing listed: nobody.
    pub transfer: AccessList,
    /// Who is told why they get what they get (TXT in class CH); nothing listed: nobody.
    pub explain: AccessList,
}

/// Networks; the closest one that holds an address decides, `deny` on a tie.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct AccessList {
    /// Let in.
    pub allow: Vec<IpNet>,
    /// Kept out.
    pub deny: Vec<IpNet>,
}

/// Limits of TCP and TLS (RFC 7766 §6.2, RFC 9210).
#[derive(Debug, Clone, PartialEq)]
pub struct Tcp {
    /// A connection without a query ends after this long; also told to clients (RFC 7828).
    pub idle_timeout: Duration,
    /// Connections at once; over it the one that was idle longest, or not read from, makes room, or the new one is refused.
    pub max_connections: usize,
    /// The same for the connections of one IPv4 address or IPv6 /64. A forwarder without pipelining needs one
    /// for each query that it waits for.
    pub max_connections_per_client: usize,
    /// Replies of one connection that wait to be written; the connection isn't read meanwhile.
    pub max_pipelined: usize,
}

impl Default for Tcp {
    fn default() -> Self {
        Self {
            idle_timeout: Duration::from_secs(30),
            max_connections: 4096,
            max_connections_per_client: 1024,
            max_pipelined: 128,
        }
    }
}
