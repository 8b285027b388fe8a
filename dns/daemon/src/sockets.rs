//! Bound sockets: which are left out without IPv6, and a file that tells their addresses.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use portolan_program::has_ipv6;

use crate::config::Listen;
use crate::status::Listener;

/// On a system without IPv6, wildcard addresses of it are left out where the IPv4 wildcard has the same port: the
/// defaults shall work there too. Other IPv6 addresses were asked for, and fail.
pub(crate) fn without_missing_ipv6(listen: &mut Listen) {
    if has_ipv6() {
        return;
    }
    for addresses in [&mut listen.udp, &mut listen.tcp, &mut listen.tls, &mut listen.https, &mut listen.quic]
    {
        let ipv4 = addresses.clone();
        let beside = |port| ipv4.contains(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)));
        addresses.retain(|address| {
            !(address.is_ipv6() && address.ip().is_unspecified() && beside(address.port()))
        });
    }
}

/// Transports that stand in the file, bound or not.
const TRANSPORTS: [&str; 6] = ["udp", "tcp", "tls", "https", "quic", "admin"];

/// Writes what listens where, see [`portolan_program::write_ready_file`].
pub(crate) fn write_ready_file(file: &Path, listeners: &[Listener]) -> anyhow::Result<()> {
    let mut addresses: BTreeMap<_, Vec<_>> = TRANSPORTS.map(|transport| (transport, Vec::new())).into();
    for Listener { transport, address } in listeners {
        addresses.entry(transport).or_default().push(*address);
    }
    portolan_program::write_ready_file(file, &addresses)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_ready_file_lists_all_transports() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ready");
        let udp = Listener { transport: "udp", address: "127.0.0.1:5300".parse().unwrap() };
        write_ready_file(&file, &[udp]).unwrap();
        let read: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
        let udp = ["127.0.0.1:5300"];
        let expected = json!({ "udp": udp, "tcp": [], "tls": [], "https": [], "quic": [], "admin": [] });
        assert_eq!(read, expected);
    }
}
