//! Writes databases in the MaxMind DB format, version 2.0, as its public specification has it.

use std::net::IpAddr;

/// A value of a record.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    Text(&'static str),
    Number(u32),
    Double(f64),
    Map(Vec<(&'static str, Value)>),
    List(Vec<Value>),
}

/// A record like those of GeoLite2-City.
pub(crate) fn city(
    continent: &'static str,
    country: &'static str,
    subdivision: &'static str,
    at: [f64; 2],
) -> Value {
    let names = ("names", Value::Map(vec![("en", Value::Text("A name that nobody asks for"))]));
    let [latitude, longitude] = at.map(Value::Double);
    Value::Map(vec![
        ("continent", Value::Map(vec![("code", Value::Text(continent)), names.clone()])),
        (
            "country",
            Value::Map(vec![("geoname_id", Value::Number(1)), ("iso_code", Value::Text(country)), names]),
        ),
        ("location", Value::Map(vec![("latitude", latitude), ("longitude", longitude)])),
        ("subdivisions", Value::List(vec![Value::Map(vec![("iso_code", Value::Text(subdivision))])])),
    ])
}

/// A record like those of GeoLite2-ASN.
pub(crate) fn asn(number: u32) -> Value {
    let organization = ("autonomous_system_organization", Value::Text("Example"));
    Value::Map(vec![("autonomous_system_number", Value::Number(number)), organization])
}

/// A database on its way to a file.
#[derive(Debug)]
pub(crate) struct Mmdb {
    kind: &'static str,
    ip_version: u32,
    record_size: u32,
    nodes: Vec<[Child; 2]>,
    data: Vec<u8>,
}

/// What is in a record of the tree.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Child {
    Nothing,
    Node(u32),
    /// Offset in the data section.
    Data(u32),
}

impl Mmdb {
    /// With a tree of IPv6 addresses, the IPv4 ones below ::/96.
    pub(crate) fn new(kind: &'static str) -> Self {
        Self { kind, ip_version: 6, record_size: 24, nodes: vec![[Child::Nothing; 2]], data: Vec::new() }
    }

    /// With IPv4 addresses only.
    pub(crate) fn of_ipv4(kind: &'static str) -> Self {
        Self { ip_version: 4, ..Self::new(kind) }
    }

    /// Bits of a record of the tree: 24, 28 or 32.
    pub(crate) fn record_size(self, record_size: u32) -> Self {
        Self { record_size, ..self }
    }

    /// With this tree instead.
    pub(crate) fn tree(self, nodes: Vec<[Child; 2]>) -> Self {
        Self { nodes, ..self }
    }

    /// Adds a network; one that lies within another one comes later.
    pub(crate) fn network(mut self, network: &str, value: &Value) -> Self {
        let offset = self.data.len() as u32;
        write(&mut self.data, value);
        let (bits, length) = self.prefix(network);
        self.insert(bits, length, Child::Data(offset));
        self
    }

    /// Repeats IPv4 where MaxMind's databases do.
    pub(crate) fn with_aliases(mut self) -> Self {
        let ipv4 = self.at(0, 96);
        for alias in ["::ffff:0:0/96", "2001::/32", "2002::/16"] {
            let (bits, length) = self.prefix(alias);
            self.insert(bits, length, ipv4);
        }
        self
    }

    /// The file.
    pub(crate) fn octets(&self) -> Vec<u8> {
        let count = self.nodes.len() as u32;
        let pointer = |child: &Child| match *child {
            Child::Nothing => count,
            Child::Node(node) => node,
            Child::Data(offset) => count + 16 + offset,
        };
        let mut out = Vec::new();
        for node in &self.nodes {
            let [left, right] = [&node[0], &node[1]].map(|child| pointer(child).to_be_bytes());
            match self.record_size {
                24 => out.extend([&left[1..], &right[1..]].concat()),
                // The four highest bits of both share the octet in the middle.
                28 => out.extend([&left[1..], &[left[0] << 4 | right[0]], &right[1..]].concat()),
                _ => out.extend([left, right].concat()),
            }
        }
        out.extend([0; 16]);
        out.extend(&self.data);
        out.extend(b"\xab\xcd\xefMaxMind.com");
        self.metadata(&mut out, count);
        out
    }

    fn metadata(&self, out: &mut Vec<u8>, count: u32) {
        control(out, 7, 9);
        for (key, number) in [("binary_format_major_version", 2), ("binary_format_minor_version", 0)] {
            write_text(out, key);
            integer(out, 5, number);
        }
        write_text(out, "build_epoch");
        integer(out, 9, 1_790_000_000);
        write_text(out, "database_type");
        write_text(out, self.kind);
        write_text(out, "description");
        control(out, 7, 0);
        write_text(out, "ip_version");
        integer(out, 5, self.ip_version);
        write_text(out, "languages");
        control(out, 11, 0);
        write_text(out, "node_count");
        integer(out, 6, count);
        write_text(out, "record_size");
        integer(out, 5, self.record_size);
    }

    /// From the first bit on, and how many bits count.
    fn prefix(&self, network: &str) -> (u128, u32) {
        let (address, length) = network.split_once('/').unwrap();
        let length: u32 = length.parse().unwrap();
        match (address.parse().unwrap(), self.ip_version) {
            (IpAddr::V4(v4), 4) => (u128::from(v4.to_bits()) << 96, length),
            (IpAddr::V4(v4), _) => (v4.to_bits().into(), length + 96),
            (IpAddr::V6(v6), _) => (v6.to_bits(), length),
        }
    }

    /// What is at the end of a prefix.
    fn at(&self, bits: u128, length: u32) -> Child {
        (0..length).fold(Child::Node(0), |child, depth| match child {
            Child::Node(node) => self.nodes[node as usize][bit(bits, depth)],
            other => other,
        })
    }

    fn insert(&mut self, bits: u128, length: u32, child: Child) {
        let mut node = 0;
        for depth in 0..length - 1 {
            let before = self.nodes[node][bit(bits, depth)];
            node = if let Child::Node(next) = before {
                next as usize
            } else {
                // A network is split: what it said holds for both halves.
                self.nodes.push([before; 2]);
                let next = self.nodes.len() - 1;
                self.nodes[node][bit(bits, depth)] = Child::Node(next as u32);
                next
            };
        }
        self.nodes[node][bit(bits, length - 1)] = child;
    }
}

fn bit(bits: u128, depth: u32) -> usize {
    (bits >> (127 - depth) & 1) as usize
}

fn write(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Text(text) => write_text(out, text),
        Value::Number(number) => integer(out, 6, *number),
        Value::Double(number) => {
            control(out, 3, 8);
            out.extend(number.to_be_bytes());
        }
        Value::Map(entries) => {
            control(out, 7, entries.len());
            for (key, value) in entries {
                write_text(out, key);
                write(out, value);
            }
        }
        Value::List(items) => {
            control(out, 11, items.len());
            items.iter().for_each(|item| write(out, item));
        }
    }
}

fn write_text(out: &mut Vec<u8>, text: &str) {
    control(out, 2, text.len());
    out.extend(text.as_bytes());
}

/// Leading octets of 0 are left out.
fn integer(out: &mut Vec<u8>, kind: u8, number: u32) {
    let octets = number.to_be_bytes();
    let octets = &octets[number.leading_zeros() as usize / 8..];
    control(out, kind, octets.len());
    out.extend(octets);
}

/// Type and size; types from 8 on are written behind the size.
fn control(out: &mut Vec<u8>, kind: u8, size: usize) {
    assert!(size < 285, "no test needs longer ones");
    let (small, rest) = if size < 29 { (size as u8, None) } else { (29, Some((size - 29) as u8)) };
    out.push(if kind < 8 { kind << 5 | small } else { small });
    out.extend((kind >= 8).then(|| kind - 7));
    out.extend(rest);
}
