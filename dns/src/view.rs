//! Who asks: what a transport knows about a query besides its octets.

use std::net::SocketAddr;

/// Where a query came from and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct View {
    /// The other end: a client, or the resolver that asks for it.
    pub client: SocketAddr,
    /// How its query came, and how the reply goes back.
    pub transport: Transport,
}

/// How messages are carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Transport {
    /// Datagrams (RFC 1035 §4.2.1).
    Udp,
    /// RFC 7766.
    Tcp,
    /// RFC 7858.
    Tls,
    /// RFC 8484.
    Https,
    /// RFC 9250.
    Quic,
}

impl Transport {
    /// Whether nobody on the way can read it: then padding helps (RFC 7830 §6).
    pub fn is_encrypted(self) -> bool {
        matches!(self, Self::Tls | Self::Https | Self::Quic)
    }

    /// Whether the client's address is proven and a message may have 65,535 octets.
    pub fn is_stream(self) -> bool {
        self != Self::Udp
    }

    /// Whether one query may have many reply messages: zone transfers (RFC 5936 §4, RFC 9103).
    pub fn carries_transfers(self) -> bool {
        matches!(self, Self::Tcp | Self::Tls)
    }

    /// As metrics and logs name it.
    pub fn label(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Https => "https",
            Self::Quic => "quic",
        }
    }
}
