//! What the kernel writes about a datagram: who sent it, and at which address of this machine it arrived.
//!
//! Both are octets here, read by their offsets: `struct sockaddr_in` and `sockaddr_in6` (ip(7), ipv6(7)), and one
//! control message (cmsg(3)) with `struct in_pktinfo` or `in6_pktinfo`.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

use libc::{AF_INET, AF_INET6, IP_PKTINFO, IPPROTO_IP, IPPROTO_IPV6, IPV6_PKTINFO, c_int};

/// A socket address of either family: as long as `sockaddr_in6`, the longer one.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(8))]
pub(super) struct Name([u8; Name::LEN]);

impl Name {
    pub(super) const LEN: usize = 28;
    pub(super) const NONE: Self = Self([0; Self::LEN]);

    /// The sender; `None` for what is no internet address.
    pub(super) fn address(&self) -> Option<SocketAddr> {
        let [f0, f1, p0, p1, a, b, c, d, rest @ ..] = &self.0;
        let (family, port) = (u16::from_ne_bytes([*f0, *f1]), u16::from_be_bytes([*p0, *p1]));
        match c_int::from(family) {
            AF_INET => Some(SocketAddr::new(Ipv4Addr::new(*a, *b, *c, *d).into(), port)),
            AF_INET6 => {
                let ip = Ipv6Addr::from(*rest.first_chunk::<16>()?);
                let scope = u32::from_ne_bytes(*rest.last_chunk()?);
                Some(SocketAddrV6::new(ip, port, 0, scope).into())
            }
            _ => None,
        }
    }
}

/// One control message: the address that a datagram arrived at, and that its reply leaves from.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(8))]
pub(super) struct Arrival {
    len: usize,
    level: c_int,
    kind: c_int,
    content: [u8; Arrival::CONTENT],
}

impl Arrival {
    /// `in6_pktinfo`, the longer one: an address and an interface's index, aligned as the kernel does.
    const CONTENT: usize = 24;
    pub(super) const LEN: usize = size_of::<Self>();
    pub(super) const NONE: Self = Self { len: 0, level: 0, kind: 0, content: [0; Self::CONTENT] };

    /// Makes it the reply's: from the same address, through whatever interface leads to the client. `false` for an
    /// address that nothing can be sent from, and for what is no address.
    pub(super) fn turn_round(&mut self) -> bool {
        match (self.level, self.kind) {
            (IPPROTO_IP, IP_PKTINFO) => {
                // Interface, local address, the datagram's destination: a broadcast address has a local one, too.
                self.content[..4].fill(0);
                true
            }
            (IPPROTO_IPV6, IPV6_PKTINFO) => {
                let Some(octets) = self.content.first_chunk::<16>() else { return false };
                let address = Ipv6Addr::from(*octets);
                // Link-local addresses mean nothing without their link (RFC 4007 §6).
                if !address.is_unicast_link_local() {
                    self.content[16..].fill(0);
                }
                !address.is_multicast()
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(family: c_int, rest: &[u8]) -> Name {
        let mut name = Name::NONE;
        name.0[..2].copy_from_slice(&(family as u16).to_ne_bytes());
        name.0[2..][..rest.len()].copy_from_slice(rest);
        name
    }

    #[test]
    fn names_are_addresses() {
        let mut six = vec![0, 53, 1, 2, 3, 4];
        six.extend("fe80::7".parse::<Ipv6Addr>().unwrap().octets());
        six.extend(3u32.to_ne_bytes());
        for (name, address) in [
            (name(AF_INET, &[0x14, 0xe9, 192, 0, 2, 1]), Some("192.0.2.1:5353")),
            (name(AF_INET6, &six), Some("[fe80::7%3]:53")),
            (name(libc::AF_UNIX, &six), None),
            (Name::NONE, None),
        ] {
            assert_eq!(name.address().map(|a| a.to_string()).as_deref(), address);
        }
    }

    /// What is left of an arrival when it says where a reply leaves.
    #[test]
    fn replies_leave_where_queries_arrived() {
        let six = |address: &str| {
            let mut content = [0; Arrival::CONTENT];
            content[..16].copy_from_slice(&address.parse::<Ipv6Addr>().unwrap().octets());
            content[16] = 9;
            Arrival { level: IPPROTO_IPV6, kind: IPV6_PKTINFO, content, ..Arrival::NONE }
        };
        for (address, can, interface) in [
            ("2001:db8::1", true, 0),
            ("::ffff:192.0.2.1", true, 0),
            ("fe80::1", true, 9),
            ("ff02::fb", false, 0),
        ] {
            let mut arrival = six(address);
            assert_eq!((arrival.turn_round(), arrival.content[16]), (can, interface), "{address}");
            assert_eq!(arrival.content[..16], six(address).content[..16]);
        }
        let mut content = [7; Arrival::CONTENT];
        content[..8].copy_from_slice(&[9, 0, 0, 0, 192, 0, 2, 1]);
        let mut four = Arrival { level: IPPROTO_IP, kind: IP_PKTINFO, content, ..Arrival::NONE };
        assert!(four.turn_round());
        assert_eq!(four.content[..8], [0, 0, 0, 0, 192, 0, 2, 1]);
        let mut none = Arrival::NONE;
        assert!(!none.turn_round());
    }
}
