//! All listeners of a server: bound together, run together, ended together.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, available_parallelism};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use portolan_zones::Snapshot;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::metrics::{Metrics, Writers};
use crate::settings::Settings;
use crate::tls::Certificate;
use crate::transport::tcp::{Acceptor, Connections};
use crate::transport::udp::{self, Datagrams};
use crate::transport::{Answerer, Encrypted, Follower, Source, serve_encrypted};
use crate::view::Transport;

/// Connections that wait to be accepted; the kernel's own limit is `net.core.somaxconn`.
const BACKLOG: i32 = 1024;
/// Octets of queries that may wait for a UDP thread; the kernel's own limit is `net.core.rmem_max`.
const RECEIVE_BUFFER: usize = 4 << 20;

/// Where to listen. Port 0 takes any free port.
#[derive(Debug, Clone)]
pub struct Listeners {
    /// DNS over UDP.
    pub udp: Vec<SocketAddr>,
    /// DNS over TCP.
    pub tcp: Vec<SocketAddr>,
    /// DNS over TLS.
    pub tls: Vec<SocketAddr>,
    /// DNS over HTTPS.
    pub https: Vec<SocketAddr>,
    /// DNS over QUIC.
    pub quic: Vec<SocketAddr>,
    /// Needed for TLS, HTTPS and QUIC.
    pub certificate: Option<Arc<Certificate>>,
    /// The certificate's files are looked at this often.
    pub certificate_check: Duration,
    /// Path that DNS over HTTPS is served at.
    pub https_path: String,
    /// Threads, each with a socket, for each UDP address; as many as cores unless said otherwise.
    pub udp_threads: Option<NonZeroUsize>,
}

impl Default for Listeners {
    /// Listens nowhere.
    fn default() -> Self {
        Self {
            udp: Vec::new(),
            tcp: Vec::new(),
            tls: Vec::new(),
            https: Vec::new(),
            quic: Vec::new(),
            certificate: None,
            certificate_check: Duration::from_secs(10),
            https_path: "/dns-query".to_owned(),
            udp_threads: None,
        }
    }
}

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
        _ => format!("{error}"),
    }
}

/// Bound sockets, not served yet.
pub struct Server {
    source: Arc<Source>,
    udp: Vec<(SocketAddr, Vec<Datagrams>)>,
    streams: Vec<(SocketAddr, Option<TlsAcceptor>, TcpListener)>,
    encrypted: Vec<(SocketAddr, Encrypted)>,
    certificate: Option<Arc<Certificate>>,
    certificate_check: Duration,
    addresses: Vec<(Transport, SocketAddr)>,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("addresses", &self.addresses).finish_non_exhaustive()
    }
}

impl Server {
    /// Binds all sockets or none. Nothing is answered yet, though the kernel takes queries from now on.
    pub fn bind(
        listeners: &Listeners,
        snapshots: Arc<ArcSwap<Snapshot>>,
        settings: Arc<ArcSwap<Settings>>,
        metrics: Arc<Metrics>,
    ) -> Result<Self, BindError> {
        let mut random = [0; 20];
        getrandom::fill(&mut random).map_err(BindError::Random)?;
        let mut server = Self {
            source: Arc::new(Source::new(snapshots, settings, metrics, random)),
            udp: Vec::new(),
            streams: Vec::new(),
            encrypted: Vec::new(),
            certificate: listeners.certificate.clone(),
            certificate_check: listeners.certificate_check,
            addresses: Vec::new(),
        };
        server.bind_all(listeners)?;
        Ok(server)
    }

    fn bind_all(&mut self, listeners: &Listeners) -> Result<(), BindError> {
        let threads =
            listeners.udp_threads.or_else(|| available_parallelism().ok()).unwrap_or(NonZeroUsize::MIN);
        for wanted in wanted(Transport::Udp, &listeners.udp) {
            let (address, sockets) = wanted.try_bind(|wanted| wanted.udp_group(threads))?;
            self.udp.push((address, sockets));
            self.addresses.push((wanted.transport, address));
        }
        for wanted in wanted(Transport::Tcp, &listeners.tcp) {
            let (address, listener) = wanted.try_bind(Wanted::stream)?;
            self.streams.push((address, None, listener));
            self.addresses.push((wanted.transport, address));
        }
        for wanted in wanted(Transport::Tls, &listeners.tls) {
            let config = wanted.certificate(listeners)?.server_config(b"dot")?;
            let (address, listener) = wanted.try_bind(Wanted::stream)?;
            self.streams.push((address, Some(TlsAcceptor::from(Arc::new(config))), listener));
            self.addresses.push((wanted.transport, address));
        }
        for wanted in wanted(Transport::Https, &listeners.https) {
            wanted.certificate(listeners)?;
            let (address, listener) = wanted.try_bind(Wanted::stream)?;
            self.encrypted.push((address, Encrypted::Https(listener, listeners.https_path.clone())));
            self.addresses.push((wanted.transport, address));
        }
        for wanted in wanted(Transport::Quic, &listeners.quic) {
            wanted.certificate(listeners)?;
            let (address, socket) = wanted.try_bind(Wanted::datagram)?;
            self.encrypted.push((address, Encrypted::Quic(socket)));
            self.addresses.push((wanted.transport, address));
        }
        Ok(())
    }

    /// What is bound, with the ports that port 0 became.
    pub fn local_addresses(&self) -> &[(Transport, SocketAddr)] {
        &self.addresses
    }

    /// Starts to answer: UDP in threads, everything else in tasks of the runtime that this is called in.
    pub fn run(self) -> io::Result<Running> {
        let Self { source, udp, streams, encrypted, certificate, certificate_check, addresses } = self;
        let metrics = source.metrics.clone();
        let (stop, connections) = (CancellationToken::new(), Connections::new(Instant::now()));
        let mut running = Running {
            addresses,
            stop,
            stop_threads: Arc::default(),
            threads: Vec::new(),
            tasks: JoinSet::new(),
        };
        for (address, tls, listener) in streams {
            let transport = if tls.is_some() { Transport::Tls } else { Transport::Tcp };
            let shard = metrics.shard(transport, address, Writers::Many);
            let (source, connections, stop) = (source.clone(), connections.clone(), running.stop.clone());
            let listener = tokio::net::TcpListener::from_std(listener)?;
            running.tasks.spawn(Acceptor { source, shard, connections, tls, stop }.serve(listener));
        }
        for (address, socket) in encrypted {
            let Some(certificate) = certificate.clone() else { continue };
            let transport = match socket {
                Encrypted::Https(..) => Transport::Https,
                Encrypted::Quic(_) => Transport::Quic,
            };
            let shard = metrics.shard(transport, address, Writers::Many);
            running.tasks.spawn(serve_encrypted(
                socket,
                source.clone(),
                shard,
                certificate,
                running.stop.clone(),
            ));
        }
        if let Some(certificate) = certificate {
            running.tasks.spawn(watch(certificate, certificate_check, running.stop.clone()));
        }
        for (address, sockets) in udp {
            for socket in sockets {
                running.start_thread(socket, address, &source)?;
            }
        }
        Ok(running)
    }
}

/// A server that answers. Dropped, it ends without waiting for anything.
pub struct Running {
    addresses: Vec<(Transport, SocketAddr)>,
    stop: CancellationToken,
    stop_threads: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    tasks: JoinSet<()>,
}

impl Running {
    /// What is bound, with the ports that port 0 became.
    pub fn local_addresses(&self) -> &[(Transport, SocketAddr)] {
        &self.addresses
    }

    /// The first address of a transport.
    pub fn address(&self, transport: Transport) -> Option<SocketAddr> {
        self.addresses.iter().find(|(of, _)| *of == transport).map(|(_, address)| *address)
    }

    /// Accepts nothing new, answers what has been read and what waits in UDP queues, and ends. Connections that are
    /// not done after `deadline` are cut off; `false` if there were any.
    pub async fn shutdown(mut self, deadline: Duration) -> bool {
        self.stop.cancel();
        self.stop_threads.store(true, Ordering::Relaxed);
        let threads = std::mem::take(&mut self.threads);
        // Each thread ends within its poll interval and the answers to one full queue.
        let threads =
            tokio::task::spawn_blocking(|| threads.into_iter().for_each(|thread| drop(thread.join())));
        let tasks = &mut self.tasks;
        let all = async { while tasks.join_next().await.is_some() {} };
        let (in_time, threads) = tokio::join!(tokio::time::timeout(deadline, all), threads);
        self.tasks.shutdown().await;
        in_time.is_ok() && threads.is_ok()
    }

    fn start_thread(
        &mut self,
        mut socket: Datagrams,
        address: SocketAddr,
        source: &Arc<Source>,
    ) -> io::Result<()> {
        let shard = source.metrics.shard(Transport::Udp, address, Writers::One);
        let mut answerer = Answerer::new(source, shard, Transport::Udp);
        let mut follower = Follower::new(source.clone());
        let stop = self.stop_threads.clone();
        let name = format!("dns-udp-{}", self.threads.len());
        let serve = move || udp::serve(&mut socket, &mut follower, &mut answerer, &stop);
        self.threads.push(std::thread::Builder::new().name(name).spawn(serve)?);
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.cancel();
        self.stop_threads.store(true, Ordering::Relaxed);
    }
}

/// Reads the certificate's files again and again; polling also sees the symbolic links of mounted Secrets move.
async fn watch(certificate: Arc<Certificate>, every: Duration, stop: CancellationToken) {
    let mut said = String::new();
    while stop.run_until_cancelled(tokio::time::sleep(every)).await.is_some() {
        let problem = match certificate.reload() {
            Ok(true) => {
                tracing::info!("new TLS certificate in use");
                String::new()
            }
            Ok(false) => String::new(),
            Err(error) => error.to_string(),
        };
        if !problem.is_empty() && problem != said {
            tracing::error!("{problem}; the TLS certificate read before stays in use");
        }
        said = problem;
    }
}

/// A socket to be bound.
#[derive(Clone, Copy)]
struct Wanted {
    transport: Transport,
    address: SocketAddr,
    /// Whether an IPv4 socket has the same port: then an IPv6 one must leave IPv4 to it.
    beside_ipv4: bool,
}

fn wanted(transport: Transport, addresses: &[SocketAddr]) -> impl Iterator<Item = Wanted> {
    addresses.iter().map(move |address| {
        let beside_ipv4 = addresses.iter().any(|other| other.is_ipv4() && other.port() == address.port());
        Wanted { transport, address: *address, beside_ipv4 }
    })
}

impl Wanted {
    fn try_bind<T>(&self, bind: impl FnOnce(&Self) -> io::Result<T>) -> Result<T, BindError> {
        let Self { address, transport, .. } = *self;
        bind(self).map_err(|error| BindError::Socket { address, transport: transport.label(), error })
    }

    fn certificate<'l>(&self, listeners: &'l Listeners) -> Result<&'l Arc<Certificate>, BindError> {
        let Self { address, transport, .. } = *self;
        listeners
            .certificate
            .as_ref()
            .ok_or(BindError::NoCertificate { address, transport: transport.label() })
    }

    /// Sockets of one address that the kernel spreads clients over.
    fn udp_group(&self, number: NonZeroUsize) -> io::Result<(SocketAddr, Vec<Datagrams>)> {
        // SO_REUSEPORT would share the port with another server of the same user: find out without it first.
        let (address, _) = self.datagram()?;
        let shared = Self { address, ..*self };
        let sockets = (0..number.get()).map(|_| {
            let socket = shared.socket(Type::DGRAM, Protocol::UDP)?;
            socket.set_reuse_port(true)?;
            // A smaller buffer does as well, for a while.
            if let Err(error) = socket.set_recv_buffer_size(RECEIVE_BUFFER) {
                tracing::debug!(%error, "the UDP receive buffer keeps its size");
            }
            socket.bind(&address.into())?;
            Datagrams::new(socket.into())
        });
        Ok((address, sockets.collect::<io::Result<_>>()?))
    }

    fn datagram(&self) -> io::Result<(SocketAddr, UdpSocket)> {
        let socket = self.socket(Type::DGRAM, Protocol::UDP)?;
        socket.bind(&self.address.into())?;
        socket.set_nonblocking(true)?;
        let socket = UdpSocket::from(socket);
        Ok((socket.local_addr()?, socket))
    }

    fn stream(&self) -> io::Result<(SocketAddr, TcpListener)> {
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
