//! What a file means to servers and controllers, and what is said of a wrong one.

use std::num::NonZeroUsize;

use portolan_config::{DEFAULTS, LogFormat, ROOT};
use portolan_dns::geo::{Clue, Code, Position, Rule};
use portolan_zones::places::Place;

use super::*;

const FILE: &str = "/etc/portolan/portolan.yaml";

fn parse(text: &str) -> Result<Config, Vec<Problem>> {
    portolan_config::parse(text, Path::new(FILE), None, spec::read)
}

/// `line: field: message` of each problem of `text` under `version: v1`, which is line 1.
fn problems(text: &str) -> Vec<String> {
    let problems = parse(&format!("version: v1\n{text}")).expect_err(text);
    problems.into_iter().map(|p| format!("{}: {}: {}", p.line, p.field, p.message)).collect()
}

/// What a reader of `check --print-defaults` sees is what holds.
#[test]
fn the_printed_defaults_are_the_defaults() {
    let mut expected = Config::default();
    expected.clusterset.vips.state_file = Some("/etc/portolan/vips.json".into());
    assert_eq!(parse(DEFAULTS), Ok(expected.clone()));
    assert_eq!(parse("version: v1"), Ok(expected));
}

#[test]
fn every_known_key_is_in_the_printed_defaults() {
    let everything = "version: v1\ngeoip: {databases: [a], places: [{asn: 1, region: a}]}";
    assert!(parse(everything).is_ok());
    let known = portolan_config::keys(everything, spec::read);
    assert!(known.len() > 50, "{known:?}");
    for field in &known {
        let key = field.rsplit('.').next().unwrap();
        let written = |line: &str| line.trim_start_matches([' ', '#', '-']).starts_with(&format!("{key}:"));
        assert!(DEFAULTS.lines().any(written), "{field} is not in defaults.yaml");
        assert!(ROOT.contains(&field.split('.').next().unwrap()), "the other programs refuse {field}");
    }
}

/// One file for all programs: what the agent makes of its section is its own affair.
#[test]
fn the_agents_section_is_left_alone() {
    assert_eq!(parse("version: v1\nagent: {maps: 7}"), parse("version: v1"));
    assert_eq!(problems("agnt: {}"), ["2: agnt: unknown key `agnt`, did you mean `agent`?"]);
}

/// One row per section: what is written and what it changes.
#[test]
fn every_section_takes_effect() {
    type Change = fn(&mut Config);
    let rows: &[(&str, Change)] = &[
        (
            "listen: {udp: 127.0.0.1:5353, tcp: [], tls: ['[::1]:853']}\ntls: {certificate: c.pem, key: k.pem}",
            |c| {
                let tls = vec!["[::1]:853".parse().unwrap()];
                let udp = vec!["127.0.0.1:5353".parse().unwrap()];
                c.listen = Listen { udp, tcp: vec![], tls, https: vec![], quic: vec![] };
                c.tls = Some(Tls {
                    certificate: "/etc/portolan/c.pem".into(),
                    key: "/etc/portolan/k.pem".into(),
                });
            },
        ),
        ("udp: {threads: 3}", |c| c.udp_threads = Threads::Number(NonZeroUsize::new(3).unwrap())),
        ("udp: {cores: [0, 2]}", |c| c.udp_threads = Threads::Pinned(vec![0, 2])),
        ("https: {path: /q}", |c| c.https_path = "/q".into()),
        ("tcp: {idle-timeout: 500ms, max-connections: 5}", |c| {
            (c.answers.tcp.idle_timeout, c.answers.tcp.max_connections) = (Duration::from_millis(500), 5);
        }),
        ("edns: {max-udp-payload: 4096}", |c| c.answers.edns.max_udp_payload = 4096),
        ("client-subnet: {enabled: false}", |c| c.answers.edns.client_subnet = false),
        (
            "geoip: {databases: [City.mmdb, /asn.mmdb], places: [{country: de, region: a}, {asn: 64500, region: a}, \
             {country: DE, subdivision: by, region: a}, {continent: EU, region: a}, {near: [40.7, -74], region: a}]}",
            |c| {
                c.geo.databases = ["/etc/portolan/City.mmdb", "/asn.mmdb"].map(PathBuf::from).into();
                let code = |text| Code::new(text).unwrap();
                let clues = [
                    Clue::Country(code("DE")),
                    Clue::Asn(64500),
                    Clue::Subdivision(code("DE"), code("BY")),
                    Clue::Continent(code("EU")),
                    Clue::Near(Position::new(40.7, -74.0).unwrap()),
                ];
                let place = Place { region: Some("a".into()), ..Place::default() };
                c.geo.rules = clues.map(|clue| Rule { clue, place: place.clone() }).into();
            },
        ),
        ("identity: {nsid: fra1}", |c| c.answers.identity.nsid = Some("fra1".into())),
        ("cookies: {enabled: false, secrets: [00000000000000000000000000000001]}", |c| {
            let secret = Secret(1_u128.to_be_bytes());
            c.cookies = Cookies { enabled: false, secrets: vec![secret], secret_file: None };
        }),
        ("rate-limit: {slip: 0, exempt: [192.0.2.1], log-only: true}", |c| {
            (c.answers.rate_limit.slip, c.answers.rate_limit.log_only) = (0, true);
            c.answers.rate_limit.exempt = vec!["192.0.2.1/32".parse().unwrap()];
        }),
        ("rate-limit: {enabled: false}", |c| c.answers.rate_limit.per_second = None),
        ("access: {query: {deny: [192.0.2.0/24]}, transfer: {allow: 192.0.2.1}}", |c| {
            c.answers.access.query.deny = vec!["192.0.2.0/24".parse().unwrap()];
            c.answers.access.transfer.allow = vec!["192.0.2.1/32".parse().unwrap()];
        }),
        ("admin: {listen: ''}", |c| c.admin = None),
        ("shutdown: {lameduck: 0s}", |c| c.lameduck = Duration::ZERO),
        ("log: {format: json, level: 'warn,portolan_dns=trace'}", |c| {
            c.log = Log { format: LogFormat::Json, level: "warn,portolan_dns=trace".into() };
        }),
    ];
    for (text, change) in rows {
        let mut expected = parse("version: v1").unwrap();
        let before = expected.clone();
        change(&mut expected);
        assert_ne!(expected, before, "the row changes nothing: {text}");
        assert_eq!(parse(&format!("version: v1\n{text}")), Ok(expected), "{text}");
    }
}

#[test]
fn wrong_values_are_named_with_line_and_field() {
    for (text, expected) in [
        ("listn: {}", "2: listn: unknown key `listn`, did you mean `listen`?"),
        (
            "tcp: {idle-timout: 5s}",
            "2: tcp.idle-timout: unknown key `idle-timout`, did you mean `idle-timeout`?",
        ),
        ("https: {zzzz: 1}", "2: https.zzzz: unknown key `zzzz`, known here: path"),
        (
            "listen:\n  udp:\n    - 127.0.0.1",
            "4: listen.udp[0]: `127.0.0.1` is not an address with a port, such as `0.0.0.0:53` or `[::]:53`",
        ),
        (
            "listen: {https: '[::1]:443'}",
            "1: tls: listen.tls, listen.https and listen.quic need `certificate` and `key` here",
        ),
        (
            "udp: {threads: 2, cores: [0]}",
            "2: udp.threads: `cores` is given, too, and each has one thread: leave one of both out",
        ),
        ("udp: {cores: [1, 0, 1]}", "2: udp.cores[2]: `1` is listed twice: remove one"),
        ("udp: {threads: 0}", "2: udp.threads: `0` is not a whole number from 1"),
        ("tls: {certificate: a}", "2: tls.key: `certificate` is given and `key` is not: both are needed"),
        ("tcp: 5s", "2: tcp: expected a section of `key: value` lines"),
        ("tcp: {idle-timeout: 10}", "2: tcp.idle-timeout: `10` has no unit: write 10s for seconds"),
        ("edns: {max-udp-payload: 100}", "2: edns.max-udp-payload: must be from 512 to 4096 octets"),
        (
            "cookies:\n  secrets:\n  - 0xsecret",
            "4: cookies.secrets[0]: what is written here is not 32 hexadecimal digits",
        ),
        ("rate-limit: {ipv4-prefix: 33}", "2: rate-limit.ipv4-prefix: is a prefix length: at most 32"),
        (
            "access: {query: {allow: [10.0.0.1/8]}}",
            "2: access.query.allow[0]: `10.0.0.1/8` has bits behind its prefix: write 10.0.0.0/8",
        ),
        (
            "geoip: {places: [{country: DE, region: a}]}",
            "2: geoip.databases: `places` need a database that finds clients: name one here",
        ),
        (
            "geoip: {databases: a.mmdb}",
            "2: geoip.places: `databases` tell nothing without `places`: say here what countries mean",
        ),
        (
            "geoip: {databases: [a, a], places: [{asn: 1, region: a}]}",
            "2: geoip.databases[1]: `a` is listed twice: remove one",
        ),
        (
            "geoip:\n  databases: a\n  places:\n  - {country: Germany, region: a}",
            "5: geoip.places[0].country: `Germany` is not a country's two letters (ISO 3166-1), such as `DE`",
        ),
        (
            "geoip: {databases: a, places: [{continent: XX, region: a}]}",
            "2: geoip.places[0].continent: `XX` is not one of `AF`, `AN`, `AS`, `EU`, `NA`, `OC` and `SA`",
        ),
        (
            "geoip: {databases: a, places: [{country: DE, subdivision: DE-BY, region: a}]}",
            "2: geoip.places[0].subdivision: `DE-BY` is not what is behind the dash of a subdivision's code (ISO 3166-2), \
             such as `BY` of DE-BY",
        ),
        (
            "geoip: {databases: a, places: [{asn: 1, subdivision: BY, region: a}]}",
            "2: geoip.places[0].subdivision: is one of a `country`, and none is given",
        ),
        (
            "geoip: {databases: a, places: [{region: a}]}",
            "2: geoip.places[0].country: none of `asn`, `country`, `continent` and `near` is given: one is needed",
        ),
        (
            "geoip: {databases: a, places: [{asn: 1, near: [0, 0], region: a}]}",
            "2: geoip.places[0].near: `asn` is given, too: remove one, or make two items of it",
        ),
        (
            "geoip: {databases: a, places: [{near: [91, 0], region: a}]}",
            "2: geoip.places[0].near: expected latitude (-90 to 90) and longitude (-180 to 180) in degrees, such as \
             `[40.7, -74.0]`",
        ),
        (
            "geoip: {databases: a, places: [{near: [north, 0], region: a}]}",
            "2: geoip.places[0].near[0]: `north` is not a number",
        ),
        (
            "geoip:\n  databases: a\n  places:\n  - {asn: 1, region: a}\n  - {asn: 1, region: b}",
            "6: geoip.places[1]: is about the same clients as geoip.places[0]: remove one",
        ),
        (
            "geoip: {databases: a, places: [{asn: 1, cluster: A_b}]}",
            "2: geoip.places[0].cluster: `A_b` is no cluster id: `A_b` is no DNS label: lower-case letters, digits and `-` \
             only, starting and ending with a letter or digit (RFC 1123)",
        ),
        ("https: {path: q}", "2: https.path: `q` must start with `/`"),
    ] {
        assert_eq!(problems(text), [expected], "{text}");
    }
    assert!(problems("cookies: {secret-file: none}")[0].contains("/etc/portolan/none cannot be read"));
}

#[test]
fn every_problem_is_told_at_once_in_the_order_of_lines() {
    let text = "log:\n  level: loud\nlisten:\n  udp: [nowhere]\n  tcp: ['[::]:53', '[::]:53']\nzones:\n  - orign: a\ntpc: {}\n";
    let fields: Vec<_> = parse(text).unwrap_err().into_iter().map(|p| (p.line, p.field)).collect();
    let expected = [
        (1, "version"),
        (2, "log.level"),
        (4, "listen.udp[0]"),
        (5, "listen.tcp[1]"),
        (7, "zones[0].origin"),
        (7, "zones[0].orign"),
        (8, "tpc"),
    ];
    assert_eq!(fields, expected.map(|(line, field)| (line, field.to_owned())));
}

#[test]
fn glue_is_what_is_listened_on_but_no_wildcard() {
    let glue = |text: &str| {
        parse(&format!("version: v1\n{text}")).unwrap().served().all_zones().remove(0).name_server_addresses
    };
    assert_eq!(glue(""), Vec::<IpAddr>::new());
    let listen = "listen: {udp: ['192.0.2.1:53', '0.0.0.0:53'], tcp: ['192.0.2.1:53']}";
    assert_eq!(glue(listen), ["192.0.2.1".parse::<IpAddr>().unwrap()]);
    let written = format!("{listen}\nzones: [{{origin: a, name-server: {{addresses: [192.0.2.9]}}}}]");
    assert_eq!(glue(&written), ["192.0.2.9".parse::<IpAddr>().unwrap()]);
}

/// A delegation needs glue (RFC 1034 §4.2.1); zones that nobody delegates are served without it.
#[test]
fn a_name_server_without_address_is_a_warning() {
    let warnings = |text: &str| parse(&format!("version: v1\n{text}")).unwrap().warnings();
    assert_eq!(
        warnings("reverse-zones: [241.0.0.0/8]"),
        [
            "zone clusterset.local.: no address for its name server ns.dns: zone checkers and delegations need one: \
             set zones[].name-server.addresses"
        ]
    );
    assert_eq!(warnings("listen: {udp: ['192.0.2.1:53']}"), Vec::<String>::new());
    let one = "zones: [{origin: a, name-server: {addresses: [192.0.2.9]}}, {origin: b}]";
    assert!(warnings(one)[0].starts_with("zone b.: ") && warnings(one).len() == 1, "{:?}", warnings(one));
}

/// Agents are those of home: without one, nobody is behind any.
#[test]
fn agents_of_no_cluster_are_a_warning() {
    let warnings = |text: &str| {
        let text = format!("version: v1\nlisten: {{udp: ['192.0.2.1:53']}}\n{text}");
        parse(&text).unwrap().warnings()
    };
    let homeless = warnings("vips: {answer-to: Agents}");
    assert!(homeless.len() == 1 && homeless[0].ends_with("set `home`"), "{homeless:?}");
    for text in ["", "vips: {answer-to: Agents}\nhome: a", "controller: {vips: Pool}\nkubernetes: {}"] {
        assert_eq!(warnings(text), [""; 0], "{text}");
    }
}

#[test]
fn cookies_are_off_made_up_or_configured() {
    let made_up = Secret([7; 16]);
    let secrets =
        |text: &str| parse(&format!("version: v1\n{text}")).unwrap().settings(made_up).cookies.secrets;
    assert_eq!(secrets(""), [made_up]);
    assert_eq!(secrets("cookies: {enabled: false}"), []);
    assert_eq!(
        secrets("cookies: {secrets: [00000000000000000000000000000001]}"),
        [Secret(1_u128.to_be_bytes())]
    );
}

#[test]
fn what_needs_a_restart_is_named() {
    let running = parse("version: v1").unwrap();
    let needs = |text: &str| running.needs_restart(&parse(&format!("version: v1\n{text}")).unwrap());
    assert_eq!(needs("admin: {listen: ''}\nlisten: {tcp: []}"), ["listen", "admin"]);
    assert_eq!(needs("udp: {threads: 2}\nlog: {format: json}"), ["udp", "log.format"]);
    assert_eq!(needs("kubernetes: {}\nclusters: [{kubeconfig: a}]"), Vec::<&str>::new());
    assert_eq!(needs("log: {level: debug}\nzones: [{origin: a}]\nrate-limit: {slip: 3}"), Vec::<&str>::new());
}

#[test]
fn what_needs_a_restart_of_a_controller_is_named() {
    let running = parse("version: v1\nkubernetes: {}").unwrap();
    let needs =
        |text: &str| running.controller_needs_restart(&parse(&format!("version: v1\n{text}")).unwrap());
    assert_eq!(needs("kubernetes: {}\nclusters: [{kubeconfig: a}]\nlisten: {udp: []}"), Vec::<&str>::new());
    assert_eq!(needs("kubernetes: {}\ncontroller: {vips: Pool}"), ["controller"]);
    assert_eq!(needs("kubernetes: {network: a}\nadmin: {listen: ''}"), ["kubernetes", "admin"]);
    assert_eq!(needs("kubernetes: {}\nhome: fra1"), ["kubernetes"], "the own cluster's id");
}
