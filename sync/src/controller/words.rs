//! The words on our objects: labels, annotations, names.

use std::hash::{Hash, Hasher};

use portolan_zones::ServiceName;
use siphasher::sip::SipHasher13;

/// Field manager of all our writes.
pub(super) const WRITER: &str = "portolan";
/// Label on everything that we write, of our own prefix so that nobody has it by chance: only what has it, and what else
/// tells our objects of its kind, is ever changed or deleted (see [`super::facts::Meta`]).
pub(super) const MANAGED: &str = "portolan.dev/managed";
/// Its value.
pub(super) const TRUE: &str = "true";
/// The API group of ServiceImports and ServiceExports.
pub(super) const MCS: &str = "multicluster.x-k8s.io";
/// Label on slices: who writes them, so that kube-controller-manager leaves them alone.
pub(super) const SLICE_MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
/// Label on slices and derived Services: the ServiceImport that they belong to.
pub(super) const IMPORTED: &str = "multicluster.kubernetes.io/service-name";
/// Label on slices: the cluster whose endpoints they hold.
pub(super) const SOURCE: &str = "multicluster.kubernetes.io/source-cluster";
/// Label on slices: the Service that kube-proxy connects to them.
pub(super) const SERVICE: &str = "kubernetes.io/service-name";
/// Label on slices that hold addresses of a gateway; annotation on others: where the gateway to their endpoints is, for
/// clients of other networks.
pub(super) const GATEWAY: &str = "portolan.dev/gateway";
/// Annotation on slices that say where their gateway is: all ports that are there, and their numbers.
pub(super) const GATEWAY_PORTS: &str = "portolan.dev/gateway-ports";
/// Label on slices: what the author of the export decided of their endpoints.
pub(super) const STATE: &str = "portolan.dev/state";
/// Label on slices: the region that their endpoints are in, as Nodes have it.
pub(super) const REGION: &str = "topology.kubernetes.io/region";
/// Annotation on imports: the derived Service.
pub(super) const DERIVED: &str = "multicluster.kubernetes.io/derived-service";
/// Annotation on slices of headless services: which endpoints are one pod.
pub(super) const IDENTITIES: &str = "portolan.dev/identities";
/// Annotation on imports: a hash of the metadata that we gave it, to see what is to be taken back.
pub(super) const APPLIED: &str = "portolan.dev/applied";
/// Annotation on imports: the oldest exporter's TrafficPolicy.
pub(super) const POLICY: &str = "portolan.dev/traffic-policy";

/// The same in all replicas and versions: names of objects depend on it.
const KEY: &[u8; 16] = b"portolan objects";
const BASE32: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// What tells one state of an object from another.
pub(super) fn fingerprint(state: &impl Hash) -> u64 {
    let mut hasher = SipHasher13::new_with_key(KEY);
    state.hash(&mut hasher);
    hasher.finish()
}

/// 13 characters that stand for these texts.
pub(super) fn short(texts: &[&[u8]]) -> String {
    let mut hasher = SipHasher13::new_with_key(KEY);
    for text in texts {
        hasher.write(text);
        hasher.write(&[0]);
    }
    let hash = hasher.finish();
    (0..13).map(|digit| char::from(BASE32[(hash >> (5 * digit)) as usize & 31])).collect()
}

/// What names of derived Services begin with.
pub(super) const DERIVED_PREFIX: &str = "derived-";

/// The name of the Service that gives a ServiceImport its virtual IP.
pub(super) fn derived_name(service: &ServiceName) -> String {
    format!("{DERIVED_PREFIX}{}", short(&[service.wire()]))
}

/// Whether the API server takes this as a label: what it refuses would keep the whole object from being written.
pub(super) fn is_label(key: &str, value: &str) -> bool {
    let (prefix, name) = key.rsplit_once('/').map_or((None, key), |(prefix, name)| (Some(prefix), name));
    let prefixed = prefix.is_none_or(|prefix| {
        prefix.len() <= 253 && prefix.split('.').all(|label| portolan_zones::name::check_label(label).is_ok())
    });
    prefixed && !name.is_empty() && is_label_text(name) && (value.is_empty() || is_label_text(value))
}

/// Whether the API server takes this as an annotation's key.
pub(super) fn is_annotation(key: &str) -> bool {
    is_label(&key.to_ascii_lowercase(), "")
}

fn is_label_text(text: &str) -> bool {
    let edge = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    let inner = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    text.len() <= 63 && edge(bytes.first()) && edge(bytes.last()) && bytes.iter().all(inner)
}

/// Whether a key of labels or annotations means something to us, to kubectl or to those who deploy objects and prune them:
/// what an export takes along may not set these.
pub(super) fn is_reserved(key: &str) -> bool {
    let reserved = [
        "portolan.dev/",
        "multicluster.kubernetes.io/",
        "kubectl.kubernetes.io/",
        // Those who own objects by such labels would change or delete imports.
        "app.kubernetes.io/managed-by",
        "app.kubernetes.io/instance",
        "argocd.argoproj.io/",
        "meta.helm.sh/",
        "helm.sh/",
        "kustomize.toolkit.fluxcd.io/",
        "helm.toolkit.fluxcd.io/",
        "velero.io/",
    ];
    reserved.iter().any(|prefix| key.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names outlive processes: a change of the hash would orphan every object.
    #[test]
    fn names_stay_as_they_are() {
        let name = derived_name(&ServiceName::new("shop", "web").unwrap());
        assert_eq!((name.len(), name), (21, "derived-puj7omyweltia".to_owned()));
    }

    /// Kubernetes, "Labels and Selectors", syntax and character set.
    #[test]
    fn labels_are_judged_as_the_api_server_does() {
        for (key, value, valid) in [
            ("app", "web", true),
            ("example.com/app", "", true),
            ("example.com/app", "A_b.c-1", true),
            ("app", "-web", false),
            ("app", "web shop", false),
            ("", "web", false),
            ("Example.com/app", "web", false),
            ("a/b/c", "web", false),
            ("app", &*"x".repeat(63), true),
            ("app", &*"x".repeat(64), false),
        ] {
            assert_eq!(is_label(key, value), valid, "{key}={value}");
        }
    }
}
