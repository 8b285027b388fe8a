//! NSD: the zone from its file.

use super::{Launch, Place, address};
use crate::running::find;
use crate::zone::Zone;

pub fn prepare(zone: &Zone, place: &Place) -> Result<Launch, String> {
    let program = find("nsd", "nsd")?;
    let at = address();
    let (folder, text) = (place.folder().display(), zone.text());
    let config = format!(
        "server:\n  ip-address: {}@{}\n  server-count: 1\n  username: \"\"\n  zonesdir: \"{folder}\"\n  database: \"\"\n  \
         pidfile: \"{folder}/pid\"\n  xfrdfile: \"{folder}/xfrd\"\n  zonelistfile: \"{folder}/zones\"\n  \
         minimal-responses: yes\n  rrl-ratelimit: 0\nremote-control:\n  control-enable: no\n\
         zone:\n  name: clusterset.local\n  zonefile: \"{}\"\n",
        at.ip(),
        at.port(),
        text.display()
    );
    let config = place.write("nsd.conf", config);
    Ok(Launch { program, arguments: vec!["-d".into(), "-c".into(), config], at, beside: None })
}
