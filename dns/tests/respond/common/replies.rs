//! Replies as text, in the form of zone files.

use std::fmt::Write;

use hickory_proto::op::{Message, ResponseCode};

/// A reply as text: `STATUS flags`, records, sections with a heading, EDNS last. Read by hickory-proto.
pub fn text(message: &Message) -> String {
    let meta = &message.metadata;
    let mut text = rcode(meta.response_code).to_owned();
    for (set, flag) in [
        (meta.authoritative, "aa"),
        (meta.truncation, "tc"),
        (meta.recursion_desired, "rd"),
        (meta.recursion_available, "ra"),
        (meta.authentic_data, "ad"),
        (meta.checking_disabled, "cd"),
    ] {
        if set {
            write!(text, " {flag}").unwrap();
        }
    }
    text.push('\n');
    for (heading, records) in [
        ("", &message.answers),
        ("AUTHORITY\n", &message.authorities),
        ("ADDITIONAL\n", &message.additionals),
    ] {
        if !records.is_empty() {
            text.push_str(heading);
        }
        for record in records {
            writeln!(text, "{record}").unwrap();
        }
    }
    text
}

/// The options of a reply's OPT, as code and octets.
pub fn options(octets: &[u8]) -> Vec<(u16, Vec<u8>)> {
    let message = Message::from_vec(octets).unwrap();
    let Some(edns) = &message.edns else { return Vec::new() };
    let options = edns.options().options.iter();
    options
        .map(|(code, option)| {
            let mut value = Vec::new();
            let mut encoder = hickory_proto::serialize::binary::BinEncoder::new(&mut value);
            hickory_proto::serialize::binary::BinEncodable::emit(option, &mut encoder).unwrap();
            (u16::from(*code), value)
        })
        .collect()
}

/// The extended error of a reply: code and text.
pub fn extended_error(octets: &[u8]) -> Option<(u16, String)> {
    let (_, value) = options(octets).into_iter().find(|(code, _)| *code == 15)?;
    Some((u16::from_be_bytes([value[0], value[1]]), String::from_utf8(value[2..].to_vec()).unwrap()))
}

pub fn rcode(code: ResponseCode) -> &'static str {
    match u16::from(code) {
        0 => "NOERROR",
        1 => "FORMERR",
        2 => "SERVFAIL",
        3 => "NXDOMAIN",
        4 => "NOTIMP",
        5 => "REFUSED",
        9 => "NOTAUTH",
        16 => "BADVERS",
        23 => "BADCOOKIE",
        other => panic!("unexpected response code {other}"),
    }
}
