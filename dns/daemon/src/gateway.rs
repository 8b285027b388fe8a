//! `portolan gateway`: the configuration of a cluster's shared gateway, as text.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};
use portolan_sync::gateway::{
    Explicit, GatewayPorts, Plan, PortRange, Program, Site, Style, Taken, To, Wanted, render,
};
use portolan_sync::kubernetes;
use portolan_sync::manifest;
use portolan_zones::{ClusterId, Event};

use crate::cli::{Gateway, Proxy, Upstream};
use crate::config::Config;
use crate::source;
use portolan_program::Outcome;

/// Of one cluster: that of the manifests, or that which is asked.
pub(crate) fn run(asked: &Gateway) -> anyhow::Result<Outcome> {
    let config = asked.source.load_for(&asked.own).map_err(|problems| source::failure(&problems))?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let now = i64::try_from(now)?;
    let ports = ports_of(asked, &config);
    let plan = match &config.clusterset.own {
        Some(own) if asked.source.manifests.is_none() => {
            let to = to(asked).unwrap_or(To::Services);
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let read = runtime.block_on(kubernetes::gateway::read(own, ports, to, now));
            let (site, mut ports) = read?;
            site.plan(&mut ports, Wanted { explicit: Explicit::Elsewhere, to, udp: true }, Taken::new(), now)
        }
        _ => of_manifests(asked, &config, now)?,
    };
    let program = match asked.format {
        Proxy::Haproxy => Program::Haproxy,
        Proxy::Nginx => Program::Nginx,
    };
    let style = style(asked, &config);
    Ok(Outcome::good(render(program, &plan, &style)?))
}

/// What the command line leaves open is as the controller has it.
fn style(asked: &Gateway, config: &Config) -> Style {
    let configured = &config.clusterset.controller.gateway;
    let allow = if asked.allow.is_empty() { &configured.allow } else { &asked.allow };
    let domain = asked.cluster_domain.as_ref().unwrap_or(&configured.cluster_domain);
    Style { bind: asked.bind, allow: allow.clone(), ..Style::new(domain.clone()) }
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
