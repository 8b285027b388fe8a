//! gdnsd: the zone from its file, and its plugins for answers that depend on a weight or on who asks.

use std::fmt::Write as _;
use std::fs;

use super::{Launch, Place, address};
use crate::running::find;
use crate::zone::{Answers, WEIGHTS, Zone, placed, relative, service_name};

pub fn prepare(zone: &Zone, place: &Place) -> Result<Launch, String> {
    let program = find("gdnsd", "gdnsd")?;
    let at = address();
    let folder = place.folder().display();
    let plugins = match zone.answers {
        Answers::Static => {
            fs::create_dir(place.path("zones")).map_err(|error| error.to_string())?;
            fs::copy(zone.text(), place.path("zones/clusterset.local")).map_err(|error| error.to_string())?;
            String::new()
        }
        Answers::Weighted => {
            place.write("zones/clusterset.local", dynamic(zone, "weighted"));
            weighted(zone)
        }
        Answers::Near => {
            place.write("zones/clusterset.local", dynamic(zone, "geoip"));
            near(zone)
        }
    };
    place.write(
        "config",
        format!(
            "options => {{ listen => {}, dns_port => {}, udp_threads => 1, tcp_threads => 1, run_dir => {folder}/run, state_dir => {folder}/state }}\n{plugins}",
            at.ip(),
            at.port()
        ),
    );
    Ok(Launch { program, arguments: vec!["-c".into(), folder.to_string(), "start".into()], at, beside: None })
}

/// A zone whose names are answered by a plugin.
fn dynamic(zone: &Zone, plugin: &str) -> String {
    let line = |service| format!("{} 5 DYNA {plugin}!{}\n", relative(service), service_name(service));
    zone.apex() + &(0..zone.names).map(line).collect::<String>()
}

fn weighted(zone: &Zone) -> String {
    let mut text = String::from("plugins => { weighted => { multi => false, service_types => up,\n");
    for service in 0..zone.names {
        let addresses = zone.addresses(service);
        let each = addresses.iter().zip(WEIGHTS).zip(["a", "b"]);
        let each: Vec<_> =
            each.map(|((address, weight), name)| format!("{name} => [{address}, {weight}]")).collect();
        writeln!(text, "{} => {{ {} }}", service_name(service), each.join(", ")).unwrap();
    }
    text + "} }\n"
}

fn near(zone: &Zone) -> String {
    let nets: Vec<_> = placed().map(|(network, place)| format!("{network} => [az{place}]")).collect();
    let mut text = format!(
        "plugins => {{ geoip => {{ maps => {{ places => {{ datacenters => [az0, az1, az2], nets => {{ {} }} }} }}\nresources => {{\n",
        nets.join(", ")
    );
    for service in 0..zone.names {
        let addresses = zone.addresses(service);
        let each: Vec<_> =
            addresses.iter().zip(0..).map(|(address, at)| format!("az{at} => {address}")).collect();
        writeln!(
            text,
            "{} => {{ map => places, service_types => up, dcmap => {{ {} }} }}",
            service_name(service),
            each.join(", ")
        )
        .unwrap();
    }
    text + "} } }\n"
}
