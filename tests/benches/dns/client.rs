//! Who asks: for servers whose answers depend on that, and in the words of dnsperf.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use hickory_server::proto::op::{Message, ResponseCode};
use hickory_server::proto::rr::RData;
use portolan_tests::harness::query;

use super::zone::{Answers, CLIENT, PLACE, SUBNET, Zone, name};

/// Names that are asked for before anything is measured.
const SAMPLED: usize = 100;
/// An OPT record (RFC 6891 §6.1.2) without its options' length.
const OPT: [u8; 9] = [0, 0, 41, 4, 208, 0, 0, 0, 0];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Client {
    /// Anybody.
    Plain,
    /// At [`CLIENT`].
    Placed,
    /// Behind a forwarder that tells [`SUBNET`].
    Forwarded,
}

impl Client {
    /// For dnsperf.
    pub fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::Plain => &[],
            Self::Placed => &["-a", CLIENT],
            Self::Forwarded => &["-E", SUBNET],
        }
    }

    /// Whether a server answers names of the whole zone with an address that the manifests have, and why not.
    pub fn check(self, at: SocketAddr, zone: &Zone) -> Result<(), String> {
        zone.sample(SAMPLED).try_for_each(|service| self.answered(at, zone, service))
    }

    /// Whether a server answers one service, and why not.
    pub fn answered(self, at: SocketAddr, zone: &Zone, service: usize) -> Result<(), String> {
        let mut addresses = zone.addresses(service);
        if self != Self::Plain && zone.answers == Answers::Near {
            addresses = vec![addresses[PLACE]];
        }
        self.answered_by(at, service, &addresses)
    }

    /// Whether a server answers one service with one of these, and why not.
    pub fn answered_by(self, at: SocketAddr, service: usize, addresses: &[Ipv4Addr]) -> Result<(), String> {
        let name = name(service);
        let reply = self.ask(at, &name).ok_or_else(|| format!("no answer for {name}"))?;
        let reply = Message::from_vec(&reply).map_err(|error| format!("{name}: {error}"))?;
        let found: Vec<Ipv4Addr> = reply
            .answers
            .iter()
            .filter_map(|record| if let RData::A(address) = &record.data { Some(address.0) } else { None })
            .collect();
        let code = reply.metadata.response_code;
        match found[..] {
            [address] if code == ResponseCode::NoError && addresses.contains(&address) => Ok(()),
            _ => Err(format!("{name} is answered {code} {found:?}, and should be {addresses:?}")),
        }
    }

    /// The reply, if there is any.
    pub fn ask(self, at: SocketAddr, name: &str) -> Option<Vec<u8>> {
        let mut message = query(name, 1);
        if self == Self::Forwarded {
            let option = option();
            message[11] = 1;
            message.extend_from_slice(&OPT);
            message.extend_from_slice(&(option.len() as u16).to_be_bytes());
            message.extend_from_slice(&option);
        }
        let from = if self == Self::Placed { CLIENT } else { "127.0.0.1" };
        let socket = UdpSocket::bind((from, 0)).unwrap();
        socket.connect(at).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        socket.send(&message).ok()?;
        let mut reply = vec![0; 4096];
        let len = socket.recv(&mut reply).ok()?;
        reply.truncate(len);
        Some(reply)
    }
}

/// [`SUBNET`] in octets: code, length, and what it says.
fn option() -> Vec<u8> {
    let (code, value) = SUBNET.split_once(':').unwrap();
    let octets = (0..value.len()).step_by(2).map(|at| u8::from_str_radix(&value[at..at + 2], 16).unwrap());
    let value: Vec<u8> = octets.collect();
    let mut option = vec![0, code.parse().unwrap(), 0, value.len() as u8];
    option.extend(value);
    option
}
