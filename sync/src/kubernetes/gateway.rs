//! What a cluster's shared gateway depends on, read once from its API server: for `portolan gateway`.

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, Client};
use portolan_zones::ServiceName;
use portolan_zones::object::UnixTime;
use serde::Deserialize;

use super::OwnConfig;
use super::access::{AccessError, tell};
use super::discovery::{Topic, find};
use crate::gateway::{GatewayPorts, MEMORY, PortRange, SERVICE, Site, To, bind_behind, memory};
use crate::intern::Interner;
use crate::manifest::Reading;

/// Why a cluster can't be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// There is no way to ask it.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// It does not give what is asked for.
    #[error("{what} can't be read: {reason}")]
    Refused {
        /// As RBAC names it.
        what: String,
        /// What the API server says.
        reason: String,
    },
}

/// What a cluster's gateway depends on.
#[derive(Debug, Default)]
pub struct Found {
    /// Its exports, with what is behind them.
    pub site: Site,
    /// The numbers that its controller has given: those that are new since then are chosen as it will choose.
    pub ports: GatewayPorts,
    /// Where the gateway listens behind its Service; `None`: everywhere.
    pub bind: Option<IpAddr>,
}

/// Asks a cluster.
pub async fn read(own: &OwnConfig, range: PortRange, to: To, now: UnixTime) -> Result<Found, ReadError> {
    let client = own.access.client().await?;
    let (mut site, mut bind) = (Site::default(), None);
    let topics = [Topic::ServiceExport, Topic::Service, Topic::EndpointSlice];
    for topic in &topics[..if to == To::Endpoints { 3 } else { 2 }] {
        let refused = |reason: String| ReadError::Refused { what: topic.resource(), reason };
        let found = find(&client, *topic).await.map_err(|error| refused(tell(&error)))?;
        let resource = found.ok_or_else(|| refused(topic.absence()))?;
        let request = http::Request::get(
            Api::<kube::core::DynamicObject>::all_with(client.clone(), &resource).resource_url(),
        );
        let request = request.body(Vec::new()).map_err(|error| refused(error.to_string()))?;
        let list = client.request_text(request).await.map_err(|error| refused(tell(&error)))?;
        let reading = Reading::of(list.as_bytes(), true, &mut Interner::default());
        reading.objects.into_iter().for_each(|(_, object)| site.add(object));
        if *topic == Topic::Service {
            let services = services(&list);
            services.iter().filter_map(Service::address).for_each(|(name, ip)| site.add_address(name, ip));
            let is_front = |service: &&Service| service.is(&own.namespace, SERVICE);
            bind = services
                .iter()
                .find(is_front)
                .and_then(|front| bind_behind(front.spec.ip_families.as_deref()?));
        }
    }
    let mut ports = GatewayPorts::new(range);
    ports.restore(memory::read(&remembered(&client, &own.namespace).await?), now);
    Ok(Found { site, ports, bind })
}

/// What the controller wrote down; nothing where it has no gateway to keep.
async fn remembered(client: &Client, namespace: &str) -> Result<BTreeMap<String, String>, ReadError> {
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let refused = |error: kube::Error| ReadError::Refused {
        what: format!("ConfigMap {namespace}/{MEMORY}"),
        reason: tell(&error),
    };
    Ok(api.get_opt(MEMORY).await.map_err(refused)?.and_then(|map| map.data).unwrap_or_default())
}

fn services(list: &str) -> Vec<Service> {
    #[derive(Deserialize)]
    struct List {
        items: Vec<Service>,
    }
    let list: Option<List> = serde_json::from_str(list).ok();
    list.map(|list| list.items).unwrap_or_default()
}

/// A Service's name, ClusterIP (the first one) and families.
#[derive(Deserialize)]
pub(crate) struct Service {
    metadata: Names,
    #[serde(default)]
    spec: Spec,
}

#[derive(Deserialize)]
struct Names {
    namespace: String,
    name: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    #[serde(rename = "clusterIP")]
    cluster_ip: Option<String>,
    ip_families: Option<Vec<String>>,
}

impl Service {
    fn is(&self, namespace: &str, name: &str) -> bool {
        self.metadata.namespace == namespace && self.metadata.name == name
    }

    /// `None` for those that have no address.
    pub(crate) fn address(&self) -> Option<(ServiceName, IpAddr)> {
        let ip = self.spec.cluster_ip.as_deref()?.parse().ok()?;
        Some((ServiceName::new(&self.metadata.namespace, &self.metadata.name).ok()?, ip))
    }
}
