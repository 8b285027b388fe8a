//! BIND: the zone from its file.

use std::net::Ipv4Addr;

use super::{Launch, Place};
use crate::running::{find, free_port};
use crate::zone::Zone;

/// It listens on addresses of interfaces only. Without a root that it knows it would ask the world for one.
pub fn prepare(zone: &Zone, place: &Place) -> Result<Launch, String> {
    let program = find("named", "bind9")?;
    let port = free_port();
    let (folder, text) = (place.folder().display(), zone.text());
    place.write("root", ". 3600 NS a.\na. 3600 A 127.0.0.1\n");
    let config = format!(
        "options {{ directory \"{folder}\"; listen-on port {port} {{ 127.0.0.1; }}; listen-on-v6 {{ none; }}; recursion no;\n \
         dnssec-validation no; minimal-responses yes; notify no; pid-file \"{folder}/pid\"; session-keyfile none; }};\n\
         controls {{ }};\n\
         zone \".\" {{ type hint; file \"root\"; }};\n\
         zone \"clusterset.local\" {{ type primary; file \"{}\"; }};\n",
        text.display()
    );
    let config = place.write("named.conf", config);
    // One worker, logging to standard error.
    let arguments = ["-g", "-n", "1", "-c", &config].map(str::to_owned).to_vec();
    Ok(Launch { program, arguments, at: (Ipv4Addr::LOCALHOST, port).into(), beside: None })
}
