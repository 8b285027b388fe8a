//! What stands where an API server was: a fake that speaks TLS with the server's own certificate, as a load balancer
//! without a backend does, and gives the same answer to whatever is asked.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::Cluster;

/// It lives as long as the test's process.
pub struct Impostor {
    at: SocketAddr,
}

impl Impostor {
    /// In the place of this cluster's API server, answers with this code and text.
    pub fn start(cluster: &Cluster, code: u16, text: &'static str) -> Self {
        let certificates = CertificateDer::pem_file_iter(cluster.path("server.crt")).unwrap();
        let certificates = certificates.map(Result::unwrap).collect();
        let key = PrivateKeyDer::from_pem_file(cluster.path("server.key")).unwrap();
        let config = ServerConfig::builder().with_no_client_auth();
        let config = Arc::new(config.with_single_cert(certificates, key).unwrap());
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let at = listener.local_addr().unwrap();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (Ok(stream), config) = (stream, config.clone()) else { continue };
                thread::spawn(move || answer(stream, config, code, text));
            }
        });
        Self { at }
    }

    /// Where it listens.
    pub fn at(&self) -> SocketAddr {
        self.at
    }
}

/// Answers one request.
fn answer(stream: TcpStream, config: Arc<ServerConfig>, code: u16, text: &str) -> io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let connection = ServerConnection::new(config).map_err(io::Error::other)?;
    let mut stream = StreamOwned::new(connection, stream);
    let (mut head, mut piece) = (Vec::new(), [0; 4096]);
    while !head.windows(4).any(|bytes| bytes == b"\r\n\r\n") {
        match stream.read(&mut piece)? {
            0 => return Ok(()),
            length => head.extend_from_slice(&piece[..length]),
        }
    }
    let length = text.len();
    write!(stream, "HTTP/1.1 {code} No\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{text}")?;
    stream.conn.send_close_notify();
    stream.flush()
}
