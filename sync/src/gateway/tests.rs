//! What the configurations say: golden texts, and that no name can say more than a name.

use std::sync::Arc;

use portolan_zones::object::{
    Conditions, Endpoint, Export, Gateway, GatewayAt, GatewayPort, Object, Port, Protocol, Service,
    ServiceKind, ServiceSpec, Slice, SliceName, SlicePort,
};
use portolan_zones::{ClusterId, ServiceName};
use proptest::prelude::*;

use super::*;

fn name(text: &str) -> ServiceName {
    ServiceName::new("shop", text).unwrap()
}

fn gateway(at: GatewayAt, ports: &[(u16, u16)]) -> Option<Arc<Gateway>> {
    let port = |(number, gateway): &(u16, u16)| GatewayPort {
        protocol: Protocol::Tcp,
        number: *number,
        gateway: *gateway,
    };
    Some(Arc::new(Gateway { at, ports: ports.iter().map(port).collect() }))
}

fn addresses(at: &str) -> GatewayAt {
    GatewayAt::Addresses([at.parse().unwrap()].into())
}

/// An exported service.
fn exported(name: &ServiceName, kind: ServiceKind, ports: &[(Protocol, u16)]) -> [Object; 2] {
    let port = |(protocol, number): &(Protocol, u16)| Port {
        name: Some(format!("p{number}").into()),
        protocol: *protocol,
        number: *number,
        app_protocol: None,
    };
    let spec = ServiceSpec { ports: ports.iter().map(port).collect(), ..ServiceSpec::default() };
    [
        Object::Export(Export { name: name.clone(), created: 1, exported: None, gateway: None, state: None }),
        Object::Service(Service { name: name.clone(), kind, spec: spec.into(), gateway: None }),
    ]
}

fn said(objects: [Object; 2], says: Option<Arc<Gateway>>, has: Option<Arc<Gateway>>) -> [Object; 2] {
    let [Object::Export(export), Object::Service(service)] = objects else { panic!() };
    [Object::Export(Export { gateway: says, ..export }), Object::Service(Service { gateway: has, ..service })]
}

fn slice(service: &ServiceName, source: Option<&str>, port: u16, endpoints: &[(&str, bool)]) -> Object {
    let endpoint = |(address, ready): &(&str, bool)| Endpoint {
        address: address.parse().unwrap(),
        conditions: Conditions { ready: *ready, serving: *ready, terminating: false },
        identity: 0,
        hostname: None,
        place: None,
    };
    let of = |protocol, number| SlicePort {
        name: Some(format!("p{port}").into()),
        protocol,
        number: Some(number),
        app_protocol: None,
    };
    Object::Slice(Slice {
        name: SliceName::new("shop", &format!("{}-{port}", service.name())),
        service: service.clone(),
        source: source.map(|id| ClusterId::new(id).unwrap()),
        ours: false,
        gateway: false,
        state: None,
        region: None,
        outside: None,
        ports: [of(Protocol::Tcp, port + 8000), of(Protocol::Udp, port + 9000)].into(),
        endpoints: endpoints.iter().map(endpoint).collect(),
    })
}

/// A cluster with every sort of export.
fn site() -> Site {
    let tcp = |number| (Protocol::Tcp, number);
    let cluster_ip =
        |text: &str, ports: &[(Protocol, u16)]| exported(&name(text), ServiceKind::ClusterIp, ports);
    let mut site = Site::default();
    let mut add = |objects: &[Object]| objects.iter().cloned().for_each(|object| site.add(object));
    add(&cluster_ip("web", &[tcp(80), tcp(443)]));
    add(&cluster_ip("dns", &[tcp(53), (Protocol::Udp, 53), (Protocol::Sctp, 53)]));
    add(&exported(&name("db"), ServiceKind::Headless, &[tcp(5432)]));
    add(&exported(&name("out"), ServiceKind::ExternalName, &[tcp(80)]));
    add(&said(cluster_ip("said", &[tcp(80), tcp(81)]), gateway(addresses("192.0.2.1"), &[(80, 8080)]), None));
    add(&said(cluster_ip("late", &[tcp(80)]), gateway(addresses("192.0.2.1"), &[(80, 8080), (9, 9)]), None));
    add(&said(cluster_ip("balanced", &[tcp(80)]), None, gateway(addresses("192.0.2.2"), &[])));
    add(&said(cluster_ip("nodes", &[tcp(80)]), None, gateway(GatewayAt::Nodes([].into()), &[(80, 30080)])));
    add(&cluster_ip("unexported", &[tcp(80)])[1..]);
    add(&cluster_ip("no-service", &[tcp(80)])[..1]);
    // What our own controller says of it is no gateway of its own.
    let shared = gateway(GatewayAt::Shared([].into()), &[(80, 20_000)]);
    add(&said(cluster_ip("told", &[tcp(80)]), shared, None));
    add(&[slice(&name("web"), None, 80, &[("10.1.0.2", true), ("10.1.0.1", true), ("10.1.0.3", false)])]);
    add(&[slice(&name("web"), Some("west"), 80, &[("10.9.0.1", true)])]);
    add(&[slice(&name("dns"), None, 53, &[("2001:db8::1", true)])]);
    site
}

fn style() -> Style {
    Style::new(Name::parse("cluster.local").unwrap())
}

fn plan(explicit: Explicit, to: To) -> Plan {
    site().plan(&mut GatewayPorts::default(), Wanted { explicit, to, udp: true }, Taken::new(), 0)
}

#[test]
fn services_without_a_gateway_of_their_own_are_behind_the_shared_one() {
    let keys = |plan: &Plan| plan.listeners.iter().map(|l| l.key.to_string()).collect::<Vec<_>>();
    let sorted = |plan: &Plan| {
        let mut keys = keys(plan);
        keys.sort();
        keys
    };
    let shared =
        ["shop/dns:53/TCP", "shop/dns:53/UDP", "shop/told:80/TCP", "shop/web:443/TCP", "shop/web:80/TCP"];
    let elsewhere = plan(Explicit::Elsewhere, To::Services);
    assert_eq!((sorted(&elsewhere), elsewhere.refused.len()), (shared.map(str::to_owned).to_vec(), 0));
    let here = plan(Explicit::Here, To::Services);
    assert_eq!(keys(&here)[0], "shop/late:80/TCP");
    assert_eq!((here.listeners[0].port, here.listeners.len()), (8080, 6));
    assert_eq!(here.refused, ["shop/said:80/TCP: shop/late:80/TCP has port 8080 of the gateway already"]);
}

/// `PORTOLAN_ACCEPT=1` takes what is written for what is expected. That the programs take it, too, is tested with them.
#[test]
fn configurations_are_golden() {
    let mut strict = style();
    strict.bind = Some("127.0.0.1".parse().unwrap());
    strict.allow = (0..40).map(|i| format!("10.{i}.0.0/16").parse().unwrap()).collect();
    let mut with_addresses = site();
    for service in ["web", "dns", "told"] {
        with_addresses.add_address(name(service), "10.96.0.1".parse().unwrap());
    }
    let wanted = Wanted { explicit: Explicit::Elsewhere, to: To::Services, udp: true };
    let addressed = with_addresses.plan(&mut GatewayPorts::default(), wanted, Taken::new(), 0);
    for (file, text) in [
        ("services.cfg", render(Program::Haproxy, &plan(Explicit::Elsewhere, To::Services), &style())),
        ("endpoints.cfg", render(Program::Haproxy, &plan(Explicit::Here, To::Endpoints), &strict)),
        ("services.conf", render(Program::Nginx, &addressed, &style())),
        ("endpoints.conf", render(Program::Nginx, &plan(Explicit::Here, To::Endpoints), &strict)),
    ] {
        let golden = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/gateway/golden").join(file);
        let text = text.unwrap();
        if std::env::var_os("PORTOLAN_ACCEPT").is_some() {
            std::fs::write(&golden, &text).unwrap();
        }
        assert_eq!(text, std::fs::read_to_string(&golden).unwrap_or_default(), "{file}");
    }
}

/// nginx would not start with a name that can't be resolved.
#[test]
fn nginx_is_given_addresses_only() {
    let error = render(Program::Nginx, &plan(Explicit::Elsewhere, To::Services), &style()).unwrap_err();
    assert!(error.to_string().contains("no ClusterIP of shop/"), "{error}");
}

/// A start must not wait for one name after another.
#[test]
fn haproxy_starts_with_addresses_that_are_known() {
    let mut site = Site::default();
    for (service, address) in [("web", Some("10.96.0.1")), ("six", Some("fd00::1")), ("new", None)] {
        let objects = exported(&name(service), ServiceKind::ClusterIp, &[(Protocol::Tcp, 80)]);
        objects.into_iter().for_each(|object| site.add(object));
        address.into_iter().for_each(|ip| site.add_address(name(service), ip.parse().unwrap()));
    }
    let wanted = Wanted { explicit: Explicit::Elsewhere, to: To::Services, udp: false };
    let plan = site.plan(&mut GatewayPorts::default(), wanted, Taken::new(), 0);
    let text = render(Program::Haproxy, &plan, &style()).unwrap();
    for (service, first) in [("web", "10.96.0.1"), ("six", "fd00::1"), ("new", "libc")] {
        let server = format!("server {service} {service}.shop.svc.cluster.local:80 ");
        let line = text.lines().find(|line| line.contains(&server)).unwrap();
        assert!(line.ends_with(&format!("init-addr last,{first},none")), "{line}");
    }
}

/// Why something is left out is a comment, whatever it says.
#[test]
fn reasons_stay_comments() {
    let plan = Plan { refused: vec!["a\nglobal\r\n  daemon".into()], ..Plan::default() };
    for program in [Program::Haproxy, Program::Nginx] {
        let text = render(program, &plan, &style()).unwrap();
        assert!(text.contains("# Left out: a global    daemon\n"), "{text}");
    }
}

proptest! {
    /// Whatever can be a service's name is one word in the text; all else can't be one.
    #[test]
    fn names_say_no_more_than_names(namespace in ".{0,70}", service in "[a-z0-9\\-\n {};\"'$#:.]{0,20}") {
        if let Ok(service) = ServiceName::new(&namespace, &service) {
            texts_have_the_same_form(&service);
        }
    }

    #[test]
    fn all_names_have_the_same_form(namespace in "[a-z0-9]([a-z0-9\\-]{0,61}[a-z0-9])?", service in "[a-z0-9]([a-z0-9\\-]{0,61}[a-z0-9])?") {
        texts_have_the_same_form(&ServiceName::new(&namespace, &service).unwrap());
    }
}

/// As many lines, and as many words in each, as those of `a.a`.
fn texts_have_the_same_form(service: &ServiceName) {
    let form = |service: &ServiceName, program, to| {
        let mut site = Site::default();
        let ports = [(Protocol::Tcp, 80), (Protocol::Udp, 80)];
        exported(service, ServiceKind::ClusterIp, &ports).into_iter().for_each(|object| site.add(object));
        site.add(slice(service, None, 80, &[("10.1.0.1", true)]));
        site.add_address(service.clone(), "10.96.0.1".parse().unwrap());
        let wanted = Wanted { explicit: Explicit::Here, to, udp: true };
        let mut ports = GatewayPorts::new("7-7".parse().unwrap());
        let text = render(program, &site.plan(&mut ports, wanted, Taken::new(), 0), &style()).unwrap();
        text.lines()
            .map(|line| line.split([' ', ';', '"', '{', '}', '#', '\'', '$']).count())
            .collect::<Vec<_>>()
    };
    let plain = ServiceName::new("a", "a").unwrap();
    for program in [Program::Haproxy, Program::Nginx] {
        for to in [To::Services, To::Endpoints] {
            assert_eq!(form(service, program, to), form(&plain, program, to), "{service}");
        }
    }
}
