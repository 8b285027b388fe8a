//! `portolan gateway`: the configuration of a cluster's shared gateway, as text.

use std::net::IpAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};
use portolan_sync::gateway::{
    Explicit, GatewayPorts, HEALTH_PORT, Plan, PortRange, Program, Site, Style, Taken, To, UDP_HEALTH_PORT,
    Wanted, render,
};
use portolan_sync::kubernetes::gateway::{Found, read};
use portolan_sync::manifest;
use portolan_zones::object::Protocol;
use portolan_zones::{ClusterId, Event};

use crate::cli::{Gateway, Proxy, Transport, Upstream};
use crate::config::Config;
use crate::source;
use portolan_program::Outcome;

/// Of one cluster: that of the manifests, or that which is asked.
pub(crate) fn run(asked: &Gateway) -> anyhow::Result<Outcome> {
    let config = asked.source.load_for(&asked.own).map_err(|problems| source::failure(&problems))?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let now = i64::try_from(now)?;
    let ports = ports_of(asked, &config);
    if (asked.format, asked.protocol) == (Proxy::Haproxy, Some(Transport::Udp)) {
        bail!("HAProxy has no UDP: give --format nginx");
    }
    let (plan, bind) = match &config.clusterset.own {
        Some(own) if asked.source.manifests.is_none() => {
            let to = to(asked).unwrap_or(To::Services);
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let found = runtime.block_on(read(own, ports, to, now));
            let Found { site, mut ports, bind } = found?;
            let wanted = Wanted { explicit: Explicit::Elsewhere, to, udp: true };
            (site.plan(&mut ports, wanted, Taken::new(), now), bind)
        }
        _ => (of_manifests(asked, &config, now)?, None),
    };
    let program = match asked.format {
        Proxy::Haproxy => Program::Haproxy,
        Proxy::Nginx => Program::Nginx,
    };
    // All numbers are chosen before some are left out: they are the same in both programs.
    let plan = match asked.protocol {
        Some(protocol) => plan.only(protocol.into()),
        None => plan,
    };
    let style = style(asked, &config, bind);
    Ok(Outcome::good(render(program, &plan, &style)?))
}

impl From<Transport> for Protocol {
    fn from(transport: Transport) -> Self {
        match transport {
            Transport::Tcp => Self::Tcp,
            Transport::Udp => Self::Udp,
        }
    }
}

/// What the command line leaves open is as the controller has it. Beside HAProxy a program for UDP needs a port of its own to be
/// well at.
fn style(asked: &Gateway, config: &Config, behind: Option<IpAddr>) -> Style {
    let configured = &config.clusterset.controller.gateway;
    let allow = if asked.allow.is_empty() { &configured.allow } else { &asked.allow };
    let domain = asked.cluster_domain.as_ref().unwrap_or(&configured.cluster_domain);
    let bind = asked.bind.or(configured.bind).or(behind);
    let health_port = if asked.protocol == Some(Transport::Udp) { UDP_HEALTH_PORT } else { HEALTH_PORT };
    Style { bind, allow: allow.clone(), health_port, ..Style::new(domain.clone()) }
}

fn ports_of(asked: &Gateway, config: &Config) -> PortRange {
    asked.ports.unwrap_or(config.clusterset.controller.gateway.ports)
}

fn to(asked: &Gateway) -> Option<To> {
    asked.to.map(|to| match to {
        Upstream::Services => To::Services,
        Upstream::Endpoints => To::Endpoints,
    })
}

/// What is wrong elsewhere in the manifests is no matter of the gateway: `portolan check` tells it.
fn of_manifests(asked: &Gateway, config: &Config, now: i64) -> anyhow::Result<Plan> {
    if config.clusterset.clusters.is_empty() {
        bail!("there are no manifests: give --manifests DIR, or --kubeconfig FILE to ask a cluster");
    }
    let (events, problems) = manifest::load(&config.clusterset.clusters);
    let known: Vec<&ClusterId> =
        events.iter().filter_map(cluster_of).collect::<std::collections::BTreeSet<_>>().into_iter().collect();
    let names = || known.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    let cluster = match &asked.cluster {
        Some(id) => {
            let found = known.iter().find(|known| known.as_str() == id);
            (*found.with_context(|| format!("cluster {id} is not there; known are: {}", names()))?).clone()
        }
        None => match known[..] {
            [only] => only.clone(),
            [] => bail!(
                "no cluster can be read: {}",
                problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
            ),
            _ => bail!("which cluster's gateway is it? Give --cluster with one of: {}", names()),
        },
    };
    let site = Site::of_cluster(&cluster, events);
    let to = to(asked).unwrap_or(To::Endpoints);
    let wanted = Wanted { explicit: Explicit::Here, to, udp: true };
    Ok(site.plan(&mut GatewayPorts::new(ports_of(asked, config)), wanted, Taken::new(), now))
}

fn cluster_of(event: &Event) -> Option<&ClusterId> {
    match event {
        Event::Cluster(event) => Some(&event.cluster),
        _ => None,
    }
}
