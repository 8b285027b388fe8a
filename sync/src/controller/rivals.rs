//! Looks for another installation of ours in the same cluster: its Lease is in another namespace, so both would lead, and
//! write the same objects.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use kube::api::ListParams;
use kube::{Api, Client};
use tokio::sync::watch;

use super::election::LEASE;

/// Between two looks. Who leads renews its Lease more often.
const EVERY: Duration = Duration::from_secs(60);
/// How long a request may take.
const PATIENCE: Duration = Duration::from_secs(15);

/// Tells who else leads, for people; runs until it is dropped. Who may not list the Leases of other namespaces finds nobody.
pub(super) async fn watch(client: Client, own: String, tell: watch::Sender<Option<String>>) {
    let leases: Api<Lease> = Api::all(client);
    let ours = ListParams::default().fields(&format!("metadata.name={LEASE}"));
    let mut before = BTreeMap::new();
    loop {
        if let Ok(Ok(list)) = tokio::time::timeout(PATIENCE, leases.list(&ours)).await {
            let now = records(list.items, &own);
            let rivals = alive(&before, &now);
            if tell.send_if_modified(|told| std::mem::replace(told, rivals.clone()) != rivals)
                && let Some(text) = rivals
            {
                tracing::error!("{text}");
            }
            before = now;
        }
        tokio::time::sleep(EVERY).await;
    }
}

/// What the Leases of other namespaces say, by namespace.
fn records(leases: Vec<Lease>, own: &str) -> BTreeMap<String, Option<LeaseSpec>> {
    let of = |lease: Lease| (lease.metadata.namespace.unwrap_or_default(), lease.spec);
    leases.into_iter().map(of).filter(|(namespace, _)| namespace != own).collect()
}

/// Who has renewed a Lease since the last look: nobody's clock is compared with ours.
fn alive(
    before: &BTreeMap<String, Option<LeaseSpec>>,
    now: &BTreeMap<String, Option<LeaseSpec>>,
) -> Option<String> {
    let held = |spec: &Option<LeaseSpec>| spec.as_ref().is_some_and(|spec| spec.holder_identity.is_some());
    let renewed =
        now.iter().filter(|(name, spec)| held(spec) && before.get(*name).is_some_and(|b| b != *spec));
    let names: Vec<&str> = renewed.map(|(namespace, _)| &**namespace).collect();
    (!names.is_empty()).then(|| {
        format!(
            "another portolan controller leads in namespace {} and writes the same objects: let only one of them run",
            names.join(", ")
        )
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn lease(namespace: &str, holder: Option<&str>, transitions: u32) -> Lease {
        let spec = json!({ "holderIdentity": holder, "leaseTransitions": transitions });
        let metadata = json!({ "name": LEASE, "namespace": namespace });
        serde_json::from_value(json!({ "metadata": metadata, "spec": spec })).unwrap()
    }

    #[test]
    fn who_renews_a_lease_elsewhere_is_a_rival() {
        let look = |leases: Vec<Lease>| records(leases, "portolan-system");
        let first = look(vec![
            lease("portolan-system", Some("a"), 1),
            lease("old", Some("b"), 1),
            lease("left", Some("c"), 1),
        ]);
        assert_eq!(alive(&BTreeMap::new(), &first), None, "one look tells nothing");
        assert_eq!(alive(&first, &first), None, "what is left over is no rival");
        let next = look(vec![
            lease("portolan-system", Some("a"), 2),
            lease("old", Some("b"), 2),
            lease("left", None, 2),
        ]);
        let told = alive(&first, &next).unwrap();
        assert!(told.contains("namespace old and"), "{told}");
        assert_eq!(alive(&next, &next), None, "it ended");
    }
}
