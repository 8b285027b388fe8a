//! Bound sockets: what to do when one can't be had, and a file that tells their addresses.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context, anyhow};
use serde_json::json;

use crate::status::Listener;

/// A failed bind, with what to do about it.
pub fn refusal(transport: &str, address: SocketAddr, error: &io::Error) -> anyhow::Error {
    let port = address.port();
    let advice = match error.kind() {
        ErrorKind::AddrInUse => {
            let table = if matches!(transport, "udp" | "quic") { "-lunp" } else { "-ltnp" };
            format!("; `ss {table} 'sport = :{port}'` tells who has it: stop that, or listen elsewhere")
        }
        ErrorKind::PermissionDenied if port < 1024 => {
            "; ports below 1024 need the capability CAP_NET_BIND_SERVICE: grant it, or listen on another port"
                .into()
        }
        ErrorKind::AddrNotAvailable => {
            "; no interface has this address: `ip address` lists those that do".into()
        }
        ErrorKind::Unsupported => {
            "; the system may be without IPv6: list only IPv4 addresses in `listen`".into()
        }
        _ => String::new(),
    };
    anyhow!("can't listen on {transport} {address}: {error}{advice}")
}

/// Writes the addresses by transport as JSON, all at once: a reader never sees half a file.
///
/// `{"udp": ["127.0.0.1:5300"], …, "admin": ["127.0.0.1:9153"]}`
pub fn write_ready_file(file: &Path, listeners: &[Listener]) -> anyhow::Result<()> {
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

    #[test]
    fn a_refusal_says_where_why_and_what_to_do() {
        let port_53: SocketAddr = "127.0.0.1:53".parse().unwrap();
        for (kind, transport, expected) in [
            (ErrorKind::AddrInUse, "udp", "ss -lunp 'sport = :53'"),
            (ErrorKind::AddrInUse, "tcp", "ss -ltnp 'sport = :53'"),
            (ErrorKind::PermissionDenied, "udp", "CAP_NET_BIND_SERVICE"),
            (ErrorKind::AddrNotAvailable, "tls", "ip address"),
        ] {
            let text = refusal(transport, port_53, &io::Error::from(kind)).to_string();
            assert!(text.starts_with(&format!("can't listen on {transport} 127.0.0.1:53: ")), "{text}");
            assert!(text.contains(expected), "{text}");
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
