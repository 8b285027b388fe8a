//! `portolan lookup`: what would be answered. The query goes through the same function that answers on the wire, and
//! the reply is read by hickory-proto's parser, so that what is shown is what a client would read.

use std::fmt::Write;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use hickory_proto::op::{Edns, Message, Query};
use hickory_proto::rr::rdata::opt::EdnsOption;
use hickory_proto::rr::{Name, RData, Record, RecordType};
use portolan_dns::cookie::Secret;
use portolan_dns::geo::{Atlas, Geo};
use portolan_dns::limiter::Limiter;
use portolan_dns::respond::{Context, Reply, Scratch, Verdict, respond};
use portolan_dns::settings::Settings;
use portolan_dns::transfer::Transfers;
use portolan_dns::view::{Transport, View};
use portolan_program::Outcome;
use portolan_zones::Snapshot;
use serde_json::{Value, json};

use crate::cli::{Format, Lookup};
use crate::clusters;

/// EDNS option code of Extended DNS Errors (RFC 8914).
const EXTENDED_ERROR: u16 = 15;

/// The reply to the query that the command line describes.
pub(crate) fn run(asked: &Lookup) -> anyhow::Result<Outcome> {
    let config = asked.source.load_manifests()?;
    let (snapshot, _) = clusters::load_once(&config)?;
    let geo = Geo::default();
    geo.adopt(geo.prepare(&config.geo)?);
    let reply = answer(asked, &config.settings(Secret([0; 16])), &snapshot, &geo.atlas())?;
    Ok(Outcome::good(match asked.format {
        Format::Human => as_dig(&reply, &snapshot)?,
        Format::Json => format!("{:#}\n", as_json(&reply, &snapshot)),
    }))
}

fn answer(
    asked: &Lookup,
    settings: &Settings,
    snapshot: &Arc<Snapshot>,
    atlas: &Atlas,
) -> anyhow::Result<Message> {
    let octets = query(&asked.name, asked.record_type)?;
    let limiter = Limiter::new(&settings.rate_limit, [0; 16]);
    let transfers = Transfers::default();
    let (limiter, transfers) = (&limiter, &transfers);
    let beyond = atlas.as_locate();
    let context =
        Context { settings, limiter, snapshot, transfers, beyond, witness: None, now: 0, entropy: 0 };
    let transport = if asked.tcp { Transport::Tcp } else { Transport::Udp };
    let view = View { client: SocketAddr::new(asked.from, 53), transport };
    let mut reply = Reply::default();
    match respond(&context, &octets, &view, &mut Scratch::default(), &mut reply) {
        Verdict::Send(_) => Message::from_vec(reply.octets()).context("the reply can't be decoded"),
        Verdict::Drop(_) => bail!("the query is dropped without a reply"),
        Verdict::Transfer(..) => bail!("a zone transfer: see `portolan zone`"),
    }
}

/// A query as dig sends it.
fn query(name: &Name, record_type: RecordType) -> anyhow::Result<Vec<u8>> {
    let mut name = name.clone();
    name.set_fqdn(true);
    let mut message = Message::query();
    message.metadata.id = 0;
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(name, record_type));
    let mut edns = Edns::new();
    edns.set_max_payload(1232);
    message.set_edns(edns);
    message.to_vec().context("no query can be made of this name")
}

fn as_dig(reply: &Message, snapshot: &Snapshot) -> Result<String, std::fmt::Error> {
    let mut out = String::new();
    let header = &reply.metadata;
    let rcode = rcode(reply);
    writeln!(out, ";; ->>HEADER<<- opcode: QUERY, status: {rcode}, id: {}", header.id)?;
    let additional = reply.additionals.len() + usize::from(reply.edns.is_some());
    let (answers, authorities) = (reply.answers.len(), reply.authorities.len());
    let counts = format!(
        "QUERY: {}, ANSWER: {answers}, AUTHORITY: {authorities}, ADDITIONAL: {additional}",
        reply.queries.len()
    );
    writeln!(out, ";; flags: {}; {counts}", flags(reply).join(" "))?;
    if let Some(edns) = &reply.edns {
        writeln!(out, "\n;; OPT PSEUDOSECTION:")?;
        writeln!(out, "; EDNS: version: {}, flags:; udp: {}", edns.version(), edns.max_payload())?;
        for error in extended_errors(edns) {
            writeln!(out, "; {error}")?;
        }
    }
    writeln!(out, "\n;; QUESTION SECTION:")?;
    for query in &reply.queries {
        writeln!(out, ";{}\t\t{}\t{}", query.name, query.query_class, query.query_type)?;
    }
    for (title, records) in
        [("ANSWER", &reply.answers), ("AUTHORITY", &reply.authorities), ("ADDITIONAL", &reply.additionals)]
    {
        if !records.is_empty() {
            writeln!(out, "\n;; {title} SECTION:")?;
        }
        for record in records {
            let (name, class, kind) = (&record.name, record.dns_class, record.record_type());
            writeln!(out, "{name}\t{}\t{class}\t{kind}\t{}", record.ttl, rdata(&record.data))?;
        }
    }
    let complete = if snapshot.complete { "" } else { ", not all clusters are read" };
    writeln!(out, "\n;; generation {}, serial {}{complete}", snapshot.generation, snapshot.serial)?;
    Ok(out)
}

fn as_json(reply: &Message, snapshot: &Snapshot) -> Value {
    let records = |records: &[Record]| -> Vec<Value> { records.iter().map(record_json).collect() };
    let question = reply
        .queries
        .first()
        .map(|query| json!({ "name": query.name.to_string(), "type": query.query_type.to_string() }));
    json!({
        "status": rcode(reply),
        "flags": flags(reply),
        "question": question,
        "answer": records(&reply.answers),
        "authority": records(&reply.authorities),
        "additional": records(&reply.additionals),
        "extendedErrors": reply.edns.as_ref().map(extended_errors).unwrap_or_default(),
        "generation": snapshot.generation,
        "serial": snapshot.serial,
        "complete": snapshot.complete,
    })
}

fn record_json(record: &Record) -> Value {
    json!({
        "name": record.name.to_string(),
        "ttl": record.ttl,
        "type": record.record_type().to_string(),
        "data": rdata(&record.data),
    })
}

/// Presentation form; hickory-proto leaves out the quotes of TXT (RFC 1035 §5.1).
fn rdata(data: &RData) -> String {
    match data {
        RData::TXT(txt) => {
            let quoted = txt.txt_data.iter().map(|text| format!("{:?}", String::from_utf8_lossy(text)));
            quoted.collect::<Vec<_>>().join(" ")
        }
        other => other.to_string(),
    }
}

fn flags(reply: &Message) -> Vec<&'static str> {
    let header = &reply.metadata;
    let flags = [
        ("qr", header.message_type == hickory_proto::op::MessageType::Response),
        ("aa", header.authoritative),
        ("tc", header.truncation),
        ("rd", header.recursion_desired),
        ("ra", header.recursion_available),
        ("ad", header.authentic_data),
        ("cd", header.checking_disabled),
    ];
    flags.into_iter().filter_map(|(name, set)| set.then_some(name)).collect()
}

/// The mnemonic, as dig spells it.
fn rcode(reply: &Message) -> String {
    use hickory_proto::op::ResponseCode;
    match reply.metadata.response_code {
        ResponseCode::NoError => "NOERROR".into(),
        ResponseCode::FormErr => "FORMERR".into(),
        ResponseCode::ServFail => "SERVFAIL".into(),
        ResponseCode::NXDomain => "NXDOMAIN".into(),
        ResponseCode::NotImp => "NOTIMP".into(),
        ResponseCode::Refused => "REFUSED".into(),
        ResponseCode::BADVERS => "BADVERS".into(),
        other => format!("RCODE{}", u16::from(other)),
    }
}

/// `EDE: <code>: <text>` (RFC 8914 §2).
fn extended_errors(edns: &Edns) -> Vec<String> {
    let options = edns.options().as_ref().iter();
    options
        .filter_map(|(_, option)| match option {
            EdnsOption::Unknown(EXTENDED_ERROR, octets) => {
                let (code, text) = octets.split_first_chunk::<2>()?;
                let text = String::from_utf8_lossy(text);
                let code = u16::from_be_bytes(*code);
                Some(if text.is_empty() { format!("EDE: {code}") } else { format!("EDE: {code}: {text}") })
            }
            _ => None,
        })
        .collect()
}
