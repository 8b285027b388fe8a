//! nginx' configuration: a server in `stream {}` for each port, TCP and UDP.
//!
//! All that it names are DNS labels and numbers, as in HAProxy's.

use std::net::SocketAddr;

use portolan_zones::object::Protocol;

use super::{Listener, Plan, RenderError, Style, Upstream, preamble};

/// The stream module is a part of nginx' own images; Debian's packages load it by a file of their own. Each client of a UDP port
/// takes a descriptor for a minute, and each worker has all that listen: the thousand that a process gets unless it asks for more
/// are soon gone. Service managers allow more than is asked for here; where they don't, nginx says so and goes on. As many workers as
/// there are CPUs would be too many on large nodes: each has a socket of its own for each UDP port, and after a reload those of before
/// live on beside the new ones until their connections end.
const GLOBAL: &str = "
worker_processes 4;
worker_rlimit_nofile 500000;
worker_shutdown_timeout 6h;
error_log stderr warn;

events {
    worker_connections 20000;
}

stream {
    proxy_connect_timeout 5s;
    proxy_socket_keepalive on;
";

/// The whole file.
pub(super) fn render(plan: &Plan, style: &Style) -> Result<String, RenderError> {
    let mut text = preamble(&plan.refused);
    text += GLOBAL;
    let health = style.at("[::]", style.health_port);
    text += &format!(
        "\n    server {{\n        listen {health}{};\n        return ok;\n    }}\n",
        families(style)
    );
    for listener in &plan.listeners {
        text += &server(listener, style)?;
    }
    text += "}\n";
    Ok(text)
}

fn server(listener: &Listener, style: &Style) -> Result<String, RenderError> {
    let Listener { key, port, to } = listener;
    let (name, namespace, number) = (key.service.name(), key.service.namespace(), key.number);
    let is_udp = key.protocol == Protocol::Udp;
    let upstream = format!("{name}.{namespace}.{number}.{}", if is_udp { "udp" } else { "tcp" });
    let mut text = String::from("\n");
    let pass = match to {
        Upstream::Service(None) => return Err(RenderError::NoAddress(key.clone())),
        Upstream::Service(Some(address)) => format!("proxy_pass {};", SocketAddr::new(*address, number)),
        // A group must not be empty: the connection is taken, and closed.
        Upstream::Endpoints(endpoints) if endpoints.is_empty() => "return \"\";".to_owned(),
        Upstream::Endpoints(endpoints) => {
            text += &format!("    upstream {upstream} {{\n        least_conn;\n");
            for endpoint in endpoints {
                text += &format!("        server {endpoint};\n");
            }
            text += "    }\n";
            format!("proxy_pass {upstream};")
        }
    };
    // All packets of one client must come to one worker, which knows its session.
    let (socket, timeout) = if is_udp { (" udp reuseport", "1m") } else { (" so_keepalive=on", "24h") };
    text += &format!("    # {name}.{namespace}:{number}\n    server {{\n");
    text += &format!("        listen {}{socket}{};\n", style.at("[::]", *port), families(style));
    for network in &style.allow {
        text += &format!("        allow {network};\n");
    }
    if !style.allow.is_empty() {
        text += "        deny all;\n";
    }
    text += &format!("        proxy_timeout {timeout};\n        {pass}\n    }}\n");
    Ok(text)
}

fn families(style: &Style) -> &'static str {
    if style.bind.is_none() { " ipv6only=off" } else { "" }
}
