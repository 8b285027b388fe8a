//! What is or would be answered, and why; and what is wrong.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{ArgGroup, Args};
use hickory_proto::rr::{Name, RecordType};

use super::Format;
use super::running::admin_address;
use super::source::Source;

/// `portolan check`
#[derive(Debug, Args)]
pub(crate) struct Check {
    #[command(flatten)]
    pub source: Source,
    /// Print the whole default configuration with comments, and check nothing
    #[arg(long)]
    pub print_defaults: bool,
    /// How to print
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

/// `portolan lookup`
#[derive(Debug, Args)]
pub(crate) struct Lookup {
    /// Domain name; absolute, with or without the final dot
    pub name: Name,
    /// Record type, for example A, AAAA, SRV, PTR, TXT, SOA, NS, ANY
    #[arg(value_name = "TYPE", default_value = "A", value_parser = record_type)]
    pub record_type: RecordType,
    /// Address of the client that asks
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    pub from: IpAddr,
    /// Ask as over TCP: nothing is truncated
    #[arg(long)]
    pub tcp: bool,
    #[command(flatten)]
    pub source: Source,
    /// How to print
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

/// `portolan explain`
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("clients").required(true).args(["from", "everywhere"])))]
pub(crate) struct Explain {
    /// A service's domain name
    pub name: Name,
    /// A, AAAA or SRV: only what has such an address counts [default: any]
    #[arg(value_name = "TYPE", value_parser = explained_type)]
    pub record_type: Option<RecordType>,
    /// Address of the client that asks
    #[arg(long, value_name = "ADDRESS", value_parser = client)]
    pub from: Option<IpAddr>,
    /// Show the shares of all clients: a row for each place, a column for each cluster
    #[arg(long)]
    pub everywhere: bool,
    /// Suppose that a cluster is down, drained or up, or has another weight; may be repeated
    #[arg(long = "if", value_name = "CLUSTER=down|drain|up|WEIGHT")]
    pub supposed: Vec<String>,
    /// Suppose that this TrafficPolicy holds (YAML)
    #[arg(long, value_name = "FILE")]
    pub policy: Option<PathBuf>,
    /// Admin address of the server: ADDRESS:PORT or http://HOST:PORT
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9153", value_parser = admin_address)]
    pub admin: String,
    #[command(flatten)]
    pub source: Source,
    /// How to print
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

/// `portolan zone`
#[derive(Debug, Args)]
pub(crate) struct Zone {
    /// Origin of the zone [default: the first one]
    pub origin: Option<String>,
    #[command(flatten)]
    pub source: Source,
}

/// Types whose shares differ: of all others, what is said of all holds.
pub(crate) fn explained_type(text: &str) -> Result<RecordType, String> {
    match text.to_ascii_uppercase().as_str() {
        "A" => Ok(RecordType::A),
        "AAAA" => Ok(RecordType::AAAA),
        "SRV" => Ok(RecordType::SRV),
        _ => Err("expected A, AAAA or SRV".to_owned()),
    }
}

fn client(text: &str) -> Result<IpAddr, String> {
    text.parse().map_err(|_| "expected an IP address, such as 10.1.2.3; or --everywhere".to_owned())
}

/// Mnemonics in either case, and `TYPE<number>` (RFC 3597 §5).
fn record_type(text: &str) -> Result<RecordType, String> {
    let upper = text.to_ascii_uppercase();
    let by_number =
        upper.strip_prefix("TYPE").and_then(|number| number.parse::<u16>().ok()).map(RecordType::from);
    by_number
        .or_else(|| upper.parse().ok())
        .ok_or_else(|| "no such record type; TYPE<number> is always one".to_owned())
}

pub(super) const CHECK_EXAMPLES: &str = "\
Examples:
  portolan check --config portolan.yaml
  portolan check --manifests clusters/ --format json
  portolan check --print-defaults > portolan.yaml";

pub(super) const LOOKUP_EXAMPLES: &str = "\
Examples:
  portolan lookup cart.shop.svc.clusterset.local
  portolan lookup _http._tcp.cart.shop.svc.clusterset.local SRV --manifests clusters/
  portolan lookup cart.shop.svc.clusterset.local AAAA --from 10.1.2.3 --format json";

pub(super) const EXPLAIN_EXAMPLES: &str = "\
Examples:
  portolan explain cart.shop.svc.clusterset.local --from 10.1.2.3
  portolan explain cart.shop.svc.clusterset.local AAAA --from 10.1.2.3 --format json
  portolan explain cart.shop.svc.clusterset.local --from 10.1.2.3 --if fra1=down
  portolan explain cart.shop.svc.clusterset.local --from 10.1.2.3 --if fra1=drain --if ber1=3
  portolan explain cart.shop.svc.clusterset.local --everywhere --if fra1=down
  portolan explain cart.shop.svc.clusterset.local --from 10.1.2.3 --policy near.yaml --manifests clusters/";

pub(super) const ZONE_EXAMPLES: &str = "\
Examples:
  portolan zone
  portolan zone 241.in-addr.arpa --manifests clusters/";
