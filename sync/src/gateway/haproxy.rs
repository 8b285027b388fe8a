//! HAProxy's configuration: a frontend and a backend for each TCP port.
//!
//! All that it names are DNS labels and numbers: nothing that stands in a Kubernetes object can begin a line or a word.

use portolan_zones::object::Protocol;

use super::{Listener, Plan, Style, Upstream, preamble};

/// Words of a line are bounded.
const NETWORKS_PER_LINE: usize = 32;

/// For connections that last: idle ones are kept for a day, dead peers are found by keep-alives. After a reload the former
/// process ends with its last connection, or is ended. Without a bound it would make room for as many connections as the node
/// allows descriptors, which may be a thousand million.
const GLOBAL: &str = "
global
    log stdout format raw local0 warning
    fd-hard-limit 50000
    hard-stop-after 6h
    mworker-max-reloads 20

defaults
    log global
    mode tcp
    balance leastconn
    option clitcpka
    option srvtcpka
    option redispatch
    timeout connect 5s
    timeout client 24h
    timeout server 24h
    timeout client-fin 1m
    timeout server-fin 1m
";

/// Names are resolved by whatever DNS servers the Pod has.
const RESOLVERS: &str = "
resolvers cluster
    parse-resolv-conf
    accepted_payload_size 4096
    hold valid 10s
    hold obsolete 1m
";

/// The whole file.
pub(super) fn render(plan: &Plan, style: &Style) -> String {
    let (ours, others): (Vec<_>, Vec<_>) =
        plan.listeners.iter().partition(|listener| listener.key.protocol == Protocol::Tcp);
    let others = others.iter().map(|listener| format!("{}: HAProxy has no UDP, nginx does", listener.key));
    let mut text = preamble(plan.refused.iter().cloned().chain(others));
    text += GLOBAL;
    if ours.iter().any(|listener| matches!(listener.to, Upstream::Service(_))) {
        text += RESOLVERS;
    }
    text += &health(style);
    for listener in ours {
        text += &section(listener, style);
    }
    text
}

fn health(style: &Style) -> String {
    format!(
        "
frontend health
    mode http
    bind {}
    timeout client 10s
    timeout http-request 5s
    monitor-uri /health
",
        bind(style, style.health_port)
    )
}

fn section(listener: &Listener, style: &Style) -> String {
    let Listener { key, port, to } = listener;
    let (name, namespace, number) = (key.service.name(), key.service.namespace(), key.number);
    let mut text = format!("\nfrontend tcp-{port}\n    bind {}\n", bind(style, *port));
    for networks in style.allow.chunks(NETWORKS_PER_LINE) {
        let networks: Vec<_> = networks.iter().map(ToString::to_string).collect();
        text += &format!("    acl allowed src {}\n", networks.join(" "));
    }
    if !style.allow.is_empty() {
        text += "    tcp-request connection reject unless allowed\n";
    }
    let backend = format!("{name}.{namespace}:{number}");
    text += &format!("    default_backend {backend}\n\nbackend {backend}\n");
    match to {
        Upstream::Service(address) => {
            // Looked up one after another at each start, names that don't answer would keep all ports closed for long.
            let first = address.map_or_else(|| "libc".to_owned(), |address| address.to_string());
            let domain = style.cluster_domain.to_string();
            let domain = domain.trim_end_matches('.');
            let server = format!("{name}.{namespace}.svc.{domain}:{number}");
            text += &format!("    server {name} {server} resolvers cluster init-addr last,{first},none\n");
        }
        Upstream::Endpoints(endpoints) => {
            for (at, endpoint) in endpoints.iter().enumerate() {
                text += &format!("    server {name}-{} {endpoint} check\n", at + 1);
            }
        }
    }
    text
}

fn bind(style: &Style, port: u16) -> String {
    // One socket for both families, where nothing else is asked for.
    style.at("::", port) + if style.bind.is_none() { " v4v6" } else { "" }
}
