//! What the programs and the agent share is one layout: the C structs, as the object's BTF describes them, field by field against
//! their twins in Rust.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

use std::mem::offset_of;
use std::net::IpAddr;

use object::{Object, ObjectSection};
use portolan_ebpf::abi::*;
use portolan_ebpf::kernel;

/// A member of a struct: its name, where it begins and how long it is, in octets.
type Field = (String, usize, usize);

/// Types of an object (Documentation/bpf/btf.rst), as far as C structs of integers need them.
struct Btf {
    kinds: Vec<Kind>,
    structs: Vec<Struct>,
}

/// A struct: its name, its size, and its members, of which the last number is that of the type.
type Struct = (String, usize, Vec<Field>);

/// How long a type is: itself, as another one, or so many of another one.
#[derive(Clone, Copy)]
enum Kind {
    Sized(usize),
    As(usize),
    Array(usize, usize),
}

impl Btf {
    fn of(object: &[u8]) -> Self {
        let file = object::File::parse(object).unwrap();
        let section = file.section_by_name(".BTF").expect("clang -g writes BTF").data().unwrap();
        let word = |at: usize| u32::from_ne_bytes(section[at..at + 4].try_into().unwrap()) as usize;
        assert_eq!(u16::from_ne_bytes([section[0], section[1]]), 0xeb9f, "BTF's magic number");
        let (header, types, length, strings) = (word(4), word(8), word(12), word(16));
        let name = |offset: usize| {
            let text = &section[header + strings + offset..];
            let end = text.iter().position(|octet| *octet == 0).unwrap();
            String::from_utf8(text[..end].to_vec()).unwrap()
        };
        let (mut at, end) = (header + types, header + types + length);
        // Number 0 is void.
        let mut btf = Self { kinds: vec![Kind::Sized(0)], structs: Vec::new() };
        while at < end {
            let (of, info, size) = (word(at), word(at + 4), word(at + 8));
            let (count, body) = (info & 0xffff, at + 12);
            let (kind, more) = match info >> 24 & 0x1f {
                // INT, VAR, DECL_TAG
                1 | 14 | 17 => (Kind::Sized(size), 4),
                // PTR
                2 => (Kind::Sized(8), 0),
                3 => (Kind::Array(word(body), word(body + 8)), 12),
                // STRUCT, UNION
                4 | 5 => {
                    let member = |i: usize| {
                        let at = body + 12 * i;
                        (name(word(at)), (word(at + 8) & 0xff_ffff) / 8, word(at + 4))
                    };
                    btf.structs.push((name(of), size, (0..count).map(member).collect()));
                    (Kind::Sized(size), 12 * count)
                }
                // TYPEDEF, VOLATILE, CONST, RESTRICT, TYPE_TAG
                8..=11 | 18 => (Kind::As(size), 0),
                // ENUM, FUNC_PROTO
                6 | 13 => (Kind::Sized(size), 8 * count),
                // DATASEC, ENUM64
                15 | 19 => (Kind::Sized(size), 12 * count),
                // FWD, FUNC, FLOAT
                7 | 12 | 16 => (Kind::Sized(size), 0),
                other => panic!("BTF has a kind {other} that this test does not know"),
            };
            btf.kinds.push(kind);
            at = body + more;
        }
        btf
    }

    fn size(&self, number: usize) -> usize {
        match self.kinds[number] {
            Kind::Sized(size) => size,
            Kind::As(other) => self.size(other),
            Kind::Array(of, count) => self.size(of) * count,
        }
    }

    /// Size and fields of a struct.
    fn layout(&self, name: &str) -> (usize, Vec<Field>) {
        let found: Vec<_> = self.structs.iter().filter(|(its, ..)| its == name).collect();
        let [(_, size, fields)] = found[..] else { panic!("struct {name} is {} times in BTF", found.len()) };
        (*size, fields.iter().map(|(name, at, of)| (name.clone(), *at, self.size(*of))).collect())
    }
}

/// Size and fields of a struct in Rust; all fields must be named, in the order of their offsets.
macro_rules! twin {
    ($rust:ty { $($field:ident),+ }) => {{
        let value = <$rust>::default();
        let field = |name: &str, at: usize, size: usize| (name.to_owned(), at, size);
        let fields =
            vec![$(field(stringify!($field), offset_of!($rust, $field), size_of_val(&value.$field))),+];
        (size_of::<$rust>(), fields)
    }};
}

/// `bpf/abi.h` and `abi.rs` say the same: a field that is moved, resized, added or taken away on one side alone fails here.
#[test]
fn structs_have_one_layout() {
    let btf = Btf::of(kernel::object());
    for (name, rust) in [
        ("vip_key", twin!(VipKey { address })),
        ("port_key", twin!(PortKey { service, port, protocol, pad })),
        ("member_key", twin!(MemberKey { address, front, port, pad })),
        ("origin", twin!(Origin { vip, backend, vip_port, backend_port, pad })),
        ("front", twin!(Front { heads, identity, affinity, pad, unreachable })),
        ("backend", twin!(Backend { address, port, cluster, front, pad })),
    ] {
        assert_eq!(btf.layout(name), rust, "struct {name}: C, then Rust");
    }
    assert_eq!(btf.layout("address").0, size_of::<Address>());
    assert_eq!(align_of::<Address>(), 8, "as of an array of __u64");
}

/// No octet of a struct that the kernel takes as it is in memory belongs to no field: it would be told uninitialized memory, and
/// keys would differ by it.
#[test]
fn no_padding_is_hidden() {
    let btf = Btf::of(kernel::object());
    for name in
        ["vip_key", "port_key", "member_key", "flow_key", "flow", "affinity_key", "affinity", "origin"]
    {
        let (size, fields) = btf.layout(name);
        let end = fields.iter().fold(0, |end, (field, at, length)| {
            assert_eq!(*at, end, "struct {name}: in front of {field}");
            at + length
        });
        assert_eq!(end, size, "struct {name}: at its end");
    }
}

/// Octets of a struct, filled in by the offsets of BTF.
struct Octets<'b>(&'b Btf, &'static str, Vec<u8>);

impl<'b> Octets<'b> {
    fn of(btf: &'b Btf, name: &'static str) -> Self {
        Self(btf, name, vec![0; btf.layout(name).0])
    }

    fn set(mut self, field: &str, octets: &[u8]) -> Self {
        let (_, fields) = self.0.layout(self.1);
        let (_, at, length) = fields.iter().find(|(name, ..)| name == field).expect(field);
        assert_eq!(*length, octets.len(), "{field}");
        self.2[*at..at + length].copy_from_slice(octets);
        self
    }
}

/// Elements of arrays are written as words: these are the fields where the programs read them.
#[test]
fn words_are_structs_in_memory() {
    let btf = Btf::of(kernel::object());
    let octets = |words: &[u64]| words.iter().flat_map(|word| word.to_ne_bytes()).collect::<Vec<u8>>();
    let address = Address::from("192.0.2.7".parse::<IpAddr>().unwrap());
    let backend = Backend { address, port: 8080.into(), cluster: 258, front: 0x0102_0304, pad: 5 };
    let expected = Octets::of(&btf, "backend")
        .set("address", &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 7])
        .set("port", &[0x1f, 0x90])
        .set("cluster", &258_u16.to_ne_bytes())
        .set("front", &0x0102_0304_u32.to_ne_bytes())
        .set("pad", &5_u64.to_ne_bytes());
    assert_eq!(octets(&backend.words()), expected.2);
    assert_eq!(Backend::from_words(backend.words()), backend);

    let front = Front { heads: [1, 2], identity: 3, affinity: 4, pad: 0, unreachable: 5 };
    let heads = octets(&[1, 2]);
    let expected = Octets::of(&btf, "front")
        .set("heads", &heads)
        .set("identity", &3_u64.to_ne_bytes())
        .set("affinity", &4_u32.to_ne_bytes())
        .set("unreachable", &5_u64.to_ne_bytes());
    assert_eq!(octets(&front.words()), expected.2);
    assert_eq!(offset_of!(Front, affinity), Front::AFFINITY * 8);
    assert_eq!(offset_of!(Front, unreachable), Front::UNREACHABLE * 8);
}

fn event(btf: &Btf) -> Octets<'_> {
    let v4 = |last| [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, last];
    Octets::of(btf, "event")
        .set("time", &77_u64.to_ne_bytes())
        .set("vip", &v4(1))
        .set("backend", &v4(2))
        .set("pid", &4711_u32.to_ne_bytes())
        .set("vip_port", &80_u16.to_be_bytes())
        .set("backend_port", &8080_u16.to_be_bytes())
        .set("protocol", &[17])
        .set("verdict", &[1])
        .set("connected", &[1])
        .set("command", b"curl\0\0\0\0\0\0\0\0\0\0\0\0")
        .set("front", &9_u32.to_ne_bytes())
}

#[test]
fn events_are_read_where_the_programs_write() {
    let btf = Btf::of(kernel::object());
    assert_eq!(btf.layout("event").0, EVENT);
    let told = event(&btf).2;
    let (vip, backend) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
    let expected = Event {
        time: 77,
        vip: (vip, 80),
        backend: Some((backend, 8080)),
        pid: 4711,
        command: "curl".to_owned(),
        protocol: 17,
        verdict: Verdict::Kept,
        connected: true,
    };
    assert_eq!(Event::parse(&told), Some(expected.clone()));
    // The ring gives records of its own length.
    assert_eq!(Event::parse(&[told.clone(), vec![0; 8]].concat()), Some(expected));
    assert_eq!(Event::parse(&told[..EVENT - 1]), None, "cut off");

    let refused = event(&btf).set("backend_port", &[0; 2]).set("connected", &[0]);
    let read = Event::parse(&refused.2).unwrap();
    assert_eq!((read.backend, read.connected), (None, false));
    let nameless = event(&btf).set("command", &[0xff; 16]);
    assert_eq!(Event::parse(&nameless.2).unwrap().command, "\u{fffd}".repeat(16));
}

/// A `#define` of `bpf/abi.h`: BTF knows no macros.
fn defined(name: &str) -> u64 {
    let header = include_str!("../src/bpf/abi.h");
    let value =
        header.lines().find_map(|line| line.strip_prefix("#define ")?.strip_prefix(name)?.strip_prefix(' '));
    value.and_then(|value| value.split_whitespace().next()?.parse().ok()).expect(name)
}

#[test]
fn numbers_are_the_same() {
    let btf = Btf::of(kernel::object());
    assert_eq!(defined("ABI_VERSION"), u64::from(ABI_VERSION));
    assert_eq!(defined("MOST_CLUSTERS"), MOST_CLUSTERS as u64);
    assert_eq!(defined("SETTING_SAMPLE"), SETTING_SAMPLE as u64);
    assert_eq!(defined("SETTINGS"), SETTINGS as u64);
    assert_eq!(defined("COUNT_UNNOTED"), COUNT_UNNOTED as u64);
    assert_eq!(defined("COUNTS"), COUNTS as u64);
    for (name, verdict) in [
        ("VERDICT_REDIRECTED", Verdict::Redirected),
        ("VERDICT_KEPT", Verdict::Kept),
        ("VERDICT_UNREACHABLE", Verdict::Unreachable),
        ("VERDICT_NO_PORT", Verdict::NoPort),
        ("VERDICT_FAMILY", Verdict::Family),
        ("VERDICT_ASKS", Verdict::Asks),
    ] {
        let told = event(&btf).set("verdict", &[defined(name) as u8]);
        assert_eq!(Event::parse(&told.2).map(|event| event.verdict), Some(verdict), "{name}");
    }
    let beyond = event(&btf).set("verdict", &[6]);
    assert_eq!(Event::parse(&beyond.2), None, "a verdict of a later release");
}
