//! A client that asks for one name's addresses, over and over.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

/// Between two questions: often enough for what is measured in milliseconds, and no load.
const PAUSE: Duration = Duration::from_micros(200);
/// Longer than this and something is broken, not slow.
const PATIENCE: Duration = Duration::from_secs(60);

pub struct Asker(UdpSocket);

impl Asker {
    pub fn new(server: SocketAddr) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(server).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        Self(socket)
    }

    /// Has a cache know the answer.
    pub fn warm(&self, name: &str) {
        self.ask(name);
    }

    /// Asks until an address is among the answers.
    pub fn until(&self, name: &str, address: Ipv4Addr) {
        let begun = Instant::now();
        while !self.ask(name).windows(4).any(|octets| *octets == address.octets()) {
            assert!(begun.elapsed() < PATIENCE, "{name} has no {address}");
            std::thread::sleep(PAUSE);
        }
    }

    /// The reply's octets behind the question; none when there is no reply.
    fn ask(&self, name: &str) -> Vec<u8> {
        let mut query = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in name.split('.') {
            query.push(label.len() as u8);
            query.extend(label.as_bytes());
        }
        query.extend([0, 0, 1, 0, 1]);
        let mut reply = [0; 4096];
        // Not sent or not received: asked again.
        let received = self.0.send(&query).and_then(|_| self.0.recv(&mut reply)).unwrap_or(0);
        reply[..received].get(query.len()..).unwrap_or_default().to_vec()
    }
}
