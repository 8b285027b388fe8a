//! What every program of Portolan is wrapped in, whatever it is for: its life from start to signal, what it says and with
//! which exit status, the files that it follows, its admin server, and how that is asked.
//!
//! Knows none of the other crates. Names of programs and keys are arguments: they stand in what operators read. Errors are
//! anyhow's, although this is a library: nobody looks into them, they are said and the program ends.

mod admin;
mod get;
mod life;
mod output;
mod sockets;
mod table;
mod watch;

pub use admin::{metrics, serve_admin};
pub use get::get;
pub use life::{Signals, Told, live, tell_reload};
pub use output::{Outcome, complain, print};
pub use sockets::{bind_admin, has_ipv6, write_ready_file};
pub use table::Table;
pub use watch::Watch;
