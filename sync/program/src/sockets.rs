//! Bound sockets: what to do when one can't be had, and a file that tells their addresses.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::Path;

use anyhow::{Context, anyhow};
use serde_json::json;
use tokio::net::TcpListener;

/// Binds the admin address, which the configuration has under `key`. Its errors read as those of the DNS listeners.
pub async fn bind_admin(address: SocketAddr, key: &str) -> anyhow::Result<TcpListener> {
    let address = if has_ipv6() { address } else { without_wildcard_ipv6(address) };
    TcpListener::bind(address).await.map_err(|error| {
        let advice = match error.kind() {
            ErrorKind::AddrInUse => {
                let port = address.port();
                format!("; end what listens there (`ss -ltnp 'sport = :{port}'`) or configure another port as {key}")
            }
            ErrorKind::PermissionDenied => format!("; configure a port above 1023 as {key}"),
            ErrorKind::AddrNotAvailable => format!("; configure an address that `ip address` shows as {key}"),
            _ => String::new(),
        };
        anyhow!("cannot listen on {address} (admin): {error}{advice}")
    })
}

/// `[::]` stands for all addresses, which without IPv6 are those of IPv4.
fn without_wildcard_ipv6(address: SocketAddr) -> SocketAddr {
    let is_wildcard = address.is_ipv6() && address.ip().is_unspecified();
    if is_wildcard { (Ipv4Addr::UNSPECIFIED, address.port()).into() } else { address }
}

/// Whether this system has IPv6 at all.
pub fn has_ipv6() -> bool {
    UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).is_ok()
}

/// Writes the addresses by transport as JSON, all at once: a reader never sees half a file.
///
/// `{"udp": ["127.0.0.1:5300"], …, "admin": ["127.0.0.1:9153"]}`
pub fn write_ready_file(file: &Path, addresses: &BTreeMap<&str, Vec<SocketAddr>>) -> anyhow::Result<()> {
    let mut beside = file.as_os_str().to_owned();
    beside.push(".new");
    std::fs::write(&beside, format!("{:#}\n", json!(addresses)))
        .and_then(|()| std::fs::rename(&beside, file))
        .with_context(|| format!("{} can't be written", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_refusal_says_where_why_and_what_to_do() {
        let taken = bind_admin("127.0.0.1:0".parse().unwrap(), "a.listen").await.unwrap();
        let address = taken.local_addr().unwrap();
        let text = bind_admin(address, "a.listen").await.unwrap_err().to_string();
        assert!(text.starts_with(&format!("cannot listen on {address} (admin): ")), "{text}");
        assert!(text.contains(&format!("ss -ltnp 'sport = :{}'", address.port())), "{text}");
        assert!(text.ends_with("configure another port as a.listen"), "{text}");
    }

    /// The installed configuration listens on `[::]:9153`; nodes without IPv6 shall run it, too.
    #[test]
    fn without_ipv6_all_addresses_are_those_of_ipv4() {
        for (given, taken) in [
            ("[::]:9153", "0.0.0.0:9153"),
            ("[::1]:9153", "[::1]:9153"),
            ("0.0.0.0:9153", "0.0.0.0:9153"),
            ("10.0.0.1:1", "10.0.0.1:1"),
        ] {
            assert_eq!(without_wildcard_ipv6(given.parse().unwrap()), taken.parse().unwrap(), "{given}");
        }
    }

    #[test]
    fn the_ready_file_lists_addresses_by_transport() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ready");
        let addresses = [("udp", vec!["127.0.0.1:5300".parse().unwrap()]), ("tcp", Vec::new())];
        write_ready_file(&file, &addresses.into()).unwrap();
        let read: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
        assert_eq!(read, json!({ "udp": ["127.0.0.1:5300"], "tcp": [] }));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
