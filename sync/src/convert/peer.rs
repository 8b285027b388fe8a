//! ClusterPeers, as far as they are about the cluster that they stand for, and what people decide of endpoints.

use portolan_zones::ClusterId;
use portolan_zones::object::Object;
use portolan_zones::peers::{Peer, State};

use super::service::pairs;
use super::{ConvertError, Refused, subdomain};
use crate::intern::Interner;
use crate::kube_types as kube;
use crate::kubernetes::resources::duration;

const STATE: &str = "metadata.annotations[portolan.dev/state]";

/// Translates a ClusterPeer; `None` for one of whose cluster nobody knows the id yet. One with a state that can't be read is
/// refused, so that what was known of it holds: a slip must not take back a cluster that people took out.
pub fn peer(
    peer: &kube::ClusterPeer<'_>,
    interner: &mut Interner,
    refused: &mut Refused,
) -> Result<Option<Object>, ConvertError> {
    let metadata = peer.metadata.as_ref().ok_or(ConvertError::Missing { field: "metadata".to_owned() })?;
    let name = interner.text(subdomain("metadata.name", metadata.name.as_deref())?);
    let status = peer.status.as_ref();
    let seen = status.and_then(|status| status.cluster_id.as_deref()).map(|id| ("status.clusterId", id));
    let configured = || Some(("spec.clusterId", peer.spec.as_ref()?.cluster_id.as_deref()?));
    let Some((field, id)) = seen.or_else(configured) else {
        return Ok(None);
    };
    let cluster = ClusterId::new(id).map_err(|error| ConvertError::name(field, error))?;
    let rtt = status.and_then(|status| status.round_trip_time.as_deref()).and_then(|text| {
        let rtt = duration(text);
        if rtt.is_none() {
            let (field, value) = ("status.roundTripTime".to_owned(), text.chars().take(30).collect());
            refused.push(ConvertError::Duration { field, value, such: "12.3ms" });
        }
        rtt
    });
    let labels = pairs("metadata.labels", metadata.labels.as_ref(), interner, refused);
    let state = state(metadata.annotations.as_ref())?;
    Ok(Some(Object::Peer(Peer { name, cluster, labels, state, rtt })))
}

/// Annotation `portolan.dev/state`.
pub(super) fn state(annotations: Option<&kube::Annotations<'_>>) -> Result<Option<State>, ConvertError> {
    let Some(text) = annotations.and_then(|known| known.state.as_deref()) else {
        return Ok(None);
    };
    let unknown = |_| {
        let value: String = text.chars().take(30).collect();
        ConvertError::unknown(STATE, &value, &["up", "drain", "down"])
    };
    text.parse().map(Some).map_err(unknown)
}
