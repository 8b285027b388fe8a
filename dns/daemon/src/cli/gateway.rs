//! The configuration of a shared gateway.

use std::net::IpAddr;

use clap::{Args, ValueEnum};
use ipnet::IpNet;
use portolan_sync::gateway::PortRange;

use super::source::{Own, Source};

/// `portolan gateway`
#[derive(Debug, Args)]
pub(crate) struct Gateway {
    #[command(flatten)]
    pub source: Source,
    #[command(flatten)]
    pub own: Own,
    /// The cluster, where there are manifests of several
    #[arg(long, value_name = "ID")]
    pub cluster: Option<String>,
    /// The program: haproxy has no UDP
    #[arg(long, value_enum, default_value_t)]
    pub format: Proxy,
    /// Only ports of this protocol: tcp for haproxy and udp for nginx beside it, which is well at port 8406
    #[arg(long, value_enum)]
    pub protocol: Option<Transport>,
    /// What it leads to [default: services in a cluster, endpoints with manifests]
    #[arg(long, value_enum)]
    pub to: Option<Upstream>,
    /// Who may connect; may be repeated [default: as configured, else everybody]
    #[arg(long, value_name = "CIDR")]
    pub allow: Vec<IpNet>,
    /// The address that it listens at [default: as configured, else all that the gateway's Service has]
    #[arg(long, value_name = "ADDRESS")]
    pub bind: Option<IpAddr>,
    /// Ports to choose from [default: as configured, else 20000-29999]
    #[arg(long, value_name = "FIRST-LAST")]
    pub ports: Option<PortRange>,
    /// Domain of cluster DNS, for names of Services [default: as configured, else cluster.local]
    #[arg(long, value_name = "DOMAIN", value_parser = domain)]
    pub cluster_domain: Option<portolan_zones::Name>,
}

/// For which program a gateway's configuration is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Proxy {
    /// haproxy.cfg: TCP
    #[default]
    Haproxy,
    /// nginx.conf: TCP and UDP, by its stream module
    Nginx,
}

/// What a gateway carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Transport {
    Tcp,
    Udp,
}

/// What a gateway leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Upstream {
    /// The Services of the cluster that it runs in
    Services,
    /// Pods, which it reaches from where it is
    Endpoints,
}

fn domain(text: &str) -> Result<portolan_zones::Name, String> {
    portolan_zones::Name::parse(text).map_err(|error| error.to_string())
}

pub(super) const GATEWAY_EXAMPLES: &str = "\
Examples:
  portolan gateway --manifests clusters/ --cluster tokyo > haproxy.cfg
  portolan gateway --manifests clusters/ --cluster tokyo --allow 10.0.0.0/8 --allow 2001:db8::/32
  portolan gateway --format nginx --to endpoints --kubeconfig ~/.kube/config > nginx.conf";
