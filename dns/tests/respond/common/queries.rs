//! Queries as octets.

use hickory_proto::rr::RecordType;
use proptest::prelude::*;

/// EDNS options: code and octets.
pub type Options = Vec<(u16, Vec<u8>)>;

/// A query in the making.
#[derive(Debug, Clone)]
pub struct Ask {
    pub id: u16,
    pub flags: u16,
    pub name: Vec<u8>,
    pub rtype: u16,
    pub class: u16,
    /// Records of the authority section.
    pub authority: Vec<Vec<u8>>,
    /// Payload size, version and flags, options.
    pub edns: Option<(u16, u8, u16, Options)>,
}

/// `ask("cart.shop.svc.clusterset.local A")`; names keep their case.
pub fn ask(question: &str) -> Ask {
    let (name, rtype) = question.split_once(' ').unwrap();
    let rtype = match rtype {
        "OPT" => 41,
        "TSIG" => 250,
        "IXFR" => 251,
        _ => match rtype.strip_prefix("TYPE") {
            Some(number) => number.parse().unwrap(),
            None => u16::from(rtype.parse::<RecordType>().unwrap()),
        },
    };
    Ask { id: 0x1234, flags: 0, name: wire(name), rtype, class: 1, authority: Vec::new(), edns: None }
}

/// A name as octets, its case kept.
pub fn wire(name: &str) -> Vec<u8> {
    let mut wire = Vec::new();
    for label in name.split('.').filter(|label| !label.is_empty()) {
        wire.push(label.len() as u8);
        wire.extend(label.bytes());
    }
    wire.push(0);
    wire
}

impl Ask {
    pub fn flags(mut self, flags: u16) -> Self {
        self.flags = flags;
        self
    }

    pub fn class(mut self, class: u16) -> Self {
        self.class = class;
        self
    }

    pub fn edns(mut self, payload: u16) -> Self {
        self.edns = Some((payload, 0, 0, Vec::new()));
        self
    }

    /// Adds an option, with EDNS if there is none yet.
    pub fn option(mut self, code: u16, value: &[u8]) -> Self {
        self.edns.get_or_insert((1232, 0, 0, Vec::new())).3.push((code, value.to_vec()));
        self
    }

    pub fn octets(&self) -> Vec<u8> {
        let mut octets = Vec::new();
        let additionals = u16::from(self.edns.is_some());
        for field in [self.id, self.flags, 1, 0, self.authority.len() as u16, additionals] {
            octets.extend(field.to_be_bytes());
        }
        octets.extend(&self.name);
        octets.extend(self.rtype.to_be_bytes());
        octets.extend(self.class.to_be_bytes());
        octets.extend(self.authority.concat());
        if let Some((payload, version, flags, options)) = &self.edns {
            octets.extend(opt(*payload, *version, *flags, options));
        }
        octets
    }
}

/// Questions of all kinds, with and without EDNS.
pub fn question() -> impl Strategy<Value = Ask> {
    let names = prop::sample::select(vec![
        "clusterset.local",
        "cart.shop.svc.clusterset.local",
        "_http._tcp.cart.shop.svc.clusterset.local",
        "db.shop.svc.clusterset.local",
        "big.shop.svc.clusterset.local",
        "_http._tcp.big.shop.svc.clusterset.local",
        "db-0.fra1.db.shop.svc.clusterset.local",
        "down.shop.svc.clusterset.local",
        "x.clusterset.local",
        "1.0.0.241.in-addr.arpa",
        "id.server",
        "example.com",
        "",
    ]);
    let rtypes = prop::sample::select(vec![1_u16, 28, 33, 16, 6, 2, 12, 255, 251, 252, 41, 250, 253, 0, 65]);
    let value = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..30),
        Just(vec![1; 8]),
        Just(vec![1; 24]),
        Just(vec![0, 1, 24, 0, 9, 9, 9]),
        Just(vec![]),
    ];
    let option = (prop::sample::select(vec![3_u16, 8, 10, 11, 12, 15, 65001]), value);
    let edns = (any::<u16>(), 0..2_u8, any::<u16>(), prop::collection::vec(option, 0..4));
    let class = prop::sample::select(vec![1_u16, 1, 1, 3, 255]);
    let flags = prop_oneof![Just(0_u16), 0..0x8000_u16];
    (names, rtypes, class, flags, prop::option::of(edns)).prop_map(|(name, rtype, class, flags, edns)| Ask {
        id: 0xbeef,
        flags,
        name: wire(name),
        rtype,
        class,
        authority: Vec::new(),
        edns,
    })
}

/// The same message without its question (QDCOUNT 0).
pub fn without_question(ask: &Ask) -> Vec<u8> {
    let mut octets = ask.octets();
    octets[5] = 0;
    octets.drain(12..12 + ask.name.len() + 4);
    octets
}

/// An OPT record.
pub fn opt(payload: u16, version: u8, flags: u16, options: &[(u16, Vec<u8>)]) -> Vec<u8> {
    let mut value = Vec::new();
    for (code, option) in options {
        value.extend(code.to_be_bytes());
        value.extend((option.len() as u16).to_be_bytes());
        value.extend(option);
    }
    let mut record = vec![0, 0, 41];
    record.extend(payload.to_be_bytes());
    record.extend([0, version]);
    record.extend(flags.to_be_bytes());
    record.extend((value.len() as u16).to_be_bytes());
    record.extend(value);
    record
}
