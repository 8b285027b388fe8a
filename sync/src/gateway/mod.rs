//! The shared gateway: one entrance to all exported services of a cluster that have none of their own.
//!
//! ```text
//! exports, Services ──► site ──► ports (stable numbers) ──► listeners ──► haproxy │ nginx (text)
//!                                  ▲   │
//!                                  └── memory (ConfigMap)
//! ```
//!
//! All of it is pure. `controller` keeps it in a cluster; `portolan gateway` prints it.

mod haproxy;
pub mod memory;
mod nginx;
pub mod ports;
mod site;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use ipnet::IpNet;
use portolan_zones::Name;
use portolan_zones::object::Protocol;

pub use ports::{GatewayPorts, PortError, PortKey, PortRange};
pub use site::{Explicit, Plan, Site, Taken, Wanted};

/// The Service in front of it, in the controller's namespace.
pub const SERVICE: &str = "portolan-gateway";
/// The ConfigMap that remembers numbers, in the controller's namespace.
pub const MEMORY: &str = "portolan-gateway-ports";
/// The ConfigMap that has the programs' configurations, there too.
pub const FILES: &str = "portolan-gateway";
/// Where the gateway says by HTTP that it is well; nginx by taking a connection.
pub const HEALTH_PORT: u16 = 8405;
/// The same of a second program beside it, which has the UDP ports.
pub const UDP_HEALTH_PORT: u16 = 8406;

/// A port of the gateway, and what is behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// Whose port.
    pub key: PortKey,
    /// Its number at the gateway.
    pub port: u16,
    /// Where it leads.
    pub to: Upstream,
}

/// Where a port of the gateway leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Upstream {
    /// To the Service, by its name in cluster DNS, or its ClusterIP where that is known and names are no use.
    Service(Option<IpAddr>),
    /// To these endpoints.
    Endpoints(Vec<SocketAddr>),
}

/// Which of the two a gateway leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum To {
    /// Services: the gateway runs in their cluster.
    Services,
    /// Endpoints: the gateway reaches pods.
    Endpoints,
}

/// For which program a configuration is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// HAProxy: TCP.
    Haproxy,
    /// nginx: TCP and UDP.
    Nginx,
}

/// What holds for all ports.
#[derive(Debug, Clone, PartialEq)]
pub struct Style {
    /// The address to listen at; `None`: all, of both families.
    pub bind: Option<IpAddr>,
    /// Who may connect; empty: everybody.
    pub allow: Vec<IpNet>,
    /// The domain of cluster DNS.
    pub cluster_domain: Name,
    /// Where it says that it is well.
    pub health_port: u16,
}

impl Style {
    /// Everywhere, for everybody.
    pub fn new(cluster_domain: Name) -> Self {
        Self { bind: None, allow: Vec::new(), cluster_domain, health_port: HEALTH_PORT }
    }

    /// `[::]:20017`: the address to bind, as both programs write it. `any` is what stands for all addresses.
    fn at(&self, any: &str, port: u16) -> String {
        self.bind.map_or_else(|| format!("{any}:{port}"), |ip| SocketAddr::new(ip, port).to_string())
    }
}

/// Where to listen behind a Service with these `ipFamilies`; `None`: everywhere. Who gets IPv4 alone needs none of IPv6, which his
/// node may not have: a program that is told to listen there would not start.
pub(crate) fn bind_behind(families: &[String]) -> Option<IpAddr> {
    matches!(families, [only] if only == "IPv4").then_some(Ipv4Addr::UNSPECIFIED.into())
}

/// Why a configuration can't be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RenderError {
    /// nginx would not start when a name can't be resolved, and looks each up only once.
    #[error(
        "nginx looks names up only at its start, and no ClusterIP of {0} is known: lead to endpoints instead"
    )]
    NoAddress(PortKey),
}

impl Plan {
    /// Only what has this protocol: another program has the rest.
    pub fn only(self, protocol: Protocol) -> Self {
        let listeners = self.listeners.into_iter().filter(|listener| listener.key.protocol == protocol);
        Self { listeners: listeners.collect(), ..self }
    }
}

/// The whole configuration of a program, the same for the same listeners.
pub fn render(program: Program, plan: &Plan, style: &Style) -> Result<String, RenderError> {
    match program {
        Program::Haproxy => Ok(haproxy::render(plan, style)),
        Program::Nginx => nginx::render(plan, style),
    }
}

/// What the text says of itself; and of what is left out, for what reason.
fn preamble(left_out: impl IntoIterator<Item = impl fmt::Display>) -> String {
    let mut text =
        "# The shared gateway of a cluster, written by Portolan: it overwrites what is changed here.\n"
            .to_owned();
    for line in left_out {
        // Reasons are one line each; what isn't would end the comment.
        text += &format!("# Left out: {}\n", line.to_string().replace(|c: char| c.is_control(), " "));
    }
    text
}

#[cfg(test)]
mod tests;
