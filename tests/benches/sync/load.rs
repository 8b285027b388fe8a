//! Services by the thousand in a real API server, and their changes.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use futures_util::{StreamExt, stream};
use kube::api::{ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use portolan_tests::harness::kubernetes::{Cluster, namespace};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

pub const ENDPOINTS: usize = 10;
const NAMESPACES: usize = 50;
/// Services are told apart by their last digit: those of this one are measured, and headless, so that a change of an
/// endpoint shows in the answer.
const MEASURED: usize = 5;
/// Those of this one change beside them.
const BUSY: usize = 3;
/// Requests at once.
const AT_ONCE: usize = 48;
/// So many services are written between two lines of progress.
const STEP: usize = 5_000;

/// The namespaces that the services are in.
pub fn namespaces(cluster: &Cluster) {
    for i in 0..NAMESPACES {
        cluster.put(&namespace(&namespace_of(i)));
    }
}

fn namespace_of(service: usize) -> String {
    format!("ns-{}", service % NAMESPACES)
}

pub fn host_of(service: usize) -> String {
    format!("service-{service}.{}.svc.clusterset.local", namespace_of(service))
}

pub struct Load {
    client: Client,
    runtime: Arc<Runtime>,
    /// One in so many services has a virtual IP.
    vips: usize,
    services: usize,
    next: usize,
    round: u32,
}

impl Load {
    /// `vips`: one in so many services has a virtual IP. kube-apiserver counts all that are allocated at each
    /// allocation, so that 20,000 of them take it longer than all else here.
    pub fn new(cluster: &Cluster, vips: usize) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let (client, runtime) = (cluster.client(), Arc::new(runtime));
        Self { client, runtime, vips, services: 0, next: 0, round: 0 }
    }

    /// Writes services until there are so many: a Service, its EndpointSlice, its ServiceExport.
    pub fn grow_to(&mut self, services: usize) {
        while self.services < services {
            let next = services.min(self.services + STEP);
            let (client, vips) = (self.client.clone(), self.vips);
            let written = stream::iter(self.services..next).for_each_concurrent(AT_ONCE, |i| {
                let client = client.clone();
                async move {
                    for object in objects(i, vips) {
                        let api = api(&client, &object);
                        let object: DynamicObject = serde_json::from_value(object).unwrap();
                        api.create(&PostParams::default(), &object).await.unwrap();
                    }
                }
            });
            self.runtime.block_on(written);
            self.services = next;
            println!("  {next} of {services} services written");
        }
    }

    /// Services that are measured, one after the other, far from each other.
    pub fn next_measured(&mut self) -> usize {
        self.next = (self.next + 70) % (self.services / 10 * 10);
        self.next + MEASURED
    }

    /// Gives a service's first endpoint another address, and returns it.
    pub fn change(&mut self, service: usize) -> Ipv4Addr {
        self.round += 1;
        let address = Ipv4Addr::from(0x0b00_0000 + self.round);
        self.runtime.block_on(change(&self.client, service, address));
        address
    }

    /// Changes other services, so many each second, until it is told to end.
    pub fn busy(&self, each_second: u32) -> Busy {
        let ended = Arc::new(AtomicBool::new(false));
        let (client, runtime, services, end) =
            (self.client.clone(), self.runtime.clone(), self.services, ended.clone());
        let thread = std::thread::spawn(move || {
            let begun = Instant::now();
            for n in 1_u32.. {
                if end.load(Ordering::Relaxed) {
                    return;
                }
                let service = n as usize * 130 % (services / 10 * 10) + BUSY;
                let address = Ipv4Addr::from(0x0c00_0000 + n);
                let client = client.clone();
                runtime.spawn(async move { change(&client, service, address).await });
                std::thread::sleep(
                    (Duration::from_secs(1) / each_second * n).saturating_sub(begun.elapsed()),
                );
            }
        });
        Busy { ended, thread }
    }
}

/// What goes on beside.
pub struct Busy {
    ended: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Busy {
    pub fn end(self) {
        self.ended.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
    }
}

async fn change(client: &Client, service: usize, address: Ipv4Addr) {
    let object = slice(service, address);
    let name = object["metadata"]["name"].as_str().unwrap().to_owned();
    let patch = json!({ "endpoints": object["endpoints"] });
    api(client, &object).patch(&name, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
}

fn api(client: &Client, object: &Value) -> Api<DynamicObject> {
    let text = |pointer| object.pointer(pointer).and_then(Value::as_str).unwrap();
    let (group, version) = text("/apiVersion").split_once('/').unwrap_or(("", text("/apiVersion")));
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, text("/kind")));
    Api::namespaced_with(client.clone(), text("/metadata/namespace"), &resource)
}

fn objects(i: usize, vips: usize) -> [Value; 3] {
    let metadata = json!({ "namespace": namespace_of(i), "name": format!("service-{i}") });
    let mut spec = json!({ "ports": [{ "name": "http", "port": 80 }] });
    if i % 10 == MEASURED || !i.is_multiple_of(vips) {
        spec["clusterIP"] = "None".into();
    }
    [
        json!({ "apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec }),
        slice(i, Ipv4Addr::from(0x0a00_0000 + (i * ENDPOINTS) as u32)),
        json!({ "apiVersion": "multicluster.x-k8s.io/v1beta1", "kind": "ServiceExport", "metadata": metadata }),
    ]
}

/// Ten endpoints, the first at `address`.
fn slice(i: usize, address: Ipv4Addr) -> Value {
    let rest = 0x0a00_0000 + (i * ENDPOINTS) as u32;
    let endpoints: Vec<_> = (0..ENDPOINTS)
        .map(|n| {
            let address = if n == 0 { address } else { Ipv4Addr::from(rest + n as u32) };
            json!({
                "addresses": [address.to_string()],
                "conditions": { "ready": true, "serving": true, "terminating": false },
                "nodeName": format!("node-{}", (i + n) % 300),
                "zone": format!("az-{}", n % 3),
                "targetRef": { "kind": "Pod", "namespace": namespace_of(i), "name": format!("service-{i}-{n}") },
            })
        })
        .collect();
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "namespace": namespace_of(i),
            "name": format!("service-{i}-x7k2p"),
            "labels": {
                "kubernetes.io/service-name": format!("service-{i}"),
                "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
            },
        },
        "addressType": "IPv4",
        "ports": [{ "name": "http", "port": 8080, "protocol": "TCP" }],
        "endpoints": endpoints,
    })
}
