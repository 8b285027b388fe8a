//! The servers that are measured: each writes its configuration into a folder of its own, and says how it is started.

pub mod bind;
pub mod coredns;
pub mod echo;
pub mod gdnsd;
pub mod hickory;
pub mod knot;
pub mod nsd;
pub mod ours;
pub mod powerdns;

use std::net::SocketAddr;

use portolan_tests::harness::{DNS, loopback};

use super::running::{Launch, Place};
use super::zone::Zone;

/// How a server is set up for a zone; the error says why it can't be.
pub type Prepare = fn(&Zone, &Place) -> Result<Launch, String>;

/// An address that nobody else has.
fn address() -> SocketAddr {
    (loopback(), DNS).into()
}

/// This program as another one, see [`serve`].
fn myself(word: &str) -> Result<Launch, String> {
    let at = address();
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    Ok(Launch { program, arguments: vec![format!("serve={word}"), at.to_string()], at, beside: None })
}

/// What this program does when it is started as a peer; it does not return then.
pub fn serve() {
    let words: Vec<String> = std::env::args().collect();
    let at = || words[2].parse().unwrap();
    match words.get(1).map(String::as_str) {
        Some("serve=echo") => echo::serve(at()),
        Some("serve=hickory") => hickory::serve(at()),
        _ => {}
    }
}
