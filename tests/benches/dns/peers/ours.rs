//! `portolan serve` with manifests.

use rcgen::{CertifiedKey, generate_simple_self_signed};

use portolan_tests::harness::{TLS, portolan};

use super::{Launch, Place, address};
use crate::zone::Zone;

pub fn prepare(zone: &Zone, place: &Place) -> Result<Launch, String> {
    start(zone, place, "")
}

/// With DNS over TLS, too.
pub fn with_tls(zone: &Zone, place: &Place) -> Result<Launch, String> {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["localhost".to_owned()]).map_err(|error| error.to_string())?;
    let certificate = place.write("certificate.pem", cert.pem());
    let key = place.write("key.pem", signing_key.serialize_pem());
    start(zone, place, &format!("tls: {{certificate: '{certificate}', key: '{key}'}}\n"))
}

fn start(zone: &Zone, place: &Place, tls: &str) -> Result<Launch, String> {
    let at = address();
    let encrypted = if tls.is_empty() { String::new() } else { format!(", tls: ['{}:{TLS}']", at.ip()) };
    let config = format!(
        "{}listen: {{udp: ['{at}'], tcp: ['{at}']{encrypted}}}\nadmin: {{listen: ''}}\n{tls}",
        zone.config()
    );
    let config = place.write("portolan.yaml", config);
    let arguments = ["serve", "--config", &config].map(str::to_owned).to_vec();
    Ok(Launch { program: portolan().to_owned(), arguments, at, beside: None })
}
