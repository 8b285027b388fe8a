//! Messages by hand, for what no client sends.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

/// A query of class IN without EDNS; `name` without the final dot.
pub fn query(name: &str, rtype: u16) -> Vec<u8> {
    let mut message = vec![0x12, 0x34, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.').filter(|label| !label.is_empty()) {
        message.push(label.len() as u8);
        message.extend_from_slice(label.as_bytes());
    }
    message.push(0);
    message.extend_from_slice(&rtype.to_be_bytes());
    message.extend_from_slice(&[0, 1]);
    message
}

/// The RCODE of a message, without the bits of EDNS.
pub fn rcode(message: &[u8]) -> u8 {
    message[3] & 0x0f
}

/// One datagram there and one back; `None` when none comes within `patience`.
pub fn ask_udp(at: SocketAddr, message: &[u8], patience: Duration) -> Option<Vec<u8>> {
    let socket = UdpSocket::bind(if at.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" }).unwrap();
    socket.connect(at).unwrap();
    socket.set_read_timeout(Some(patience)).unwrap();
    socket.send(message).unwrap();
    let mut reply = vec![0; 65_535];
    let len = socket.recv(&mut reply).ok()?;
    reply.truncate(len);
    Some(reply)
}

/// One message there and one back on a connection of its own or one that is kept.
pub fn ask_tcp(stream: &mut TcpStream, message: &[u8]) -> io::Result<Vec<u8>> {
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut framed = (message.len() as u16).to_be_bytes().to_vec();
    framed.extend_from_slice(message);
    stream.write_all(&framed)?;
    let mut len = [0; 2];
    stream.read_exact(&mut len)?;
    let mut reply = vec![0; u16::from_be_bytes(len).into()];
    stream.read_exact(&mut reply)?;
    Ok(reply)
}
