//! What comes out of the benchmark of the DNS server, without anything running: what dnsperf prints, the figures that come of it,
//! and how they are shown. Tested by `cargo test -p portolan-tests --test bench-dns`.

pub mod chart;
pub mod columns;
pub mod dnsperf;
pub mod limits;
pub mod memory;
pub mod statistics;
pub mod table;
