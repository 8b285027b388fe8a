//! One raw object → what it means here.

use portolan_zones::ClusterId;
use portolan_zones::object::{Object, ObjectKey};

use crate::convert::{self, Kind, Names, Refused};
use crate::intern::Interner;
use crate::kube_types as kube;
use crate::kubernetes::raw::Raw;

/// What an object turned out to be.
pub(super) enum Read {
    Object {
        /// `None`: of no importance here.
        object: Option<Object>,
        /// Host names on which it depends where the object is.
        names: Vec<Box<str>>,
        /// What of it is left out.
        refused: Refused,
    },
    /// An id of the cluster, with its rank.
    Id(usize, ClusterId),
}

/// Translates an object, by what is known of host names.
pub(super) fn read(kind: Kind, json: &str, known: &Names, interner: &mut Interner) -> Result<Read, String> {
    let (mut names, mut left_out) = (Vec::new(), Refused::default());
    let malformed = |error: serde_json::Error| format!("can't be parsed: {error}");
    let refused = |error: convert::ConvertError| error.to_string();
    let object = match kind {
        Kind::Service => {
            let service: kube::Service<'_> = serde_json::from_str(json).map_err(malformed)?;
            names = convert::names_of_service(&service);
            convert::service(&service, known, interner, &mut left_out).map_err(refused)?
        }
        Kind::ServiceExport => {
            let export: kube::ServiceExport<'_> = serde_json::from_str(json).map_err(malformed)?;
            names = convert::names_of_export(&export);
            Some(convert::export(&export, known, interner, &mut left_out).map_err(refused)?)
        }
        Kind::ServiceImport => {
            let import = serde_json::from_str(json).map_err(malformed)?;
            Some(convert::import(&import, interner).map_err(refused)?)
        }
        Kind::EndpointSlice => {
            let slice = serde_json::from_str(json).map_err(malformed)?;
            convert::slice(&slice, interner, &mut left_out).map_err(refused)?
        }
        Kind::Node => {
            let node = serde_json::from_str(json).map_err(malformed)?;
            Some(convert::node(&node, interner).map_err(refused)?)
        }
        Kind::Namespace => {
            let namespace = serde_json::from_str(json).map_err(malformed)?;
            Some(convert::namespace(&namespace, interner).map_err(refused)?)
        }
        Kind::TrafficPolicy => {
            let policy = serde_json::from_str(json).map_err(malformed)?;
            Some(convert::policy(&policy, interner).map_err(refused)?)
        }
        Kind::ClusterPeer => {
            let peer = serde_json::from_str(json).map_err(malformed)?;
            convert::peer(&peer, interner, &mut left_out).map_err(refused)?
        }
        Kind::ClusterProperty => {
            let property = serde_json::from_str(json).map_err(malformed)?;
            if let Some((rank, id)) = convert::cluster_id(&property).map_err(refused)? {
                return Ok(Read::Id(rank, id));
            }
            None
        }
    };
    Ok(Read::Object { object, names, refused: left_out })
}

/// The key of an object that may be broken; `None`: it has none.
pub(super) fn key_of(kind: Kind, raw: &Raw) -> Option<ObjectKey> {
    let head: kube::Head<'_> = serde_json::from_str(raw.json()).ok()?;
    kind.key(&head.metadata?)
}
