//! Sockets of listeners, and what to do when one can't be had.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;

use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::{CoreError, Listeners};
use crate::tls::Certificate;
use crate::transport::udp::Datagrams;
use crate::view::Transport;

/// Connections that wait to be accepted; the kernel's own limit is `net.core.somaxconn`.
const BACKLOG: i32 = 1024;
/// EAFNOSUPPORT of Linux.
const NO_IPV6: i32 = 97;

/// Why a server can't listen.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// A socket can't be bound.
    #[error("cannot listen on {address} ({transport}): {}", reason(.error, .address))]
    Socket {
        /// Where.
        address: SocketAddr,
        /// For what.
        transport: &'static str,
        /// What the system says.
        error: io::Error,
    },
    /// An encrypted transport and nothing to encrypt with.
    #[error("cannot listen on {address} ({transport}): a certificate and its key have to be configured")]
    NoCertificate {
        /// Where.
        address: SocketAddr,
        /// For what.
        transport: &'static str,
    },
    /// A UDP thread has no core.
    #[error(transparent)]
    Core(#[from] CoreError),
    /// The certificate's key and the TLS versions don't go together.
    #[error("cannot set TLS up: {0}")]
    Tls(#[from] rustls::Error),
    /// No seed for hashes.
    #[error("the system gives no random numbers: {0}")]
    Random(getrandom::Error),
}

/// What happened, and what to do about it.
fn reason(error: &io::Error, address: &SocketAddr) -> String {
    let port = address.port();
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            format!("the port is in use: end what listens there (`ss -lnp 'sport = :{port}'`) or configure another port")
        }
        io::ErrorKind::PermissionDenied => {
            "permission denied: give the process the capability CAP_NET_BIND_SERVICE or configure a port above 1023".to_owned()
        }
        io::ErrorKind::AddrNotAvailable => {
            format!("no interface of this machine has the address {}: configure one that `ip address` shows", address.ip())
        }
        _ if error.raw_os_error() == Some(NO_IPV6) => {
            "the system is without IPv6: listen on IPv4 addresses only".to_owned()
        }
        _ => error.to_string(),
    }
}

/// A socket to be bound.
#[derive(Clone, Copy)]
pub(super) struct Wanted {
    pub(super) transport: Transport,
    address: SocketAddr,
    /// Whether an IPv4 socket has the same port: then an IPv6 one must leave IPv4 to it.
    beside_ipv4: bool,
}

/// What is to be bound for a transport.
pub(super) fn wanted(transport: Transport, addresses: &[SocketAddr]) -> impl Iterator<Item = Wanted> {
    addresses.iter().map(move |address| {
        let beside_ipv4 = addresses.iter().any(|other| other.is_ipv4() && other.port() == address.port());
        Wanted { transport, address: *address, beside_ipv4 }
    })
}

impl Wanted {
    pub(super) fn try_bind<T>(&self, bind: impl FnOnce(&Self) -> io::Result<T>) -> Result<T, BindError> {
        let Self { address, transport, .. } = *self;
        bind(self).map_err(|error| BindError::Socket { address, transport: transport.label(), error })
    }

    pub(super) fn certificate<'l>(
        &self,
        listeners: &'l Listeners,
    ) -> Result<&'l Arc<Certificate>, BindError> {
        let Self { address, transport, .. } = *self;
        listeners
            .certificate
            .as_ref()
            .ok_or(BindError::NoCertificate { address, transport: transport.label() })
    }

    /// Sockets of one address that the kernel spreads clients over.
    pub(super) fn udp_group(&self, number: usize) -> io::Result<(SocketAddr, Vec<Datagrams>)> {
        // With SO_REUSEPORT a bind would share the port with another server of the same user, and say nothing. So
        // the first socket is bound alone, and opens the port to the others only then.
        let (address, first) = self.datagram()?;
        SockRef::from(&first).set_reuse_port(true)?;
        let shared = Self { address, ..*self };
        let others = (1..number).map(|_| {
            let socket = shared.socket(Type::DGRAM, Protocol::UDP)?;
            socket.set_reuse_port(true)?;
            socket.bind(&address.into())?;
            Ok(UdpSocket::from(socket))
        });
        let sockets = std::iter::once(Ok(first)).chain(others);
        let sockets = sockets.map(|socket: io::Result<UdpSocket>| Datagrams::new(socket?));
        Ok((address, sockets.collect::<io::Result<_>>()?))
    }

    pub(super) fn datagram(&self) -> io::Result<(SocketAddr, UdpSocket)> {
        let socket = self.socket(Type::DGRAM, Protocol::UDP)?;
        socket.bind(&self.address.into())?;
        socket.set_nonblocking(true)?;
        let socket = UdpSocket::from(socket);
        Ok((socket.local_addr()?, socket))
    }

    pub(super) fn stream(&self) -> io::Result<(SocketAddr, TcpListener)> {
        let socket = self.socket(Type::STREAM, Protocol::TCP)?;
        // Connections of an earlier process that linger don't keep the port.
        socket.set_reuse_address(true)?;
        socket.bind(&self.address.into())?;
        socket.listen(BACKLOG)?;
        socket.set_nonblocking(true)?;
        let listener = TcpListener::from(socket);
        Ok((listener.local_addr()?, listener))
    }

    fn socket(&self, kind: Type, protocol: Protocol) -> io::Result<Socket> {
        let socket = Socket::new(Domain::for_address(self.address), kind, Some(protocol))?;
        if self.address.is_ipv6() {
            socket.set_only_v6(self.beside_ipv4)?;
        }
        Ok(socket)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What happened, to which socket, and what to do about it.
    #[test]
    fn reasons_say_what_to_do() {
        let address: SocketAddr = "192.0.2.1:53".parse().unwrap();
        for (kind, text) in [
            (
                io::ErrorKind::AddrInUse,
                "cannot listen on 192.0.2.1:53 (udp): the port is in use: end what listens there (`ss -lnp 'sport = :53'`)",
            ),
            (
                io::ErrorKind::PermissionDenied,
                "cannot listen on 192.0.2.1:53 (udp): permission denied: give the process the capability CAP_NET_BIND_SERVICE",
            ),
            (
                io::ErrorKind::AddrNotAvailable,
                "cannot listen on 192.0.2.1:53 (udp): no interface of this machine has the address 192.0.2.1",
            ),
        ] {
            let error = BindError::Socket { address, transport: "udp", error: kind.into() };
            assert!(error.to_string().starts_with(text), "{error}");
        }
    }
}
