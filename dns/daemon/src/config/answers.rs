//! The sections that say how queries are answered: they become the settings of `portolan-dns`.

use std::num::NonZeroU32;

use portolan_config::Section;
use portolan_dns::settings::{Access, AccessList, Edns, Identity, RateLimit, Settings, Tcp};

/// Octets of the NSID that are told.
const MAX_NSID: usize = 128;
/// Octets of a TXT string (RFC 1035 §3.3).
const MAX_TXT: usize = 255;

/// Reads the sections from the root. Cookies are not among them: their secrets are made up or read elsewhere.
pub(super) fn read(root: &mut Section<'_>) -> Settings {
    let default = Settings::default();
    let (client_subnet, trusted_forwarders) = root.section("client-subnet", |s| {
        let forwarders = s.list("trusted-forwarders", default.edns.trusted_forwarders);
        (s.get("enabled", default.edns.client_subnet), forwarders)
    });
    let max_udp_payload = root.section("edns", |s| udp_payload(s, default.edns.max_udp_payload));
    Settings {
        identity: root.section("identity", identity),
        edns: Edns { max_udp_payload, client_subnet, trusted_forwarders },
        cookies: default.cookies,
        rate_limit: root.section("rate-limit", |s| rate_limit(s, default.rate_limit)),
        access: root.section("access", |s| access(s, default.access)),
        tcp: root.section("tcp", |s| tcp(s, &default.tcp)),
    }
}

fn identity(section: &mut Section<'_>) -> Identity {
    let mut told = |key, most| {
        let text = section.get(key, String::new());
        if text.len() > most {
            section.problem(key, format!("has {} octets, at most {most} are told", text.len()));
        }
        (!text.is_empty()).then(|| text.into_boxed_str())
    };
    Identity { nsid: told("nsid", MAX_NSID), version: told("version", MAX_TXT) }
}

fn udp_payload(section: &mut Section<'_>, default: u16) -> u16 {
    let octets = section.get("max-udp-payload", default);
    if !(512..=4096).contains(&octets) {
        section.problem("max-udp-payload", "must be from 512 to 4096 octets");
    }
    octets
}

fn rate_limit(section: &mut Section<'_>, default: RateLimit) -> RateLimit {
    let enabled = section.get("enabled", default.per_second.is_some());
    let per_second = section.get("per-second", default.per_second.unwrap_or(NonZeroU32::MIN));
    RateLimit {
        per_second: enabled.then_some(per_second),
        burst: section.get("burst", default.burst),
        slip: section.get("slip", default.slip),
        ipv4_prefix: prefix(section, "ipv4-prefix", default.ipv4_prefix, 32),
        ipv6_prefix: prefix(section, "ipv6-prefix", default.ipv6_prefix, 128),
        exempt: section.list("exempt", default.exempt),
        log_only: section.get("log-only", default.log_only),
    }
}

fn prefix(section: &mut Section<'_>, key: &'static str, default: u8, longest: u8) -> u8 {
    let prefix = section.get(key, default);
    if prefix > longest {
        section.problem(key, format!("is a prefix length: at most {longest}"));
    }
    prefix
}

fn access(section: &mut Section<'_>, default: Access) -> Access {
    let list = |default: AccessList| {
        move |section: &mut Section<'_>| AccessList {
            allow: section.list("allow", default.allow),
            deny: section.list("deny", default.deny),
        }
    };
    Access {
        query: section.section("query", list(default.query)),
        transfer: section.section("transfer", list(default.transfer)),
        explain: section.section("explain", list(default.explain)),
    }
}

fn tcp(section: &mut Section<'_>, default: &Tcp) -> Tcp {
    Tcp {
        idle_timeout: section.get("idle-timeout", default.idle_timeout),
        max_connections: section.at_least_one("max-connections", default.max_connections),
        max_connections_per_client: section
            .at_least_one("max-connections-per-client", default.max_connections_per_client),
        max_pipelined: section.at_least_one("max-pipelined", default.max_pipelined),
    }
}
