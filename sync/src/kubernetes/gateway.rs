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
use crate::gateway::{GatewayPorts, MEMORY, PortRange, Site, To, memory};
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

/// A cluster's exports with what is behind them, and the numbers that its controller has given: those that are new since then
/// are chosen as it will choose.
pub async fn read(
    own: &OwnConfig,
    range: PortRange,
    to: To,
    now: UnixTime,
) -> Result<(Site, GatewayPorts), ReadError> {
    let client = own.access.client().await?;
    let mut site = Site::default();
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
            addresses(&list).into_iter().for_each(|(service, ip)| site.add_address(service, ip));
        }
    }
    let mut ports = GatewayPorts::new(range);
    ports.restore(memory::read(&remembered(&client, &own.namespace).await?), now);
    Ok((site, ports))
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

/// ClusterIPs of Services, the first of each.
fn addresses(list: &str) -> Vec<(ServiceName, IpAddr)> {
    #[derive(Deserialize)]
    struct List {
        items: Vec<Service>,
    }
    let list: Option<List> = serde_json::from_str(list).ok();
    let services = list.map(|list| list.items).unwrap_or_default();
    services.iter().filter_map(Service::address).collect()
}

/// A Service's name and ClusterIP.
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
}

impl Service {
    /// `None` for those that have no address.
    pub(crate) fn address(&self) -> Option<(ServiceName, IpAddr)> {
        let ip = self.spec.cluster_ip.as_deref()?.parse().ok()?;
        Some((ServiceName::new(&self.metadata.namespace, &self.metadata.name).ok()?, ip))
    }
}
