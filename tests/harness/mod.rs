//! A test says: a [`Setup`] of files, started as a [`Server`], asked by real programs, answers as a [`Reply`].

mod binary;
mod coredns;
mod forwarder;
mod http;
mod kube_dns;
pub mod kubernetes;
mod launch;
mod manifests;
pub mod namespaces;
pub mod node;
mod node_cache;
mod program;
mod reply;
mod server;
mod setup;
mod table;
mod wait;
mod wire;
mod zonefile;

pub use binary::{agent_binary, portolan, repository};
pub use coredns::{WORLD, coredns, shipped, world};
pub use forwarder::Forwarder;
pub use http::get;
pub use kube_dns::KubeDns;
pub use launch::{DYING_WITH_US, at_the_end, launch, remove_at_the_end};
pub use manifests::{cluster_set_ip, headless, list};
pub use node_cache::node_cache;
pub use program::{Package, program, run};
pub use reply::Reply;
pub use server::Server;
pub use setup::{ADMIN, DNS, HTTPS, QUIC, Setup, TLS, copy_folder, loopback};
pub use table::{check, check_in};
pub use wait::{becomes, eventually, stays, until, until_within};
pub use wire::{ask_tcp, ask_udp, query, rcode};
pub use zonefile::{absolute, without_serial};
