//! `portolan serve` with manifests.

use std::net::SocketAddr;

use rcgen::{CertifiedKey, generate_simple_self_signed};

use portolan_tests::harness::{ADMIN, TLS, get, portolan};

use super::{Launch, Place, address};
use crate::zone::Zone;

const DROPPED: &str = "portolan_udp_dropped_total{";

pub fn prepare(zone: &Zone, place: &Place) -> Result<Launch, String> {
    start(zone, place, &Also::default())
}

/// With DNS over TLS, too.
pub fn with_tls(zone: &Zone, place: &Place) -> Result<Launch, String> {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["localhost".to_owned()]).map_err(|error| error.to_string())?;
    let certificate = place.write("certificate.pem", cert.pem());
    let key = place.write("key.pem", signing_key.serialize_pem());
    let tls = format!("tls: {{certificate: '{certificate}', key: '{key}'}}\n");
    start(zone, place, &Also { tls, ..Also::default() })
}

/// With `/metrics`, which [`dropped`] reads.
pub fn with_metrics(zone: &Zone, place: &Place) -> Result<Launch, String> {
    start(zone, place, &Also { metrics: true, ..Also::default() })
}

/// How many queries its UDP sockets have dropped.
pub fn dropped(at: SocketAddr) -> Result<u64, String> {
    let admin = SocketAddr::new(at.ip(), ADMIN);
    let (_, text) = get(admin, "/metrics").map_err(|error| format!("http://{admin}/metrics: {error}"))?;
    let samples = text.lines().filter(|line| line.starts_with(DROPPED));
    let counts = samples.filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok());
    counts.reduce(|a, b| a + b).ok_or_else(|| format!("http://{admin}/metrics has no {DROPPED}…}}"))
}

/// What it has besides UDP and TCP.
#[derive(Default)]
struct Also {
    /// A section of the configuration; empty for none.
    tls: String,
    metrics: bool,
}

fn start(zone: &Zone, place: &Place, also: &Also) -> Result<Launch, String> {
    let at = address();
    let encrypted = if also.tls.is_empty() { String::new() } else { format!(", tls: ['{}:{TLS}']", at.ip()) };
    let admin = if also.metrics { format!("{}:{ADMIN}", at.ip()) } else { String::new() };
    let config = format!(
        "{}listen: {{udp: ['{at}'], tcp: ['{at}']{encrypted}}}\nadmin: {{listen: '{admin}'}}\n{}",
        zone.config(),
        also.tls
    );
    let config = place.write("portolan.yaml", config);
    let arguments = ["serve", "--config", &config].map(str::to_owned).to_vec();
    Ok(Launch { program: portolan().to_owned(), arguments, at, beside: None })
}
