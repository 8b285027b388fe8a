//! CoreDNS with its `kubernetes` plugin and `multicluster`, which follows the ServiceImports of a real API server.

use futures_util::{StreamExt, stream};
use kube::Api;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind, PostParams};
use portolan_tests::harness::kubernetes::{ADMIN_USER, Cluster, Options, block_on, namespace};
use portolan_tests::harness::{DNS, Package, program, repository, run};
use serde_json::json;

use super::{Launch, Place, address};
use crate::running::Beside;
use crate::zone::{self, Zone};

/// Requests at once.
const AT_ONCE: usize = 32;
/// ServiceImports that are written within the time of [`block_on`].
const STEP: usize = 500;

pub fn prepare(zone: &Zone, place: &Place) -> Result<Launch, String> {
    let folder = repository().join("target/kubernetes/bin");
    let program = folder.join("coredns");
    if !["coredns", "etcd", "kube-apiserver"].iter().all(|name| folder.join(name).exists()) {
        return Err("CoreDNS and an API server for it are not built: make kubernetes".into());
    }
    let cluster = Cluster::start(Options {
        definitions: vec!["mcs"],
        controllers: false,
        id: None,
        arguments: Vec::new(),
    });
    write(&cluster, zone);
    let at = address();
    let corefile = format!(
        "clusterset.local:{DNS} {{\n  bind {}\n  kubernetes clusterset.local {{\n    kubeconfig {}\n    multicluster clusterset.local\n  }}\n}}\n",
        at.ip(),
        cluster.kubeconfig(ADMIN_USER).display()
    );
    let arguments = vec!["-conf".into(), place.write("Corefile", corefile)];
    Ok(Launch { program, arguments, at, beside: Some(Box::new(cluster)) })
}

/// Namespaces and ServiceImports, as a controller would write them.
fn write(cluster: &Cluster, zone: &Zone) {
    for number in 0..zone.names.min(100) {
        cluster.put(&namespace(&zone::namespace(number)));
    }
    let client = cluster.client();
    let resource =
        ApiResource::from_gvk(&GroupVersionKind::gvk("multicluster.x-k8s.io", "v1beta1", "ServiceImport"));
    let write = |service: usize| {
        let api: Api<DynamicObject> =
            Api::namespaced_with(client.clone(), &zone::namespace(service), &resource);
        let import: DynamicObject = serde_json::from_value(json!({
            "apiVersion": "multicluster.x-k8s.io/v1beta1",
            "kind": "ServiceImport",
            "metadata": { "namespace": zone::namespace(service), "name": zone::service_name(service) },
            "spec": {
                "type": "ClusterSetIP",
                "ips": zone.addresses(service),
                "ports": [{ "port": 80, "protocol": "TCP" }],
            },
        }))
        .unwrap();
        async move {
            api.create(&PostParams::default(), &import).await.unwrap();
        }
    };
    let all: Vec<usize> = (0..zone.names).collect();
    for some in all.chunks(STEP) {
        block_on(stream::iter(some).for_each_concurrent(AT_ONCE, |service| write(*service)));
    }
}

impl Beside for Cluster {
    /// Nothing changes any more: what it does by itself would take from what is measured.
    fn rest(&self) {
        for pid in self.pids() {
            let (sent, text) = run(program("kill", Package::Procps).args(["-s", "STOP", &pid.to_string()]));
            assert!(sent, "{text}");
        }
    }
}
