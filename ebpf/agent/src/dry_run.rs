//! `portolan-agent run --dry-run`: what would be in the maps, from files, without the kernel.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::bail;
use portolan_ebpf::abi::Address;
use portolan_ebpf::follow::Follower;
use portolan_ebpf::tables::Memory;
use portolan_ebpf::wanted::{ClusterShare, WantedFront};
use portolan_program::{Outcome, Table};
use portolan_sync::Severity;
use serde_json::{Value, json};

use crate::cli::Format;
use crate::report::protocol;
use crate::settings::Settings;

/// Reads everything once; writes nothing.
pub(crate) fn run(settings: &Settings, format: Format) -> anyhow::Result<Outcome> {
    if settings.clusterset.clusters.is_empty() {
        bail!("--dry-run reads manifests: give --manifests DIR, or list them in the configuration");
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (snapshot, problems) =
        portolan_sync::load_once(&settings.clusterset.sync_config()?, i64::try_from(now)?)?;
    let tables = Memory::new(settings.sizes());
    let mut follower = Follower::new(tables, settings.neighbourhood().scope(&[]), settings.node());
    let (_, rested) = follower.follow(&Arc::new(snapshot));
    rested?;
    let errors: Vec<String> = problems
        .iter()
        .filter(|problem| problem.severity == Severity::Error)
        .map(ToString::to_string)
        .collect();
    let refused = follower.reconciler().refused();
    let status = u8::from(!errors.is_empty() || !refused.is_empty());
    let text = match format {
        Format::Human => human(&follower, &errors),
        Format::Json => format!("{:#}\n", as_json(&follower, &errors)),
    };
    Ok(Outcome { text, status })
}

fn human(follower: &Follower<Memory>, errors: &[String]) -> String {
    let reconciler = follower.reconciler();
    let mut text = format!("clients are in: {}\n\n", follower.place());
    let mut table = Table::new(["SERVICE", "VIRTUAL IP", "PORT", "FOR", "CLUSTER", "SHARE", "BACKENDS"]);
    let mut services: Vec<_> = reconciler.wanted().collect();
    services.sort_by_key(|(name, _)| *name);
    for (name, wanted) in services {
        for front in &wanted.fronts {
            for vip in &wanted.vips {
                let port = format!("{}/{}", front.port, protocol(front.protocol));
                let (family, spread) = spread(front, *vip);
                let row = |cluster: String, share: String, backends: String| {
                    [
                        name.to_string(),
                        vip.to_string(),
                        port.clone(),
                        family.to_owned(),
                        cluster,
                        share,
                        backends,
                    ]
                };
                if spread.is_empty() {
                    table.row(row("-".to_owned(), "-".to_owned(), "none: EHOSTUNREACH".to_owned()));
                }
                for share in spread {
                    let part = format!("{:.1} %", f64::from(share.part) * 100.0 / whole(spread));
                    table.row(row(share.cluster.to_string(), part, addresses(share)));
                }
            }
        }
    }
    text.push_str(&table.to_string());
    let fill = reconciler.fill();
    text.push('\n');
    for (map, (used, size)) in
        [("vips", fill.vips), ("ports", fill.ports), ("slots", fill.slots), ("backends", fill.backends)]
    {
        text.push_str(&format!("{map}: {used} of {size}\n"));
    }
    let refused = reconciler.refused().iter().map(|(name, why)| format!("refused {name}: {why}"));
    for line in refused.chain(errors.iter().cloned()) {
        text.push_str(&line);
        text.push('\n');
    }
    text
}

/// What sockets that connect to a virtual IP are spread over.
fn spread(front: &WantedFront, vip: IpAddr) -> (&'static str, &[ClusterShare]) {
    match (&front.spreads, vip) {
        ((_, Some(any)), IpAddr::V6(_)) => ("IPv6", any),
        ((v4, _), _) => (if vip.is_ipv4() { "IPv4" } else { "IPv6" }, v4),
    }
}

fn whole(spread: &[ClusterShare]) -> f64 {
    spread.iter().map(|share| f64::from(share.part)).sum()
}

fn addresses(share: &ClusterShare) -> String {
    const MOST: usize = 8;
    let shown = share.backends.iter().take(MOST);
    let mut all: Vec<String> = shown.map(|(address, port, _)| socket(*address, *port).to_string()).collect();
    if share.backends.len() > MOST {
        all.push(format!("and {} more", share.backends.len() - MOST));
    }
    all.join(" ")
}

fn socket(address: Address, port: u16) -> SocketAddr {
    (IpAddr::from(address), port).into()
}

/// The maps as they would be, beside what they mean.
fn as_json(follower: &Follower<Memory>, errors: &[String]) -> Value {
    let reconciler = follower.reconciler();
    let maps = reconciler.tables();
    let mut services: Vec<_> = reconciler.wanted().collect();
    services.sort_by_key(|(name, _)| *name);
    let share = |share: &ClusterShare| {
        let backends: Vec<_> = share
            .backends
            .iter()
            .map(|(address, port, part)| json!({ "address": socket(*address, *port), "part": part }))
            .collect();
        json!({ "cluster": share.cluster.to_string(), "part": share.part, "backends": backends })
    };
    let front = |front: &WantedFront| {
        let (v4, any) = &front.spreads;
        json!({
            "protocol": protocol(front.protocol),
            "port": front.port,
            "affinitySeconds": front.affinity,
            "ipv4": v4.iter().map(share).collect::<Vec<_>>(),
            "ipv6": any.as_ref().unwrap_or(v4).iter().map(share).collect::<Vec<_>>(),
        })
    };
    let services: Vec<_> = services
        .into_iter()
        .map(|(name, wanted)| {
            let fronts: Vec<_> = wanted.fronts.iter().map(front).collect();
            json!({ "service": name.to_string(), "vips": wanted.vips, "ports": fronts })
        })
        .collect();
    let refused: Vec<_> = reconciler
        .refused()
        .iter()
        .map(|(name, why)| json!({ "service": name.to_string(), "reason": why.to_string() }))
        .collect();
    json!({
        "place": follower.place().to_string(),
        "services": services,
        "refused": refused,
        "problems": errors,
        "maps": {
            "vips": maps.vips.iter().map(|(key, service)| json!({ "address": IpAddr::from(key.address), "service": service })).collect::<Vec<_>>(),
            "ports": maps.ports.iter().map(|(key, front)| json!({ "service": key.service, "port": u16::from(key.port), "protocol": key.protocol, "front": front })).collect::<Vec<_>>(),
            "fronts": maps.fronts.iter().map(|(number, front)| json!({ "front": number, "heads": front.heads.map(|head| format!("{head:#018x}")), "affinity": front.affinity })).collect::<Vec<_>>(),
            "slots": maps.slots.iter().map(|word| format!("{word:#018x}")).collect::<Vec<_>>(),
            "backends": maps.backends.iter().map(|(number, backend)| json!({ "backend": number, "address": socket(backend.address, backend.port.into()), "cluster": backend.cluster, "front": backend.front })).collect::<Vec<_>>(),
        },
    })
}
