//! Bound sockets: what to do when one can't be had, and a file that tells their addresses.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::Path;

use anyhow::{Context, anyhow};
use serde_json::json;
use tokio::net::TcpListener;

use crate::config::Listen;
use crate::status::Listener;

/// Binds the admin address. Its errors read as those of the DNS listeners.
pub(crate) async fn bind_admin(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let address = if has_ipv6() { address } else { without_wildcard_ipv6(address) };
    TcpListener::bind(address).await.map_err(|error| {
        let advice = match error.kind() {
            ErrorKind::AddrInUse => {
                let port = address.port();
                format!("; end what listens there (`ss -ltnp 'sport = :{port}'`) or configure another port as admin.listen")
            }
            ErrorKind::PermissionDenied => "; configure a port above 1023 as admin.listen".into(),
            ErrorKind::AddrNotAvailable => "; configure an address that `ip address` shows as admin.listen".into(),
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

fn has_ipv6() -> bool {
    UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).is_ok()
}

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

/// Writes the addresses by transport as JSON, all at once: a reader never sees half a file.
///
/// `{"udp": ["127.0.0.1:5300"], …, "admin": ["127.0.0.1:9153"]}`
pub(crate) fn write_ready_file(file: &Path, listeners: &[Listener]) -> anyhow::Result<()> {
    let of = |transport| -> Vec<String> {
        let bound = listeners.iter().filter(|listener| listener.transport == transport);
        bound.map(|listener| listener.address.to_string()).collect()
    };
    let by_transport = json!({
        "udp": of("udp"), "tcp": of("tcp"), "tls": of("tls"), "https": of("https"), "quic": of("quic"),
        "admin": of("admin"),
    });
    let mut beside = file.as_os_str().to_owned();
    beside.push(".new");
    std::fs::write(&beside, format!("{by_transport:#}\n"))
        .and_then(|()| std::fs::rename(&beside, file))
        .with_context(|| format!("{} can't be written", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_refusal_says_where_why_and_what_to_do() {
        let taken = bind_admin("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = taken.local_addr().unwrap();
        let text = bind_admin(address).await.unwrap_err().to_string();
        assert!(text.starts_with(&format!("cannot listen on {address} (admin): ")), "{text}");
        assert!(text.contains(&format!("ss -ltnp 'sport = :{}'", address.port())), "{text}");
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
        let udp = Listener { transport: "udp", address: "127.0.0.1:5300".parse().unwrap() };
        write_ready_file(&file, &[udp]).unwrap();
        let read: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
        assert_eq!((&read["udp"][0], read["tcp"].as_array().unwrap().len()), (&json!("127.0.0.1:5300"), 0));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
