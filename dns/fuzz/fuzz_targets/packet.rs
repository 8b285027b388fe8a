//! Any packet: no panic, read ahead or answered; a reply is a DNS message with the query's id and question that fits where it goes.
//!
//! The first octet chooses the transport; what follows is the packet.
#![no_main]

use std::sync::{Arc, LazyLock};

use hickory_proto::op::Message;
use libfuzzer_sys::fuzz_target;
use portolan_dns::cookie::Secret;
use portolan_dns::limiter::Limiter;
use portolan_dns::respond::{Context, Reply, Scratch, Verdict, respond};
use portolan_dns::settings::Settings;
use portolan_dns::transfer::Transfers;
use portolan_dns::view::{Transport, View};
use portolan_zones::object::*;
use portolan_zones::{
    Change, ClusterEvent, ClusterId, Event, Name, QName, ServiceName, Snapshot, Table, ZoneConfig, Zones, compile,
};

static SNAPSHOT: LazyLock<Arc<Snapshot>> = LazyLock::new(|| Arc::new(snapshot()));
static SETTINGS: LazyLock<Settings> = LazyLock::new(settings);
static TRANSFERS: LazyLock<Transfers> = LazyLock::new(Transfers::default);
static LIMITER: LazyLock<Limiter> = LazyLock::new(|| Limiter::new(&SETTINGS.rate_limit, [7; 16]));

const TRANSPORTS: [Transport; 5] =
    [Transport::Udp, Transport::Tcp, Transport::Tls, Transport::Https, Transport::Quic];

fuzz_target!(|octets: &[u8]| {
    let Some((choice, query)) = octets.split_first() else { return };
    let transport = TRANSPORTS[usize::from(*choice) % TRANSPORTS.len()];
    let view = View { client: "127.0.0.1:5300".parse().expect("a literal"), transport };
    let context = Context {
        settings: &SETTINGS,
        limiter: &LIMITER,
        snapshot: &SNAPSHOT,
        transfers: &TRANSFERS,
        beyond: None,
        witness: None,
        now: 1_700_000_000,
        entropy: u32::from(*choice),
    };
    read_ahead(query);
    let (mut scratch, mut reply) = (Scratch::default(), Reply::default());
    match respond(&context, query, &view, &mut scratch, &mut reply) {
        Verdict::Send(_) => check(query, reply.octets(), transport),
        Verdict::Drop(_) => assert!(query.len() < 12 || query[2] & 0x80 != 0),
        Verdict::Transfer(mut transfer, _) => {
            while transfer.next(&mut reply) {
                check(query, reply.octets(), transport);
            }
        }
    }
});

/// As UDP does for a batch.
fn read_ahead(query: &[u8]) {
    let mut name = QName::default();
    let question = query.get(12..).and_then(|rest| name.read(rest).ok());
    let hint = question.and_then(|_| SNAPSHOT.hint(&name));
    SNAPSHOT.read_ahead(hint.as_slice());
}

fn check(query: &[u8], reply: &[u8], transport: Transport) {
    let message = Message::from_vec(reply).expect("a reply parses");
    assert_eq!(reply[..2], query[..2], "id");
    assert_ne!(reply[2] & 0x80, 0, "QR");
    assert!(reply.len() <= if transport == Transport::Udp { 1232 } else { 65_535 });
    if !message.queries.is_empty() {
        let end = reply[12..].windows(5).position(|w| w[0] == 0).map_or(12, |at| 12 + at + 5);
        assert_eq!(reply[12..end], query[12..end], "the question is echoed with its case");
    }
}

fn settings() -> Settings {
    let mut settings = Settings::default();
    settings.identity.nsid = Some("fuzz".into());
    settings.cookies.secrets = vec![Secret([3; 16])];
    settings.access.transfer.allow = vec!["127.0.0.0/8".parse().expect("a literal")];
    settings
}

fn snapshot() -> Snapshot {
    let zone = |origin| {
        let origin = Name::parse(origin).expect("a literal");
        let name_server_addresses = vec!["127.0.0.1".parse().expect("a literal")];
        ZoneConfig { name_server_addresses, ..ZoneConfig::new(origin) }
    };
    let zones = Zones::new(vec![zone("c.l"), zone("10.in-addr.arpa")]).expect("two different zones");
    let mut table = Table::default();
    let cluster = ClusterId::new("a.b").expect("a literal");
    table.apply(Event::Expect([cluster.clone()].into()));
    table.apply(Event::Home(Some(cluster.clone())));
    table.apply(Event::Cluster(ClusterEvent { cluster, change: Change::Reset(objects()) }));
    compile(&mut table, &zones, &Snapshot::unsynced(zones.clone()), 1).expect("something to compile")
}

/// `s.n`: ClusterSetIP with a VIP; `h.n`: headless with enough endpoints to be truncated.
fn objects() -> Vec<Object> {
    let ports: Arc<[Port]> =
        Arc::new([Port { name: Some("p".into()), protocol: Protocol::Tcp, number: 80, app_protocol: None }]);
    let mut objects = Vec::new();
    for (name, kind) in [("s", ServiceKind::ClusterIp), ("h", ServiceKind::Headless)] {
        let name = ServiceName::new("n", name).expect("literals");
        let spec = Arc::new(ServiceSpec { ports: ports.clone(), ..ServiceSpec::default() });
        objects.push(Object::Export(Export {
            name: name.clone(),
            created: 1,
            exported: None,
            gateway: None,
            state: None,
        }));
        objects.push(Object::Service(Service { name: name.clone(), kind, spec: spec.clone(), gateway: None }));
        if kind == ServiceKind::ClusterIp {
            let ips = Arc::new(["10.0.0.1".parse().expect("a literal")]);
            objects.push(Object::Import(Import { name, created: 1, headless: false, ips, spec, clusters: Arc::default(), policy: None }));
        } else {
            objects.push(Object::Slice(slice(name)));
        }
    }
    objects
}

fn slice(service: ServiceName) -> Slice {
    let endpoint = |n: u32| Endpoint {
        address: if n.is_multiple_of(2) {
            std::net::Ipv4Addr::from(0x0a01_0000 + n).into()
        } else {
            std::net::Ipv6Addr::from(u128::from(n)).into()
        },
        conditions: Conditions::READY,
        identity: n,
        hostname: n.is_multiple_of(3).then(|| format!("h{n}").into()),
        place: None,
    };
    Slice {
        name: SliceName::new("n", "h"),
        service,
        source: None,
        ours: false,
        gateway: false,
        state: None,
        region: None,
        outside: None,
        ports: Arc::new([SlicePort {
            name: Some("p".into()),
            protocol: Protocol::Tcp,
            number: Some(80),
            app_protocol: None,
        }]),
        endpoints: (0..300).map(endpoint).collect(),
    }
}
