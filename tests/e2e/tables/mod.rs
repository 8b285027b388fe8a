//! Questions and their answers, by tables that `dig` asks over UDP and over TCP.

mod clusters;
mod conformance;
mod headless;
mod server;
