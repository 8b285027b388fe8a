//! All records of a zone, one by one: for zone transfers, zone-file text and tests. Not for answering queries.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use crate::name::Name;
use crate::reverse::reverse_name;
use crate::service::{Answers, Service, SrvSet, SrvTarget};
use crate::snapshot::{ReverseTarget, Snapshot};
use crate::zone::{DNS_VERSION, VERSION_TTL, Zone, ZoneKind};

/// One record, its owner relative to the zone's origin.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Record {
    /// Owner's labels above the origin, in wire form without a root label; empty at the apex.
    pub owner: Vec<u8>,
    /// TTL in seconds.
    pub ttl: u32,
    /// Type and value.
    pub data: Data,
}

/// A record's value. Targets are relative to the origin where it says so.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Data {
    /// The zone's SOA; its fields are the zone's and the snapshot's serial.
    Soa,
    /// The zone's NS.
    Ns,
    /// A.
    A(Ipv4Addr),
    /// AAAA.
    Aaaa(Ipv6Addr),
    /// SRV with priority 0.
    Srv {
        /// Weight.
        weight: u16,
        /// Port.
        port: u16,
        /// Target's labels above the origin.
        target: Vec<u8>,
    },
    /// TXT.
    Txt(&'static str),
    /// PTR, absolute.
    Ptr(Name),
}

impl Snapshot {
    /// The records that a zone has before any service: SOA first, then NS, glue and the version.
    pub fn apex_records(&self, zone: &Zone) -> Vec<Record> {
        let ttl = zone.config.ttl;
        let above = zone.name_server.wire().len() - zone.origin().len();
        let server = &zone.name_server.wire()[..above];
        let record = |owner: &[u8], data| Record { owner: owner.to_vec(), ttl, data };
        let mut records = vec![record(&[], Data::Soa), record(&[], Data::Ns)];
        records.extend(zone.glue_v4.iter().map(|address| record(server, Data::A(*address))));
        records.extend(zone.glue_v6.iter().map(|address| record(server, Data::Aaaa(*address))));
        if zone.kind == ZoneKind::Services {
            let version = Record { ttl: VERSION_TTL, ..record(b"\x0bdns-version", Data::Txt(DNS_VERSION)) };
            records.push(version);
        }
        records
    }

    /// All services by namespace and name: what a zone of services consists of, see [`Snapshot::service_records`].
    pub fn sorted_services(&self) -> Vec<Arc<Service>> {
        let mut services: Vec<Arc<Service>> = self.services.iter().cloned().collect();
        services.sort_by(|a, b| a.name.cmp(&b.name));
        services
    }

    /// PTR records of a reverse zone, by address; none for a zone of services.
    pub fn reverse_records(&self, zone: &Zone) -> Vec<Record> {
        let mut origin = crate::QName::default();
        if zone.kind == ZoneKind::Services || origin.read(zone.origin()).is_err() {
            return Vec::new();
        }
        let Some((first, last)) = crate::reverse::range(&origin) else {
            return Vec::new();
        };
        let mut records = Vec::new();
        for (address, targets) in self.reverse.range(first..=last) {
            let Ok(name) = Name::parse(&reverse_name(*address)) else {
                continue;
            };
            let owner = &name.wire()[..name.wire().len() - zone.origin().len()];
            for target in targets.iter().filter_map(|target| self.ptr_name(target)) {
                records.push(Record { owner: owner.to_vec(), ttl: zone.config.ttl, data: Data::Ptr(target) });
            }
        }
        records
    }

    /// Every record of a zone: apex, then services or addresses in order.
    pub fn records(&self, zone: &Zone) -> Vec<Record> {
        let mut records = self.apex_records(zone);
        records.extend(self.reverse_records(zone));
        if zone.kind == ZoneKind::Services {
            let services = self.sorted_services();
            records.extend(services.iter().flat_map(|service| self.service_records(service, zone)));
        }
        records
    }

    /// The records of one service in a zone, sorted by owner, type and value.
    pub fn service_records(&self, service: &Service, zone: &Zone) -> Vec<Record> {
        let position = self.zones.iter().position(|other| other.origin() == zone.origin());
        let answers = service.answers_in(position.and_then(|at| self.variant(at)));
        if answers.absence().is_some() {
            return Vec::new();
        }
        let name = [service.name.wire(), b"\x03svc"].concat();
        let below = |labels: &[u8]| [labels, &name].concat();
        let mut records = Vec::new();
        let mut addresses = |owner: Vec<u8>, v4: &[Ipv4Addr], v6: &[Ipv6Addr]| {
            let data = v4.iter().map(|a| Data::A(*a)).chain(v6.iter().map(|a| Data::Aaaa(*a)));
            records.extend(data.map(|data| Record { owner: owner.clone(), ttl: zone.config.ttl, data }));
        };
        addresses(name.clone(), &answers.own.v4, &answers.own.v6);
        for host in &*answers.hosts {
            addresses(below(&host.labels), &host.v4, &host.v6);
        }
        let sets = answers.own.ports.iter().map(|port| (below(&port.labels), &port.srv));
        for (owner, set) in sets.chain([(name.clone(), &answers.own.srv)]) {
            records.extend(srv_records(answers, &owner, set, zone.config.srv_ttl, &name));
        }
        records.sort();
        records
    }

    /// The absolute name that a PTR record has as target; `None` without a zone of services.
    pub fn ptr_name(&self, target: &ReverseTarget) -> Option<Name> {
        let labels = [&target.host, target.service.wire(), b"\x03svc"].concat();
        self.zones.primary()?.config.origin.child(&labels)
    }
}

fn srv_records(answers: &Answers, owner: &[u8], set: &SrvSet, ttl: u32, name: &[u8]) -> Vec<Record> {
    let record = |target: &SrvTarget| {
        let labels = answers.host_labels(*target);
        let data = Data::Srv { weight: set.weight, port: target.port, target: [labels, name].concat() };
        Record { owner: owner.to_vec(), ttl, data }
    };
    set.targets.iter().map(record).collect()
}

impl Answers {
    /// The labels of an SRV target above the service's name; empty for the service itself.
    pub fn host_labels(&self, target: SrvTarget) -> &[u8] {
        self.host(target).map_or(&[], |host| &host.labels)
    }

    /// The endpoint that an SRV record points at; `None` for the service itself.
    pub fn host(&self, target: SrvTarget) -> Option<&crate::service::Host> {
        self.hosts.get(target.host? as usize)
    }
}
