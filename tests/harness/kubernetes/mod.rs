//! Real clusters: etcd, kube-apiserver and kube-controller-manager, as many as a test needs, on loopback addresses
//! of their own. There are no kubelets: tests write Pods and their status, and controllers do the rest.

mod api;
mod binaries;
mod cluster;
mod clusterset;
mod credentials;
mod impostor;
mod objects;
mod part;
mod permit;
mod proxy;

pub use api::{Objects, block_on, documents};
pub use binaries::{binary, definitions};
pub use cluster::{Cluster, Options, condition};
pub use clusterset::{
    CONTROLLER, Clusterset, Member, PEER, Plan, SERVER, SYSTEM, Shared, install, introduce, ours,
};
pub use credentials::{ADMIN_USER, kubeconfig};
pub use impostor::Impostor;
pub use objects::{export, headless_service, namespace, node, object, pod, running, service, with};
pub use part::Part;
pub use proxy::Proxy;
