//! The own cluster: its API server's store, the table that watches it, and the controller's loop without its timers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use portolan_zones::object::ServiceKind;
use portolan_zones::{
    Change, ClusterEvent, ClusterId, Event, Object, ServiceName, Snapshot, Table, Zones, compile,
};
use serde_json::{Value, json};

use super::super::apply::{WriteError, kind, undeclared};
use super::super::desired::desire;
use super::super::memory::{HOLD, Memory};
use super::super::observed::Observed;
use super::super::plan::{Action, Target, Verb, What, plan};
use super::super::world::{Lacking, Past, Trouble, VipTrouble, World};
use super::web;
use crate::convert::{self, Kind, Refused};
use crate::intern::Interner;
use crate::kube_types;
use crate::kubernetes::Tap;
use crate::vip::PoolRanges;

const NOW: i64 = 1_790_000_000;

type Key = (&'static str, String, String);

/// See the module.
pub(super) struct Home {
    pub(super) store: BTreeMap<Key, Value>,
    pub(super) observed: Observed,
    pub(super) table: Table,
    snapshot: Arc<Snapshot>,
    zones: Arc<Zones>,
    id: ClusterId,
    pub(super) pool: Option<PoolRanges>,
    pub(super) all_heard: bool,
    /// Families that the cluster's Services can have.
    pub(super) families: Vec<&'static str>,
    /// Addresses that others have.
    pub(super) taken: Vec<String>,
    /// Refuses addresses.
    pub(super) full: bool,
    /// Refuses Services for this reason.
    pub(super) refuses_services: Option<&'static str>,
    pub(super) refuses_deletions: bool,
    /// Fields that its definitions lack.
    pub(super) lacks: Vec<&'static str>,
    /// Which of them are known to be.
    pub(super) lacking: Lacking,
    pub(super) memory: Memory,
    pub(super) now: i64,
    started: Instant,
    version: u64,
}

impl Home {
    /// A cluster with the namespace `shop`.
    pub(super) fn new(id: &str) -> Self {
        let id = ClusterId::new(id).unwrap();
        let zones = Arc::new(Zones::default());
        let mut home = Self {
            store: BTreeMap::new(),
            observed: Observed::default(),
            table: Table::default(),
            snapshot: Arc::new(Snapshot::unsynced(zones.clone())),
            zones,
            id: id.clone(),
            pool: None,
            all_heard: true,
            families: vec!["IPv4", "IPv6"],
            taken: Vec::new(),
            full: false,
            refuses_services: None,
            refuses_deletions: false,
            lacks: Vec::new(),
            lacking: Lacking::new(),
            memory: Memory::new(HOLD),
            started: Instant::now(),
            now: NOW,
            version: 0,
        };
        home.observed.synced(&id);
        home.tell([Event::Home(Some(id))]);
        home.put("Namespace", json!({ "metadata": { "name": "shop" } }));
        home
    }

    /// Tells the table.
    pub(super) fn tell(&mut self, events: impl IntoIterator<Item = Event>) {
        events.into_iter().for_each(|event| self.table.apply(event));
        if let Some(next) = compile(&mut self.table, &self.zones, &self.snapshot, self.now) {
            self.snapshot = Arc::new(next);
        }
    }

    pub(super) fn has_service(&mut self, kind: ServiceKind) {
        let (kind, ip) = match kind {
            ServiceKind::ClusterIp => ("ClusterIP", "10.96.0.1"),
            ServiceKind::Headless => ("ClusterIP", "None"),
            ServiceKind::ExternalName => ("ExternalName", ""),
        };
        self.put(
            "Service",
            json!({ "metadata": { "namespace": "shop", "name": "web" },
                    "spec": { "type": kind, "clusterIP": ip, "clusterIPs": [ip] } }),
        );
    }

    pub(super) fn has_export(&mut self) {
        let metadata = json!({ "namespace": "shop", "name": "web", "generation": 1 });
        self.put("ServiceExport", json!({ "metadata": metadata }));
    }

    /// Somebody writes an object.
    pub(super) fn put(&mut self, kind: &'static str, mut object: Value) {
        self.version += 1;
        let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
        let key = (kind, text("namespace"), text("name"));
        let uid = match self.store.get(&key) {
            Some(before) => before["metadata"]["uid"].clone(),
            None => json!(format!("uid-{}", self.version)),
        };
        object["metadata"]["uid"] = uid;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.observed.apply(kind_of(kind), &object.to_string());
        self.watch(kind, &object);
        self.store.insert(key, object);
    }

    /// Somebody deletes an object.
    pub(super) fn remove(&mut self, kind: &'static str, name: &str) {
        let namespace = if kind == "Namespace" { "" } else { "shop" };
        if let Some(object) = self.store.remove(&(kind, namespace.to_owned(), name.to_owned())) {
            self.observed.delete(kind_of(kind), namespace, name);
            let metadata = object["metadata"].to_string();
            self.gone(kind, &metadata);
        }
    }

    /// Tells the table of an object that is gone.
    fn gone(&mut self, kind: &str, metadata: &str) {
        let metadata: kube_types::Metadata<'_> = serde_json::from_str(metadata).unwrap();
        if let Some(key) = kind_of(kind).key(&metadata).filter(|_| is_told(kind)) {
            let change = Change::Delete(key);
            self.tell([Event::Cluster(ClusterEvent { cluster: self.id.clone(), change })]);
        }
    }

    /// The controller starts anew: it knows only what the store holds.
    pub(super) fn restart(&mut self) {
        self.observed = Observed::default();
        for ((kind, ..), object) in &self.store {
            self.observed.apply(kind_of(kind), &object.to_string());
        }
        self.observed.synced(&self.id.clone());
    }

    /// The next round of requests for `shop/web`.
    pub(super) fn plan(&self, trouble: &Trouble, failed: &BTreeSet<Target>) -> Vec<Action> {
        self.plan_for(&web(), trouble, failed)
    }

    fn plan_for(&self, name: &ServiceName, trouble: &Trouble, failed: &BTreeSet<Target>) -> Vec<Action> {
        let world = World {
            home: self.id.clone(),
            pool: self.pool.clone(),
            mcs: "v1beta1",
            lacking: Arc::new(self.lacking.clone()),
            all_heard: self.all_heard,
            now: self.now,
        };
        let service = self.snapshot.services.get(name.wire());
        let seen = self.observed.see(name);
        let waits = service.is_some_and(|service| service.awaited && service.members.is_empty());
        let waited = waits && self.memory.wait(name, self.at()) <= self.at();
        if !waits {
            self.memory.has_come(name);
        }
        let past = Past { trouble: trouble.clone(), former: self.memory.former(name, self.at()), waited };
        let desired = desire(name, service.map(|s| &**s), &seen, &world, &past);
        desired.map_or_else(Vec::new, |desired| plan(name, &desired, &seen.facts, &world, failed))
    }

    /// The monotonic clock, which goes as `now` does.
    fn at(&self) -> Instant {
        self.started + Duration::from_secs(u64::try_from(self.now - NOW).unwrap())
    }

    /// Reconciles; the requests that it took.
    pub(super) fn settle(&mut self) -> Vec<String> {
        self.settle_within(usize::MAX)
    }

    /// Reconciles, but stops dead after so many requests.
    pub(super) fn settle_within(&mut self, mut most: usize) -> Vec<String> {
        let (mut trouble, mut failed, mut log) = (Trouble::default(), BTreeSet::new(), Vec::new());
        for _ in 0..12 {
            let actions = self.plan(&trouble, &failed);
            if actions.is_empty() {
                return log;
            }
            for action in actions {
                if most == 0 {
                    return log;
                }
                most -= 1;
                log.push(format!("{} {}", verb(&action), action.target));
                if let Err(error) = self.carry_out(&action) {
                    if let WriteError::Undeclared { field, .. } = error {
                        assert!(self.lacking.insert(field), "{field} is known to be lacking");
                        break;
                    }
                    failed.insert(action.target.clone());
                    match error.vip() {
                        Some(vip) => {
                            if vip == VipTrouble::Taken {
                                self.memory.forget_former(&web());
                            }
                            trouble.vip = Some(vip);
                        }
                        None => trouble.other.push(error.to_string()),
                    }
                    break;
                }
            }
        }
        panic!("does not settle: {log:#?}");
    }

    fn carry_out(&mut self, action: &Action) -> Result<(), WriteError> {
        let Target { what, namespace, name } = &action.target;
        let key = (what.kind(), namespace.clone(), name.clone());
        let refused = |code, message: &str| {
            Err(WriteError::Refused { target: action.target.clone(), code, message: message.to_owned() })
        };
        let (Verb::Create { body } | Verb::Apply { body }) = &action.verb else {
            let Verb::Delete { version } = action.verb else { unreachable!() };
            let current = self.store.get(&key).map(|object| object["metadata"]["resourceVersion"].clone());
            if self.refuses_deletions {
                return refused(403, "to delete it is not allowed");
            }
            if current != Some(json!(version.to_string())) {
                return refused(409, "the object has been modified");
            }
            if *what == What::Import {
                let ips = self.observed.see(&web()).facts.import.unwrap().ips;
                self.memory.bury(&web(), ips, self.at());
            }
            self.store.remove(&key);
            self.observed.deleted(kind(*what), namespace, name);
            self.gone(what.kind(), &json!({ "namespace": namespace, "name": name }).to_string());
            return Ok(());
        };
        assert_eq!(
            matches!(action.verb, Verb::Create { .. }),
            !self.store.contains_key(&key) && !matches!(what, What::ImportStatus | What::ExportStatus),
            "{}: what is known to be there is changed, and what is not is made",
            action.target
        );
        if let Some(message) = self.undeclared(body)
            && let Some(field) = undeclared(*what, &message)
        {
            return Err(WriteError::Undeclared { target: action.target.clone(), field });
        }
        self.version += 1;
        let mut object = self.store.get(&key).cloned().unwrap_or_else(|| json!({ "metadata": {} }));
        let before = object["metadata"].clone();
        if let What::ImportStatus | What::ExportStatus = what {
            object["status"] = body["status"].clone();
        } else {
            let status = object["status"].take();
            object = body.clone();
            object["status"] = status;
            object["metadata"]["uid"] = match &before["uid"] {
                Value::Null => json!(format!("uid-{}", self.version)),
                uid => uid.clone(),
            };
        }
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        if *what == What::Service {
            if let Some(message) = self.refuses_services {
                return refused(403, message);
            }
            let given: Vec<String> = match self.store.get(&key) {
                Some(before) => serde_json::from_value(before["spec"]["clusterIPs"].clone()).unwrap(),
                None => serde_json::from_value(object["spec"]["clusterIPs"].clone()).unwrap_or_default(),
            };
            if self.taken.iter().any(|taken| given.contains(taken)) {
                return refused(422, "spec.clusterIPs: provided IP is already allocated");
            }
            match self.addresses(&object, &given) {
                Ok(ips) => object["spec"]["clusterIPs"] = json!(ips),
                Err(message) => return refused(422, message),
            }
        }
        self.observed.wrote(kind(*what), &object.to_string());
        self.watch(what.kind(), &object);
        self.store.insert(key, object);
        Ok(())
    }

    /// What the API server says of the first field that a definition lacks.
    fn undeclared(&self, body: &Value) -> Option<String> {
        let has = |field: &&&str| body.pointer(&format!("/{}", field.replace('.', "/"))).is_some();
        let field = self.lacks.iter().filter(|_| body["kind"] == "ServiceImport").find(has)?;
        Some(format!(
            "failed to create typed patch object (shop/web; multicluster.x-k8s.io/v1beta1, Kind=ServiceImport): \
             .{field}: field not declared in schema"
        ))
    }

    /// What the API server does for `ipFamilies` and `ipFamilyPolicy`.
    fn addresses(&self, service: &Value, given: &[String]) -> Result<Vec<String>, &'static str> {
        let single = service["spec"]["ipFamilyPolicy"] == "SingleStack";
        let asked: Vec<String> =
            serde_json::from_value(service["spec"]["ipFamilies"].clone()).unwrap_or_default();
        if asked.iter().any(|family| !self.families.contains(&&**family)) {
            return Err("spec.ipFamilies[0]: Invalid value: not configured on this cluster");
        }
        if self.full {
            return Err("failed to allocate a serviceIP: range is full");
        }
        let family = |ip: &String| if ip.contains(':') { "IPv6" } else { "IPv4" };
        let mut families: Vec<&str> = given.iter().map(family).collect();
        if families.is_empty() {
            families.push(asked.first().map_or(self.families[0], |asked| &**asked));
        }
        if single {
            families.truncate(1);
        } else {
            let missing = self.families.iter().find(|family| **family != families[0]);
            families.extend(missing.filter(|_| families.len() < 2));
        }
        let serial = self.store.len();
        let give = |family: &str| {
            let kept = given.iter().find(|ip| (if ip.contains(':') { "IPv6" } else { "IPv4" }) == family);
            kept.cloned().unwrap_or_else(|| match family {
                "IPv6" => format!("fd00::{serial:x}"),
                _ => format!("10.96.1.{serial}"),
            })
        };
        Ok(families.into_iter().map(give).collect())
    }

    /// Tells the table of the home cluster's own objects as its watch would.
    fn watch(&mut self, kind: &str, object: &Value) {
        let text = object.to_string();
        let mut interner = Interner::default();
        let told = match kind {
            "ServiceImport" => {
                Some(convert::import(&serde_json::from_str(&text).unwrap(), &mut interner).unwrap())
            }
            "EndpointSlice" => {
                convert::slice(&serde_json::from_str(&text).unwrap(), &mut interner, &mut Refused::default())
                    .unwrap()
            }
            _ => None,
        };
        if let Some(object) = told {
            self.tell([self.says(object)]);
        }
    }

    fn says(&self, object: Object) -> Event {
        Event::Cluster(ClusterEvent { cluster: self.id.clone(), change: Change::Apply(object) })
    }

    /// An object of the store without what the server alone says.
    pub(super) fn get(&self, kind: &'static str, name: &str) -> Option<Value> {
        let mut object = self.store.get(&(kind, "shop".to_owned(), name.to_owned()))?.clone();
        if let Some(metadata) = object["metadata"].as_object_mut() {
            metadata.remove("uid");
            metadata.remove("resourceVersion");
        }
        Some(object)
    }

    /// `metadata.uid` of an object.
    pub(super) fn uid(&self, kind: &'static str, name: &str) -> String {
        let object = &self.store[&(kind, "shop".to_owned(), name.to_owned())];
        object["metadata"]["uid"].as_str().unwrap().to_owned()
    }

    /// Names of all objects of a kind.
    pub(super) fn names(&self, kind: &str) -> Vec<String> {
        self.store.keys().filter(|(k, ..)| *k == kind).map(|(_, _, name)| name.clone()).collect()
    }

    /// Our slices by source cluster, each with its addresses.
    pub(super) fn mirrored(&self) -> BTreeMap<String, Vec<String>> {
        let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for ((kind, ..), object) in &self.store {
            let source = &object["metadata"]["labels"]["multicluster.kubernetes.io/source-cluster"];
            if *kind == "EndpointSlice" && source.is_string() {
                let endpoints = object["endpoints"].as_array().unwrap().iter();
                let addresses = endpoints.map(|e| e["addresses"][0].as_str().unwrap().to_owned());
                all.entry(source.as_str().unwrap().to_owned()).or_default().extend(addresses);
            }
        }
        all
    }

    /// A condition of an object as `status/reason`, with its message.
    pub(super) fn condition(&self, kind: &'static str, condition: &str) -> Option<(String, String)> {
        let object = self.get(kind, "web")?;
        let list = object["status"]["conditions"].as_array()?.clone();
        let found = list.into_iter().find(|c| c["type"] == condition)?;
        let text = |field: &str| found[field].as_str().unwrap().to_owned();
        Some((format!("{}/{}", text("status"), text("reason")), text("message")))
    }
}

fn is_told(kind: &str) -> bool {
    matches!(kind, "ServiceImport" | "EndpointSlice")
}

fn verb(action: &Action) -> &'static str {
    match action.verb {
        Verb::Create { .. } | Verb::Apply { .. } => "apply",
        Verb::Delete { .. } => "delete",
    }
}

fn kind_of(kind: &str) -> Kind {
    match kind {
        "Namespace" => Kind::Namespace,
        "Service" => Kind::Service,
        "ServiceExport" => Kind::ServiceExport,
        "ServiceImport" => Kind::ServiceImport,
        _ => Kind::EndpointSlice,
    }
}
